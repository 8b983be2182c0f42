//! Reads from the table what the log does not hold: large values that an update left as they were, generated columns,
//! and columns that are newer than the change.
//!
//! What is read is the row as it is now, which may be later than the change. Then a later change follows in the log and
//! brings the whole row again, with a higher version; so a record is right in the end, and never has a null for want of a
//! value. Two things make that true:
//!
//! - The change itself must be visible to the statement. A commit stands in the log before others can see it, for as long
//!   as a synchronous standby takes; until then the table shows the row as it was before.
//! - What is seen must stand in the log safely. A commit without `synchronous_commit` is seen before it is on disk, and a
//!   crash would take it back: the page waits for the log to be written as far as it was when the row was read.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::Statement;
use tokio_postgres::types::{PgLsn, ToSql};

use super::super::connect::{Session, column, failure};
use super::super::schema::{Table, quoted};
use crate::{Error, Kind, Result};

/// How long a commit may take to become visible, or the log to be written.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often is looked.
const PAUSE: Duration = Duration::from_millis(20);

/// What a record lacks.
#[derive(Debug, Clone)]
pub(super) struct Hole {
    pub(super) table: Arc<Table>,
    /// The columns.
    pub(super) columns: Vec<String>,
    /// The values of the key, as text, in the order of the model's key.
    pub(super) key: Vec<String>,
    /// The transaction that made the change (the lower half of its id).
    pub(super) xid: u32,
}

/// A session beside the one that the log streams through.
#[derive(Debug)]
pub(super) struct Filler {
    session: Session,
    statements: HashMap<String, Statement>,
    /// How far the log must be written before what was read may be handed off.
    seen: u64,
}

impl Filler {
    pub(super) fn new(session: Session) -> Self {
        Self { session, statements: HashMap::new(), seen: 0 }
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// The members that the record lacks, as JSON between a comma and the end of the object; none if the row is gone:
    /// its delete follows in the log.
    pub(super) async fn fill(&mut self, hole: &Hole) -> Result<Option<String>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let place = format!("table {}", hole.table.wanted.table);
            let statement = self.statement(hole, &place).await?;
            let key: Vec<&(dyn ToSql + Sync)> = hole.key.iter().map(|value| value as _).collect();
            let row = self.session.client().query_one(&statement, &key).await;
            let row = row.map_err(|error| failure(&place, &error))?;
            if sees(column(&row, 0)?, hole.xid) {
                self.seen = self.seen.max(column::<PgLsn>(&row, 1)?.into());
                return column(&row, 2);
            }
            wait(deadline, "not_visible", place).await?;
        }
    }

    /// Waits until all that was seen so far is safe on disk.
    pub(super) async fn settle(&mut self) -> Result<()> {
        const SQL: &str = "SELECT pg_current_wal_flush_lsn()";
        let deadline = Instant::now() + PATIENCE;
        while self.seen > 0 {
            let row = self.session.client().query_one(SQL, &[]).await;
            let row = row.map_err(|error| failure("the state of the log", &error))?;
            if u64::from(column::<PgLsn>(&row, 0)?) >= self.seen {
                self.seen = 0;
                break;
            }
            wait(deadline, "not_flushed", "the log".to_owned()).await?;
        }
        Ok(())
    }

    async fn statement(&mut self, hole: &Hole, place: &str) -> Result<Statement> {
        let sql = sql(hole);
        if let Some(statement) = self.statements.get(&sql) {
            return Ok(statement.clone());
        }
        let statement = self.session.client().prepare(&sql).await.map_err(|error| failure(place, &error))?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }
}

/// The row's values as the database itself writes them in JSON. One statement has one snapshot, and tells which.
fn sql(hole: &Hole) -> String {
    let member = |name: &String| {
        let member = format!("{}:", serde_json::Value::from(name.as_str()));
        format!(
            "',' || '{}' || coalesce(to_json({})::text, 'null')",
            member.replace('\'', "''"),
            quoted(name)
        )
    };
    let members: Vec<_> = hole.columns.iter().map(member).collect();
    let same = |(at, name): (usize, &String)| {
        let type_name = hole.table.column(name).map_or("text", |column| column.type_name.as_str());
        format!("{} = (${at}::text)::{type_name}", quoted(name))
    };
    let key: Vec<_> = (1..).zip(&hole.table.wanted.key).map(same).collect();
    format!(
        "SELECT pg_current_snapshot()::text, pg_current_wal_insert_lsn(), t.members \
         FROM (SELECT 1) AS one LEFT JOIN (SELECT {} AS members FROM {} WHERE {}) AS t ON true",
        members.join(" || "),
        hole.table.sql_name(),
        key.join(" AND "),
    )
}

/// Whether a transaction that has committed is visible in a snapshot, `xmin:xmax:xip,…`. Of the id only the lower half is
/// known, which is enough: the two are never 2^31 transactions apart.
fn sees(snapshot: &str, xid: u32) -> bool {
    let mut parts = snapshot.split(':').skip(1);
    let Some(end) = parts.next().and_then(|end| end.parse::<u64>().ok()) else { return false };
    let behind_end = xid.wrapping_sub(lower(end)) < 1 << 31;
    let open = parts.next().unwrap_or_default().split(',').filter_map(|open| open.parse::<u64>().ok());
    !behind_end && !open.map(lower).any(|open| open == xid)
}

fn lower(xid: u64) -> u32 {
    let [.., a, b, c, d] = xid.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

async fn wait(deadline: Instant, code: &'static str, place: String) -> Result<()> {
    if Instant::now() < deadline {
        sleep(PAUSE).await;
        return Ok(());
    }
    let remedy =
        "a commit stands in the log and waits, as it does for a synchronous standby that is away".into();
    Err(Error { kind: Kind::Unavailable, code, place, remedy })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_seen_when_it_is_below_the_snapshots_end_and_not_open() {
        assert!(sees("10:12:", 11));
        assert!(!sees("10:12:", 12));
        assert!(!sees("10:14:10,12", 12));
        assert!(sees("10:14:10,12", 13));
        // Behind the turn of the lower half.
        assert!(sees("8589934590:8589934599:", u32::MAX - 1));
        assert!(sees("8589934590:8589934599:", 6));
        assert!(!sees("8589934590:8589934599:", 7));
        assert!(!sees("8589934590:8589934599:8589934594", 2));
        assert!(!sees("", 2));
    }
}
