//! The row of a target's breaker in the ledger's table.

use aws_sdk_dynamodb::types::AttributeValue;
use sync_domain::delivery::breaker::{Breaker, Failing, Halt, State};
use sync_domain::id::{RecordId, TargetId};
use sync_domain::outcome::Reason;

use super::PK;
use super::item::{Item, get_number, get_text, number, text};

/// How the row's key begins: no record's row has such a key, since a hash in base64url holds no `#`.
const PREFIX: &str = "target#";

/// The row's key.
pub(super) fn key(target: &TargetId) -> String {
    format!("{PREFIX}{target}")
}

/// Whether this is the row of a breaker, and not of a record.
pub(super) fn is_row(item: &Item) -> bool {
    get_text(item, PK).is_some_and(|key| key.starts_with(PREFIX))
}

pub(super) fn item(target: &TargetId, breaker: &Breaker) -> Item {
    let mut item =
        Item::from([(PK.to_owned(), text(key(target))), ("revision".to_owned(), number(breaker.revision))]);
    let mut set = |name: &str, value| item.insert(name.to_owned(), value);
    if let Some(at) = breaker.applied_at {
        set("applied_at", number(at));
    }
    let name = match &breaker.state {
        State::Closed(failing) => {
            // A set cannot be empty.
            if !failing.records.is_empty() {
                let records = failing.records.iter().map(|rid| rid.as_str().to_owned()).collect();
                set("failing", AttributeValue::Ss(records));
                set("failing_since", number(failing.since));
            }
            "closed"
        }
        State::Open { next_probe, .. } => {
            set("next_probe", number(*next_probe));
            "open"
        }
        State::Paused(_) => "paused",
    };
    set("state", text(name));
    if let Some(halt) = breaker.halt() {
        set("since", number(halt.since));
        set("reason", text(&halt.reason.code));
        set("place", text(&halt.reason.place));
        set("reported", AttributeValue::Bool(halt.reported));
    }
    item
}

/// None for a row that this release did not write: whether the target may be sent to is then not known.
pub(super) fn breaker(item: &Item) -> Option<Breaker> {
    let state = match get_text(item, "state")?.as_str() {
        "closed" => {
            let records = item.get("failing").and_then(|records| records.as_ss().ok());
            let records = records.into_iter().flatten().map(|rid| RecordId::from_wire(rid.as_str()));
            let since = get_number(item, "failing_since").unwrap_or_default();
            State::Closed(Failing { since, records: records.collect() })
        }
        "open" => State::Open { halt: halt(item)?, next_probe: get_number(item, "next_probe")? },
        "paused" => State::Paused(halt(item)?),
        _ => return None,
    };
    Some(Breaker {
        revision: get_number(item, "revision")?,
        state,
        applied_at: get_number(item, "applied_at"),
    })
}

fn halt(item: &Item) -> Option<Halt> {
    Some(Halt {
        since: get_number(item, "since")?,
        reason: Reason::new(&get_text(item, "reason")?, get_text(item, "place")?),
        reported: *item.get("reported")?.as_bool().ok()?,
    })
}
