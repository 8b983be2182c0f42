//! Several events in one request: which ones go together, what the array is called, and what its answer says of each.
//!
//! **Invariant.** An event of an array counts as taken only if the answer says so of it: by a result of its own, or by a 2xx
//! that says nothing else. An answer that cannot be read, and one that passes an event over, say nothing.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::status::Class;
use crate::config::Array;
use crate::id::push_part;
use crate::scan::{Kind, Limits, Scanner, Value, utf8};

/// How many bytes of an answer are read. Ten results with room for what a target adds to them.
pub const LONGEST_ANSWER: usize = 1 << 20;

/// The status that promises a result for each.
const MULTI_STATUS: u16 = 207;

/// An array that is being filled.
#[derive(Debug)]
pub struct Filling<T> {
    limits: Array,
    members: Vec<T>,
    bytes: usize,
}

impl<T> Filling<T> {
    /// An array with its first member, of so many bytes, which has a place however long it is.
    pub fn new(limits: Array, first: T, bytes: usize) -> Self {
        // Two brackets; each further member brings a comma.
        Self { limits, members: vec![first], bytes: bytes.saturating_add(2) }
    }

    /// Adds a member of so many bytes. Handed back if it does not fit: then this array is done.
    pub fn add(&mut self, member: T, bytes: usize) -> Result<(), T> {
        let with = self.bytes.saturating_add(bytes).saturating_add(1);
        if self.is_full() || with > self.limits.bytes {
            return Err(member);
        }
        self.bytes = with;
        self.members.push(member);
        Ok(())
    }

    /// Whether nothing more can fit.
    pub fn is_full(&self) -> bool {
        self.members.len() >= self.limits.items || self.bytes >= self.limits.bytes
    }

    /// The members so far.
    pub fn members(&self) -> &[T] {
        &self.members
    }

    /// The members, in the order in which they came.
    pub fn into_members(self) -> Vec<T> {
        self.members
    }
}

/// The body: a JSON array of what each member sends, byte for byte.
pub fn body<'a>(members: impl IntoIterator<Item = &'a str>) -> String {
    let mut out = String::from("[");
    for (index, member) in members.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(member);
    }
    out.push(']');
    out
}

/// The id of an array, of the ids of its events: the same for the same events in the same order, and for no others.
pub fn id<'a>(events: impl IntoIterator<Item = &'a str>) -> String {
    let mut input = Vec::new();
    for event in events {
        push_part(&mut input, event.as_bytes());
    }
    format!("arr_{}", URL_SAFE_NO_PAD.encode(digest(&SHA256, &input)))
}

/// What an answer says of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict<'a> {
    /// The status, as of a request of its own.
    pub status: u16,
    /// After how long it may come again, as `Retry-After` has it.
    pub retry_after: Option<&'a str>,
}

/// What a good answer to an array says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<'a> {
    /// Nothing but its status: it holds for all.
    Whole,
    /// A verdict for each event, in the order of the array; none for one that was passed over, or that it says two things of.
    Each(Vec<Option<Verdict<'a>>>),
    /// Nobody knows what: too long (`None`), or not of the form that is agreed on.
    Unreadable,
}

/// Reads the body of an answer whose status means that the array was taken; `ids` are those of its events, in order.
///
/// The form: `{"results":[{"id":"evt_…","status":200}, {"index":1,"status":429,"retry_after":30}]}`. A result names its event by
/// id or by its place in the array, from 0; other members are passed over.
pub fn read<'a>(status: u16, body: Option<&'a [u8]>, ids: &[&str]) -> Answer<'a> {
    let Some(text) = body.and_then(|body| utf8(body).ok()) else { return Answer::Unreadable };
    if text.trim_ascii().is_empty() {
        return if status == MULTI_STATUS { Answer::Unreadable } else { Answer::Whole };
    }
    match results(text, ids) {
        Some(verdicts) => Answer::Each(verdicts),
        None => Answer::Unreadable,
    }
}

fn results<'a>(text: &'a str, ids: &[&str]) -> Option<Vec<Option<Verdict<'a>>>> {
    let limits = Limits { bytes: LONGEST_ANSWER, ..Limits::default() };
    let mut scanner = Scanner::new(text, &limits).ok()?;
    let mut found = None;
    scanner
        .object(|scanner, name| {
            let value = scanner.value()?;
            if name == "results" {
                found = Some(value);
            }
            Ok::<_, crate::scan::Error>(())
        })
        .ok()?;
    scanner.end().ok()?;
    let list = found.filter(|list| list.kind == Kind::Array)?;
    let mut said: Vec<Said<'a>> = ids.iter().map(|_| Said::Nothing).collect();
    Scanner::new(list.raw, &limits)
        .ok()?
        .array(|scanner, _| {
            let result = scanner.value()?;
            if let Some((place, verdict)) = verdict(result, &limits, ids)
                && let Some(said) = said.get_mut(place)
            {
                *said = match said {
                    Said::Nothing => Said::Once(verdict),
                    Said::Once(_) | Said::Unclear => Said::Unclear,
                };
            }
            Ok::<_, crate::scan::Error>(())
        })
        .ok()?;
    let once = |said| match said {
        Said::Once(verdict) => verdict,
        Said::Nothing | Said::Unclear => None,
    };
    Some(said.into_iter().map(once).collect())
}

enum Said<'a> {
    Nothing,
    /// One result; none if it has no status that means something.
    Once(Option<Verdict<'a>>),
    Unclear,
}

/// Which event a result is of, and what it says; none if it names none of the array's.
fn verdict<'a>(result: Value<'a>, limits: &Limits, ids: &[&str]) -> Option<(usize, Option<Verdict<'a>>)> {
    let (mut id, mut index, mut status, mut retry_after) = (None, None, None, None);
    Scanner::new(result.raw, limits)
        .ok()?
        .object(|scanner, name| {
            let value = scanner.value()?;
            match name.as_ref() {
                "id" => id = value.text(),
                "index" => index = value.raw.parse::<usize>().ok(),
                "status" => status = value.raw.parse::<u16>().ok(),
                // As seconds, or as a text with one of the two forms of the header.
                "retry_after" => retry_after = Some(value.raw.trim_matches('"')),
                _ => {}
            }
            Ok::<_, crate::scan::Error>(())
        })
        .ok()?;
    let named = match id {
        Some(id) => Some(ids.iter().position(|known| *known == id)?),
        None => None,
    };
    let place = match (named, index) {
        (Some(named), Some(index)) if named != index => return None,
        (Some(place), _) | (None, Some(place)) => place,
        (None, None) => return None,
    };
    let status = status.filter(|status| (200..600).contains(status));
    Some((place, status.map(|status| Verdict { status, retry_after })))
}

/// How an array that was refused as a whole is sent once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    /// In two halves: it was too large.
    Halves,
    /// Each event alone: nobody knows which of them is meant.
    Singles,
}

/// In which parts an array of so many events goes once more after a status of this class; none if it does not.
pub fn parts(status: u16, class: Class, members: usize) -> Option<Parts> {
    match class {
        Class::Rejected if members > 1 && status == 413 => Some(Parts::Halves),
        Class::Rejected | Class::Stale if members > 1 => Some(Parts::Singles),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn limits(items: usize, bytes: usize) -> Array {
        Array { items, bytes, wait: Duration::ZERO }
    }

    proptest! {
        #[test]
        fn no_array_is_longer_than_its_limits_but_for_a_single_event(
            lengths in prop::collection::vec(2_usize..60, 1..40),
            items in 1_usize..10,
            bytes in 2_usize..120,
        ) {
            let texts: Vec<String> = lengths.iter().map(|length| "7".repeat(*length)).collect();
            let mut arrays: Vec<Filling<&str>> = Vec::new();
            for text in &texts {
                let rest = match arrays.last_mut() {
                    Some(array) => array.add(text, text.len()).err(),
                    None => Some(text.as_str()),
                };
                if let Some(text) = rest {
                    arrays.push(Filling::new(limits(items, bytes), text, text.len()));
                }
            }
            for array in &arrays {
                let body = body(array.members().iter().copied());
                prop_assert_eq!(body.len(), array.bytes);
                prop_assert!(array.members().len() <= items);
                prop_assert!(body.len() <= bytes || array.members().len() == 1);
            }
            let sent: Vec<&str> = arrays.into_iter().flat_map(Filling::into_members).collect();
            let all: Vec<&str> = texts.iter().map(String::as_str).collect();
            prop_assert_eq!(sent, all, "all of them, in order");
        }
    }

    #[test]
    fn an_array_that_can_take_nothing_more_is_full() {
        let mut array = Filling::new(limits(2, 100), "a", 1);
        assert!(!array.is_full());
        assert_eq!(array.add("b", 1), Ok(()));
        assert!(array.is_full());
        assert_eq!(array.add("c", 1), Err("c"));
        assert!(Filling::new(limits(9, 100), "long", 98).is_full());
        assert!(!Filling::new(limits(9, 100), "long", 97).is_full());
    }

    #[test]
    fn the_body_is_what_the_members_send_byte_for_byte() {
        assert_eq!(body([r#"{"a": 1.10}"#]), r#"[{"a": 1.10}]"#);
        assert_eq!(body(["1", "[2]"]), "[1,[2]]");
    }

    #[test]
    fn the_same_events_in_the_same_order_have_one_id_and_no_others_do() {
        let one = id(["evt_a", "evt_b"]);
        assert_eq!(one, id(["evt_a", "evt_b"]));
        for others in [vec!["evt_b", "evt_a"], vec!["evt_a"], vec!["evt_aevt_b"], vec!["evt_aevt", "_b"]] {
            assert_ne!(one, id(others.iter().copied()), "{others:?}");
        }
        assert!(one.starts_with("arr_") && !one.contains('.') && one.len() <= 256);
    }

    fn each(text: &str) -> Answer<'_> {
        read(200, Some(text.as_bytes()), &["a", "b", "c"])
    }

    fn verdict(status: u16) -> Option<Verdict<'static>> {
        Some(Verdict { status, retry_after: None })
    }

    #[test]
    fn a_result_is_of_the_event_that_it_names() {
        let by_id =
            r#"{"results":[{"id":"c","status":503},{"id":"a","status":200},{"id":"b","status":422}]}"#;
        let by_place = r#" {"took":3,"results": [ {"index":2,"status":503,"error":{"code":"x"}},
            {"index":1,"status":422},{"index":0,"status":200}] } "#;
        let expect = vec![verdict(200), verdict(422), verdict(503)];
        assert_eq!(each(by_id), Answer::Each(expect.clone()));
        assert_eq!(each(by_place), Answer::Each(expect));
    }

    #[test]
    fn a_result_may_ask_for_time() {
        for (text, expect) in [("30", "30"), (r#""30""#, "30"), (r#""Sun, 06 Nov 1994""#, "Sun, 06 Nov 1994")]
        {
            let body = format!(r#"{{"results":[{{"index":0,"status":429,"retry_after":{text}}}]}}"#);
            let Answer::Each(verdicts) = each(&body) else { panic!("{body}") };
            assert_eq!(verdicts[0].unwrap().retry_after, Some(expect));
        }
    }

    #[test]
    fn an_event_without_one_clear_result_has_none() {
        for results in [
            "",
            r#"{"id":"x","status":200}"#,
            r#"{"status":200}"#,
            r#"{"id":"a"}"#,
            r#"{"id":"a","status":"200"}"#,
            r#"{"id":"a","status":99}"#,
            r#"{"id":"a","status":100}"#,
            r#"{"id":"a","status":600}"#,
            r#"{"id":"a","status":200.0}"#,
            r#"{"id":"a","index":1,"status":200}"#,
            r#"{"id":"x","index":0,"status":200}"#,
            r#"{"index":3,"status":200}"#,
            r#"{"index":-1,"status":200}"#,
            r#"{"id":"a","status":200},{"id":"a","status":503}"#,
            r#"{"id":"a","status":200},{"index":0,"status":200}"#,
            r#"{"id":"a"},{"id":"a","status":200}"#,
            "200,null,[]",
        ] {
            let body = format!(r#"{{"results":[{results}]}}"#);
            assert_eq!(each(&body), Answer::Each(vec![None, None, None]), "{results}");
        }
    }

    #[test]
    fn an_answer_that_says_nothing_says_it_of_all() {
        for body in ["", " \r\n"] {
            assert_eq!(read(200, Some(body.as_bytes()), &["a"]), Answer::Whole);
            assert_eq!(read(207, Some(body.as_bytes()), &["a"]), Answer::Unreadable, "it promised more");
        }
    }

    #[test]
    fn what_cannot_be_read_says_nothing() {
        let deep = format!(r#"{{"results":[{}]}}"#, "[".repeat(100) + &"]".repeat(100));
        for body in [
            "OK",
            "null",
            "[]",
            "{}",
            r#"{"ok":true}"#,
            r#"{"results":{}}"#,
            r#"{"results":[{"id":"a","status":200}]"#,
            r#"{"results":[{"id":"a","status":200}]} x"#,
            r#"{"results":[{"id":"a","status":200}],"results":[]}"#,
            r#"{"results":[{"id":"a","status":200,"status":503}]}"#,
            deep.as_str(),
        ] {
            assert_eq!(each(body), Answer::Unreadable, "{body}");
        }
        assert_eq!(read(200, None, &["a"]), Answer::Unreadable, "too long");
        assert_eq!(read(200, Some(&[0xff]), &["a"]), Answer::Unreadable);
    }

    #[test]
    fn only_what_is_refused_as_a_whole_goes_in_parts() {
        assert_eq!(parts(413, Class::Rejected, 2), Some(Parts::Halves));
        for status in [400, 409, 415, 422] {
            assert_eq!(parts(status, Class::Rejected, 2), Some(Parts::Singles), "{status}");
        }
        assert_eq!(parts(409, Class::Stale, 10), Some(Parts::Singles));
        for class in [Class::Rejected, Class::Stale] {
            assert_eq!(parts(413, class, 1), None, "one that is refused alone is refused");
        }
        for class in [Class::Accepted, Class::Retry, Class::Misconfigured, Class::Paused] {
            assert_eq!(parts(413, class, 10), None, "{class:?}");
        }
    }
}
