//! Reads the rows that a table has, chunk by chunk in the order of its key: what a backfill sends as `snapshot`.
//!
//! Writers go on meanwhile, and the live reader with them. So each chunk is dated before it is read: a mark W is taken (how
//! far the log is flushed, a number of the shadow table's sequence), then the chunk waits until every transaction that may
//! have written before W is over. The rows then show all that came before W, maybe more. With W as their version, what
//! the live reader has from before W is older, and what it has from after W is newer.
//!
//! Mode `timestamp` needs no mark. A row has a version of its own, and a row that an open transaction may yet write again
//! under a lower one is left to the live reader, which waits for that transaction. The live reader must have begun
//! before.

use std::time::Duration;

use sync_domain::change::Operation;
use sync_domain::config::{Cursor, PullMode};
use sync_domain::id::SourceId;
use sync_domain::version::Version;

use super::connect::{CANCELED, Identity, Session, column, failure};
use super::horizon::{self, Xid, odd_answer, rows};
use super::keyset::{Found, Keyset};
use super::known_keys::KnownKeys;
use super::schema::{self, Types, Wanted};
use super::{sql, timestamp, trigger};
use crate::{Error, Keys, Kind, Page, Result, Row};

/// How long one call waits for transactions that are older than its mark.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of the records of a chunk, one row more at most.
const CHUNK_BYTES: u32 = 2 << 20;

/// How long a chunk's statement may take. A chunk is begun within the first ten seconds of an invocation, may wait for
/// [`PATIENCE`], and must be handed off within the minute that the function has: so the statement ends first, and says why.
const STATEMENT: Duration = Duration::from_secs(30);

/// Reads one table for a backfill. A new one goes on behind any position that another has given.
#[derive(Debug)]
pub struct Snapshot {
    session: Session,
    source: SourceId,
    mode: PullMode,
    wanted: Wanted,
    filter: Option<String>,
    chunk_rows: u32,
    /// Of the live reader's cursor.
    history: Identity,
    statement: Duration,
    /// The table as it was when the first chunk was read.
    table: Option<Opened>,
    /// A mark that was taken, and a transaction that is younger than all that matter to it.
    waiting: Option<(Mark, Xid)>,
}

#[derive(Debug)]
struct Opened {
    keyset: Keyset,
    set_aside: Option<String>,
}

/// Since when a chunk's rows are as they are read.
#[derive(Debug, Clone)]
enum Mark {
    /// The log was flushed so far.
    Log(u64),
    /// A number of the shadow table's sequence.
    Sequence(i64),
    /// Transactions below it are over.
    Xid(Xid),
    /// No open transaction began before.
    Time(String),
}

impl Snapshot {
    /// Reads a table of a source in mode `mode`, by a session that may write (mode `trigger` takes numbers from a
    /// sequence, `compare_keys` notes keys). `filter` is a condition in SQL over the table's columns, written by an
    /// operator: it becomes part of the statement. `history` is that of the live reader's cursor: rows of another one
    /// would get versions that mean nothing beside its changes.
    pub fn new(
        session: Session,
        source: SourceId,
        mode: PullMode,
        wanted: Wanted,
        filter: Option<String>,
        chunk_rows: u32,
        history: Identity,
    ) -> Self {
        Self {
            session,
            source,
            mode,
            wanted,
            filter,
            chunk_rows,
            history,
            statement: STATEMENT,
            table: None,
            waiting: None,
        }
    }

    /// Lets a chunk's statement take another time, 30 s without it.
    #[must_use]
    pub fn with_statement_time(mut self, longest: Duration) -> Self {
        self.statement = longest;
        self
    }

    /// The rows behind a position (none: from the beginning), and the position behind them; none at the end.
    ///
    /// # Errors
    /// `Unavailable` with code `held` while an older transaction is open: the same call may be made again. `Lost` with
    /// the live reader's codes where another history stands behind the address. `Misconfigured` with code `slow_chunk`
    /// where the statement does not end in its time.
    pub async fn chunk(&mut self, position: Option<&str>, epoch: u32) -> Result<Option<Page>> {
        // Each time: behind a proxy the session may have come to another server.
        self.history.check(&Identity::read(&self.session).await?)?;
        self.open().await?;
        let mark = self.mark().await?;
        let Some(opened) = &self.table else { return Err(odd_answer()) };
        let keyset = &opened.keyset;
        let filter = self.filter();
        let (own, parameter) = match &mark {
            Mark::Log(_) | Mark::Sequence(_) => ("true".to_owned(), String::new()),
            // A stamp from beyond the last transaction is another cluster's: no live reader will come by it. The last one
            // that the statement itself sees: one that began since the mark was taken is none of those.
            Mark::Xid(over) => {
                let stamp = self.stamp_column();
                let beyond = format!("{stamp} >= pg_snapshot_xmax(pg_current_snapshot())");
                (format!("{stamp} IS NULL OR {stamp} < $4::xid8 OR {beyond}"), over.text())
            }
            Mark::Time(began) => {
                let stamp = self.stamp_column();
                (format!("{stamp} IS NULL OR {}", timestamp::before(&stamp)), began.clone())
            }
        };
        let condition = format!("({own}) AND NOT ({}) AND ({filter}\n)", keyset.deleted());
        let found = self.read(keyset, position, &condition, &parameter).await?;
        let Some(cursor) = found.last().map(|row| row.position.clone()) else { return Ok(None) };
        if sql::compares(&self.wanted) {
            let keys = found.iter().map(|row| Ok((row.key.as_str(), mark.stamped(row.stamp.as_deref())?)));
            let keys = keys.collect::<Result<Vec<_>>>()?;
            let table = &self.wanted.table;
            KnownKeys { session: &self.session, source: &self.source, table }.note(keys).await?;
        }
        let row = |found: Found| {
            Ok(Row {
                model: self.wanted.model.clone(),
                operation: Operation::Snapshot,
                version: mark.version(epoch, found.stamp.as_deref())?,
                occurred_at: found.written,
                before: None,
                after: Some(found.record),
                set_aside: opened.set_aside.clone(),
            })
        };
        Ok(Some(Page { rows: found.into_iter().map(row).collect::<Result<_>>()?, cursor }))
    }

    /// The keys of the rows behind a position, whoever brings them, and the position behind them; none at the end. A row that
    /// is not among them was not there, and its deletion is older than whatever live capture brings of it.
    ///
    /// # Errors
    /// As those of [`Snapshot::chunk`]; `no_permission` where row security would hide rows.
    pub async fn keys(&mut self, position: Option<&str>) -> Result<Option<Keys>> {
        self.history.check(&Identity::read(&self.session).await?)?;
        self.open().await?;
        // A commit that live capture has passed by may be visible only now.
        self.mark().await?;
        let Some(opened) = &self.table else { return Err(odd_answer()) };
        let keyset = opened.keyset.of_keys();
        let condition = format!("NOT ({})", keyset.deleted());
        let found = self.read(&keyset, position, &condition, "").await?;
        let Some(cursor) = found.last().map(|row| row.position.clone()) else { return Ok(None) };
        Ok(Some(Keys { keys: found.into_iter().map(|row| row.key).collect(), cursor }))
    }

    /// The rows behind a position that meet a condition; no crash takes back what they show.
    async fn read(
        &self,
        keyset: &Keyset,
        position: Option<&str>,
        condition: &str,
        parameter: &str,
    ) -> Result<Vec<Found>> {
        let client = self.session.client();
        // The filter is an operator's own SQL: it runs under the grants of the role that reads, can change nothing, and ends.
        let longest = self.statement.as_millis();
        let begin = format!("ROLLBACK; BEGIN READ ONLY; SET LOCAL statement_timeout = {longest}");
        client.batch_execute(&begin).await.map_err(|error| failure(keyset.place(), &error))?;
        let size = (self.chunk_rows, CHUNK_BYTES);
        let found = keyset.page(&self.session, position, condition, parameter, size).await;
        client.batch_execute("ROLLBACK").await.map_err(|error| failure(keyset.place(), &error))?;
        let found = found.map_err(|error| if error.code == CANCELED { self.slow(error) } else { error })?;
        horizon::flush(&self.session).await?;
        Ok(found)
    }

    fn slow(&self, error: Error) -> Error {
        let what = if self.filter.is_some() { "the condition" } else { "the model's key" };
        Error {
            kind: Kind::Misconfigured,
            code: "slow_chunk",
            remedy: format!(
                "a chunk was not found within {} s: let an index serve {what}, then go on with the same run",
                self.statement.as_secs_f64()
            ),
            ..error
        }
    }

    /// Looks at the table once.
    async fn open(&mut self) -> Result<()> {
        if self.table.is_some() {
            return Ok(());
        }
        horizon::must_be_primary(&self.session).await?;
        let tables = schema::tables(&self.session, std::slice::from_ref(&self.wanted)).await?;
        let table = tables.first().ok_or_else(odd_answer)?;
        let mut types = Types::default();
        types.load(&self.session, table.columns.iter().map(|column| column.type_oid)).await?;
        let set_aside = table.check_drift(&types)?;
        let keyset = match self.mode {
            PullMode::Log | PullMode::Trigger => Keyset::by_key(table)?,
            // That there is a cursor is checked with it.
            PullMode::Timestamp => Keyset::by_cursor(table).and_then(|_| Keyset::by_key(table))?,
        };
        self.table = Some(Opened { keyset, set_aside });
        Ok(())
    }

    /// A mark whose time has come.
    async fn mark(&mut self) -> Result<Mark> {
        let (mark, younger) = match self.waiting.take() {
            Some(waiting) => waiting,
            None => match self.take_mark().await? {
                (mark, Some(younger)) => (mark, younger),
                (mark, None) => return Ok(mark),
            },
        };
        if horizon::wait(&self.session, younger, PATIENCE).await? {
            return Ok(mark);
        }
        self.waiting = Some((mark, younger));
        Err(Error {
            kind: Kind::Unavailable,
            code: "held",
            place: format!("table {}", self.wanted.table),
            remedy: "a transaction that is older than the chunk is still open: the chunk waits for it".into(),
        })
    }

    /// A new mark, and what must be over before it holds. The order matters: first the mark, then who is at work.
    async fn take_mark(&self) -> Result<(Mark, Option<Xid>)> {
        let ask = async |sql: &str| -> Result<String> {
            let answer = rows(&self.session, "the mark of a chunk", sql, &[]).await?;
            column(answer.first().ok_or_else(odd_answer)?, 0)
        };
        let mark = match (self.mode, self.cursor()) {
            (PullMode::Log, _) => {
                let flushed = ask("SELECT (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::text").await?;
                Mark::Log(flushed.parse().map_err(|_| odd_answer())?)
            }
            // A number that no change has.
            (PullMode::Trigger, _) => {
                let number = ask("SELECT nextval('datasync.changes_sequence_seq')::text").await?;
                Mark::Sequence(number.parse().map_err(|_| odd_answer())?)
            }
            (PullMode::Timestamp, Some(Cursor::Timestamp(_))) => {
                let began = Mark::Time(horizon::began(&self.session).await?);
                if horizon::prepared(&self.session).await?.is_empty() {
                    return Ok((began, None));
                }
                began
            }
            (PullMode::Timestamp, _) => {
                return Ok((Mark::Xid(horizon::xmin(&self.session).await?), None));
            }
        };
        Ok((mark, Some(horizon::younger(&self.session).await?)))
    }

    fn cursor(&self) -> Option<&Cursor> {
        self.wanted.reading.as_ref().and_then(|reading| reading.cursor.as_ref())
    }

    /// The cursor's column as an expression.
    fn stamp_column(&self) -> String {
        match self.cursor() {
            Some(Cursor::Xid8(name) | Cursor::Timestamp(name)) => format!("t.{}", schema::quoted(name)),
            None => "NULL".to_owned(),
        }
    }

    fn filter(&self) -> &str {
        self.filter.as_deref().unwrap_or("true")
    }
}

impl Mark {
    /// The version of a row that was read under it.
    fn version(&self, epoch: u32, stamp: Option<&str>) -> Result<Version> {
        match self {
            Self::Log(flushed) => Ok(Version::from_log(epoch, *flushed, u64::MAX)),
            Self::Sequence(number) => trigger::version(epoch, *number, 0),
            Self::Xid(..) | Self::Time(_) => timestamp::version_at(epoch, self.stamped(stamp)?),
        }
    }

    /// The position of the version of a row with a stamp of its own. What has none, or another cluster's, is older than all:
    /// of the stamps that are not below a mark only those are read.
    fn stamped(&self, stamp: Option<&str>) -> Result<u128> {
        let stamp: u64 = stamp.unwrap_or("0").parse().map_err(|_| odd_answer())?;
        Ok(match self {
            Self::Xid(over) if stamp >= over.0 => 0,
            Self::Xid(..) => timestamp::xid_position(Xid(stamp)),
            Self::Log(_) | Self::Sequence(_) | Self::Time(_) => u128::from(stamp),
        })
    }
}
