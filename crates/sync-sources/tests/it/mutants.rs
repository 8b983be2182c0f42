//! Cursors that look right and are not. Each must be caught where the real reader is not: a test that they pass proves
//! nothing.

use std::collections::BTreeSet;

use serde_json::Value;
use sync_domain::config::PullMode;
use sync_sources::PageSize;
use sync_sources::postgres::Purpose;
use sync_sources::postgres::timestamp::Timestamp;
use sync_sources::{Reader, Row};
use tokio_postgres::Client;

use crate::stand::{Stand, poll, source, stamped, wanted};

const ITEMS: &str =
    "CREATE TABLE items (id int PRIMARY KEY, mark bigint NOT NULL, written timestamptz NOT NULL)";

/// A wrong cursor: where it begins, and a statement that gives marks, each with the cursor behind it, from the cursor `$1`.
struct Mutant {
    name: &'static str,
    cursor: String,
    sql: &'static str,
    seen: BTreeSet<i64>,
}

impl Mutant {
    fn all() -> Vec<Self> {
        let mutant =
            |name, cursor: &str, sql| Self { name, cursor: cursor.to_owned(), sql, seen: BTreeSet::new() };
        vec![
            mutant(
                "later than the last time",
                "-infinity",
                "SELECT mark, written::text FROM items WHERE written > $1::text::timestamptz ORDER BY written",
            ),
            mutant(
                "(time, key) without a horizon",
                r#"["-infinity", 0]"#,
                "SELECT mark, json_build_array(written, id)::text FROM items
                WHERE (written, id) > (($1::text::json->>0)::timestamptz, ($1::text::json->>1)::int) ORDER BY written, id",
            ),
            mutant(
                "a window that overlaps",
                "-infinity",
                "SELECT mark, written::text FROM items
                WHERE written > $1::text::timestamptz - interval '50 ms' ORDER BY written",
            ),
            mutant(
                "xid8 without a horizon",
                "0",
                "SELECT mark, changed_xid::text FROM items i WHERE changed_xid > $1::text::xid8 ORDER BY i.changed_xid",
            ),
            mutant(
                "the sequence alone",
                "0",
                "SELECT (after->>'mark')::bigint, sequence::text FROM datasync.changes
                WHERE sequence > $1::text::bigint ORDER BY sequence",
            ),
            mutant(
                "the sequence below the oldest open transaction",
                "0",
                "SELECT (after->>'mark')::bigint, sequence::text FROM datasync.changes
                WHERE sequence > $1::text::bigint AND xid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY sequence",
            ),
            mutant(
                "xid8 in the order of its text",
                r#"["0", 0]"#,
                "SELECT (after->>'mark')::bigint, json_build_array(xid, sequence)::text, xid::text AS xid FROM datasync.changes c
                WHERE (c.xid, sequence) > (($1::text::json->>0)::xid8, ($1::text::json->>1)::bigint)
                    AND c.xid < pg_snapshot_xmin(pg_current_snapshot())
                ORDER BY xid, sequence LIMIT 1",
            ),
        ]
    }

    async fn poll(&mut self, client: &Client) {
        loop {
            let rows = client.query(self.sql, &[&self.cursor]).await.unwrap();
            let Some(last) = rows.last() else { return };
            self.cursor = last.get(1);
            let before = self.seen.len();
            self.seen.extend(rows.iter().map(|row| row.get::<_, i64>(0)));
            // One that reads the same again and again has read to its end.
            if self.seen.len() == before {
                return;
            }
        }
    }
}

/// A table that every mutant and every mode can read, two writers, and the real readers.
struct Scene {
    stand: Stand,
    a: Client,
    b: Client,
    trigger: Box<dyn Reader>,
    xid: Box<dyn Reader>,
    cursors: [Option<String>; 2],
    seen: [BTreeSet<i64>; 2],
    mutants: Vec<Mutant>,
}

impl Scene {
    async fn new() -> Self {
        let stand = Stand::new(ITEMS).await;
        let plain = [wanted("public.items", &["id"], &["mark"])];
        let by_xid = [stamped(plain[0].clone(), r#"{"model": "price", "cursor": {"xid8": "changed_xid"}}"#)];
        stand.install(PullMode::Trigger, &plain).await;
        stand.install(PullMode::Timestamp, &by_xid).await;
        let trigger = stand.trigger(&plain).await.with_page_size(PageSize { rows: 1, ..PageSize::default() });
        let xid = Timestamp::new(stand.session(Purpose::Write).await, source(), by_xid.to_vec());
        let (a, b) = (stand.writer().await, stand.writer().await);
        let (cursors, seen) = Default::default();
        let (trigger, xid) = (Box::new(trigger), Box::new(xid));
        let mut scene = Self { stand, a, b, trigger, xid, cursors, seen, mutants: Mutant::all() };
        scene.poll().await;
        scene
    }

    async fn poll(&mut self) {
        for mutant in &mut self.mutants {
            mutant.poll(&self.stand.admin).await;
        }
        for (at, reader) in [&mut self.trigger, &mut self.xid].into_iter().enumerate() {
            let rows = poll(reader.as_mut(), &mut self.cursors[at]).await.unwrap();
            self.seen[at].extend(rows.iter().filter_map(mark));
        }
    }

    /// Notes which mutants have not seen all that was committed, and makes sure that the readers have.
    async fn end(mut self, committed: &[i64], caught: &mut BTreeSet<&'static str>) {
        self.stand.settle().await;
        self.poll().await;
        let committed: BTreeSet<i64> = committed.iter().copied().collect();
        assert_eq!(self.seen, [committed.clone(), committed.clone()]);
        caught
            .extend(self.mutants.iter().filter(|mutant| mutant.seen != committed).map(|mutant| mutant.name));
    }
}

fn mark(row: &Row) -> Option<i64> {
    let record: Value = serde_json::from_str(row.after.as_ref()?).unwrap();
    record["mark"].as_i64()
}

fn put(id: i64, mark: i64) -> String {
    format!(
        "INSERT INTO items VALUES ({id}, {mark}, now())
        ON CONFLICT (id) DO UPDATE SET mark = excluded.mark, written = excluded.written"
    )
}

async fn run(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap();
}

/// Waits until nothing is open that is older than the transaction of `client`.
async fn wait_for_oldest(stand: &Stand, client: &Client) {
    let xid: String = client.query_one("SELECT pg_current_xact_id()::text", &[]).await.unwrap().get(0);
    let older = format!("pg_snapshot_xmin(pg_current_snapshot()) < '{xid}'::xid8");
    while stand.ask(&older).await == "true" {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn every_wrong_cursor_is_caught_and_the_real_ones_are_not() {
    let mut caught = BTreeSet::new();

    // One writes first and commits last, longer after than any window.
    let mut scene = Scene::new().await;
    run(&scene.a, &format!("BEGIN; {}", put(1, 1))).await;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    run(&scene.b, &put(2, 2)).await;
    scene.poll().await;
    run(&scene.a, "COMMIT").await;
    scene.end(&[1, 2], &mut caught).await;

    // The one with the higher transaction id takes the lower number, and commits last.
    let mut scene = Scene::new().await;
    run(&scene.a, "BEGIN; SELECT pg_current_xact_id()").await;
    run(&scene.b, &format!("BEGIN; {}", put(1, 1))).await;
    run(&scene.a, &format!("{}; COMMIT", put(2, 2))).await;
    wait_for_oldest(&scene.stand, &scene.b).await;
    scene.poll().await;
    run(&scene.b, "COMMIT").await;
    scene.end(&[1, 2], &mut caught).await;

    // Transaction ids with one digit more.
    let mut scene = Scene::new().await;
    let changes = "INSERT INTO datasync.changes (xid, source, table_name, operation, after)
        SELECT xid::text::xid8, 'shop', 'public.items', 'insert', json_build_object('id', xid, 'mark', xid)
        FROM (VALUES (9), (10)) AS v (xid)";
    run(&scene.a, changes).await;
    run(&scene.a, "UPDATE datasync.sources SET pruned = '0'; UPDATE datasync.readers SET confirmed = '0'")
        .await;
    let mut cursor: Value = serde_json::from_str(scene.cursors[0].as_ref().unwrap()).unwrap();
    cursor["xid"] = 1.into();
    scene.cursors[0] = Some(cursor.to_string());
    scene.poll().await;
    assert_eq!(scene.seen[0], BTreeSet::from([9, 10]));
    caught.extend(
        scene
            .mutants
            .iter()
            .filter(|mutant| mutant.name.contains("text") && mutant.seen.len() < 2)
            .map(|m| m.name),
    );

    let all: BTreeSet<&str> = Mutant::all().iter().map(|mutant| mutant.name).collect();
    assert_eq!(caught, all);
}

#[tokio::test]
async fn of_two_changes_of_a_row_the_later_has_the_higher_version_whatever_the_transactions_say() {
    let stand = Stand::new(ITEMS).await;
    let tables = [wanted("public.items", &["id"], &["mark"])];
    stand.install(PullMode::Trigger, &tables).await;
    let mut reader = stand.trigger(&tables).await;
    let mut cursor = None;
    poll(&mut reader, &mut cursor).await.unwrap();
    let (older, younger) = (stand.writer().await, stand.writer().await);
    run(&older, "BEGIN; SELECT pg_current_xact_id()").await;
    run(&younger, &put(1, 1)).await;
    run(&older, &format!("{}; COMMIT", put(1, 2))).await;
    stand.settle().await;

    // The mutant: a version made of (xid8, sequence).
    let by_transaction =
        "SELECT after->>'mark' FROM datasync.changes ORDER BY xid DESC, sequence DESC LIMIT 1";
    assert_eq!(stand.ask(by_transaction).await, "1", "the row has 2");
    let rows = poll(&mut reader, &mut cursor).await.unwrap();
    let last = rows.iter().max_by_key(|row| row.version).unwrap();
    assert_eq!((rows.len(), mark(last)), (2, Some(2)));
    assert!(rows.is_sorted_by(|a, b| a.version < b.version));
}
