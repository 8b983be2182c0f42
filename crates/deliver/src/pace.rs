//! Keeps requests to a rate.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sync_domain::config::Rate;

/// Gives each request its place in time, evenly spread.
#[derive(Debug)]
pub struct Pace {
    interval: Duration,
    next: Mutex<Option<Instant>>,
}

impl Pace {
    /// At most `rate`; none = no limit.
    pub fn new(rate: Option<Rate>) -> Self {
        let interval = rate.map_or(Duration::ZERO, |rate| rate.per / rate.requests.max(1));
        Self { interval, next: Mutex::default() }
    }

    /// Takes the next place; the request waits so long for it. None if it is further off than `patience`:
    /// then no place was taken.
    pub fn take(&self, now: Instant, patience: Duration) -> Option<Duration> {
        if self.interval.is_zero() {
            return Some(Duration::ZERO);
        }
        // Nothing that can panic happens under the lock.
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let place = next.map_or(now, |next| next.max(now));
        let wait = place.saturating_duration_since(now);
        if wait > patience {
            return None;
        }
        *next = place.checked_add(self.interval);
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_spread_evenly() {
        let pace = Pace::new("50/s".parse().ok());
        let now = Instant::now();
        let places: Vec<_> = (0..4).filter_map(|_| pace.take(now, Duration::from_secs(9))).collect();
        assert_eq!(places, [0, 20, 40, 60].map(Duration::from_millis));
        let later = now + Duration::from_secs(1);
        assert_eq!(pace.take(later, Duration::ZERO), Some(Duration::ZERO), "unused places do not add up");
        assert_eq!(pace.take(later, Duration::from_millis(20)), Some(Duration::from_millis(20)));
    }

    #[test]
    fn who_cannot_wait_takes_no_place() {
        let pace = Pace::new("1/s".parse().ok());
        let now = Instant::now();
        assert_eq!(pace.take(now, Duration::ZERO), Some(Duration::ZERO));
        for _ in 0..3 {
            assert_eq!(pace.take(now, Duration::from_millis(999)), None);
        }
        assert_eq!(pace.take(now, Duration::from_secs(1)), Some(Duration::from_secs(1)));
    }

    #[test]
    fn without_a_rate_nothing_waits() {
        let pace = Pace::new(None);
        assert!((0..100).all(|_| pace.take(Instant::now(), Duration::ZERO) == Some(Duration::ZERO)));
    }
}
