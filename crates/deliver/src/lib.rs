#![doc = include_str!("../README.md")]

pub mod deps;
pub mod pace;
mod send;
pub mod settings;
mod work;

use std::collections::BTreeSet;
use std::sync::Mutex;

use aws_lambda_events::sqs::SqsEvent;
use sync_domain::delivery::filter::Verdict;
use sync_domain::event::ReceivedEvent;
use sync_domain::outcome::Reason;
use sync_lambda::batch::{self, Groups, Plan, Report};
use sync_lambda::deadline::Deadline;

pub use crate::deps::Deps;
use crate::work::{Rows, Work};

/// Messages come again for ordinary reasons here (a target that is down), so only one that has come very often is
/// suspected of killing the process.
const PLAN: Plan = Plan { groups: Groups::SideBySide, alone_from: 100 };

/// Works one batch of the target's queue to an outcome for each of its records.
pub async fn handle(event: SqsEvent, deps: &Deps, deadline: Deadline) -> Result<Report, batch::Error> {
    let hasher = deps.hasher().await.map_err(|error| {
        tracing::warn!(
            error.operation = error.operation,
            error.code = error.code,
            "the ledger's hash key cannot be read"
        );
        Reason::new("key_unavailable", error.operation)
    });
    let rows = match &hasher {
        Ok(hasher) => read_rows(&event, deps, hasher).await,
        Err(_) => Rows::new(),
    };
    let work = Work { deps, deadline, hasher, rows: Mutex::new(rows), trouble: Mutex::default() };
    batch::each(event, PLAN, async |turn| work.work(turn).await).await
}

/// Reads what the ledger knows of all records of a batch that the target asked for, in one call.
async fn read_rows(event: &SqsEvent, deps: &Deps, hasher: &sync_domain::protect::LedgerHasher) -> Rows {
    let target = deps.target.target().target.as_str();
    let keys: BTreeSet<String> = event
        .records
        .iter()
        .filter_map(|record| ReceivedEvent::read(record.body.as_deref()?).ok())
        .filter(|event| !matches!(work::verdict(deps, event), Verdict::Drop(_)))
        .map(|event| hasher.row_key(target, &event.envelope.rid))
        .collect();
    if keys.is_empty() {
        return Rows::new();
    }
    let keys: Vec<String> = keys.into_iter().collect();
    let rows = deps.ledger.read(&keys).await;
    keys.into_iter().zip(rows).collect()
}
