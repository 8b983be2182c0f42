//! Backfills as whoever asks for one sees them, be it of a database or of a table: the run's name, and how far it is.

use serde::{Deserialize, Serialize};

/// How a backfill stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Call again.
    Running,
    /// What it needs is not there yet; call again later. Each function says for what.
    Waiting,
    /// Another invocation works on it.
    Busy,
    /// Somebody paused it.
    Paused,
    /// Every row was handed off.
    Done,
}

/// How far a backfill is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// How it stands.
    pub state: State,
    /// Rows that the queue confirmed.
    pub rows: u64,
    /// Rows that cannot go on and have a ticket.
    pub refused: u64,
    /// Chunks.
    pub chunks: u64,
}

/// The name of a run: 1 to 64 lower-case letters, digits and hyphens. It stands in messages, rows and deduplication ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(String);

/// A text that is no name of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the name of a run has 1 to 64 lower-case letters, digits and hyphens")]
pub struct RunIdError;

impl RunId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RunId {
    type Error = RunIdError;

    fn try_from(name: String) -> Result<Self, RunIdError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let fits = (1..=64).contains(&name.len()) && name.bytes().all(allowed);
        if fits { Ok(Self(name)) } else { Err(RunIdError) }
    }
}

impl std::str::FromStr for RunId {
    type Err = RunIdError;

    fn from_str(name: &str) -> Result<Self, RunIdError> {
        name.to_owned().try_into()
    }
}

impl From<RunId> for String {
    fn from(run: RunId) -> Self {
        run.0
    }
}

impl std::fmt::Display for RunId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
