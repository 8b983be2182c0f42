//! What a source gives to its reader, whatever kind it is.

use async_trait::async_trait;
use sync_domain::change::Operation;
use sync_domain::id::ModelId;
use sync_domain::version::Version;

/// One change of one row, as the source tells it. Records are JSON objects from column to value; the policy picks later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The model of the row's table.
    pub model: ModelId,
    /// What happened. A changed key comes as two rows, a delete and a create.
    pub operation: Operation,
    /// The version; of one row's changes the later has the higher.
    pub version: Version,
    /// When it was committed (or written, where the source does not know more), RFC 3339, UTC.
    pub occurred_at: String,
    /// The row before: whole, or of a delete at least the key. None where the source does not tell.
    pub before: Option<String>,
    /// The whole row after; none when deleted.
    pub after: Option<String>,
    /// The row's table does not fit its model and the source's file says `quarantine`: where (table and column). Such a
    /// row is kept with the dead letters, code `schema_drift`, and goes no further.
    pub set_aside: Option<String>,
}

/// Some changes and how far the source has been read with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The changes, in the order in which they must be handed off.
    pub rows: Vec<Row>,
    /// The cursor behind them: JSON that only the kind of source understands.
    pub cursor: String,
}

/// The keys of some rows, and how far a table has been looked through with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// Each a JSON object from key column to value.
    pub keys: Vec<String>,
    /// The cursor behind them, as of a [`Page`].
    pub cursor: String,
}

/// How much a page may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageSize {
    /// Rows of the source.
    pub rows: u32,
    /// Bytes of their records. One row more may come on top, however large.
    pub bytes: u32,
}

impl Default for PageSize {
    fn default() -> Self {
        Self { rows: 500, bytes: 2 << 20 }
    }
}

/// What kind of failure a reader reports; it decides what happens to the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The database is away, busy or slow: the next run tries again.
    Unavailable,
    /// Another run reads the source at this moment: this one ends.
    Busy,
    /// The database or its schema is not as the configuration says (a grant, a table, a column, a setting): an operator
    /// must act, and until then each run says so.
    Misconfigured,
    /// Changes between the cursor and now cannot be read any more, or the cursor belongs to another history: the source
    /// stops until a resync.
    Lost,
}

/// A failed call of a reader. `code` is a fixed name, `place` names tables, columns, slots and settings, `remedy` says
/// what to do; values of rows never stand in them, nor does the database's own text (it prints values).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code} at {place}: {remedy}")]
pub struct Error {
    /// What decides the way on.
    pub kind: Kind,
    /// E.g. `slot_lost`.
    pub code: &'static str,
    /// E.g. `slot datasync_crm`.
    pub place: String,
    /// What an operator does about it.
    pub remedy: String,
}

/// The result of a reader.
pub type Result<T> = std::result::Result<T, Error>;

/// A source that is read behind a cursor.
///
/// A poll is `begin`, `page` until it gives none, `confirm`. The order is the contract: a page's rows are confirmed by the
/// queue, then its cursor is saved, then confirmed to the source. A reader that dies in between gives the same rows
/// again, with the same versions.
#[async_trait]
pub trait Reader: Send {
    /// Begins a poll behind `cursor` (none: the source was never read; it starts at its present state) and fixes how far
    /// the poll sees. Epoch is what stands in front of every version.
    async fn begin(&mut self, cursor: Option<&str>, epoch: u32) -> Result<()>;

    /// The next rows in bounded memory; none at the end of the poll. Even a poll without rows may end with a page, whose
    /// cursor is further on.
    async fn page(&mut self) -> Result<Option<Page>>;

    /// Lets the source forget what lies behind a saved cursor.
    async fn confirm(&mut self, cursor: &str) -> Result<()>;

    /// How the source stands: names and numbers for metrics (lag, horizon age, retained log), unit at the end of the name.
    async fn gauges(&mut self) -> Result<Vec<(&'static str, f64)>>;
}
