//! The record ids of the rows that a model has now: what a sweep holds the ledger against.
//!
//! The list goes out part by part. Where a part begins and ends is the key of a row, which no answer may hold: it stands in
//! a row of the checkpoint table under the list's name. A part that is asked for again, because its answer was lost, begins
//! where it began, and the next one where that which was read last ended. An id that was passed over would make a sweep
//! delete a record that is there.

use serde::{Deserialize, Serialize};
use sync_domain::config::Source;
use sync_domain::policy::CompiledPolicy;
use sync_domain::ports::{Lease, Taken};
use sync_domain::protect::IdHasher;
use sync_lambda::backfill::State;
use sync_sources::{Keys, Kind};
use tokio::time::Instant;

use crate::Invocation;
use crate::backfill::{self, History, SHARE};
use crate::deps::Deps;
use crate::halt::Error;
use crate::payload::RecordIds;
use crate::run::LEASE;

/// Ids from which on a part ends: with a chunk more it is far below what an answer of Lambda may hold.
const PART: usize = 20_000;

/// One part of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// `running`: there is a next part; `done`: there is none; `waiting`, `busy`: ask again.
    pub state: State,
    /// The epoch that the list was made in; every change that it does not know gets a version of this one or a later.
    pub epoch: u32,
    /// The ids.
    pub rids: Vec<String>,
}

impl Listed {
    fn later(state: State) -> Self {
        Self { state, epoch: 0, rids: Vec::new() }
    }
}

/// What a list remembers; the cursor of its row.
#[derive(Debug, Serialize, Deserialize)]
struct Memory {
    /// The part that was read last.
    part: u64,
    /// Where it began: none at the first row.
    from: Option<String>,
    /// Where it ended: none behind the last row.
    to: Option<String>,
}

/// Lists one part.
pub(crate) async fn list(
    source: &Source,
    asked: &RecordIds,
    deps: &Deps,
    invocation: &Invocation,
) -> Result<Listed, Error> {
    backfill::written(source, &asked.model)?;
    let unknown = || Error::UnknownModel { from: source.source.to_string(), model: asked.model.to_string() };
    let policy = deps.policies.get(&asked.model).ok_or_else(unknown)?;
    // Before live capture has begun, a row that is gone might be removed by nobody, and one that comes be seen by nobody.
    let Some(history) = backfill::history(source, &asked.model, deps).await? else {
        return Ok(Listed::later(State::Waiting));
    };
    let row = format!("{}#record-ids#{}#{}", source.source, asked.model, asked.run);
    let (lease, checkpoint) = match deps.checkpoints.take(&row, &invocation.owner, LEASE).await? {
        Taken::Held(lease, checkpoint) => (lease, checkpoint),
        Taken::Busy | Taken::Stopped(_) => return Ok(Listed::later(State::Busy)),
    };
    let memory = checkpoint.cursor.as_deref().map(serde_json::from_str::<Memory>).transpose();
    let from = match memory {
        Ok(None) if asked.part == 0 => None,
        Ok(Some(memory)) if memory.part == asked.part => memory.from,
        Ok(Some(Memory { part, to: Some(to), .. })) if part.checked_add(1) == Some(asked.part) => Some(to),
        _ => {
            deps.checkpoints.release(&lease).await?;
            return Err(Error::RecordIds);
        }
    };
    let mut list = List { source, policy, deps, asked, history, lease };
    let listed = list.part(from, invocation).await;
    // A lease that stays behind ends by itself.
    let _ = deps.checkpoints.release(&list.lease).await;
    match listed {
        Err(Error::Source(error)) if matches!(error.kind, Kind::Unavailable | Kind::Busy) => {
            tracing::info!(source.id = source.source.as_str(), reason = error.code, "the list waits");
            Ok(Listed::later(State::Waiting))
        }
        listed => listed,
    }
}

struct List<'a> {
    source: &'a Source,
    policy: &'a CompiledPolicy,
    deps: &'a Deps,
    asked: &'a RecordIds,
    history: History,
    lease: Lease,
}

impl List<'_> {
    async fn part(&mut self, from: Option<String>, invocation: &Invocation) -> Result<Listed, Error> {
        let ids = self.deps.ids.hasher().await?;
        let History { epoch, cursor } = &self.history;
        let mut chunks = self.deps.open.chunks(self.source, &self.asked.model, None, cursor).await?;
        let until = invocation.no_page_after.min(Instant::now() + SHARE);
        let (mut rids, mut to) = (Vec::new(), from.clone());
        let to = loop {
            let Some(Keys { keys, cursor }) = chunks.keys(to.as_deref()).await? else { break None };
            for key in &keys {
                rids.push(self.id(ids, key)?);
            }
            to = Some(cursor);
            if rids.len() >= PART || Instant::now() >= until {
                break to;
            }
        };
        let state = if to.is_some() { State::Running } else { State::Done };
        let memory = Memory { part: self.asked.part, from, to };
        let text = serde_json::to_string(&memory).unwrap_or_default();
        if !self.deps.checkpoints.save(&mut self.lease, &text, LEASE).await? {
            return Ok(Listed::later(State::Busy));
        }
        Ok(Listed { state, epoch: *epoch, rids })
    }

    /// A row that has no id is no row to pass over: whatever makes its key unfit, the target may have its record.
    fn id(&self, ids: &IdHasher, key: &str) -> Result<String, Error> {
        let canonical = self.policy.key_of(key).and_then(|key| self.policy.canonical_key(&key));
        let canonical = canonical.map_err(Error::NoRecordId)?;
        Ok(ids.rid(self.source.source.as_str(), self.asked.model.as_str(), &canonical).as_str().to_owned())
    }
}
