//! Mode `timestamp`: reads rows behind a column that every write raises.
//!
//! With an `xid8` column, which a trigger fills with the writing transaction, the horizon is the oldest open transaction
//! and nothing is missed: what is below it is over, and a row that is still to be written again has a higher one. With a
//! time it is the begin of the oldest open transaction: true as long as the column is filled by `now()` or
//! `clock_timestamp()` of this database, whose clock does not go back. Rows ahead of the horizon wait.
//!
//! What this mode cannot see:
//! - what lay between two polls: of several writes of a row the last is read;
//! - whether a row is new: all come as `update`, and the ledger of each target knows better;
//! - deletes, unless the table marks its deleted rows (`soft_delete`) or its keys are compared (`compare_keys`);
//!   a changed key is a delete and a new row;
//! - with a time: rows that carry an application's time from before the horizon, or none.
//!
//! No two versions of a row are alike. While one of two transactions with the same stamp is open, neither is read; so of
//! both only the later write is. An `xid8` is doubled to leave room for the delete that a comparison finds in between.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use sync_domain::change::Operation;
use sync_domain::config::{Cursor as Column, parse_duration};
use sync_domain::id::SourceId;
use sync_domain::version::Version;

use super::connect::{Identity, Session, column};
use super::horizon::{self, Xid, odd_answer, rows};
use super::keyset::{Found, Keyset};
use super::known_keys::{Gone, KnownKeys};
use super::schema::{self, Types, Wanted, quoted};
use super::sql;
use crate::{Error, Kind, Page, PageSize, Reader, Result, Row};

/// Reads the tables of one source by their cursors' columns.
#[derive(Debug)]
pub struct Timestamp {
    session: Session,
    source: SourceId,
    wanted: Vec<Wanted>,
    size: PageSize,
    /// The time that is known to be over, and the one that will be when these prepared transactions are gone.
    over: Option<String>,
    waiting: Option<(String, BTreeSet<String>)>,
    poll: Option<Poll>,
}

/// How far each table was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Cursor {
    identity: Identity,
    tables: BTreeMap<String, Position>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    /// The column that the position is one of.
    column: String,
    /// Where reading began.
    from: String,
    /// The last row that was handed off: its stamp and its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    behind: Option<String>,
    /// The last comparison of keys whose deletes were all handed off: its time in microseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    compared: Option<u64>,
}

#[derive(Debug)]
struct Poll {
    epoch: u32,
    cursor: Cursor,
    /// The tables that are still to be read to their horizon.
    ahead: VecDeque<Reading>,
    /// Whether the cursor says something that no saved one does.
    unsaved: bool,
}

/// A table that is read from its position to the horizon.
#[derive(Debug)]
struct Reading {
    wanted: Wanted,
    keyset: Keyset,
    set_aside: Option<String>,
    horizon: Horizon,
    comparison: Option<Comparison>,
}

/// Deletes that a comparison of keys has found.
#[derive(Debug)]
struct Comparison {
    /// Its time in microseconds since 1970, and its name.
    at: u64,
    /// The key that was handed off last.
    behind: String,
}

#[derive(Debug, Clone)]
enum Horizon {
    Xid(Xid),
    Time(String),
}

impl Timestamp {
    /// A reader of the source's tables. The session may write if keys are compared.
    pub fn new(session: Session, source: SourceId, tables: Vec<Wanted>) -> Self {
        let size = PageSize::default();
        Self { session, source, wanted: tables, size, over: None, waiting: None, poll: None }
    }

    /// Reads pages of another size.
    #[must_use]
    pub fn with_page_size(mut self, size: PageSize) -> Self {
        self.size = size;
        self
    }

    /// The time before which all is over, and none if that is not known yet. Prepared transactions are listed with the
    /// time when they were prepared, which is too late: so a time counts once all are gone that were prepared then.
    async fn time_over(&mut self) -> Result<Option<String>> {
        let began = horizon::began(&self.session).await?;
        let prepared = horizon::prepared(&self.session).await?;
        if prepared.is_empty() {
            self.over = Some(began);
            self.waiting = None;
            return Ok(self.over.clone());
        }
        match self.waiting.take() {
            Some((then, held)) if held.is_disjoint(&prepared) => {
                self.over = Some(then);
                self.waiting = Some((began, prepared));
            }
            Some(waiting) => self.waiting = Some(waiting),
            None => self.waiting = Some((began, prepared)),
        }
        Ok(self.over.clone())
    }

    /// The next rows of a table.
    async fn rows(
        &self,
        reading: &Reading,
        position: &Position,
        epoch: u32,
    ) -> Result<Option<(Vec<Row>, String)>> {
        let stamp = format!("t.{}", quoted(&position.column));
        let (before, parameter, kind) = match &reading.horizon {
            Horizon::Xid(xmin) => (format!("{stamp} < $4::xid8"), xmin.text(), "xid8"),
            Horizon::Time(over) => (before(&stamp), over.clone(), "timestamptz"),
        };
        let condition = match position.behind {
            Some(_) => before,
            None => format!("{before} AND {stamp} >= {}::{kind}", sql::literal(&position.from)),
        };
        let size = (self.size.rows, self.size.bytes);
        let found = reading
            .keyset
            .page(&self.session, position.behind.as_deref(), &condition, &parameter, size)
            .await?;
        let Some(behind) = found.last().map(|row| row.position.clone()) else { return Ok(None) };
        horizon::flush(&self.session).await?;
        let found = found
            .into_iter()
            .map(|row| Ok((place(&reading.horizon, row.stamp.as_deref())?, row)))
            .collect::<Result<Vec<(u128, Found)>>>()?;
        if sql::compares(&reading.wanted) {
            let keys = found.iter().map(|(version, row)| (row.key.as_str(), *version));
            self.known_keys(&reading.wanted).note(keys).await?;
        }
        let row = |(version, found): (u128, Found)| {
            let (operation, before, after) = if found.deleted {
                (Operation::Delete, Some(found.record), None)
            } else {
                (Operation::Update, None, Some(found.record))
            };
            Ok(Row {
                model: reading.wanted.model.clone(),
                operation,
                version: version_at(epoch, version)?,
                occurred_at: found.written,
                before,
                after,
                set_aside: reading.set_aside.clone(),
            })
        };
        Ok(Some((found.into_iter().map(row).collect::<Result<_>>()?, behind)))
    }

    /// If it is time, marks the keys that were handed off and that the table no longer has, with a version: above all that
    /// the rows had, below all that they can get when they come again. What was marked before and not confirmed keeps its
    /// version.
    async fn compare_if_due(
        &self,
        wanted: &Wanted,
        keyset: &Keyset,
        horizon: &Horizon,
        position: &Position,
    ) -> Result<Option<Comparison>> {
        let every = wanted.reading.as_ref().and_then(|reading| reading.compare_keys.as_deref());
        let Some(every) = every else { return Ok(None) };
        let every = parse_duration(every).map_err(|_| Error {
            kind: Kind::Misconfigured,
            code: "compare_keys",
            place: keyset.place().to_owned(),
            remedy: "`compare_keys` is a duration: 1h".into(),
        })?;
        let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint::text,
            trunc(extract(epoch FROM $1::timestamptz) * 1000000)::bigint::text";
        let time = match horizon {
            Horizon::Xid(_) => "epoch",
            Horizon::Time(over) => over,
        };
        let answer = rows(&self.session, "the clock", sql, &[time]).await?;
        let clock = answer.first().ok_or_else(odd_answer)?;
        let now: u64 = column::<&str>(clock, 0)?.parse().map_err(|_| odd_answer())?;
        let due = |then: u64| u128::from(then) + every.as_micros() <= u128::from(now);
        if !position.compared.is_none_or(due) {
            return Ok(None);
        }
        let over = match horizon {
            Horizon::Xid(xmin) => (u128::from(xmin.0) * 2).saturating_sub(1),
            Horizon::Time(_) => column::<&str>(clock, 1)?.parse().map_err(|_| odd_answer())?,
        };
        self.known_keys(wanted).compare(keyset, over, now).await?;
        Ok(Some(Comparison { at: now, behind: "null".to_owned() }))
    }

    /// Deletes that a comparison has found, and the last key of them.
    async fn deletes(
        &self,
        reading: &Reading,
        comparison: &Comparison,
        epoch: u32,
    ) -> Result<Option<(Vec<Row>, String)>> {
        let known_keys = self.known_keys(&reading.wanted);
        let found = known_keys.gone(comparison.at, &comparison.behind, self.size.rows).await?;
        let Some(last) = found.last().map(|gone| gone.key.clone()) else { return Ok(None) };
        let row = |gone: Gone| {
            Ok(Row {
                model: reading.wanted.model.clone(),
                operation: Operation::Delete,
                version: Version::from_decimal(epoch, &gone.version).map_err(|_| odd_answer())?,
                occurred_at: gone.noticed,
                before: Some(gone.key),
                after: None,
                set_aside: reading.set_aside.clone(),
            })
        };
        Ok(Some((found.into_iter().map(row).collect::<Result<_>>()?, last)))
    }

    fn known_keys<'a>(&'a self, wanted: &'a Wanted) -> KnownKeys<'a> {
        KnownKeys { session: &self.session, source: &self.source, table: &wanted.table }
    }

    /// The next rows of the first table that has some.
    async fn next(&self, poll: &mut Poll) -> Result<Option<Page>> {
        while let Some(reading) = poll.ahead.front_mut() {
            let Some(position) = poll.cursor.tables.get_mut(&reading.wanted.table) else {
                return Err(odd_answer());
            };
            if let Some((rows, behind)) = self.rows(reading, position, poll.epoch).await? {
                position.behind = Some(behind);
                return Ok(Some(poll.save(rows)));
            }
            if let Some(comparison) = reading.comparison.take() {
                if let Some((rows, behind)) = self.deletes(reading, &comparison, poll.epoch).await? {
                    reading.comparison = Some(Comparison { behind, ..comparison });
                    return Ok(Some(poll.save(rows)));
                }
                position.compared = Some(comparison.at);
                poll.unsaved = true;
            }
            poll.ahead.pop_front();
        }
        Ok(if poll.unsaved { Some(poll.save(Vec::new())) } else { None })
    }

    /// Makes sure that a position is one of this column and of the past.
    async fn check(&self, table: &str, position: &Position, cursor: &Column) -> Result<()> {
        let (Column::Xid8(name) | Column::Timestamp(name)) = cursor;
        let place = format!("table {table}, column {name}");
        if *name != position.column {
            return Err(lost("cursor_column", &place, "the position is one of another column"));
        }
        let stamp = match &position.behind {
            None => position.from.clone(),
            Some(behind) => {
                let texts: Vec<String> = serde_json::from_str(behind).map_err(|_| not_a_cursor())?;
                texts.into_iter().next().ok_or_else(not_a_cursor)?
            }
        };
        match cursor {
            Column::Xid8(_)
                if stamp.parse().map(Xid).map_err(|_| not_a_cursor())?
                    > horizon::xmax(&self.session).await? =>
            {
                Err(lost("went_back", &place, "the server is behind the cursor (restored, or failed over)"))
            }
            Column::Xid8(_) => Ok(()),
            Column::Timestamp(_) => {
                let sql = "SELECT $1::timestamptz > clock_timestamp()";
                let answer = rows(&self.session, "the clock", sql, &[&stamp]).await?;
                if column(answer.first().ok_or_else(odd_answer)?, 0)? {
                    return Err(lost("clock_went_back", &place, "the server's clock is behind the cursor"));
                }
                Ok(())
            }
        }
    }
}

#[async_trait]
impl Reader for Timestamp {
    async fn begin(&mut self, cursor: Option<&str>, epoch: u32) -> Result<()> {
        self.poll = None;
        let saved: Option<Cursor> =
            cursor.map(serde_json::from_str).transpose().map_err(|_| not_a_cursor())?;
        horizon::must_be_primary(&self.session).await?;
        let identity = Identity::read(&self.session).await?;
        let mut positions = match saved {
            Some(cursor) => {
                cursor.identity.check(&identity)?;
                cursor.tables
            }
            None => BTreeMap::new(),
        };
        let by_time = |wanted: &Wanted| matches!(sql::cursor(wanted), Some(Column::Timestamp(_)));
        let time = if self.wanted.iter().any(by_time) { self.time_over().await? } else { None };
        let xmin = horizon::xmin(&self.session).await?;

        let cursor = Cursor { identity, tables: BTreeMap::new() };
        let mut poll = Poll { epoch, cursor, ahead: VecDeque::new(), unsaved: false };
        for table in schema::tables(&self.session, &self.wanted).await? {
            let keyset = Keyset::by_cursor(&table)?;
            let mut types = Types::default();
            types.load(&self.session, table.columns.iter().map(|column| column.type_oid)).await?;
            let set_aside = table.check_drift(&types)?;
            let wanted = table.wanted;
            let position = positions.remove(&wanted.table);
            let Some(column) = sql::cursor(&wanted) else { return Err(odd_answer()) };
            let horizon = match (column, &time) {
                (Column::Xid8(_), _) => Horizon::Xid(xmin),
                (Column::Timestamp(_), Some(over)) => Horizon::Time(over.clone()),
                // Prepared transactions hide what is over: the table stays where it is.
                (Column::Timestamp(_), None) => {
                    poll.cursor.tables.extend(position.map(|position| (wanted.table.clone(), position)));
                    continue;
                }
            };
            let position = match position {
                Some(position) => {
                    self.check(&wanted.table, &position, column).await?;
                    position
                }
                None => {
                    poll.unsaved = true;
                    Position::new(column, &horizon)
                }
            };
            let comparison = self.compare_if_due(&wanted, &keyset, &horizon, &position).await?;
            poll.cursor.tables.insert(wanted.table.clone(), position);
            poll.ahead.push_back(Reading { wanted, keyset, set_aside, horizon, comparison });
        }
        if poll.unsaved {
            horizon::flush(&self.session).await?;
        }
        self.poll = Some(poll);
        Ok(())
    }

    async fn page(&mut self) -> Result<Option<Page>> {
        let Some(mut poll) = self.poll.take() else { return Ok(None) };
        let page = self.next(&mut poll).await?;
        self.poll = Some(poll);
        Ok(page)
    }

    async fn confirm(&mut self, cursor: &str) -> Result<()> {
        let cursor: Cursor = serde_json::from_str(cursor).map_err(|_| not_a_cursor())?;
        for wanted in self.wanted.iter().filter(|wanted| sql::compares(wanted)) {
            let compared = cursor.tables.get(&wanted.table).and_then(|position| position.compared);
            if let Some(comparison) = compared {
                self.known_keys(wanted).forget(comparison).await?;
            }
        }
        Ok(())
    }

    async fn gauges(&mut self) -> Result<Vec<(&'static str, f64)>> {
        let mut age = horizon::age(&self.session).await?;
        if let Some(over) = &self.over {
            let sql = "SELECT extract(epoch FROM clock_timestamp() - $1::timestamptz)::float8";
            let answer = rows(&self.session, "the clock", sql, &[over]).await?;
            let behind: f64 = column(answer.first().ok_or_else(odd_answer)?, 0)?;
            age = age.max(behind);
        }
        Ok(vec![("horizon_age_seconds", age)])
    }
}

impl Poll {
    fn save(&mut self, rows: Vec<Row>) -> Page {
        self.unsaved = false;
        // Maps, numbers and texts: nothing that JSON refuses.
        Page { rows, cursor: serde_json::to_string(&self.cursor).unwrap_or_default() }
    }
}

impl Position {
    /// Where reading begins: at what is not over yet.
    fn new(column: &Column, horizon: &Horizon) -> Self {
        let (Column::Xid8(column) | Column::Timestamp(column)) = column.clone();
        let from = match horizon {
            Horizon::Xid(xmin) => xmin.text(),
            Horizon::Time(over) => over.clone(),
        };
        Self { column, from, behind: None, compared: None }
    }
}

/// The condition that a time is over, with the horizon as `$4`. A `timestamp` without a zone is taken as UTC, which is the
/// session's.
pub(super) fn before(stamp: &str) -> String {
    format!("{stamp} < $4::timestamptz")
}

/// The position of the version that a row's stamp stands for.
fn place(horizon: &Horizon, stamp: Option<&str>) -> Result<u128> {
    let stamp = stamp.ok_or_else(odd_answer)?.parse().map_err(|_| odd_answer())?;
    Ok(match horizon {
        Horizon::Xid(_) => xid_position(Xid(stamp)),
        // In microseconds since 1970.
        Horizon::Time(_) => u128::from(stamp),
    })
}

/// The position of the version of a row that carries a transaction.
pub(super) fn xid_position(xid: Xid) -> u128 {
    u128::from(xid.0) * 2
}

/// The version at a position.
pub(super) fn version_at(epoch: u32, position: u128) -> Result<Version> {
    Version::from_decimal(epoch, &position.to_string()).map_err(|_| odd_answer())
}

fn not_a_cursor() -> Error {
    lost("cursor", "the checkpoint", "it is no cursor of mode `timestamp` (was the mode changed?)")
}

fn lost(code: &'static str, place: &str, what: &str) -> Error {
    let remedy = format!("{what}: raise `epoch` and resync");
    Error { kind: Kind::Lost, code, place: place.into(), remedy }
}
