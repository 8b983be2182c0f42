//! Versions: what tells news from late copies.

use std::fmt;

/// The version of a record: `[0-9a-f]{8}-[0-9a-f]{40}`, epoch and position, compared as text.
///
/// Per (source, model, key) it only grows. A resync raises the epoch; the position is what the source counts by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version([u8; Version::LENGTH]);

/// A text that is not a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not 8 and 40 hexadecimal digits around a hyphen.
    #[error("a version is 8 and 40 lower-case hexadecimal digits with a hyphen between")]
    Form,
    /// Not a whole number of 1 to 40 digits.
    #[error("a position is a whole number of 1 to 40 decimal digits, not negative")]
    Position,
}

impl Version {
    /// Characters of a version.
    pub const LENGTH: usize = 49;

    /// A version whose position is a whole number in decimal digits: an integer, microseconds, a sequence number.
    pub fn from_decimal(epoch: u32, digits: &str) -> Result<Self, Error> {
        let all_digits = digits.bytes().all(|b| b.is_ascii_digit());
        if digits.is_empty() || digits.len() > 40 || !all_digits {
            return Err(Error::Position);
        }
        Ok(Self::assemble(epoch, digits.as_bytes()))
    }

    /// A version whose position is a commit's place in a log and the index of the row in its transaction.
    pub fn from_log(epoch: u32, commit: u64, index: u64) -> Self {
        let mut position = [0; 32];
        write_hex(&mut position, u128::from(commit) << 64 | u128::from(index));
        Self::assemble(epoch, &position)
    }

    /// A version whose position is a place in MySQL's binary log: the number of the file, the offset of the event in it, and
    /// the row in the event, counted from 1; 0 stands in front of all rows.
    pub fn from_binlog(epoch: u32, file: u32, offset: u64, row: u64) -> Self {
        Self::assemble(epoch, format!("{file:08x}{offset:016x}{row:016x}").as_bytes())
    }

    /// The last version before an epoch: above everything of the epochs before it, below everything of its own. None
    /// before epoch 0.
    pub fn before_epoch(epoch: u32) -> Option<Self> {
        let mut text = [b'f'; Self::LENGTH];
        for (to, from) in text.iter_mut().zip(format!("{:08x}-", epoch.checked_sub(1)?).bytes()) {
            *to = from;
        }
        Some(Self(text))
    }

    /// Reads a version as it stands on the wire.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bytes: [u8; Self::LENGTH] = text.as_bytes().try_into().map_err(|_| Error::Form)?;
        let right = bytes.iter().enumerate().all(|(at, b)| match at {
            8 => *b == b'-',
            _ => matches!(b, b'0'..=b'9' | b'a'..=b'f'),
        });
        if right { Ok(Self(bytes)) } else { Err(Error::Form) }
    }

    /// The version as text.
    pub fn as_str(&self) -> &str {
        // Only ASCII is ever put in.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    fn assemble(epoch: u32, position: &[u8]) -> Self {
        let mut text = [b'0'; Self::LENGTH];
        let (head, tail) = text.split_at_mut(8);
        write_hex(head, epoch.into());
        tail.iter_mut().take(1).for_each(|hyphen| *hyphen = b'-');
        for (to, from) in text.iter_mut().rev().zip(position.iter().rev()) {
            *to = *from;
        }
        Self(text)
    }
}

/// Fills a text with the last hexadecimal digits of a number: one is made of every change, and formatting takes longer.
fn write_hex(text: &mut [u8], mut number: u128) {
    for place in text.iter_mut().rev() {
        let digit = (number & 15) as u8;
        *place = if digit < 10 { b'0' + digit } else { b'a' - 10 + digit };
        number >>= 4;
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_positions_order_as_numbers() {
        let version = |digits| Version::from_decimal(0, digits).unwrap();
        assert!(version("9") < version("10"));
        assert!(version("9007199254740992") < version("9007199254740993"));
        assert_eq!(version("42").as_str(), "00000000-0000000000000000000000000000000000000042");
        assert!(Version::from_decimal(1, "0").unwrap() > version("9999999999999999999999999999999999999999"));
    }

    #[test]
    fn log_positions_order_by_commit_then_index() {
        assert!(Version::from_log(0, 1, u64::MAX) < Version::from_log(0, 2, 0));
        assert!(Version::from_log(0, 2, 9) < Version::from_log(0, 2, 10));
        assert_eq!(
            Version::from_log(1, 255, 1).as_str(),
            "00000001-0000000000000000000000ff0000000000000001"
        );
    }

    #[test]
    fn binary_log_positions_order_by_file_then_offset_then_row() {
        let version = |file, offset, row| Version::from_binlog(0, file, offset, row);
        assert!(version(9, u64::MAX, u64::MAX) < version(10, 4, 0));
        assert!(version(10, 9, u64::MAX) < version(10, 10, 0));
        assert!(version(10, 10, 9) < version(10, 10, 10));
        assert_eq!(version(3, 255, 1).as_str(), "00000000-0000000300000000000000ff0000000000000001");
    }

    #[test]
    fn between_two_epochs_there_is_a_version() {
        let between = Version::before_epoch(2).unwrap();
        assert!(between > Version::from_log(1, u64::MAX, u64::MAX));
        assert!(between > Version::from_binlog(1, u32::MAX - 1, u64::MAX, u64::MAX));
        assert!(between > Version::from_decimal(1, &"9".repeat(40)).unwrap());
        assert!(between < Version::from_decimal(2, "0").unwrap());
        assert_eq!(Version::parse(between.as_str()), Ok(between));
        assert_eq!(Version::before_epoch(0), None);
    }

    #[test]
    fn only_versions_parse() {
        let good = Version::from_log(7, 12, 1);
        assert_eq!(Version::parse(good.as_str()), Ok(good));
        for bad in [
            "",
            "42",
            "00000000_0000000000000000000000000000000000000042",
            "00000000-000000000000000000000000000000000000004G",
        ] {
            assert_eq!(Version::parse(bad), Err(Error::Form), "{bad}");
        }
        for bad in ["", "-1", "1.0", "x", "12345678901234567890123456789012345678901"] {
            assert_eq!(Version::from_decimal(0, bad), Err(Error::Position), "{bad}");
        }
    }
}
