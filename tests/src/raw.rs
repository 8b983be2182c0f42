//! JSON by its bytes: what no rule touches must arrive as it was written, every digit and every escape.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::value::RawValue;

/// The members of an object, each as it is written.
pub fn members(object: &str) -> Result<BTreeMap<String, &RawValue>> {
    serde_json::from_str(object).context("not an object")
}

/// The elements of an array, each as it is written.
pub fn elements(array: &str) -> Result<Vec<&RawValue>> {
    serde_json::from_str(array).context("not an array")
}

/// The value at a dotted path, as it is written; none where it is missing or its parent is null.
pub fn at<'a>(document: &'a str, path: &str) -> Result<Option<&'a str>> {
    let mut value = document;
    for name in path.split('.') {
        if value == "null" {
            return Ok(None);
        }
        match members(value)?.get(name) {
            Some(member) => value = member.get(),
            None => return Ok(None),
        }
    }
    Ok(Some(value))
}

/// The text that a JSON string stands for.
pub fn text(string: &str) -> Result<String> {
    serde_json::from_str(string).context("not a string")
}

/// A text as a JSON string.
pub fn string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The document with the value of a top-level member replaced by other JSON text, or added.
pub fn with(object: &str, name: &str, value: &str) -> Result<String> {
    let mut found = false;
    let mut parts = Vec::new();
    for (member, old) in members(object)? {
        let same = member == name;
        found |= same;
        parts.push(format!("{}:{}", string(&member), if same { value } else { old.get() }));
    }
    if !found {
        parts.push(format!("{}:{value}", string(name)));
    }
    Ok(format!("{{{}}}", parts.join(",")))
}

/// Fails unless the text is one JSON value.
pub fn check(document: &str) -> Result<()> {
    if serde_json::from_str::<&RawValue>(document).is_err() {
        bail!("not JSON: {document}");
    }
    Ok(())
}
