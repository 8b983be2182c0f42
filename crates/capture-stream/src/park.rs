//! Parking: a record that cannot go on is put into the dead-letter bucket whole, and reported.

use serde::Serialize;
use serde_json::value::RawValue;
use sync_domain::id::RecordId;
use sync_domain::outcome::{FailureEvent, Outcome, Reason, Stage};
use sync_lambda::failpoint;

use crate::deps::Deps;

/// A record that is parked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parked<'a> {
    /// As it came.
    pub(crate) record: &'a RawValue,
    /// Its place in the stream.
    pub(crate) sequence: &'a str,
    /// Its id at DynamoDB.
    pub(crate) event_id: &'a str,
    /// The record id, as far as the key could be read.
    pub(crate) rid: Option<&'a RecordId>,
}

/// The document in the bucket. It has the record where Lambda's own documents have the batch, so that both are handed to the
/// function again in the same way.
#[derive(Serialize)]
struct Document<'a> {
    source: &'a str,
    reason: &'a Reason,
    payload: Payload<'a>,
}

#[derive(Serialize)]
struct Payload<'a> {
    #[serde(rename = "Records")]
    records: [&'a RawValue; 1],
}

/// Puts the record into the bucket, and only when it stands there reports it. If either fails the record comes again
/// ([`Outcome::Retry`]) and is parked under the same name.
pub(crate) async fn park(parked: Parked<'_>, reason: Reason, deps: &Deps) -> Outcome {
    let source = deps.table.source.as_str();
    let Parked { record, sequence, event_id, rid } = parked;
    let document = Document { source, reason: &reason, payload: Payload { records: [record] } };
    let Ok(document) = serde_json::to_string(&document) else {
        return Outcome::Retry(Reason::new("dead_letter_failed", reason.code));
    };
    // A sequence number is a name in its shard; nobody says that no other shard has it.
    let name = format!("capture-stream/{source}/{sequence}-{event_id}.json");
    if let Err(error) = deps.dead_letters.put(&name, document).await {
        tracing::error!(
            error.operation = error.operation,
            error.code = error.code,
            "the dead-letter bucket fails"
        );
        return Outcome::Retry(Reason::new("dead_letter_failed", reason.code));
    }
    failpoint::pass("capture-stream.parked");
    let failure = FailureEvent {
        stage: Stage::CaptureStream,
        reason: reason.clone(),
        source: Some(deps.table.source.clone()),
        model: Some(deps.table.policy.model().clone()),
        rid: rid.cloned(),
        key: None,
        event_id: None,
        target: None,
        message_id: sequence.to_owned(),
        tries: 1,
        dead_letter_queue: Some(deps.dead_letters.place(&name)),
    };
    let reported = deps.bus.report(std::slice::from_ref(&failure)).await;
    failpoint::pass("capture-stream.reported");
    match reported.as_slice() {
        [Ok(())] => {
            tracing::warn!(
                source.id = source,
                message.id = sequence,
                record.id = rid.map(RecordId::as_str),
                reason = reason.code,
                place = reason.place,
                "a record was parked"
            );
            Outcome::DeadLettered(reason)
        }
        _ => Outcome::Retry(Reason::new("failure_report_failed", reason.code)),
    }
}
