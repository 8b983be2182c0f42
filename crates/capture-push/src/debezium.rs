//! Change events of Debezium, as its HTTP sink posts them: one, or several in an array; with the schema around them or
//! without.
//!
//! The event names a table and the source's YAML its model; the key is the model's, out of the row. The version is the
//! place in the database's log (`place`), so that Debezium may send again as often as it likes.

mod envelope;
mod place;
mod toast;

use jiff::Timestamp;
use sync_domain::capture::{self, CHANGE_TOO_LARGE, Draft, KEY_CHANGED, Place, Same};
use sync_domain::change::Operation;
use sync_domain::event::MAX_EVENT_SIZE;
use sync_domain::outcome::Reason;
use sync_domain::policy::CompiledPolicy;

use self::envelope::{Envelope, Message, Op};
use crate::body::Span;
use crate::item::{AHEAD_US, Context, Item, Prepared};
use crate::refusal::Fault;

/// The code of what comes of a table that the source's YAML gives no model.
const UNMAPPED_TABLE: &str = "unmapped_table";

/// Checks one event and makes its message.
pub fn prepare(index: usize, span: Span<'_>, context: &Context<'_>) -> Result<Item, Fault> {
    let event = match envelope::read(span)? {
        Message::Event(event) => event,
        Message::PassedOver(what) => return Ok(Item::PassedOver(what)),
    };
    let Some(policy) = policy(&event, context)? else { return Ok(Item::PassedOver(UNMAPPED_TABLE)) };
    let operation = operation(event.op)?;
    let (before, after) = rows(&event, operation)?;
    let completed = after.map(|after| toast::complete(after, before, policy)).transpose()?;
    let after = completed.as_deref();
    let row = after.or(before).ok_or_else(|| missing("before"))?;
    let key = policy.key_of(row).map_err(fault)?;
    let version = place::version(&event.source, operation, context.from.push.epoch)?;
    let draft = Draft {
        operation,
        place: Place::Version(version),
        occurred_at: &occurred_at(event.committed_us, context.now_us)?,
        origin: context.from.source.as_str(),
        traceparent: context.traceparent,
        run: None,
        only: None,
        key: Some(&key),
        before,
        after,
        same: Same::Content,
    };
    let prepared = capture::prepare(context.from.source, policy, context.ids, &draft);
    let capture::Prepared { id, entry, .. } = prepared.map_err(fault)?;
    Ok(Item::Change(Prepared { index, id, entry }))
}

/// The policy of the event's table; none if the source's YAML says that nothing of it is wanted.
fn policy<'a>(event: &Envelope<'_>, context: &Context<'a>) -> Result<Option<&'a CompiledPolicy>, Fault> {
    let table = event.source.table_name().ok_or_else(|| missing("source.table"))?;
    let model = context.from.push.tables.get(&table).ok_or_else(|| {
        Fault::new(
            "unknown_table",
            "the source's YAML does not list the table in `source`: give it a model there, or null to pass it over",
        )
    })?;
    let Some(model) = model else { return Ok(None) };
    let policy = context.models.get(model);
    policy.map(Some).ok_or_else(|| {
        Fault::new("unknown_model", "no model has the name that the source's YAML gives the table")
    })
}

fn operation(op: Op) -> Result<Operation, Fault> {
    match op {
        Op::Create => Ok(Operation::Create),
        Op::Update => Ok(Operation::Update),
        Op::Delete => Ok(Operation::Delete),
        Op::Read => Ok(Operation::Snapshot),
        Op::Truncate => Err(Fault::new(
            "truncated",
            "the table was truncated, which says nothing of single records: raise the source's epoch, then let Debezium take \
             a snapshot; to go on without, set skipped.operations=t",
        )),
    }
}

/// The rows of an event, as its operation has them.
fn rows<'a>(event: &Envelope<'a>, operation: Operation) -> Result<(Option<&'a str>, Option<&'a str>), Fault> {
    match operation {
        Operation::Create | Operation::Snapshot => {
            Ok((None, Some(event.after.ok_or_else(|| missing("after"))?)))
        }
        Operation::Update => Ok((event.before, Some(event.after.ok_or_else(|| missing("after"))?))),
        Operation::Delete => Ok((Some(event.before.ok_or_else(|| missing("before"))?), None)),
    }
}

fn occurred_at(committed_us: Option<i64>, now_us: i64) -> Result<String, Fault> {
    let committed_us = committed_us.ok_or_else(|| missing("source.ts_ms"))?;
    if committed_us > now_us.saturating_add(AHEAD_US) {
        return Err(Fault::new(
            "time_ahead",
            "the time in `source` is more than 5 minutes ahead: set the database's clock",
        ));
    }
    let time = Timestamp::from_microsecond(committed_us);
    time.map(|time| time.to_string()).map_err(|_| {
        Fault::new("invalid_time", "the time in `source` is not one: send ts_us, ts_ms or ts_ns")
    })
}

fn missing(name: &'static str) -> Fault {
    Fault::new("missing_member", format!("`{name}` is missing or null: send the event as Debezium wrote it"))
}

/// A reason as the answer says it; its place holds names of the model only.
fn fault(reason: Reason) -> Fault {
    let message = match reason.code.as_str() {
        "key_missing_in_record" | "key_value" => format!(
            "the row must have the model's key attribute {}, as a string, an integer or a boolean of the declared type; a \
             deleted row of PostgreSQL has the columns of its replica identity",
            reason.place
        ),
        KEY_CHANGED => {
            "the model's key attributes differ between `before` and `after`: the model's key must be the \
                        table's primary key, of which Debezium makes a delete and a create"
                .to_owned()
        }
        CHANGE_TOO_LARGE => format!(
            "the event of this change could not fit {MAX_EVENT_SIZE} bytes: take large columns off the model"
        ),
        _ => format!("{reason}: see the model's attributes and key"),
    };
    Fault::new(reason.code, message)
}
