//! What the other system says of a record, and how parts of a JSON text are reached by a dotted path.

use std::collections::BTreeMap;

use sync_domain::outcome::Reason;
use sync_domain::scan::{self, Kind, Limits, Scanner, Value};

/// Bounds of an answer and of an event: larger ones are refused before anything is built.
pub const LIMITS: Limits =
    Limits { bytes: 256 << 10, depth: 32, items: 20_000, string: 64 << 10, names: 1_000 };

/// Bounds of an event: it comes out of our own hands.
const EVENT_LIMITS: Limits =
    Limits { bytes: 1 << 20, depth: 64, items: 500_000, string: 1 << 20, names: 10_000 };

/// An answer, reduced to what the model sets.
#[derive(Clone, PartialEq, Eq)]
pub enum Answer {
    /// The record is known: each attribute that is set, with its value as JSON text.
    Found(Vec<(String, String)>),
    /// The other system does not know the record.
    Absent,
}

impl Answer {
    /// Bytes of names and values.
    pub fn size(&self) -> usize {
        match self {
            Self::Found(values) => values.iter().map(|(path, value)| path.len() + value.len()).sum(),
            Self::Absent => 0,
        }
    }

    /// Takes the values of `set` (from attribute to path in the document) out of a JSON object. What it lacks is `null`.
    pub fn read(document: &str, set: &BTreeMap<String, String>) -> Result<Self, Reason> {
        let wrong = |error: scan::Error| Reason::new("lookup_answer_invalid", error.offset.to_string());
        scan::validate(document.as_bytes(), &LIMITS).map_err(wrong)?;
        let mut values = Vec::with_capacity(set.len());
        for (attribute, path) in set {
            let value = at(document, path, &LIMITS).map_err(wrong)?;
            values.push((attribute.clone(), value.map_or("null", |value| value.raw).to_owned()));
        }
        Ok(Self::Found(values))
    }
}

/// Says how much there is, and nothing of what.
impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Found(values) => write!(f, "Found({} values)", values.len()),
            Self::Absent => f.write_str("Absent"),
        }
    }
}

/// The value of an event's record at a dotted path.
pub fn of_record<'a>(record: &'a str, path: &str) -> scan::Result<Option<Value<'a>>> {
    at(record, path, &EVENT_LIMITS)
}

/// The value at a dotted path of a JSON object; none where a name is missing or something else than an object is in the
/// way. The document itself must be an object.
fn at<'a>(document: &'a str, path: &str, limits: &Limits) -> scan::Result<Option<Value<'a>>> {
    let mut value = Value { raw: document, kind: Kind::Object };
    for name in path.split('.') {
        if value.kind != Kind::Object {
            return Ok(None);
        }
        match member(value.raw, name, limits)? {
            Some(found) => value = found,
            None => return Ok(None),
        }
    }
    Ok(Some(value))
}

fn member<'a>(object: &'a str, name: &str, limits: &Limits) -> scan::Result<Option<Value<'a>>> {
    let mut found = None;
    Scanner::new(object, limits)?.object(|scanner, member| {
        let value = scanner.value()?;
        if member == name {
            found = Some(value);
        }
        Ok::<_, scan::Error>(())
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(document: &str) -> Result<Answer, Reason> {
        let set = [("segment", "segment"), ("score", "rating.score"), ("tags", "tags")];
        Answer::read(document, &set.map(|(a, b)| (a.to_owned(), b.to_owned())).into())
    }

    fn values(document: &str) -> [String; 3] {
        let Answer::Found(values) = read(document).unwrap() else { panic!("found") };
        assert_eq!(
            values.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            ["score", "segment", "tags"]
        );
        values.into_iter().map(|(_, value)| value).collect::<Vec<_>>().try_into().unwrap()
    }

    #[test]
    fn values_are_taken_as_they_are_written() {
        let document =
            r#"{"other":{"score":1},"rating":{"score":1.10},"segment":"A\u0042","tags":[1,{"x":1e400}]}"#;
        assert_eq!(values(document), ["1.10", r#""A\u0042""#, r#"[1,{"x":1e400}]"#]);
    }

    #[test]
    fn what_the_answer_lacks_is_null() {
        assert_eq!(values("{}"), ["null", "null", "null"]);
        assert_eq!(values(r#"{"rating":null,"segment":null}"#), ["null", "null", "null"]);
        assert_eq!(values(r#"{"rating":[{"score":1}]}"#), ["null", "null", "null"]);
    }

    #[test]
    fn an_answer_that_is_no_sound_object_is_refused_and_not_repeated() {
        for document in [
            "",
            "[]",
            "\"secret\"",
            "{\"segment\":",
            r#"{"segment":1,"segment":2}"#,
            "<html>",
            r#"{"segment":"\ud800"}"#,
        ] {
            let reason = read(document).unwrap_err();
            assert_eq!(reason.code, "lookup_answer_invalid", "{document}");
            assert!(reason.place.parse::<usize>().is_ok(), "{document}");
        }
        let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
        assert!(read(&format!("{{\"x\":{deep}}}")).is_err());
        assert!(read(&format!("{{\"x\":\"{}\"}}", "y".repeat(300_000))).is_err());
    }

    #[test]
    fn a_debug_print_shows_no_value() {
        assert_eq!(format!("{:?}", read(r#"{"segment":"secret"}"#).unwrap()), "Found(3 values)");
    }
}
