//! Mode `log`: every change, out of the transaction log, by plain SQL.
//!
//! A poll reads how far the log is written, looks at the slot's changes up to there (without consuming them), and once all
//! is handed off moves the slot to there: so the server can let go of its log even when nothing of ours changed.
//!
//! The version of a change is where its transaction's commit stands, and its place in the transaction; the place of a row
//! itself goes back and forth. A row message takes two places, as a changed key makes two changes of it.
//!
//! Memory is bounded whatever a transaction's size is: the server keeps what was asked for in a temporary file, and it is
//! read page by page. One value must fit.
//!
//! What this mode does not see: a partition that is detached or dropped with its rows. And columns that are added with a
//! value for the rows that are there already: the rows are as they were in the log, so a backfill is due.

mod fill;
mod publication;
mod record;
mod slot;
pub mod sql;

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt;
use sync_domain::change::Operation;
use sync_domain::version::Version;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{PgLsn, Type};
use tokio_postgres::{Row as PgRow, RowStream};

use self::fill::{Filler, Hole};
use self::record::Plan;
use self::slot::{Cursor, Position, Status, place};
use super::connect::{Access, Identity, Purpose, Session, column, failure};
use super::horizon;
use super::pgoutput::{self, Message, Old, Relation, Tuple};
use super::schema::{self, Table, Types, Wanted, quoted};
use crate::{Error, Kind, Page, PageSize, Reader, Result, Row};

/// What a page may hold.
const PAGE: PageSize = PageSize { rows: 1_000, bytes: 1 << 20 };
/// What a record that is not whole counts for, over what is known of it: the rest may be large.
const HOLE_BYTES: usize = 64 << 10;
/// How much of the log one poll looks at to begin with (a transaction is looked at as a whole): the server writes what
/// it finds into a temporary file.
const WINDOW_BYTES: u64 = 256 << 20;
/// Microseconds from 1970 to 2000.
const EPOCH_2000: i64 = 946_684_800_000_000;

/// Where the log of a database is read.
#[derive(Debug)]
pub struct Settings {
    /// How to connect.
    pub access: Access,
    /// The replication slot.
    pub slot: String,
    /// The publication.
    pub publication: String,
    /// The tables.
    pub tables: Vec<Wanted>,
}

/// Reads the log of a database behind a replication slot.
#[derive(Debug)]
pub struct Log {
    settings: Settings,
    size: PageSize,
    /// The log streams through it, so it may be busy.
    session: Session,
    /// Opened when something must be asked meanwhile.
    filler: Option<Filler>,
    types: Types,
    /// How much of the log the next poll looks at, at most.
    window: u64,
    /// Whether the session is busy with what a poll has asked for and not read to the end.
    streaming: bool,
    /// Gone while a page is made: a page that is given up halfway, or fails, ends the poll.
    poll: Option<Poll>,
}

/// A poll that has begun.
struct Poll {
    epoch: u32,
    history: Identity,
    /// Everything before it was handed off by earlier polls.
    from: Position,
    /// Up to where the log is looked at.
    upto: u64,
    /// Whether the log goes on behind that.
    short: bool,
    /// Whether the first page is given out even if it has no rows.
    first: bool,
    /// Without a cursor under a raised epoch the source is read anew, and a backfill brings what tables hold by now: a
    /// TRUNCATE before here tells nothing new.
    fresh_until: u64,
    tables: Vec<Arc<Table>>,
    /// None once they are read to their end.
    messages: Option<Pin<Box<RowStream>>>,
    plans: HashMap<u32, Option<Plan>>,
    transaction: Option<Transaction>,
    /// Behind what was read.
    position: Position,
    /// What the next page is made of.
    drafts: Vec<Draft>,
    bytes: usize,
    /// What ends the poll behind these rows.
    stop: Option<Error>,
    /// Whether the last page was given out.
    done: bool,
}

impl fmt::Debug for Poll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Messages and drafts hold values.
        f.debug_struct("Poll").field("from", &self.from).field("upto", &self.upto).finish_non_exhaustive()
    }
}

struct Transaction {
    commit: u64,
    xid: u32,
    committed_at: String,
    /// Row messages so far.
    count: u64,
}

struct Draft {
    row: Row,
    hole: Option<Hole>,
    /// The row is gone by now, and its record cannot be made whole: the delete that follows says enough.
    gone: bool,
}

impl Draft {
    /// The bytes that it counts for.
    fn weight(&self) -> usize {
        let records =
            [&self.row.before, &self.row.after].into_iter().flatten().map(String::len).sum::<usize>();
        records + if self.hole.is_some() { HOLE_BYTES } else { 0 }
    }
}

impl Log {
    /// Reads through an open session.
    pub fn new(settings: Settings, session: Session) -> Self {
        Self {
            settings,
            size: PAGE,
            session,
            filler: None,
            types: Types::default(),
            window: WINDOW_BYTES,
            streaming: false,
            poll: None,
        }
    }

    /// Reads pages of another size.
    #[must_use]
    pub fn with_page_size(mut self, size: PageSize) -> Self {
        self.size = size;
        self
    }

    async fn reopen(&mut self) -> Result<()> {
        // While a transaction is open that is larger than the window, the server decodes it from its start in each poll and
        // has nothing to give: with a window that doubles, it does so a few times and not once per window.
        let in_vain =
            self.poll.take().is_some_and(|poll| poll.done && poll.short && poll.position == poll.from);
        self.window = if in_vain { self.window.saturating_mul(2) } else { WINDOW_BYTES };
        // A stream that was not read to its end is cut, rather than read through.
        if self.streaming || self.session.is_closed() {
            self.session = self.settings.access.open(Purpose::Read).await?;
            self.streaming = false;
        }
        if self.filler.as_ref().is_some_and(|filler| filler.session().is_closed()) {
            self.filler = None;
        }
        Ok(())
    }

    async fn peek(&self, upto: u64) -> Result<RowStream> {
        const SQL: &str = "
            SELECT data FROM pg_logical_slot_peek_binary_changes($1::text::name, $2, NULL,
                'proto_version', '1', 'publication_names', $3)";
        let slot = self.settings.slot.as_str();
        let publication = quoted(&self.settings.publication);
        let upto = PgLsn::from(upto);
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] =
            [(&slot, Type::TEXT), (&upto, Type::PG_LSN), (&publication, Type::TEXT)];
        let stream = self.session.client().query_typed_raw(SQL, parameters).await;
        stream.map_err(|error| broken_off(slot, &error))
    }
}

/// The peek was refused: somebody else has the slot, or it was lost since it was looked at.
fn broken_off(slot: &str, error: &tokio_postgres::Error) -> Error {
    match error.code() {
        Some(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE | &SqlState::UNDEFINED_OBJECT) => Error {
            kind: Kind::Unavailable,
            code: "slot_changed",
            place: place(slot),
            remedy: "the server refuses the slot; the next poll looks why".into(),
        },
        _ => failure(&place(slot), error),
    }
}

/// Makes sure that the log tells enough of the table's rows.
fn check_logged(table: &Table) -> Result<()> {
    let refuse = |code, remedy: &str| {
        let place = format!("table {}", table.wanted.table);
        Err(Error { kind: Kind::Misconfigured, code, place, remedy: remedy.into() })
    };
    if !table.logged {
        return refuse("unlogged", "the log does not hold its changes: ALTER TABLE … SET LOGGED");
    }
    let identifies = |name: &String| table.column(name).is_some_and(|column| column.in_identity);
    if !table.wanted.key.iter().all(identifies) {
        return refuse(
            "replica_identity",
            "a delete does not tell the model's key: make the key the primary key, or ALTER TABLE … REPLICA IDENTITY \
             USING INDEX or FULL",
        );
    }
    Ok(())
}

#[async_trait]
impl Reader for Log {
    async fn begin(&mut self, cursor: Option<&str>, epoch: u32) -> Result<()> {
        self.reopen().await?;
        let slot = self.settings.slot.as_str();
        let history = Identity::read(&self.session).await?;
        let cursor = cursor.map(|cursor| Cursor::read(cursor, slot)).transpose()?;
        if let Some(cursor) = &cursor {
            cursor.history.check(&history)?;
        }
        let from = cursor.as_ref().map(|cursor| cursor.position);
        // The log's end is read before its content: what is committed later is left to the next poll, and never passed.
        let status = Status::read(&self.session, slot, &history, from).await?;
        let tables = schema::tables(&self.session, &self.settings.tables).await?;
        publication::check(&self.session, &self.settings.publication, &tables).await?;
        let columns = tables.iter().flat_map(Table::read).map(|column| column.type_oid);
        self.types.load(&self.session, columns).await?;
        for table in &tables {
            table.check_key()?;
            check_logged(table)?;
            table.check_drift(&self.types)?;
        }

        let start = from.unwrap_or(Position { commit: status.confirmed, index: 0 });
        let upto = status.flushed.min(start.commit.max(status.confirmed).saturating_add(self.window));
        let fresh_until = match &cursor {
            Some(cursor) => cursor.fresh_until,
            None if epoch > 0 => status.flushed,
            None => 0,
        };
        let messages = if upto > start.commit { Some(Box::pin(self.peek(upto).await?)) } else { None };
        self.streaming = messages.is_some();
        self.poll = Some(Poll {
            epoch,
            history,
            from: start,
            upto,
            short: upto < status.flushed,
            first: cursor.is_none(),
            fresh_until,
            tables: tables.into_iter().map(Arc::new).collect(),
            messages,
            plans: HashMap::new(),
            transaction: None,
            position: start,
            drafts: Vec::new(),
            bytes: 0,
            stop: None,
            done: false,
        });
        Ok(())
    }

    async fn page(&mut self) -> Result<Option<Page>> {
        let Some(mut poll) = self.poll.take() else { return Ok(None) };
        while !poll.is_full(self.size) {
            let Some(message) = poll.next(&self.settings.slot).await? else { break };
            self.take(&mut poll, &message).await?;
        }
        self.streaming = poll.messages.is_some();
        self.fill(&mut poll).await?;
        let page = poll.give(&self.settings.slot);
        self.poll = Some(poll);
        page
    }

    async fn confirm(&mut self, cursor: &str) -> Result<()> {
        const SQL: &str = "
            SELECT pg_replication_slot_advance(slot_name, $2) FROM pg_replication_slots
            WHERE slot_name = $1::text::name AND confirmed_flush_lsn < $2";
        let slot = self.settings.slot.as_str();
        let cursor = Cursor::read(cursor, slot)?;
        // While messages stream the session is busy, and only the end of the poll lets the server forget anything.
        let Some(poll) = self.poll.as_ref().filter(|poll| poll.messages.is_none()) else { return Ok(()) };
        // Never beyond what was looked at.
        let upto = PgLsn::from(cursor.position.commit.min(poll.end().commit));
        let advanced =
            self.session.client().query_typed(SQL, &[(&slot, Type::TEXT), (&upto, Type::PG_LSN)]).await;
        advanced.map(drop).map_err(|error| broken_off(slot, &error))
    }

    /// `lag_bytes`: log that was written and not yet confirmed. `retained_bytes`: log that the slot makes the server keep.
    /// `safe_wal_bytes`: log that may still be written before the server gives the slot up, where it has a limit; and
    /// `safe_wal_percent`: its share of all that the slot may keep, none from when `wal_status` is `unreserved`.
    /// `horizon_age_seconds`: age of the oldest open transaction, which is what both may be waiting for.
    async fn gauges(&mut self) -> Result<Vec<(&'static str, f64)>> {
        const SQL: &str = "
            SELECT (pg_current_wal_flush_lsn() - confirmed_flush_lsn)::float8,
                (pg_current_wal_flush_lsn() - restart_lsn)::float8, safe_wal_size::float8
            FROM pg_replication_slots WHERE slot_name = $1::text::name";
        let slot = self.settings.slot.as_str();
        if self.streaming {
            return Ok(Vec::new());
        }
        let rows = self.session.client().query_typed(SQL, &[(&slot, Type::TEXT)]).await;
        let rows = rows.map_err(|error| failure(&place(slot), &error))?;
        let mut gauges = Vec::new();
        if let Some(row) = rows.first() {
            for (at, name) in [(0, "lag_bytes"), (1, "retained_bytes"), (2, "safe_wal_bytes")] {
                gauges.extend(column::<Option<f64>>(row, at)?.map(|value| (name, value)));
            }
            if let (Some(kept), Some(safe)) = (column::<Option<f64>>(row, 1)?, column::<Option<f64>>(row, 2)?)
            {
                // What is safe falls below nothing where only the next checkpoint stands before the end.
                let safe = safe.max(0.0);
                gauges.push(("safe_wal_percent", 100.0 * safe / (safe + kept).max(1.0)));
            }
        }
        gauges.push(("horizon_age_seconds", horizon::age(&self.session).await?));
        Ok(gauges)
    }
}

impl Log {
    async fn filler<'a>(settings: &Settings, filler: &'a mut Option<Filler>) -> Result<&'a mut Filler> {
        let open = match filler.take() {
            Some(open) => open,
            None => Filler::new(settings.access.open(Purpose::Read).await?),
        };
        Ok(filler.insert(open))
    }

    async fn take(&mut self, poll: &mut Poll, message: &PgRow) -> Result<()> {
        let message = pgoutput::decode(column(message, 0)?).map_err(|error| Error {
            kind: Kind::Misconfigured,
            code: "pgoutput",
            place: place(&self.settings.slot),
            remedy: format!(
                "the server's messages do not read ({error}): is its version supported (14 to 18)?"
            ),
        })?;
        match message {
            Message::Begin { commit, committed_at, xid } => {
                let committed_at = committed_at.saturating_add(EPOCH_2000);
                let committed_at =
                    jiff::Timestamp::from_microsecond(committed_at).unwrap_or_default().to_string();
                poll.transaction = Some(Transaction { commit, xid, committed_at, count: 0 });
            }
            Message::Commit { end, .. } => {
                poll.transaction = None;
                poll.position = poll.position.max(Position { commit: end, index: 0 });
            }
            Message::Relation(relation) => self.plan(poll, &relation).await?,
            Message::Truncate { relations } => poll.truncate(relations.iter()),
            Message::Insert { relation, new } => poll.row(relation, &Change::Insert(new))?,
            Message::Update { relation, old, new } => poll.row(relation, &Change::Update(old, new))?,
            Message::Delete { relation, old } => poll.row(relation, &Change::Delete(old))?,
            Message::Origin | Message::Type | Message::Logical => {}
        }
        Ok(())
    }

    /// Finds out what a relation is to us.
    async fn plan(&mut self, poll: &mut Poll, relation: &Relation<'_>) -> Result<()> {
        let named = |table: &Arc<Table>| table.schema == relation.schema && table.name == relation.name;
        let same = |table: &Arc<Table>| table.oid == relation.oid || table.leaves.contains(&relation.oid);
        let at = poll.tables.iter().position(same).or_else(|| poll.tables.iter().position(named));
        let Some(table) = at.and_then(|at| poll.tables.get_mut(at)) else {
            poll.plans.insert(relation.oid, None);
            return Ok(());
        };
        let as_now = |name: &String| {
            let then =
                relation.columns.iter().find(|column| column.name == name).map(|column| column.type_oid);
            then == table.column(name).map(|column| column.type_oid)
        };
        if !table.wanted.columns.keys().all(as_now) {
            // It was altered: before this poll, or during it.
            let filler = Self::filler(&self.settings, &mut self.filler).await?;
            let now = schema::tables(filler.session(), std::slice::from_ref(&table.wanted)).await?;
            now.into_iter().for_each(|now| *table = Arc::new(now));
        }
        let types = relation.columns.iter().map(|column| column.type_oid);
        let types: Vec<u32> = types.chain(table.read().map(|column| column.type_oid)).collect();
        if !types.iter().all(|oid| self.types.knows(*oid)) {
            let filler = Self::filler(&self.settings, &mut self.filler).await?;
            self.types.load(filler.session(), types).await?;
        }
        match table.check_drift(&self.types) {
            Ok(set_aside) => {
                let plan = Plan::new(relation, table.clone(), &self.types, set_aside);
                poll.plans.insert(relation.oid, Some(plan));
            }
            Err(error) => poll.stop = Some(error),
        }
        Ok(())
    }

    /// Completes the rows of the next page.
    async fn fill(&mut self, poll: &mut Poll) -> Result<()> {
        if poll.drafts.iter().all(|draft| draft.hole.is_none()) {
            return Ok(());
        }
        let filler = Self::filler(&self.settings, &mut self.filler).await?;
        for draft in &mut poll.drafts {
            let Some(hole) = draft.hole.take() else { continue };
            match (filler.fill(&hole).await?, &mut draft.row.after) {
                (Some(members), Some(after)) => {
                    after.pop();
                    after.push_str(&members);
                    after.push('}');
                }
                _ => draft.gone = true,
            }
        }
        poll.drafts.retain(|draft| !draft.gone);
        filler.settle().await
    }
}

/// What a row message tells.
enum Change<'a> {
    Insert(Tuple<'a>),
    Update(Option<Old<'a>>, Tuple<'a>),
    Delete(Old<'a>),
}

impl Poll {
    fn is_full(&self, size: PageSize) -> bool {
        let more = |have: usize, limit: u32| u32::try_from(have).is_ok_and(|have| have < limit);
        self.stop.is_some() || !more(self.bytes, size.bytes) || !more(self.drafts.len(), size.rows)
    }

    async fn next(&mut self, slot: &str) -> Result<Option<PgRow>> {
        let Some(messages) = &mut self.messages else { return Ok(None) };
        let message = messages.next().await.transpose().map_err(|error| broken_off(slot, &error))?;
        if message.is_none() {
            self.messages = None;
        }
        Ok(message)
    }

    fn truncate(&mut self, mut relations: impl Iterator<Item = u32>) {
        let Some(transaction) = &self.transaction else { return };
        let here = Position { commit: transaction.commit, index: 2 * transaction.count };
        let ours = relations.find_map(|relation| self.plans.get(&relation)?.as_ref());
        let Some(plan) = ours.filter(|_| here >= self.from && here.commit >= self.fresh_until) else {
            return;
        };
        self.stop = Some(Error {
            kind: Kind::Lost,
            code: "truncated",
            place: format!("table {}", plan.table.wanted.table),
            remedy: "it was emptied at once, which tells of no row: raise `epoch` and resync the model"
                .into(),
        });
    }

    fn row(&mut self, relation: u32, change: &Change<'_>) -> Result<()> {
        let Some(transaction) = &mut self.transaction else { return Ok(()) };
        let index = 2 * transaction.count;
        transaction.count += 1;
        let commit = transaction.commit;
        if (Position { commit, index }) < self.from {
            return Ok(());
        }
        self.position = Position { commit, index: index + 2 };
        let Some(plan) = self.plans.get(&relation).and_then(Option::as_ref) else { return Ok(()) };
        let maker = Maker { plan, transaction, epoch: self.epoch, index };
        let (first, second) = match *change {
            Change::Insert(new) => (maker.written(Operation::Create, 0, None, new)?, None),
            Change::Delete(old) => (maker.deleted(old)?, None),
            Change::Update(Some(old), new) if plan.key_changed(old.tuple(), new) => {
                (maker.deleted(old)?, Some(maker.written(Operation::Create, 1, Some(old), new)?))
            }
            Change::Update(old, new) => (maker.written(Operation::Update, 0, old, new)?, None),
        };
        for draft in std::iter::once(first).chain(second) {
            self.bytes += draft.weight();
            self.drafts.push(draft);
        }
        Ok(())
    }

    /// Behind everything that this poll has looked at, once it has read it all.
    fn end(&self) -> Position {
        self.position.max(Position { commit: self.upto, index: 0 })
    }

    fn give(&mut self, slot: &str) -> Result<Option<Page>> {
        if self.done {
            return Ok(None);
        }
        if let (true, Some(stop)) = (self.drafts.is_empty(), &self.stop) {
            return Err(stop.clone());
        }
        self.done = self.messages.is_none() && self.stop.is_none();
        let position = if self.done { self.end() } else { self.position };
        self.bytes = 0;
        let rows: Vec<_> = std::mem::take(&mut self.drafts).into_iter().map(|draft| draft.row).collect();
        if rows.is_empty() && position == self.from && !self.first {
            return Ok(None);
        }
        let cursor = Cursor { history: self.history.clone(), position, fresh_until: self.fresh_until };
        Ok(Some(Page { rows, cursor: cursor.write(slot) }))
    }
}

/// Makes the rows of one message.
struct Maker<'a> {
    plan: &'a Plan,
    transaction: &'a Transaction,
    epoch: u32,
    index: u64,
}

impl Maker<'_> {
    /// A row that is there now.
    fn written(
        &self,
        operation: Operation,
        place: u64,
        old: Option<Old<'_>>,
        new: Tuple<'_>,
    ) -> Result<Draft> {
        let record = self.plan.record(new, old.and_then(|old| self.plan.whole(old)))?;
        let hole = if record.missing.is_empty() {
            None
        } else {
            let key = self.plan.key(new, old.map(|old| old.tuple()))?;
            let table = self.plan.table.clone();
            Some(Hole { table, columns: record.missing, key, xid: self.transaction.xid })
        };
        let before = match (operation, old) {
            (Operation::Update, Some(old)) => self.plan.before(old)?,
            _ => None,
        };
        Ok(Draft { row: self.draft(operation, place, before, Some(record.json)), hole, gone: false })
    }

    /// A row that is gone.
    fn deleted(&self, old: Old<'_>) -> Result<Draft> {
        let before = match self.plan.before(old)? {
            Some(whole) => whole,
            None => self.plan.key_record(old.tuple())?,
        };
        Ok(Draft { row: self.draft(Operation::Delete, 0, Some(before), None), hole: None, gone: false })
    }

    fn draft(&self, operation: Operation, place: u64, before: Option<String>, after: Option<String>) -> Row {
        Row {
            model: self.plan.table.wanted.model.clone(),
            operation,
            version: Version::from_log(self.epoch, self.transaction.commit, self.index + place),
            occurred_at: self.transaction.committed_at.clone(),
            before,
            after,
            set_aside: self.plan.set_aside.clone(),
        }
    }
}
