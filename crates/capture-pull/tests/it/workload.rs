//! The writers of the workload in a real PostgreSQL, read by whole runs in every mode: what stands in the Changes queue
//! against what was committed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use capture_pull::deps::Deps;
use capture_pull::open::Databases;
use capture_pull::payload::{Payload, Work};
use capture_pull::{Answer, Ended, Invocation, Report, handle};
use serde_json::Value;
use sync_config::{ConfigFile, SyncConfig};
use sync_domain::change::Operation;
use sync_domain::id::SourceId;
use sync_lambda::record_ids::RecordIds;
use sync_sources::postgres::setup;
use sync_testkit::postgres::{PASSWORD, Server};
use sync_testkit::workload::{ITEMS, Replayed, difference, hold_the_horizon, setting, table, write};
use sync_testkit::{MemoryCheckpoints, MemoryFailureBus, MemoryKeyService, MemoryQueue, MemorySecrets};
use tokio::time::Instant;

use crate::world::read;

static SERVER: LazyLock<Server> = LazyLock::new(|| Server::start().unwrap());

const SECRET: &str = "datasync/source/shop";
const ROLE: &str = "shop_reader";
const MODEL: &str = "model: item
key: [id]
attributes:
  id: { class: identifier, type: integer }
  mark: { class: internal, type: integer }
";
/// Each with its way of reading the one table.
const SOURCES: [(&str, &str, &str); 3] = [
    ("by-log", "log", "item"),
    ("by-trigger", "trigger", "item"),
    ("by-xid", "timestamp", r#"{ model: item, cursor: { xid8: changed_xid }, compare_keys: "0s" }"#),
];

/// The function for one source, and the queue that it fills.
struct Capture {
    source: SourceId,
    deps: Deps,
    queue: MemoryQueue,
    dead_letters: MemoryQueue,
    bus: MemoryFailureBus,
}

impl Capture {
    fn new(config: &SyncConfig, source: &str, url: &str) -> Self {
        let [queue, dead_letters] = ["changes", "changes-dead-letters"].map(MemoryQueue::new);
        let bus = MemoryFailureBus::new();
        let secrets = Arc::new(MemorySecrets::new().with(SECRET, url));
        let deps = Deps {
            sources: config.sources().map(|source| (source.source.clone(), source.clone())).collect(),
            policies: sync_lambda::config::policies(config).unwrap(),
            open: Box::new(Databases::new(config.clone(), secrets, PathBuf::new(), true)),
            ids: RecordIds::new(Arc::new(MemoryKeyService::new())),
            checkpoints: Arc::new(MemoryCheckpoints::new()),
            dead_letters: Arc::new(dead_letters.clone()),
            queue: Arc::new(queue.clone()),
            bus: Arc::new(bus.clone()),
            run_for: Duration::ZERO,
            now: Box::new(SystemTime::now),
        };
        Self { source: source.parse().unwrap(), deps, queue, dead_letters, bus }
    }

    /// One run of some time.
    async fn run(&self, run_for: Duration) -> Report {
        let payload = Payload { source: self.source.clone(), work: Work::Poll, run_for: None };
        let now = Instant::now();
        let invocation = Invocation {
            owner: "request".to_owned(),
            no_poll_after: now + run_for,
            no_page_after: now + Duration::from_secs(300),
        };
        match handle(&payload, &self.deps, &invocation).await.unwrap() {
            Answer::Run(report) => report,
            other => panic!("no run: {other:?}"),
        }
    }

    /// Run after run, as a schedule has it, until two runs behind the last write find nothing.
    async fn follow(&self, stop: &AtomicBool) -> usize {
        let (mut runs, mut quiet) = (0, 0);
        while quiet < 2 {
            let stopped = stop.load(Ordering::Acquire);
            let report = self.run(Duration::from_millis(if stopped { 0 } else { 400 })).await;
            assert_eq!((report.ended, report.refused), (Ended::Done, 0), "{}", self.source);
            quiet = if stopped && report.changes == 0 { quiet + 1 } else { 0 };
            runs += 1;
        }
        runs
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_concurrent_writers_commit_stands_in_the_queue_in_every_mode() {
    for seed in 1..=setting("CHAOS_SEEDS", 1) {
        measure(seed, i64::try_from(setting("CHAOS_CHANGES", 3_000)).unwrap()).await;
    }
}

#[expect(clippy::print_stdout, reason = "the figures of a run, for whoever runs it with --nocapture")]
async fn measure(seed: u64, changes: i64) {
    let mut files = vec![ConfigFile::new("models/item.yaml", MODEL)];
    files.extend(SOURCES.map(|(source, mode, table)| {
        ConfigFile::new(
            format!("sources/{source}.yaml"),
            format!(
                "source: {source}\npostgres: {{ url_secret: {SECRET}, mode: {mode}, poll: 50ms, tables: {{ public.items: {table} }} }}\n"
            ),
        )
    }));
    let config = SyncConfig::parse(&files).unwrap();
    let database = format!("shop_{seed}");
    let admin = SERVER.database(&database).await.unwrap();
    admin.batch_execute(ITEMS).await.unwrap();
    if seed == 1 {
        let role = format!("CREATE ROLE {ROLE} LOGIN REPLICATION PASSWORD '{PASSWORD}'");
        admin.batch_execute(&role).await.unwrap();
    }
    let models: Vec<_> = config.models().collect();
    for source in config.sources() {
        let sql = setup(&source.source, source.postgres.as_ref().unwrap(), &models, ROLE).unwrap();
        admin.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{error:?}\n{sql}"));
    }
    let url = SERVER.url_as(ROLE, &database);
    let captures = SOURCES.map(|(source, ..)| Capture::new(&config, source, &url));
    // Where each begins is fixed before the first write.
    for capture in &captures {
        assert_eq!(capture.run(Duration::ZERO).await.ended, Ended::Done, "{}", capture.source);
    }

    let stop = Arc::new(AtomicBool::new(false));
    let holder = tokio::spawn(hold_the_horizon(&SERVER, stop.clone()));
    let stopping = stop.clone();
    let writers = tokio::spawn(async move {
        let committed = write(&SERVER, &database, seed, changes).await;
        stopping.store(true, Ordering::Release);
        // Nothing that a poll could have to wait for is open any more when the last runs begin.
        holder.await.unwrap();
        committed
    });
    let [log, trigger, xid] = &captures;
    let runs = tokio::join!(log.follow(&stop), trigger.follow(&stop), xid.follow(&stop));
    let committed = writers.await.unwrap();
    let end = table(&admin).await;
    assert!(i64::try_from(committed.marks.len()).unwrap() > changes / 2, "{}", committed.marks.len());

    for (capture, runs) in captures.iter().zip([runs.0, runs.1, runs.2]) {
        let seen = Queued::of(capture);
        let source = &capture.source;
        println!(
            "seed {seed}, {source}: {} changes and {} deletes committed, {} messages in {runs} runs, {} behind a newer one",
            committed.marks.len(),
            committed.deletes,
            seen.messages,
            seen.disordered
        );
        assert_eq!(difference(&seen.target.state(), &end), [], "{source}, seed {seed}");
        assert_eq!(seen.target.conflicts, 0, "{source}, seed {seed}");
        // Only the log is in the order of its versions; of the others an older version may come behind a newer one.
        if source.as_str() == "by-log" {
            assert_eq!(seen.disordered, 0, "seed {seed}: a record's versions fall in the queue");
        }
        assert_eq!((capture.dead_letters.stored().len(), capture.bus.reported().len()), (0, 0));
        if source.as_str() == "by-xid" {
            assert!(seen.marks.is_subset(&committed.marks), "seed {seed}: a change that was never committed");
        } else {
            let missed: Vec<_> = committed.marks.symmetric_difference(&seen.marks).collect();
            assert_eq!(missed, Vec::<&i64>::new(), "{source}, seed {seed}: missed or never committed");
            assert_eq!(seen.deletes, committed.deletes, "{source}, seed {seed}");
        }
    }
}

/// What stands in a queue.
#[derive(Default)]
struct Queued {
    messages: usize,
    marks: BTreeSet<i64>,
    deletes: usize,
    /// How often a record's version is below that of its message before.
    disordered: usize,
    target: Replayed,
}

impl Queued {
    fn of(capture: &Capture) -> Self {
        let mut queued = Self::default();
        let mut last = BTreeMap::new();
        for entry in capture.queue.entries() {
            let change = read(&entry.body);
            let key: Value = serde_json::from_str(change.key).unwrap();
            let after = change.after;
            let mark =
                after.map(|after| serde_json::from_str::<Value>(after).unwrap()["mark"].as_i64().unwrap());
            let version = change.version.unwrap();
            let id = key["id"].as_i64().unwrap();
            queued.messages += 1;
            queued.marks.extend(mark);
            queued.deletes += usize::from(change.operation == Operation::Delete);
            queued.disordered += usize::from(last.insert(id, version).is_some_and(|known| known > version));
            queued.target.apply(id, version, mark);
        }
        queued
    }
}
