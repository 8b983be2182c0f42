//! Mode `log`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use sync_domain::change::Operation;
use sync_domain::config::PullMode;
use sync_domain::version::Version;
use sync_sources::PageSize;
use sync_sources::postgres::log::{Log, Settings, sql};
use sync_sources::postgres::snapshot::Snapshot;
use sync_sources::postgres::{Access, Identity, Purpose, Wanted};
use sync_sources::{Error, Kind, Reader, Row};
use sync_testkit::postgres::{PASSWORD, Server};
use sync_testkit::workload::{ITEMS, Replayed, hold_the_horizon, table, write};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::stand::{SERVER, Stand, lines, poll, source, stamped, wanted};
use crate::workload::{apply, mark};

/// A database that is read by its log.
pub(crate) struct Logged {
    pub(crate) stand: Stand,
    pub(crate) tables: Vec<Wanted>,
    pub(crate) cursor: Option<String>,
}

impl Logged {
    pub(crate) async fn new(objects: &str, tables: Vec<Wanted>) -> Self {
        let stand = Stand::new(objects).await;
        let logged = Self { stand, tables, cursor: None };
        logged.install().await;
        logged
    }

    /// Runs what an administrator is given.
    pub(crate) async fn install(&self) {
        let name = &self.stand.database;
        self.stand.sql(&sql::install(&source(), name, name, &self.tables, &self.stand.role)).await;
    }

    pub(crate) async fn reader(&self) -> Log {
        reader(&SERVER, &self.stand.role, &self.stand.database, &self.tables).await
    }

    /// A whole poll by a reader of its own.
    pub(crate) async fn poll(&mut self) -> Result<Vec<Row>, Error> {
        poll(&mut self.reader().await, &mut self.cursor).await
    }

    pub(crate) async fn lines(&mut self) -> Vec<String> {
        lines(&self.poll().await.unwrap())
    }
}

/// A reader of a database whose slot and publication are called as it is.
async fn reader(server: &Server, role: &str, database: &str, tables: &[Wanted]) -> Log {
    let access = access(server, role, database);
    let session = access.open(Purpose::Read).await.unwrap();
    let (slot, publication) = (database.to_owned(), database.to_owned());
    Log::new(Settings { access, slot, publication, tables: tables.to_vec() }, session)
}

fn access(server: &Server, role: &str, database: &str) -> Access {
    Access {
        url: server.url_as(role, database).into(),
        root_certificates: None,
        allow_loopback: true,
        application_name: "datasync shop".into(),
    }
}

fn prices() -> Vec<Wanted> {
    vec![wanted("public.prices", &["id"], &["price", "note"])]
}

const PRICES: &str = "CREATE TABLE prices (id int PRIMARY KEY, price numeric(10,2), secret text, note text);";

/// Text that TOAST keeps out of line: it does not compress.
const LARGE: &str = "(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 400) i)";

#[tokio::test]
async fn every_kind_of_change_is_read_once_with_a_rising_version() {
    let mut logged = Logged::new(PRICES, prices()).await;
    logged.stand.sql("INSERT INTO prices VALUES (1, 9.90, 'x', 'a'), (2, 5, 'x', NULL)").await;
    logged.stand.sql("UPDATE prices SET price = 10.00, secret = 'y' WHERE id = 1").await;
    logged.stand.sql("UPDATE prices SET id = 3 WHERE id = 2").await;
    logged.stand.sql("DELETE FROM prices WHERE id = 1").await;
    logged.stand.sql("BEGIN; INSERT INTO prices VALUES (9, 9, 'x', 'never'); ROLLBACK").await;
    let rows = logged.poll().await.unwrap();
    assert_eq!(
        lines(&rows),
        [
            r#"create - {"id":1,"price":9.90,"note":"a"}"#,
            r#"create - {"id":2,"price":5.00,"note":null}"#,
            r#"update - {"id":1,"price":10.00,"note":"a"}"#,
            r#"delete {"id":2} -"#,
            r#"create - {"id":3,"price":5.00,"note":null}"#,
            r#"delete {"id":1} -"#,
        ]
    );
    assert!(rows.windows(2).all(|pair| pair[0].version < pair[1].version));
    assert!(rows.iter().all(|row| row.occurred_at.ends_with('Z') && row.set_aside.is_none()));
    assert!(logged.poll().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_full_identity_gives_the_whole_row_before() {
    let full = format!("{PRICES} ALTER TABLE prices REPLICA IDENTITY FULL;");
    let mut logged = Logged::new(&full, prices()).await;
    logged.stand.sql("INSERT INTO prices VALUES (1, 9.90, 'x', 'a')").await;
    logged.stand.sql("UPDATE prices SET price = 10.00 WHERE id = 1").await;
    logged.stand.sql("UPDATE prices SET id = 2 WHERE id = 1").await;
    logged.stand.sql("DELETE FROM prices").await;
    assert_eq!(
        logged.lines().await,
        [
            r#"create - {"id":1,"price":9.90,"note":"a"}"#,
            r#"update {"id":1,"price":9.90,"note":"a"} {"id":1,"price":10.00,"note":"a"}"#,
            r#"delete {"id":1,"price":10.00,"note":"a"} -"#,
            r#"create - {"id":2,"price":10.00,"note":"a"}"#,
            r#"delete {"id":2,"price":10.00,"note":"a"} -"#,
        ]
    );
}

#[tokio::test]
async fn a_large_value_that_an_update_left_alone_is_never_null() {
    for identity in ["DEFAULT", "FULL"] {
        let objects = format!("{PRICES} ALTER TABLE prices REPLICA IDENTITY {identity};");
        let mut logged = Logged::new(&objects, prices()).await;
        logged
            .stand
            .sql(&format!("INSERT INTO prices VALUES (1, 1, 'x', {LARGE}), (2, 1, 'x', {LARGE})"))
            .await;
        logged.poll().await.unwrap();
        logged.stand.sql("UPDATE prices SET price = 2").await;
        logged.stand.sql("UPDATE prices SET id = 3 WHERE id = 2").await;
        let note = logged.stand.ask(&format!("to_json({LARGE})")).await;
        let rows = logged.poll().await.unwrap();
        // The second update has changed the key since: there is nothing to read under it, and its delete follows.
        let kept = |id: u32| format!(r#"{{"id":{id},"price":2.00,"note":{note}}}"#);
        let after: Vec<_> = rows.iter().filter_map(|row| row.after.clone()).collect();
        match identity {
            "FULL" => assert_eq!(after, [kept(1), kept(2), kept(3)]),
            _ => assert_eq!(after, [kept(1), kept(3)]),
        }
        let last = rows.iter().map(|row| row.operation.as_str()).collect::<Vec<_>>();
        assert_eq!(last[last.len() - 2..], ["delete", "create"]);
    }
}

#[tokio::test]
async fn a_row_that_is_gone_before_its_large_value_is_read_ends_as_deleted() {
    let mut logged = Logged::new(PRICES, prices()).await;
    logged.stand.sql(&format!("INSERT INTO prices VALUES (1, 1, 'x', {LARGE})")).await;
    logged.poll().await.unwrap();
    logged.stand.sql("UPDATE prices SET price = 2; DELETE FROM prices").await;
    assert_eq!(logged.lines().await, [r#"delete {"id":1} -"#]);
}

#[tokio::test]
async fn a_truncated_table_stops_the_source_behind_what_was_before() {
    let mut logged = Logged::new(PRICES, prices()).await;
    logged
        .stand
        .sql("INSERT INTO prices VALUES (1, 1); TRUNCATE prices; INSERT INTO prices VALUES (2, 2)")
        .await;
    let mut reader = logged.reader().await;
    reader.begin(None, 0).await.unwrap();
    let page = reader.page().await.unwrap().unwrap();
    assert_eq!(page.rows.len(), 1);
    assert_lost(reader.page().await, "truncated");
    // And again from what was saved: it does not go on by itself.
    logged.cursor = Some(page.cursor);
    assert_lost(logged.poll().await, "truncated");
    // Read anew under another epoch, what was emptied before is the backfill's.
    let mut reader = logged.reader().await;
    reader.begin(None, 1).await.unwrap();
    let page = reader.page().await.unwrap().unwrap();
    assert_eq!(page.rows.len(), 2);
    logged.stand.sql("TRUNCATE prices").await;
    logged.cursor = Some(page.cursor);
    assert_lost(logged.poll().await, "truncated");
}

fn assert_lost<T: std::fmt::Debug>(result: Result<T, Error>, code: &str) {
    let error = result.unwrap_err();
    assert_eq!((error.kind, error.code), (Kind::Lost, code), "{error}");
}

#[tokio::test]
async fn partitions_are_read_as_their_table_and_emptying_one_is_noticed() {
    let objects = "
        CREATE TABLE prices (id int, region text, price numeric, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
        CREATE TABLE prices_eu PARTITION OF prices FOR VALUES IN ('eu');
        CREATE TABLE prices_us (price numeric, region text NOT NULL, id int NOT NULL, PRIMARY KEY (id, region));
        ALTER TABLE prices ATTACH PARTITION prices_us FOR VALUES IN ('us');";
    for root in [false, true] {
        let tables = vec![wanted("public.prices", &["id", "region"], &["price"])];
        let mut logged = Logged::new(objects, tables).await;
        let name = &logged.stand.database;
        logged
            .stand
            .sql(&format!("ALTER PUBLICATION {name} SET (publish_via_partition_root = {root})"))
            .await;
        logged.stand.sql("INSERT INTO prices VALUES (1, 'eu', 1), (2, 'us', 2)").await;
        logged.stand.sql("CREATE TABLE prices_jp PARTITION OF prices FOR VALUES IN ('jp')").await;
        logged
            .stand
            .sql("INSERT INTO prices VALUES (3, 'jp', 3); UPDATE prices SET region = 'eu' WHERE id = 2")
            .await;
        let records: Vec<(String, Value)> = logged.poll().await.unwrap().iter().map(parsed).collect();
        let expected = [
            ("create", json!({"id": 1, "region": "eu", "price": 1})),
            ("create", json!({"id": 2, "region": "us", "price": 2})),
            ("create", json!({"id": 3, "region": "jp", "price": 3})),
            ("delete", json!({"id": 2, "region": "us"})),
            ("create", json!({"id": 2, "region": "eu", "price": 2})),
        ];
        assert_eq!(records, expected.map(|(operation, record)| (operation.to_owned(), record)), "{root}");
        logged.stand.sql("TRUNCATE prices_eu").await;
        match root {
            false => assert_lost(logged.poll().await, "truncated"),
            // Which is why the SQL for the administrator publishes the partitions.
            true => assert_eq!(logged.poll().await.unwrap(), []),
        }
    }
}

#[tokio::test]
async fn a_publication_of_some_partitions_is_refused_and_of_each_is_enough() {
    let objects = "
        CREATE TABLE prices (id int, region text, price numeric, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
        CREATE TABLE prices_eu PARTITION OF prices FOR VALUES IN ('eu');
        CREATE TABLE prices_us PARTITION OF prices FOR VALUES IN ('us');";
    let mut logged = Logged::new(objects, vec![wanted("public.prices", &["id", "region"], &["price"])]).await;
    let publish = format!("ALTER PUBLICATION {} SET TABLE", logged.stand.database);
    for (tables, taken) in [
        ("prices_eu", false),
        ("prices_eu, prices_us WHERE (id > 0)", false),
        ("prices_eu, prices_us (id, region)", false),
        ("prices_eu, prices_us", true),
        ("prices_eu (price, region, id), prices_us", true),
        ("prices", true),
    ] {
        logged.stand.sql(&format!("{publish} {tables}")).await;
        let code = logged.poll().await.err().map(|error| error.code);
        assert_eq!(code, (!taken).then_some("publication"), "{tables}");
    }
}

/// The operation and the record of a row.
fn parsed(row: &Row) -> (String, Value) {
    let record = row.after.as_ref().or(row.before.as_ref()).unwrap();
    (row.operation.as_str().to_owned(), serde_json::from_str(record).unwrap())
}

#[tokio::test]
async fn generated_columns_have_their_values() {
    let objects = "CREATE TABLE prices (id int PRIMARY KEY, net int,
        gross int GENERATED ALWAYS AS (net * 2) STORED, half int GENERATED ALWAYS AS (net / 2) VIRTUAL);";
    let tables = vec![wanted("public.prices", &["id"], &["net", "gross", "half"])];
    let mut logged = Logged::new(objects, tables).await;
    logged.stand.sql("INSERT INTO prices VALUES (1, 10)").await;
    let stored = r#"create - {"id":1,"net":10,"gross":20,"half":5}"#;
    assert_eq!(logged.lines().await, [stored]);
    // As a server before 18 does.
    let name = &logged.stand.database;
    logged.stand.sql(&format!("ALTER PUBLICATION {name} SET (publish_generated_columns = none)")).await;
    logged.stand.sql("UPDATE prices SET net = 100").await;
    assert_eq!(logged.lines().await, [r#"update - {"id":1,"net":100,"gross":200,"half":50}"#]);
}

#[tokio::test]
async fn a_column_that_is_newer_than_the_change_is_read_from_the_table() {
    let objects = "CREATE TABLE prices (id int PRIMARY KEY, price numeric);";
    let mut logged = Logged::new(objects, vec![wanted("public.prices", &["id"], &["price"])]).await;
    logged.stand.sql("INSERT INTO prices VALUES (1, 1)").await;
    logged.stand.sql("ALTER TABLE prices ADD COLUMN note text DEFAULT 'new'").await;
    logged.stand.sql("INSERT INTO prices VALUES (2, 2, 'b')").await;
    logged.tables = prices();
    logged.install().await;
    assert_eq!(
        logged.lines().await,
        [r#"create - {"id":1,"price":1,"note":"new"}"#, r#"create - {"id":2,"price":2,"note":"b"}"#]
    );
}

#[tokio::test]
async fn a_table_that_no_longer_fits_is_read_on_set_aside_or_stops_as_its_file_says() {
    for drift in ["ignore", "quarantine", "fail"] {
        let reading = format!(r#"{{"model": "price", "drift": "{drift}"}}"#);
        let prices = stamped(prices().remove(0), &reading);
        let other = wanted("public.stores", &["id"], &["name"]);
        let objects = format!("{PRICES} CREATE TABLE stores (id int PRIMARY KEY, name text);");
        let mut logged = Logged::new(&objects, vec![prices, other]).await;
        logged.stand.sql("ALTER TABLE prices DROP COLUMN note").await;
        logged.stand.sql("INSERT INTO prices VALUES (1, 1); INSERT INTO stores VALUES (1, 'a')").await;
        let place = "table public.prices, column note";
        match (drift, logged.poll().await) {
            ("fail", Err(error)) => {
                assert_eq!(
                    (error.kind, error.code, error.place.as_str()),
                    (Kind::Misconfigured, "schema_drift", place)
                );
            }
            (_, Ok(rows)) => {
                assert_eq!(
                    lines(&rows),
                    [r#"create - {"id":1,"price":1.00}"#, r#"create - {"id":1,"name":"a"}"#]
                );
                assert_eq!(rows[0].set_aside.as_deref(), (drift == "quarantine").then_some(place));
                assert_eq!(rows[1].set_aside, None);
            }
            (_, other) => panic!("{drift}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_transaction_of_many_pages_goes_on_where_a_run_ended() {
    let mut logged = Logged::new(PRICES, prices()).await;
    logged.stand.sql("INSERT INTO prices SELECT i, i FROM generate_series(1, 25) i").await;
    let mut first = logged.reader().await.with_page_size(PageSize { rows: 10, bytes: u32::MAX });
    first.begin(None, 0).await.unwrap();
    let page = first.page().await.unwrap().unwrap();
    drop(first);
    assert_eq!(page.rows.len(), 10);

    // A mutant: a watermark that knows the commit and forgets the place in the transaction.
    let mut forgetful: Value = serde_json::from_str(&page.cursor).unwrap();
    forgetful["index"] = u64::MAX.into();
    let mut second = logged.reader().await;
    second.begin(Some(&forgetful.to_string()), 0).await.unwrap();
    assert_eq!(second.page().await.unwrap().map_or(0, |page| page.rows.len()), 0, "it loses the rest");
    drop(second);

    logged.cursor = Some(page.cursor);
    let rest = logged.poll().await.unwrap();
    assert_eq!(rest.len(), 15);
    let ids: BTreeSet<i64> =
        page.rows.iter().chain(&rest).map(|row| parsed(row).1["id"].as_i64().unwrap()).collect();
    assert_eq!(ids.len(), 25);
    assert!(page.rows.iter().chain(&rest).is_sorted_by_key(|row| row.version));
}

#[tokio::test]
async fn what_is_committed_while_a_poll_runs_belongs_to_the_next() {
    let mut logged = Logged::new(PRICES, prices()).await;
    let name = logged.stand.database.clone();
    logged.stand.sql("INSERT INTO prices VALUES (1, 1)").await;
    let mut reader = logged.reader().await;
    reader.begin(None, 0).await.unwrap();
    let page = reader.page().await.unwrap().unwrap();
    logged.stand.sql("INSERT INTO prices VALUES (2, 2)").await;
    reader.confirm(&page.cursor).await.unwrap();
    assert_eq!(reader.page().await.unwrap(), None);
    drop(reader);
    logged.cursor = Some(page.cursor);
    assert_eq!(logged.lines().await, [r#"create - {"id":2,"price":2.00,"note":null}"#]);

    // A mutant: it confirms as far as the log is written when it confirms.
    logged.stand.sql("INSERT INTO prices VALUES (3, 3)").await;
    let mut reader = logged.reader().await;
    reader.begin(logged.cursor.as_deref(), 0).await.unwrap();
    assert_eq!(reader.page().await.unwrap().unwrap().rows.len(), 1);
    drop(reader);
    logged.stand.sql("INSERT INTO prices VALUES (4, 4)").await;
    free(&logged.stand.admin, &name).await;
    logged
        .stand
        .sql(&format!("SELECT pg_replication_slot_advance('{name}', pg_current_wal_flush_lsn())"))
        .await;
    logged.cursor = None;
    assert_eq!(logged.poll().await.unwrap(), [], "it loses the fourth");
}

/// Waits until no session holds the slot.
async fn free(admin: &Client, slot: &str) {
    let sql = format!("SELECT active FROM pg_replication_slots WHERE slot_name = '{slot}'");
    while admin.query_one(&sql, &[]).await.unwrap().get(0) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_quiet_source_lets_go_of_the_log_that_others_write() {
    let mut logged = Logged::new(PRICES, prices()).await;
    logged.poll().await.unwrap();
    let mut reader = logged.reader().await;
    logged.stand.sql("CREATE TABLE noise AS SELECT repeat('x', 1000) FROM generate_series(1, 5000)").await;
    assert!(gauge(&mut reader, "lag_bytes").await.unwrap() > 4_000_000.0);
    let before = logged.cursor.clone();
    assert_eq!(poll(&mut reader, &mut logged.cursor).await.unwrap(), []);
    assert_ne!(logged.cursor, before);
    assert!(gauge(&mut reader, "lag_bytes").await.unwrap() < 1_000_000.0);
    assert_eq!(gauge(&mut reader, "safe_wal_percent").await, None, "this server gives no slot up");
}

async fn gauge(reader: &mut Log, name: &str) -> Option<f64> {
    let gauges = reader.gauges().await.unwrap();
    gauges.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
}

#[tokio::test]
async fn two_readers_never_read_a_slot_at_the_same_time() {
    let logged = Logged::new(PRICES, prices()).await;
    let name = &logged.stand.database;
    // Another consumer, by the replication protocol.
    let mut other = SERVER.command("pg_recvlogical");
    other.args(["--start", "--host", "127.0.0.1", "--username", "postgres", "--file", "/dev/null"]);
    other.arg("--port").arg(SERVER.port().to_string()).args(["--dbname", name, "--slot", name]);
    other.args(["--option", "proto_version=1", "--option"]).arg(format!("publication_names={name}"));
    let mut other = other.spawn().unwrap();
    let active = format!("SELECT active FROM pg_replication_slots WHERE slot_name = '{name}'");
    while !logged.stand.admin.query_one(&active, &[]).await.unwrap().get::<_, bool>(0) {}
    let error = logged.reader().await.begin(None, 0).await.unwrap_err();
    other.kill().unwrap();
    other.wait().unwrap();
    assert_eq!((error.kind, error.code), (Kind::Busy, "busy"));
}

#[tokio::test]
async fn what_is_not_set_up_is_named_with_what_to_do() {
    let logged = Logged::new(PRICES, prices()).await;
    let name = logged.stand.database.clone();
    let expect = async |change: &str, code: &str| {
        logged.install().await;
        logged.stand.sql(change).await;
        let error = poll(&mut logged.reader().await, &mut None).await.unwrap_err();
        let seen = (error.kind, error.code);
        assert_eq!(seen, (Kind::Misconfigured, code), "{change}: {error}");
    };
    let drop_slot = format!("SELECT pg_drop_replication_slot('{name}');");
    expect(&format!("ALTER PUBLICATION {name} SET (publish = 'insert, update')"), "publication").await;
    expect(&format!("DROP PUBLICATION {name}"), "publication").await;
    let others = "CREATE TABLE others (id int PRIMARY KEY)";
    expect(&format!("{others}; ALTER PUBLICATION {name} SET TABLE others"), "publication").await;
    let only = format!("ALTER PUBLICATION {name} SET TABLE prices");
    expect(&format!("{only} WHERE (id > 0)"), "publication").await;
    expect(&format!("{only} (id)"), "publication").await;
    expect(&drop_slot, "no_slot").await;
    expect(&format!("{drop_slot} SELECT pg_create_physical_replication_slot('{name}')"), "slot").await;
    logged.stand.sql(&drop_slot).await;
    expect(&format!("ALTER ROLE {} NOREPLICATION", logged.stand.role), "no_permission").await;
    expect("ALTER TABLE prices REPLICA IDENTITY NOTHING", "replica_identity").await;
    logged.stand.sql("ALTER TABLE prices REPLICA IDENTITY DEFAULT").await;
    expect("ALTER TABLE prices DROP CONSTRAINT prices_pkey", "key").await;
    expect("ALTER TABLE prices RENAME TO old_prices", "no_table").await;
}

#[tokio::test]
async fn a_slot_that_somebody_else_moved_or_made_again_is_lost() {
    let mut logged = Logged::new(PRICES, prices()).await;
    let name = logged.stand.database.clone();
    logged.poll().await.unwrap();
    logged.stand.sql("INSERT INTO prices VALUES (1, 1)").await;
    logged.stand.sql(&format!("SELECT pg_drop_replication_slot('{name}')")).await;
    assert_lost(logged.poll().await, "slot_gone");
    logged.install().await;
    assert_lost(logged.poll().await, "slot_ahead");

    let mut logged = Logged::new(PRICES, prices()).await;
    let name = logged.stand.database.clone();
    logged.poll().await.unwrap();
    logged.stand.sql("INSERT INTO prices VALUES (1, 1)").await;
    let consume = format!(
        "SELECT count(*) FROM pg_logical_slot_get_binary_changes('{name}', NULL, NULL, 'proto_version', '1',
            'publication_names', '{name}')"
    );
    logged.stand.sql(&consume).await;
    assert_lost(logged.poll().await, "slot_ahead");
}

/// A cluster of its own, which a test may kill.
struct Own {
    server: Server,
    admin: Client,
    cursor: Option<String>,
}

impl Own {
    const NAME: &str = "own";

    async fn new(settings: &str) -> Self {
        let server = Server::start_with(settings).unwrap();
        let admin = server.database(Self::NAME).await.unwrap();
        let role = format!("CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'; {PRICES}");
        admin.batch_execute(&role).await.unwrap();
        let own = Self { server, admin, cursor: None };
        own.install().await;
        own
    }

    async fn install(&self) {
        self.sql(&sql::install(&source(), Self::NAME, Self::NAME, &prices(), "reader")).await;
    }

    async fn reader(&self) -> Log {
        reader(&self.server, "reader", Self::NAME, &prices()).await
    }

    async fn poll(&mut self) -> Result<Vec<Row>, Error> {
        poll(&mut self.reader().await, &mut self.cursor).await
    }

    async fn sql(&self, statements: &str) {
        self.admin.batch_execute(statements).await.unwrap();
    }

    async fn kill(&mut self) {
        self.server.kill().unwrap();
        self.admin = self.server.client(Self::NAME).await.unwrap();
    }

    /// Lets a writer commit as with a synchronous standby that is away: the commit stands in the log, and nobody sees it until
    /// [`Own::without_standby`]. The task ends with the commit.
    async fn commit_unseen(&self, statements: &str) -> JoinHandle<()> {
        self.sql("ALTER SYSTEM SET synchronous_standby_names = 'away'").await;
        self.sql("SELECT pg_reload_conf()").await;
        let writer = self.server.client(Self::NAME).await.unwrap();
        let standby = async || writer.query_one("SHOW synchronous_standby_names", &[]).await.unwrap();
        while standby().await.get::<_, &str>(0).is_empty() {}
        let statements = statements.to_owned();
        let writing = tokio::spawn(async move { writer.batch_execute(&statements).await.unwrap() });
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        while self.admin.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 0 {}
        writing
    }

    /// Ends the wait for the standby.
    async fn without_standby(&self) {
        self.sql("ALTER SYSTEM RESET synchronous_standby_names").await;
        self.sql("SELECT pg_reload_conf()").await;
    }

    async fn confirmed(&self) -> String {
        let sql = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = 'own'";
        self.admin.query_one(sql, &[]).await.unwrap().get(0)
    }
}

#[tokio::test]
async fn a_server_that_is_killed_gives_again_what_was_not_confirmed_and_nothing_that_was_saved() {
    let mut own = Own::new("").await;
    own.sql("INSERT INTO prices VALUES (1, 1)").await;
    let mut reader = own.reader().await;
    reader.begin(None, 0).await.unwrap();
    let page = reader.page().await.unwrap().unwrap();
    // Between the hand-off and the advance.
    own.kill().await;
    let error = reader.confirm(&page.cursor).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable);
    // The same reader gives the same rows again, from what was saved: nothing, or once more.
    reader.begin(None, 0).await.unwrap();
    assert_eq!(reader.page().await.unwrap().unwrap().rows, page.rows);
    drop(reader);
    own.cursor = Some(page.cursor);
    assert_eq!(own.poll().await.unwrap(), []);

    // A confirmation that was not on disk yet is forgotten by the slot, but not by the cursor.
    for id in 2..5 {
        own.sql(&format!("INSERT INTO prices VALUES ({id}, 2)")).await;
        assert_eq!(own.poll().await.unwrap().len(), 1);
    }
    let confirmed = own.confirmed().await;
    own.kill().await;
    assert_ne!(own.confirmed().await, confirmed, "the slot went back");
    own.sql("INSERT INTO prices VALUES (9, 3)").await;
    assert_eq!(lines(&own.poll().await.unwrap()), [r#"create - {"id":9,"price":3.00,"note":null}"#]);
}

#[tokio::test]
async fn how_much_log_is_left_to_a_slot_falls_to_nothing_before_the_slot_is_lost() {
    // Ten segments, and the one that is written.
    let mut own = Own::new("max_slot_wal_keep_size = '160MB'").await;
    own.poll().await.unwrap();
    let mut reader = own.reader().await;
    let mut told = vec![gauge(&mut reader, "safe_wal_percent").await.unwrap()];
    let status = "SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'own'";
    while own.admin.query_one(status, &[]).await.unwrap().get::<_, String>(0) != "unreserved" {
        assert!(told.len() < 20, "the server never warns: {told:?}");
        own.sql("SELECT pg_logical_emit_message(false, 'noise', 'x'); SELECT pg_switch_wal()").await;
        told.push(gauge(&mut reader, "safe_wal_percent").await.unwrap());
    }
    assert!(told.is_sorted_by(|before, after| before > after), "{told:?}");
    assert!(told[0] > 90.0, "{told:?}");
    assert!(told.iter().any(|percent| (10.0..25.0).contains(percent)), "time to act: {told:?}");
    assert_eq!(told.last(), Some(&0.0), "{told:?}");
    // It can still be read, and is out of danger once the server has noted which transactions are open: it does so in its own
    // time, and a poll has to come by behind each note.
    let mut polls = 0;
    while gauge(&mut reader, "safe_wal_percent").await.unwrap() <= 90.0 {
        assert!(polls < 20, "the slot stays where it is");
        own.sql("SELECT pg_log_standby_snapshot()").await;
        own.poll().await.unwrap();
        polls += 1;
    }
}

#[tokio::test]
async fn a_slot_whose_log_is_gone_is_noticed_in_one_poll_and_so_is_another_cluster() {
    let mut own = Own::new("max_slot_wal_keep_size = '1MB'").await;
    own.poll().await.unwrap();
    own.sql("INSERT INTO prices VALUES (1, 1)").await;
    for _ in 0..4 {
        own.sql("SELECT pg_logical_emit_message(false, 'noise', repeat('x', 1000)); SELECT pg_switch_wal()")
            .await;
    }
    own.sql("CHECKPOINT").await;
    assert_lost(own.poll().await, "slot_lost");
    own.install().await;
    assert_lost(own.poll().await, "slot_ahead");
    let mut anew = None;
    own.sql("INSERT INTO prices VALUES (2, 2)").await;
    assert_eq!(
        poll(&mut own.reader().await, &mut anew).await.unwrap().len(),
        1,
        "and a resync begins at the new slot"
    );

    // A dump that was restored elsewhere has slot and tables of the same names, but not the same history.
    let other = Own::new("").await;
    own.server = other.server;
    own.admin = other.admin;
    assert_lost(own.poll().await, "other_cluster");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_value_is_not_read_before_its_commit_is_visible() {
    let mut own = Own::new("").await;
    own.poll().await.unwrap();
    let write =
        format!("BEGIN; INSERT INTO prices VALUES (1, 1, 'x', {LARGE}); UPDATE prices SET price = 2; COMMIT");
    let writing = own.commit_unseen(&write).await;

    let mut reader = own.reader().await;
    reader.begin(own.cursor.as_deref(), 0).await.unwrap();
    let reading = tokio::spawn(async move { reader.page().await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!reading.is_finished(), "the row was taken for one that is gone");
    own.without_standby().await;
    writing.await.unwrap();
    let rows = reading.await.unwrap().unwrap().unwrap().rows;
    assert_eq!(rows.len(), 2);
    let note = |row: &Row| parsed(row).1["note"].as_str().unwrap().len();
    assert_eq!((note(&rows[0]), note(&rows[1])), (12_800, 12_800));
}

/// What a target has of the only price that goes by the versions of these rows.
fn newest<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Value {
    parsed(rows.into_iter().max_by_key(|row| row.version).unwrap()).1["price"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunk_is_not_read_before_what_stands_below_its_mark_is_visible() {
    let mut own = Own::new("").await;
    own.sql("INSERT INTO prices VALUES (1, 1)").await;
    own.poll().await.unwrap();
    let writing = own.commit_unseen("UPDATE prices SET price = 2").await;

    // The live reader has the change, by the log.
    let live = own.poll().await.unwrap();
    assert_eq!(newest(&live), json!(2.00));
    // A mutant: a mark that is only where the log is flushed, and a SELECT behind it. It dates the row as it was above the
    // change.
    let flushed = "SELECT (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint";
    let mark: i64 = own.admin.query_one(flushed, &[]).await.unwrap().get(0);
    let row = own.admin.query_one("SELECT row_to_json(p)::text FROM prices p", &[]).await.unwrap();
    let dated = Row {
        operation: Operation::Snapshot,
        version: Version::from_log(0, mark.try_into().unwrap(), u64::MAX),
        after: Some(row.get(0)),
        ..live[0].clone()
    };
    assert_eq!(newest(live.iter().chain([&dated])), json!(1.00), "it loses the change");

    // Ours waits for the writer, and then dates what everybody sees.
    let session = access(&own.server, "reader", Own::NAME).open(Purpose::Write).await.unwrap();
    let history = Identity::read(&session).await.unwrap();
    let table = prices().remove(0);
    let mut snapshot = Snapshot::new(session, source(), PullMode::Log, table, None, 10, history);
    let reading = tokio::spawn(async move { snapshot.chunk(None, 0).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!reading.is_finished(), "the row was read as it was before");
    own.without_standby().await;
    writing.await.unwrap();
    let chunk = reading.await.unwrap().unwrap().unwrap().rows;
    assert_eq!(newest(live.iter().chain(&chunk)), json!(2.00));
    assert!(chunk[0].version > live[0].version, "the row is dated above the change that it shows");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_concurrent_writers_nothing_is_missed_and_the_end_is_the_same() {
    let logged = Logged::new(ITEMS, vec![wanted("public.items", &["id"], &["mark"])]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let holder = tokio::spawn(hold_the_horizon(&SERVER, stop.clone()));
    // Small pages, so that transactions are cut in the middle.
    let mut reader = logged.reader().await.with_page_size(PageSize { rows: 3, bytes: u32::MAX });
    let stopped = stop.clone();
    let reading = tokio::spawn(async move {
        let (mut rows, mut cursor) = (Vec::new(), None);
        loop {
            let last = stopped.load(Ordering::Acquire);
            rows.extend(poll(&mut reader, &mut cursor).await.unwrap());
            if last {
                return rows;
            }
        }
    });
    let committed = write(logged.stand.server, &logged.stand.database, 2, 3_000).await;
    stop.store(true, Ordering::Release);
    holder.await.unwrap();
    let rows = reading.await.unwrap();

    let mut replayed = Replayed::default();
    rows.iter().for_each(|row| apply(&mut replayed, row));
    assert_eq!(replayed.state(), table(&logged.stand.admin).await);
    assert_eq!(replayed.conflicts, 0);
    let seen: Vec<i64> = rows.iter().filter_map(mark).collect();
    assert_eq!(seen.len(), committed.marks.len(), "each once");
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), committed.marks);
    assert_eq!(rows.iter().filter(|row| row.operation == Operation::Delete).count(), committed.deletes);
    assert!(rows.is_sorted_by_key(|row| row.version));
}
