//! A change as a source sends it, with what must become of it.

use anyhow::{Context, Result};

use crate::raw;

/// What a change is counted by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Counter {
    /// A whole number.
    Number(u64),
    /// A whole number in quotes.
    Quoted(u64),
    /// A time, in microseconds since 1970, sent as RFC 3339.
    Time(u64),
    /// The order of arrival.
    Arrival,
    /// JSON text that is no version.
    Broken(&'static str),
}

/// What must become of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It goes its way; the oracle says how far.
    Flows,
    /// The push endpoint refuses it with this code.
    Refused(&'static str),
    /// It cannot go on in this stage: dead letter and ticket with this code.
    Fails(&'static str, &'static str),
}

/// A change. Records stand as JSON text, so that every byte is known.
#[derive(Debug, Clone)]
pub struct Change {
    /// The source that sends it.
    pub source: &'static str,
    /// The model.
    pub model: &'static str,
    /// `create`, `update`, `delete`, `snapshot`.
    pub operation: &'static str,
    /// The key.
    pub key: String,
    /// The version.
    pub counter: Counter,
    /// When it happened.
    pub occurred_at: String,
    /// The record before.
    pub before: Option<String>,
    /// The record after.
    pub after: Option<String>,
    /// What must become of it.
    pub fate: Fate,
}

impl Change {
    /// The change as it is sent.
    pub fn json(&self) -> Result<String> {
        let version = match &self.counter {
            Counter::Number(number) => format!("\"version\":{number},"),
            Counter::Quoted(number) => format!("\"version\":\"{number}\","),
            Counter::Time(microseconds) => format!("\"version\":\"{}\",", time(*microseconds)?),
            Counter::Arrival => String::new(),
            Counter::Broken(text) => format!("\"version\":{text},"),
        };
        let record = |record: &Option<String>| record.clone().unwrap_or_else(|| "null".to_owned());
        let text = format!(
            r#"{{"model":"{}","operation":"{}","key":{},{version}"occurred_at":"{}","before":{},"after":{}}}"#,
            self.model,
            self.operation,
            self.key,
            self.occurred_at,
            record(&self.before),
            record(&self.after)
        );
        raw::check(&text)?;
        Ok(text)
    }

    /// The version as targets see it; none where the order of arrival makes it.
    pub fn version(&self) -> Option<String> {
        match self.counter {
            Counter::Number(number) | Counter::Quoted(number) | Counter::Time(number) => {
                Some(format!("00000000-{number:040}"))
            }
            Counter::Arrival | Counter::Broken(_) => None,
        }
    }

    /// What happened, as the event's type says it.
    pub fn happened(&self) -> &'static str {
        match self.operation {
            "create" => "created",
            "update" => "updated",
            "delete" => "deleted",
            other => {
                if other == "snapshot" {
                    "snapshot"
                } else {
                    ""
                }
            }
        }
    }

    /// The record that it is about.
    pub fn record(&self) -> RecordName {
        RecordName { model: self.model.to_owned(), key: self.key.clone() }
    }
}

/// The name of a record: model and key, as JSON text with its members in order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordName {
    /// The model.
    pub model: String,
    /// The key.
    pub key: String,
}

/// Microseconds since 1970 as RFC 3339, no digit lost.
pub fn time(microseconds: u64) -> Result<String> {
    let time = jiff::Timestamp::from_microsecond(i64::try_from(microseconds)?)
        .context("the time is out of bounds")?;
    Ok(format!("{time:.6}"))
}

/// One request of a source.
#[derive(Debug, Clone)]
pub struct Request {
    /// The source.
    pub source: &'static str,
    /// The changes in it.
    pub changes: Vec<Change>,
}

impl Request {
    /// The body.
    pub fn body(&self) -> Result<String> {
        let changes: Vec<String> = self.changes.iter().map(Change::json).collect::<Result<_>>()?;
        Ok(format!("{{\"changes\":[{}]}}", changes.join(",")))
    }
}
