//! A real Debezium reads a real PostgreSQL and posts to the real push function: the newest versions are the table.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use sync_chaos::{Bed, Debezium, Push};
use sync_testkit::postgres::{PASSWORD, Server};
use sync_tests::{place, raw, signature};
use tokio_postgres::Client;

/// How long nothing comes before everything is taken to have come.
const QUIET: Duration = Duration::from_secs(5);
/// How long a start with its snapshot may take.
const START: Duration = Duration::from_secs(90);

const COLUMNS: [&str; 4] = ["id", "email", "balance", "biography"];

fn configure(folder: &Path) {
    for name in ["models", "sources", "targets"] {
        fs::create_dir_all(folder.join(name)).unwrap();
    }
    let model = "model: person\nkey: [id]\nattributes:\n  id: { class: identifier, type: integer }\n  \
         email: { class: personal, type: string }\n  balance: { class: internal, type: decimal }\n  \
         biography: { class: personal, type: string }\n";
    fs::write(folder.join("models/person.yaml"), model).unwrap();
    let source = "source: erp\npush:\n  secret: datasync/source/pos\n  format: debezium\n  \
         tables: { public.people: person }\n  epoch: 0\n";
    fs::write(folder.join("sources/erp.yaml"), source).unwrap();
}

/// The settings of `docs/ADD-A-SOURCE.md`, and some that make a restart repeat much and a batch hold little.
fn settings(server: &Server, folder: &Path) -> Vec<(&'static str, String)> {
    let mut settings: Vec<(&str, String)> = [
        ("name", "erp"),
        ("connector.class", "io.debezium.connector.postgresql.PostgresConnector"),
        ("plugin.name", "pgoutput"),
        ("topic.prefix", "erp"),
        ("database.hostname", "127.0.0.1"),
        ("database.user", "postgres"),
        ("database.password", PASSWORD),
        ("database.dbname", "erp"),
        ("table.include.list", "public.people"),
        ("publication.autocreate.mode", "filtered"),
        ("publish.via.partition.root", "true"),
        ("decimal.handling.mode", "precise"),
        ("time.precision.mode", "isostring"),
        ("binary.handling.mode", "base64"),
        ("interval.handling.mode", "string"),
        ("hstore.handling.mode", "json"),
        ("converter.schemas.enable", "false"),
        ("converter.decimal.format", "NUMERIC"),
        ("offset.storage", "org.apache.kafka.connect.storage.FileOffsetBackingStore"),
        ("snapshot.mode", "initial"),
        // Not as the document has it: tombstones and truncations come too.
        ("tombstones.on.delete", "true"),
        ("skipped.operations", "none"),
        ("max.batch.size", "7"),
        ("max.queue.size", "32"),
        ("offset.flush.interval.ms", "0"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .to_vec();
    settings.push(("database.port", server.port().to_string()));
    settings.push(("offset.storage.file.filename", folder.join("offsets.dat").display().to_string()));
    settings
}

/// Passes batches on until nothing comes any more, or so many were answered; the first may take its time.
fn pass_on(debezium: &mut Debezium, push: &mut Push, most: usize) -> Vec<String> {
    let mut passed = Vec::new();
    while passed.len() < most {
        let patience = if passed.is_empty() { START } else { QUIET };
        let Some(batch) = debezium.batch(patience).unwrap() else { break };
        let (status, answer) = push.post(&batch).unwrap();
        assert_eq!(status, 202, "{answer}\n{batch}");
        debezium.answer(status).unwrap();
        passed.push(batch);
    }
    passed
}

/// The rows of the table: each column as the database writes it as JSON.
async fn rows(client: &Client) -> BTreeMap<String, Vec<String>> {
    let sql = "SELECT to_json(id)::text, to_json(email)::text, to_json(balance)::text, to_json(biography)::text FROM people";
    let rows = client.query(sql, &[]).await.unwrap();
    let columns = |row: &tokio_postgres::Row| (0..COLUMNS.len()).map(|column| row.get(column)).collect();
    rows.iter().map(|row| (format!("{{\"id\":{}}}", row.get::<_, String>(0)), columns(row))).collect()
}

/// What the newest version of each record in the queue says, without those that are deleted.
async fn newest(bed: &Bed) -> BTreeMap<String, Vec<String>> {
    let mut newest: BTreeMap<String, (String, Option<Vec<String>>)> = BTreeMap::new();
    for change in bed.changes().await.unwrap() {
        let at = |path: &str| raw::at(&change, path).unwrap();
        let version = raw::text(at("version").unwrap()).unwrap();
        let after = (at("operation") != Some("\"delete\""))
            .then(|| COLUMNS.map(|name| at(&format!("after.{name}")).unwrap_or("null").to_owned()).to_vec());
        let key = at("key").unwrap().to_owned();
        match newest.get(&key) {
            Some((known, content)) if *known == version => {
                assert_eq!(*content, after, "{key}: {version} has two contents");
            }
            Some((known, _)) if *known > version => {}
            _ => drop(newest.insert(key, (version, after))),
        }
    }
    newest.into_iter().filter_map(|(key, (_, after))| Some((key, after?))).collect()
}

async fn assert_equal(bed: &Bed, client: &Client, when: &str) {
    let (expected, found) = (rows(client).await, newest(bed).await);
    let wrong: Vec<_> =
        expected.keys().chain(found.keys()).filter(|key| expected.get(*key) != found.get(*key)).collect();
    assert!(wrong.is_empty(), "{when}: {wrong:?} of {} rows differ", expected.len());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Java 17: `make debezium`"]
async fn what_debezium_reads_is_the_table_in_the_end() {
    let server = Server::start().unwrap();
    let client = server.database("erp").await.unwrap();
    let setup = "CREATE TABLE people (id bigint PRIMARY KEY, email text, balance numeric(14, 2), biography text, seen timestamptz DEFAULT now()); \
         ALTER TABLE people REPLICA IDENTITY FULL; \
         INSERT INTO people SELECT i, 'p' || i || '@example.com', i * 1.10, NULL FROM generate_series(1, 200) AS i; \
         UPDATE people SET biography = (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 1000) AS i) WHERE id <= 3";
    client.batch_execute(setup).await.unwrap();

    let secret = signature::secret(b"a secret of the test of Debezium");
    let mut bed = Bed::make("debezium", &secret).await.unwrap();
    let folder = bed.folder().to_owned();
    configure(&folder.join("config"));
    bed.set("SYNC_CONFIG_DIR", &folder.join("config").display().to_string());
    bed.set("RECEIPT_TABLE", "none: the source has versions");
    let binary = place::root().join("target/debug/capture-push");
    let mut push = Push::new(bed.start("capture-push", binary, None).unwrap(), &secret);
    let settings = settings(&server, &folder);
    let start = || Debezium::start(&folder, &settings).unwrap();

    // Open before the snapshot, committed after the slot was asked for: the slot waits for it.
    let writer = server.client("erp").await.unwrap();
    writer
        .batch_execute("BEGIN; UPDATE people SET balance = 0.50 WHERE id = 5; INSERT INTO people VALUES (301, 'new', 7.10)")
        .await
        .unwrap();
    let mut debezium = start();
    let until = Instant::now() + START;
    let slots = "SELECT count(*) FROM pg_replication_slots";
    while client.query_one(slots, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(Instant::now() < until, "no slot is made");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    writer.batch_execute("UPDATE people SET balance = 0.75 WHERE id = 5; COMMIT").await.unwrap();
    // Open while the rows of the snapshot are read: the first batch is here, its answer is not.
    writer.batch_execute("BEGIN; UPDATE people SET balance = 1.25 WHERE id IN (6, 199)").await.unwrap();
    let snapshot = pass_on(&mut debezium, &mut push, 3);
    assert!(snapshot.iter().all(|batch| batch.contains("\"op\":\"r\"")), "the snapshot comes first");
    // Two changes of each record in the first transaction after the snapshot, which a restart then cuts in two.
    writer
        .batch_execute("UPDATE people SET email = 'twice' WHERE id < 30; UPDATE people SET balance = 2.25 WHERE id < 30; COMMIT")
        .await
        .unwrap();
    let mut cut = false;
    while !cut {
        let passed = pass_on(&mut debezium, &mut push, 1);
        assert!(!passed.is_empty(), "the transaction does not come");
        cut = passed.iter().any(|batch| batch.contains("\"op\":\"u\""));
    }
    pass_on(&mut debezium, &mut push, 5);
    drop(debezium);
    let mut debezium = start();
    let repeated = pass_on(&mut debezium, &mut push, usize::MAX);
    assert!(repeated.iter().any(|batch| batch.contains("\"op\":\"u\"")), "the rest of the transaction comes");
    assert_equal(&bed, &client, "after a restart in the first transaction").await;

    client
        .batch_execute(
            "UPDATE people SET balance = balance + 1 WHERE id <= 40; DELETE FROM people WHERE id % 7 = 0; \
             UPDATE people SET id = id + 1000 WHERE id % 11 = 0; UPDATE people SET biography = 'short' WHERE id = 2; \
             INSERT INTO people SELECT i, 'late', -0.10 FROM generate_series(400, 460) AS i; \
             DELETE FROM people WHERE id = 400; \
             INSERT INTO people VALUES (400, 'again', 1.00)",
        )
        .await
        .unwrap();
    client.batch_execute("BEGIN; UPDATE people SET balance = -1; ROLLBACK").await.unwrap();
    pass_on(&mut debezium, &mut push, 4);
    drop(debezium);
    let mut debezium = start();
    pass_on(&mut debezium, &mut push, usize::MAX);
    assert_equal(&bed, &client, "after a restart while changes stream").await;

    client.batch_execute("TRUNCATE people").await.unwrap();
    let batch = debezium.batch(START).unwrap().expect("the truncation comes");
    let (status, answer) = push.post(&batch).unwrap();
    assert_eq!((status, answer.contains("\"truncated\"")), (422, true), "{answer}");
}
