//! The writers of the workload, with readers of every mode and backfills beside them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use sync_domain::change::Operation;
use sync_domain::config::PullMode;
use sync_domain::id::SourceId;
use sync_sources::postgres::snapshot::Snapshot;
use sync_sources::postgres::sql::install;
use sync_sources::postgres::timestamp::Timestamp;
use sync_sources::postgres::trigger::Trigger;
use sync_sources::postgres::{Identity, Purpose, Wanted};
use sync_sources::{Kind, Reader, Row};
use sync_testkit::workload::{ITEMS, Replayed, difference, hold_the_horizon, setting, table, write};
use tokio_postgres::Client;

use crate::stand::{BUSY_SERVER, Stand, poll, source, stamped, wanted};

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
        more.iter().for_each(|row| apply(&mut replayed, row));
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
        let history = Identity::read(&session).await.unwrap();
        let mut snapshot = Snapshot::new(session, source.clone(), mode, wanted.clone(), None, 40, history);
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
    let holder = tokio::spawn(hold_the_horizon(&BUSY_SERVER, stop_backfills.clone()));

    let committed = write(stand.server, &stand.database, seed, changes).await;
    stop_backfills.store(true, Ordering::Release);
    holder.await.unwrap();
    stop_readers.store(true, Ordering::Release);
    let end = table(&admin).await;
    assert!(i64::try_from(committed.marks.len()).unwrap() > changes / 2, "{}", committed.marks.len());

    for ((source, mode, _), (live, backfills)) in modes.iter().zip(tasks) {
        let (live, snapshots) = (live.await.unwrap(), backfills.await.unwrap());
        let mut replayed = Replayed::default();
        live.iter().chain(&snapshots).for_each(|row| apply(&mut replayed, row));
        assert_eq!(difference(&replayed.state(), &end), [], "{source}, seed {seed}: changes and snapshots");
        assert_eq!(replayed.conflicts, 0, "{source}");
        let mut alone = Replayed::default();
        live.iter().for_each(|row| apply(&mut alone, row));
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

pub(crate) fn mark(row: &Row) -> Option<i64> {
    let record: Value = serde_json::from_str(row.after.as_ref()?).unwrap();
    record["mark"].as_i64()
}

pub(crate) fn apply(replayed: &mut Replayed, row: &Row) {
    let record: Value = serde_json::from_str(row.after.as_ref().or(row.before.as_ref()).unwrap()).unwrap();
    replayed.apply(record["id"].as_i64().unwrap(), row.version, mark(row));
}
