//! Predicates: conditions on a record, as written in YAML and as run.
//!
//! ```yaml
//! when:
//!   tier: { in: [gold, platinum] }        # several attributes: all of them
//!   any:
//!     - balance: { ">": "100.50" }
//!     - email: { changed: true }
//! ```
//! Numbers are compared exactly, digit by digit; times as instants.

use std::cmp::Ordering;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use crate::config::{Literal, Type};
use crate::scan::{Kind, Value, unescape};

/// A predicate as written.
#[derive(Debug, Clone, PartialEq)]
pub enum Predicate {
    /// Every one holds.
    All(Vec<Predicate>),
    /// At least one holds.
    Any(Vec<Predicate>),
    /// It does not hold.
    Not(Box<Predicate>),
    /// A condition on the attribute with this path.
    Attribute(String, Condition),
}

/// Conditions on one attribute; several = all of them.
#[derive(Debug, Clone, PartialEq, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// Equal to the literal.
    #[serde(default)]
    pub is: Option<Literal>,
    /// Equal to one of the literals.
    #[serde(default, rename = "in")]
    pub one_of: Option<Vec<Literal>>,
    /// Neither missing nor null (`true`), or one of both (`false`).
    #[serde(default)]
    pub exists: Option<bool>,
    /// Other than before. Where nothing is known of before, it counts as changed.
    #[serde(default)]
    pub changed: Option<bool>,
    /// Less than; for `integer`, `decimal` and `time`.
    #[serde(default, rename = "<")]
    pub less: Option<Literal>,
    /// Greater than; for `integer`, `decimal` and `time`.
    #[serde(default, rename = ">")]
    pub greater: Option<Literal>,
}

impl<'de> Deserialize<'de> for Predicate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Conditions;

        impl<'de> Visitor<'de> for Conditions {
            type Value = Predicate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from attributes to conditions, or `all`, `any`, `not`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Predicate, A::Error> {
                let mut parts = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    parts.push(match name.as_str() {
                        "all" => Predicate::All(map.next_value()?),
                        "any" => Predicate::Any(map.next_value()?),
                        "not" => Predicate::Not(Box::new(map.next_value()?)),
                        _ => Predicate::Attribute(name, map.next_value()?),
                    });
                }
                match parts.len() {
                    1 => Ok(parts.remove(0)),
                    _ => Ok(Predicate::All(parts)),
                }
            }
        }

        deserializer.deserialize_map(Conditions)
    }
}

impl Predicate {
    /// Calls `each` with the path of every attribute that the predicate reads.
    pub fn attributes<'p>(&'p self, each: &mut impl FnMut(&'p str)) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.attributes(each)),
            Self::Not(part) => part.attributes(each),
            Self::Attribute(path, _) => each(path),
        }
    }

    /// Whether the predicate asks what was before.
    pub fn asks_before(&self) -> bool {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().any(Self::asks_before),
            Self::Not(part) => part.asks_before(),
            Self::Attribute(_, condition) => condition.changed.is_some(),
        }
    }

    /// Compiles the predicate. `resolve` gives an attribute's place in the record and its type, or says why it may
    /// not be read. Errors come as (path, message).
    pub fn compile(
        &self,
        resolve: &impl Fn(&str) -> Result<(usize, Option<Type>), String>,
    ) -> Result<Compiled, (String, String)> {
        let list =
            |parts: &[Self]| parts.iter().map(|part| part.compile(resolve)).collect::<Result<Vec<_>, _>>();
        match self {
            Self::All(parts) => Ok(Compiled::All(list(parts)?)),
            Self::Any(parts) => Ok(Compiled::Any(list(parts)?)),
            Self::Not(part) => Ok(Compiled::Not(Box::new(part.compile(resolve)?))),
            Self::Attribute(path, condition) => {
                let at = |message: String| (path.clone(), message);
                let (slot, kind) = resolve(path).map_err(at)?;
                condition.compile(slot, kind).map_err(at)
            }
        }
    }
}

impl Condition {
    fn compile(&self, slot: usize, kind: Option<Type>) -> Result<Compiled, String> {
        let mut tests = Vec::new();
        if let Some(literal) = &self.is {
            tests.push(Test::In(vec![Operand::equal(literal, kind)?]));
        }
        if let Some(literals) = &self.one_of {
            tests.push(Test::In(literals.iter().map(|l| Operand::equal(l, kind)).collect::<Result<_, _>>()?));
        }
        if let Some(exists) = self.exists {
            tests.push(Test::Exists(exists));
        }
        if let Some(changed) = self.changed {
            tests.push(Test::Changed(changed));
        }
        if let Some(literal) = &self.less {
            tests.push(Test::Ordered(Ordering::Less, Operand::ordered(literal, kind)?));
        }
        if let Some(literal) = &self.greater {
            tests.push(Test::Ordered(Ordering::Greater, Operand::ordered(literal, kind)?));
        }
        if tests.is_empty() {
            return Err("say `is`, `in`, `exists`, `changed`, `<` or `>`".to_owned());
        }
        Ok(Compiled::All(tests.into_iter().map(|test| Compiled::Test(slot, test)).collect()))
    }
}

/// A predicate as run.
#[derive(Debug, Clone, PartialEq)]
pub enum Compiled {
    /// Every one holds.
    All(Vec<Compiled>),
    /// At least one holds.
    Any(Vec<Compiled>),
    /// It does not hold.
    Not(Box<Compiled>),
    /// A test on the attribute in this place.
    Test(usize, Test),
}

/// One test on one value.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// Equal to one of these.
    In(Vec<Operand>),
    /// There, or not.
    Exists(bool),
    /// Other than before, or not.
    Changed(bool),
    /// Less or greater.
    Ordered(Ordering, Operand),
}

/// A literal in the form in which it is compared.
#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    /// `true` or `false`.
    Boolean(bool),
    /// A number.
    Number(Number),
    /// A text.
    Text(String),
    /// An instant.
    Time(jiff::Timestamp),
}

impl Operand {
    fn equal(literal: &Literal, kind: Option<Type>) -> Result<Self, String> {
        match (literal, kind) {
            (_, Some(Type::Integer | Type::Decimal | Type::Time)) => Self::ordered(literal, kind),
            (Literal::Boolean(value), Some(Type::Boolean) | None) => Ok(Self::Boolean(*value)),
            (Literal::Text(text), Some(Type::String) | None) => Ok(Self::Text(text.clone())),
            (Literal::Integer(value), None) => {
                Number::parse(&value.to_string()).map(Self::Number).ok_or_else(not_a_number)
            }
            (_, Some(Type::Json)) => {
                Err("a value of type json can only be tested with `exists` and `changed`".to_owned())
            }
            (_, Some(kind)) => {
                Err(format!("the literal does not fit the attribute's type {kind:?}").to_lowercase())
            }
        }
    }

    fn ordered(literal: &Literal, kind: Option<Type>) -> Result<Self, String> {
        match (kind, literal) {
            (Some(Type::Integer | Type::Decimal), Literal::Integer(value)) => {
                Number::parse(&value.to_string()).map(Self::Number).ok_or_else(not_a_number)
            }
            (Some(Type::Integer | Type::Decimal), Literal::Text(text)) => {
                Number::parse(text).map(Self::Number).ok_or_else(not_a_number)
            }
            (Some(Type::Time), Literal::Text(text)) => {
                text.parse().map(Self::Time).map_err(|_| "the literal is no RFC 3339 time".to_owned())
            }
            (Some(Type::Integer | Type::Decimal | Type::Time), _) => {
                Err("the literal does not fit the attribute's type".to_owned())
            }
            _ => Err("`<` and `>` need an attribute of type integer, decimal or time".to_owned()),
        }
    }

    fn is(&self, value: Value<'_>) -> bool {
        match self {
            Self::Boolean(expected) => {
                value.kind == Kind::Boolean && value.raw == if *expected { "true" } else { "false" }
            }
            Self::Text(expected) => value.kind == Kind::String && unescape(value.raw) == *expected,
            Self::Number(_) | Self::Time(_) => self.compare(value) == Some(Ordering::Equal),
        }
    }

    /// How the value stands to the operand.
    fn compare(&self, value: Value<'_>) -> Option<Ordering> {
        match self {
            Self::Number(expected) if value.kind == Kind::Number => {
                Some(Number::parse(value.raw)?.cmp(expected))
            }
            Self::Time(expected) => {
                let time: jiff::Timestamp = value.text()?.parse().ok()?;
                Some(time.cmp(expected))
            }
            _ => None,
        }
    }
}

fn not_a_number() -> String {
    "the literal is no number".to_owned()
}

/// What a predicate is asked about.
pub trait Record {
    /// The attribute's value now; `null` when missing.
    fn value(&self, slot: usize) -> Value<'_>;

    /// Whether it is other than before; none when nothing is known of before.
    fn changed(&self, slot: usize) -> Option<bool>;
}

impl Compiled {
    /// Whether the record fulfils the predicate.
    pub fn holds(&self, record: &impl Record) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(record)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(record)),
            Self::Not(part) => !part.holds(record),
            Self::Test(slot, test) => match test {
                Test::In(operands) => operands.iter().any(|operand| operand.is(record.value(*slot))),
                Test::Exists(expected) => record.value(*slot).is_null() != *expected,
                Test::Changed(expected) => record.changed(*slot).unwrap_or(true) == *expected,
                Test::Ordered(order, operand) => operand.compare(record.value(*slot)) == Some(*order),
            },
        }
    }
}

/// A number in exact decimal form: 0.`digits` × 10^`exponent`, no zeros at either end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Number {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Number {
    /// Reads a JSON number of any length. None if it is none, or its exponent is beyond 18 digits.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => {
                (mantissa, exponent.parse::<i64>().ok().filter(|e| e.abs() < 1 << 60)?)
            }
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all_digits = whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit());
        if whole.is_empty() || !all_digits {
            return None;
        }
        let digits = format!("{whole}{fraction}");
        let significant = digits.trim_start_matches('0');
        let leading_zeros = i64::try_from(digits.len() - significant.len()).ok()?;
        let significant = significant.trim_end_matches('0');
        if significant.is_empty() {
            return Some(Self { negative: false, digits: String::new(), exponent: 0 });
        }
        let exponent = exponent + i64::try_from(whole.len()).ok()? - leading_zeros;
        Some(Self { negative, digits: significant.to_owned(), exponent })
    }

    fn sign(&self) -> i8 {
        match (self.digits.is_empty(), self.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        }
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        let magnitude = || self.exponent.cmp(&other.exponent).then_with(|| self.digits.cmp(&other.digits));
        self.sign().cmp(&other.sign()).then_with(|| match self.sign() {
            0 => Ordering::Equal,
            1 => magnitude(),
            _ => magnitude().reverse(),
        })
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Row(Vec<(&'static str, Option<bool>)>);

    impl Record for Row {
        fn value(&self, slot: usize) -> Value<'_> {
            let raw = self.0[slot].0;
            let kind = match raw.as_bytes()[0] {
                b'"' => Kind::String,
                b'n' => Kind::Null,
                b't' | b'f' => Kind::Boolean,
                _ => Kind::Number,
            };
            Value { raw, kind }
        }

        fn changed(&self, slot: usize) -> Option<bool> {
            self.0[slot].1
        }
    }

    /// Compiles over one attribute `a` of the given type.
    fn compile(yaml: &str, kind: Option<Type>) -> Result<Compiled, (String, String)> {
        let predicate: Predicate = serde_saphyr::from_str(yaml).unwrap();
        predicate.compile(&|path| if path == "a" { Ok((0, kind)) } else { Err("not listed".to_owned()) })
    }

    fn holds(yaml: &str, kind: Option<Type>, raw: &'static str) -> bool {
        compile(yaml, kind).unwrap().holds(&Row(vec![(raw, Some(true))]))
    }

    #[test]
    fn numbers_compare_exactly() {
        let order = |a, b| Number::parse(a).unwrap().cmp(&Number::parse(b).unwrap());
        for (a, b, expected) in [
            ("9007199254740992", "9007199254740993", Ordering::Less),
            ("1.10", "1.1", Ordering::Equal),
            ("1e400", "9e399", Ordering::Greater),
            ("-5", "-4", Ordering::Less),
            ("-0", "0.00", Ordering::Equal),
            ("0.001", "0.0009", Ordering::Greater),
            (
                "12345678901234567890123456789012345678.1",
                "12345678901234567890123456789012345678.2",
                Ordering::Less,
            ),
            ("100", "1e2", Ordering::Equal),
            ("-1", "0", Ordering::Less),
        ] {
            assert_eq!(order(a, b), expected, "{a} {b}");
        }
        for bad in ["", "x", "1e", "1e99999999999999999999", "--1", "1.2.3"] {
            assert_eq!(Number::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn each_condition_tells_yes_from_no() {
        for (yaml, kind, yes, no) in [
            ("a: { is: gold }", None, "\"gold\"", "\"silver\""),
            ("a: { is: true }", Some(Type::Boolean), "true", "false"),
            ("a: { in: [1, 2] }", Some(Type::Integer), "2", "3"),
            ("a: { exists: true }", None, "0", "null"),
            ("a: { exists: false }", None, "null", "\"\""),
            ("a: { \"<\": 18 }", Some(Type::Integer), "17", "18"),
            ("a: { \">\": \"100.50\" }", Some(Type::Decimal), "100.51", "100.5"),
            (
                "a: { \"<\": 2026-01-01T00:00:00Z }",
                Some(Type::Time),
                "\"2025-12-31T23:59:59Z\"",
                "\"2026-01-01T01:00:00+01:00\"",
            ),
            ("not: { a: { is: gold } }", None, "\"silver\"", "\"gold\""),
            ("any: [{ a: { is: red } }, { a: { is: blue } }]", None, "\"blue\"", "\"green\""),
            ("all: [{ a: { is: x } }, { a: { exists: true } }]", None, "\"x\"", "\"y\""),
            ("a: { in: [x, y], exists: true }", None, "\"\\u0078\"", "null"),
        ] {
            assert!(holds(yaml, kind, yes), "{yaml} {yes}");
            assert!(!holds(yaml, kind, no), "{yaml} {no}");
        }
    }

    #[test]
    fn what_is_not_known_to_be_unchanged_counts_as_changed() {
        let changed = compile("a: { changed: true }", None).unwrap();
        assert!(changed.holds(&Row(vec![("1", Some(true))])));
        assert!(changed.holds(&Row(vec![("1", None)])));
        assert!(!changed.holds(&Row(vec![("1", Some(false))])));
    }

    #[test]
    fn what_cannot_be_compared_is_refused_with_its_path() {
        for (yaml, kind) in [
            ("b: { is: 1 }", None),
            ("a: { \"<\": 1 }", None),
            ("a: { \"<\": 1 }", Some(Type::String)),
            ("a: { is: gold }", Some(Type::Integer)),
            ("a: { is: 1 }", Some(Type::String)),
            ("a: { is: x }", Some(Type::Json)),
            ("a: { \">\": soon }", Some(Type::Time)),
            ("a: {}", None),
        ] {
            let (path, message) = compile(yaml, kind).unwrap_err();
            assert!(path == "a" || path == "b");
            assert!(!message.is_empty(), "{yaml}");
        }
    }
}
