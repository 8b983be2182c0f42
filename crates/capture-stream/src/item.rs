//! An item as the stream writes it (`{"name":{"S":"Ada"}}`) as a record (`{"name":"Ada"}`). Nothing is parsed into a number
//! or a float on the way; a text is copied as it stands.
//!
//! DynamoDB keeps neither maps nor sets in order. Here they get one (names and texts by their bytes, numbers by their
//! value), so that two images of an item differ only where the item does.

use std::borrow::Cow;
use std::fmt::Write as _;

use sync_domain::outcome::Reason;
use sync_domain::scan::{self, ErrorKind, Kind, Limits, Scanner, Value};

use crate::number::{Decimal, as_json};

/// Bounds of an item: Lambda hands over 6 MB at most, and DynamoDB nests 32 levels, each of which is two here.
const ITEM: Limits = Limits { bytes: 6 << 20, depth: 72, items: 1_000_000, string: 6 << 20, names: 10_000 };

/// Why an item is no record.
enum Fault {
    Scan(scan::Error),
    /// A code, and the bytes in front of the place.
    Value(&'static str, usize),
}

impl From<scan::Error> for Fault {
    fn from(error: scan::Error) -> Self {
        Self::Scan(error)
    }
}

type Result<T> = std::result::Result<T, Fault>;

/// The record that an item stands for. `place` names the item in a reason: names of attributes are the table's own, so an
/// item's faults are told by their offset.
pub(crate) fn record(item: &str, place: &str) -> std::result::Result<String, Reason> {
    let mut out = String::with_capacity(item.len());
    let read = Scanner::new(item, &ITEM).map_err(Fault::from).and_then(|mut scanner| {
        write_map(&mut scanner, &mut out)?;
        Ok(scanner.end()?)
    });
    read.map_err(|fault| match fault {
        Fault::Scan(error) => {
            let code = match error.kind {
                ErrorKind::TooDeep => "too_deep",
                ErrorKind::TooLong | ErrorKind::TooManyItems | ErrorKind::StringTooLong => "too_large",
                ErrorKind::TooManyNames => "too_many_names",
                _ => "unreadable_item",
            };
            Reason::new(code, format!("{place} (byte {})", error.offset))
        }
        Fault::Value(code, offset) => Reason::new(code, format!("{place} (byte {offset})")),
    })?;
    Ok(out)
}

/// An object of typed values as a plain one, by name.
fn write_map(scanner: &mut Scanner<'_>, out: &mut String) -> Result<()> {
    let mut members: Vec<(Cow<'_, str>, String)> = Vec::new();
    scanner.object(|scanner, name| {
        let mut value = String::new();
        write_value(scanner, &mut value)?;
        members.push((name, value));
        Ok::<_, Fault>(())
    })?;
    members.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    out.push('{');
    for (at, (name, value)) in members.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        scan::write_string(out, name);
        let _ = write!(out, ":{value}");
    }
    out.push('}');
    Ok(())
}

/// A typed value, an object with the type as its only name.
fn write_value(scanner: &mut Scanner<'_>, out: &mut String) -> Result<()> {
    let start = scanner.offset();
    let mut values = 0_usize;
    scanner.object(|scanner, kind| {
        values += 1;
        match kind.as_ref() {
            "S" | "B" => out.push_str(string(scanner)?.raw),
            "N" => out.push_str(&number(scanner)?),
            "BOOL" => out.push_str(of_kind(scanner, Kind::Boolean)?.raw),
            "NULL" => {
                of_kind(scanner, Kind::Boolean)?;
                out.push_str("null");
            }
            "M" => write_map(scanner, out)?,
            "L" => write_list(scanner, out)?,
            "SS" | "BS" => write_set(scanner, out, |scanner| {
                let value = string(scanner)?;
                Ok((value.text().unwrap_or_default(), Cow::Borrowed(value.raw)))
            })?,
            "NS" => write_set(scanner, out, |scanner| {
                let number = number(scanner)?;
                let order = Decimal::parse(&number).ok_or(Fault::Value("bad_number", scanner.offset()))?;
                Ok((order, number))
            })?,
            _ => return Err(Fault::Value("unknown_type", scanner.offset())),
        }
        Ok(())
    })?;
    if values == 1 { Ok(()) } else { Err(Fault::Value("unknown_type", start)) }
}

fn write_list(scanner: &mut Scanner<'_>, out: &mut String) -> Result<()> {
    out.push('[');
    scanner.array(|scanner, at| {
        if at > 0 {
            out.push(',');
        }
        write_value(scanner, out)
    })?;
    out.push(']');
    Ok(())
}

/// Writes a set as an array, sorted by what `element` gives beside the JSON of each.
fn write_set<'a, O: Ord>(
    scanner: &mut Scanner<'a>,
    out: &mut String,
    element: impl Fn(&mut Scanner<'a>) -> Result<(O, Cow<'a, str>)>,
) -> Result<()> {
    let mut elements = Vec::new();
    scanner.array(|scanner, _| {
        elements.push(element(scanner)?);
        Ok::<_, Fault>(())
    })?;
    elements.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    out.push('[');
    for (at, (_, json)) in elements.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        out.push_str(json);
    }
    out.push(']');
    Ok(())
}

fn number<'a>(scanner: &mut Scanner<'a>) -> Result<Cow<'a, str>> {
    let offset = scanner.offset();
    let bad = || Fault::Value("bad_number", offset);
    match string(scanner)?.text() {
        Some(Cow::Borrowed(text)) => as_json(text).ok_or_else(bad),
        Some(Cow::Owned(text)) => as_json(&text).map(|json| Cow::Owned(json.into_owned())).ok_or_else(bad),
        None => Err(bad()),
    }
}

fn string<'a>(scanner: &mut Scanner<'a>) -> Result<Value<'a>> {
    of_kind(scanner, Kind::String)
}

fn of_kind<'a>(scanner: &mut Scanner<'a>, kind: Kind) -> Result<Value<'a>> {
    let offset = scanner.offset();
    let value = scanner.value()?;
    if value.kind == kind { Ok(value) } else { Err(Fault::Value("unknown_type", offset)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(item: &str) -> std::result::Result<String, String> {
        record(item, "NewImage").map_err(|reason| reason.to_string())
    }

    #[test]
    fn each_type_becomes_what_json_has_for_it() {
        for (typed, plain) in [
            (r#"{"S":""}"#, r#""""#),
            (r#"{"S":"a\"b\\ü\u00e4\n\uD83D\uDE00"}"#, r#""a\"b\\ü\u00e4\n\uD83D\uDE00""#),
            (r#"{"N":"12345678901234567890123456789012345678"}"#, "12345678901234567890123456789012345678"),
            (
                r#"{"N":"-0.00000000000000000000000000000000000001"}"#,
                "-0.00000000000000000000000000000000000001",
            ),
            (r#"{"N":"1E+3"}"#, "1E+3"),
            (r#"{"N":"+07.50"}"#, "7.50"),
            (r#"{"BOOL":true}"#, "true"),
            (r#"{"BOOL":false}"#, "false"),
            (r#"{"NULL":true}"#, "null"),
            (r#"{"B":"AP+/"}"#, r#""AP+/""#),
            (r#"{"L":[]}"#, "[]"),
            (r#"{"L":[{"N":"2"},{"S":"1"},{"L":[{"NULL":true}]}]}"#, r#"[2,"1",[null]]"#),
            (r#"{"M":{}}"#, "{}"),
            (r#"{"M":{"b":{"N":"1"},"a":{"M":{"z":{"S":"x"}}}}}"#, r#"{"a":{"z":"x"},"b":1}"#),
            (r#"{"SS":["b","B","ä","a"]}"#, r#"["B","a","b","ä"]"#),
            (r#"{"NS":["10","9","-1","9.5","1E+2"]}"#, "[-1,9,9.5,10,1E+2]"),
            (r#"{"BS":["Yg==","YQ=="]}"#, r#"["YQ==","Yg=="]"#),
            (r#" { "S" : "x" } "#, r#""x""#),
        ] {
            assert_eq!(json(&format!(r#"{{"v":{typed}}}"#)), Ok(format!(r#"{{"v":{plain}}}"#)), "{typed}");
        }
    }

    #[test]
    fn two_images_of_one_item_read_alike_whatever_the_order_in_them() {
        let one = r#"{"a":{"SS":["x","y"]},"b":{"M":{"c":{"NS":["1","2"]},"d":{"BOOL":true}}}}"#;
        let other = r#"{"b":{"M":{"d":{"BOOL":true},"c":{"NS":["2","1"]}}},"a":{"SS":["y","x"]}}"#;
        assert_eq!(json(one), json(other));
        let other_list = |order: &str| json(&format!(r#"{{"l":{{"L":[{order}]}}}}"#));
        assert_ne!(
            other_list(r#"{"N":"1"},{"N":"2"}"#),
            other_list(r#"{"N":"2"},{"N":"1"}"#),
            "lists have an order"
        );
    }

    #[test]
    fn what_dynamodb_does_not_write_is_refused_by_its_place() {
        for (item, expected) in [
            (r#"{"v":{"X":"1"}}"#, "unknown_type at NewImage (byte 10)"),
            (r#"{"v":{}}"#, "unknown_type at NewImage (byte 5)"),
            (r#"{"v":{"S":"a","N":"1"}}"#, "unknown_type at NewImage (byte 5)"),
            (r#"{"v":{"S":1}}"#, "unknown_type at NewImage (byte 10)"),
            (r#"{"v":{"N":1}}"#, "unknown_type at NewImage (byte 10)"),
            (r#"{"v":{"N":"secret"}}"#, "bad_number at NewImage (byte 10)"),
            (r#"{"v":{"NS":["1","x"]}}"#, "bad_number at NewImage (byte 16)"),
            (r#"{"v":{"BOOL":"true"}}"#, "unknown_type at NewImage (byte 13)"),
            (r#"{"v":"plain"}"#, "unreadable_item at NewImage (byte 5)"),
            (r#"{"v":{"S":"a"},"v":{"S":"b"}}"#, "unreadable_item at NewImage (byte 15)"),
            ("[]", "unreadable_item at NewImage (byte 0)"),
        ] {
            assert_eq!(json(item), Err(expected.to_owned()), "{item}");
        }
    }

    #[test]
    fn the_deepest_item_of_dynamodb_is_read_and_a_deeper_one_is_not() {
        let nested = |levels: usize| {
            let (open, close) = (r#"{"M":{"a":"#.repeat(levels), "}}".repeat(levels));
            format!(r#"{{"a":{open}{{"N":"1"}}{close}}}"#)
        };
        let plain = json(&nested(32)).unwrap();
        assert_eq!(plain, format!("{}1{}", r#"{"a":"#.repeat(33), "}".repeat(33)));
        assert!(json(&nested(40)).unwrap_err().starts_with("too_deep"));
    }
}
