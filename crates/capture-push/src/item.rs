//! One change of a request: read, checked against its source and model, made into the message for the Changes queue.

use std::borrow::Cow;
use std::collections::BTreeMap;

use sync_domain::capture::{self, CHANGE_TOO_LARGE, Draft, KEY_CHANGED, KEY_MISMATCH, Place, Same};
use sync_domain::change::Operation;
use sync_domain::config::VersionKind;
use sync_domain::event::MAX_EVENT_SIZE;
use sync_domain::id::ModelId;
use sync_domain::outcome::Reason;
use sync_domain::policy::CompiledPolicy;
use sync_domain::ports::QueueEntry;
use sync_domain::protect::IdHasher;
use sync_domain::scan::{self, Kind, Scanner, Value};
use sync_domain::version::Version;

use crate::authentication::Authenticated;
use crate::body::{CHANGE, Span};
use crate::ids;
use crate::refusal::{Fault, fault_in_change};
use crate::time::rfc3339_us;

/// How far a sender's clock may be ahead.
pub(crate) const AHEAD_US: i64 = 300_000_000;

/// Whole numbers below this are no microseconds of a date that anybody counts by (it is March 1973), but very likely
/// seconds or milliseconds.
const SMALLEST_US: i64 = 100_000_000_000_000;

/// What all changes of a request share.
pub struct Context<'a> {
    /// The source.
    pub from: Authenticated<'a>,
    /// Every model of the configuration by name.
    pub models: &'a BTreeMap<ModelId, CompiledPolicy>,
    /// Makes record ids.
    pub ids: &'a IdHasher,
    /// The request's id.
    pub webhook_id: &'a str,
    /// The request's trace context, if it has one.
    pub traceparent: Option<&'a str>,
    /// Microseconds since 1970.
    pub now_us: i64,
}

/// What becomes of one entry of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// It is a change.
    Change(Prepared),
    /// It is nothing that anybody here asked for, and the sender need not know better; the code says what.
    PassedOver(&'static str),
}

/// A change that may go into the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// Its place in the request.
    pub index: usize,
    /// The change id.
    pub id: String,
    /// The message.
    pub entry: QueueEntry,
}

/// Checks one change and makes its message.
pub fn prepare(index: usize, span: Span<'_>, context: &Context<'_>) -> Result<Prepared, Fault> {
    let members = Members::read(span)?;
    let policy = policy(&members, context)?;
    let operation = operation(&members)?;
    let images = Images::read(&members, operation)?;
    let occurred_at = occurred_at(&members, context.now_us)?;
    let queued;
    let place = match version(&members, context)? {
        Some(version) => Place::Version(version),
        None => {
            queued = ids::queued_change(context.from.source.as_str(), context.webhook_id, index);
            Place::Arrival(&queued)
        }
    };
    let draft = Draft {
        operation,
        place,
        occurred_at: &occurred_at,
        origin: context.from.source.as_str(),
        traceparent: context.traceparent,
        run: None,
        only: None,
        key: Some(images.key),
        before: images.before,
        after: images.after,
        same: if matches!(place, Place::Version(_)) { Same::Content } else { Same::Id },
    };
    let prepared = capture::prepare(context.from.source, policy, context.ids, &draft);
    let capture::Prepared { id, entry, .. } = prepared.map_err(|reason| fault(reason, &members))?;
    Ok(Prepared { index, id, entry })
}

/// A member of a change and its place in the body.
#[derive(Debug, Clone, Copy)]
struct Member<'a> {
    value: Value<'a>,
    offset: usize,
}

/// The members of a change as the sender wrote them; `null` stands as if it were not there.
#[derive(Default)]
struct Members<'a> {
    model: Option<Member<'a>>,
    operation: Option<Member<'a>>,
    key: Option<Member<'a>>,
    version: Option<Member<'a>>,
    occurred_at: Option<Member<'a>>,
    before: Option<Member<'a>>,
    after: Option<Member<'a>>,
}

/// Ends the reading of a change.
enum Stop {
    Scan(scan::Error),
    Fault(Fault),
}

impl From<scan::Error> for Stop {
    fn from(error: scan::Error) -> Self {
        Self::Scan(error)
    }
}

impl<'a> Members<'a> {
    fn read(span: Span<'a>) -> Result<Self, Fault> {
        if span.kind != Kind::Object {
            return Err(Fault::new(
                "not_an_object",
                format!("a change is an object; another value stands at byte {}", span.offset),
            ));
        }
        let mut members = Self::default();
        let read = Scanner::new(span.raw, &CHANGE).map_err(Stop::Scan).and_then(|mut scanner| {
            scanner.object(|scanner, name| {
                scanner.peek()?;
                let offset = span.offset + scanner.offset();
                let value = scanner.value()?;
                let member = members.slot(&name).ok_or_else(|| Stop::Fault(unknown_member(offset)))?;
                *member = (!value.is_null()).then_some(Member { value, offset });
                Ok(())
            })
        });
        match read {
            Ok(()) => Ok(members),
            Err(Stop::Fault(fault)) => Err(fault),
            Err(Stop::Scan(error)) => Err(fault_in_change(error, span.offset)),
        }
    }

    fn slot(&mut self, name: &str) -> Option<&mut Option<Member<'a>>> {
        Some(match name {
            "model" => &mut self.model,
            "operation" => &mut self.operation,
            "key" => &mut self.key,
            "version" => &mut self.version,
            "occurred_at" => &mut self.occurred_at,
            "before" => &mut self.before,
            "after" => &mut self.after,
            _ => return None,
        })
    }
}

fn unknown_member(offset: usize) -> Fault {
    Fault::new(
        "unknown_member",
        format!(
            "the name before byte {offset} is none of model, operation, key, version, occurred_at, before, after: leave it out"
        ),
    )
}

/// A member that must be a string.
fn text<'a>(member: Option<Member<'a>>, name: &'static str) -> Result<Cow<'a, str>, Fault> {
    let member = member.ok_or_else(|| missing(name))?;
    member.value.text().ok_or_else(|| wrong_type(name, "a string", member.offset))
}

/// A member that must be an object where it stands.
fn object<'a>(member: Option<Member<'a>>, name: &'static str) -> Result<Option<&'a str>, Fault> {
    match member {
        None => Ok(None),
        Some(member) if member.value.kind == Kind::Object => Ok(Some(member.value.raw)),
        Some(member) => Err(wrong_type(name, "an object", member.offset)),
    }
}

fn missing(name: &'static str) -> Fault {
    Fault::new("missing_member", format!("`{name}` is missing or null: send it with every change"))
}

fn wrong_type(name: &'static str, expected: &'static str, offset: usize) -> Fault {
    Fault::new("wrong_type", format!("`{name}` (byte {offset}) must be {expected}"))
}

/// A reason as the answer says it; its place holds names of the model and numbers only.
fn fault(reason: Reason, members: &Members<'_>) -> Fault {
    let message = match reason.code.as_str() {
        "key_not_object" | "key_attributes" | "key_value" => format!(
            "`key` (byte {}) must have exactly the key attributes of the model, each a string, an integer or a boolean of \
             the declared type (wrong at {})",
            members.key.map_or(0, |member| member.offset),
            reason.place
        ),
        KEY_MISMATCH => {
            "the key attributes in `after` must be there and equal those in `key`".to_owned()
        }
        KEY_CHANGED => "the key attributes in `before` must be there and equal those in `key`: if the key has changed, send \
                        a delete of the old key and a create of the new one"
            .to_owned(),
        CHANGE_TOO_LARGE => format!(
            "the event of this change could not fit {MAX_EVENT_SIZE} bytes: send a reference instead of the content"
        ),
        _ => format!("{reason}: see the model's attributes and key"),
    };
    Fault::new(reason.code, message)
}

fn policy<'a>(members: &Members<'_>, context: &Context<'a>) -> Result<&'a CompiledPolicy, Fault> {
    let name = text(members.model, "model")?;
    let named = name.parse().ok().and_then(|model: ModelId| context.models.get(&model));
    let policy = named.ok_or_else(|| {
        Fault::new("unknown_model", "no model has the name in `model`: use a name from models/")
    })?;
    match context.from.push.models.contains(policy.model()) {
        true => Ok(policy),
        false => Err(Fault::new(
            "forbidden_model",
            "this source may not write the model in `model`: list it in the source's YAML",
        )),
    }
}

fn operation(members: &Members<'_>) -> Result<Operation, Fault> {
    let name = text(members.operation, "operation")?;
    Operation::parse(&name).ok_or_else(|| {
        Fault::new("unknown_operation", "`operation` is one of create, update, delete, snapshot")
    })
}

/// The records of a change.
struct Images<'a> {
    key: &'a str,
    before: Option<&'a str>,
    after: Option<&'a str>,
}

impl<'a> Images<'a> {
    /// Which of them an operation has, must have and cannot have.
    fn read(members: &Members<'a>, operation: Operation) -> Result<Self, Fault> {
        let key = object(members.key, "key")?.ok_or_else(|| missing("key"))?;
        let before = object(members.before, "before")?;
        let after = object(members.after, "after")?;
        match operation {
            Operation::Delete if after.is_some() => Err(Fault::new(
                "after_not_allowed",
                "a deleted record has no `after`: leave it out or send null",
            )),
            Operation::Create | Operation::Update | Operation::Snapshot if after.is_none() => {
                Err(Fault::new("missing_after", "send the whole record in `after`"))
            }
            Operation::Create | Operation::Snapshot if before.is_some() => Err(Fault::new(
                "before_not_allowed",
                "only an update or a delete has a `before`: leave it out or send null",
            )),
            _ => Ok(Self { key, before, after }),
        }
    }
}

fn occurred_at<'a>(members: &Members<'a>, now_us: i64) -> Result<Cow<'a, str>, Fault> {
    let occurred_at = text(members.occurred_at, "occurred_at")?;
    match rfc3339_us(&occurred_at) {
        None => Err(Fault::new(
            "invalid_time",
            "`occurred_at` must be a time as RFC 3339 writes it: 2026-11-24T20:19:23Z",
        )),
        Some(time) if time > now_us.saturating_add(AHEAD_US) => Err(Fault::new(
            "time_ahead",
            "`occurred_at` is more than 5 minutes ahead: set the sender's clock",
        )),
        Some(_) => Ok(occurred_at),
    }
}

fn version(members: &Members<'_>, context: &Context<'_>) -> Result<Option<Version>, Fault> {
    let push = context.from.push;
    let given = match (members.version, push.version) {
        (None, VersionKind::Queue) => return Ok(None),
        (Some(_), VersionKind::Queue) => {
            return Err(Fault::new(
                "version_not_allowed",
                "this source counts by the queue (version: queue): leave `version` out, or declare it in the source's YAML",
            ));
        }
        (None, VersionKind::Integer | VersionKind::Time) => {
            return Err(Fault::new("missing_version", "send `version` with every change of this source"));
        }
        (Some(given), VersionKind::Integer | VersionKind::Time) => given,
    };
    let digits = match given.value.kind {
        Kind::Number => Cow::Borrowed(given.value.raw),
        _ => text(Some(given), "version")?,
    };
    let invalid = |_| {
        Fault::new(
            "invalid_version",
            "`version` must be a whole number, not negative, of at most 40 digits (without fraction and exponent), or for \
             version: time an RFC 3339 time",
        )
    };
    if push.version == VersionKind::Integer {
        return Version::from_decimal(push.epoch, &digits).map(Some).map_err(invalid);
    }
    let time = if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        Version::from_decimal(push.epoch, &digits).map_err(invalid)?;
        let time = digits.parse::<i64>().unwrap_or(i64::MAX);
        if time < SMALLEST_US {
            return Err(Fault::new(
                "invalid_version",
                "`version` is read as microseconds since 1970 and lies before 1973: does the source count in seconds or milliseconds?",
            ));
        }
        time
    } else {
        rfc3339_us(&digits)
            .filter(|time| *time >= 0)
            .ok_or_else(|| invalid(sync_domain::version::Error::Position))?
    };
    if time > context.now_us.saturating_add(AHEAD_US) {
        return Err(Fault::new(
            "version_ahead",
            "`version` is a time more than 5 minutes ahead: set the sender's clock",
        ));
    }
    Version::from_decimal(push.epoch, &time.to_string()).map(Some).map_err(invalid)
}
