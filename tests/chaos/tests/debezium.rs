//! A real Debezium reads a real PostgreSQL and posts to the real push function: the newest versions are the tables.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails shall panic, helpers of tests too"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sync_chaos::{Bed, Debezium, Dice, Erp, Push, build};
use sync_testkit::postgres::{PASSWORD, Server};
use sync_tests::{raw, signature};

const WRITERS: u64 = 3;
/// How many each of them writes.
const TRANSACTIONS: u64 = 150;

const PERSON: &str = "model: person\nkey: [id]\nattributes:\n  id: { class: identifier, type: integer }\n  \
     email: { class: personal, type: string }\n  tier: { class: internal, type: string }\n  \
     balance: { class: internal, type: decimal }\n  biography: { class: personal, type: string }\n  \
     details: { class: internal, type: string }\n  seen: { class: internal, type: time }\n  \
     photo: { class: personal, type: string }\n  tags: { class: internal, type: json }\n  \
     score: { class: internal, type: decimal }\n  span: { class: internal, type: string }\n";
const ORDER: &str = "model: order\nkey: [region, id]\nattributes:\n  region: { class: internal, type: string }\n  \
     id: { class: identifier, type: integer }\n  total: { class: internal, type: decimal }\n  \
     ordered: { class: internal, type: time }\n";
const SOURCE: &str = "source: erp\npush:\n  secret: datasync/source/pos\n  format: debezium\n  \
     tables: { public.people: person, public.orders: order }\n  epoch: 0\n";

fn configure(folder: &Path) {
    for (name, text) in [("models/person", PERSON), ("models/order", ORDER), ("sources/erp", SOURCE)] {
        let file = folder.join(name).with_extension("yaml");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    fs::create_dir_all(folder.join("targets")).unwrap();
}

/// The settings of `docs/ADD-A-SOURCE.md` as the engine calls them; behind them what else it may send, and small batches.
fn settings(server: &Server, folder: &Path) -> Vec<(&'static str, String)> {
    let port = server.port().to_string();
    let offsets = folder.join("offsets.dat").display().to_string();
    [
        ("name", "erp"),
        ("connector.class", "io.debezium.connector.postgresql.PostgresConnector"),
        ("plugin.name", "pgoutput"),
        ("topic.prefix", "erp"),
        ("database.hostname", "127.0.0.1"),
        ("database.port", &port),
        ("database.user", "debezium"),
        ("database.password", PASSWORD),
        ("database.dbname", "erp"),
        ("table.include.list", "public.people,public.orders"),
        ("publication.autocreate.mode", "filtered"),
        ("publish.via.partition.root", "true"),
        ("decimal.handling.mode", "precise"),
        ("time.precision.mode", "isostring"),
        ("binary.handling.mode", "base64"),
        ("interval.handling.mode", "string"),
        ("hstore.handling.mode", "json"),
        ("converter.schemas.enable", "false"),
        ("converter.decimal.format", "NUMERIC"),
        ("converter.replace.null.with.default", "false"),
        ("offset.storage", "org.apache.kafka.connect.storage.FileOffsetBackingStore"),
        ("offset.storage.file.filename", &offsets),
        ("offset.flush.interval.ms", "0"),
        ("skipped.operations", "none"),
        ("provide.transaction.metadata", "true"),
        ("heartbeat.interval.ms", "200"),
        ("max.batch.size", "20"),
        ("max.queue.size", "40"),
        ("slot.retry.delay.ms", "500"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .to_vec()
}

/// Debezium in front of the function, and what went from the one to the other.
struct Run {
    folder: PathBuf,
    settings: Vec<(&'static str, String)>,
    debezium: Option<Debezium>,
    push: Push,
    /// The ids of the changes that were taken.
    taken: BTreeSet<String>,
    passed_over: BTreeMap<String, usize>,
    /// The changes of rows that came, by operation, table and place in the log, with the sequences that they came with.
    streamed: BTreeMap<(String, String, u64), BTreeSet<String>>,
    repeated: usize,
    events: usize,
}

impl Run {
    fn start(&mut self) {
        self.debezium = Some(Debezium::start(&self.folder, &self.settings).unwrap());
    }

    /// Posts the next batch; Debezium does not know yet that it was taken.
    fn post(&mut self) -> String {
        let batch = self.debezium.as_mut().unwrap().batch().unwrap();
        let (status, answer) = self.push.post(&batch).unwrap();
        assert_eq!(status, 202, "{answer}\n{batch}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let entries = |name: &str| answer[name].as_array().cloned().unwrap_or_default();
        let events: Vec<Value> = serde_json::from_str(&batch).unwrap();
        assert_eq!(entries("rejected"), [] as [Value; 0]);
        assert_eq!(
            entries("accepted").len() + entries("passed_over").len(),
            events.len(),
            "{answer}\n{batch}"
        );
        self.events += events.len();
        self.taken.extend(entries("accepted").iter().map(|one| one["id"].as_str().unwrap().to_owned()));
        for one in entries("passed_over") {
            *self.passed_over.entry(one["code"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        for event in events.iter().filter(|event| event["op"].is_string() && event["op"] != "r") {
            let text = |name: &str| event.pointer(name).and_then(Value::as_str).unwrap().to_owned();
            let place = (text("/op"), text("/source/table"), event["source"]["lsn"].as_u64().unwrap());
            let ends = self.streamed.entry(place).or_default();
            self.repeated += usize::from(!ends.is_empty());
            ends.insert(text("/source/sequence"));
        }
        batch
    }

    fn pass_on(&mut self) -> String {
        let batch = self.post();
        self.debezium.as_mut().unwrap().answer(202).unwrap();
        batch
    }

    fn pass_on_until(&mut self, text: &str) {
        while !self.pass_on().contains(text) {}
    }

    /// The status and the one refusal of the batch that holds the text; Debezium goes on as if it were taken.
    fn refused(&mut self, text: &str) -> (u64, String) {
        loop {
            let batch = self.debezium.as_mut().unwrap().batch().unwrap();
            let (status, answer) = self.push.post(&batch).unwrap();
            self.debezium.as_mut().unwrap().answer(202).unwrap();
            if batch.contains(text) {
                let answer: Value = serde_json::from_str(&answer).unwrap();
                let rejected = answer["rejected"].as_array().unwrap();
                assert_eq!(rejected.len(), 1, "{answer}");
                return (status, rejected[0]["code"].as_str().unwrap().to_owned());
            }
        }
    }

    /// Kills Debezium while it waits for the answer to a batch that was taken, and starts it again.
    fn restart_unanswered(&mut self) {
        let before = self.streamed.len();
        loop {
            self.post();
            if self.streamed.len() > before {
                break;
            }
            self.debezium.as_mut().unwrap().answer(202).unwrap();
        }
        self.debezium = None;
        self.start();
    }
}

async fn assert_equal(bed: &Bed, erp: &Erp, when: &str) {
    let wrong = erp.differences(&bed.changes().await.unwrap()).await.unwrap();
    assert!(wrong.is_empty(), "{when}: {} differ\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_debezium_posts_is_the_tables_in_the_end() {
    let erp = Erp::start().await.unwrap();
    let secret = signature::secret(b"a secret of the test of Debezium");
    let mut bed = Bed::make("debezium", &secret).await.unwrap();
    let folder = bed.folder().to_owned();
    configure(&folder.join("config"));
    bed.set("SYNC_CONFIG_DIR", &folder.join("config").display().to_string());
    bed.set("RECEIPT_TABLE", "none: the source has versions");
    let function = bed.start("capture-push", build("capture-push").unwrap(), None).unwrap();
    let mut run = Run {
        settings: settings(&erp.server, &folder),
        folder,
        debezium: None,
        push: Push::new(function, &secret),
        taken: BTreeSet::new(),
        passed_over: BTreeMap::new(),
        streamed: BTreeMap::new(),
        repeated: 0,
        events: 0,
    };

    // PostgreSQL makes a slot in two steps, each of which waits for the transactions that it finds: what begins behind the
    // first and is open at the end is not in the snapshot, but writes in front of its place in the log.
    let [first, second, third] =
        [erp.session().await.unwrap(), erp.session().await.unwrap(), erp.session().await.unwrap()];
    let id = Erp::begin(&first, "UPDATE people SET email = 'before the slot' WHERE id = 50").await.unwrap();
    run.start();
    erp.wait_for_waiter("transactionid", &id).await.unwrap();
    let id = Erp::begin(&second, "UPDATE people SET email = 'while the slot is made' WHERE id = 51")
        .await
        .unwrap();
    first.batch_execute("COMMIT").await.unwrap();
    erp.wait_for_waiter("transactionid", &id).await.unwrap();
    let open = "UPDATE people SET email = 'open at the snapshot', tier = NULL WHERE id <= 30; \
         UPDATE people SET balance = balance + 1 WHERE id <= 30; DELETE FROM people WHERE id = 52; \
         UPDATE people SET id = 1053 WHERE id = 53; INSERT INTO people (id, email) VALUES (54000, 'new'); \
         UPDATE orders SET total = -0.5, region = 'north' WHERE region = 'south' AND id <= 9";
    Erp::begin(&third, open).await.unwrap();
    second.batch_execute("COMMIT").await.unwrap();
    let batch = run.pass_on();
    assert!(batch.contains("\"op\":\"r\""), "the snapshot comes first");
    third.batch_execute("COMMIT").await.unwrap();
    let mut dice = Dice::from_env();
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        writers.push(erp.writer(TRANSACTIONS, dice.split()).await.unwrap());
    }

    // A restart cuts the first transaction behind the snapshot in two, with two changes of each record in it; two more
    // restarts follow.
    while run.streamed.is_empty() {
        run.pass_on();
    }
    run.restart_unanswered();
    for _ in 0..2 {
        for _ in 0..12 {
            run.pass_on();
        }
        run.restart_unanswered();
    }
    let mut commits = 0;
    for writer in writers {
        commits += writer.await.unwrap().unwrap();
    }
    assert!(commits > WRITERS * TRANSACTIONS / 2, "{commits}");
    erp.client()
        .execute("INSERT INTO people (id, email) VALUES (54001, 'the writers are done')", &[])
        .await
        .unwrap();
    run.pass_on_until("the writers are done");
    assert_equal(&bed, &erp, "behind the writers").await;

    // One session's row is in the log, and waits; another deletes the row that had the key, and is done first.
    let holder = erp.session().await.unwrap();
    holder.batch_execute("SELECT pg_advisory_lock(77)").await.unwrap();
    let again = erp.session().await.unwrap();
    let inserting = tokio::spawn(async move {
        again.batch_execute("INSERT INTO people (id, email) VALUES (77, 'older place, later commit')").await
    });
    erp.wait_for_waiter("advisory", "77").await.unwrap();
    erp.client().execute("DELETE FROM people WHERE id = 77", &[]).await.unwrap();
    holder.batch_execute("SELECT pg_advisory_unlock(77)").await.unwrap();
    inserting.await.unwrap().unwrap();
    run.pass_on_until("older place, later commit");
    assert_equal(&bed, &erp, "behind a key that was deleted and taken again").await;

    let moved = run.streamed.values().filter(|sequences| sequences.len() > 1).count();
    println!(
        "{commits} commits, {} events, {} changes, {} repeated, {moved} of them behind another end, passed over {:?}",
        run.events,
        run.taken.len(),
        run.repeated,
        run.passed_over
    );
    assert!(
        run.repeated > moved && moved > 0,
        "a restart repeats nothing, or does not cut the first transaction"
    );
    assert!(["heartbeat", "transaction"].iter().all(|what| run.passed_over.contains_key(*what)));
    let held = bed.changes().await.unwrap();
    let ids: BTreeSet<String> =
        held.iter().map(|change| raw::text(raw::at(change, "id").unwrap().unwrap()).unwrap()).collect();
    assert!(ids == run.taken, "what was answered as taken is in the queue, and nothing else");

    // What no whole record can be made of is refused, and nothing else is.
    erp.client()
        .batch_execute(
            "ALTER TABLE people REPLICA IDENTITY DEFAULT; \
             UPDATE people SET email = 'the biography is not in the log' WHERE id = 96",
        )
        .await
        .unwrap();
    assert_eq!(run.refused("the biography is not in the log"), (422, "value_unavailable".to_owned()));
    erp.client().batch_execute("TRUNCATE people").await.unwrap();
    assert_eq!(run.refused("\"op\":\"t\""), (422, "truncated".to_owned()));
}
