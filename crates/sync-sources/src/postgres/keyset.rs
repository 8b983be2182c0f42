//! Reads a table page by page in the order of its key: the statement, and where the next page goes on.

use sync_domain::config::Cursor;
use tokio_postgres::Row as SqlRow;

use super::connect::{Session, column};
use super::horizon::rows;
use super::schema::{Table, quoted};
use crate::{Error, Kind, Result};

/// `t` is the table in every expression.
const AT_UTC: &str = r#"AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'"#;

/// How a table is read: its columns as expressions over `t`.
#[derive(Debug, Clone)]
pub(super) struct Keyset {
    place: String,
    /// The table, qualified and quoted.
    table: String,
    /// What rows are ordered by: column and type. The key, maybe behind the column of a cursor.
    order: Vec<(String, String)>,
    /// The record as JSON text.
    record: String,
    /// The key's part of the record.
    key: String,
    /// What the cursor's column makes the version of, as text.
    stamp: String,
    /// When the row was written, if the cursor's column tells.
    written: String,
    /// Whether the row counts as deleted.
    deleted: String,
}

/// A row of a page.
#[derive(Debug)]
pub(super) struct Found {
    /// The record as JSON.
    pub(super) record: String,
    /// The key as JSON.
    pub(super) key: String,
    /// Where the next page goes on behind this row.
    pub(super) position: String,
    /// The number that the version is made of; none where the cursor's column is null.
    pub(super) stamp: Option<String>,
    /// When it was written, or read, RFC 3339.
    pub(super) written: String,
    /// Whether it counts as deleted.
    pub(super) deleted: bool,
}

impl Keyset {
    /// The table by its key alone.
    pub(super) fn by_key(table: &Table) -> Result<Self> {
        table.check_key()?;
        let list = |names: Vec<&str>| {
            let quoted: Vec<String> = names.iter().map(|name| format!("t.{}", quoted(name))).collect();
            quoted.join(", ")
        };
        let record = list(table.read().map(|column| column.name.as_str()).collect());
        let key = list(table.wanted.key.iter().map(String::as_str).collect());
        let order = table.wanted.key.iter().map(|name| typed(table, name)).collect::<Result<_>>()?;
        let reading = table.wanted.reading.as_ref();
        let cursor = reading.and_then(|reading| reading.cursor.as_ref());
        let (stamp, written) = match cursor {
            Some(Cursor::Xid8(name)) => {
                let (name, kind) = typed(table, name)?;
                must_be(table, &name, &kind, &["xid8"])?;
                (format!("t.{name}::text"), None)
            }
            Some(Cursor::Timestamp(name)) => {
                let (name, kind) = typed(table, name)?;
                must_be(table, &name, &kind, &["timestamp", "timestamp with time zone"])?;
                let zoned = kind.ends_with("with time zone") && !kind.ends_with("without time zone");
                let time = if zoned {
                    format!("t.{name} {AT_UTC}")
                } else {
                    format!("t.{name}, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'")
                };
                let micros = format!(
                    "CASE WHEN isfinite(t.{name}) THEN greatest(trunc(extract(epoch FROM t.{name}) * 1000000), 0) ELSE 0 END"
                );
                (
                    format!("({micros})::bigint::text"),
                    Some(format!("CASE WHEN isfinite(t.{name}) THEN to_char({time}) END")),
                )
            }
            None => ("NULL::text".to_owned(), None),
        };
        let now = format!("to_char(statement_timestamp() {AT_UTC})");
        let deleted = match reading.and_then(|reading| reading.soft_delete.as_ref()) {
            None => "false".to_owned(),
            Some(name) => match typed(table, name)? {
                (name, kind) if kind == "boolean" => format!("coalesce(t.{name}, false)"),
                (name, _) => format!("t.{name} IS NOT NULL"),
            },
        };
        Ok(Self {
            place: format!("table {}", table.wanted.table),
            table: table.sql_name(),
            order,
            record: format!("(SELECT row_to_json(r) FROM (SELECT {record}) AS r)::text"),
            key: format!("(SELECT row_to_json(r) FROM (SELECT {key}) AS r)::text"),
            stamp,
            written: written.map_or(now.clone(), |written| format!("coalesce({written}, {now})")),
            deleted,
        })
    }

    /// The table by the column of its cursor, then by its key.
    pub(super) fn by_cursor(table: &Table) -> Result<Self> {
        let by_key = Self::by_key(table)?;
        let Some(Cursor::Xid8(name) | Cursor::Timestamp(name)) =
            table.wanted.reading.as_ref().and_then(|reading| reading.cursor.as_ref())
        else {
            return Err(Error {
                kind: Kind::Misconfigured,
                code: "no_cursor",
                place: by_key.place,
                remedy: "mode `timestamp` needs `cursor: { xid8: … }` or `cursor: { timestamp: … }`".into(),
            });
        };
        let mut order = vec![typed(table, name)?];
        order.extend(by_key.order.iter().cloned());
        Ok(Self { order, ..by_key })
    }

    /// The same rows in the same order, with nothing of them but the key.
    pub(super) fn of_keys(&self) -> Self {
        Self { record: self.key.clone(), ..self.clone() }
    }

    /// What rows count as deleted, as a condition.
    pub(super) fn deleted(&self) -> &str {
        &self.deleted
    }

    /// The table, qualified and quoted.
    pub(super) fn table(&self) -> &str {
        &self.table
    }

    /// What is read, for errors.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// The key of a row as `jsonb`.
    pub(super) fn key(&self) -> String {
        format!("{}::jsonb", self.key)
    }

    /// The rows behind `position` (all without one) that meet a condition over `t` and `$4`, at most `limit`, and no more
    /// when they exceed `bytes`. The order of equal texts is the database's own, here and in its index.
    pub(super) async fn page(
        &self,
        session: &Session,
        position: Option<&str>,
        condition: &str,
        parameter: &str,
        (limit, bytes): (u32, u32),
    ) -> Result<Vec<Found>> {
        let columns = |prefix: &str, suffix: &str| {
            let columns: Vec<String> =
                self.order.iter().map(|(name, _)| format!("{prefix}{name}{suffix}")).collect();
            columns.join(", ")
        };
        let (order, texts) = (columns("t.", ""), columns("t.", "::text"));
        let behind: Vec<String> = self
            .order
            .iter()
            .enumerate()
            .map(|(at, (_, kind))| format!("($1::json->>{at})::{kind}"))
            .collect();
        let behind = match position {
            Some(_) => format!("({order}) > ({})", behind.join(", ")),
            None => "$1::json IS NOT NULL".to_owned(),
        };
        let Self { table, record, key, stamp, written, deleted, .. } = self;
        let sql = format!(
            "SELECT record, key, position, stamp, written, deleted FROM (
                SELECT *, sum(octet_length(record))
                    OVER (ORDER BY at ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
                FROM (SELECT {record} AS record, {key} AS key, json_build_array({texts})::text AS position,
                        {stamp} AS stamp, {written} AS written, {deleted} AS deleted,
                        row_number() OVER (ORDER BY {order}) AS at
                    FROM {table} AS t WHERE {behind} AND ($4::text IS NOT NULL) AND ({condition}\n)
                    ORDER BY {order} LIMIT $2::int) AS page) AS page
            WHERE coalesce(bytes_before, 0) < $3::bigint ORDER BY at"
        );
        let (limit, bytes) = (limit.to_string(), bytes.to_string());
        let parameters = [position.unwrap_or("[]"), &limit, &bytes, parameter];
        let found = rows(session, &self.place, &sql, &parameters).await?;
        found.iter().map(Found::read).collect()
    }
}

impl Found {
    fn read(row: &SqlRow) -> Result<Self> {
        Ok(Self {
            record: column(row, 0)?,
            key: column(row, 1)?,
            position: column(row, 2)?,
            stamp: column(row, 3)?,
            written: column(row, 4)?,
            deleted: column(row, 5)?,
        })
    }
}

/// A column, quoted, and its type.
fn typed(table: &Table, name: &str) -> Result<(String, String)> {
    let column = table.column(name).ok_or_else(|| Error {
        kind: Kind::Misconfigured,
        code: "no_column",
        place: format!("table {}, column {name}", table.wanted.table),
        remedy: "the column is not there: correct the source's file, or run what `datasync sql` prints"
            .into(),
    })?;
    Ok((quoted(name), column.type_name.clone()))
}

/// Makes sure that a cursor's column is of one of these types, whatever its precision.
fn must_be(table: &Table, name: &str, kind: &str, allowed: &[&str]) -> Result<()> {
    let plain: String = match (kind.find('('), kind.find(')')) {
        (Some(from), Some(to)) => kind.get(..from).into_iter().chain(kind.get(to + 1..)).collect(),
        _ => kind.to_owned(),
    };
    let plain = plain.replace(" without time zone", "");
    if allowed.contains(&plain.as_str()) {
        return Ok(());
    }
    Err(Error {
        kind: Kind::Misconfigured,
        code: "cursor_type",
        place: format!("table {}, column {name}", table.wanted.table),
        remedy: format!("it is of type {kind}; the cursor must be {}", allowed.join(" or ")),
    })
}
