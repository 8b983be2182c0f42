//! What cannot go on becomes a failure event, and that a ticket.

use sync_domain::config::Source;
use sync_domain::id::RecordId;
use sync_domain::outcome::{FailureEvent, Reason, Stage};
use sync_domain::ports;
use sync_sources::{self as sources, Row};

use crate::deps::Deps;

/// The failure of one row. The row still stands at its source, so nothing is put into a dead-letter queue: once its cause
/// is gone, the next write of the row or a backfill brings it. The ticket's id is made of the record and its version.
pub(crate) fn of_row(source: &Source, row: &Row, rid: Option<RecordId>, reason: Reason) -> FailureEvent {
    let record = rid.as_ref().map_or("-", RecordId::as_str);
    FailureEvent {
        message_id: format!("{}/{}/{record}/{}", source.source, row.model, row.version),
        model: Some(row.model.clone()),
        rid,
        ..of(source, reason)
    }
}

/// The failure of a table that does not fit its model: one for all of its rows, which stand in `queue`.
pub(crate) fn of_table(source: &Source, row: &Row, place: &str, queue: &str) -> FailureEvent {
    FailureEvent {
        message_id: format!("{}/{}/schema_drift/{place}", source.source, row.model),
        model: Some(row.model.clone()),
        dead_letter_queue: Some(queue.to_owned()),
        ..of(source, Reason::new("schema_drift", place))
    }
}

/// The failure of a source as a whole: the same each time that a run finds it, so that it is one ticket.
pub(crate) fn of_source(source: &Source, epoch: u32, error: &sources::Error) -> FailureEvent {
    let message_id = format!("{}/{epoch}/{}/{}", source.source, error.code, error.place);
    FailureEvent { message_id, ..of(source, Reason::new(error.code, error.place.as_str())) }
}

/// The failure of a source that an earlier run stopped. Told again by each run: whoever stopped it may have died before
/// the bus had the news.
pub(crate) fn of_stopped(source: &Source, epoch: u32, code: &str) -> FailureEvent {
    let message_id = format!("{}/{epoch}/{code}/stopped", source.source);
    FailureEvent { message_id, ..of(source, Reason::new(code, "the source is stopped")) }
}

fn of(source: &Source, reason: Reason) -> FailureEvent {
    FailureEvent {
        stage: Stage::CapturePull,
        reason,
        source: Some(source.source.clone()),
        model: None,
        rid: None,
        key: None,
        event_id: None,
        target: None,
        message_id: String::new(),
        tries: 1,
        dead_letter_queue: None,
    }
}

/// Puts failures on the bus; an error if it did not take every one.
pub(crate) async fn report(deps: &Deps, failures: &[FailureEvent]) -> ports::Result<()> {
    if failures.is_empty() {
        return Ok(());
    }
    let mut results = deps.bus.report(failures).await.into_iter();
    failures.iter().try_for_each(|_| results.next().unwrap_or_else(|| Err(no_answer("events:PutEvents"))))
}

/// What a result that is missing stands for: it confirms nothing.
pub(crate) fn no_answer(operation: &'static str) -> ports::Error {
    ports::Error { kind: ports::Kind::Unavailable, operation, code: "NoAnswer".to_owned(), source: None }
}
