//! Values that PostgreSQL did not put into its log: a large column (TOAST) that an update left as it was.
//!
//! Debezium writes a placeholder for them. An event of ours carries the whole record, so the value is taken from the row
//! before (with `REPLICA IDENTITY FULL` it is there); a listed one that is nowhere cannot go on.

use std::borrow::Cow;

use sync_domain::policy::CompiledPolicy;
use sync_domain::scan::{self, Kind, Scanner, Value, write_string};

use crate::body::CHANGE;
use crate::refusal::{Fault, fault_in_change};

/// What Debezium writes, unless `unavailable.value.placeholder` says otherwise: as a text, ...
const PLACEHOLDER: &str = "__debezium_unavailable_value";
/// ... as bytes in the ways of `binary.handling.mode`, and as a UUID that is made of it.
const DISGUISES: [&str; 4] = [
    "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==",
    "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ",
    "5f5f646562657a69756d5f756e617661696c61626c655f76616c7565",
    "b68a35a7-17ad-35b3-af2a-ae46edb4545a",
];

type Columns<'a> = Vec<(Cow<'a, str>, Value<'a>)>;

/// The row with each listed value as it is, or as the row before has it; a fault if one is in neither.
pub(super) fn complete<'a>(
    after: &'a str,
    before: Option<&str>,
    policy: &CompiledPolicy,
) -> Result<Cow<'a, str>, Fault> {
    let of = |row| columns(row).map_err(|error| fault_in_change(error, 0));
    let row = of(after)?;
    let lacking = |(name, value): &(Cow<'_, str>, Value<'_>)| policy.lists(name) && is_placeholder(*value);
    if !row.iter().any(lacking) {
        return Ok(Cow::Borrowed(after));
    }
    let known = before.map(of).transpose()?.unwrap_or_default();
    let mut whole = String::with_capacity(after.len() + before.map_or(0, str::len));
    for column in &row {
        let (name, value) = column;
        let mut raw = value.raw;
        if lacking(column) {
            // A value that is kept apart is never null: where it is null, the row before is not whole (an index as identity).
            let told = |value: &Value<'_>| !value.is_null() && !is_placeholder(*value);
            let same = known.iter().find(|(other, value)| other == name && told(value));
            raw = same.map(|(_, value)| value.raw).ok_or_else(unavailable)?;
        }
        whole.push(if whole.is_empty() { '{' } else { ',' });
        write_string(&mut whole, name);
        whole.push(':');
        whole.push_str(raw);
    }
    whole.push('}');
    Ok(Cow::Owned(whole))
}

fn columns(row: &str) -> scan::Result<Columns<'_>> {
    let mut columns = Vec::new();
    Scanner::new(row, &CHANGE)?.object(|scanner, name| {
        columns.push((name, scanner.value()?));
        Ok::<_, scan::Error>(())
    })?;
    Ok(columns)
}

/// Whether the placeholder stands here in one of its forms: alone, in a list, as a list of its bytes, or as the one entry
/// of an hstore (an object, or a text that holds one).
fn is_placeholder(value: Value<'_>) -> bool {
    let is_it = |text: &str| text == PLACEHOLDER || DISGUISES.contains(&text);
    match value.kind {
        Kind::String => value.text().is_some_and(|text| is_it(&text) || is_hstore(&text)),
        Kind::Object => is_hstore(value.raw),
        Kind::Array => elements(value.raw).is_some_and(|elements| match elements.as_slice() {
            [only] => only.text().is_some_and(|text| is_it(&text)),
            bytes => {
                bytes.len() == PLACEHOLDER.len()
                    && bytes.iter().zip(PLACEHOLDER.bytes()).all(|(one, byte)| one.raw == byte.to_string())
            }
        }),
        _ => false,
    }
}

fn is_hstore(text: &str) -> bool {
    text.starts_with('{')
        && columns(text).is_ok_and(|columns| matches!(columns.as_slice(), [(name, _)] if name == PLACEHOLDER))
}

fn elements(array: &str) -> Option<Vec<Value<'_>>> {
    let mut elements = Vec::new();
    let scanned = Scanner::new(array, &CHANGE).and_then(|mut scanner| {
        scanner.array(|scanner, _| {
            elements.push(scanner.value()?);
            Ok::<_, scan::Error>(())
        })
    });
    scanned.ok().map(|()| elements)
}

fn unavailable() -> Fault {
    Fault::new(
        "value_unavailable",
        "the update left a large column as it was, and the row before does not have it: set REPLICA IDENTITY FULL on the \
         table, or let Debezium select it again (post.processors: reselect)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placeholder(json: &str) -> bool {
        let mut scanner = Scanner::new(json, &CHANGE).unwrap();
        is_placeholder(scanner.value().unwrap())
    }

    #[test]
    fn the_placeholder_is_known_in_each_form_and_nothing_else_is() {
        let bytes = PLACEHOLDER.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ");
        for json in [
            format!("{PLACEHOLDER:?}"),
            format!("[{PLACEHOLDER:?}]"),
            format!("{{{PLACEHOLDER:?}:{PLACEHOLDER:?}}}"),
            format!("\"{{\\\"{PLACEHOLDER}\\\":\\\"{PLACEHOLDER}\\\"}}\""),
            format!("{:?}", DISGUISES[0]),
            format!("[{:?}]", DISGUISES[3]),
            format!("[{bytes}]"),
        ] {
            assert!(placeholder(&json), "{json}");
        }
        for json in [
            "null".to_owned(),
            "[]".to_owned(),
            "[95]".to_owned(),
            "\"{\"".to_owned(),
            format!("\"about {PLACEHOLDER}\""),
            format!("[{PLACEHOLDER:?},1]"),
            format!("{{{PLACEHOLDER:?}:1,\"a\":1}}"),
        ] {
            assert!(!placeholder(&json), "{json}");
        }
    }
}
