//! What becomes of a source whose changes were lost: noticed, refused, and after a resync its targets have what it has.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod path;

use std::sync::{Arc, Mutex};

use sync_cli::sweep::{Swept, resync, sweep};
use sync_domain::ports::Topic;
use sync_testkit::postgres::{PASSWORD, Server};
use tokio::sync::Notify;

use crate::path::{Deadly, Held, Path, REFUSED, Rows};

/// A source of 60 customers that both targets have, whose slot the server then gave up. Ten were deleted meanwhile, five
/// deleted and inserted again, five updated, five inserted; one was given a name that no target takes.
async fn lost() -> Path {
    let path = Path::new("max_slot_wal_keep_size = '1MB'").await;
    path.sql("INSERT INTO customers (id, name) SELECT n, 'old' FROM generate_series(1, 60) n").await;
    assert_eq!(path.poll().await, "done");
    path.flow().await;
    assert_eq!((path.mirror.rows(), path.archive.rows()), (path.table().await, path.table().await));

    path.sql(
        "DELETE FROM customers WHERE id <= 15;
        INSERT INTO customers (id, name) SELECT n, 'again' FROM generate_series(11, 15) n;
        UPDATE customers SET name = 'new' WHERE id BETWEEN 16 AND 20;
        INSERT INTO customers (id, name) SELECT n, 'late' FROM generate_series(61, 65) n",
    )
    .await;
    path.sql(&format!("UPDATE customers SET name = '{REFUSED}' WHERE id = 25")).await;
    for _ in 0..4 {
        path.sql("SELECT pg_logical_emit_message(false, 'noise', repeat('x', 1000)); SELECT pg_switch_wal()")
            .await;
    }
    path.sql("CHECKPOINT").await;
    path
}

fn all(numbers: impl IntoIterator<Item = i64>, name: &str) -> Rows {
    numbers.into_iter().map(|number| (number, name.to_owned())).collect()
}

/// What the mirror must have: all, but of one customer what it had before.
async fn mirrored(path: &Path) -> Rows {
    let mut rows = path.table().await;
    assert_eq!(rows.insert(25, "old".to_owned()).as_deref(), Some(REFUSED));
    rows
}

async fn swept(path: &Path) -> Swept {
    sweep(&path.parts(path.topic.clone()), &path.source, false, &mut Vec::new()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_lost_slot_a_resync_brings_the_targets_to_what_the_source_has() {
    let path = Box::pin(lost()).await;
    let had = path.mirror.rows();
    for _ in 0..2 {
        assert_eq!(path.poll().await, "stopped", "noticed in one poll, and nothing is read on");
    }
    assert_eq!(path.tickets(), ["capture_pull: slot_lost".to_owned()].into());
    path.flow().await;
    assert_eq!(path.mirror.rows(), had);

    path.set_up().await;
    let mut told = Vec::new();
    // Nothing flows before the sweep is through: the ledger knows of none of the snapshots.
    let swept_first = resync(&path.parts(path.topic.clone()), &path.source, &mut told).await.unwrap();
    assert_eq!(swept_first, Swept { removed: 20, behind: 100, ..Swept::default() });
    let told = String::from_utf8(told).unwrap();
    assert!(told.contains("shop: 20 deletions published"), "{told}");
    path.flow().await;
    assert_eq!(path.mirror.rows(), mirrored(&path).await);
    // Without snapshots it learned nothing of what came meanwhile, and lost nothing that is there.
    assert_eq!(path.archive.rows(), all(11..=60, "old"));
    assert!(path.tickets().contains("deliver: refused_by_target"));

    let requests = (path.mirror.requests(), path.archive.requests());
    let again = swept(&path).await;
    path.flow().await;
    assert_eq!(again, Swept { removed: 0, behind: 51, settled: 74, ..Swept::default() });
    assert_eq!((path.mirror.requests(), path.archive.requests()), requests, "the second sweep sent nothing");

    path.sql("DELETE FROM customers WHERE id = 30; INSERT INTO customers (id, name) VALUES (1, 'back')")
        .await;
    path.sql("UPDATE customers SET name = 'fine' WHERE id = 25").await;
    assert_eq!(path.poll().await, "done");
    path.flow().await;
    assert_eq!(path.mirror.rows(), path.table().await);
    let archive = path.archive.rows();
    assert_eq!((archive.get(&1).map(String::as_str), archive.get(&30)), (Some("back"), None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_that_is_killed_is_run_again() {
    let path = Box::pin(lost()).await;
    path.poll().await;
    path.set_up().await;
    let died = Arc::new(Notify::new());
    let parts = path.parts(Deadly { topic: path.topic.clone(), takes: 7, died: Arc::clone(&died) });
    let mut told = Vec::new();
    tokio::select! {
        ended = resync(&parts, &path.source, &mut told) => panic!("{ended:?}"),
        () = died.notified() => {}
    }
    path.flow().await;
    let gone = |path: &Path| {
        20 - [path.mirror.rows(), path.archive.rows()].iter().flatten().filter(|row| *row.0 <= 10).count()
    };
    assert_eq!(gone(&path), 7);
    assert_eq!(swept(&path).await.removed, 13);
    path.flow().await;
    assert_eq!(gone(&path), 20);
    assert_eq!(path.mirror.rows(), mirrored(&path).await);
    assert_eq!(path.archive.rows(), all(11..=60, "old"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_comes_back_during_the_sweep_stays() {
    let path = Box::pin(lost()).await;
    path.poll().await;
    path.set_up().await;
    let held = Arc::new(Mutex::new(Vec::new()));
    resync(&path.parts(Held(Arc::clone(&held))), &path.source, &mut Vec::new()).await.unwrap();
    // Between the list and the topic.
    path.sql("INSERT INTO customers (id, name) SELECT n, 'back' FROM generate_series(1, 5) n").await;
    assert_eq!(path.poll().await, "done");
    path.flow().await;
    let removals = std::mem::take(&mut *held.lock().unwrap());
    assert_eq!(removals.len(), 20);
    for published in path.topic.publish(&removals).await {
        published.unwrap();
    }
    path.flow().await;
    assert_eq!(path.mirror.rows(), mirrored(&path).await);
    assert_eq!(path.archive.rows(), all(1..=5, "back").into_iter().chain(all(11..=60, "old")).collect());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_that_was_restored_elsewhere_is_refused_until_a_resync() {
    let mut path = Path::new("").await;
    path.sql("INSERT INTO customers (id, name) SELECT n, 'old' FROM generate_series(1, 20) n").await;
    assert_eq!(path.poll().await, "done");
    path.flow().await;
    let had = path.mirror.rows();

    let dump = path.server.socket().join("dump.sql").display().to_string();
    let database = |server: &Server| format!("--dbname={}", server.url("shop"));
    path.server.run("pg_dump", [database(&path.server), format!("--file={dump}")]).unwrap();
    let fresh = Server::start().unwrap();
    let role = format!("CREATE ROLE shop_reader LOGIN PASSWORD '{PASSWORD}'");
    fresh.database("shop").await.unwrap().batch_execute(&role).await.unwrap();
    fresh
        .run("psql", [database(&fresh), "--set=ON_ERROR_STOP=1".to_owned(), format!("--file={dump}")])
        .unwrap();
    path.move_to(fresh).await;
    path.set_up().await;
    path.sql("DELETE FROM customers WHERE id <= 3; INSERT INTO customers (id, name) VALUES (21, 'late')")
        .await;

    for _ in 0..2 {
        assert_eq!(path.poll().await, "stopped");
    }
    assert_eq!(path.tickets(), ["capture_pull: other_cluster".to_owned()].into());
    for work in [
        r#"{"backfill":{"model":"customer","run":"r1"}}"#,
        r#"{"record_ids":{"model":"customer","run":"r1","part":0}}"#,
    ] {
        let asked = path.parts(path.topic.clone()).function;
        let refused = asked.invoke(&format!(r#"{{"source":"shop","work":{work}}}"#)).await.unwrap();
        assert!(refused.unwrap_err().contains("the source is stopped"), "{work}");
    }
    path.flow().await;
    assert_eq!(path.mirror.rows(), had, "nothing of it was sent");

    let swept = resync(&path.parts(path.topic.clone()), &path.source, &mut Vec::new()).await.unwrap();
    assert_eq!(swept.removed, 6);
    path.flow().await;
    assert_eq!(path.mirror.rows(), path.table().await);
    path.sql("UPDATE customers SET name = 'new' WHERE id = 7").await;
    assert_eq!(path.poll().await, "done");
    path.flow().await;
    assert_eq!(path.mirror.rows(), path.table().await);
}
