#![doc = include_str!("../README.md")]

pub mod apart;
mod breaker;
mod collect;
pub mod deps;
mod dynamodb;
pub mod http;
pub mod pace;
pub mod payload;
mod send;
pub mod settings;
mod work;

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;

use aws_lambda_events::sqs::SqsEvent;
use futures_util::FutureExt;
use sync_domain::delivery::breaker::{Breaker, Seen};
use sync_domain::delivery::filter::Verdict;
use sync_domain::event::ReceivedEvent;
use sync_domain::outcome::{Outcome, Reason};
use sync_domain::ports;
use sync_domain::protect::LedgerHasher;
use sync_lambda::batch::{self, Groups, Plan, Report};
use sync_lambda::deadline::Deadline;
use sync_lambda::failpoint;

pub use crate::deps::Deps;
use crate::payload::{Answer, Asked, Nothing, Payload, Work as Wanted};
use crate::work::{Rows, Work};

/// Messages come again for ordinary reasons here (a target that is down), so only one that has come very often is
/// suspected of killing the process.
const PLAN: Plan = Plan { groups: Groups::SideBySide, alone_from: 100 };

/// Why an invocation fails.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The batch cannot be answered for.
    #[error(transparent)]
    Batch(#[from] batch::Error),
    /// Nobody knows what is asked for.
    #[error(transparent)]
    Nothing(#[from] Nothing),
    /// The breaker's row, the schedule or the mapping could not be reached. What was asked for may be asked for again.
    #[error("the target's breaker: {0}; try again")]
    Breaker(#[from] ports::Error),
}

/// Does what an invocation asks for. However it ends, `outcomes` has those of the records that were worked.
pub async fn invoke(
    payload: Payload,
    deps: &Deps,
    deadline: Deadline,
    outcomes: &mut Vec<Outcome>,
) -> Result<Answer, Error> {
    let standing = match payload.read()? {
        Asked::Batch(event) => {
            let report = handle(event, deps, deadline).await?;
            outcomes.extend(report.outcomes);
            return Ok(Answer::Batch(report.response));
        }
        Asked::Work(Wanted::Probe { mapping }) => breaker::probe(deps, deadline, &mapping, outcomes).await?,
        Asked::Work(Wanted::Pause) => breaker::turn(deps, |row| row.pause((deps.now)())).await?,
        Asked::Work(Wanted::Resume) => breaker::turn(deps, Breaker::resume).await?,
        Asked::Work(Wanted::Status) => breaker::standing(deps).await?,
    };
    Ok(Answer::Standing((&standing).into()))
}

/// Works one batch of the target's queue to an outcome for each of its records.
pub async fn handle(event: SqsEvent, deps: &Deps, deadline: Deadline) -> Result<Report, batch::Error> {
    let worked = work_batch(event, deps, deadline, false).await?;
    if let Some(breaker) = worked.breaker {
        breaker::note(deps, breaker, &worked.seen).await;
        failpoint::pass("deliver.noted");
    }
    Ok(worked.report)
}

/// A batch that was worked.
pub(crate) struct Worked {
    pub(crate) report: Report,
    /// What was seen of the target.
    pub(crate) seen: Seen,
    /// The breaker as it stood before, if it could be read.
    pub(crate) breaker: Option<Breaker>,
}

/// Works a batch. Nothing is sent if the breaker says so; the probe does not ask.
pub(crate) async fn work_batch(
    event: SqsEvent,
    deps: &Deps,
    deadline: Deadline,
    probes: bool,
) -> Result<Worked, batch::Error> {
    // What is read for all records stands outside the guard that each record is worked under, and has its own.
    let known = AssertUnwindSafe(known(&event, deps)).catch_unwind().await;
    let Known { hasher, rows, breaker } =
        known.unwrap_or_else(|_| Known::nothing(Err(Reason::new("panicked", ""))));
    failpoint::pass("deliver.ledger-read");
    let halt = breaker.as_ref().and_then(Breaker::halt).filter(|_| !probes);
    let stop = Mutex::new(halt.map(|halt| halt.reason.clone()));
    let arrays = send::arrays(deps);
    let (rows, seen) = (Mutex::new(rows), Mutex::default());
    let work = Work { deps, deadline, hasher, rows, arrays: arrays.as_ref(), probes, stop, seen };
    let groups = batch::each(event, PLAN, &*deps.inbox, async |turn| work.work(turn).await);
    let report = send::collected(deps, deadline, arrays.as_ref(), groups).await?;
    failpoint::pass("deliver.batch-worked");
    Ok(Worked { report, seen: work.seen(), breaker })
}

/// What is read before the records of a batch are worked.
struct Known<'a> {
    /// The ledger's hash key, or why it is not there.
    hasher: Result<&'a LedgerHasher, Reason>,
    /// What the ledger knows of all records that the target asked for.
    rows: Rows,
    /// The target's breaker; none if it could not be read, or if nothing will be sent.
    breaker: Option<Breaker>,
}

impl<'a> Known<'a> {
    fn nothing(hasher: Result<&'a LedgerHasher, Reason>) -> Self {
        Self { hasher, rows: Rows::new(), breaker: None }
    }
}

async fn known<'a>(event: &SqsEvent, deps: &'a Deps) -> Known<'a> {
    let hasher = match deps.hasher().await {
        Ok(hasher) => hasher,
        Err(error) => {
            tracing::warn!(
                error.operation = error.operation,
                error.code = error.code,
                "the ledger's hash key cannot be read"
            );
            return Known::nothing(Err(Reason::new("key_unavailable", error.operation)));
        }
    };
    let target = &deps.target.target().target;
    let keys = row_keys(event, |body| {
        let event = ReceivedEvent::read(body).ok()?;
        let asked_for = !matches!(work::verdict(deps, &event), Verdict::Drop(_));
        asked_for.then(|| hasher.row_key(target.as_str(), &event.envelope.rid))
    });
    if keys.is_empty() {
        return Known::nothing(Ok(hasher));
    }
    match deps.ledger.look(target, &keys).await {
        (Ok(breaker), rows) => {
            let rows = keys.into_iter().zip(rows).collect();
            Known { hasher: Ok(hasher), rows, breaker: Some(breaker) }
        }
        // Without a row nothing is sent: whether the target may be sent to is not known.
        (Err(error), _) => {
            tracing::warn!(
                error.operation = error.operation,
                error.code = error.code,
                "the target's breaker cannot be read"
            );
            Known::nothing(Ok(hasher))
        }
    }
}

/// The distinct keys of the ledger's rows that a batch asks for. A record that makes `key_of` panic has none, and no other
/// record notices: it panics again where it is worked, and fails there by itself.
fn row_keys(event: &SqsEvent, key_of: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let bodies = event.records.iter().filter_map(|record| record.body.as_deref());
    let keys = bodies.filter_map(|body| batch::guarded(|| key_of(body)).ok().flatten());
    keys.collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use sync_testkit::{Record, event_of};

    use super::*;

    #[test]
    fn a_record_that_panics_takes_no_other_records_row_along() {
        let event = event_of(["b", "poison", "a", "b", "none"].map(|body| Record::new(body, body).build()));
        let keys = row_keys(&event, |body| {
            assert_ne!(body, "poison");
            (body != "none").then(|| body.to_owned())
        });
        assert_eq!(keys, ["a", "b"]);
    }
}
