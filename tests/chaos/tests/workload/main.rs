//! The writers of the workload in a real PostgreSQL, read by whole runs in every mode, with the later stages behind them:
//! what stands in the Changes queue against what was committed, and what a target has in the end against the table.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod mirror;
mod queued;
mod stages;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use capture_pull::deps::Deps;
use capture_pull::open::Databases;
use capture_pull::payload::{Payload, Work};
use capture_pull::{Answer, Ended, Error, Invocation, Report, handle};
use futures_util::future::join_all;
use sync_config::{ConfigFile, SyncConfig};
use sync_domain::id::SourceId;
use sync_domain::outcome::Outcome;
use sync_lambda::record_ids::RecordIds;
use sync_sources::Kind;
use sync_sources::postgres::setup;
use sync_testkit::postgres::{PASSWORD, Server};
use sync_testkit::workload::{Committed, ITEMS, difference, hold_the_horizon, setting, table, write};
use sync_testkit::{MemoryCheckpoints, MemoryFailureBus, MemoryKeyService, MemoryQueue, MemorySecrets};
use tokio::time::Instant;

use crate::queued::Queued;
use crate::stages::{Passed, Stages};

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
const SOURCES: [(&str, &str, &str); 4] = [
    ("by-log", "log", "item"),
    ("by-trigger", "trigger", "item"),
    ("by-xid", "timestamp", r#"{ model: item, cursor: { xid8: changed_xid }, compare_keys: "0s" }"#),
    ("by-time", "timestamp", r#"{ model: item, cursor: { timestamp: written }, compare_keys: "0s" }"#),
];

/// The function for one source, and the stages behind the queue that it fills.
struct Capture {
    source: SourceId,
    deps: Deps,
    stages: Stages,
    dead_letters: MemoryQueue,
    bus: MemoryFailureBus,
}

impl Capture {
    async fn new(config: &SyncConfig, source: &str, url: &str) -> Self {
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
        let stages = Stages::behind(&queue, config).await;
        Self { source: source.parse().unwrap(), deps, stages, dead_letters, bus }
    }

    /// One run of some time; none if it found no session in time, or the slot still in use by the one before, as on a busy
    /// machine: then it is the next run's work.
    async fn run(&self, run_for: Duration) -> Option<Report> {
        let payload = Payload { source: self.source.clone(), work: Work::Poll, run_for: None };
        let now = Instant::now();
        let invocation = Invocation {
            owner: "request".to_owned(),
            no_poll_after: now + run_for,
            no_page_after: now + Duration::from_secs(300),
        };
        match handle(&payload, &self.deps, &invocation).await {
            Ok(Answer::Run(report)) if matches!(report.ended, Ended::Unavailable | Ended::Busy) => None,
            Ok(Answer::Run(report)) => {
                assert_eq!((report.ended, report.refused), (Ended::Done, 0), "{}", self.source);
                Some(report)
            }
            Err(Error::Source(error)) if error.kind == Kind::Unavailable => None,
            other => panic!("{}: no run: {other:?}", self.source),
        }
    }

    /// Runs until one finds so many changes.
    async fn run_until(&self, least: u64) {
        let runs =
            async { while self.run(Duration::ZERO).await.is_none_or(|report| report.changes < least) {} };
        tokio::time::timeout(Duration::from_secs(60), runs).await.unwrap();
    }

    /// Run after run, as a schedule has it, until two runs behind the last write find nothing, and the later stages beside
    /// them until nothing is left.
    async fn follow(&self, stop: &AtomicBool) -> (usize, Passed) {
        let captured = AtomicBool::new(false);
        let capture = async {
            let (mut runs, mut away, mut quiet) = (0, 0, 0);
            while quiet < 2 {
                let stopped = stop.load(Ordering::Acquire);
                // The last ones are longer than mode timestamp stays behind the clock.
                let run_for = Duration::from_millis(if stopped { 1_500 } else { 400 });
                let report = self.run(run_for).await;
                away = if report.is_none() { away + 1 } else { 0 };
                assert!(away < 20, "{}: the database does not come back", self.source);
                quiet =
                    if stopped && report.is_some_and(|report| report.changes == 0) { quiet + 1 } else { 0 };
                runs += 1;
            }
            captured.store(true, Ordering::Release);
            runs
        };
        tokio::join!(capture, self.stages.follow(&captured))
    }

    /// Holds what stood in the Changes queue against what was committed.
    fn check_queue(&self, queued: &Queued, committed: &Committed, end: &BTreeMap<i64, i64>) {
        let source = self.source.as_str();
        assert_eq!((self.dead_letters.stored().len(), self.bus.reported().len()), (0, 0), "{source}");
        assert_eq!(difference(&queued.replayed.state(), end), [], "{source}: the queue by versions");
        assert_eq!(queued.replayed.conflicts, 0, "{source}");
        // Mode timestamp sees the last state of a row when it looks, not each on the way.
        if matches!(source, "by-log" | "by-trigger") {
            let missed: Vec<_> = committed.marks.symmetric_difference(&queued.marks).collect();
            assert_eq!(missed, Vec::<&i64>::new(), "{source}: missed or never committed");
            assert_eq!(queued.deletes, committed.deletes, "{source}");
        } else {
            assert!(queued.marks.is_subset(&committed.marks), "{source}: a change that was never committed");
        }
        // Only the log is in the order of its versions; of the others an older version may come behind a newer one.
        match source {
            "by-log" => assert_eq!(queued.late, 0, "a record's versions fall in the queue"),
            "by-trigger" => assert!(queued.late > 0, "nothing came late, so this says nothing of what does"),
            _ => {}
        }
    }

    /// Holds what the target has against the table, and what it got against what stood in the queue.
    fn check_target(&self, passed: &Passed, end: &BTreeMap<i64, i64>) {
        let source = self.source.as_str();
        assert_eq!(difference(&self.stages.mirror.rows(), end), [], "{source}: the target");
        assert_eq!(self.stages.parked(), (0, 0), "{source}");
        let [published, delivered, unchanged, stale] =
            [Outcome::Published, Outcome::Delivered, Outcome::Unchanged, Outcome::Stale]
                .map(|outcome| passed.outcomes.get(outcome.as_str()).copied().unwrap_or_default());
        let messages = passed.queued.messages;
        assert_eq!([published, passed.events, delivered + unchanged + stale], [messages; 3], "{source}");
        assert_eq!(passed.outcomes.values().sum::<usize>(), 2 * messages, "{source}: {:?}", passed.outcomes);
        assert_eq!(stale, passed.queued.late, "{source}: what comes behind a newer one is stale");
        assert_eq!(
            self.stages.mirror.taken(),
            (delivered, 0),
            "{source}: taken, and older than what was there"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_concurrent_writers_commit_stands_in_the_queue_and_in_the_target_in_every_mode() {
    for seed in 1..=setting("CHAOS_SEEDS", 1) {
        measure(seed, i64::try_from(setting("CHAOS_CHANGES", 3_000)).unwrap()).await;
    }
}

/// Writes a row twice so that mode trigger hands off the older change behind the newer one, and gives the marks: the younger
/// transaction writes first, and as long as one between the two is open only the older one's change can be read.
async fn write_late(database: &str, by_trigger: &Capture) -> [i64; 2] {
    let mut writers = Vec::new();
    for _ in 0..3 {
        let writer = SERVER.client(database).await.unwrap();
        writer.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
        writers.push(writer);
    }
    let [older, between, younger] = &writers[..] else { panic!("three were opened") };
    younger.batch_execute("INSERT INTO items VALUES (1000, -1, now()); COMMIT").await.unwrap();
    older.batch_execute("UPDATE items SET mark = 0, written = now() WHERE id = 1000; COMMIT").await.unwrap();
    by_trigger.run_until(1).await;
    between.batch_execute("COMMIT").await.unwrap();
    [-1, 0]
}

#[expect(clippy::print_stdout, reason = "the figures of a run, for whoever runs it with --nocapture")]
async fn measure(seed: u64, changes: i64) {
    let mut files = vec![ConfigFile::new("models/item.yaml", MODEL)];
    files.extend(SOURCES.map(|(source, mode, table)| {
        ConfigFile::new(
            format!("sources/{source}.yaml"),
            format!(
                "source: {source}\npostgres: {{ url_secret: {SECRET}, mode: {mode}, slot: by_log_{seed}, poll: 50ms, tables: {{ public.items: {table} }} }}\n"
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
    let mut captures = Vec::new();
    for (source, ..) in SOURCES {
        let capture = Capture::new(&config, source, &url).await;
        // Where each begins is fixed before the first write.
        capture.run_until(0).await;
        captures.push(capture);
    }
    let late = write_late(&database, &captures[1]).await;

    let (let_go, stop) = (Arc::<AtomicBool>::default(), AtomicBool::default());
    let holder = tokio::spawn(hold_the_horizon(&SERVER, let_go.clone()));
    let writers = tokio::spawn(async move { write(&SERVER, &database, seed, changes).await });
    let written = async {
        let committed = writers.await;
        let_go.store(true, Ordering::Release);
        let held = holder.await;
        // Nothing that a poll could have to wait for is open any more when the last runs begin.
        stop.store(true, Ordering::Release);
        held.and(committed)
    };
    let followed = join_all(captures.iter().map(|capture| capture.follow(&stop)));
    let (committed, runs) = tokio::join!(written, followed);
    let mut committed = committed.unwrap();
    committed.marks.extend(late);
    let end = table(&admin).await;
    assert!(i64::try_from(committed.marks.len()).unwrap() > changes / 2, "{}", committed.marks.len());

    for (capture, (runs, passed)) in captures.iter().zip(runs) {
        let (source, queued) = (&capture.source, &passed.queued);
        println!(
            "seed {seed}, {source}: {} changes and {} deletes committed; {} messages in {runs} runs, {} behind a newer one; {:?}",
            committed.marks.len(),
            committed.deletes,
            queued.messages,
            queued.late,
            passed.outcomes
        );
        capture.check_queue(queued, &committed, &end);
        capture.check_target(&passed, &end);
    }
}
