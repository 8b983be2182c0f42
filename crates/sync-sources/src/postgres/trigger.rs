//! Mode `trigger`: reads the shadow table that triggers write.
//!
//! A transaction that is still open may yet write rows with low transaction ids and low sequence numbers, so neither is a
//! place to go on from by itself. A poll takes whole transactions: all below the oldest open one that were not read
//! before. Of these it gives the rows by sequence number, which is taken while the row is locked: per row it counts as the
//! writes came, where transaction ids do not. It is also the version, doubled to leave room for the second half of a
//! changed key.
//!
//! A row's earlier change can come a poll later than its later one, when the transaction that made it has the higher id.
//! The version then says that it is stale.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sync_domain::change::Operation;
use sync_domain::id::SourceId;
use sync_domain::version::Version;
use tokio_postgres::Row as SqlRow;

use super::connect::{Identity, Session, column};
use super::horizon::{self, Xid, odd_answer, rows};
use super::schema::{self, Types, Wanted};
use super::sql;
use crate::{Error, Kind, Page, PageSize, Reader, Result, Row};

/// A statement deletes at most so many rows, and a call of `confirm` runs at most so many statements: what is left is for
/// the next, and no lock is held for long.
const PRUNE_ROWS: u32 = 5_000;
const PRUNE_STATEMENTS: u32 = 10;

/// How far the source is pruned: read in the same snapshot as the rows, so that none is missed in between.
const PRUNED: &str = "SELECT pruned::text FROM datasync.sources WHERE source = $1";

const INSTALL: &str = "run what `datasync sql` prints for the source";

/// The most rows that are counted as waiting.
const COUNTED: u32 = 100_000;

/// Reads one source by its shadow table.
#[derive(Debug)]
pub struct Trigger {
    session: Session,
    source: SourceId,
    /// Who reads: each reader of a source holds back what it has not confirmed.
    reader: String,
    tables: BTreeMap<String, Table>,
    size: PageSize,
    poll: Option<Poll>,
    /// Up to here this reader has confirmed and nothing is left to prune.
    pruned: Option<Xid>,
}

/// How far the shadow table was read. All that transactions below `xid` wrote is handed off, and of those in `range` what
/// has no higher sequence number than it names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Cursor {
    identity: Identity,
    /// The shadow table's oid: another after it was made anew.
    shadow: u32,
    /// The tables whose triggers were in place.
    tables: BTreeSet<String>,
    xid: Xid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    range: Option<Resume>,
    /// The highest sequence number that was handed off.
    highest: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Resume {
    until: Xid,
    sequence: i64,
}

#[derive(Debug)]
struct Poll {
    epoch: u32,
    cursor: Cursor,
    /// What is below it is complete.
    horizon: Xid,
    range: Option<Range>,
    /// Whether the cursor says something that no saved one does.
    unsaved: bool,
}

/// A table, and where it does not fit its model if its rows are set aside.
#[derive(Debug)]
struct Table {
    wanted: Wanted,
    set_aside: Option<String>,
}

/// What stands at the server.
#[derive(Debug)]
struct Shadow {
    oid: u32,
    /// The last number that its sequence gave.
    last: i64,
}

/// The transactions from the cursor's `xid` up to `until`, of which all after `sequence` up to `last` is still to come.
#[derive(Debug, Clone, Copy)]
struct Range {
    until: Xid,
    sequence: i64,
    last: i64,
}

impl Trigger {
    /// A reader of the source's tables through a session that may write. `reader` tells it from others of the same source
    /// (say of another stack); a reader that is gone for good is deleted from `datasync.readers`.
    pub fn new(session: Session, source: SourceId, reader: impl Into<String>, tables: Vec<Wanted>) -> Self {
        let tables = tables
            .into_iter()
            .map(|wanted| (wanted.table.clone(), Table { wanted, set_aside: None }))
            .collect();
        let reader = reader.into();
        Self { session, source, reader, tables, size: PageSize::default(), poll: None, pruned: None }
    }

    /// Reads pages of another size.
    #[must_use]
    pub fn with_page_size(mut self, size: PageSize) -> Self {
        self.size = size;
        self
    }

    /// The shadow table as it stands.
    async fn shadow(&self) -> Result<Option<Shadow>> {
        let sql = "SELECT c.oid, coalesce(pg_sequence_last_value(s.seqrelid::regclass), 0), s.seqcache
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'datasync'
            JOIN pg_class q ON q.relnamespace = n.oid AND q.relname = 'changes_sequence_seq'
            JOIN pg_sequence s ON s.seqrelid = q.oid
            WHERE c.relname = 'changes'";
        let Some(row) = rows(&self.session, "datasync.changes", sql, &[]).await?.into_iter().next() else {
            return Ok(None);
        };
        let cache: i64 = column(&row, 2)?;
        if cache != 1 {
            return Err(misconfigured(
                "sequence_cache",
                "the sequence of datasync.changes",
                "a cache hands numbers out of order: ALTER SEQUENCE datasync.changes_sequence_seq CACHE 1, then resync",
            ));
        }
        Ok(Some(Shadow { oid: column(&row, 0)?, last: column(&row, 1)? }))
    }

    /// Registers the reader at the present, and gives the cursor that begins there.
    async fn start(&self, identity: Identity, shadow: &Shadow) -> Result<Cursor> {
        let sql = "INSERT INTO datasync.readers (source, reader, confirmed)
            SELECT source, $2, $3::xid8 FROM datasync.sources WHERE source = $1
            ON CONFLICT (source, reader) DO UPDATE SET confirmed = excluded.confirmed RETURNING 1";
        let xid = horizon::xmin(&self.session).await?;
        horizon::flush(&self.session).await?;
        let parameters = [self.source.as_str(), &self.reader, &xid.text()];
        if rows(&self.session, "datasync.readers", sql, &parameters).await?.is_empty() {
            return Err(self.not_installed());
        }
        Ok(Cursor {
            identity,
            shadow: shadow.oid,
            tables: BTreeSet::new(),
            xid,
            range: None,
            highest: shadow.last,
        })
    }

    /// Makes sure that the cursor means something here, and that the reader is registered with it.
    async fn resume(&self, cursor: &Cursor, identity: &Identity, shadow: &Shadow) -> Result<()> {
        cursor.identity.check(identity)?;
        if cursor.shadow != shadow.oid {
            return Err(lost("shadow_replaced", "datasync.changes", "the table was made anew"));
        }
        if cursor.highest > shadow.last || cursor.xid > horizon::xmax(&self.session).await? {
            let place = "the sequence of datasync.changes";
            return Err(lost(
                "went_back",
                place,
                "the server is behind the cursor (restored, or failed over)",
            ));
        }
        let sql = "INSERT INTO datasync.readers (source, reader, confirmed)
            SELECT source, $2, $3::xid8 FROM datasync.sources WHERE source = $1
            ON CONFLICT (source, reader) DO NOTHING";
        let parameters = [self.source.as_str(), &self.reader, &cursor.xid.text()];
        // Mostly it is, and then nothing is written.
        let known = "SELECT FROM datasync.readers WHERE source = $1 AND reader = $2";
        if rows(&self.session, "datasync.readers", known, &parameters[..2]).await?.is_empty() {
            rows(&self.session, "datasync.readers", sql, &parameters).await?;
        }
        Ok(())
    }

    /// Holds the tables against their models.
    async fn look_at_tables(&mut self) -> Result<()> {
        let wanted: Vec<Wanted> = self.tables.values().map(|table| table.wanted.clone()).collect();
        let mut types = Types::default();
        for table in schema::tables(&self.session, &wanted).await? {
            table.check_key()?;
            types.load(&self.session, table.columns.iter().map(|column| column.type_oid)).await?;
            let set_aside = table.check_drift(&types)?;
            if let Some(entry) = self.tables.get_mut(&table.wanted.table) {
                entry.set_aside = set_aside;
            }
        }
        Ok(())
    }

    /// The tables, all of whose triggers are there and on. `before` are those that a cursor says were watched.
    async fn watched(&self, before: &BTreeSet<String>) -> Result<BTreeSet<String>> {
        // One row per table: which columns its trigger captures, and of the table and its partitions whether a row
        // trigger is off or away, and whether one that tells of TRUNCATE is.
        let sql = "SELECT t.name->>0, obj_description(g.tgfoid, 'pg_proc'), f.off[1], f.off[2]
            FROM (SELECT name, to_regclass(name->>1) AS relid FROM json_array_elements($1::json) AS e (name)) AS t
            LEFT JOIN pg_trigger g ON g.tgrelid = t.relid AND g.tgname = $2
            CROSS JOIN LATERAL (SELECT array_agg(has.off ORDER BY w.at) FROM unnest(ARRAY[$2, $3]) WITH ORDINALITY AS w (name, at)
                CROSS JOIN LATERAL (SELECT EXISTS (
                    SELECT FROM (SELECT t.relid UNION SELECT relid FROM pg_partition_tree(t.relid)) AS r
                    WHERE NOT EXISTS (SELECT FROM pg_trigger o
                        WHERE o.tgrelid = r.relid AND o.tgname = w.name AND o.tgenabled IN ('A', 'O')))) AS has (off)) AS f (off)";
        let names: Vec<_> =
            self.tables.values().map(|table| (&table.wanted.table, sql::qualified(&table.wanted))).collect();
        let names = serde_json::to_string(&names).map_err(|_| odd_answer())?;
        let parameters =
            [names.as_str(), &sql::row_trigger(&self.source), &sql::truncate_trigger(&self.source)];
        for row in rows(&self.session, "the triggers", sql, &parameters).await? {
            let (table, captured): (String, Option<String>) = (column(&row, 0)?, column(&row, 1)?);
            let place = format!("table {table}");
            let (off, truncate_off): (bool, bool) = (column(&row, 2)?, column(&row, 3)?);
            if off && before.contains(&table) {
                let what = "a trigger of it or of a partition is off or away: run what `datasync sql` prints";
                return Err(lost("trigger_missing", &place, what));
            }
            if off {
                return Err(misconfigured("trigger_missing", &place, INSTALL));
            }
            if truncate_off {
                // Mostly a new partition; row triggers it has of its own accord.
                let remedy = "a partition or the table does not tell of TRUNCATE: run what `datasync sql` prints for \
                              the source, and a backfill if the partition came with rows";
                return Err(misconfigured("partition", &place, remedy));
            }
            let captured: BTreeSet<String> =
                captured.and_then(|captured| serde_json::from_str(&captured).ok()).unwrap_or_default();
            let wanted = self.tables.get(&table).map(|table| table.wanted.columns.keys());
            if let Some(missing) = wanted.into_iter().flatten().find(|name| !captured.contains(*name)) {
                return Err(misconfigured(
                    "column_not_captured",
                    &format!("{place}, column {missing}"),
                    INSTALL,
                ));
            }
        }
        Ok(self.tables.keys().cloned().collect())
    }

    fn not_installed(&self) -> Error {
        let place = format!("schema datasync, source {}", self.source);
        misconfigured("not_installed", &place, INSTALL)
    }

    /// What of the transactions in `[from, until)` comes after `sequence`.
    async fn measure(&self, from: Xid, until: Xid, sequence: i64) -> Result<Option<Range>> {
        let sql = format!(
            "SELECT min(sequence), max(sequence), ({PRUNED}) FROM datasync.changes
            WHERE source = $1 AND xid >= $2::xid8 AND xid < $3::xid8 AND sequence > $4::bigint"
        );
        let parameters = [self.source.as_str(), &from.text(), &until.text(), &sequence.to_string()];
        let answer = rows(&self.session, "datasync.changes", &sql, &parameters).await?;
        let row = answer.first().ok_or_else(odd_answer)?;
        self.must_not_be_pruned(row, 2, from)?;
        let (first, last): (Option<i64>, Option<i64>) = (column(row, 0)?, column(row, 1)?);
        Ok(first.zip(last).map(|(first, last)| Range { until, sequence: first.saturating_sub(1), last }))
    }

    /// The next rows of a range by sequence number, within the size of a page.
    async fn fetch(&self, from: Xid, range: Range) -> Result<Vec<SqlRow>> {
        let sql = format!(
            "SELECT sequence, table_name, operation, before::text, after::text,
                to_char(changed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), ({PRUNED})
            FROM (SELECT *, sum(coalesce(octet_length(before::text), 0) + coalesce(octet_length(after::text), 0))
                    OVER (ORDER BY sequence ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
                FROM (SELECT * FROM datasync.changes
                    WHERE source = $1 AND xid >= $2::xid8 AND xid < $3::xid8
                        AND sequence > $4::bigint AND sequence <= $5::bigint
                    ORDER BY sequence LIMIT $6::int) AS page) AS page
            WHERE coalesce(bytes_before, 0) < $7::bigint ORDER BY sequence"
        );
        let parameters = [
            self.source.as_str(),
            &from.text(),
            &range.until.text(),
            &range.sequence.to_string(),
            &range.last.to_string(),
            &self.size.rows.to_string(),
            &self.size.bytes.to_string(),
        ];
        let page = rows(&self.session, "datasync.changes", &sql, &parameters).await?;
        if let Some(row) = page.first() {
            self.must_not_be_pruned(row, 6, from)?;
        }
        Ok(page)
    }

    fn must_not_be_pruned(&self, row: &SqlRow, at: usize, from: Xid) -> Result<()> {
        let pruned: Option<String> = column(row, at)?;
        let pruned = pruned.ok_or_else(|| self.not_installed())?;
        let pruned: u64 = pruned.parse().map_err(|_| odd_answer())?;
        if pruned > from.0 {
            return Err(pruned_away());
        }
        Ok(())
    }

    /// Deletes what every reader has confirmed; whether all of it.
    async fn prune(&self) -> Result<bool> {
        let sql = format!(
            "WITH bound AS MATERIALIZED (
                SELECT confirmed AS xid FROM datasync.readers WHERE source = $1 ORDER BY confirmed LIMIT 1),
            mark AS (UPDATE datasync.sources s SET pruned = bound.xid FROM bound
                WHERE s.source = $1 AND s.pruned < bound.xid)
            DELETE FROM datasync.changes WHERE sequence IN (
                SELECT c.sequence FROM datasync.changes c, bound WHERE c.source = $1 AND c.xid < bound.xid
                ORDER BY c.xid, c.sequence LIMIT {PRUNE_ROWS})
            RETURNING 1"
        );
        for _ in 0..PRUNE_STATEMENTS {
            let deleted = rows(&self.session, "datasync.changes", &sql, &[self.source.as_str()]).await?;
            if deleted.len() < PRUNE_ROWS as usize {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Why nothing can be read past a row, if so.
    fn stop(&self, row: &SqlRow) -> Result<Option<Error>> {
        let table: &str = column(row, 1)?;
        let operation: &str = column(row, 2)?;
        let place = format!("table {table}");
        Ok(match operation {
            _ if !self.tables.contains_key(table) => None,
            "truncate" => Some(lost("truncated", &place, "it was truncated, which tells no rows")),
            "unreadable" => Some(lost("unreadable", &place, "the trigger could not write a row down")),
            _ => None,
        })
    }

    /// The changes that a row of the shadow table stands for: one, or two where the key is another.
    fn changes(&self, row: &SqlRow, epoch: u32, into: &mut Vec<Row>) -> Result<()> {
        let sequence: i64 = column(row, 0)?;
        let table: &str = column(row, 1)?;
        let Some(table) = self.tables.get(table) else {
            // The configuration has dropped the table, its trigger is still there.
            return Ok(());
        };
        let (before, after): (Option<String>, Option<String>) = (column(row, 3)?, column(row, 4)?);
        let occurred_at: String = column(row, 5)?;
        let mut push = |half: u64, operation, before, after| {
            let version = version(epoch, sequence, half)?;
            let (model, occurred_at) = (table.wanted.model.clone(), occurred_at.clone());
            let set_aside = table.set_aside.clone();
            into.push(Row { model, operation, version, occurred_at, before, after, set_aside });
            Ok(())
        };
        let operation = match column(row, 2)? {
            "insert" => Operation::Create,
            "delete" => Operation::Delete,
            _ => Operation::Update,
        };
        let moved = match (&before, &after) {
            (Some(before), Some(after)) => key(before, &table.wanted)? != key(after, &table.wanted)?,
            _ => false,
        };
        if moved {
            push(0, Operation::Delete, before, None)?;
            push(1, Operation::Create, None, after)
        } else {
            push(0, operation, before, after)
        }
    }
}

#[async_trait]
impl Reader for Trigger {
    async fn begin(&mut self, cursor: Option<&str>, epoch: u32) -> Result<()> {
        self.poll = None;
        let cursor = cursor.map(read_cursor).transpose()?;
        horizon::must_be_primary(&self.session).await?;
        let identity = Identity::read(&self.session).await?;
        let shadow = match (self.shadow().await?, &cursor) {
            (Some(shadow), _) => shadow,
            (None, Some(_)) => return Err(lost("shadow_missing", "datasync.changes", "the table is gone")),
            (None, None) => return Err(self.not_installed()),
        };
        let saved = cursor.is_some();
        let mut cursor = match cursor {
            Some(cursor) => {
                self.resume(&cursor, &identity, &shadow).await?;
                cursor
            }
            None => self.start(identity, &shadow).await?,
        };
        self.look_at_tables().await?;
        let watched = self.watched(&cursor.tables).await?;
        let unsaved = !saved || cursor.tables != watched;
        cursor.tables = watched;
        let horizon = horizon::xmin(&self.session).await?;
        let range = match cursor.range {
            Some(Resume { until, sequence }) => self.measure(cursor.xid, until, sequence).await?,
            None => None,
        };
        if let (Some(Resume { until, .. }), None) = (cursor.range, range) {
            cursor.xid = until;
            cursor.range = None;
        }
        self.poll = Some(Poll { epoch, cursor, horizon, range, unsaved });
        Ok(())
    }

    async fn page(&mut self) -> Result<Option<Page>> {
        let Some(mut poll) = self.poll.take() else { return Ok(None) };
        let range = match poll.range {
            Some(range) => Some(range),
            None if poll.cursor.xid >= poll.horizon => None,
            None => {
                let range = self.measure(poll.cursor.xid, poll.horizon, 0).await?;
                if range.is_some() {
                    horizon::flush(&self.session).await?;
                }
                range
            }
        };
        let Some(range) = range else {
            // Nothing; but a cursor that no saved one equals is worth a page.
            let page = poll.unsaved.then(|| Page { rows: Vec::new(), cursor: write_cursor(&poll.cursor) });
            self.poll = Some(Poll { unsaved: false, horizon: poll.cursor.xid, ..poll });
            return Ok(page);
        };
        let fetched = self.fetch(poll.cursor.xid, range).await?;
        if fetched.is_empty() {
            // There were some a moment ago.
            return Err(pruned_away());
        }
        let mut changes = Vec::with_capacity(fetched.len());
        let mut sequence = range.last;
        for (index, row) in fetched.iter().enumerate() {
            let at: i64 = column(row, 0)?;
            if let Some(stop) = self.stop(row)? {
                if index == 0 {
                    return Err(stop);
                }
                // What came before it goes out first; the next page begins with it.
                sequence = at.saturating_sub(1);
                break;
            }
            self.changes(row, poll.epoch, &mut changes)?;
            sequence = at;
        }
        if sequence >= range.last {
            poll.cursor.xid = range.until;
            poll.cursor.range = None;
            poll.range = None;
        } else {
            poll.cursor.range = Some(Resume { until: range.until, sequence });
            poll.range = Some(Range { sequence, ..range });
        }
        poll.cursor.highest = poll.cursor.highest.max(sequence);
        poll.unsaved = false;
        let cursor = write_cursor(&poll.cursor);
        self.poll = Some(poll);
        Ok(Some(Page { rows: changes, cursor }))
    }

    async fn confirm(&mut self, cursor: &str) -> Result<()> {
        let confirmed = read_cursor(cursor)?.xid;
        if self.pruned == Some(confirmed) {
            return Ok(());
        }
        // An idle source writes nothing here, however fast the rest of the server counts its transactions.
        let sql = "UPDATE datasync.readers r SET confirmed = $3::xid8
            WHERE r.source = $1 AND r.reader = $2 AND r.confirmed < $3::xid8 AND EXISTS (
                SELECT FROM datasync.changes c WHERE c.source = $1 AND c.xid >= r.confirmed AND c.xid < $3::xid8)";
        let parameters = [self.source.as_str(), &self.reader, &confirmed.text()];
        rows(&self.session, "datasync.readers", sql, &parameters).await?;
        if self.prune().await? {
            self.pruned = Some(confirmed);
        }
        Ok(())
    }

    async fn gauges(&mut self) -> Result<Vec<(&'static str, f64)>> {
        let from = self.poll.as_ref().map_or(Xid(0), |poll| poll.cursor.xid);
        let sql = format!(
            "SELECT count(*)::float8, coalesce(extract(epoch FROM clock_timestamp() - min(changed_at))::float8, 0)
            FROM (SELECT changed_at FROM datasync.changes WHERE source = $1 AND xid >= $2::xid8
                ORDER BY xid, sequence LIMIT {COUNTED}) AS waiting"
        );
        let parameters = [self.source.as_str(), &from.text()];
        let answer = rows(&self.session, "datasync.changes", &sql, &parameters).await?;
        let row = answer.first().ok_or_else(odd_answer)?;
        let (waiting, lag): (f64, f64) = (column(row, 0)?, column(row, 1)?);
        let age = horizon::age(&self.session).await?;
        Ok(vec![("waiting_rows", waiting), ("lag_seconds", lag.max(0.0)), ("horizon_age_seconds", age)])
    }
}

/// The version of a change, or of a snapshot that took a number of its own. The number is doubled: the second half of a
/// changed key comes between it and the next.
pub(super) fn version(epoch: u32, sequence: i64, half: u64) -> Result<Version> {
    let position = u128::from(sequence.unsigned_abs()) * 2 + u128::from(half);
    Version::from_decimal(epoch, &position.to_string()).map_err(|_| odd_answer())
}

/// The values of a record's key, as JSON.
fn key<'a>(record: &'a str, table: &Wanted) -> Result<Vec<Option<&'a str>>> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(record).map_err(|_| odd_answer())?;
    Ok(table.key.iter().map(|name| members.get(name).map(|value| value.get())).collect())
}

fn read_cursor(text: &str) -> Result<Cursor> {
    serde_json::from_str(text).map_err(|_| {
        lost("cursor", "the checkpoint", "it is no cursor of mode `trigger` (was the mode changed?)")
    })
}

fn write_cursor(cursor: &Cursor) -> String {
    // Maps, numbers and texts: nothing that JSON refuses.
    serde_json::to_string(cursor).unwrap_or_default()
}

fn lost(code: &'static str, place: &str, what: &str) -> Error {
    let remedy = format!("{what}: raise `epoch` and resync");
    Error { kind: Kind::Lost, code, place: place.into(), remedy }
}

fn pruned_away() -> Error {
    lost("changes_pruned", "datasync.changes", "what comes after the cursor was pruned")
}

fn misconfigured(code: &'static str, place: &str, remedy: &str) -> Error {
    Error { kind: Kind::Misconfigured, code, place: place.into(), remedy: remedy.into() }
}
