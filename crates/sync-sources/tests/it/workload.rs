//! Writers that do all that a cursor can stumble over, with readers of every mode and backfills beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use sync_domain::change::Operation;
use sync_domain::config::PullMode;
use sync_domain::id::SourceId;
use sync_domain::version::Version;
use sync_sources::postgres::snapshot::Snapshot;
use sync_sources::postgres::sql::install;
use sync_sources::postgres::timestamp::Timestamp;
use sync_sources::postgres::trigger::Trigger;
use sync_sources::postgres::{Purpose, Wanted};
use sync_sources::{Kind, Reader, Row};
use sync_testkit::postgres::Server;
use tokio_postgres::Client;

use crate::stand::{BUSY_SERVER, Stand, poll, source, stamped, wanted};

pub(crate) const ITEMS: &str =
    "CREATE TABLE items (id int PRIMARY KEY, mark bigint NOT NULL, written timestamptz NOT NULL)";
const WRITERS: u64 = 8;
const IDS: u64 = 150;

/// How much is done; more with `CHAOS_SEEDS=5 CHAOS_CHANGES=30000`.
fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// What was committed.
#[derive(Default)]
pub(crate) struct Committed {
    pub(crate) marks: BTreeSet<i64>,
    pub(crate) deletes: usize,
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
pub(crate) async fn hold(milliseconds: u64) {
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

/// All writers, until enough changes were made.
pub(crate) async fn write(server: &'static Server, database: &str, seed: u64, changes: i64) -> Committed {
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

/// What a target has that goes by versions alone, whatever the order.
#[derive(Default)]
pub(crate) struct Replayed {
    rows: BTreeMap<i64, (Version, Option<i64>)>,
    pub(crate) conflicts: usize,
}

impl Replayed {
    pub(crate) fn apply(&mut self, row: &Row) {
        let record: Value =
            serde_json::from_str(row.after.as_ref().or(row.before.as_ref()).unwrap()).unwrap();
        let id = record["id"].as_i64().unwrap();
        let mark = row.after.is_some().then(|| record["mark"].as_i64().unwrap());
        match self.rows.get(&id) {
            Some((version, known)) if *version == row.version => {
                self.conflicts += usize::from(*known != mark);
            }
            Some((version, _)) if *version > row.version => {}
            _ => {
                self.rows.insert(id, (row.version, mark));
            }
        }
    }

    pub(crate) fn state(&self) -> BTreeMap<i64, i64> {
        self.rows.iter().filter_map(|(id, (_, mark))| Some((*id, (*mark)?))).collect()
    }
}

/// Polls until told to stop, and then until the state is that of the table, for a while.
async fn follow(
    mut reader: Box<dyn Reader>,
    mut cursor: Option<String>,
    stop: Arc<AtomicBool>,
    admin: Arc<Client>,
) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut replayed = Replayed::default();
    let mut deadline = None;
    loop {
        let stopped = stop.load(Ordering::Acquire);
        let more = poll(reader.as_mut(), &mut cursor).await.unwrap();
        more.iter().for_each(|row| replayed.apply(row));
        rows.extend(more);
        if stopped {
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + Duration::from_secs(10));
            if replayed.state() == table(&admin).await || Instant::now() > deadline {
                return rows;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Fewer rows than this from snapshots would say nothing of how they meet the changes.
const SNAPSHOTS: usize = 100;

/// Backfills again and again until told to stop. On a busy machine the writers may be done before a chunk's
/// wait is over: it then goes on until it has read something.
async fn backfill(
    stand: Arc<Stand>,
    source: SourceId,
    mode: PullMode,
    wanted: Wanted,
    stop: Arc<AtomicBool>,
) -> Vec<Row> {
    let mut rows = Vec::new();
    while !stop.load(Ordering::Acquire) || rows.len() <= SNAPSHOTS {
        let session = stand.session(Purpose::Write).await;
        let mut snapshot = Snapshot::new(session, source.clone(), mode, wanted.clone(), None, 40);
        let mut position = None;
        loop {
            match snapshot.chunk(position.as_deref(), 0).await {
                Ok(Some(page)) => {
                    rows.extend(page.rows);
                    position = Some(page.cursor);
                }
                Ok(None) => break,
                Err(error) => assert_eq!((error.kind, error.code), (Kind::Unavailable, "held")),
            }
        }
    }
    rows
}

pub(crate) async fn table(client: &Client) -> BTreeMap<i64, i64> {
    let rows = client.query("SELECT id::bigint, mark FROM items", &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_concurrent_writers_nothing_is_missed_and_the_end_is_the_same_in_every_mode() {
    for seed in 1..=setting("CHAOS_SEEDS", 1) {
        run(seed, i64::try_from(setting("CHAOS_CHANGES", 3_000)).unwrap()).await;
    }
}

async fn run(seed: u64, changes: i64) {
    let stand = Arc::new(Stand::on(&BUSY_SERVER, ITEMS).await);
    let plain = wanted("public.items", &["id"], &["mark"]);
    let by_xid = stamped(
        plain.clone(),
        r#"{"model": "price", "cursor": {"xid8": "changed_xid"}, "compare_keys": "0s"}"#,
    );
    let by_time = stamped(
        plain.clone(),
        r#"{"model": "price", "cursor": {"timestamp": "written"}, "compare_keys": "0s"}"#,
    );
    let modes: [(SourceId, PullMode, Wanted); 3] = [
        (source(), PullMode::Trigger, plain),
        ("by-xid".parse().unwrap(), PullMode::Timestamp, by_xid),
        ("by-time".parse().unwrap(), PullMode::Timestamp, by_time),
    ];
    let admin = Arc::new(stand.writer().await);
    let (stop_readers, stop_backfills) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));

    let mut tasks = Vec::new();
    for (source, mode, wanted) in &modes {
        stand.sql(&install(source, *mode, std::slice::from_ref(wanted), &stand.role)).await;
        let session = stand.session(Purpose::Write).await;
        let mut reader: Box<dyn Reader> = match mode {
            PullMode::Trigger => {
                Box::new(Trigger::new(session, source.clone(), "main", vec![wanted.clone()]))
            }
            _ => Box::new(Timestamp::new(session, source.clone(), vec![wanted.clone()])),
        };
        // Where it begins is fixed before the first write.
        let mut cursor = None;
        poll(reader.as_mut(), &mut cursor).await.unwrap();
        assert!(cursor.is_some());
        let live = tokio::spawn(follow(reader, cursor, stop_readers.clone(), admin.clone()));
        let backfills =
            backfill(stand.clone(), source.clone(), *mode, wanted.clone(), stop_backfills.clone());
        let backfills = tokio::spawn(backfills);
        tasks.push((live, backfills));
    }
    let other = BUSY_SERVER.client("postgres").await.unwrap();
    let stop = stop_backfills.clone();
    let holder = tokio::spawn(async move {
        while !stop.load(Ordering::Acquire) {
            other.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
            hold(300).await;
            other.batch_execute("COMMIT").await.unwrap();
        }
    });

    let committed = write(stand.server, &stand.database, seed, changes).await;
    stop_backfills.store(true, Ordering::Release);
    holder.await.unwrap();
    stop_readers.store(true, Ordering::Release);
    let end = table(&admin).await;
    assert!(i64::try_from(committed.marks.len()).unwrap() > changes / 2, "{}", committed.marks.len());

    for ((source, mode, _), (live, backfills)) in modes.iter().zip(tasks) {
        let (live, snapshots) = (live.await.unwrap(), backfills.await.unwrap());
        let mut replayed = Replayed::default();
        live.iter().chain(&snapshots).for_each(|row| replayed.apply(row));
        assert_eq!(difference(&replayed.state(), &end), [], "{source}, seed {seed}: changes and snapshots");
        assert_eq!(replayed.conflicts, 0, "{source}");
        let mut alone = Replayed::default();
        live.iter().for_each(|row| alone.apply(row));
        assert_eq!(difference(&alone.state(), &end), [], "{source}, seed {seed}: changes alone");
        if *mode == PullMode::Trigger {
            let seen: Vec<i64> = live.iter().filter_map(mark).collect();
            let distinct: BTreeSet<i64> = seen.iter().copied().collect();
            let missed: Vec<_> = committed.marks.symmetric_difference(&distinct).collect();
            assert_eq!(missed, Vec::<&i64>::new(), "{source}, seed {seed}");
            assert_eq!(seen.len(), committed.marks.len(), "each once");
            let deletes = live.iter().filter(|row| row.operation == Operation::Delete).count();
            assert_eq!(deletes, committed.deletes);
        }
    }
}

/// Rows that are not alike: id, here, there.
fn difference(a: &BTreeMap<i64, i64>, b: &BTreeMap<i64, i64>) -> Vec<(i64, Option<i64>, Option<i64>)> {
    let ids: BTreeSet<i64> = a.keys().chain(b.keys()).copied().collect();
    let pairs = ids.into_iter().map(|id| (id, a.get(&id).copied(), b.get(&id).copied()));
    pairs.filter(|(_, a, b)| a != b).collect()
}

pub(crate) fn mark(row: &Row) -> Option<i64> {
    let record: Value = serde_json::from_str(row.after.as_ref()?).unwrap();
    record["mark"].as_i64()
}
