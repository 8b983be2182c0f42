//! A change as captured: the body of a message in the Changes queue.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::scan::{self, Kind, Limits, Scanner, Value, write_string};
use crate::version::Version;

/// What happened to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// It is new.
    Create,
    /// It is another.
    Update,
    /// It is gone.
    Delete,
    /// It is as it was: read by a backfill.
    Snapshot,
}

impl Operation {
    /// All operations.
    pub const ALL: [Self; 4] = [Self::Create, Self::Update, Self::Delete, Self::Snapshot];

    /// The name in changes, configurations and filters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Snapshot => "snapshot",
        }
    }

    /// The name in an event's type: `customer.updated`.
    pub fn past(self) -> &'static str {
        match self {
            Self::Create => "created",
            Self::Update => "updated",
            Self::Delete => "deleted",
            Self::Snapshot => "snapshot",
        }
    }

    /// From the name in changes.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.as_str() == name)
    }

    /// From the name in an event's type.
    pub fn parse_past(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.past() == name)
    }
}

/// A change on its way from capture to transform. Records stand as JSON text and hold only listed attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change<'a> {
    /// The change id: the idempotency key of its capture.
    pub id: Cow<'a, str>,
    /// The source.
    pub source: Cow<'a, str>,
    /// The model.
    pub model: Cow<'a, str>,
    /// What happened.
    pub operation: Operation,
    /// The version; none where the Changes queue's sequence number is it.
    pub version: Option<Version>,
    /// When it was committed at the source, RFC 3339.
    pub occurred_at: Cow<'a, str>,
    /// The system where it was made, so that no target gets back what it wrote itself.
    pub origin: Cow<'a, str>,
    /// W3C trace context.
    pub traceparent: Cow<'a, str>,
    /// A keyed hash of the person whose data this is.
    pub subject_key_id: Option<Cow<'a, str>>,
    /// The run of a backfill or replay: its events go out even when unchanged.
    pub run: Option<Cow<'a, str>>,
    /// The only target of a backfill or replay.
    pub only: Option<Cow<'a, str>>,
    /// The key: an object.
    pub key: &'a str,
    /// The record before: an object, where the source knows it.
    pub before: Option<&'a str>,
    /// The record after: an object; none when deleted.
    pub after: Option<&'a str>,
}

/// A message body that is not a change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not JSON, or past the limits.
    #[error(transparent)]
    Scan(#[from] scan::Error),
    /// A member is missing, of the wrong type, or unknown.
    #[error("member {0} is missing, unknown or of the wrong type")]
    Member(&'static str),
}

impl<'a> Change<'a> {
    /// Writes the message body, fit for SQS.
    pub fn write(&self) -> String {
        let records = self.key.len() + self.before.map_or(4, str::len) + self.after.map_or(4, str::len);
        let mut out = String::with_capacity(records + 512);
        for (name, value) in [
            ("{\"id\":", &self.id),
            (",\"source\":", &self.source),
            (",\"model\":", &self.model),
            (",\"operation\":", &Cow::Borrowed(self.operation.as_str())),
        ] {
            out.push_str(name);
            write_string(&mut out, value);
        }
        out.push_str(",\"version\":");
        match &self.version {
            Some(version) => write_string(&mut out, version.as_str()),
            None => out.push_str("null"),
        }
        for (name, value) in [
            (",\"occurred_at\":", Some(&self.occurred_at)),
            (",\"origin\":", Some(&self.origin)),
            (",\"traceparent\":", Some(&self.traceparent)),
            (",\"subjectkeyid\":", self.subject_key_id.as_ref()),
            (",\"run\":", self.run.as_ref()),
            (",\"only\":", self.only.as_ref()),
        ] {
            if let Some(value) = value {
                out.push_str(name);
                write_string(&mut out, value);
            }
        }
        for (name, value) in
            [(",\"key\":", Some(self.key)), (",\"before\":", self.before), (",\"after\":", self.after)]
        {
            out.push_str(name);
            out.push_str(value.unwrap_or("null"));
        }
        out.push('}');
        match scan::escape_for_queue(&out) {
            Cow::Borrowed(_) => out,
            Cow::Owned(escaped) => escaped,
        }
    }

    /// Reads a message body; records are checked against the limits as they pass.
    pub fn read(body: &'a str, limits: &Limits) -> Result<Self, Error> {
        Self::read_with(body, limits, |_, _, scanner| scanner.value().map(|_| ()))
    }

    /// Reads a message body; `record` reads the value of `before` and `after` itself (it gets the model's name, empty if
    /// that has not come yet, and the member's name).
    pub(crate) fn read_with(
        body: &'a str,
        limits: &Limits,
        mut record: impl FnMut(&str, &str, &mut Scanner<'a>) -> scan::Result<()>,
    ) -> Result<Self, Error> {
        let mut members = Members::default();
        let mut scanner = Scanner::new(body, limits)?;
        scanner.object(|scanner, name| {
            let is_record = matches!(&*name, "before" | "after") && scanner.peek()? == Kind::Object;
            if !is_record {
                return members.take(&name, scanner.value()?);
            }
            let model = members.model.and_then(|model| model.text()).unwrap_or_default();
            let start = scanner.offset();
            record(&model, &name, scanner)?;
            members.take(&name, Value { raw: scanner.since(start), kind: Kind::Object })
        })?;
        scanner.end()?;
        members.finish()
    }
}

/// The members of a change as they are found.
#[derive(Default)]
struct Members<'a> {
    id: Option<Value<'a>>,
    source: Option<Value<'a>>,
    model: Option<Value<'a>>,
    operation: Option<Value<'a>>,
    version: Option<Value<'a>>,
    occurred_at: Option<Value<'a>>,
    origin: Option<Value<'a>>,
    traceparent: Option<Value<'a>>,
    subject_key_id: Option<Value<'a>>,
    run: Option<Value<'a>>,
    only: Option<Value<'a>>,
    key: Option<Value<'a>>,
    before: Option<Value<'a>>,
    after: Option<Value<'a>>,
}

impl<'a> Members<'a> {
    fn take(&mut self, name: &str, value: Value<'a>) -> Result<(), Error> {
        let member = match name {
            "id" => &mut self.id,
            "source" => &mut self.source,
            "model" => &mut self.model,
            "operation" => &mut self.operation,
            "version" => &mut self.version,
            "occurred_at" => &mut self.occurred_at,
            "origin" => &mut self.origin,
            "traceparent" => &mut self.traceparent,
            "subjectkeyid" => &mut self.subject_key_id,
            "run" => &mut self.run,
            "only" => &mut self.only,
            "key" => &mut self.key,
            "before" => &mut self.before,
            "after" => &mut self.after,
            _ => return Err(Error::Member("(another)")),
        };
        *member = Some(value);
        Ok(())
    }

    fn finish(self) -> Result<Change<'a>, Error> {
        let version = match optional_text(self.version, "version")? {
            Some(text) => Some(Version::parse(&text).map_err(|_| Error::Member("version"))?),
            None => None,
        };
        let operation = text(self.operation, "operation")?;
        Ok(Change {
            id: text(self.id, "id")?,
            source: text(self.source, "source")?,
            model: text(self.model, "model")?,
            operation: Operation::parse(&operation).ok_or(Error::Member("operation"))?,
            version,
            occurred_at: text(self.occurred_at, "occurred_at")?,
            origin: text(self.origin, "origin")?,
            traceparent: text(self.traceparent, "traceparent")?,
            subject_key_id: optional_text(self.subject_key_id, "subjectkeyid")?,
            run: optional_text(self.run, "run")?,
            only: optional_text(self.only, "only")?,
            key: optional_object(self.key, "key")?.ok_or(Error::Member("key"))?,
            before: optional_object(self.before, "before")?,
            after: optional_object(self.after, "after")?,
        })
    }
}

fn text<'a>(value: Option<Value<'a>>, name: &'static str) -> Result<Cow<'a, str>, Error> {
    value.and_then(|value| value.text()).ok_or(Error::Member(name))
}

fn optional_text<'a>(value: Option<Value<'a>>, name: &'static str) -> Result<Option<Cow<'a, str>>, Error> {
    match value {
        Some(value) if !value.is_null() => text(Some(value), name).map(Some),
        _ => Ok(None),
    }
}

fn optional_object<'a>(value: Option<Value<'a>>, name: &'static str) -> Result<Option<&'a str>, Error> {
    match value {
        Some(value) if value.kind == Kind::Object => Ok(Some(value.raw)),
        Some(value) if !value.is_null() => Err(Error::Member(name)),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Change<'static> {
        Change {
            id: "evt_1".into(),
            source: "crm".into(),
            model: "customer".into(),
            operation: Operation::Update,
            version: Some(Version::from_log(0, 1, 2)),
            occurred_at: "2026-11-24T20:19:23Z".into(),
            origin: "crm".into(),
            traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
            subject_key_id: Some("s".into()),
            run: None,
            only: None,
            key: r#"{"customer_id":42}"#,
            before: None,
            after: Some(r#"{"customer_id":42,"balance": 1.10,"note":"a\"b"}"#),
        }
    }

    #[test]
    fn a_change_reads_as_it_was_written() {
        let whole = sample();
        let bare = Change {
            version: None,
            subject_key_id: None,
            run: Some("r".into()),
            only: Some("t".into()),
            after: None,
            ..sample()
        };
        for change in [whole, bare] {
            let body = change.write();
            assert_eq!(Change::read(&body, &Limits::default()), Ok(change));
        }
    }

    #[test]
    fn what_is_no_change_says_which_member() {
        let body = sample().write();
        for (from, to, member) in [
            ("\"update\"", "\"upsert\"", "operation"),
            ("\"id\":", "\"ID\":", "(another)"),
            ("\"source\":\"crm\"", "\"source\":1", "source"),
            ("{\"customer_id\":42},", "[],", "key"),
            ("\"version\":\"0", "\"version\":\"x", "version"),
        ] {
            let broken = body.replacen(from, to, 1);
            assert_eq!(Change::read(&broken, &Limits::default()), Err(Error::Member(member)));
        }
    }
}
