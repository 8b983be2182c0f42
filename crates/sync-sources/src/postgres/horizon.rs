//! Where the past ends: which transactions are over, so that nothing can appear any more behind what was read.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::connect::{Session, column, failure};
use crate::{Error, Kind, Result};

/// A transaction id with its epoch: PostgreSQL's `xid8`. It travels as text, but is compared as a number, here and there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Xid(pub(super) u64);

impl Xid {
    /// For a parameter that the statement casts: `$1::text::xid8`.
    pub(super) fn text(self) -> String {
        self.0.to_string()
    }

    /// From a column `…::text`.
    pub(super) fn read(row: &Row, at: usize) -> Result<Self> {
        let text: String = column(row, at)?;
        text.parse().map(Self).map_err(|_| odd_answer())
    }
}

/// Makes sure that a crash takes nothing back of what is visible now.
///
/// A commit may be visible before it is on disk (`synchronous_commit = off`), and the end of one that changed nothing
/// always is. Were such a change handed off, or its transaction passed by a cursor, and then lost in a crash, the server
/// would give the same ids to other transactions, which nobody would read. So before either, something is committed that
/// waits for the disk, and with it all that was written before: an empty message in the log, which its readers skip.
pub(super) async fn flush(session: &Session) -> Result<()> {
    let row = one(session, "SELECT pg_current_wal_flush_lsn() >= pg_current_wal_insert_lsn()").await?;
    if column(&row, 0)? {
        return Ok(());
    }
    let sql = "BEGIN; SET LOCAL synchronous_commit = local;
        SELECT pg_logical_emit_message(true, 'datasync', ''); COMMIT";
    session.client().batch_execute(sql).await.map_err(|error| failure("the log of the server", &error))
}

/// Every transaction below it is over, whatever database it wrote in; what it wrote is visible from now on. See [`flush`].
pub(super) async fn xmin(session: &Session) -> Result<Xid> {
    let row = one(session, "SELECT pg_snapshot_xmin(pg_current_snapshot())::text").await?;
    Xid::read(&row, 0)
}

/// A transaction that is younger than all that have written anything by now. The end of a snapshot would not do: it is
/// the youngest that is over, and one above that may be at work.
pub(super) async fn younger(session: &Session) -> Result<Xid> {
    let row = one(session, "SELECT pg_current_xact_id()::text").await?;
    Xid::read(&row, 0)
}

/// The first transaction above all that are over.
pub(super) async fn xmax(session: &Session) -> Result<Xid> {
    let row = one(session, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text").await?;
    Xid::read(&row, 0)
}

/// For how many seconds the oldest transaction that has written has been open, as far as the role can see: prepared ones
/// always, others with `pg_read_all_stats`.
pub(super) async fn age(session: &Session) -> Result<f64> {
    let sql = "SELECT coalesce(extract(epoch FROM clock_timestamp() - min(began))::float8, 0) FROM (
        SELECT xact_start FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
        UNION ALL SELECT prepared FROM pg_prepared_xacts) AS open (began)";
    let row = one(session, sql).await?;
    let seconds: f64 = column(&row, 0)?;
    Ok(seconds.max(0.0))
}

/// Waits until every transaction below `xid` is over; whether it is, after at most `patience`.
pub(super) async fn wait(session: &Session, xid: Xid, patience: Duration) -> Result<bool> {
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_millis(5);
    while xmin(session).await? < xid {
        if Instant::now() + pause > deadline {
            return Ok(false);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(200));
    }
    Ok(true)
}

/// The time before which no session of this database that is at work now, or begins later, can have begun, as text. A
/// second goes off: a transaction is listed a moment after it has its time, and a column may round it.
///
/// # Errors
/// `Misconfigured` where the role cannot see when others began.
pub(super) async fn began(session: &Session) -> Result<String> {
    // Sessions that write no rows may stay for hours.
    let sql = "SELECT (least(clock_timestamp(), min(xact_start)) - interval '1 s')::text,
            pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'),
            count(*) FILTER (WHERE state = 'disabled') = 0
        FROM pg_stat_activity
        WHERE pid <> pg_backend_pid() AND (datid IS NULL OR datname = current_database())
            AND backend_type NOT IN ('autovacuum worker', 'walsender')";
    let row = one(session, sql).await?;
    let (may_see, all_tell): (bool, bool) = (column(&row, 1)?, column(&row, 2)?);
    if may_see && all_tell {
        return column(&row, 0);
    }
    let remedy = if may_see {
        "a session has track_activities off and hides since when it writes: turn it on, for roles and databases too"
    } else {
        "the role cannot see since when other sessions write, and would miss what they commit late: GRANT \
         pg_read_all_stats to it, or give the tables an xid8 column (`cursor: { xid8: … }`)"
    };
    let place = "pg_stat_activity".into();
    Err(Error { kind: Kind::Misconfigured, code: "horizon_hidden", place, remedy: remedy.into() })
}

/// The prepared transactions of this database. When one began is nowhere to be seen; ask after [`began`], which has seen
/// it if it was not prepared then.
pub(super) async fn prepared(session: &Session) -> Result<BTreeSet<String>> {
    let sql =
        "SELECT transaction::text || ' ' || gid FROM pg_prepared_xacts WHERE database = current_database()";
    rows(session, "pg_prepared_xacts", sql, &[]).await?.iter().map(|row| column(row, 0)).collect()
}

/// Makes sure that the server is a primary: a standby knows less of what is open.
pub(super) async fn must_be_primary(session: &Session) -> Result<()> {
    let row = one(session, "SELECT pg_is_in_recovery()").await?;
    if column(&row, 0)? {
        return Err(Error {
            kind: Kind::Misconfigured,
            code: "standby",
            place: "the server".into(),
            remedy: "it is a standby, which does not know what is still open: point the URL at the primary"
                .into(),
        });
    }
    Ok(())
}

/// The only row of a statement without parameters.
async fn one(session: &Session, sql: &str) -> Result<Row> {
    let rows = rows(session, "the state of the server", sql, &[]).await?;
    rows.into_iter().next().ok_or_else(odd_answer)
}

/// Runs a statement whose parameters are all text; it casts them itself. One round trip.
pub(super) async fn rows(session: &Session, place: &str, sql: &str, parameters: &[&str]) -> Result<Vec<Row>> {
    let typed: Vec<_> = parameters
        .iter()
        .map(|text| (text as &(dyn tokio_postgres::types::ToSql + Sync), Type::TEXT))
        .collect();
    session.client().query_typed(sql, &typed).await.map_err(|error| failure(place, &error))
}

/// An answer that PostgreSQL does not give.
pub(super) fn odd_answer() -> Error {
    Error {
        kind: Kind::Unavailable,
        code: "odd_answer",
        place: "an answer of the server".into(),
        remedy: "it does not look like PostgreSQL's: look what stands behind the address".into(),
    }
}
