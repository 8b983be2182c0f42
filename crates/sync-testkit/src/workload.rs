//! Writers that do all that a cursor can stumble over, in a real PostgreSQL, and what a target would have of it.
//!
//! Of the transactions 1 % stay open for 1.5 s, 4 % commit in two phases, 5 % roll back, and some write under savepoints;
//! every choice comes from the seed.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use sync_domain::version::Version;
use tokio_postgres::Client;

use crate::postgres::Server;

/// The table that is written.
pub const ITEMS: &str =
    "CREATE TABLE items (id int PRIMARY KEY, mark bigint NOT NULL, written timestamptz NOT NULL)";
const WRITERS: u64 = 8;
/// So few that every row is written often, and by several writers at once.
const IDS: u64 = 150;

/// How much is done; more with `CHAOS_SEEDS=5 CHAOS_CHANGES=30000`.
pub fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// What was committed.
#[derive(Debug, Default)]
pub struct Committed {
    /// The marks of all rows that were inserted or updated: each stands for one change.
    pub marks: BTreeSet<i64>,
    /// How many rows were deleted.
    pub deletes: usize,
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.roll(100) < chance
    }
}

/// A pause that is part of the workload: a transaction that stays open, not a wait for something.
pub async fn hold(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

/// One transaction: some writes, in the order of their ids so that no two writers wait for each other.
async fn transaction(client: &Client, dice: &mut Dice, marks: &AtomicI64, name: &str, into: &mut Committed) {
    let run = async |sql: &str| client.batch_execute(sql).await.unwrap();
    run("BEGIN").await;
    if dice.percent(20) {
        // Early in the queue of transaction ids, late to write.
        run("SELECT pg_current_xact_id()").await;
        hold(dice.roll(20)).await;
    }
    let (mut written, mut deleted) = (Vec::new(), 0);
    let ids: BTreeSet<u64> = (0..=dice.roll(4)).map(|_| dice.roll(IDS)).collect();
    for id in ids {
        let undone = dice.percent(5);
        let savepoint = undone || dice.percent(10);
        if savepoint {
            run("SAVEPOINT s").await;
        }
        let mark = marks.fetch_add(1, Ordering::Relaxed);
        let sql = if dice.percent(20) {
            format!("DELETE FROM items WHERE id = {id}")
        } else {
            format!(
                "INSERT INTO items VALUES ({id}, {mark}, now())
                ON CONFLICT (id) DO UPDATE SET mark = excluded.mark, written = excluded.written"
            )
        };
        let rows = client.execute(&sql, &[]).await.unwrap();
        if undone {
            run("ROLLBACK TO s").await;
        } else if sql.starts_with("DELETE") {
            deleted += usize::try_from(rows).unwrap();
        } else {
            written.push(mark);
        }
        if savepoint && !undone {
            run("RELEASE s").await;
        }
    }
    if dice.percent(1) {
        hold(1_500).await;
    }
    let committed = if dice.percent(4) {
        run(&format!("PREPARE TRANSACTION '{name}'")).await;
        hold(dice.roll(100)).await;
        let committed = !dice.percent(20);
        run(&format!("{} PREPARED '{name}'", if committed { "COMMIT" } else { "ROLLBACK" })).await;
        committed
    } else {
        let committed = !dice.percent(5);
        run(if committed { "COMMIT" } else { "ROLLBACK" }).await;
        committed
    };
    if committed {
        into.marks.extend(written);
        into.deletes += deleted;
    }
}

/// All writers, until enough changes were made in the table of [`ITEMS`] in a database.
///
/// # Panics
/// A statement fails.
pub async fn write(server: &'static Server, database: &str, seed: u64, changes: i64) -> Committed {
    let marks = Arc::new(AtomicI64::new(1));
    let writers = (0..WRITERS).map(|writer| {
        let (marks, database) = (marks.clone(), database.to_owned());
        tokio::spawn(async move {
            let client = server.client(&database).await.unwrap();
            let mut dice = Dice(seed * 1_000 + writer + 1);
            let mut committed = Committed::default();
            let mut count = 0;
            while marks.load(Ordering::Relaxed) < changes {
                count += 1;
                let name = format!("{database} {writer} {count}");
                transaction(&client, &mut dice, &marks, &name, &mut committed).await;
            }
            committed
        })
    });
    let mut all = Committed::default();
    for writer in writers.collect::<Vec<_>>() {
        let one = writer.await.unwrap();
        all.marks.extend(one.marks);
        all.deletes += one.deletes;
    }
    all
}

/// Keeps the horizon of a cluster behind from another database, with transactions of 300 ms, until told to stop.
///
/// # Panics
/// A statement fails.
pub async fn hold_the_horizon(server: &'static Server, stop: Arc<AtomicBool>) {
    let other = server.client("postgres").await.unwrap();
    while !stop.load(Ordering::Acquire) {
        other.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
        hold(300).await;
        other.batch_execute("COMMIT").await.unwrap();
    }
}

/// What a target has that goes by versions alone, whatever the order.
#[derive(Debug, Default)]
pub struct Replayed {
    rows: BTreeMap<i64, (Version, Option<i64>)>,
    /// How often a version came again with another content.
    pub conflicts: usize,
}

impl Replayed {
    /// Takes in a change of a row to a mark, or to none where it was deleted.
    pub fn apply(&mut self, id: i64, version: Version, mark: Option<i64>) {
        match self.rows.get(&id) {
            Some((known, content)) if *known == version => {
                self.conflicts += usize::from(*content != mark);
            }
            Some((known, _)) if *known > version => {}
            _ => {
                self.rows.insert(id, (version, mark));
            }
        }
    }

    /// The marks of the rows that are there.
    pub fn state(&self) -> BTreeMap<i64, i64> {
        self.rows.iter().filter_map(|(id, (_, mark))| Some((*id, (*mark)?))).collect()
    }
}

/// The marks of the rows of the table itself.
///
/// # Panics
/// The query fails.
pub async fn table(client: &Client) -> BTreeMap<i64, i64> {
    let rows = client.query("SELECT id::bigint, mark FROM items", &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Rows that are not alike: id, here, there.
pub fn difference(a: &BTreeMap<i64, i64>, b: &BTreeMap<i64, i64>) -> Vec<(i64, Option<i64>, Option<i64>)> {
    let ids: BTreeSet<i64> = a.keys().chain(b.keys()).copied().collect();
    let pairs = ids.into_iter().map(|id| (id, a.get(&id).copied(), b.get(&id).copied()));
    pairs.filter(|(_, a, b)| a != b).collect()
}
