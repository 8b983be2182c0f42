//! A backfill: the items that the table holds already, page by page, beside its stream.
//!
//! Its state stands in a row of the checkpoint table under the backfill's name, with a lease: a page is read, its items are
//! confirmed by the queue, then its end is saved. Whoever calls decides how long it goes on: each invocation does a few
//! seconds' worth.
//!
//! A snapshot's version is the epoch and the microsecond in which its page was asked for. That has 16 digits and a sequence
//! number of a stream 21 or more, so that every change which the stream tells under this epoch wins over every snapshot.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sync_domain::capture::{self, Draft, Place, Prepared, Same};
use sync_domain::change::Operation;
use sync_domain::id::{ModelId, RecordId, SourceId, TargetId};
use sync_domain::outcome::{FailureEvent, Reason, Stage};
use sync_domain::ports::{self, Items, Lease, Taken};
use sync_domain::protect::IdHasher;
use sync_domain::version::Version;
use sync_lambda::backfill::{Progress, RunId, RunIdError, State};
use sync_lambda::batch::guarded;
use sync_lambda::deadline::Deadline;
use sync_lambda::{failpoint, telemetry};

use crate::deps::Deps;
use crate::item::record;

/// How long one invocation goes on, so that whoever waits for it hears of it.
const SHARE: Duration = Duration::from_secs(10);
/// The time that the last page of an invocation may take.
const MARGIN: Duration = Duration::from_secs(20);
/// How long a lease lasts without a save.
const LEASE: Duration = Duration::from_secs(60);
/// How long the function may still run somewhere as it was before the epoch was raised: its time-out, and some more. What
/// it captures then counts as older than the snapshots.
const SETTLE: Duration = Duration::from_secs(120);
/// The reason that a paused backfill's row has.
const PAUSED: &str = "paused";

/// What `datasync` asks for. A batch of the stream, and a document of the bucket, have other names in front.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The source.
    pub source: SourceId,
    /// What to do.
    pub work: Work,
}

/// What to do with a backfill.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Begin it, or go on.
    Backfill(Asked),
    /// Let it rest.
    PauseBackfill(Run),
    /// Let it go on.
    ResumeBackfill(Run),
    /// Say how far it is.
    BackfillStatus(Run),
}

/// One invocation's share of a backfill.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// The model.
    pub model: ModelId,
    /// The name of the run: chosen by whoever starts it, and named again to go on.
    pub run: String,
    /// A condition in SQL, which nothing here can answer: always refused.
    #[serde(default, rename = "where")]
    pub condition: Option<String>,
    /// The only target that gets the items; all subscribed ones without it. The run remembers it.
    #[serde(default)]
    pub target: Option<TargetId>,
}

/// A backfill by its name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The model.
    pub model: ModelId,
    /// The name of the run.
    pub run: String,
}

/// Why a backfill does not go on. Whoever asked reads it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another source.
    #[error("this function reads {own}, not {asked}: name the function of that source")]
    OtherSource {
        /// The function's own.
        own: SourceId,
        /// The one that was asked for.
        asked: SourceId,
    },
    /// Another model.
    #[error("source {from} does not write model {model}")]
    UnknownModel {
        /// The source.
        from: SourceId,
        /// The model.
        model: ModelId,
    },
    /// It cannot be, as it is asked for or as the table is.
    #[error("the backfill cannot go on: {0}")]
    Backfill(&'static str),
    /// It has a name that none can have.
    #[error("the backfill cannot go on: {0}")]
    Name(#[from] RunIdError),
    /// A service on our side is away or refuses.
    #[error(transparent)]
    Port(#[from] ports::Error),
}

const NO_RUN: Error = Error::Backfill("there is no such run");

/// What a backfill remembers; the cursor of its row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Memory {
    /// Where the next page begins, typed: a key of the table.
    position: Option<String>,
    rows: u64,
    refused: u64,
    chunks: u64,
    done: bool,
    target: Option<TargetId>,
    epoch: u32,
    /// When it was first asked for, in milliseconds since 1970.
    since: u64,
}

impl Memory {
    fn progress(&self, state: State) -> Progress {
        let state = if self.done { State::Done } else { state };
        Progress { state, rows: self.rows, refused: self.refused, chunks: self.chunks }
    }
}

/// Does what is asked for.
pub(crate) async fn work(
    request: &Request,
    deps: &Deps,
    owner: &str,
    deadline: Deadline,
) -> Result<Progress, Error> {
    let own = &deps.table.source;
    if request.source != *own {
        return Err(Error::OtherSource { own: own.clone(), asked: request.source.clone() });
    }
    let checkpoints = &*deps.checkpoints;
    match &request.work {
        Work::Backfill(asked) => step(asked, deps, owner, deadline).await,
        Work::PauseBackfill(run) => {
            let row = row(deps, &run.model, &run.run)?;
            if !checkpoints.halt(&row, PAUSED).await? {
                return Err(NO_RUN);
            }
            status(&row, deps, State::Paused).await
        }
        Work::ResumeBackfill(run) => {
            let row = row(deps, &run.model, &run.run)?;
            if !checkpoints.resume(&row).await? {
                return Err(NO_RUN);
            }
            status(&row, deps, State::Running).await
        }
        Work::BackfillStatus(run) => status(&row(deps, &run.model, &run.run)?, deps, State::Running).await,
    }
}

async fn status(row: &str, deps: &Deps, state: State) -> Result<Progress, Error> {
    let checkpoint = deps.checkpoints.read(row).await?.ok_or(NO_RUN)?;
    let state = if checkpoint.stopped.is_some() { State::Paused } else { state };
    let nothing = Progress { state, rows: 0, refused: 0, chunks: 0 };
    Ok(checkpoint.cursor.as_deref().map(read).transpose()?.map_or(nothing, |memory| memory.progress(state)))
}

async fn step(asked: &Asked, deps: &Deps, owner: &str, deadline: Deadline) -> Result<Progress, Error> {
    let row = row(deps, &asked.model, &asked.run)?;
    if asked.condition.is_some() {
        return Err(Error::Backfill(
            "--where is SQL, and DynamoDB reads a table as a whole: leave it away, and narrow by --target",
        ));
    }
    fits(deps).await?;
    let (lease, checkpoint) = match deps.checkpoints.take(&row, owner, LEASE).await? {
        Taken::Held(lease, checkpoint) => (lease, checkpoint),
        // Whoever paused it says when it goes on, not the loop that still asks for it.
        Taken::Busy | Taken::Stopped(_) => return status(&row, deps, State::Busy).await,
    };
    let now = (deps.now)();
    let mut share = Share { deps, run: &asked.run, lease };
    let worked = match checkpoint.cursor.as_deref().map(read).transpose() {
        Ok(Some(memory)) if asked.target.is_some() && asked.target != memory.target => {
            Err(Error::Backfill("the run was begun for another target; name another run"))
        }
        // Its later pages would be below what the stream told under the raised epoch, and above it before.
        Ok(Some(memory)) if memory.epoch != deps.table.epoch => {
            Err(Error::Backfill("the source's epoch was raised since the run was begun; begin another run"))
        }
        Ok(Some(memory)) => share.work(memory, deadline).await,
        Ok(None) => {
            let memory = Memory {
                position: None,
                rows: 0,
                refused: 0,
                chunks: 0,
                done: false,
                target: asked.target.clone(),
                epoch: deps.table.epoch,
                since: u64::try_from(since_1970(now).as_millis()).unwrap_or(u64::MAX),
            };
            match share.save(&memory).await {
                Ok(true) => share.work(memory, deadline).await,
                Ok(false) => Ok(None),
                Err(error) => Err(error.into()),
            }
        }
        Err(error) => Err(error),
    };
    // A lease that stays behind ends by itself.
    let _ = deps.checkpoints.release(&share.lease).await;
    match worked? {
        Some(progress) => Ok(progress),
        None => status(&row, deps, State::Busy).await,
    }
}

/// Makes sure that the stream tells what happens beside the backfill, and that an item is a record.
async fn fits(deps: &Deps) -> Result<(), Error> {
    let shape = deps.items.shape().await?;
    if !shape.streams {
        return Err(Error::Backfill(
            "the table's stream is off, or carries no whole items: what changes beside the backfill would be lost",
        ));
    }
    let mut key: Vec<&str> = shape.key.iter().map(String::as_str).collect();
    let mut own: Vec<&str> = deps.table.key.iter().map(String::as_str).collect();
    key.sort_unstable();
    own.sort_unstable();
    if key != own {
        return Err(Error::Backfill("the model's key is not the table's: correct the model"));
    }
    Ok(())
}

/// What one invocation does of a run.
struct Share<'a> {
    deps: &'a Deps,
    run: &'a str,
    lease: Lease,
}

impl Share<'_> {
    /// None if another invocation has taken over.
    async fn work(&mut self, mut memory: Memory, deadline: Deadline) -> Result<Option<Progress>, Error> {
        let age = since_1970((self.deps.now)()).saturating_sub(Duration::from_millis(memory.since));
        if memory.epoch > 0 && age < SETTLE {
            return Ok(Some(memory.progress(State::Waiting)));
        }
        let ids = self.deps.ids.hasher().await?;
        let before = memory.rows;
        let until = Instant::now() + SHARE;
        while !memory.done && Instant::now() < until && deadline.allows(MARGIN) {
            let asked_at = (self.deps.now)();
            let page = self.deps.items.page(memory.position.as_deref()).await?;
            failpoint::pass("capture-stream.page-read");
            let sent = self.hand_off(&page, asked_at, &memory, ids).await?;
            failpoint::pass("capture-stream.page-sent");
            let items = page.items.len() as u64;
            memory.rows = memory.rows.saturating_add(sent);
            memory.refused = memory.refused.saturating_add(items.saturating_sub(sent));
            memory.chunks = memory.chunks.saturating_add(1);
            memory.done = page.next.is_none();
            memory.position = page.next;
            if !self.save(&memory).await? {
                return Ok(None);
            }
            failpoint::pass("capture-stream.page-saved");
        }
        let rows = memory.rows.saturating_sub(before) as f64;
        telemetry::source_metrics(Stage::CaptureStream, &self.deps.table.source, &[("backfill_rows", rows)]);
        Ok(Some(memory.progress(State::Running)))
    }

    /// Sends a page, and comes back when the queue has confirmed each item or the bus the failure of those that cannot go
    /// on. Gives the number of the former.
    async fn hand_off(
        &self,
        page: &Items,
        asked_at: SystemTime,
        memory: &Memory,
        ids: &IdHasher,
    ) -> Result<u64, Error> {
        let Deps { table, queue, bus, .. } = self.deps;
        let asked_at = i64::try_from(since_1970(asked_at).as_micros()).unwrap_or(i64::MAX);
        let version = Version::from_decimal(memory.epoch, &asked_at.to_string())
            .map_err(|_| Error::Backfill("the clock does not count"))?;
        let occurred_at = jiff::Timestamp::from_microsecond(asked_at).unwrap_or_default().to_string();
        let prepare = |item: &str| -> Result<Prepared, Reason> {
            let after = record(item, "item")?;
            let key = table.policy.key_of(&after)?;
            let draft = Draft {
                operation: Operation::Snapshot,
                place: Place::Version(version),
                occurred_at: &occurred_at,
                origin: table.source.as_str(),
                traceparent: None,
                run: Some(self.run),
                only: memory.target.as_ref().map(TargetId::as_str),
                key: Some(&key),
                before: None,
                after: Some(&after),
                same: Same::Id,
            };
            capture::prepare(&table.source, &table.policy, ids, &draft)
        };
        let (mut entries, mut failures) = (Vec::with_capacity(page.items.len()), Vec::new());
        for item in &page.items {
            match guarded(|| prepare(item)).and_then(|prepared| prepared) {
                Ok(prepared) => entries.push(prepared.entry),
                Err(reason) => failures.push(self.failure(item, version, reason, ids)),
            }
        }
        let sent = entries.len();
        if sent > 0 {
            let mut results = queue.send(entries).await.into_iter();
            (0..sent)
                .try_for_each(|_| results.next().unwrap_or_else(|| Err(no_answer("sqs:SendMessageBatch"))))?;
        }
        if !failures.is_empty() {
            let mut results = bus.report(&failures).await.into_iter();
            failures
                .iter()
                .try_for_each(|_| results.next().unwrap_or_else(|| Err(no_answer("events:PutEvents"))))?;
        }
        for FailureEvent { rid, reason, .. } in &failures {
            tracing::warn!(
                source.id = table.source.as_str(),
                record.id = rid.as_ref().map(RecordId::as_str),
                reason = reason.code,
                place = reason.place,
                "an item cannot go on"
            );
        }
        Ok(sent as u64)
    }

    /// The failure of one item. It still stands in the table, so nothing is put into the bucket: once its cause is gone its
    /// next change or another backfill brings it.
    fn failure(&self, item: &str, version: Version, reason: Reason, ids: &IdHasher) -> FailureEvent {
        let table = &self.deps.table;
        let (source, model) = (&table.source, table.policy.model());
        let rid = guarded(|| {
            let key = table.policy.key_of(&record(item, "item")?)?;
            let canonical = table.policy.canonical_key(&key)?;
            Ok(ids.rid(source.as_str(), model.as_str(), &canonical))
        });
        let rid: Option<RecordId> = rid.and_then(|rid: Result<RecordId, Reason>| rid).ok();
        let named = rid.as_ref().map_or("-", RecordId::as_str);
        FailureEvent {
            stage: Stage::CaptureStream,
            reason,
            source: Some(source.clone()),
            model: Some(model.clone()),
            message_id: format!("{source}/{model}/{named}/{version}"),
            rid,
            key: None,
            event_id: None,
            target: None,
            tries: 1,
            dead_letter_queue: None,
        }
    }

    async fn save(&mut self, memory: &Memory) -> ports::Result<bool> {
        let text = serde_json::to_string(memory).unwrap_or_default();
        self.deps.checkpoints.save(&mut self.lease, &text, LEASE).await
    }
}

fn row(deps: &Deps, model: &ModelId, run: &str) -> Result<String, Error> {
    let table = &deps.table;
    if model != table.policy.model() {
        return Err(Error::UnknownModel { from: table.source.clone(), model: model.clone() });
    }
    let run: RunId = run.parse()?;
    Ok(format!("{}#backfill#{model}#{run}", table.source))
}

fn read(text: &str) -> Result<Memory, Error> {
    serde_json::from_str(text).map_err(|_| Error::Backfill("its state cannot be read; name another run"))
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// What a result that is missing stands for: it confirms nothing.
fn no_answer(operation: &'static str) -> ports::Error {
    ports::Error { kind: ports::Kind::Unavailable, operation, code: "NoAnswer".to_owned(), source: None }
}
