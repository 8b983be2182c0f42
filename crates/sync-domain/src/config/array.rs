//! Arrays: several events in one request, as a target's file asks for them.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::duration;

/// How large an array becomes, and how long it waits for that. What is left out has its default: `array: {}` is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Array {
    /// At most so many events; 10 without it, which is also the most: a function is handed no more at once.
    #[serde(default = "ten")]
    pub items: usize,
    /// A body of at most so many bytes; `256KiB` without it. An event that is longer by itself goes alone.
    #[serde(default = "quarter_mebibyte", deserialize_with = "size")]
    pub bytes: usize,
    /// How long the first event waits for others that are still at work; `50ms` without it. Where no other can come,
    /// nothing waits.
    #[serde(default = "fifty_milliseconds", deserialize_with = "duration::deserialize")]
    pub wait: Duration,
}

fn ten() -> usize {
    10
}

fn quarter_mebibyte() -> usize {
    256 << 10
}

fn fifty_milliseconds() -> Duration {
    Duration::from_millis(50)
}

/// A text that is not a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a size is a whole number with a unit behind it: 500B, 256KiB, 1MiB")]
pub struct SizeError;

/// Reads a size: a whole number and `B`, `KiB` or `MiB`.
pub fn parse_size(text: &str) -> Result<usize, SizeError> {
    let digits_end = text.bytes().position(|b| !b.is_ascii_digit()).ok_or(SizeError)?;
    let (digits, unit) = text.split_at_checked(digits_end).ok_or(SizeError)?;
    let number: usize = digits.parse().map_err(|_| SizeError)?;
    let bytes = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return Err(SizeError),
    };
    number.checked_mul(bytes).ok_or(SizeError)
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    struct FromText;

    impl Visitor<'_> for FromText {
        type Value = usize;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{SizeError}")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<usize, E> {
            parse_size(text).map_err(E::custom)
        }
    }

    deserializer.deserialize_str(FromText)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_number_and_a_unit() {
        for (text, bytes) in [("0B", 0), ("500B", 500), ("256KiB", 262_144), ("1MiB", 1_048_576)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "1", "KiB", "1.5KiB", "-1B", "1 B", "1KB", "1kib", "99999999999999999999B", "1é"] {
            assert_eq!(parse_size(bad), Err(SizeError), "{bad}");
        }
        assert_eq!(parse_size("18446744073709551615KiB"), Err(SizeError));
    }
}
