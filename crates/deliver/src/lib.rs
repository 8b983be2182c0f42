#![doc = include_str!("../README.md")]

pub mod deps;
mod http;
pub mod pace;
pub mod settings;
mod work;

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;

use aws_lambda_events::sqs::SqsEvent;
use futures_util::FutureExt;
use sync_domain::delivery::filter::Verdict;
use sync_domain::event::ReceivedEvent;
use sync_domain::outcome::Reason;
use sync_domain::protect::LedgerHasher;
use sync_lambda::batch::{self, Groups, Plan, Report};
use sync_lambda::deadline::Deadline;

pub use crate::deps::Deps;
use crate::work::{Rows, Work};

/// Messages come again for ordinary reasons here (a target that is down), so only one that has come very often is
/// suspected of killing the process.
const PLAN: Plan = Plan { groups: Groups::SideBySide, alone_from: 100 };

/// Works one batch of the target's queue to an outcome for each of its records.
pub async fn handle(event: SqsEvent, deps: &Deps, deadline: Deadline) -> Result<Report, batch::Error> {
    // What is read for all records stands outside the guard that each record is worked under, and has its own.
    let known = AssertUnwindSafe(known(&event, deps)).catch_unwind().await;
    let (hasher, rows) = known.unwrap_or_else(|_| (Err(Reason::new("panicked", "")), Rows::new()));
    let work = Work { deps, deadline, hasher, rows: Mutex::new(rows), trouble: Mutex::default() };
    batch::each(event, PLAN, async |turn| work.work(turn).await).await
}

/// The ledger's hash key, or why it is not there, and what the ledger knows of all records of a batch that the target asked
/// for, read in one call.
async fn known<'a>(event: &SqsEvent, deps: &'a Deps) -> (Result<&'a LedgerHasher, Reason>, Rows) {
    let hasher = match deps.hasher().await {
        Ok(hasher) => hasher,
        Err(error) => {
            tracing::warn!(
                error.operation = error.operation,
                error.code = error.code,
                "the ledger's hash key cannot be read"
            );
            return (Err(Reason::new("key_unavailable", error.operation)), Rows::new());
        }
    };
    let target = deps.target.target().target.as_str();
    let keys = row_keys(event, |body| {
        let event = ReceivedEvent::read(body).ok()?;
        let asked_for = !matches!(work::verdict(deps, &event), Verdict::Drop(_));
        asked_for.then(|| hasher.row_key(target, &event.envelope.rid))
    });
    if keys.is_empty() {
        return (Ok(hasher), Rows::new());
    }
    let rows = deps.ledger.read(&keys).await;
    (Ok(hasher), keys.into_iter().zip(rows).collect())
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
