//! The checkpoint table in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sync_domain::ports::{Checkpoint, Checkpoints, Lease, Result, Taken};

use crate::fault::Faults;
use crate::lock;

/// Checkpoints by row. The clock stands still unless a test moves it.
#[derive(Debug, Clone, Default)]
pub struct MemoryCheckpoints {
    /// The faults of [`Checkpoints::take`].
    pub take_faults: Faults,
    /// The faults of [`Checkpoints::save`].
    pub save_faults: Faults,
    /// The faults of every other call.
    pub faults: Faults,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    now: Duration,
    rows: BTreeMap<String, Row>,
    saved: Vec<(String, u64, String)>,
}

#[derive(Debug, Clone, Default)]
struct Row {
    checkpoint: Checkpoint,
    token: u64,
    owner: Option<String>,
    until: Duration,
}

impl Row {
    fn free(&mut self) {
        self.owner = None;
        self.until = Duration::ZERO;
    }

    fn seen(&self, now: Duration) -> Checkpoint {
        Checkpoint { held: self.until > now, ..self.checkpoint.clone() }
    }
}

impl MemoryCheckpoints {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves the clock, by which leases end.
    pub fn advance(&self, time: Duration) {
        lock(&self.state).now += time;
    }

    /// Every save that was done, in order: row, token, cursor.
    pub fn saved(&self) -> Vec<(String, u64, String)> {
        lock(&self.state).saved.clone()
    }

    /// Changes the row of a lease if the token is the lease's.
    fn fenced(&self, lease: &Lease, change: impl FnOnce(&mut Row)) -> bool {
        match lock(&self.state).rows.get_mut(&lease.row).filter(|row| row.token == lease.token) {
            Some(row) => {
                change(row);
                true
            }
            None => false,
        }
    }

    /// Changes a row, whoever holds it.
    fn whoever_holds(&self, row: &str, change: impl FnOnce(&mut Row)) -> bool {
        lock(&self.state).rows.get_mut(row).map(change).is_some()
    }
}

#[async_trait]
impl Checkpoints for MemoryCheckpoints {
    async fn read(&self, row: &str) -> Result<Option<Checkpoint>> {
        self.faults.single("memory:ReadCheckpoint", || {
            let state = lock(&self.state);
            Ok(state.rows.get(row).map(|row| row.seen(state.now)))
        })
    }

    async fn take(&self, row: &str, owner: &str, lasts: Duration) -> Result<Taken> {
        self.take_faults.single("memory:Take", || {
            let mut state = lock(&self.state);
            let now = state.now;
            let found = state.rows.entry(row.to_owned()).or_default();
            if found.checkpoint.stopped.is_some() {
                return Ok(Taken::Stopped(found.seen(now)));
            }
            if found.until > now && found.owner.as_deref() != Some(owner) {
                return Ok(Taken::Busy);
            }
            found.token += 1;
            found.owner = Some(owner.to_owned());
            found.until = now + lasts;
            let lease =
                Lease { row: row.to_owned(), token: found.token, revision: found.checkpoint.revision };
            Ok(Taken::Held(lease, found.seen(now)))
        })
    }

    async fn save(&self, lease: &mut Lease, cursor: &str, lasts: Duration) -> Result<bool> {
        self.save_faults.single("memory:Save", || {
            let mut state = lock(&self.state);
            let now = state.now;
            let Some(row) = state.rows.get_mut(&lease.row).filter(|row| row.token == lease.token) else {
                return Ok(false);
            };
            let next = lease.revision + 1;
            let again = row.checkpoint.revision == next && row.checkpoint.cursor.as_deref() == Some(cursor);
            if row.checkpoint.revision != lease.revision && !again {
                return Ok(false);
            }
            row.checkpoint.cursor = Some(cursor.to_owned());
            row.checkpoint.revision = next;
            row.until = now + lasts;
            state.saved.push((lease.row.clone(), lease.token, cursor.to_owned()));
            lease.revision = next;
            Ok(true)
        })
    }

    async fn release(&self, lease: &Lease) -> Result<bool> {
        self.faults.single("memory:Release", || Ok(self.fenced(lease, Row::free)))
    }

    async fn stop(&self, lease: &Lease, reason: &str) -> Result<bool> {
        self.faults.single("memory:Stop", || {
            Ok(self.fenced(lease, |row| {
                row.checkpoint.stopped = Some(reason.to_owned());
                row.free();
            }))
        })
    }

    async fn halt(&self, row: &str, reason: &str) -> Result<bool> {
        self.faults.single("memory:Halt", || {
            Ok(self.whoever_holds(row, |row| {
                row.checkpoint.stopped = Some(reason.to_owned());
                row.token += 1;
                row.free();
            }))
        })
    }

    async fn resume(&self, row: &str) -> Result<bool> {
        self.faults
            .single("memory:Resume", || Ok(self.whoever_holds(row, |row| row.checkpoint.stopped = None)))
    }

    async fn restart(&self, row: &str, at_least: u32) -> Result<u32> {
        self.faults.single("memory:Restart", || {
            let mut state = lock(&self.state);
            let found = state.rows.entry(row.to_owned()).or_default();
            let epoch = found.checkpoint.epoch.max(at_least) + 1;
            found.checkpoint =
                Checkpoint { epoch, revision: found.checkpoint.revision + 1, ..Checkpoint::default() };
            found.token += 1;
            found.free();
            Ok(epoch)
        })
    }
}
