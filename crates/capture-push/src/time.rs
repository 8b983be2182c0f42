//! Times as senders write them.

use jiff::Timestamp;

/// Reads an RFC 3339 time, in the one spelling that all readers know: `T` between date and time, `Z` or an offset behind.
///
/// The answer is microseconds since 1970; what is finer is cut off.
pub(crate) fn rfc3339_us(text: &str) -> Option<i64> {
    let (date_time, zone) = match text.strip_suffix('Z') {
        Some(rest) => (rest, ""),
        None => text.split_at_checked(text.len().checked_sub(6)?)?,
    };
    let (whole, fraction) = match date_time.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (date_time, None),
    };
    let fits = matches(whole, b"dddd-dd-ddTdd:dd:dd")
        && (zone.is_empty() || is_offset(zone))
        && fraction.is_none_or(|digits| {
            (1..=9).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
        });
    if !fits {
        return None;
    }
    text.parse::<Timestamp>().ok().map(|time| time.as_microsecond())
}

/// A sign, hours to 23, minutes to 59.
fn is_offset(zone: &str) -> bool {
    let part = |range| zone.get(range).and_then(|digits: &str| digits.parse::<u8>().ok());
    matches(zone, b"+dd:dd")
        && part(1..3).is_some_and(|hours| hours < 24)
        && part(4..6).is_some_and(|minutes| minutes < 60)
}

/// Whether a text has a pattern's form: `d` stands for a digit, `+` for either sign.
fn matches(text: &str, pattern: &[u8]) -> bool {
    text.len() == pattern.len()
        && text.bytes().zip(pattern).all(|(byte, expected)| match expected {
            b'd' => byte.is_ascii_digit(),
            b'+' => byte == b'+' || byte == b'-',
            other => byte == *other,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_3339_is_read_to_the_microsecond() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T00:00:00.000001Z", 1),
            ("1970-01-01T01:00:00.123456789+01:00", 123_456),
            ("2026-11-24T20:19:23Z", 1_795_551_563_000_000),
            ("2026-11-24T20:19:23-00:00", 1_795_551_563_000_000),
        ] {
            assert_eq!(rfc3339_us(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn other_spellings_are_no_times() {
        for text in [
            "",
            "Z",
            "2026-11-24",
            "20261124T201923Z",
            "2026-11-24 20:19:23Z",
            "2026-11-24t20:19:23z",
            "2026-11-24T20:19:23",
            "2026-11-24T20:19Z",
            "2026-11-24T20:19:23.Z",
            "2026-11-24T20:19:23,5Z",
            "2026-11-24T20:19:23.1234567890Z",
            "2026-11-24T20:19:23+0100",
            "2026-11-24T20:19:23Z[UTC]",
            "2026-13-24T20:19:23Z",
            "2026-02-30T20:19:23Z",
            "2026-11-24T25:19:23Z",
            "+002026-11-24T20:19:23Z",
            "2026-11-24T20:19:23é1:00",
            "2026-11-24T20:19:23+24:00",
            "2026-11-24T20:19:23-01:60",
            "1732480000",
        ] {
            assert_eq!(rfc3339_us(text), None, "{text}");
        }
    }
}
