//! The exchange model: what is published. CloudEvents 1.0 in JSON (structured mode), with the extension attributes
//! `sequence` and `partitionkey` of its documented extensions and our own.
//!
//! **Invariant.** An [`Event`] is made of [`Protected`] data only, and those come only out of a policy:
//! ```compile_fail,E0451
//! // A record that has not been through the policy is no `Protected`, and there is no other way to make one.
//! let data = r#"{"email":"a@example.com"}"#.to_owned();
//! sync_domain::policy::Protected { data, changed: None, schema: "1".into(), policy_version: "1".into() };
//! ```
//! ```compile_fail,E0423
//! // An event cannot be made of text either.
//! sync_domain::event::Event(String::from("{}"));
//! ```

use std::borrow::Cow;
use std::sync::OnceLock;

use crate::change::Operation;
use crate::id::{EventId, Hop, ModelId, RecordId, SourceId, dedup_id};
use crate::policy::Protected;
use crate::protect::event_id;
use crate::scan::{self, Kind, Limits, Scanner, Value, write_string};
use crate::version::Version;

/// What an event says besides its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The record id.
    pub rid: RecordId,
    /// The version.
    pub version: Version,
    /// The source.
    pub source: SourceId,
    /// The model.
    pub model: ModelId,
    /// What happened.
    pub operation: Operation,
    /// When it was committed at the source, RFC 3339.
    pub occurred_at: Cow<'a, str>,
    /// Where it was made.
    pub origin: Cow<'a, str>,
    /// W3C trace context.
    pub traceparent: Cow<'a, str>,
    /// A keyed hash of the person whose data this is.
    pub subject_key_id: Option<Cow<'a, str>>,
    /// The run of a backfill or replay.
    pub run: Option<Cow<'a, str>>,
    /// The only target of a backfill or replay.
    pub only: Option<Cow<'a, str>>,
}

/// The value of a message attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttributeValue {
    /// `String`
    Text(String),
    /// `String.Array`
    List(Vec<String>),
}

/// An event, ready to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    body: String,
    id: EventId,
    rid: RecordId,
    message_id: String,
    filterable: Filterable,
    attributes: OnceLock<Vec<(&'static str, AttributeValue)>>,
}

/// What the message attributes are made of, when somebody asks for them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Filterable {
    source: SourceId,
    model: ModelId,
    operation: Operation,
    changed: Option<Vec<String>>,
    only: Option<String>,
}

impl Event {
    /// Makes the event of protected data; `message_id` is the `MessageId` of the message that it is made of.
    pub fn new(envelope: &Envelope<'_>, protected: Protected, message_id: &str) -> Self {
        let id = event_id(&envelope.rid, &envelope.version, envelope.operation);
        let head = write_head(envelope, &id, &protected);
        let (data, changed) = protected.into_parts();
        let body = join(&head, data);
        let filterable = Filterable {
            source: envelope.source.clone(),
            model: envelope.model.clone(),
            operation: envelope.operation,
            changed,
            only: envelope.only.clone().map(Cow::into_owned),
        };
        let message_id = message_id.to_owned();
        Self { body, id, rid: envelope.rid.clone(), message_id, filterable, attributes: OnceLock::new() }
    }

    /// The message body, fit for SNS and SQS.
    pub fn body(&self) -> &str {
        &self.body
    }

    /// The event id.
    pub fn id(&self) -> &EventId {
        &self.id
    }

    /// The record id: the message group.
    pub fn rid(&self) -> &RecordId {
        &self.rid
    }

    /// The `MessageDeduplicationId` of its way to the topic and the Enrichment queue: the same message worked again sends
    /// nothing twice, and another message is another send, be it a run, a redrive or another content under one version.
    pub fn dedup_id(&self) -> String {
        dedup_id(self.id.as_str(), Hop::Moved(&self.message_id))
    }

    /// The message attributes to filter on.
    pub fn attributes(&self) -> &[(&'static str, AttributeValue)] {
        self.attributes.get_or_init(|| attributes_of(&self.filterable))
    }

    /// At least the bytes that SNS counts: the body and each attribute's name, type and value.
    pub fn size(&self) -> usize {
        let Filterable { source, model, changed, only, .. } = &self.filterable;
        let names: usize = changed.iter().flatten().map(|name| listed_size(name)).sum();
        let texts = source.as_str().len() + 2 * model.as_str().len() + only.as_ref().map_or(0, String::len);
        // 128: the names and types of the attributes, and the texts that do not vary by more than that.
        self.body.len() + texts + names + 128
    }
}

/// The bytes of a text in a JSON list: quotes, comma and escapes included.
pub(crate) fn listed_size(text: &str) -> usize {
    let more = |byte: u8| match byte {
        b'"' | b'\\' => 1,
        0..=0x1F => 5,
        _ => 0,
    };
    text.len() + 3 + text.bytes().map(more).sum::<usize>()
}

/// What the event needs besides its data, seldom more.
pub(crate) const HEAD_CAPACITY: usize = 896;

/// What SNS takes, in bytes.
pub const MAX_EVENT_SIZE: usize = 256 << 10;

/// The event up to its data.
fn write_head(envelope: &Envelope<'_>, id: &EventId, protected: &Protected) -> String {
    let mut out = String::with_capacity(HEAD_CAPACITY);
    let model = envelope.model.as_str();
    // Names, hashes of our own and numbers need no escaping.
    for part in [
        "{\"specversion\":\"1.0\",\"id\":\"",
        id.as_str(),
        "\",\"source\":\"/datasync/",
        envelope.source.as_str(),
        "\",\"type\":\"",
        model,
        ".",
        envelope.operation.past(),
        "\",\"subject\":",
    ] {
        out.push_str(part);
    }
    write_string(&mut out, envelope.rid.as_str());
    out.push_str(",\"time\":");
    write_string(&mut out, &envelope.occurred_at);
    for part in [
        ",\"datacontenttype\":\"application/json\",\"dataschema\":\"urn:datasync:schema/",
        model,
        "/",
        protected.schema(),
        "\",\"sequence\":\"",
        envelope.version.as_str(),
        "\",\"partitionkey\":",
    ] {
        out.push_str(part);
    }
    write_string(&mut out, envelope.rid.as_str());
    out.push_str(",\"policyversion\":");
    write_string(&mut out, protected.policy_version());
    for (name, value) in [
        (",\"traceparent\":", Some(&envelope.traceparent)),
        (",\"origin\":", Some(&envelope.origin)),
        (",\"subjectkeyid\":", envelope.subject_key_id.as_ref()),
        (",\"run\":", envelope.run.as_ref()),
        (",\"only\":", envelope.only.as_ref()),
    ] {
        if let Some(value) = value {
            out.push_str(name);
            write_string(&mut out, value);
        }
    }
    out.push_str(",\"data\":");
    out
}

/// Puts the head before the data, for which their buffer has room, and closes the event.
fn join(head: &str, mut data: String) -> String {
    data.insert_str(0, head);
    data.push('}');
    match scan::escape_for_queue(&data) {
        Cow::Borrowed(_) => data,
        Cow::Owned(escaped) => escaped,
    }
}

fn attributes_of(filterable: &Filterable) -> Vec<(&'static str, AttributeValue)> {
    let Filterable { source, model, operation, changed, only, .. } = filterable;
    let mut names = vec!["any".to_owned()];
    match changed {
        Some(changed) => names.extend(changed.iter().cloned()),
        None => names.push("unknown".to_owned()),
    }
    let mut attributes = vec![
        ("source", AttributeValue::Text(source.as_str().to_owned())),
        ("model", AttributeValue::Text(model.as_str().to_owned())),
        ("operation", AttributeValue::Text(operation.as_str().to_owned())),
        ("type", AttributeValue::Text(format!("{model}.{}", operation.past()))),
        ("changed", AttributeValue::List(names)),
    ];
    if let Some(only) = only {
        attributes.push(("only", AttributeValue::Text(only.clone())));
    }
    attributes
}

/// A message body that is not an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not JSON, or past the limits.
    #[error(transparent)]
    Scan(#[from] scan::Error),
    /// A member is missing or of the wrong form.
    #[error("member {0} is missing or of the wrong form")]
    Member(&'static str),
}

/// An event as it comes out of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedEvent<'a> {
    /// The event id.
    pub id: EventId,
    /// What it says besides its data.
    pub envelope: Envelope<'a>,
    /// The version of the model's schema.
    pub schema: Cow<'a, str>,
    /// The version of the model's policy.
    pub policy_version: Cow<'a, str>,
    /// The key, protected: an object.
    pub key: &'a str,
    /// The record before, protected: an object.
    pub before: Option<&'a str>,
    /// Whether the model's events have a record before at all, be it `null`.
    pub(crate) has_before: bool,
    /// The record after, protected: an object.
    pub after: Option<&'a str>,
    /// Which attributes changed; none = not known.
    pub changed: Option<Vec<Cow<'a, str>>>,
    /// From the nonce of a sealed value to its fingerprint.
    pub fingerprints: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> ReceivedEvent<'a> {
    /// Reads a message body. Members that it does not know are passed over: old and new run side by side.
    pub fn read(body: &'a str) -> Result<Self, Error> {
        let mut members = Members::default();
        let mut scanner = Scanner::new(body, &EVENT_LIMITS)?;
        scanner.object(|scanner, name| members.take(&name, scanner))?;
        scanner.end()?;
        members.finish()
    }

    /// The fingerprint of a sealed value of this event; none for other texts.
    pub fn fingerprint(&self, text: &str) -> Option<&str> {
        let (_, payload) = crate::protect::sealed_parts(text)?;
        let nonce = payload.get(..16)?;
        self.fingerprints
            .iter()
            .find(|(known, _)| known == nonce)
            .map(|(_, fingerprint)| fingerprint.as_ref())
    }

    /// The event again, as it was received in the message `message_id`, to be published.
    pub fn unchanged(&self, message_id: &str) -> Event {
        Event::new(&self.envelope, Protected::of_received(self), message_id)
    }
}

/// Bounds of an event: it comes out of our own hands, so only its size counts.
const EVENT_LIMITS: Limits =
    Limits { bytes: 1 << 20, depth: 64, items: 500_000, string: 1 << 20, names: 10_000 };

#[derive(Default)]
struct Members<'a> {
    texts: [Option<Cow<'a, str>>; TEXTS.len()],
    key: Option<Value<'a>>,
    before: Option<Value<'a>>,
    after: Option<Value<'a>>,
    changed: Option<Vec<Cow<'a, str>>>,
    fingerprints: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

const TEXTS: [&str; 14] = [
    "id",
    "source",
    "type",
    "subject",
    "time",
    "dataschema",
    "sequence",
    "partitionkey",
    "policyversion",
    "traceparent",
    "origin",
    "subjectkeyid",
    "run",
    "only",
];

impl<'a> Members<'a> {
    fn take(&mut self, name: &str, scanner: &mut Scanner<'a>) -> Result<(), Error> {
        if name == "data" {
            return scanner.object(|scanner, name| self.take_data(&name, scanner));
        }
        let value = scanner.value()?;
        if let Some((slot, _)) = self.texts.iter_mut().zip(TEXTS).find(|(_, text)| *text == name) {
            *slot = value.text();
        }
        Ok(())
    }

    fn take_data(&mut self, name: &str, scanner: &mut Scanner<'a>) -> Result<(), Error> {
        match name {
            "key" => self.key = Some(scanner.value()?),
            "before" => self.before = Some(scanner.value()?),
            "after" => self.after = Some(scanner.value()?),
            "changed" if scanner.peek()? == Kind::Array => {
                let mut names = Vec::new();
                scanner.array(|scanner, _| {
                    names.push(scanner.value()?.text().ok_or(Error::Member("data.changed"))?);
                    Ok::<_, Error>(())
                })?;
                self.changed = Some(names);
            }
            "fingerprints" if scanner.peek()? == Kind::Object => scanner.object(|scanner, nonce| {
                let fingerprint = scanner.value()?.text().ok_or(Error::Member("data.fingerprints"))?;
                self.fingerprints.push((nonce, fingerprint));
                Ok::<_, Error>(())
            })?,
            _ => {
                scanner.value()?;
            }
        }
        Ok(())
    }

    fn text(&self, name: &'static str) -> Result<Cow<'a, str>, Error> {
        self.optional(name).ok_or(Error::Member(name))
    }

    fn optional(&self, name: &'static str) -> Option<Cow<'a, str>> {
        self.texts.iter().zip(TEXTS).find(|(_, text)| *text == name).and_then(|(value, _)| value.clone())
    }

    fn finish(self) -> Result<ReceivedEvent<'a>, Error> {
        let (source, kind, dataschema) = (self.text("source")?, self.text("type")?, self.text("dataschema")?);
        let (model, past) = kind.rsplit_once('.').ok_or(Error::Member("type"))?;
        let source = source.strip_prefix("/datasync/").ok_or(Error::Member("source"))?;
        let is_number = |schema: &String| schema.bytes().all(|byte| byte.is_ascii_digit());
        let schema = dataschema.rsplit_once('/').map(|(_, schema)| schema.to_owned()).filter(is_number);
        let object = |value: Option<Value<'a>>, name| match value {
            Some(value) if value.kind == Kind::Object => Ok(Some(value.raw)),
            Some(value) if !value.is_null() => Err(Error::Member(name)),
            _ => Ok(None),
        };
        let envelope = Envelope {
            rid: RecordId::from_wire(self.text("partitionkey")?),
            version: Version::parse(&self.text("sequence")?).map_err(|_| Error::Member("sequence"))?,
            source: source.parse().map_err(|_| Error::Member("source"))?,
            model: model.parse().map_err(|_| Error::Member("type"))?,
            operation: Operation::parse_past(past).ok_or(Error::Member("type"))?,
            occurred_at: self.text("time")?,
            origin: self.text("origin")?,
            traceparent: self.text("traceparent")?,
            subject_key_id: self.optional("subjectkeyid"),
            run: self.optional("run"),
            only: self.optional("only"),
        };
        Ok(ReceivedEvent {
            id: EventId::from_wire(self.text("id")?),
            envelope,
            schema: Cow::Owned(schema.ok_or(Error::Member("dataschema"))?),
            policy_version: self.text("policyversion")?,
            key: object(self.key, "data.key")?.ok_or(Error::Member("data.key"))?,
            before: object(self.before, "data.before")?,
            has_before: self.before.is_some(),
            after: object(self.after, "data.after")?,
            changed: self.changed,
            fingerprints: self.fingerprints,
        })
    }
}

#[cfg(test)]
mod tests;
