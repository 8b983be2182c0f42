//! Makes records of tuples: the columns that the model reads, and no other, as a JSON object.

use std::sync::Arc;

use super::super::pgoutput::{Field, Old, Relation, Tuple};
use super::super::schema::{Shape, Table, Types};
use super::super::value;
use crate::{Error, Kind, Result};

/// How the tuples of a relation are read.
#[derive(Debug)]
pub(super) struct Plan {
    /// The table as it is now.
    pub(super) table: Arc<Table>,
    /// Where its rows are set aside, the place that is named.
    pub(super) set_aside: Option<String>,
    /// What becomes of each value of a tuple; none: nothing.
    takes: Vec<Option<Take>>,
    /// The columns that the model reads and the table has, but not the tuples: newer, generated, or not published.
    absent: Vec<String>,
    /// Whether an old row is whole.
    whole_old_rows: bool,
}

#[derive(Debug)]
struct Take {
    name: String,
    /// `"name":`, to be copied.
    member: String,
    shape: Shape,
    in_key: bool,
}

/// A record, perhaps not whole yet.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) json: String,
    /// The columns that are still to be read from the table.
    pub(super) missing: Vec<String>,
}

impl Plan {
    /// Fits a relation to a table.
    pub(super) fn new(
        relation: &Relation<'_>,
        table: Arc<Table>,
        types: &Types,
        set_aside: Option<String>,
    ) -> Self {
        let take = |column: &super::super::pgoutput::RelationColumn<'_>| {
            table.wanted.columns.contains_key(column.name).then(|| Take {
                name: column.name.to_owned(),
                member: format!("{}:", serde_json::Value::from(column.name)),
                shape: types.shape(column.type_oid).clone(),
                in_key: table.wanted.key.iter().any(|key| key == column.name),
            })
        };
        let takes: Vec<_> = relation.columns.iter().map(take).collect();
        let has = |name: &str| takes.iter().flatten().any(|take: &Take| take.name == name);
        let absent =
            table.read().filter(|column| !has(&column.name)).map(|column| column.name.clone()).collect();
        // The rows of a root carry what the identity of the partition told.
        let of_root = table.partitioned && relation.oid == table.oid;
        let whole_old_rows = !of_root || table.whole_old_rows;
        Self { table, set_aside, takes, absent, whole_old_rows }
    }

    /// The record of a row; what an update left as it was comes from the old row where that is whole.
    pub(super) fn record(&self, tuple: Tuple<'_>, old: Option<Tuple<'_>>) -> Result<Record> {
        let mut json = String::with_capacity(256);
        let mut missing = self.absent.clone();
        let mut old = old.map(|old| old.fields());
        json.push('{');
        for (take, field) in self.takes.iter().zip(tuple.fields()) {
            let before = old.as_mut().and_then(Iterator::next);
            let Some(take) = take else { continue };
            let field = match (field, before) {
                (Field::Unchanged, Some(before)) => before,
                (field, _) => field,
            };
            let start = json.len();
            if start > 1 {
                json.push(',');
            }
            json.push_str(&take.member);
            let written = match field {
                Field::Null => {
                    json.push_str("null");
                    true
                }
                Field::Text(text) => value::write(&mut json, self.text(text, take)?, &take.shape).is_ok(),
                Field::Unchanged => false,
            };
            // A composite type that was altered since reads otherwise than the types say now; the table knows.
            if !written {
                json.truncate(start);
                missing.push(take.name.clone());
            }
        }
        json.push('}');
        Ok(Record { json, missing })
    }

    /// What stands in the log of the row before: the whole record, or else none.
    pub(super) fn before(&self, old: Old<'_>) -> Result<Option<String>> {
        let Some(old) = self.whole(old) else { return Ok(None) };
        let record = self.record(old, None)?;
        Ok(record.missing.is_empty().then_some(record.json))
    }

    /// The old row, if the log holds all of it.
    pub(super) fn whole<'a>(&self, old: Old<'a>) -> Option<Tuple<'a>> {
        match old {
            Old::Row(tuple) if self.whole_old_rows => Some(tuple),
            Old::Row(_) | Old::Key(_) => None,
        }
    }

    /// A record of the key alone.
    pub(super) fn key_record(&self, tuple: Tuple<'_>) -> Result<String> {
        let mut json = String::with_capacity(64);
        for (take, text) in self.key_fields(tuple) {
            json.push(if json.is_empty() { '{' } else { ',' });
            json.push_str(&take.member);
            let text = self.text(text.ok_or_else(|| self.no_key())?, take)?;
            value::write(&mut json, text, &take.shape).map_err(|_| self.unreadable(take))?;
        }
        json.push('}');
        Ok(json)
    }

    /// Whether the row has another key than before.
    pub(super) fn key_changed(&self, old: Tuple<'_>, new: Tuple<'_>) -> bool {
        let mut pairs = self.key_fields(old).zip(self.key_fields(new));
        // A value that the update left as it was is not in the new row.
        pairs.any(|((_, old), (_, new))| new.is_some() && old != new)
    }

    /// The values of the key as text, in the order of the model's key; out of the old row what an update left as it was.
    pub(super) fn key(&self, tuple: Tuple<'_>, old: Option<Tuple<'_>>) -> Result<Vec<String>> {
        let value = |name: &String| {
            let of = |tuple| self.key_fields(tuple).find(|(take, _)| take.name == *name);
            let (take, text) = of(tuple).ok_or_else(|| self.no_key())?;
            let text = text.or_else(|| of(old?).and_then(|(_, text)| text)).ok_or_else(|| self.no_key())?;
            self.text(text, take).map(str::to_owned)
        };
        self.table.wanted.key.iter().map(value).collect()
    }

    fn key_fields<'a>(&'a self, tuple: Tuple<'a>) -> impl Iterator<Item = (&'a Take, Option<&'a [u8]>)> {
        self.takes.iter().zip(tuple.fields()).filter_map(|(take, field)| {
            let text = match field {
                Field::Text(text) => Some(text),
                Field::Null | Field::Unchanged => None,
            };
            take.as_ref().filter(|take| take.in_key).map(|take| (take, text))
        })
    }

    fn text<'a>(&self, text: &'a [u8], take: &Take) -> Result<&'a str> {
        str::from_utf8(text).map_err(|_| self.unreadable(take))
    }

    fn unreadable(&self, take: &Take) -> Error {
        Error {
            kind: Kind::Misconfigured,
            code: "unreadable_value",
            place: format!("table {}, column {}", self.table.wanted.table, take.name),
            remedy:
                "the log holds a value that is not of the column's type; take the column out of the model"
                    .into(),
        }
    }

    fn no_key(&self) -> Error {
        Error {
            kind: Kind::Misconfigured,
            code: "no_key",
            place: format!("table {}, columns {}", self.table.wanted.table, self.table.wanted.key.join(", ")),
            remedy: "the log holds no value for the model's key: its columns must belong to the replica identity, be \
                     published, and not be generated"
                .into(),
        }
    }
}
