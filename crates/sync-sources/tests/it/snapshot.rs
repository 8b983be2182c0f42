//! Chunks of a backfill beside writers.

use std::time::Duration;

use sync_domain::change::Operation;
use sync_domain::config::PullMode;
use sync_domain::version::Version;
use sync_sources::postgres::snapshot::Snapshot;
use sync_sources::postgres::timestamp::Timestamp;
use sync_sources::postgres::{Identity, Purpose, Wanted};
use sync_sources::{Kind, Row};

use crate::log::Logged;
use crate::stand::{BUSY_SERVER, Stand, lines, poll, source, stamped, wanted};

const XID: &str = r#"{"model": "item", "cursor": {"xid8": "changed_xid"}}"#;
const ITEMS: &str = "CREATE TABLE items (id int PRIMARY KEY, mark int, written timestamptz)";

async fn snapshot(
    stand: &Stand,
    mode: PullMode,
    wanted: &Wanted,
    filter: Option<&str>,
    rows: u32,
) -> Snapshot {
    let session = stand.session(Purpose::Write).await;
    let history = Identity::read(&session).await.unwrap();
    Snapshot::new(session, source(), mode, wanted.clone(), filter.map(str::to_owned), rows, history)
}

#[tokio::test]
async fn a_chunk_of_another_history_is_refused() {
    let table = wanted("public.items", &["id"], &["mark"]);
    let stand = Stand::new(&format!(
        "{ITEMS}; ALTER TABLE items ADD changed_xid xid8; INSERT INTO items VALUES (1, 1)"
    ))
    .await;
    let now = Identity::read(&stand.session(Purpose::Read).await).await.unwrap();
    let other_cluster = Identity { system: "1".into(), ..now.clone() };
    let other_timeline = Identity { timeline: now.timeline + 1, ..now.clone() };
    let other_database = Identity { database: "elsewhere".into(), ..now.clone() };
    for (mode, reads) in [
        (PullMode::Log, table.clone()),
        (PullMode::Trigger, table.clone()),
        (PullMode::Timestamp, stamped(table.clone(), XID)),
    ] {
        // In mode log the role needs no more than to read the table.
        let grants = if mode == PullMode::Log { PullMode::Trigger } else { mode };
        stand.install(grants, std::slice::from_ref(&reads)).await;
        for (history, code) in [
            (&other_cluster, "other_cluster"),
            (&other_timeline, "other_timeline"),
            (&other_database, "other_database"),
        ] {
            let session = stand.session(Purpose::Write).await;
            let mut of = Snapshot::new(session, source(), mode, reads.clone(), None, 10, history.clone());
            let error = of.chunk(None, 0).await.unwrap_err();
            assert_eq!((error.kind, error.code), (Kind::Lost, code), "{mode:?}");
        }
        assert_eq!(all(&mut snapshot(&stand, mode, &reads, None, 10).await).await.len(), 1, "{mode:?}");
    }
}

#[tokio::test]
async fn the_history_is_in_the_cursor_of_every_mode() {
    let table = wanted("public.items", &["id"], &["mark"]);
    let stand = Stand::new(&format!("{ITEMS}; ALTER TABLE items ADD changed_xid xid8")).await;
    let tables = [stamped(table.clone(), XID)];
    let now = Identity::read(&stand.session(Purpose::Read).await).await.unwrap();
    stand.install(PullMode::Trigger, std::slice::from_ref(&table)).await;
    stand.install(PullMode::Timestamp, &tables).await;
    let (mut by_trigger, mut by_time) = (None, None);
    poll(&mut stand.trigger(std::slice::from_ref(&table)).await, &mut by_trigger).await.unwrap();
    let mut reader = Timestamp::new(stand.session(Purpose::Read).await, source(), tables.to_vec());
    poll(&mut reader, &mut by_time).await.unwrap();
    let mut logged = Logged { stand, tables: vec![table], cursor: None };
    logged.install().await;
    logged.poll().await.unwrap();
    for cursor in [by_trigger, by_time, logged.cursor] {
        assert_eq!(Identity::of_cursor(&cursor.unwrap()).unwrap(), now);
    }
    assert_eq!(Identity::of_cursor("7").unwrap_err().code, "cursor");
}

#[tokio::test]
async fn a_chunk_that_no_index_serves_ends_in_time_and_says_so() {
    let table = wanted("public.items", &["id"], &["mark"]);
    let stand = Stand::new(&format!("{ITEMS}; INSERT INTO items SELECT generate_series(1, 1000)")).await;
    stand.install(PullMode::Trigger, std::slice::from_ref(&table)).await;
    let slow = Some("pg_sleep(0.01) IS NULL");
    let longest = Duration::from_millis(300);
    let mut chunks = snapshot(&stand, PullMode::Trigger, &table, slow, 10).await.with_statement_time(longest);
    for _ in 0..2 {
        let error = chunks.chunk(None, 0).await.unwrap_err();
        assert_eq!((error.kind, error.code), (Kind::Misconfigured, "slow_chunk"), "{error}");
        assert!(error.remedy.contains("within 0.3 s: let an index serve the condition"), "{error}");
    }
}

async fn all(snapshot: &mut Snapshot) -> Vec<Row> {
    let (mut rows, mut position) = (Vec::new(), None);
    while let Some(page) = snapshot.chunk(position.as_deref(), 0).await.unwrap() {
        rows.extend(page.rows);
        position = Some(page.cursor);
    }
    rows
}

#[tokio::test]
async fn a_chunk_waits_for_a_change_that_it_would_hide() {
    let table = wanted("public.items", &["id"], &["mark"]);
    let stand = Stand::new(&format!("{ITEMS}; INSERT INTO items VALUES (1, 1)")).await;
    stand.install(PullMode::Trigger, std::slice::from_ref(&table)).await;
    let mut reader = stand.trigger(std::slice::from_ref(&table)).await;
    let mut cursor = None;
    poll(&mut reader, &mut cursor).await.unwrap();

    let writer = stand.writer().await;
    writer.batch_execute("BEGIN; UPDATE items SET mark = 2").await.unwrap();
    let mut snapshot = snapshot(&stand, PullMode::Trigger, &table, None, 10).await;
    // What a chunk that did not wait would read is the row as it was, under a version above that of the change.
    let waited = tokio::time::timeout(Duration::from_millis(300), snapshot.chunk(None, 0)).await;
    assert!(waited.is_err(), "{waited:?}");
    writer.batch_execute("COMMIT").await.unwrap();
    let rows = all(&mut snapshot).await;
    assert_eq!(lines(&rows), [r#"snapshot - {"id":1,"mark":2}"#]);

    writer.batch_execute("UPDATE items SET mark = 3").await.unwrap();
    stand.settle().await;
    let live = poll(&mut reader, &mut cursor).await.unwrap();
    assert_eq!(live.len(), 2);
    assert!(live[0].version < rows[0].version && rows[0].version < live[1].version);
}

#[tokio::test]
async fn a_chunk_gives_up_waiting_and_goes_on_where_it_was() {
    let table = wanted("public.items", &["id"], &["mark"]);
    let stand = Stand::on(&BUSY_SERVER, &format!("{ITEMS}; INSERT INTO items VALUES (1, 1)")).await;
    stand.install(PullMode::Trigger, std::slice::from_ref(&table)).await;
    let writer = stand.writer().await;
    writer.batch_execute("BEGIN; UPDATE items SET mark = 2").await.unwrap();
    let mut snapshot = snapshot(&stand, PullMode::Trigger, &table, None, 10).await;
    let error = snapshot.chunk(None, 0).await.unwrap_err();
    assert_eq!((error.kind, error.code), (Kind::Unavailable, "held"));
    writer.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(lines(&all(&mut snapshot).await), [r#"snapshot - {"id":1,"mark":1}"#]);
}

#[tokio::test]
async fn a_row_that_an_open_transaction_may_still_lower_is_left_to_the_live_reader() {
    let table = stamped(
        wanted("public.items", &["id"], &["mark"]),
        r#"{"model": "price", "cursor": {"xid8": "changed_xid"}}"#,
    );
    let tables = std::slice::from_ref(&table);
    // One row from before the column, one from a cluster that counted further.
    let stand = Stand::new(&format!("{ITEMS}; INSERT INTO items VALUES (1, 1)")).await;
    stand.install(PullMode::Timestamp, tables).await;
    stand
        .sql(
            "INSERT INTO items VALUES (2, 1), (3, 1);
            ALTER TABLE items DISABLE TRIGGER USER;
            UPDATE items SET changed_xid = '4000000000' WHERE id = 3;
            ALTER TABLE items ENABLE TRIGGER USER",
        )
        .await;
    let mut reader = Timestamp::new(stand.session(Purpose::Read).await, source(), tables.to_vec());
    let mut cursor = None;
    poll(&mut reader, &mut cursor).await.unwrap();

    let (older, younger) = (stand.writer().await, stand.writer().await);
    older.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
    younger.batch_execute("UPDATE items SET mark = 2 WHERE id = 2").await.unwrap();
    let rows = all(&mut snapshot(&stand, PullMode::Timestamp, &table, None, 2).await).await;
    assert_eq!(lines(&rows), [r#"snapshot - {"id":1,"mark":1}"#, r#"snapshot - {"id":3,"mark":1}"#]);
    assert!(rows.iter().all(|row| row.version == Version::from_decimal(0, "0").unwrap()));

    // The mutant gives the row with its own version, and the later write would lose against it.
    let mutant: u64 = stand.ask("SELECT changed_xid FROM items WHERE id = 2").await.parse().unwrap();
    older.batch_execute("UPDATE items SET mark = 3 WHERE id = 2; COMMIT").await.unwrap();
    stand.settle().await;
    let rows = poll(&mut reader, &mut cursor).await.unwrap();
    assert_eq!(lines(&rows), [r#"update - {"id":2,"mark":3}"#]);
    assert!(rows[0].version < Version::from_decimal(0, &(mutant * 2).to_string()).unwrap());
}

#[tokio::test]
async fn a_row_of_a_transaction_that_began_behind_the_mark_is_left_to_the_live_reader() {
    let table = stamped(wanted("public.items", &["id"], &["mark"]), XID);
    let stand = Stand::new(&format!("{ITEMS}; INSERT INTO items VALUES (1, 1), (2, 1)")).await;
    stand.install(PullMode::Timestamp, std::slice::from_ref(&table)).await;
    stand.sql("ALTER TABLE items DISABLE TRIGGER USER").await;
    let mut snapshot = snapshot(&stand, PullMode::Timestamp, &table, None, 1).await;
    let first = snapshot.chunk(None, 0).await.unwrap().unwrap();
    assert_eq!(lines(&first.rows), [r#"snapshot - {"id":1,"mark":1}"#]);

    // The statement waits for the table when the mark is already taken.
    let (writer, other) = (stand.writer().await, stand.writer().await);
    writer.batch_execute("BEGIN; LOCK TABLE items IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let write = async {
        let waits = format!(
            "EXISTS (SELECT FROM pg_stat_activity
                WHERE usename = '{}' AND datname = current_database() AND wait_event_type = 'Lock')",
            stand.role
        );
        while stand.ask(&waits).await == "false" {
            tokio::task::yield_now().await;
        }
        let younger: String = other.query_one("SELECT pg_current_xact_id()::text", &[]).await.unwrap().get(0);
        let update =
            format!("UPDATE items SET mark = 2, changed_xid = '{younger}'::xid8 WHERE id = 2; COMMIT");
        writer.batch_execute(&update).await.unwrap();
    };
    let (rest, ()) = tokio::join!(snapshot.chunk(Some(&first.cursor), 0), write);
    // As a row of another cluster it would come with the lowest version, and so would what it holds next time.
    assert_eq!(rest.unwrap(), None);
}

#[tokio::test]
async fn chunks_follow_the_key_and_a_finished_one_is_not_read_again() {
    let table = wanted("public.parts", &["maker", "serial"], &["weight"]);
    let stand = Stand::new(
        "CREATE TABLE parts (maker text, serial numeric(6,2), weight int, PRIMARY KEY (maker, serial));
        INSERT INTO parts SELECT chr(97 + n % 3) || '''\"', n / 4.0, n FROM generate_series(1, 100) n",
    )
    .await;
    stand.install(PullMode::Trigger, std::slice::from_ref(&table)).await;
    let (mut position, mut rows, mut chunks) = (None, Vec::new(), 0);
    loop {
        // Each chunk is read by another run, which knows only the position.
        let mut snapshot = snapshot(&stand, PullMode::Trigger, &table, None, 7).await;
        let Some(page) = snapshot.chunk(position.as_deref(), 0).await.unwrap() else { break };
        chunks += 1;
        rows.extend(page.rows);
        position = Some(page.cursor);
    }
    assert_eq!((rows.len(), chunks), (100, 15));
    assert!(rows.iter().all(|row| row.operation == Operation::Snapshot));
    let mut records = lines(&rows);
    records.sort();
    records.dedup();
    assert_eq!(records.len(), 100);
}

#[tokio::test]
async fn a_filter_is_the_operators_own_sql_and_changes_nothing() {
    let table = wanted("public.items", &["id"], &["mark"]);
    let stand = Stand::new(&format!(
        "{ITEMS}; INSERT INTO items SELECT n, n % 10 FROM generate_series(1, 1000) n; ANALYZE items"
    ))
    .await;
    stand.install(PullMode::Trigger, std::slice::from_ref(&table)).await;
    let mut some = snapshot(&stand, PullMode::Trigger, &table, Some("mark = 7 -- the seventh"), 500).await;
    assert_eq!(all(&mut some).await.len(), 100);
    for refused in [
        "nextval('datasync.changes_sequence_seq') > 0",
        "true); DELETE FROM datasync.changes; SELECT (true",
        "written IS NULL",
        "nothing = 1",
    ] {
        let mut snapshot = snapshot(&stand, PullMode::Trigger, &table, Some(refused), 10).await;
        let error = snapshot.chunk(None, 0).await.unwrap_err();
        assert_eq!(error.kind, Kind::Misconfigured, "{refused}: {error}");
        // The session is none the worse.
        assert_eq!(snapshot.chunk(None, 0).await.unwrap_err(), error);
    }
}

/// The keys of all rows.
async fn keys(snapshot: &mut Snapshot) -> Vec<String> {
    let (mut keys, mut position) = (Vec::new(), None);
    while let Some(page) = snapshot.keys(position.as_deref()).await.unwrap() {
        keys.extend(page.keys);
        position = Some(page.cursor);
    }
    keys
}

#[tokio::test]
async fn the_keys_of_a_table_are_those_of_all_rows_that_are_there() {
    let table = stamped(
        wanted("public.parts", &["maker", "serial"], &["weight"]),
        r#"{"model": "price", "cursor": {"xid8": "changed_xid"}, "soft_delete": "gone"}"#,
    );
    let tables = std::slice::from_ref(&table);
    let stand = Stand::on(
        &BUSY_SERVER,
        "CREATE TABLE parts (maker text, serial int, weight int, gone boolean, PRIMARY KEY (maker, serial));
        INSERT INTO parts SELECT 'a', n, n, n = 3 FROM generate_series(1, 5) n",
    )
    .await;
    stand.install(PullMode::Timestamp, tables).await;
    let (older, younger) = (stand.writer().await, stand.writer().await);
    older.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
    younger.batch_execute("UPDATE parts SET weight = 9 WHERE serial = 2").await.unwrap();
    let listed = async || keys(&mut snapshot(&stand, PullMode::Timestamp, &table, None, 2).await).await;
    let key = |serial: i32| format!(r#"{{"maker":"a","serial":{serial}}}"#);
    // Those alone would be sent as snapshots that nobody can lower yet. The others are no less there.
    let rows = all(&mut snapshot(&stand, PullMode::Timestamp, &table, None, 2).await).await;
    assert!(!lines(&rows).iter().any(|line| line.contains(r#""serial":2"#)), "{rows:?}");
    assert_eq!(listed().await, [1, 2, 4, 5].map(key));
    older.batch_execute("DELETE FROM parts WHERE serial < 3; COMMIT").await.unwrap();
    assert_eq!(listed().await, [4, 5].map(key));
}

#[tokio::test]
async fn keys_wait_for_a_transaction_whose_commit_may_lie_behind_the_reader() {
    let table = wanted("public.items", &["id"], &["mark"]);
    let stand = Stand::on(&BUSY_SERVER, &format!("{ITEMS}; INSERT INTO items VALUES (1, 1)")).await;
    stand.install(PullMode::Trigger, std::slice::from_ref(&table)).await;
    let writer = stand.writer().await;
    writer.batch_execute("BEGIN; DELETE FROM items").await.unwrap();
    let mut snapshot = snapshot(&stand, PullMode::Log, &table, None, 10).await;
    let error = snapshot.keys(None).await.unwrap_err();
    assert_eq!((error.kind, error.code), (Kind::Unavailable, "held"));
    writer.batch_execute("COMMIT").await.unwrap();
    assert_eq!(keys(&mut snapshot).await, Vec::<String>::new());
}

#[tokio::test]
async fn rows_that_row_security_hides_do_not_count_as_gone() {
    let table = wanted("public.items", &["id"], &["mark"]);
    let stand = Stand::new(&format!("{ITEMS}; INSERT INTO items VALUES (1, 1), (2, 2)")).await;
    stand.install(PullMode::Trigger, std::slice::from_ref(&table)).await;
    stand.sql("ALTER TABLE items ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON items USING (id = 1)").await;
    let mut snapshot = snapshot(&stand, PullMode::Trigger, &table, None, 10).await;
    let error = snapshot.keys(None).await.unwrap_err();
    assert_eq!((error.kind, error.code), (Kind::Misconfigured, "no_permission"));
}

#[tokio::test]
async fn a_large_row_makes_a_chunk_of_its_own() {
    let table = wanted("public.texts", &["id"], &["body"]);
    let stand = Stand::new(
        "CREATE TABLE texts (id int PRIMARY KEY, body text);
        INSERT INTO texts SELECT n, repeat('x', 1500000) FROM generate_series(1, 4) n",
    )
    .await;
    stand.install(PullMode::Trigger, std::slice::from_ref(&table)).await;
    let mut snapshot = snapshot(&stand, PullMode::Trigger, &table, None, 100).await;
    let first = snapshot.chunk(None, 0).await.unwrap().unwrap();
    assert_eq!(first.rows.len(), 2);
    assert_eq!(snapshot.chunk(Some(&first.cursor), 0).await.unwrap().unwrap().rows.len(), 2);
}

#[tokio::test]
async fn in_mode_log_a_row_is_above_all_that_was_flushed_and_below_all_that_comes() {
    let table = wanted("public.items", &["id"], &["mark"]);
    let stand = Stand::new(&format!("{ITEMS}; INSERT INTO items VALUES (1, 1)")).await;
    stand.install(PullMode::Trigger, std::slice::from_ref(&table)).await;
    let position = "(pg_current_wal_flush_lsn() - '0/0'::pg_lsn)";
    let before: u64 = stand.ask(position).await.parse().unwrap();
    let rows = all(&mut snapshot(&stand, PullMode::Log, &table, None, 10).await).await;
    stand.sql("UPDATE items SET mark = 2").await;
    let after: u64 = stand.ask(position).await.parse().unwrap();
    assert!(rows[0].version >= Version::from_log(0, before, u64::MAX));
    assert!(rows[0].version < Version::from_log(0, after, 0));
}
