//! The part of a record that a target gets, under the names that it wants. What is taken is copied byte for byte.

use std::borrow::Cow;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::limits;
use crate::config::AttributeChoice;
use crate::id::push_part;
use crate::scan::{self, Kind, Scanner, Value, write_string};

/// An entry of `attributes` that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a dotted path with `[]` behind the names of arrays.
    #[error("{0}: not a path; write name, outer.inner or array[].inner")]
    Path(String),
    /// A new name for what stands in an array, outside of it (or the other way round).
    #[error("{0}: the new path needs [] where the old one has it")]
    Arrays(String),
    /// Two entries for one place.
    #[error("{0}: another entry takes this place already")]
    Taken(String),
}

/// What becomes of a record's attributes at one target.
#[derive(Debug)]
pub struct Mapping {
    id: String,
    /// None = all attributes under their own names.
    choices: Option<(Vec<AttributeChoice>, Node)>,
}

/// A place in the record as the target gets it; `from` leads there from the enclosing record or array element.
#[derive(Debug)]
enum Node {
    Value { from: Vec<String> },
    Object(Vec<(String, Node)>),
    Each { from: Vec<String>, element: Box<Node> },
}

impl Mapping {
    /// Makes a mapping out of a target's choice of attributes; none = all.
    pub fn compile(choices: Option<&[AttributeChoice]>) -> Result<Self, Error> {
        let Some(choices) = choices else {
            return Ok(Self { id: "all".to_owned(), choices: None });
        };
        let mut root = Node::Object(Vec::new());
        let mut print = Vec::new();
        for choice in choices {
            let (from, to) = (split(&choice.name)?, split(choice.output())?);
            if from.len() != to.len() {
                return Err(Error::Arrays(choice.name.clone()));
            }
            root.insert(&from, &to).ok_or_else(|| Error::Taken(choice.name.clone()))?;
            push_part(&mut print, choice.name.as_bytes());
            push_part(&mut print, choice.output().as_bytes());
        }
        let hash = digest(&SHA256, &print);
        let id = URL_SAFE_NO_PAD.encode(hash.as_ref().get(..6).unwrap_or_default());
        Ok(Self { id, choices: Some((choices.to_vec(), root)) })
    }

    /// A short name of the mapping, another one for each choice: digests made under another mapping do not compare.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The part of a record that the target gets. A chosen attribute that the record lacks stays missing;
    /// one inside an object that is `null` is `null`, so that a cleared object is not taken for no news.
    pub fn record<'a>(&self, record: &'a str) -> scan::Result<Cow<'a, str>> {
        let Some((_, root)) = &self.choices else {
            return Ok(Cow::Borrowed(record));
        };
        let value = Scanner::new(record, &limits())?.value()?;
        if value.kind != Kind::Object {
            return Ok(Cow::Borrowed(record));
        }
        let mut out = String::with_capacity(record.len());
        if !root.write(value, &mut out)? {
            out.push_str("{}");
        }
        Ok(Cow::Owned(out))
    }

    /// The names of changed attributes, cut to those that the target gets and under its names.
    pub fn changed<'a>(&'a self, names: &'a [Cow<'a, str>]) -> Vec<Cow<'a, str>> {
        let Some((choices, _)) = &self.choices else {
            return names.iter().map(|name| Cow::Borrowed(name.as_ref())).collect();
        };
        let mut out: Vec<Cow<'a, str>> = Vec::new();
        for name in names {
            for choice in choices {
                let renamed = if let Some(rest) = below(name, &choice.name) {
                    match &choice.rename {
                        Some(new_name) => Cow::Owned(format!("{new_name}{rest}")),
                        None => Cow::Borrowed(name.as_ref()),
                    }
                } else if below(&choice.name, name).is_some() {
                    Cow::Borrowed(choice.rename.as_deref().unwrap_or(name))
                } else {
                    continue;
                };
                if !out.contains(&renamed) {
                    out.push(renamed);
                }
            }
        }
        out
    }

    /// The event as it is delivered: what leads nowhere for a target (fingerprints, the replay's routing) is left out,
    /// `before`, `after` and `changed` are cut to what it gets, all else is copied.
    pub fn event(&self, event: &str) -> scan::Result<String> {
        let mut out = String::with_capacity(event.len());
        let mut scanner = Scanner::new(event, &limits())?;
        out.push('{');
        scanner.object(|scanner, name| {
            if name == "only" {
                return scanner.value().map(drop);
            }
            write_name(&mut out, &name);
            if name == "data" && scanner.peek()? == Kind::Object {
                self.data(scanner, &mut out)
            } else {
                out.push_str(scanner.value()?.raw);
                Ok(())
            }
        })?;
        scanner.end()?;
        out.push('}');
        Ok(out)
    }

    fn data(&self, scanner: &mut Scanner<'_>, out: &mut String) -> scan::Result<()> {
        out.push('{');
        scanner.object(|scanner, name| -> scan::Result<()> {
            let value = scanner.value()?;
            if name == "fingerprints" {
                return Ok(());
            }
            write_name(out, &name);
            match (name.as_ref(), value.kind) {
                ("before" | "after", Kind::Object) => out.push_str(&self.record(value.raw)?),
                ("changed", Kind::Array) => {
                    let names = texts(value.raw)?;
                    out.push('[');
                    for (index, name) in self.changed(&names).iter().enumerate() {
                        if index > 0 {
                            out.push(',');
                        }
                        write_string(out, name);
                    }
                    out.push(']');
                }
                _ => out.push_str(value.raw),
            }
            Ok(())
        })?;
        out.push('}');
        Ok(())
    }
}

impl Node {
    /// Puts a choice into the tree; none = its place is taken. The paths are cut where an array's elements begin.
    fn insert(&mut self, from: &[Vec<String>], to: &[Vec<String>]) -> Option<()> {
        let ((from, deeper_from), (to, deeper_to)) = (from.split_first()?, to.split_first()?);
        let Some((last, outer)) = to.split_last() else {
            // The element of an array itself.
            let free = matches!(self, Self::Object(members) if members.is_empty());
            return free.then(|| *self = Self::Value { from: from.clone() });
        };
        let mut place = self;
        for name in outer {
            place = place.member(name, || Self::Object(Vec::new()))?;
        }
        if deeper_to.is_empty() {
            let Self::Object(members) = place else { return None };
            let free = members.iter().all(|(name, _)| name != last);
            free.then(|| members.push((last.clone(), Self::Value { from: from.clone() })))
        } else {
            let fresh = || Self::Each { from: from.clone(), element: Box::new(Self::Object(Vec::new())) };
            match place.member(last, fresh)? {
                Self::Each { from: same, element } if same == from => element.insert(deeper_from, deeper_to),
                _ => None,
            }
        }
    }

    fn member(&mut self, name: &str, fresh: impl FnOnce() -> Self) -> Option<&mut Self> {
        let Self::Object(members) = self else { return None };
        let at = members.iter().position(|(member, _)| member == name).unwrap_or_else(|| {
            members.push((name.to_owned(), fresh()));
            members.len() - 1
        });
        members.get_mut(at).map(|(_, node)| node)
    }

    /// Writes what stands here for a record or array element; false = nothing.
    fn write(&self, within: Value<'_>, out: &mut String) -> scan::Result<bool> {
        let members = members(within)?;
        self.write_part(within, &members, out)
    }

    fn write_part(&self, within: Value<'_>, parts: &[Member<'_>], out: &mut String) -> scan::Result<bool> {
        match self {
            Self::Value { from } => match find(within, parts, from)? {
                Some(value) => out.push_str(value.raw),
                None => return Ok(false),
            },
            Self::Each { from, element } => match find(within, parts, from)? {
                Some(array) if array.kind == Kind::Array => element.write_each(array, out)?,
                Some(value) if value.is_null() => out.push_str(value.raw),
                _ => return Ok(false),
            },
            Self::Object(nodes) => {
                let start = out.len();
                for (name, node) in nodes {
                    let before = out.len();
                    out.push(if before == start { '{' } else { ',' });
                    write_name(out, name);
                    if !node.write_part(within, parts, out)? {
                        out.truncate(before);
                    }
                }
                if out.len() == start {
                    return Ok(false);
                }
                out.push('}');
            }
        }
        Ok(true)
    }

    fn write_each(&self, array: Value<'_>, out: &mut String) -> scan::Result<()> {
        out.push('[');
        Scanner::new(array.raw, &limits())?.array(|scanner, index| -> scan::Result<()> {
            if index > 0 {
                out.push(',');
            }
            let element = scanner.value()?;
            if element.is_null() {
                out.push_str(element.raw);
            } else if !self.write(element, out)? {
                out.push_str("{}");
            }
            Ok(())
        })?;
        out.push(']');
        Ok(())
    }
}

type Member<'a> = (Cow<'a, str>, Value<'a>);

/// The members of an object; of another value, none.
pub(super) fn members(value: Value<'_>) -> scan::Result<Vec<Member<'_>>> {
    let mut members = Vec::new();
    if value.kind == Kind::Object {
        Scanner::new(value.raw, &limits())?.object(|scanner, name| -> scan::Result<()> {
            members.push((name, scanner.value()?));
            Ok(())
        })?;
    }
    Ok(members)
}

/// The value at a path; inside of `null` everything is `null`.
fn find<'a>(within: Value<'a>, parts: &[Member<'a>], path: &[String]) -> scan::Result<Option<Value<'a>>> {
    let Some((first, deeper)) = path.split_first() else {
        return Ok(Some(within));
    };
    let Some(mut value) = parts.iter().find(|(name, _)| name == first).map(|(_, value)| *value) else {
        return Ok(None);
    };
    for step in deeper {
        if value.is_null() {
            return Ok(Some(value));
        }
        match members(value)?.into_iter().find(|(name, _)| name == step) {
            Some((_, inner)) => value = inner,
            None => return Ok(None),
        }
    }
    Ok(Some(value))
}

/// A path, cut where an array's elements begin: `a.b[].c` is `[[a, b], [c]]`.
fn split(path: &str) -> Result<Vec<Vec<String>>, Error> {
    let mut parts = vec![Vec::new()];
    for step in path.split('.') {
        let (name, array) = step.strip_suffix("[]").map_or((step, false), |name| (name, true));
        if name.is_empty() || name.contains(['[', ']']) {
            return Err(Error::Path(path.to_owned()));
        }
        if let Some(part) = parts.last_mut() {
            part.push(name.to_owned());
        }
        if array {
            parts.push(Vec::new());
        }
    }
    Ok(parts)
}

/// What a path has behind an outer path: nothing if they are equal; none if it is not below it.
fn below<'a>(path: &'a str, outer: &str) -> Option<&'a str> {
    path.strip_prefix(outer).filter(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn texts(array: &str) -> scan::Result<Vec<Cow<'_, str>>> {
    let mut texts = Vec::new();
    Scanner::new(array, &limits())?.array(|scanner, _| -> scan::Result<()> {
        texts.extend(scanner.value()?.text());
        Ok(())
    })?;
    Ok(texts)
}

fn write_name(out: &mut String, name: &str) {
    if !out.ends_with(['{', ',']) {
        out.push(',');
    }
    write_string(out, name);
    out.push(':');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(choices: &[&str]) -> Result<Mapping, Error> {
        let choices: Vec<_> = choices
            .iter()
            .map(|choice| match choice.split_once(" as ") {
                Some((name, new)) => AttributeChoice { name: name.into(), rename: Some(new.into()) },
                None => AttributeChoice { name: (*choice).into(), rename: None },
            })
            .collect();
        Mapping::compile(Some(&choices))
    }

    fn check(choices: &[&str], record: &str, expect: &str) {
        assert_eq!(mapping(choices).unwrap().record(record).unwrap(), expect, "{choices:?}");
    }

    #[test]
    fn what_was_not_chosen_stays_behind() {
        check(&["a"], r#"{"a":1,"b":2}"#, r#"{"a":1}"#);
        check(&[], r#"{"a":1}"#, "{}");
        check(&["n.x"], r#"{"n":{"x":1,"y":2},"x":3}"#, r#"{"n":{"x":1}}"#);
        check(&["c[].k"], r#"{"c":[{"k":1,"v":2},{"v":3}]}"#, r#"{"c":[{"k":1},{}]}"#);
    }

    #[test]
    fn without_a_choice_the_record_is_as_it_was() {
        let record = r#"{ "a" : 1.10 , "b":"\u0041"}"#;
        assert_eq!(Mapping::compile(None).unwrap().record(record).unwrap(), record);
    }

    #[test]
    fn chosen_values_keep_every_byte() {
        check(
            &["b", "a", "j"],
            r#"{"a":1.10,"b":"\u0041\/","j":{ "x" :[1e400]}}"#,
            r#"{"b":"\u0041\/","a":1.10,"j":{ "x" :[1e400]}}"#,
        );
    }

    #[test]
    fn attributes_take_the_names_and_places_that_the_target_wants() {
        check(&["a as b", "b as a"], r#"{"a":1,"b":2}"#, r#"{"b":1,"a":2}"#);
        check(
            &["n.x as x", "y as n.y", "z as n.m.z"],
            r#"{"n":{"x":1},"y":2,"z":3}"#,
            r#"{"x":1,"n":{"y":2,"m":{"z":3}}}"#,
        );
        check(
            &["c[].k as d.e[].kind", "c[].v as d.e[].v"],
            r#"{"c":[{"k":1,"v":2}]}"#,
            r#"{"d":{"e":[{"kind":1,"v":2}]}}"#,
        );
        check(&["t[] as u[].id"], r#"{"t":[1,2]}"#, r#"{"u":[{"id":1},{"id":2}]}"#);
        check(&["u[].id as t[]"], r#"{"u":[{"id":1},{"id":2}]}"#, r#"{"t":[1,2]}"#);
        check(
            &["a[].b[].c"],
            r#"{"a":[{"b":[{"c":1,"d":2}]},{"b":[]}]}"#,
            r#"{"a":[{"b":[{"c":1}]},{"b":[]}]}"#,
        );
    }

    #[test]
    fn empty_null_and_missing_stay_apart() {
        check(&["a", "b", "c"], r#"{"a":null,"b":""}"#, r#"{"a":null,"b":""}"#);
        check(&["n.x", "n.y"], r#"{"n":null}"#, r#"{"n":{"x":null,"y":null}}"#);
        check(&["n.x"], r#"{"n":{}}"#, "{}");
        check(&["n.x"], "{}", "{}");
        check(&["c[].k"], r#"{"c":null}"#, r#"{"c":null}"#);
        check(&["c[].k"], r#"{"c":[]}"#, r#"{"c":[]}"#);
        check(&["c[].k"], r#"{"c":[null,{"k":1}]}"#, r#"{"c":[null,{"k":1}]}"#);
        check(&["c[].k", "d"], r#"{"c":"text","d":1}"#, r#"{"d":1}"#);
    }

    #[test]
    fn choices_that_make_no_sense_are_refused() {
        for bad in ["", "a..b", "a.[].b", "a[0].b", "[]"] {
            assert_eq!(mapping(&[bad]).unwrap_err(), Error::Path(bad.to_owned()), "{bad}");
        }
        assert!(matches!(mapping(&["c[].k as k"]), Err(Error::Arrays(_))));
        for taken in [
            &["a", "a"][..],
            &["a as b", "b"],
            &["n", "n.x"],
            &["n.x", "n"],
            &["c[].k", "d[].k as c[].l"],
            &["t[]", "t[].x"],
        ] {
            assert!(matches!(mapping(taken), Err(Error::Taken(_))), "{taken:?}");
        }
    }

    #[test]
    fn changed_names_only_what_the_target_gets_under_its_names() {
        let mapping = mapping(&["email as mail", "address.city", "contacts[].kind", "prefs as p"]).unwrap();
        let changed = |names: &[&'static str]| {
            let names: Vec<Cow<'_, str>> = names.iter().map(|name| Cow::Borrowed(*name)).collect();
            mapping.changed(&names).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(changed(&["email", "phone", "address.country"]), ["mail"]);
        assert_eq!(changed(&["address.city", "address"]), ["address.city", "address"]);
        assert_eq!(changed(&["contacts", "contacts[].value", "prefs.a"]), ["contacts", "p.a"]);
        assert_eq!(changed(&["emails", "addressx"]), Vec::<String>::new());
    }

    #[test]
    fn a_delivered_event_holds_no_fingerprints_and_only_the_targets_part() {
        let event = r#"{"specversion":"1.0","id":"evt_1","only":"loyalty","run":"r1","data":{"key":{"id":42},"before":{"a":1,"b":1},"after":{"a": 2.0,"b":2},"changed":["a","b"],"fingerprints":{"n":"f"}}}"#;
        let expect = r#"{"specversion":"1.0","id":"evt_1","run":"r1","data":{"key":{"id":42},"before":{"a":1},"after":{"a":2.0},"changed":["a"]}}"#;
        assert_eq!(mapping(&["a"]).unwrap().event(event).unwrap(), expect);

        let bare = r#"{"id":"evt_1","data":{"key":{"id":42},"after":null,"changed":null}}"#;
        assert_eq!(mapping(&["a"]).unwrap().event(bare).unwrap(), bare, "what is not there is not invented");
        let all = Mapping::compile(None).unwrap().event(event).unwrap();
        assert!(
            !all.contains("fingerprints") && all.contains(r#""after":{"a": 2.0,"b":2},"changed":["a","b"]"#)
        );
    }

    #[test]
    fn another_choice_has_another_id() {
        let ids: Vec<_> = [&["a"][..], &["b"], &["a", "b"], &["a as b"], &[]]
            .iter()
            .map(|c| mapping(c).unwrap().id)
            .collect();
        for (index, id) in ids.iter().enumerate() {
            assert!(!ids[..index].contains(id));
            assert!(id != "all");
        }
    }
}
