//! The time that an invocation has left.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The moment by which the invocation must have answered. Work that cannot end before it is not started:
/// what is left unanswered when Lambda ends an invocation comes again as a whole batch.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// The deadline of an invocation, from its context.
    pub fn of(context: &lambda_runtime::Context) -> Self {
        Self::at_epoch_ms(context.deadline, SystemTime::now())
    }

    /// A deadline that lies `left` from now.
    pub fn after(left: Duration) -> Self {
        let now = Instant::now();
        Self(now.checked_add(left).unwrap_or(now))
    }

    fn at_epoch_ms(deadline_ms: u64, now: SystemTime) -> Self {
        let now_since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::after(Duration::from_millis(deadline_ms).saturating_sub(now_since_epoch))
    }

    /// The time left; zero when the deadline has passed.
    pub fn left(&self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// True if at least `time` is left.
    pub fn allows(&self, time: Duration) -> bool {
        self.left() >= time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_what_the_context_says() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let deadline = Deadline::at_epoch_ms(1_000_030_000, now);
        assert!(deadline.allows(Duration::from_secs(29)));
        assert!(!deadline.allows(Duration::from_secs(31)));
    }

    #[test]
    fn a_past_deadline_leaves_no_time() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert_eq!(Deadline::at_epoch_ms(5, now).left(), Duration::ZERO);
    }
}
