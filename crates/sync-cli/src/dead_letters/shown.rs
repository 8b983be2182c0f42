//! What may be seen of a letter: names and codes, and of its body the values of attributes that its model gives a class below
//! `personal`. A value of a person is not shown even where it is protected: it may have been made under another policy
//! than the one at hand.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::value::RawValue;
use sync_aws::sqs::letters::Letter;
use sync_domain::change::{Change, Operation};
use sync_domain::config::{Class, Model};
use sync_domain::event::ReceivedEvent;
use sync_domain::scan::Limits;

/// What fits a queue, as `transform` reads it.
const LIMITS: Limits = Limits { bytes: 1 << 20, depth: 64, items: 500_000, string: 1 << 20, names: 10_000 };
/// The message attributes of our own messages: names, codes and numbers by their making.
const ATTRIBUTES: [&str; 13] = [
    "reason",
    "place",
    "message_id",
    "tries",
    "source",
    "model",
    "operation",
    "type",
    "changed",
    "only",
    "enrich",
    "version",
    "sequence",
];

/// What a body holds, be it an event or a change.
pub(super) struct Body<'a> {
    operation: Operation,
    version: Option<String>,
    /// The key, as an object.
    pub(super) key: &'a str,
    before: Option<&'a str>,
    after: Option<&'a str>,
    /// Whether attributes have the paths of the event or those of the source.
    published: bool,
}

impl<'a> Body<'a> {
    /// None if it is neither an event nor a change.
    pub(super) fn read(body: &'a str) -> Option<Self> {
        if let Ok(event) = ReceivedEvent::read(body) {
            return Some(Self {
                operation: event.envelope.operation,
                version: Some(event.envelope.version.as_str().to_owned()),
                key: event.key,
                before: event.before,
                after: event.after,
                published: true,
            });
        }
        let change = Change::read(body, &LIMITS).ok()?;
        Some(Self {
            operation: change.operation,
            version: change.version.map(|version| version.as_str().to_owned()),
            key: change.key,
            before: change.before,
            after: change.after,
            published: false,
        })
    }
}

/// Prints attributes and body of a letter; without its model no value at all.
pub(super) fn show(letter: &Letter, model: Option<&Model>, out: &mut dyn Write) -> io::Result<()> {
    for (name, value) in letter.attributes.iter().filter(|(name, _)| ATTRIBUTES.contains(&name.as_str())) {
        // As JSON, so that no control character reaches the terminal.
        writeln!(out, "{name}: {}", serde_json::Value::from(value.as_str()))?;
    }
    let Some(body) = Body::read(&letter.body) else {
        return writeln!(out, "body: {} bytes, neither event nor change: not shown", letter.body.len());
    };
    let version = body.version.as_deref().unwrap_or("by its place in the queue");
    writeln!(out, "body: {}, version {version}", body.operation.as_str())?;
    let Some(model) = model else {
        return writeln!(out, "its model is not in the configuration: no value is shown");
    };
    for (image, json) in [("key", Some(body.key)), ("before", body.before), ("after", body.after)] {
        for (path, attribute) in &model.attributes {
            let path = if body.published { attribute.output.as_ref().unwrap_or(path) } else { path };
            let Some(value) = json.and_then(|json| at(json, path)) else { continue };
            let class = attribute.class;
            match class {
                Class::Public | Class::Internal | Class::Identifier => {
                    writeln!(out, "{image}.{path}: {}", plain(value))?;
                }
                Class::Personal => writeln!(out, "{image}.{path}: {}, personal", kind(value))?,
                Class::Sensitive => writeln!(out, "{image}.{path}: {}, sensitive", kind(value))?,
            }
        }
    }
    Ok(())
}

/// The value at a path; of a path through an array the array's own place is not looked into.
fn at<'a>(json: &'a str, path: &str) -> Option<&'a str> {
    let mut here = json;
    for name in path.split('.') {
        let mut members: BTreeMap<String, &'a RawValue> = serde_json::from_str(here).ok()?;
        here = members.remove(name)?.get();
    }
    Some(here)
}

/// JSON escapes control characters in texts; between them there may be line breaks.
fn plain(value: &str) -> String {
    value.replace(|c: char| c.is_control(), " ")
}

fn kind(value: &str) -> &'static str {
    match value.bytes().next() {
        Some(b'"') => "a text",
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        _ => "a number",
    }
}
