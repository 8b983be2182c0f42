//! Computed attributes: a constant, a concatenation, the first that is there, a code list.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::Attribute;
use crate::config::{Compute, ConcatPart, Literal};
use crate::predicate::{Compiled, Record};
use crate::scan::{Kind, Value, write_string};

/// How an attribute is made, as run. Numbers are indices of attributes.
#[derive(Debug, Clone)]
pub(super) struct Recipe {
    when: Option<Compiled>,
    method: Method,
}

#[derive(Debug, Clone)]
enum Method {
    /// JSON text.
    Constant(String),
    Concat(Vec<Part>),
    Coalesce(Vec<usize>),
    Code {
        of: usize,
        map: BTreeMap<String, String>,
        default: Option<String>,
    },
}

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Attribute(usize),
}

impl Recipe {
    /// Compiles a recipe; `attributes` are those that stand in the record.
    pub(super) fn compile(compute: &Compute, attributes: &[Attribute]) -> Result<Self, String> {
        let index = |path: &str| readable(path, attributes).map(|(index, _)| index);
        let when = match &compute.when {
            Some(predicate) if predicate.asks_before() => {
                return Err("`when` cannot ask for `changed`: an event is the whole state, and the same state must give the same value".to_owned());
            }
            Some(predicate) => {
                let compiled = predicate.compile(&|path| readable(path, attributes));
                Some(compiled.map_err(|(path, message)| format!("when, {path}: {message}"))?)
            }
            None => None,
        };
        let method = match (&compute.constant, &compute.concat, &compute.coalesce, &compute.code) {
            (Some(literal), None, None, None) => Method::Constant(json_of(literal)),
            (None, Some(parts), None, None) => {
                let part = |part: &ConcatPart| match part {
                    ConcatPart::Text(text) => Ok(Part::Text(text.clone())),
                    ConcatPart::Attribute(path) => index(path).map(Part::Attribute),
                };
                Method::Concat(parts.iter().map(part).collect::<Result<_, String>>()?)
            }
            (None, None, Some(paths), None) => {
                Method::Coalesce(paths.iter().map(|path| index(path)).collect::<Result<_, String>>()?)
            }
            (None, None, None, Some(list)) => Method::Code {
                of: index(&list.of)?,
                map: list.map.iter().map(|(from, to)| (from.clone(), json_of(to))).collect(),
                default: list.default.as_ref().map(json_of),
            },
            _ => return Err("say exactly one of `constant`, `concat`, `coalesce`, `code`".to_owned()),
        };
        Ok(Self { when, method })
    }

    /// Computes the value as JSON text.
    pub(super) fn compute<'r>(&'r self, record: &'r impl Record) -> Cow<'r, str> {
        if self.when.as_ref().is_some_and(|when| !when.holds(record)) {
            return Cow::Borrowed("null");
        }
        match &self.method {
            Method::Constant(json) => Cow::Borrowed(json),
            Method::Concat(parts) => concat(parts, record),
            Method::Coalesce(indices) => {
                let first = indices.iter().map(|index| record.value(*index)).find(|value| !value.is_null());
                Cow::Borrowed(first.map_or("null", |value| value.raw))
            }
            Method::Code { of, map, default } => {
                let value = record.value(*of);
                let known = map.get(plain_text(value).as_ref()).filter(|_| !value.is_null());
                Cow::Borrowed(known.or(default.as_ref()).map_or("null", String::as_str))
            }
        }
    }
}

/// Parts one after the other; a missing attribute is nothing, and `null` comes out where all of them are missing.
fn concat(parts: &[Part], record: &impl Record) -> Cow<'static, str> {
    let mut text = String::new();
    let mut found = false;
    for part in parts {
        match part {
            Part::Text(fixed) => text.push_str(fixed),
            Part::Attribute(index) => {
                let value = record.value(*index);
                if !value.is_null() {
                    found = true;
                    text.push_str(&plain_text(value));
                }
            }
        }
    }
    if !found {
        return Cow::Borrowed("null");
    }
    let mut json = String::with_capacity(text.len() + 2);
    write_string(&mut json, &text);
    Cow::Owned(json)
}

/// The text of a string, or a number or boolean as it is written.
pub(super) fn plain_text(value: Value<'_>) -> Cow<'_, str> {
    match value.kind {
        Kind::String => value.text().unwrap_or_default(),
        _ => Cow::Borrowed(value.raw),
    }
}

fn json_of(literal: &Literal) -> String {
    match literal {
        Literal::Boolean(value) => value.to_string(),
        Literal::Integer(value) => value.to_string(),
        Literal::Text(text) => {
            let mut json = String::new();
            write_string(&mut json, text);
            json
        }
    }
}

/// An attribute that rules may read: it stands in the record, outside arrays.
pub(super) fn readable(
    path: &str,
    attributes: &[Attribute],
) -> Result<(usize, Option<crate::config::Type>), String> {
    let found = attributes.iter().enumerate().find(|(_, attribute)| attribute.path == path);
    match found {
        None => Err(format!("no attribute {path} is listed")),
        Some((_, attribute)) if attribute.slot.is_none() => Err(format!(
            "{path} is computed, looked up or inside an array; only attributes of the record itself can be read"
        )),
        Some((index, attribute)) => Ok((index, attribute.kind)),
    }
}

/// The class that a computed attribute takes: the highest that it reads.
pub(super) fn inputs(compute: &Compute) -> Vec<&str> {
    let mut paths = Vec::new();
    if let Some(when) = &compute.when {
        when.attributes(&mut |path| paths.push(path));
    }
    for part in compute.concat.iter().flatten() {
        if let ConcatPart::Attribute(path) = part {
            paths.push(path);
        }
    }
    paths.extend(compute.coalesce.iter().flatten().map(String::as_str));
    paths.extend(compute.code.iter().map(|list| list.of.as_str()));
    paths
}
