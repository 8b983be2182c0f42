//! Durations (`10s`, `500ms`, `2m`), rates (`50/s`) and quotas (`100000/d`) as a configuration writes them.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// A text that is not a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a duration is a whole number with a unit behind it: 500ms, 10s, 2m, 1h")]
pub struct DurationError;

/// A text that is not a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a rate is a whole number above 0 per unit of time: 50/s, 600/m, 1000/h")]
pub struct RateError;

/// A text that is not a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a quota is a whole number above 0 per day: 100000/d; what is per second, minute or hour is a rate")]
pub struct QuotaError;

/// Reads a duration: a whole number and `ms`, `s`, `m` or `h`.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let digits_end = text.bytes().position(|b| !b.is_ascii_digit()).ok_or(DurationError)?;
    let (digits, unit) = text.split_at_checked(digits_end).ok_or(DurationError)?;
    let number: u64 = digits.parse().map_err(|_| DurationError)?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(DurationError),
    };
    number.checked_mul(milliseconds).map(Duration::from_millis).ok_or(DurationError)
}

/// Lets serde read a [`Duration`] from text: `#[serde(deserialize_with = "duration::deserialize")]`.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    struct FromText;

    impl Visitor<'_> for FromText {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{DurationError}")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
            parse_duration(text).map_err(E::custom)
        }
    }

    deserializer.deserialize_str(FromText)
}

/// At most so many requests in so much time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many requests; at least one.
    pub requests: u32,
    /// In how much time.
    pub per: Duration,
}

impl std::str::FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let (requests, unit) = text.split_once('/').ok_or(RateError)?;
        let requests = count(requests).ok_or(RateError)?;
        let per = match unit {
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3_600),
            _ => return Err(RateError),
        };
        Ok(Self { requests, per })
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, &RateError)
    }
}

/// At most so many requests from midnight to midnight, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// How many requests; at least one.
    pub requests: u32,
}

impl std::str::FromStr for Quota {
    type Err = QuotaError;

    fn from_str(text: &str) -> Result<Self, QuotaError> {
        let requests = text.strip_suffix("/d").and_then(count).ok_or(QuotaError)?;
        Ok(Self { requests })
    }
}

impl<'de> Deserialize<'de> for Quota {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, &QuotaError)
    }
}

/// A whole number above 0, in digits alone.
fn count(text: &str) -> Option<u32> {
    let digits_only = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|number| digits_only && *number > 0)
}

/// Reads what is written as text; `form` says how.
fn from_text<'de, D, T, E>(deserializer: D, form: &E) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr<Err = E>,
    E: fmt::Display,
{
    struct FromText<'a, T, E>(&'a E, PhantomData<T>);

    impl<T, E> Visitor<'_> for FromText<'_, T, E>
    where
        T: std::str::FromStr<Err = E>,
        E: fmt::Display,
    {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}", self.0)
        }

        fn visit_str<F: de::Error>(self, text: &str) -> Result<T, F> {
            text.parse().map_err(F::custom)
        }
    }

    deserializer.deserialize_str(FromText(form, PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("1h"), Ok(Duration::from_secs(3_600)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        for bad in [
            "",
            "10",
            "s",
            "1.5s",
            "-1s",
            "10 s",
            "10sec",
            "99999999999999999999s",
            "18446744073709551615h",
            "1é",
        ] {
            assert_eq!(parse_duration(bad), Err(DurationError), "{bad}");
        }
    }

    #[test]
    fn a_rate_is_a_number_per_unit() {
        assert_eq!("50/s".parse(), Ok(Rate { requests: 50, per: Duration::from_secs(1) }));
        assert_eq!("600/m".parse(), Ok(Rate { requests: 600, per: Duration::from_secs(60) }));
        for bad in ["", "50", "0/s", "-1/s", "+1/s", "1.5/s", "50/d", "50/s/s", "50 /s"] {
            assert_eq!(bad.parse::<Rate>(), Err(RateError), "{bad}");
        }
    }

    #[test]
    fn a_quota_is_a_number_per_day() {
        assert_eq!("100000/d".parse(), Ok(Quota { requests: 100_000 }));
        for bad in ["", "50", "0/d", "-1/d", "+1/d", "1.5/d", "50/h", "50/d/d", "50 /d", "99999999999/d"] {
            assert_eq!(bad.parse::<Quota>(), Err(QuotaError), "{bad}");
        }
    }
}
