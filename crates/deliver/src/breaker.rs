//! The target's breaker, outside of the domain: its row is read and written, and what feeds and wakes the function made to
//! fit it.
//!
//! **Invariant.** The row is written first, and the schedule is switched off last. Whoever dies in between leaves a row that
//! does not rest, and everybody who finds one goes on: a batch wakes the schedule, and the schedule does the rest.

use std::sync::PoisonError;

use aws_lambda_events::sqs::{SqsEvent, SqsMessage, SqsMessageAttribute};
use sync_domain::delivery::breaker::{Breaker, Halt, Seen};
use sync_domain::delivery::limit::{QUOTA_SPENT, is_still_spent};
use sync_domain::outcome::Outcome;
use sync_domain::ports::{Error, Kind, Received, Result};
use sync_lambda::deadline::Deadline;
use sync_lambda::failpoint;

use crate::deps::Deps;
use crate::work_batch;

/// How often a change of the row is made anew because somebody else was faster.
const TRIES: u32 = 5;
/// How many messages a probe takes at most until one leads to a request: what is stale or unchanged says nothing of the
/// target.
const PROBE_MESSAGES: u32 = 10;
/// Within this time a running function does not wake the schedule twice for the same reason: EventBridge takes a handful
/// of such calls a second for the whole account.
const WOKEN_S: i64 = 30;

/// Notes what a batch has seen. A row that cannot be written is written by the next batch that sees the same.
pub(crate) async fn note(deps: &Deps, known: Breaker, seen: &Seen) {
    let now = (deps.now)();
    let noted = change(deps, known, |row| row.after(seen, now).or_else(|| row.contradicted(now))).await;
    let tended = match noted {
        // Every target that works, in every batch.
        Ok(standing) if standing.rests() => return,
        Ok(standing) => match tell(deps, standing).await {
            Ok(standing) => wake_in_time(deps, &standing).await,
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    if let Err(error) = tended {
        warn(&error, "the target's breaker is not where it should be yet");
    }
}

/// Lets a target be, or sends to it again, because somebody said so.
pub(crate) async fn turn(deps: &Deps, step: impl Fn(&Breaker) -> Option<Breaker>) -> Result<Breaker> {
    let standing = change(deps, standing(deps).await?, step).await?;
    if !standing.rests() {
        deps.switch.wake(true).await?;
    }
    Ok(standing)
}

/// How the target stands.
pub(crate) async fn standing(deps: &Deps) -> Result<Breaker> {
    deps.ledger.breaker(&deps.target.target().target).await
}

/// An invocation of the schedule: the probe of this interval, if the target is away and nobody else has it, and whatever is
/// left to be done of what the row says.
pub(crate) async fn probe(
    deps: &Deps,
    deadline: Deadline,
    mapping: &str,
    outcomes: &mut Vec<Outcome>,
) -> Result<Breaker> {
    let mut row = standing(deps).await?;
    let now = (deps.now)();
    // Before midnight no probe would go out: nothing is received for it, since receives are counted.
    let spent = |halt: &Halt| halt.reason.code == QUOTA_SPENT && is_still_spent(halt.since, now);
    let is_due = !row.halt().is_some_and(spent);
    if let Some(claimed) = row.claimed(now).filter(|_| is_due) {
        if !deps.ledger.set_breaker(&deps.target.target().target, &claimed).await? {
            return Ok(row);
        }
        failpoint::pass("deliver.probe-claimed");
        let seen = try_one(deps, deadline, outcomes).await;
        row = change(deps, claimed, |row| row.probed(&seen, (deps.now)())).await?;
    }
    let row = tell(deps, row).await?;
    let row = apply(deps, row, mapping).await?;
    rest(deps, row).await
}

/// Works messages of the queue, one by one, until one of them led to a request.
async fn try_one(deps: &Deps, deadline: Deadline, outcomes: &mut Vec<Outcome>) -> Seen {
    for _ in 0..PROBE_MESSAGES {
        let taken = match deps.inbox.take().await {
            Ok(Some(taken)) => taken,
            // Others may be hidden. What is not there proves nothing: the breaker stays open.
            Ok(None) => break,
            Err(error) => {
                warn(&error, "a probe could not receive");
                break;
            }
        };
        failpoint::pass("deliver.probe-taken");
        let receipt = taken.receipt.clone();
        let Ok(worked) = work_batch(event_of(taken), deps, deadline, true).await else { break };
        let done = worked.report.response.batch_item_failures.is_empty();
        outcomes.extend(worked.report.outcomes);
        failpoint::pass("deliver.probe-worked");
        if done {
            let removed = deps.inbox.remove(&receipt).await;
            failpoint::pass("deliver.probe-removed");
            if let Err(error) = removed {
                // It comes again, and the ledger knows it.
                warn(&error, "a message that is done was not deleted");
            }
        }
        if !done || worked.seen != Seen::default() {
            return worked.seen;
        }
    }
    Seen::default()
}

/// Reports why the target is not sent to, unless somebody has.
async fn tell(deps: &Deps, row: Breaker) -> Result<Breaker> {
    let Some(halt) = row.halt().filter(|halt| !halt.reported) else { return Ok(row) };
    // Two who report the same write the same ticket.
    let id = format!("breaker-{}", halt.since);
    if deps.parker.report_target(halt.reason.clone(), &id).await {
        change(deps, row, Breaker::reported).await
    } else {
        Ok(row)
    }
}

/// Makes the event source mapping fit the row. Whoever is late, and has set it to what an older row said, finds that the row
/// is another one now and does it again.
async fn apply(deps: &Deps, mut row: Breaker, mapping: &str) -> Result<Breaker> {
    let target = &deps.target.target().target;
    let mut touched = false;
    for _ in 0..TRIES {
        // What somebody else has applied meanwhile, we may have undone.
        if row.applied_at.is_some() && !touched {
            return Ok(row);
        }
        deps.switch.feed(mapping, row.is_fed()).await?;
        failpoint::pass("deliver.mapping-switched");
        touched = true;
        let applied = row.applied((deps.now)());
        if deps.ledger.set_breaker(target, &applied).await? {
            failpoint::pass("deliver.applied");
            match row.halt() {
                None => tracing::info!("the target's queue is read again"),
                Some(Halt { reason, .. }) => {
                    tracing::warn!(
                        reason = reason.code,
                        place = reason.place,
                        "the target's queue is not read"
                    );
                }
            }
            return Ok(applied);
        }
        row = standing(deps).await?;
    }
    Err(overtaken())
}

/// Lets the schedule sleep once there is nothing left to do. If somebody has changed the row meanwhile, their call to wake it
/// may have come before ours.
async fn rest(deps: &Deps, row: Breaker) -> Result<Breaker> {
    if !row.rests() {
        return Ok(row);
    }
    deps.switch.wake(false).await?;
    failpoint::pass("deliver.schedule-asleep");
    let now = standing(deps).await?;
    if !now.rests() {
        deps.switch.wake(true).await?;
    }
    Ok(now)
}

/// Wakes the schedule, which knows the mapping, unless this process just did.
async fn wake_in_time(deps: &Deps, row: &Breaker) -> Result<()> {
    let (since, now) = (row.halt().map_or(0, |halt| halt.since), (deps.now)());
    let recently = |(reason, at): (i64, i64)| reason == since && now.saturating_sub(at) < WOKEN_S;
    if deps.woken.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(recently) {
        return Ok(());
    }
    deps.switch.wake(true).await?;
    failpoint::pass("deliver.schedule-woken");
    *deps.woken.lock().unwrap_or_else(PoisonError::into_inner) = Some((since, now));
    Ok(())
}

/// Writes what `step` makes of the row. If somebody else was faster, it is made anew of what stands there then.
async fn change(
    deps: &Deps,
    mut row: Breaker,
    step: impl Fn(&Breaker) -> Option<Breaker>,
) -> Result<Breaker> {
    for _ in 0..TRIES {
        let Some(next) = step(&row) else { return Ok(row) };
        if deps.ledger.set_breaker(&deps.target.target().target, &next).await? {
            failpoint::pass("deliver.breaker-changed");
            return Ok(next);
        }
        row = standing(deps).await?;
    }
    Err(overtaken())
}

fn overtaken() -> Error {
    Error {
        kind: Kind::Unavailable,
        operation: "dynamodb:PutItem",
        code: "ChangedElsewhere".to_owned(),
        source: None,
    }
}

fn warn(error: &Error, what: &'static str) {
    tracing::warn!(error.operation = error.operation, error.code = error.code, "{what}");
}

/// A message that was taken, as Lambda would hand it over.
fn event_of(taken: Received) -> SqsEvent {
    let mut message = SqsMessage::default();
    message.message_id = Some(taken.id);
    message.receipt_handle = Some(taken.receipt);
    message.body = Some(taken.body);
    message.attributes = taken.system.into_iter().collect();
    for (name, value) in taken.attributes {
        let mut attribute = SqsMessageAttribute::default();
        attribute.string_value = Some(value);
        attribute.data_type = Some("String".to_owned());
        message.message_attributes.insert(name, attribute);
    }
    let mut event = SqsEvent::default();
    event.records = vec![message];
    event
}
