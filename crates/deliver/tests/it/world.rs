//! The function with twins of its ports in memory, and events for it.

use std::cell::Cell;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use aws_lambda_events::sqs::SqsEvent;
use deliver::apart::Apart;
use deliver::deps::{guard, pace, token_guard};
use deliver::http::access_tokens::AccessTokens;
use deliver::payload::{Answer, Payload, Standing};
use deliver::{Deps, Error, handle, invoke};
use sync_config::{ConfigFile, SyncConfig};
use sync_domain::delivery::CompiledTarget;
use sync_domain::delivery::breaker::Breaker;
use sync_domain::outcome::{Outcome, Stage};
use sync_domain::ports::LedgerRow;
use sync_http::Client;
use sync_lambda::deadline::Deadline;
use sync_lambda::park::Parker;
use sync_testkit::{
    MemoryFailureBus, MemoryInbox, MemoryKeyService, MemoryLedger, MemoryMeters, MemoryQueue, MemorySecrets,
    MemorySwitch, MemoryTables, Record, event_of,
};

use crate::endpoint::Endpoint;

pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub(crate) const OTHER_SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
pub(crate) const SECRET_NAME: &str = "datasync/target/loyalty";
pub(crate) const NOW: i64 = 1_795_559_963;

thread_local! {
    /// The seconds that the function's clock shows; each test has a thread and a clock of its own.
    static CLOCK: Cell<i64> = const { Cell::new(NOW) };
}

/// What the function's clock shows.
pub(crate) fn now() -> i64 {
    CLOCK.get()
}

/// The same in microseconds, and it moves: what waits for its time would wait for ever.
fn now_us() -> i64 {
    thread_local! {
        static BEGAN: tokio::time::Instant = tokio::time::Instant::now();
    }
    now() * 1_000_000 + i64::try_from(BEGAN.with(tokio::time::Instant::elapsed).as_micros()).unwrap()
}

/// Moves the function's clock.
pub(crate) fn advance(seconds: i64) {
    CLOCK.set(CLOCK.get() + seconds);
}

pub(crate) struct World {
    pub(crate) endpoint: Endpoint,
    pub(crate) ledger: MemoryLedger,
    pub(crate) meters: MemoryMeters,
    pub(crate) keys: MemoryKeyService,
    pub(crate) secrets: MemorySecrets,
    pub(crate) inbox: MemoryInbox,
    pub(crate) switch: MemorySwitch,
    pub(crate) dead_letters: MemoryQueue,
    pub(crate) bus: MemoryFailureBus,
    pub(crate) tables: MemoryTables,
    pub(crate) deps: Deps,
}

/// The target of most tests: everything of `customer`, signed.
pub(crate) const PLAIN: &str = "
target: loyalty
subscribe: [{ model: customer }]
endpoint: { url: \"URL\", auth: { standard_webhooks: datasync/target/loyalty }, timeout: 2s }
";

impl World {
    pub(crate) async fn plain() -> Self {
        Self::of(PLAIN).await
    }

    /// The world of a target; `URL` in its YAML becomes the address of its endpoint.
    pub(crate) async fn of(yaml: &str) -> Self {
        let endpoint = Endpoint::start().await;
        let name = yaml.lines().find_map(|line| line.strip_prefix("target: ")).unwrap();
        let file = ConfigFile::new(format!("targets/{name}.yaml"), yaml.replace("URL", &endpoint.url()));
        let config = SyncConfig::parse(&[file]).unwrap();
        let target = CompiledTarget::compile(config.targets().next().unwrap().clone()).unwrap();
        let secrets = MemorySecrets::new().with(SECRET_NAME, SECRET);
        let (ledger, keys, inbox) = (MemoryLedger::new(), MemoryKeyService::new(), MemoryInbox::new());
        let (dead_letters, bus) = (MemoryQueue::new("loyalty-dead-letters"), MemoryFailureBus::new());
        let (switch, meters) = (MemorySwitch::new(), MemoryMeters::new());
        let tables = MemoryTables::new().with("profiles", &["customer_id"]).with("everything", &["pk"]);
        let parker = Parker::new(Stage::Deliver, Arc::new(dead_letters.clone()), Arc::new(bus.clone()));
        let deps = Deps {
            ledger: Arc::new(ledger.clone()),
            keys: Arc::new(keys.clone()),
            secrets: Arc::new(secrets.clone()),
            inbox: Arc::new(inbox.clone()),
            switch: Arc::new(switch.clone()),
            parker: parker.with_target(target.target().target.clone()),
            http: Client::new(guard(&target, true)),
            tables: Arc::new(tables.clone()),
            access_tokens: AccessTokens::new(Client::new(token_guard(&target, true))),
            signer: crate::sigv4::signer(),
            max_receives: 1_000,
            pace: pace(&target, 2, Arc::new(meters.clone()), Arc::new(now_us)),
            now,
            random: || u64::MAX,
            woken: Mutex::default(),
            apart: Apart::default(),
            hasher: OnceLock::new(),
            target,
        };
        Self { endpoint, ledger, meters, keys, secrets, inbox, switch, dead_letters, bus, tables, deps }
    }

    /// Another running instance of the function.
    pub(crate) fn instance(&self) -> Deps {
        let target = CompiledTarget::compile(self.deps.target.target().clone()).unwrap();
        let parker =
            Parker::new(Stage::Deliver, Arc::new(self.dead_letters.clone()), Arc::new(self.bus.clone()));
        Deps {
            ledger: Arc::clone(&self.deps.ledger),
            keys: Arc::new(self.keys.clone()),
            secrets: Arc::new(self.secrets.clone()),
            inbox: Arc::clone(&self.deps.inbox),
            switch: Arc::new(self.switch.clone()),
            parker: parker.with_target(target.target().target.clone()),
            http: self.deps.http.clone(),
            tables: Arc::clone(&self.deps.tables),
            access_tokens: AccessTokens::new(Client::new(token_guard(&target, true))),
            signer: Arc::clone(&self.deps.signer),
            max_receives: 1_000,
            pace: pace(&target, 2, Arc::new(self.meters.clone()), Arc::new(now_us)),
            now,
            random: || u64::MAX,
            woken: Mutex::default(),
            apart: Apart::default(),
            hasher: OnceLock::new(),
            target,
        }
    }

    /// The breaker's row.
    pub(crate) fn breaker(&self) -> Breaker {
        self.ledger.standing(&self.deps.target.target().target)
    }

    /// What `datasync targets` or the schedule asks for.
    pub(crate) async fn ask(&self, payload: &str) -> Result<Standing, Error> {
        ask(&self.deps, payload).await.map(|(standing, _)| standing)
    }

    /// An invocation of the schedule.
    pub(crate) async fn probe(&self) -> Result<Standing, Error> {
        self.ask(PROBE).await
    }

    /// Works a batch; the answer is the ids of the messages that come again.
    pub(crate) async fn work(&self, event: SqsEvent) -> Vec<String> {
        self.work_within(event, Duration::from_secs(60)).await
    }

    pub(crate) async fn work_within(&self, event: SqsEvent, time: Duration) -> Vec<String> {
        let report = handle(event, &self.deps, Deadline::after(time)).await.unwrap();
        report.response.batch_item_failures.into_iter().map(|failure| failure.item_identifier).collect()
    }

    /// Works one event by itself; true = done with it.
    pub(crate) async fn one(&self, event: &Sample) -> bool {
        self.work(batch([event])).await.is_empty()
    }

    pub(crate) fn row(&self) -> Option<LedgerRow> {
        self.ledger.rows().into_values().next()
    }

    /// The reasons of what stands in the dead-letter queue.
    pub(crate) fn dead(&self) -> Vec<String> {
        let reason =
            |attributes: Vec<(String, String)>| attributes.into_iter().find(|(name, _)| name == "reason");
        self.dead_letters
            .entries()
            .into_iter()
            .filter_map(|entry| reason(entry.attributes))
            .map(|(_, r)| r)
            .collect()
    }

    /// The reasons of what was reported.
    pub(crate) fn reported(&self) -> Vec<String> {
        self.bus.reported().into_iter().map(|failure| failure.reason.code).collect()
    }

    pub(crate) fn arrived(&self) -> usize {
        self.endpoint.got().len()
    }
}

/// What the schedule sends.
pub(crate) const PROBE: &str = r#"{"work":{"probe":{"mapping":"0b8a29"}}}"#;

/// Invokes an instance with what is no batch.
pub(crate) async fn ask(deps: &Deps, payload: &str) -> Result<(Standing, Vec<Outcome>), Error> {
    let payload: Payload = serde_json::from_str(payload).unwrap();
    let mut outcomes = Vec::new();
    let deadline = Deadline::after(Duration::from_secs(60));
    match invoke(payload, deps, deadline, &mut outcomes).await? {
        Answer::Standing(standing) => Ok((standing, outcomes)),
        Answer::Batch(_) => panic!("a batch was answered"),
    }
}

/// An event of a customer, as the topic hands it out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) record: u32,
    pub(crate) version: u32,
    pub(crate) kind: &'static str,
    pub(crate) model: &'static str,
    pub(crate) email: &'static str,
    pub(crate) changed: &'static str,
    pub(crate) extra: &'static str,
    pub(crate) nonce: &'static str,
    pub(crate) received: u32,
}

/// An update of record 1 at a version.
pub(crate) fn update(version: u32) -> Sample {
    Sample {
        record: 1,
        version,
        kind: "updated",
        model: "customer",
        email: "a@example.com",
        changed: "null",
        extra: "",
        nonce: "nonce_nonce_no_1",
        received: 1,
    }
}

pub(crate) fn delete(version: u32) -> Sample {
    Sample { kind: "deleted", ..update(version) }
}

impl Sample {
    pub(crate) fn id(&self) -> String {
        format!("evt_{}_{}_{}", self.record, self.version, self.kind)
    }

    pub(crate) fn body(&self) -> String {
        let Self { record, version, kind, model, email, changed, extra, nonce, .. } = self;
        let id = self.id();
        let after = if *kind == "deleted" {
            "null".to_owned()
        } else {
            format!(
                r#"{{"customer_id":{record},"email":"{email}","balance": 1.10,"national_id":"dse1.0123456789abcdefghijkl.{nonce}{id}"}}"#
            )
        };
        format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"/datasync/crm","type":"{model}.{kind}","subject":"rid_{record}","time":"2026-11-24T20:19:23Z","datacontenttype":"application/json","dataschema":"urn:datasync:schema/{model}/1","sequence":"00000000-{version:040}","partitionkey":"rid_{record}","policyversion":"p1","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","origin":"crm"{extra},"data":{{"key":{{"customer_id":{record}}},"before":null,"after":{after},"changed":{changed},"fingerprints":{{"{nonce}":"fingerprint"}}}}}}"#
        )
    }
}

/// A batch of events, each in the group of its record. The message ids are the events' ids.
pub(crate) fn batch<'a>(events: impl IntoIterator<Item = &'a Sample>) -> SqsEvent {
    event_of(events.into_iter().map(|event| {
        let group = format!("rid_{}", event.record);
        Record::new(&event.id(), &event.body()).group(&group).received(event.received).build()
    }))
}
