#![doc = include_str!("../README.md")]

pub mod backfill;
mod change;
pub mod deps;
mod item;
mod number;
mod park;
pub mod payload;
pub mod settings;

use std::time::Instant;

use serde::Serialize;
use sync_domain::id::RecordId;
use sync_domain::outcome::{Outcome, Reason, Stage};
use sync_domain::ports::{self, QueueEntry};
use sync_domain::protect::IdHasher;
use sync_lambda::backfill::Progress;
use sync_lambda::batch::guarded;
use sync_lambda::deadline::Deadline;
use sync_lambda::{failpoint, telemetry};

use crate::backfill::Request;
use crate::change::{Step, step};
use crate::deps::Deps;
use crate::park::{Parked, park};
use crate::payload::{Batch, Error, ItemFailure, Response, StreamRecord};

/// What an invocation answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// Where a batch begins again.
    Batch(Response),
    /// How far a backfill is.
    Backfill(Progress),
}

/// Why an invocation fails.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub enum Failed {
    /// The batch cannot be worked at all.
    Batch(#[from] Error),
    /// A backfill does not go on.
    Backfill(#[from] backfill::Error),
}

/// One invocation: a batch of the stream, or what `datasync` asks for. `owner` is the invocation's own name.
pub async fn invoke(event: &str, deps: &Deps, owner: &str, deadline: Deadline) -> Result<Answer, Failed> {
    // A batch has a name in front that no request has, and is not read further for that.
    if let Ok(request) = serde_json::from_str::<Request>(event) {
        return Ok(Answer::Backfill(backfill::work(&request, deps, owner, deadline).await?));
    }
    Ok(Answer::Batch(measured(event, deps).await?))
}

/// [`handle`] with its metrics.
async fn measured(event: &str, deps: &Deps) -> Result<Response, Error> {
    let started = Instant::now();
    let (response, outcomes) = handle(event, deps)
        .await
        .inspect_err(|error| tracing::error!(error = %error, "the batch cannot be worked"))?;
    telemetry::batch_metrics(Stage::CaptureStream, None, &outcomes, started.elapsed());
    Ok(response)
}

/// Takes a batch of the stream into the Changes queue; one outcome per record, in their order.
///
/// Everything that can be sent is sent in one call; then the batch is walked in its order up to the first record that has to
/// come again. Records behind it may be in the queue already: when they come again the queue drops them, or the ledger does.
pub async fn handle(event: &str, deps: &Deps) -> Result<(Response, Vec<Outcome>), Error> {
    let batch = Batch::read(event)?;
    let records = batch.records.iter().map(|raw| StreamRecord::read(raw)).collect::<Result<Vec<_>, _>>()?;
    let sequences = records.iter().map(StreamRecord::sequence_number).collect::<Result<Vec<_>, _>>()?;
    records.iter().try_for_each(|record| record.belongs_to(&deps.table.name))?;
    let ids = match deps.ids.hasher().await {
        Ok(ids) => ids,
        Err(error) => {
            log(&error, "the key of record ids cannot be used");
            let retry = || Outcome::Retry(Reason::new("keys_unavailable", error.code.as_str()));
            return Ok(answer(&batch, &sequences, sequences.iter().map(|_| retry()).collect()));
        }
    };
    let mut entries = Vec::with_capacity(records.len());
    let mut prepared = Vec::with_capacity(records.len());
    for (record, sequence) in records.iter().zip(&sequences) {
        prepared.push(Ready::of(record, sequence, deps, ids, &mut entries));
    }
    failpoint::pass("capture-stream.prepared");
    let mut results = send(entries, deps).await.into_iter();

    let mut outcomes = Vec::with_capacity(prepared.len());
    let mut stopped = false;
    for (((ready, record), raw), sequence) in
        prepared.into_iter().zip(&records).zip(&batch.records).zip(&sequences)
    {
        let outcome = match ready {
            // Its result is next whether or not an earlier record has stopped the walk.
            Ready::Sent => match results.next() {
                Some(Ok(())) => Outcome::Published,
                Some(Err(error)) => Outcome::Retry(Reason::new("send_failed", error.code)),
                None => Outcome::Retry(Reason::new("send_failed", "NoResult")),
            },
            _ if stopped => Outcome::Retry(Reason::new("behind_failed", "")),
            Ready::Ignored => Outcome::Filtered("ttl"),
            Ready::Refused(reason, rid) => {
                let event_id = record.event_id();
                let parked = Parked { record: raw, sequence, event_id: &event_id, rid: rid.as_ref() };
                park(parked, reason, deps).await
            }
        };
        stopped |= matches!(outcome, Outcome::Retry(_));
        outcomes.push(outcome);
    }
    failpoint::pass("capture-stream.walked");
    Ok(answer(&batch, &sequences, outcomes))
}

/// What is done with a record when it is its turn.
enum Ready {
    /// Its message is among those that are sent.
    Sent,
    /// Nothing.
    Ignored,
    /// It cannot go on for good.
    Refused(Reason, Option<RecordId>),
}

impl Ready {
    /// Makes the message. What panics would panic each time it came, and hold up the shard: it is refused.
    fn of(
        record: &StreamRecord<'_>,
        sequence: &str,
        deps: &Deps,
        ids: &IdHasher,
        entries: &mut Vec<QueueEntry>,
    ) -> Self {
        let made = guarded(|| step(record, sequence, &deps.table, ids)).and_then(|made| made);
        match made {
            Ok(Step::Send(prepared)) => {
                entries.push(prepared.entry);
                Self::Sent
            }
            Ok(Step::Ignore) => Self::Ignored,
            Err(reason) => {
                let rid = guarded(|| change::rid(record, &deps.table, ids)).ok().flatten();
                Self::Refused(reason, rid)
            }
        }
    }
}

async fn send(entries: Vec<QueueEntry>, deps: &Deps) -> Vec<ports::Result<()>> {
    if entries.is_empty() {
        return Vec::new();
    }
    let results = deps.queue.send(entries).await;
    failpoint::pass("capture-stream.sent");
    // One line for all: a queue that is away fails them alike.
    if let Some(error) = results.iter().find_map(|result| result.as_ref().err()) {
        log(error, "the queue did not take every change");
    }
    results
}

/// The batch begins again at the first record that is not done. Of a document that somebody hands in again, one that is
/// parked once more is not done either: the document it stands in now may be that very one, and must stay.
fn answer(batch: &Batch<'_>, sequences: &[String], outcomes: Vec<Outcome>) -> (Response, Vec<Outcome>) {
    let left = |outcome: &Outcome| match outcome {
        Outcome::Retry(_) => true,
        Outcome::DeadLettered(_) => batch.redriven,
        _ => false,
    };
    let failed = outcomes.iter().position(left);
    let first = failed.and_then(|at| sequences.get(at));
    let failure = first.map(|sequence| ItemFailure { item_identifier: sequence.clone() });
    (Response { batch_item_failures: failure.into_iter().collect() }, outcomes)
}

fn log(error: &ports::Error, what: &'static str) {
    tracing::error!(error.operation = error.operation, error.code = error.code, "{what}");
}
