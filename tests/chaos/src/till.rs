//! Writers at the point-of-sale database that know what they have committed.

use std::collections::BTreeMap;

use anyhow::Result;
use sync_tests::change::RecordName;
use sync_tests::ink::Ink;
use sync_tests::pos::{PointOfSale, Table};
use tokio_postgres::Row;

use sync_testkit::Dice;

/// One committed state of a row: its name, and the number that every write of it raises.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Written {
    /// The record.
    pub record: RecordName,
    /// The number; none when the row is gone.
    pub number: Option<String>,
}

impl Written {
    /// From a row with what [`Till::state`] selects.
    pub(crate) fn of(table: Table, row: &Row) -> Self {
        let record = RecordName { model: table.model.to_owned(), key: row.get(0) };
        Self { record, number: Some(row.get(1)) }
    }
}

/// A database with writers.
pub struct Till {
    /// The database.
    pub pos: PointOfSale,
}

impl Till {
    /// Starts it, ready to be read.
    pub async fn start() -> Result<Self> {
        let till = Self::unprepared().await?;
        till.pos.prepare().await?;
        Ok(till)
    }

    /// Starts it, not ready to be read yet.
    pub async fn unprepared() -> Result<Self> {
        Ok(Self { pos: PointOfSale::start(&Ink::Life).await? })
    }

    /// Raises the numbers of a few rows of a table in one transaction; answers with what it has committed.
    pub async fn write(&self, table: Table, dice: &mut Dice) -> Result<Vec<Written>> {
        let number = Self::number(table.model);
        let filter = match table.model {
            "pos_customer" => "customer_id",
            "pos_price" => "right(sku, 4)::int",
            _ => "store_id",
        };
        let (rest, modulus) = (dice.below(7), 7);
        let sql = format!(
            "UPDATE {name} SET {number} = {number} + 1 WHERE {filter} % {modulus} = {rest} RETURNING {state}",
            name = table.table,
            state = Self::state(table),
        );
        let rows = self.pos.client().query(&sql, &[]).await?;
        Ok(rows.iter().map(|row| Written::of(table, row)).collect())
    }

    /// What a table holds: its rows, each with its number.
    pub async fn table(&self, table: Table) -> Result<BTreeMap<RecordName, String>> {
        let sql = format!("SELECT {} FROM {} WHERE {}", Self::state(table), table.table, table.live);
        let rows = self.pos.client().query(&sql, &[]).await?;
        let written = rows.iter().map(|row| Written::of(table, row));
        Ok(written.filter_map(|written| Some((written.record, written.number?))).collect())
    }

    /// The name and the number of a row, in SQL.
    pub(crate) fn state(table: Table) -> String {
        let number = Self::number(table.model);
        format!("(SELECT to_json(k) FROM (SELECT {}) AS k)::text, to_json({number})::text", table.key)
    }

    /// What a row's number is called in its change.
    pub fn number(model: &str) -> &'static str {
        match model {
            "pos_customer" => "balance",
            "pos_price" => "amount",
            _ => "floor_area",
        }
    }
}
