//! When a delivery that may work later is tried again.

use std::time::Duration;

/// The longest wait between two tries. With full jitter the mean is half of it: 1,000 receives then take ten days, so
/// that a record is parked, with a ticket, before its queue forgets it after 14 days.
pub const LONGEST: Duration = Duration::from_secs(30 * 60);

/// The longest wait that a target can ask for: SQS hides a message for 12 hours from its receipt at most.
pub const LONGEST_ASKED: Duration = Duration::from_secs(11 * 3_600);

/// How long a message may wait in its target's queue (milliseconds) before it is parked, however few its receives are: the
/// queue forgets it a day later, without a word. Behind ten events of a record that is tried in vain others are not received
/// for as long as those are, and would have no time left for 1,000 receives of their own.
pub const LONGEST_STAY_MS: i64 = 13 * 86_400_000;

/// The same of one that did not go out for a reason of ours (its place in the rate, the ledger, a target that is paused): it
/// has nearly all the time that the queue gives it, and is parked in the last two hours, in which it still comes again.
pub const LONGEST_HELD_MS: i64 = LONGEST_STAY_MS + 22 * 3_600_000;

/// A date with the wrong day of the week still says when.
const DATES: jiff::fmt::rfc2822::DateTimeParser =
    jiff::fmt::rfc2822::DateTimeParser::new().relaxed_weekday(true);

/// Exponential backoff with full jitter: anything between a second and 2^received seconds, [`LONGEST`] at most.
/// `random` is evenly distributed over all its values.
pub fn backoff(received: u32, random: u64) -> Duration {
    let span = 1_000_u64.saturating_mul(1_u64.checked_shl(received.min(20)).unwrap_or(u64::MAX));
    let longest = u64::try_from(LONGEST.as_millis()).unwrap_or(u64::MAX).min(span);
    // The part of the span that the random number is of its range, without a division.
    let part = (u128::from(longest) * u128::from(random)) >> 64;
    Duration::from_millis(u64::try_from(part).unwrap_or(longest)).max(Duration::from_secs(1))
}

/// What `Retry-After` asks for, as seconds or as an HTTP date; `now` is seconds since 1970. None for what is neither.
pub fn retry_after(header: &str, now: i64) -> Option<Duration> {
    let header = header.trim();
    let seconds = if !header.is_empty() && header.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit ask for very long.
        header.parse::<u64>().unwrap_or(u64::MAX)
    } else {
        let at = DATES.parse_timestamp(header).ok()?;
        u64::try_from(at.as_second().saturating_sub(now)).unwrap_or(0)
    };
    Some(Duration::from_secs(seconds).min(LONGEST_ASKED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_to_a_bound_and_no_further() {
        let longest = |received| backoff(received, u64::MAX).as_secs_f64();
        for (received, expect) in
            [(1, 2.0), (2, 4.0), (5, 32.0), (10, 1_024.0), (11, 1_800.0), (1_000, 1_800.0)]
        {
            assert!((longest(received) - expect).abs() < 0.01, "{received}: {}", longest(received));
        }
    }

    #[test]
    fn the_jitter_is_full_and_never_zero() {
        assert_eq!(backoff(10, 0), Duration::from_secs(1));
        assert_eq!(backoff(10, u64::MAX / 2).as_secs(), 511);
        assert_eq!(backoff(10, u64::MAX / 4).as_secs(), 255);
        assert_eq!(backoff(0, u64::MAX), Duration::from_secs(1));
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        assert_eq!(retry_after("120", 0), Some(Duration::from_secs(120)));
        assert_eq!(retry_after(" 0 ", 0), Some(Duration::ZERO));
        // The example of RFC 9110 is 784111777 seconds after 1970.
        assert_eq!(
            retry_after("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777 - 60),
            Some(Duration::from_secs(60))
        );
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777 + 60), Some(Duration::ZERO));
        for neither in ["", "soon", "-1", "1.5", "+5"] {
            assert_eq!(retry_after(neither, 0), None, "{neither}");
        }
    }

    #[test]
    fn a_target_cannot_ask_for_longer_than_a_message_can_be_hidden() {
        assert_eq!(retry_after("99999999999999999999999", 0), Some(LONGEST_ASKED));
        assert_eq!(retry_after("86400", 0), Some(LONGEST_ASKED));
        assert_eq!(retry_after("Sun, 06 Nov 2094 08:49:37 GMT", 0), Some(LONGEST_ASKED));
    }
}
