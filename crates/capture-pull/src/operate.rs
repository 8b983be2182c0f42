//! What an operator asks about a source, and does with one that is stopped.

use serde::Serialize;
use sync_domain::config::{Postgres, Source};
use sync_domain::ports::Checkpoint;

use crate::deps::Deps;
use crate::halt::Error;

/// How a source stands. Its cursor stays unsaid: it may hold keys of records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Whether it has been read at all since its history with us began.
    pub read: bool,
    /// Why nothing is read any more.
    pub stopped: Option<String>,
    /// Whether a run holds the lease at this moment.
    pub held: bool,
    /// What stands in front of every version.
    pub epoch: u32,
    /// How often the cursor has moved.
    pub revision: u64,
}

pub(crate) async fn status(source: &Source, deps: &Deps) -> Result<Status, Error> {
    let checkpoint = deps.checkpoints.read(source.source.as_str()).await?.unwrap_or_default();
    let Checkpoint { cursor, epoch, revision, stopped, held } = checkpoint;
    Ok(Status { read: cursor.is_some(), stopped, held, epoch: epoch.max(source.epoch()), revision })
}

/// Lets a stopped source be read on behind the cursor that it has: right only where nothing was lost after all.
pub(crate) async fn resume(source: &Source, deps: &Deps) -> Result<Status, Error> {
    deps.checkpoints.resume(source.source.as_str()).await?;
    tracing::warn!(source.id = source.source.as_str(), "the source is resumed by hand");
    status(source, deps).await
}

/// Begins a new history of the source: every version from now on is above every version before. The next run starts at the
/// present state of the source; backfills bring the rest.
pub(crate) async fn resync(source: &Source, postgres: &Postgres, deps: &Deps) -> Result<Status, Error> {
    let epoch = deps.checkpoints.restart(source.source.as_str(), postgres.epoch).await?;
    tracing::warn!(source.id = source.source.as_str(), version = epoch, "the source begins a new epoch");
    status(source, deps).await
}
