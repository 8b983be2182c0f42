//! The function with ports in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use capture_pull::deps::Deps;
use capture_pull::payload::{Payload, Work};
use capture_pull::{Answer, Error, Invocation, LEASE, Report, handle};
use sync_config::{ConfigFile, SyncConfig};
use sync_domain::change::Change;
use sync_domain::ports::Checkpoints;
use sync_domain::scan::Limits;
use sync_lambda::record_ids::RecordIds;
use sync_testkit::{MemoryCheckpoints, MemoryFailureBus, MemoryKeyService, MemoryQueue};
use tokio::time::Instant;

use crate::steps::{Design, SteppedCheckpoints, SteppedQueue, Steps};
use crate::table::{Opens, Table, value};

pub(crate) const SOURCE: &str = "crm-db";

const FILES: [(&str, &str); 2] = [
    (
        "models/customer.yaml",
        "model: customer
key: [id]
attributes:
  id: { class: identifier, type: integer }
  value: { class: internal, type: integer }
",
    ),
    (
        "sources/crm-db.yaml",
        "source: crm-db
postgres: { url_secret: datasync/source/crm-db, mode: log, tables: { public.customer: customer } }
",
    ),
];

/// The function with twins to look into.
pub(crate) struct World {
    pub(crate) table: Table,
    pub(crate) steps: Steps,
    pub(crate) queue: MemoryQueue,
    pub(crate) dead_letters: MemoryQueue,
    pub(crate) bus: MemoryFailureBus,
    pub(crate) checkpoints: MemoryCheckpoints,
    /// Every cursor that was saved, in order.
    pub(crate) written: Arc<Mutex<Vec<String>>>,
    /// How many messages were sent, repeats included.
    pub(crate) sent: Arc<Mutex<usize>>,
    pub(crate) deps: Deps,
    runs: Mutex<usize>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::of(Design::Ours)
    }

    /// With another design of saves.
    pub(crate) fn of(design: Design) -> Self {
        let files = FILES.map(|(path, text)| ConfigFile::new(path, text));
        let config = SyncConfig::parse(&files).unwrap();
        let (table, steps) = (Table::default(), Steps::default());
        let [queue, dead_letters] = ["changes", "changes-dead-letters"].map(MemoryQueue::new);
        let (bus, checkpoints) = (MemoryFailureBus::new(), MemoryCheckpoints::new());
        let (written, sent) = (Arc::default(), Arc::default());
        let deps = Deps {
            sources: config.sources().map(|source| (source.source.clone(), source.clone())).collect(),
            policies: sync_lambda::config::policies(&config).unwrap(),
            open: Box::new(Opens { table: table.clone(), steps: steps.clone() }),
            ids: RecordIds::new(Arc::new(MemoryKeyService::new())),
            checkpoints: Arc::new(SteppedCheckpoints {
                checkpoints: checkpoints.clone(),
                steps: steps.clone(),
                design,
                written: Arc::clone(&written),
                clock: Mutex::default(),
                last: Mutex::default(),
            }),
            dead_letters: Arc::new(dead_letters.clone()),
            queue: Arc::new(SteppedQueue {
                queue: queue.clone(),
                steps: steps.clone(),
                sent: Arc::clone(&sent),
            }),
            bus: Arc::new(bus.clone()),
            run_for: Duration::ZERO,
            now: Box::new(|| SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_551_563_250)),
        };
        Self {
            table,
            steps,
            queue,
            dead_letters,
            bus,
            checkpoints,
            written,
            sent,
            deps,
            runs: Mutex::default(),
        }
    }

    /// An invocation of its own that begins polls for a while.
    pub(crate) fn invocation(&self, run_for: Duration) -> Invocation {
        let mut runs = self.runs.lock().unwrap();
        *runs += 1;
        let now = Instant::now();
        let (no_poll_after, no_page_after) = (now + run_for, now + Duration::from_secs(300));
        Invocation { owner: format!("request-{runs}"), no_poll_after, no_page_after }
    }

    pub(crate) async fn ask(&self, work: Work) -> Result<Answer, Error> {
        self.ask_in(work, &self.invocation(Duration::ZERO)).await
    }

    pub(crate) async fn ask_in(&self, work: Work, invocation: &Invocation) -> Result<Answer, Error> {
        let payload = Payload { source: SOURCE.parse().unwrap(), work, run_for: None };
        handle(&payload, &self.deps, invocation).await
    }

    /// One run of some time.
    pub(crate) async fn run_for(&self, run_for: Duration) -> Result<Report, Error> {
        match self.ask_in(Work::Poll, &self.invocation(run_for)).await? {
            Answer::Run(report) => Ok(report),
            other => panic!("no run: {other:?}"),
        }
    }

    /// One run of one poll.
    pub(crate) async fn run(&self) -> Result<Report, Error> {
        self.run_for(Duration::ZERO).await
    }

    /// Whether a saved cursor was ever followed by one before it.
    pub(crate) fn went_back(&self) -> bool {
        // What a run notes of the tables that it reads is no cursor.
        let written = self.written.lock().unwrap();
        let cursors: Vec<usize> = written.iter().filter_map(|cursor| cursor.parse().ok()).collect();
        assert!(!cursors.is_empty(), "nothing was saved, so this says nothing");
        cursors.windows(2).any(|pair| pair[1] < pair[0])
    }

    /// How many changes of the source never arrived.
    pub(crate) fn lost(&self) -> usize {
        let values = self.values();
        (1..=i64::try_from(self.table.len()).unwrap()).filter(|value| !values.contains(value)).count()
    }

    /// Lets what a killed run left behind end, then reads until nothing is left.
    pub(crate) async fn read_to_the_end(&self) {
        for _ in 0..20 {
            tokio::time::advance(LEASE + Duration::from_secs(1)).await;
            let _ = self.run().await;
            if self.cursor().await == Some(self.table.len().to_string()) {
                return;
            }
        }
        panic!("the source is not read to its end: {:?} of {}", self.cursor().await, self.table.len());
    }

    /// The saved cursor.
    pub(crate) async fn cursor(&self) -> Option<String> {
        self.checkpoints.read(SOURCE).await.unwrap()?.cursor
    }

    /// The bodies in the Changes queue, in order.
    pub(crate) fn bodies(&self) -> Vec<String> {
        self.queue.entries().into_iter().map(|entry| entry.body).collect()
    }

    /// What a target would have of each record: the value of the highest version that arrived.
    pub(crate) fn arrived(&self) -> BTreeMap<i64, i64> {
        let mut state = BTreeMap::new();
        for body in self.bodies() {
            let change = read(&body);
            let (key, value) = value(change.after.unwrap()).unwrap();
            let known: &mut (String, i64) = state.entry(key).or_default();
            let version = change.version.unwrap().to_string();
            if version > known.0 {
                *known = (version, value);
            }
        }
        state.into_iter().map(|(key, (_, value))| (key, value)).collect()
    }

    /// The values that arrived, each once.
    pub(crate) fn values(&self) -> Vec<i64> {
        let mut values: Vec<i64> =
            self.bodies().iter().map(|body| value(read(body).after.unwrap()).unwrap().1).collect();
        values.sort_unstable();
        values.dedup();
        values
    }
}

pub(crate) fn read(body: &str) -> Change<'_> {
    Change::read(body, &Limits::default()).unwrap()
}
