//! The envelope of an event. Members that are not known are passed over: new versions of Debezium add some.

use std::borrow::Cow;

use sync_domain::scan::{self, Kind, Scanner, Value};

use super::missing;
use crate::body::{CHANGE, Span};
use crate::refusal::{Fault, fault_in_change};

/// What a message is.
pub(super) enum Message<'a> {
    /// A change of a row or of a whole table.
    Event(Box<Envelope<'a>>),
    /// Something that Debezium sends besides, and what.
    PassedOver(&'static str),
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Create,
    Update,
    Delete,
    /// A row as a snapshot read it.
    Read,
    Truncate,
}

/// An event, as far as it counts here.
pub(super) struct Envelope<'a> {
    pub(super) op: Op,
    pub(super) before: Option<&'a str>,
    pub(super) after: Option<&'a str>,
    pub(super) source: Source<'a>,
    /// When it was committed, microseconds since 1970; when Debezium read it, where the source does not say.
    pub(super) committed_us: Option<i64>,
}

/// Where an event comes from.
pub(super) struct Source<'a> {
    /// `postgresql`, `mysql`, `mariadb`.
    pub(super) connector: Cow<'a, str>,
    database: Option<Cow<'a, str>>,
    schema: Option<Cow<'a, str>>,
    table: Option<Cow<'a, str>>,
    /// PostgreSQL: a JSON text in a string, the last commit's place in the log and the event's own.
    pub(super) sequence: Option<Cow<'a, str>>,
    /// MySQL: the name of the binary log's file.
    pub(super) file: Option<Cow<'a, str>>,
    /// MySQL: the place of the event in it.
    pub(super) offset: Option<u64>,
    /// MySQL: the row in the event.
    pub(super) row: Option<u64>,
}

impl Source<'_> {
    /// `schema.table`, or `database.table` where databases have no schemas.
    pub(super) fn table_name(&self) -> Option<String> {
        let first = self.schema.as_ref().or(self.database.as_ref())?;
        Some(format!("{first}.{}", self.table.as_ref()?))
    }
}

/// Reads a message.
pub(super) fn read(span: Span<'_>) -> Result<Message<'_>, Fault> {
    let scanned = |error| fault_in_change(error, span.offset);
    let whole = Value { raw: span.raw, kind: span.kind };
    let Some(event) = unwrapped(whole).map_err(scanned)? else { return Ok(Message::PassedOver("tombstone")) };
    if event.kind != Kind::Object {
        return Err(Fault::new(
            "not_an_object",
            format!("an event is an object; another value stands at byte {}", span.offset),
        ));
    }
    let names = ["op", "before", "after", "source", "ts_us", "ts_ms"];
    let ([op, before, after, source, ts_us, ts_ms], count) = members(event.raw, names).map_err(scanned)?;
    let Some(op) = op else { return aside(event, ts_ms.is_some() && count == 1).map_err(scanned)? };
    let op = match op.text().as_deref() {
        Some("c") => Op::Create,
        Some("u") => Op::Update,
        Some("d") => Op::Delete,
        Some("r") => Op::Read,
        Some("t") => Op::Truncate,
        // What somebody wrote into the log with pg_logical_emit_message.
        Some("m") => return Ok(Message::PassedOver("message")),
        _ => return Err(Fault::new("unknown_operation", "`op` is one of c, u, d, r, t, m")),
    };
    let source = source.filter(|source| source.kind == Kind::Object).ok_or_else(|| missing("source"))?;
    let (source, committed_us) = read_source(source.raw).map_err(scanned)?;
    let read_us = || micros(ts_us, 1, 1).or_else(|| micros(ts_ms, 1_000, 1));
    Ok(Message::Event(Box::new(Envelope {
        op,
        before: object(before, "before")?,
        after: object(after, "after")?,
        source: source.ok_or_else(|| missing("source.connector"))?,
        committed_us: committed_us.or_else(read_us),
    })))
}

/// The event without the schema that Kafka Connect's JSON converter puts beside it; none for a tombstone.
fn unwrapped(whole: Value<'_>) -> scan::Result<Option<Value<'_>>> {
    if whole.kind != Kind::Object {
        return Ok((!whole.is_null()).then_some(whole));
    }
    let mut wrapped = None;
    let mut bare = false;
    Scanner::new(whole.raw, &CHANGE)?.object(|scanner, name| {
        let value = scanner.value()?;
        match &*name {
            "payload" => wrapped = Some(value),
            "schema" => {}
            _ => bare = true,
        }
        Ok::<_, scan::Error>(())
    })?;
    Ok(match wrapped {
        Some(payload) if !bare => (!payload.is_null()).then_some(payload),
        _ => Some(whole),
    })
}

/// What has no operation: heartbeats, changes of the database's schema, the ends of transactions.
fn aside(event: Value<'_>, heartbeat: bool) -> scan::Result<Result<Message<'_>, Fault>> {
    if heartbeat {
        return Ok(Ok(Message::PassedOver("heartbeat")));
    }
    let ([ddl, changes, status, id], _) = members(event.raw, ["ddl", "tableChanges", "status", "id"])?;
    let ends = status.and_then(|status| status.text());
    Ok(if ddl.is_some() || changes.is_some() {
        Ok(Message::PassedOver("schema_change"))
    } else if id.is_some() && matches!(ends.as_deref(), Some("BEGIN" | "END")) {
        Ok(Message::PassedOver("transaction"))
    } else {
        Err(Fault::new(
            "not_debezium",
            "the event has no `op`: send Debezium's whole envelope in JSON, without a transform that unwraps the row",
        ))
    })
}

type ReadSource<'a> = (Option<Source<'a>>, Option<i64>);

fn read_source(raw: &str) -> scan::Result<ReadSource<'_>> {
    let names = ["connector", "db", "schema", "table", "sequence", "file"];
    let ([connector, database, schema, table, sequence, file], _) = members(raw, names)?;
    let ([offset, row, ts_us, ts_ms, ts_ns], _) = members(raw, ["pos", "row", "ts_us", "ts_ms", "ts_ns"])?;
    let committed_us =
        micros(ts_us, 1, 1).or_else(|| micros(ts_ns, 1, 1_000)).or_else(|| micros(ts_ms, 1_000, 1));
    let source = connector.and_then(text).map(|connector| Source {
        connector,
        database: database.and_then(text),
        schema: schema.and_then(text),
        table: table.and_then(text),
        sequence: sequence.and_then(text),
        file: file.and_then(text),
        offset: offset.and_then(number),
        row: row.and_then(number),
    });
    Ok((source, committed_us))
}

/// The values of some members, in the order of `names`, `null` as if it were not there, and how many members there are.
fn members<'a, const N: usize>(
    object: &'a str,
    names: [&str; N],
) -> scan::Result<([Option<Value<'a>>; N], usize)> {
    let mut found = [None; N];
    let mut count = 0;
    Scanner::new(object, &CHANGE)?.object(|scanner, name| {
        count += 1;
        let value = scanner.value()?;
        if let Some((place, _)) = found.iter_mut().zip(names).find(|(_, wanted)| *wanted == name) {
            *place = (!value.is_null()).then_some(value);
        }
        Ok::<_, scan::Error>(())
    })?;
    Ok((found, count))
}

fn object<'a>(value: Option<Value<'a>>, name: &'static str) -> Result<Option<&'a str>, Fault> {
    match value {
        Some(value) if value.kind == Kind::Object => Ok(Some(value.raw)),
        Some(_) => Err(Fault::new("wrong_type", format!("`{name}` must be an object or null"))),
        None => Ok(None),
    }
}

fn text(value: Value<'_>) -> Option<Cow<'_, str>> {
    value.text()
}

fn number<T: std::str::FromStr>(value: Value<'_>) -> Option<T> {
    value.raw.parse().ok()
}

/// A time in microseconds; 0 is none.
fn micros(value: Option<Value<'_>>, factor: i64, divisor: i64) -> Option<i64> {
    let time: i64 = value.and_then(number).filter(|time| *time > 0)?;
    time.checked_mul(factor)?.checked_div(divisor)
}
