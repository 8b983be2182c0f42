//! Numbers as DynamoDB writes them: text of up to 38 digits, never a float.

use std::borrow::Cow;
use std::cmp::Ordering;

use sync_domain::scan::{self, Limits};

/// A decimal number taken apart: the digits stand right behind the point, which is then moved by `exponent` places.
/// Digits have no zeros at either end, so that each number has one form; zero has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decimal {
    negative: bool,
    digits: Vec<u8>,
    exponent: i64,
}

impl Decimal {
    /// Takes a number apart. Besides JSON's forms DynamoDB's interface takes a plus sign, zeros in front, and a point without
    /// digits on one side.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let parts = Parts::of(text)?;
        let mut digits: Vec<u8> = parts.whole.bytes().chain(parts.fraction.bytes()).collect();
        let leading = digits.iter().take_while(|digit| **digit == b'0').count();
        digits.drain(..leading);
        let trailing = digits.iter().rev().take_while(|digit| **digit == b'0').count();
        digits.truncate(digits.len().saturating_sub(trailing));
        if digits.is_empty() {
            return Some(Self { negative: false, digits, exponent: 0 });
        }
        let whole = i64::try_from(parts.whole.len()).ok()?.checked_sub(i64::try_from(leading).ok()?)?;
        let exponent = if parts.exponent.is_empty() { 0 } else { parts.exponent.parse().ok()? };
        Some(Self { negative: parts.negative, digits, exponent: whole.checked_add(exponent)? })
    }

    /// The whole part of the number times 10^`places`; none when it does not fit 18 digits.
    pub(crate) fn scaled(&self, places: i64) -> Option<i64> {
        let count =
            usize::try_from(self.exponent.checked_add(places)?.max(0)).ok().filter(|count| *count <= 18)?;
        let digits = self.digits.iter().copied().chain(std::iter::repeat(b'0')).take(count);
        let magnitude = digits.fold(0_i64, |value, digit| value * 10 + i64::from(digit - b'0'));
        Some(if self.negative { -magnitude } else { magnitude })
    }

    fn magnitude(&self) -> (i64, &[u8]) {
        (self.exponent, &self.digits)
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let sign = |number: &Self| match (number.digits.is_empty(), number.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        };
        sign(self).cmp(&sign(other)).then_with(|| {
            // Digits begin behind the point, so those of equal exponents compare as text.
            let by_size = self.magnitude().cmp(&other.magnitude());
            if self.negative { by_size.reverse() } else { by_size }
        })
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A number as JSON: as it stands wherever JSON knows the form, which is always so for what DynamoDB itself has written.
/// None for what is no number.
pub(crate) fn as_json(text: &str) -> Option<Cow<'_, str>> {
    let parts = Parts::of(text)?;
    if text.bytes().next().is_some_and(|first| first == b'-' || first.is_ascii_digit())
        && scan::validate(text.as_bytes(), &Limits::default()).is_ok()
    {
        return Some(Cow::Borrowed(text));
    }
    let mut json = String::with_capacity(text.len() + 1);
    if parts.negative {
        json.push('-');
    }
    match parts.whole.trim_start_matches('0') {
        "" => json.push('0'),
        whole => json.push_str(whole),
    }
    for (mark, digits) in [('.', parts.fraction), ('e', parts.exponent)] {
        if !digits.is_empty() {
            json.push(mark);
            json.push_str(digits);
        }
    }
    Some(Cow::Owned(json))
}

/// What stands in a number's text.
struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    /// With its sign.
    exponent: &'a str,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, Some(exponent)),
            None => (unsigned, None),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let power = exponent.map(|exponent| exponent.strip_prefix(['-', '+']).unwrap_or(exponent));
        let is_number = all_digits(whole)
            && all_digits(fraction)
            && !(whole.is_empty() && fraction.is_empty())
            && power.is_none_or(|power| !power.is_empty() && all_digits(power));
        let exponent = exponent.unwrap_or_default();
        is_number.then_some(Self { negative: text.starts_with('-'), whole, fraction, exponent })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap()
    }

    #[test]
    fn numbers_compare_as_numbers() {
        let sorted = [
            "-1E+125",
            "-10",
            "-9",
            "-1.5",
            "-1E-130",
            "0",
            "1E-130",
            "0.09",
            "0.1",
            "1",
            "1.05",
            "9",
            "10",
            "9007199254740992",
            "9007199254740993",
            "1E+20",
            "9.9999999999999999999999999999999999999E+125",
        ];
        for pair in sorted.windows(2) {
            assert!(decimal(pair[0]) < decimal(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn one_number_has_one_form() {
        for (one, other) in [
            ("1", "1.0"),
            ("10", "1E1"),
            ("0.1", "1e-1"),
            ("-0", "0"),
            ("+7", "007"),
            (".5", "0.50"),
            ("5.", "5"),
        ] {
            assert_eq!(decimal(one), decimal(other), "{one} {other}");
        }
    }

    #[test]
    fn json_numbers_stay_as_they_stand_and_others_are_spelled_as_json() {
        let digits = "12345678901234567890123456789012345678";
        for same in ["0", "-1.50", "1E+3", "1e-130", digits, "0.00000000000000000001"] {
            assert!(matches!(as_json(same), Some(Cow::Borrowed(text)) if text == same), "{same}");
        }
        for (given, json) in
            [("+5", "5"), ("007", "7"), (".5", "0.5"), ("5.", "5"), ("-00.10E+2", "-0.10e+2"), ("000", "0")]
        {
            assert_eq!(as_json(given).as_deref(), Some(json), "{given}");
        }
        for bad in ["", "-", ".", "1e", "1e+", "NaN", "Infinity", "0x1", "1 ", "--1", "1.2.3", "1_000", "٣"]
        {
            assert_eq!(as_json(bad), None, "{bad}");
            assert_eq!(Decimal::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_scaled_number_is_cut_and_never_wraps() {
        for (text, places, expected) in [
            ("1.5", 0, Some(1)),
            ("-1.5", 0, Some(-1)),
            ("0.0015", 3, Some(1)),
            ("1E-9", 6, Some(0)),
            ("999999999999", 6, Some(999_999_999_999_000_000)),
            ("9999999999999", 6, None),
            ("1E+300", 0, None),
            ("1E-300", 0, Some(0)),
        ] {
            assert_eq!(decimal(text).scaled(places), expected, "{text}");
        }
    }

    proptest! {
        /// Integers are the second opinion: of any size that fits 128 bits, however they are written.
        #[test]
        fn the_order_is_that_of_integers(a in any::<i64>(), b in any::<i64>(), shift in 0_u32..19) {
            let written = |value: i64| format!("{value}E-{shift}");
            prop_assert_eq!(decimal(&written(a)).cmp(&decimal(&written(b))), a.cmp(&b));
            let scaled = decimal(&written(a)).cmp(&decimal(&b.to_string()));
            prop_assert_eq!(scaled, i128::from(a).cmp(&(i128::from(b) * 10_i128.pow(shift))));
        }

        /// Every digit stays, wherever point and exponent stand.
        #[test]
        fn every_digit_is_kept(text in r"-?(0|[1-9][0-9]{0,37})(\.[0-9]{1,38})?([eE][+-]?[0-9]{1,3})?") {
            let json = as_json(&text);
            prop_assert_eq!(json.as_deref(), Some(text.as_str()));
        }

        /// What is spelled anew is the same number, and JSON.
        #[test]
        fn another_spelling_is_the_same_number(text in r"[+-]?0{0,3}[0-9]{0,5}\.?[0-9]{0,5}([eE][+-]?[0-9]{1,3})?") {
            if let Some(json) = as_json(&text) {
                prop_assert!(serde_json::from_str::<&serde_json::value::RawValue>(&json).is_ok(), "{}", json);
                prop_assert_eq!(Decimal::parse(&json), Decimal::parse(&text));
            }
        }
    }
}
