//! A backfill: existing rows of one model, chunk by chunk in key order, beside live capture.
//!
//! Its state stands in a row of the checkpoint table under the backfill's name, with a lease like a source's: a chunk
//! is read, its rows are confirmed by the queue, then its end is saved. Whoever calls decides how long it goes on: each
//! invocation does a few seconds' worth.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sync_domain::config::Source;
use sync_domain::id::{ModelId, TargetId};
use sync_domain::outcome::Stage;
use sync_domain::ports::{Lease, Taken};
use sync_lambda::backfill::{Progress, RunId, State};
use sync_lambda::{failpoint, telemetry};
use sync_sources::Kind;
use tokio::time::Instant;

use crate::Invocation;
use crate::deps::Deps;
use crate::halt::{Error, Halt};
use crate::hand_off::{HandOff, Handed};
use crate::live;
use crate::payload::{Backfill, BackfillRun};
use crate::run::LEASE;

/// How long one invocation goes on, so that whoever waits for it hears of it.
pub(crate) const SHARE: Duration = Duration::from_secs(10);
const NO_RUN: Error = Error::Backfill("there is no such run");
/// The reason that a paused backfill's row has.
const PAUSED: &str = "paused";

/// What a backfill remembers; the cursor of its row.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Memory {
    /// Where the next chunk begins, as the source writes it.
    position: Option<String>,
    rows: u64,
    refused: u64,
    chunks: u64,
    done: bool,
    #[serde(rename = "where")]
    condition: Option<String>,
    target: Option<TargetId>,
}

impl Memory {
    fn progress(&self, state: State) -> Progress {
        let state = if self.done { State::Done } else { state };
        Progress { state, rows: self.rows, refused: self.refused, chunks: self.chunks }
    }

    fn count(&mut self, handed: Handed) {
        self.rows = self.rows.saturating_add(handed.sent as u64);
        self.refused = self.refused.saturating_add(handed.refused as u64);
        self.chunks = self.chunks.saturating_add(1);
    }
}

/// One invocation's share. It waits until the source was read since its history began, and while something holds its
/// transactions up.
pub(crate) async fn step(
    source: &Source,
    asked: &Backfill,
    deps: &Deps,
    invocation: &Invocation,
) -> Result<Progress, Error> {
    written(source, &asked.model)?;
    let Some(history) = history(source, &asked.model, deps).await? else {
        return Ok(Memory::default().progress(State::Waiting));
    };
    let row = row(source, &asked.model, &asked.run);
    let (lease, checkpoint) = match deps.checkpoints.take(&row, &invocation.owner, LEASE).await? {
        Taken::Held(lease, checkpoint) => (lease, checkpoint),
        // Whoever paused it says when it goes on, not the loop that still asks for it.
        Taken::Busy | Taken::Stopped(_) => return status_of(&row, deps, State::Busy).await,
    };
    let memory = match &checkpoint.cursor {
        Some(text) => read(text)?,
        None => {
            Memory { condition: asked.condition.clone(), target: asked.target.clone(), ..Memory::default() }
        }
    };
    let other = |given: bool, same: bool| given && !same;
    if other(asked.condition.is_some(), asked.condition == memory.condition)
        || other(asked.target.is_some(), asked.target == memory.target)
    {
        deps.checkpoints.release(&lease).await?;
        return Err(Error::Backfill("the run was begun with another condition or target; name another run"));
    }
    let mut share = Share { source, deps, asked, history, lease, memory };
    let worked = share.work(invocation).await;
    // A lease that stays behind ends by itself.
    let _ = deps.checkpoints.release(&share.lease).await;
    let state = match worked {
        Ok(()) => State::Running,
        Err(Halt::Overtaken) => return status_of(&row, deps, State::Busy).await,
        Err(Halt::Source(error)) if matches!(error.kind, Kind::Unavailable | Kind::Busy) => {
            tracing::info!(source.id = source.source.as_str(), reason = error.code, "the backfill waits");
            State::Waiting
        }
        Err(Halt::Source(error)) => return Err(error.into()),
        Err(Halt::Port(error)) => return Err(error.into()),
    };
    Ok(share.memory.progress(state))
}

/// Lets a backfill rest: whoever works on it finds the lease lost at the end of the chunk, which is read again later.
pub(crate) async fn pause(source: &Source, run: &BackfillRun, deps: &Deps) -> Result<Progress, Error> {
    written(source, &run.model)?;
    let row = row(source, &run.model, &run.run);
    if !deps.checkpoints.halt(&row, PAUSED).await? {
        return Err(NO_RUN);
    }
    status_of(&row, deps, State::Paused).await
}

pub(crate) async fn resume(source: &Source, run: &BackfillRun, deps: &Deps) -> Result<Progress, Error> {
    written(source, &run.model)?;
    let row = row(source, &run.model, &run.run);
    if !deps.checkpoints.resume(&row).await? {
        return Err(NO_RUN);
    }
    status_of(&row, deps, State::Running).await
}

pub(crate) async fn status(source: &Source, run: &BackfillRun, deps: &Deps) -> Result<Progress, Error> {
    written(source, &run.model)?;
    status_of(&row(source, &run.model, &run.run), deps, State::Running).await
}

async fn status_of(row: &str, deps: &Deps, state: State) -> Result<Progress, Error> {
    let (memory, stopped) = standing(row, deps).await?.ok_or(NO_RUN)?;
    Ok(memory.progress(if stopped { State::Paused } else { state }))
}

/// What a backfill's row says, and whether it is paused.
async fn standing(row: &str, deps: &Deps) -> Result<Option<(Memory, bool)>, Error> {
    let Some(checkpoint) = deps.checkpoints.read(row).await? else { return Ok(None) };
    let memory = checkpoint.cursor.as_deref().map(read).transpose()?.unwrap_or_default();
    Ok(Some((memory, checkpoint.stopped.is_some())))
}

/// Within what a chunk's rows are read.
pub(crate) struct History {
    pub(crate) epoch: u32,
    /// Of live capture.
    pub(crate) cursor: String,
}

/// The epoch of the source and its cursor; none as long as live capture does not read the model under it: a change between
/// the reading of a row and that beginning would be seen by neither.
pub(crate) async fn history(source: &Source, model: &ModelId, deps: &Deps) -> Result<Option<History>, Error> {
    let Some(postgres) = &source.postgres else { return Ok(None) };
    let Some(checkpoint) = deps.checkpoints.read(source.source.as_str()).await? else { return Ok(None) };
    if checkpoint.stopped.is_some() {
        return Err(Error::Backfill("the source is stopped; resync or resume it first"));
    }
    let Some(cursor) = checkpoint.cursor else { return Ok(None) };
    let epoch = checkpoint.epoch.max(postgres.epoch);
    let is_read = live::reads(source, postgres, model, epoch, &*deps.checkpoints).await?;
    Ok(is_read.then_some(History { epoch, cursor }))
}

struct Share<'a> {
    source: &'a Source,
    deps: &'a Deps,
    asked: &'a Backfill,
    history: History,
    lease: Lease,
    memory: Memory,
}

impl Share<'_> {
    async fn work(&mut self, invocation: &Invocation) -> Result<(), Halt> {
        if self.memory.done {
            return Ok(());
        }
        let ids = self.deps.ids.hasher().await?;
        let condition = self.memory.condition.clone();
        let (epoch, open) = (self.history.epoch, &self.deps.open);
        let mut chunks =
            open.chunks(self.source, &self.asked.model, condition.as_deref(), &self.history.cursor).await?;
        let target = self.memory.target.clone();
        let run = Some(self.asked.run.as_str());
        let hand_off = HandOff { deps: self.deps, source: self.source, ids, run, only: target.as_ref() };
        let until = invocation.no_page_after.min(Instant::now() + SHARE);
        let mut rows = 0;
        while !self.memory.done && Instant::now() < until {
            match chunks.chunk(self.memory.position.as_deref(), epoch).await? {
                Some(page) => {
                    failpoint::pass("capture-pull.chunk-read");
                    let handed = hand_off.rows(&page.rows).await?;
                    failpoint::pass("capture-pull.chunk-sent");
                    self.memory.count(handed);
                    self.memory.position = Some(page.cursor);
                    rows += handed.sent;
                }
                None => self.memory.done = true,
            }
            self.save().await?;
            failpoint::pass("capture-pull.chunk-saved");
        }
        let metrics = [("backfill_rows", rows as f64)];
        telemetry::source_metrics(Stage::CapturePull, &self.source.source, &metrics);
        Ok(())
    }

    async fn save(&mut self) -> Result<(), Halt> {
        let text = serde_json::to_string(&self.memory).unwrap_or_default();
        match self.deps.checkpoints.save(&mut self.lease, &text, LEASE).await? {
            true => Ok(()),
            false => Err(Halt::Overtaken),
        }
    }
}

fn row(source: &Source, model: &ModelId, run: &RunId) -> String {
    format!("{}#backfill#{model}#{run}", source.source)
}

pub(crate) fn written(source: &Source, model: &ModelId) -> Result<(), Error> {
    if source.writes(model) {
        return Ok(());
    }
    Err(Error::UnknownModel { from: source.source.to_string(), model: model.to_string() })
}

fn read(text: &str) -> Result<Memory, Error> {
    serde_json::from_str(text).map_err(|_| Error::Backfill("its state cannot be read; name another run"))
}
