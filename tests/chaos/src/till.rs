//! Writers at the point-of-sale database that know what they have committed.

use anyhow::Result;
use sync_tests::change::RecordName;
use sync_tests::ink::Ink;
use sync_tests::pos::{PointOfSale, Table};

use crate::dice::Dice;

/// One committed state of a row: its name, and the number that every write of it raises.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Written {
    /// The record.
    pub record: RecordName,
    /// The number; none when the row is gone.
    pub number: Option<String>,
}

/// A database with writers.
pub struct Till {
    /// The database.
    pub pos: PointOfSale,
}

impl Till {
    /// Starts it, ready to be read.
    pub async fn start() -> Result<Self> {
        let pos = PointOfSale::start(&Ink::Life).await?;
        pos.prepare().await?;
        Ok(Self { pos })
    }

    /// Raises the numbers of a few rows of a table in one transaction; answers with what it has committed.
    pub async fn write(&self, table: Table, dice: &mut Dice) -> Result<Vec<Written>> {
        let (number, filter) = match table.model {
            "pos_customer" => ("balance", "customer_id"),
            "pos_price" => ("amount", "right(sku, 4)::int"),
            _ => ("floor_area", "store_id"),
        };
        let (rest, modulus) = (dice.below(7), 7);
        let sql = format!(
            "UPDATE {name} SET {number} = {number} + 1 WHERE {filter} % {modulus} = {rest} \
             RETURNING (SELECT to_json(k) FROM (SELECT {key}) AS k)::text, to_json({number})::text",
            name = table.table,
            key = table.key,
        );
        let rows = self.pos.client().query(&sql, &[]).await?;
        let written = |row: &tokio_postgres::Row| Written {
            record: RecordName { model: table.model.to_owned(), key: row.get(0) },
            number: Some(row.get(1)),
        };
        Ok(rows.iter().map(written).collect())
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
