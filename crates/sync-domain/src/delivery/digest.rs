//! The digest of what a target gets: equal digests mean that there is nothing new to send.
//!
//! A sealed value is other bytes each time, so its keyed fingerprint stands in for it. The order of names and white
//! space do not count; the digits of numbers do.

use super::limits;
use super::mapping::{Mapping, members};
use crate::id::{RecordId, TargetId, push_part};
use crate::protect::LedgerHasher;
use crate::scan::{self, Kind, Scanner, Value};

/// A delivery, as far as it makes a difference to its target.
#[derive(Debug, Clone, Copy)]
pub struct Content<'a> {
    /// The target.
    pub target: &'a TargetId,
    /// The record.
    pub rid: &'a RecordId,
    /// The key, as JSON text.
    pub key: &'a str,
    /// The record as published, as JSON text.
    pub record: &'a str,
    /// The policy that it went through.
    pub policy_version: &'a str,
    /// What the target gets of it.
    pub mapping: &'a Mapping,
}

/// The digest: the ids of mapping and policy, a dot and a keyed hash. `fingerprint` finds the fingerprint of a sealed value
/// (see [`crate::event::ReceivedEvent::fingerprint`]); a sealed value without one counts as new each time.
pub fn digest<'p>(
    hasher: &LedgerHasher,
    content: &Content<'_>,
    fingerprint: impl Fn(&str) -> Option<&'p str>,
) -> scan::Result<String> {
    let mut key = Vec::new();
    canonical(content.key, &fingerprint, &mut key)?;
    let mut record = Vec::new();
    canonical(&content.mapping.record(content.record)?, &fingerprint, &mut record)?;
    let target = content.target.as_str().as_bytes();
    let hash = hasher.digest(&[target, content.rid.as_str().as_bytes(), &key, &record]);
    Ok(format!("{}-{}.{hash}", content.mapping.id(), content.policy_version))
}

/// Whether two digests come from the same mapping and policy; only then does a difference say that the record is another.
pub fn comparable(one: &str, other: &str) -> bool {
    let mapping = |digest: &str| digest.split_once('.').map(|(mapping, _)| mapping.to_owned());
    mapping(one) == mapping(other)
}

fn canonical<'p>(
    document: &str,
    fingerprint: &impl Fn(&str) -> Option<&'p str>,
    out: &mut Vec<u8>,
) -> scan::Result<()> {
    let mut scanner = Scanner::new(document, &limits())?;
    let value = scanner.value()?;
    scanner.end()?;
    write(value, fingerprint, out)
}

/// Writes a value so that no two different values give the same bytes. The depth is bounded by the limits.
fn write<'p>(
    value: Value<'_>,
    fingerprint: &impl Fn(&str) -> Option<&'p str>,
    out: &mut Vec<u8>,
) -> scan::Result<()> {
    match value.kind {
        Kind::Null | Kind::Boolean => out.extend_from_slice(value.raw.as_bytes()),
        Kind::Number => {
            out.push(b'#');
            push_part(out, value.raw.as_bytes());
        }
        Kind::String => {
            let text = value.text().unwrap_or_default();
            match fingerprint(&text) {
                Some(found) => {
                    out.push(b'~');
                    push_part(out, found.as_bytes());
                }
                None => {
                    out.push(b'"');
                    push_part(out, text.as_bytes());
                }
            }
        }
        Kind::Array => {
            out.push(b'[');
            Scanner::new(value.raw, &limits())?
                .array(|scanner, _| write(scanner.value()?, fingerprint, out))?;
            out.push(b']');
        }
        Kind::Object => {
            let mut members = members(value)?;
            members.sort_by(|(one, _), (other, _)| one.cmp(other));
            out.push(b'{');
            for (name, value) in members {
                push_part(out, name.as_bytes());
                write(value, fingerprint, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AttributeChoice;
    use crate::ports::KeyBytes;

    fn of(record: &str, fingerprints: &[(&str, &str)]) -> String {
        with("loyalty", "rid", r#"{"id":1}"#, record, None, fingerprints)
    }

    fn with(
        target: &str,
        rid: &str,
        key: &str,
        record: &str,
        choice: Option<&str>,
        fingerprints: &[(&str, &str)],
    ) -> String {
        let hasher = LedgerHasher::new(&KeyBytes::new([3; 32]));
        let choice = choice.map(|name| vec![AttributeChoice { name: name.into(), rename: None }]);
        let mapping = Mapping::compile(choice.as_deref()).unwrap();
        let (target, rid) = (target.parse().unwrap(), RecordId::from_wire(rid));
        let content =
            Content { target: &target, rid: &rid, key, record, policy_version: "p", mapping: &mapping };
        let find = |text: &str| {
            let (_, payload) = crate::protect::sealed_parts(text)?;
            fingerprints.iter().find(|(nonce, _)| payload.starts_with(nonce)).map(|(_, print)| *print)
        };
        digest(&hasher, &content, find).unwrap()
    }

    const KEY_ID: &str = "0123456789abcdefghijkl";

    #[test]
    fn a_value_sealed_anew_has_the_same_digest() {
        let record = |nonce: &str| format!(r#"{{"n":"dse1.{KEY_ID}.{nonce}AAAA","m":1}}"#);
        let (one, two) = (record("nonce_nonce_no_1"), record("nonce_nonce_no_2"));
        let base = of(&one, &[("nonce_nonce_no_1", "f1")]);
        assert_eq!(base, of(&two, &[("nonce_nonce_no_2", "f1")]));
        assert_ne!(base, of(&two, &[("nonce_nonce_no_2", "f2")]), "another value");
        assert_ne!(of(&one, &[]), of(&two, &[]), "without a fingerprint nothing is said to be equal");
        assert_ne!(base, of(r#"{"n":"f1","m":1}"#, &[]), "a fingerprint is not its text");
    }

    #[test]
    fn every_difference_makes_another_digest() {
        let base = with("loyalty", "rid", r#"{"id":1}"#, r#"{"a":1,"b":"x"}"#, None, &[]);
        let check = |target, rid, key, record| {
            assert_ne!(base, with(target, rid, key, record, None, &[]), "{record}");
        };
        check("warehouse", "rid", r#"{"id":1}"#, r#"{"a":1,"b":"x"}"#);
        check("loyalty", "other", r#"{"id":1}"#, r#"{"a":1,"b":"x"}"#);
        check("loyalty", "rid", r#"{"id":2}"#, r#"{"a":1,"b":"x"}"#);
        for record in [
            r#"{"a":1.0,"b":"x"}"#,
            r#"{"a":"1","b":"x"}"#,
            r#"{"a":1,"b":"x","c":null}"#,
            r#"{"a":1}"#,
            r#"{"a":1,"b":["x"]}"#,
            r#"{"a":1,"b":{}}"#,
            r#"{"a":1,"b":null}"#,
            r#"{"a":1,"b":"null"}"#,
            r#"{"a":1,"b":true}"#,
            r#"{"b":1,"a":"x"}"#,
        ] {
            check("loyalty", "rid", r#"{"id":1}"#, record);
        }
        assert_ne!(of(r#"{"a":[1,[2]]}"#, &[]), of(r#"{"a":[1,2,[]]}"#, &[]));
        assert_ne!(of(r#"{"a":["b","c"]}"#, &[]), of(r#"{"a":["bc"]}"#, &[]));
    }

    #[test]
    fn how_it_is_written_makes_no_difference() {
        let base = of(r#"{"a":1,"b":{"c":"A/"}}"#, &[]);
        assert_eq!(base, of("{ \"b\" : {\"c\":\"\\u0041\\/\"},\n\"a\":1 }", &[]));
    }

    #[test]
    fn what_the_target_does_not_get_makes_no_difference() {
        let cut = |record| with("loyalty", "rid", "{}", record, Some("a"), &[]);
        assert_eq!(cut(r#"{"a":1,"b":2}"#), cut(r#"{"a":1,"b":3}"#));
        assert_ne!(cut(r#"{"a":1,"b":2}"#), cut(r#"{"a":2,"b":2}"#));
        let all = with("loyalty", "rid", "{}", r#"{"a":1}"#, None, &[]);
        assert!(!comparable(&cut(r#"{"a":1}"#), &all) && comparable(&all, &of("{}", &[])));
    }
}
