//! Many rows in a table of the till, and writers that take them up and down.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use sync_tests::pos::Table;
use tokio_postgres::Client;

use crate::till::{Till, Written};
use sync_testkit::Dice;

/// Below it are the rows that the till begins with.
const FIRST: u64 = 1_001;
/// One row of so many is not there in the beginning.
const GONE: u64 = 20;
/// How far from where a backfill is half of the writes go.
const NEAR: u64 = 1_500;
/// Between two transactions of a writer.
const PAUSE: Duration = Duration::from_millis(15);

/// Rows of a table, numbered from `FIRST` on.
#[derive(Debug, Clone, Copy)]
pub struct Rows {
    table: Table,
    /// Those that are not there in the beginning included.
    count: u64,
}

impl Rows {
    /// Fills a table with so many rows. Nobody may capture it yet.
    pub async fn fill(till: &Till, table: Table, there: u64) -> Result<Self> {
        let count = there + there.div_ceil(GONE - 1);
        let rows = Self { table, count };
        let numbers = format!("generate_series({FIRST}, {}) AS id WHERE id % {GONE} <> 0", FIRST + count - 1);
        let (columns, values) = rows.columns("id", "0.5");
        let sql = format!("INSERT INTO {} ({columns}) SELECT {values} FROM {numbers}", table.table);
        till.pos.client().execute(&sql, &[]).await?;
        Ok(rows)
    }

    /// The columns of a new row and their values.
    fn columns(self, id: &str, number: &str) -> (&'static str, String) {
        match self.table.model {
            "pos_customer" => {
                let values = format!("{id}, 'till-' || {id} || '@example.com', {number}");
                ("customer_id, email, balance", values)
            }
            "pos_price" => ("sku, currency, amount", format!("{}, 'EUR', {number}", sku(id))),
            _ => ("store_id, name, floor_area", format!("{id}, 'Store ' || {id}, {number}")),
        }
    }

    fn insert(self, id: u64, number: u64) -> String {
        let (table, (columns, values)) =
            (self.table.table, self.columns(&id.to_string(), &number.to_string()));
        // A row that is deleted in name only is still there.
        let again = match self.table.model {
            "pos_store" => {
                " ON CONFLICT (store_id) DO UPDATE SET floor_area = excluded.floor_area, closed_at = NULL"
            }
            _ => "",
        };
        format!("INSERT INTO {table} ({columns}) VALUES ({values}){again}")
    }

    fn update(self, id: u64, number: u64) -> String {
        let (table, column) = (self.table.table, Till::number(self.table.model));
        format!("UPDATE {table} SET {column} = {number} WHERE {}", self.row(id))
    }

    fn delete(self, id: u64) -> String {
        let (table, row) = (self.table.table, self.row(id));
        match self.table.model {
            "pos_store" => format!("UPDATE {table} SET closed_at = now() WHERE {row}"),
            _ => format!("DELETE FROM {table} WHERE {row}"),
        }
    }

    fn row(self, id: u64) -> String {
        match self.table.model {
            "pos_customer" => format!("customer_id = {id}"),
            "pos_price" => format!("sku = {} AND currency = 'EUR'", sku(&id.to_string())),
            _ => format!("store_id = {id}"),
        }
    }
}

fn sku(id: &str) -> String {
    format!("'ROW-' || lpad({id}::text, 7, '0')")
}

/// One of several writers; each has rows of its own, so that it knows the order of what it commits.
struct Writer {
    rows: Rows,
    client: Client,
    dice: Dice,
    /// Rows `mine`, `mine + of`, `mine + 2 of`, … are its own.
    mine: u64,
    of: u64,
    /// The rows whose being there has changed.
    there: BTreeMap<u64, bool>,
    number: u64,
}

impl Writer {
    /// One transaction; gives what it has committed.
    async fn transaction(&mut self, near: u64) -> Result<Vec<Written>> {
        let before = self.there.clone();
        let mut written = Vec::new();
        self.client.batch_execute("BEGIN").await?;
        for _ in 0..=self.dice.below(3) {
            let id = self.pick(near);
            let is_there = *self.there.get(&id).unwrap_or(&!id.is_multiple_of(GONE));
            match (is_there, self.dice.below(10)) {
                (false, _) => written.push(self.insert(id).await?),
                (true, 0..6) => {
                    let number = self.next();
                    written.push(self.run(&self.rows.update(id, number), false).await?);
                }
                (true, 6..8) => written.push(self.delete(id).await?),
                (true, _) => {
                    written.push(self.delete(id).await?);
                    written.push(self.insert(id).await?);
                }
            }
        }
        if self.dice.below(300) == 0 {
            // A chunk that was dated before waits for it.
            tokio::time::sleep(Duration::from_millis(self.dice.below(400))).await;
        }
        if self.dice.below(20) == 0 {
            self.client.batch_execute("ROLLBACK").await?;
            self.there = before;
            return Ok(Vec::new());
        }
        self.client.batch_execute("COMMIT").await?;
        Ok(written)
    }

    /// A row of its own: any, or one that a backfill comes to about now.
    fn pick(&mut self, near: u64) -> u64 {
        let own = self.rows.count / self.of;
        let place = match self.dice.below(2) {
            0 => self.dice.below(own),
            _ => ((near + self.dice.below(2 * NEAR)).saturating_sub(NEAR) / self.of).min(own - 1),
        };
        FIRST + place * self.of + self.mine
    }

    fn next(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    async fn insert(&mut self, id: u64) -> Result<Written> {
        self.there.insert(id, true);
        let number = self.next();
        self.run(&self.rows.insert(id, number), false).await
    }

    async fn delete(&mut self, id: u64) -> Result<Written> {
        self.there.insert(id, false);
        self.run(&self.rows.delete(id), true).await
    }

    async fn run(&self, sql: &str, gone: bool) -> Result<Written> {
        let table = self.rows.table;
        let row = self.client.query_one(&format!("{sql} RETURNING {}", Till::state(table)), &[]).await?;
        let written = Written::of(table, &row);
        Ok(if gone { Written { number: None, ..written } } else { written })
    }
}

/// What writers go by.
#[derive(Debug, Default)]
pub struct Pace {
    /// How many rows a backfill has done: half of the writes go to the rows around.
    pub near: AtomicU64,
    /// Whether it is enough.
    pub stop: AtomicBool,
}

/// Lets writers work, each on rows of its own, until it is enough; gives what they have committed, in order per record.
pub async fn write(
    till: &Till,
    rows: Rows,
    writers: u64,
    dice: &mut Dice,
    pace: &Arc<Pace>,
) -> Result<Vec<Written>> {
    let mut working = Vec::new();
    for mine in 0..writers {
        let (client, dice, pace) = (till.pos.session().await?, dice.split(), Arc::clone(pace));
        let mut writer = Writer { rows, client, dice, mine, of: writers, there: BTreeMap::new(), number: 0 };
        working.push(tokio::spawn(async move {
            let mut written = Vec::new();
            while !pace.stop.load(Ordering::Acquire) {
                written.extend(writer.transaction(pace.near.load(Ordering::Relaxed)).await?);
                // So many that live capture keeps up with them.
                tokio::time::sleep(PAUSE).await;
            }
            anyhow::Ok(written)
        }));
    }
    let mut written = Vec::new();
    for writer in working {
        written.extend(writer.await??);
    }
    Ok(written)
}
