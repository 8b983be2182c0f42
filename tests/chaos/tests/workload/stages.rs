//! The stages behind the Changes queue: the real functions, with queues, topic and ledger in memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use deliver::apart::Apart;
use deliver::deps::{guard, token_guard};
use deliver::http::access_tokens::AccessTokens;
use deliver::pace::Pace;
use serde_json::json;
use sync_config::{ConfigFile, SyncConfig};
use sync_domain::delivery::CompiledTarget;
use sync_domain::outcome::{Outcome, Stage};
use sync_http::Client;
use sync_lambda::deadline::Deadline;
use sync_lambda::keyring::Keyring;
use sync_lambda::park::Parker;
use sync_testkit::{
    MemoryFailureBus, MemoryKeyService, MemoryKeyTable, MemoryLedger, MemoryQueue, MemorySecrets,
    MemorySigner, MemorySwitch, MemoryTables, MemoryTopic,
};

use crate::mirror::Mirror;
use crate::queued::Queued;

/// What Lambda hands a function of a FIFO queue at once.
const BATCH: usize = 10;

/// From the Changes queue to a target.
pub(crate) struct Stages {
    pub(crate) mirror: Mirror,
    changes: MemoryQueue,
    topic: MemoryTopic,
    /// The target's queue.
    events: MemoryQueue,
    dead_letters: MemoryQueue,
    bus: MemoryFailureBus,
    transform: transform::deps::Deps,
    deliver: deliver::Deps,
}

/// What went through the stages.
#[derive(Default)]
pub(crate) struct Passed {
    /// What stood in the Changes queue.
    pub(crate) queued: Queued,
    /// How many events the topic has taken, each once.
    pub(crate) events: usize,
    /// How often which end was met, by its name: one for each message in each stage.
    pub(crate) outcomes: BTreeMap<&'static str, usize>,
}

impl Passed {
    fn count(&mut self, outcomes: &[Outcome]) {
        for outcome in outcomes {
            *self.outcomes.entry(outcome.as_str()).or_default() += 1;
        }
    }
}

impl Stages {
    /// All of them behind a queue, and a target that has nothing yet.
    pub(crate) async fn behind(changes: &MemoryQueue, config: &SyncConfig) -> Self {
        let mirror = Mirror::start().await;
        let url = mirror.url();
        let file = format!(
            "target: mirror\nsubscribe: [{{ model: item }}]\nendpoint: {{ url: \"{url}\", auth: none }}\n"
        );
        let targets = SyncConfig::parse(&[ConfigFile::new("targets/mirror.yaml", file)]).unwrap();
        let target = CompiledTarget::compile(targets.targets().next().unwrap().clone()).unwrap();
        let (topic, bus, keys) = (MemoryTopic::new(), MemoryFailureBus::new(), MemoryKeyService::new());
        let [events, dead_letters, enrichment] =
            ["mirror", "dead-letters", "enrichment"].map(MemoryQueue::new);
        topic.subscribe(&json!({ "model": ["item"] }), &events).unwrap();
        let parker = |stage| Parker::new(stage, Arc::new(dead_letters.clone()), Arc::new(bus.clone()));
        let transform = transform::deps::Deps {
            policies: sync_lambda::config::policies(config).unwrap(),
            sources: config.sources().map(|source| (source.source.clone(), source.clone())).collect(),
            keyring: Keyring::new(Arc::new(keys.clone()), Arc::new(MemoryKeyTable::new()), 1),
            inbox: Arc::new(changes.clone()),
            topic: Arc::new(topic.clone()),
            enrichment: Arc::new(enrichment),
            parker: parker(Stage::Transform),
            max_receives: 5,
        };
        let deliver = deliver::Deps {
            ledger: Arc::new(MemoryLedger::new()),
            keys: Arc::new(keys),
            secrets: Arc::new(MemorySecrets::new()),
            inbox: Arc::new(events.clone()),
            switch: Arc::new(MemorySwitch::new()),
            parker: parker(Stage::Deliver).with_target(target.target().target.clone()),
            http: Client::new(guard(&target, true)),
            tables: Arc::new(MemoryTables::new()),
            apart: Apart::default(),
            access_tokens: AccessTokens::new(Client::new(token_guard(&target, true))),
            signer: Arc::new(MemorySigner::default()),
            max_receives: 1_000,
            pace: Pace::unlimited(),
            now,
            random: || u64::MAX,
            woken: Mutex::default(),
            hasher: OnceLock::new(),
            target,
        };
        Self { mirror, changes: changes.clone(), topic, events, dead_letters, bus, transform, deliver }
    }

    /// Works what comes, batch by batch, until nothing is left behind the end of the capture.
    pub(crate) async fn follow(&self, captured: &AtomicBool) -> Passed {
        let mut passed = Passed::default();
        loop {
            let last = captured.load(Ordering::Acquire);
            if self.batch(&mut passed).await {
                continue;
            }
            if last {
                return passed;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Works a batch of the Changes queue and all that comes of it; false if the queue was empty.
    async fn batch(&self, passed: &mut Passed) -> bool {
        let changes = self.changes.receive(BATCH);
        if changes.records.is_empty() {
            return false;
        }
        changes.records.iter().for_each(|record| passed.queued.take(record.body.as_deref().unwrap()));
        let report = transform::handle(changes, &self.transform, now()).await.unwrap();
        self.changes.answer(Ok(&report.response));
        passed.count(&report.outcomes);
        passed.events += self.topic.take_published().len();
        loop {
            let events = self.events.receive(BATCH);
            if events.records.is_empty() {
                return true;
            }
            let deadline = Deadline::after(Duration::from_secs(60));
            let report = deliver::handle(events, &self.deliver, deadline).await.unwrap();
            self.events.answer(Ok(&report.response));
            passed.count(&report.outcomes);
        }
    }

    /// How many records could not go on, and how many failures were reported.
    pub(crate) fn parked(&self) -> (usize, usize) {
        (self.dead_letters.stored().len(), self.bus.reported().len())
    }
}

/// Seconds since 1970. Nothing here waits for a time.
fn now() -> i64 {
    1_795_559_963
}
