//! From the raw bytes to the spans of the changes in them. Limits are checked before a value is built.

use sync_domain::scan::{self, Kind, Limits, Scanner};

use crate::refusal::Refusal;

/// The changes that one request may hold.
pub const MAX_CHANGES: usize = 1_000;

/// The bounds of a request's body.
///
/// A change gets deeper on its way (an event wraps the record in `data`), so the door is narrower than what the
/// later stages read.
pub const BODY: Limits =
    Limits { bytes: 1 << 20, depth: 28, items: 100_000, string: 256 << 10, names: 1_000 };

/// The bounds of one change in it; what is over them is refused alone.
pub const CHANGE: Limits = Limits { items: 30_000, ..BODY };

/// A change as it stands in the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span<'a> {
    /// Its text.
    pub raw: &'a str,
    /// Its type; a change is an object.
    pub kind: Kind,
    /// Bytes of the body before it.
    pub offset: usize,
}

/// Finds the changes: the body is one, or an object with nothing but `changes`.
pub fn changes(body: &[u8]) -> Result<Vec<Span<'_>>, Refusal> {
    let whole = whole(body)?;
    if whole.kind != Kind::Object {
        return Err(wrong_shape());
    }
    let Some(list) = list(whole)? else { return Ok(vec![whole]) };
    if list.kind != Kind::Array {
        return Err(Refusal::new(400, "wrong_shape", "`changes` is an array of changes"));
    }
    entries(list)
}

/// Finds the events of Debezium: the body is one, or an array of them.
pub fn events(body: &[u8]) -> Result<Vec<Span<'_>>, Refusal> {
    let whole = whole(body)?;
    if whole.kind == Kind::Array { entries(whole) } else { Ok(vec![whole]) }
}

/// The one value of a body.
fn whole(body: &[u8]) -> Result<Span<'_>, Refusal> {
    if body.starts_with(b"\xef\xbb\xbf") {
        return Err(Refusal::new(
            400,
            "byte_order_mark",
            "the body begins with a byte order mark: send UTF-8 without it",
        ));
    }
    let text = scan::utf8(body)?;
    // Walks over everything once and checks it; what follows only finds places again.
    let mut scanner = Scanner::new(text, &BODY)?;
    let whole = next(&mut scanner)?;
    scanner.end()?;
    Ok(whole)
}

fn entries(list: Span<'_>) -> Result<Vec<Span<'_>>, Refusal> {
    let mut found = Vec::new();
    Scanner::new(list.raw, &BODY)?.array(|scanner, index| {
        if index == MAX_CHANGES {
            let message = format!("the request has more than {MAX_CHANGES} entries: send several requests");
            return Err(Refusal::new(400, "too_many_changes", message));
        }
        let span = next(scanner)?;
        found.push(Span { offset: span.offset + list.offset, ..span });
        Ok(())
    })?;
    if found.is_empty() {
        return Err(Refusal::new(400, "no_changes", "the request has no entry: send at least one change"));
    }
    Ok(found)
}

/// The value of `changes`, if the object has one; then it may have nothing else.
fn list(whole: Span<'_>) -> Result<Option<Span<'_>>, Refusal> {
    let (mut list, mut names) = (None, 0_usize);
    Scanner::new(whole.raw, &BODY)?.object(|scanner, name| {
        let span = next(scanner)?;
        names += 1;
        if name == "changes" {
            list = Some(Span { offset: span.offset + whole.offset, ..span });
        }
        Ok::<_, scan::Error>(())
    })?;
    if list.is_some() && names > 1 { Err(wrong_shape()) } else { Ok(list) }
}

/// The next value with its place.
fn next<'a>(scanner: &mut Scanner<'a>) -> scan::Result<Span<'a>> {
    scanner.peek()?;
    let offset = scanner.offset();
    let value = scanner.value()?;
    Ok(Span { raw: value.raw, kind: value.kind, offset })
}

fn wrong_shape() -> Refusal {
    Refusal::new(
        400,
        "wrong_shape",
        "send one change (an object), or an object with nothing but `changes`: an array of changes",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(body: &str) -> Result<usize, &'static str> {
        changes(body.as_bytes()).map(|found| found.len()).map_err(|refusal| refusal.code)
    }

    #[test]
    fn a_body_is_one_change_or_a_list_of_them() {
        assert_eq!(codes("{}"), Ok(1));
        assert_eq!(codes(r#" {"changes" : [ {} , 1, null ] } "#), Ok(3));
        for wrong in ["[]", "1", "null", "\"x\"", r#"{"changes":{}}"#, r#"{"changes":[{}],"x":1}"#] {
            assert_eq!(codes(wrong), Err("wrong_shape"), "{wrong}");
        }
        assert_eq!(codes(r#"{"changes":[]}"#), Err("no_changes"));
        assert_eq!(codes("\u{feff}{}"), Err("byte_order_mark"));
    }

    #[test]
    fn spans_know_their_place_in_the_body() {
        let body = r#" {"changes": [ {"a":1},{"b":2} ]}"#;
        let found = changes(body.as_bytes()).unwrap();
        for span in &found {
            assert_eq!(body.get(span.offset..span.offset + span.raw.len()), Some(span.raw));
        }
        assert_eq!(found[1].raw, r#"{"b":2}"#);
    }

    #[test]
    fn a_thousand_changes_pass_and_one_more_does_not() {
        let list = |count: usize| format!(r#"{{"changes":[{}]}}"#, vec!["{}"; count].join(","));
        assert_eq!(codes(&list(1_000)), Ok(1_000));
        assert_eq!(codes(&list(1_001)), Err("too_many_changes"));
    }
}
