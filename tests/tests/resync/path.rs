//! The whole way of a record in one process: a real PostgreSQL, the stages as they are deployed, queues, topic and ledger in
//! memory, targets behind real HTTP.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use capture_pull::open::Databases;
use capture_pull::payload::Payload;
use capture_pull::{Invocation, handle};
use deliver::apart::Apart;
use deliver::pace::Pace;
use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use serde_json::{Value, json};
use sync_aws::lambda::Invoke;
use sync_cli::sweep::Parts;
use sync_config::{ConfigFile, SyncConfig};
use sync_domain::config::filter::FilterPolicy;
use sync_domain::delivery::CompiledTarget;
use sync_domain::event::Event;
use sync_domain::id::SourceId;
use sync_domain::outcome::{FailureEvent, Stage};
use sync_domain::ports::{self, Secrets, Topic};
use sync_lambda::deadline::Deadline;
use sync_lambda::keyring::Keyring;
use sync_lambda::park::Parker;
use sync_lambda::record_ids::RecordIds;
use sync_sources::postgres::setup;
use sync_testkit::postgres::{PASSWORD, Server};
use sync_testkit::{
    MemoryCheckpoints, MemoryFailureBus, MemoryInbox, MemoryKeyService, MemoryKeyTable, MemoryLedger,
    MemoryQueue, MemorySecrets, MemorySigner, MemorySwitch, MemoryTables, MemoryTopic,
};
use sync_tests::http::{Call, Server as Http};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

const SECRET: &str = "datasync/source/shop";
const ROLE: &str = "shop_reader";
const DATABASE: &str = "shop";
const TARGET_SECRET: &str = "datasync/target/all";
/// A customer of this name is one that no target takes.
pub(crate) const REFUSED: &str = "refused";

/// The key is protected: who removes a record knows no other form of it.
const MODEL: &str = "model: customer
key: [id]
attributes:
  id: { class: identifier, type: integer, protect: tokenize }
  number: { class: internal, type: integer }
  name: { class: internal, type: string }
";
const TABLE: &str =
    "CREATE TABLE customers (id int PRIMARY KEY, number int GENERATED ALWAYS AS (id) STORED, name text)";
const SOURCE: &str = "source: shop
postgres: { url_secret: datasync/source/shop, mode: log, tables: { public.customers: customer } }
";

/// What the source or a target has: number and name.
pub(crate) type Rows = BTreeMap<i64, String>;

/// Everything between a table and its targets.
pub(crate) struct Path {
    pub(crate) server: Server,
    pub(crate) admin: tokio_postgres::Client,
    pub(crate) source: SourceId,
    pub(crate) bus: MemoryFailureBus,
    pub(crate) topic: MemoryTopic,
    pub(crate) ledger: MemoryLedger,
    /// Gets every change, snapshots too.
    pub(crate) mirror: Sink,
    /// Asked for no snapshots.
    pub(crate) archive: Sink,
    config: SyncConfig,
    secrets: MemorySecrets,
    changes: MemoryQueue,
    transform: transform::deps::Deps,
    capture: Capture,
}

impl Path {
    pub(crate) async fn new(settings: &str) -> Self {
        let kept = [Kept::default(), Kept::default()];
        let mut files = vec![
            ConfigFile::new("models/customer.yaml", MODEL),
            ConfigFile::new("sources/shop.yaml", SOURCE),
        ];
        let mut servers = Vec::new();
        for (name, snapshot, kept) in [("mirror", true, &kept[0]), ("archive", false, &kept[1])] {
            let server = Http::start(kept.handler()).await.unwrap();
            let yaml = format!(
                "target: {name}\nsubscribe: [{{ model: customer, snapshot: {snapshot} }}]\nendpoint: {{ url: \"http://127.0.0.1:{}/\", auth: {{ standard_webhooks: {TARGET_SECRET} }} }}\n",
                server.port()
            );
            files.push(ConfigFile::new(format!("targets/{name}.yaml"), yaml));
            servers.push(server);
        }
        let config = SyncConfig::parse(&files).unwrap();
        let (bus, topic, ledger) = (MemoryFailureBus::new(), MemoryTopic::new(), MemoryLedger::new());
        let mut sinks =
            servers.into_iter().zip(kept).zip(["mirror", "archive"]).map(|((server, kept), name)| {
                let target = config.targets().find(|target| target.target.as_str() == name).unwrap();
                let queue = MemoryQueue::new(name);
                topic.subscribe(&policy(&FilterPolicy::of(target), name), &queue).unwrap();
                let compiled = CompiledTarget::compile(target.clone()).unwrap();
                Sink { deps: delivering(compiled, &ledger, &bus), queue, kept, _server: server }
            });
        let (mirror, archive) = (sinks.next().unwrap(), sinks.next().unwrap());
        drop(sinks);

        let changes = MemoryQueue::new("changes");
        let parker = Parker::new(Stage::Transform, Arc::new(MemoryQueue::new("dead")), Arc::new(bus.clone()));
        let keys = (Arc::new(MemoryKeyService::new()), Arc::new(MemoryKeyTable::new()));
        let transform = transform::deps::Deps {
            policies: sync_lambda::config::policies(&config).unwrap(),
            sources: config.sources().map(|source| (source.source.clone(), source.clone())).collect(),
            keyring: Keyring::new(keys.0, keys.1, 1),
            inbox: Arc::new(changes.clone()),
            topic: Arc::new(topic.clone()),
            enrichment: Arc::new(MemoryQueue::new("enrichment")),
            parker,
            max_receives: 5,
        };
        let server = Server::start_with(settings).unwrap();
        let admin = server.database(DATABASE).await.unwrap();
        admin.batch_execute(TABLE).await.unwrap();
        let secrets = MemorySecrets::new().with(SECRET, &server.url_as(ROLE, DATABASE));
        let capture = Capture::start(config.clone(), secrets.clone(), changes.clone(), bus.clone());
        let source = "shop".parse().unwrap();
        let path = Self {
            server,
            admin,
            source,
            bus,
            topic,
            ledger,
            mirror,
            archive,
            config,
            secrets,
            changes,
            transform,
            capture,
        };
        path.sql(&format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")).await;
        path.set_up().await;
        path
    }

    /// Runs what an administrator is given, before a source is read and after its slot was lost.
    pub(crate) async fn set_up(&self) {
        let source = self.config.source(&self.source).unwrap();
        let models: Vec<_> = self.config.models().collect();
        self.sql(&setup(&self.source, source.postgres.as_ref().unwrap(), &models, ROLE).unwrap()).await;
    }

    pub(crate) async fn sql(&self, statements: &str) {
        self.admin.batch_execute(statements).await.unwrap_or_else(|error| panic!("{error:?}\n{statements}"));
    }

    /// What the source has.
    pub(crate) async fn table(&self) -> Rows {
        let rows = self.admin.query("SELECT number::bigint, name FROM customers", &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// Moves to another cluster under the same address: a restored dump, say.
    pub(crate) async fn move_to(&mut self, server: Server) {
        self.admin = server.client(DATABASE).await.unwrap();
        self.secrets.set(SECRET, &server.url_as(ROLE, DATABASE));
        // Some minutes later the function has it.
        self.secrets.refresh(SECRET).await.unwrap();
        self.server = server;
    }

    /// One run of the source's function; the answer's `ended`.
    pub(crate) async fn poll(&self) -> String {
        let answer = self.capture.invoke(r#"{"source":"shop","run_for":"0s"}"#).await.unwrap().unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        answer["ended"].as_str().unwrap().to_owned()
    }

    /// Lets everything that is on its way arrive.
    pub(crate) async fn flow(&self) {
        loop {
            let event = self.changes.receive(10);
            if event.records.is_empty() {
                break;
            }
            let report = transform::handle(event, &self.transform, 1_795_551_563).await.unwrap();
            self.changes.answer(Ok(&report.response));
        }
        self.mirror.take().await;
        self.archive.take().await;
    }

    /// What `datasync` works with.
    pub(crate) fn parts(&self, topic: impl Topic + 'static) -> Parts {
        Parts {
            function: Box::new(self.capture.clone()),
            ledger: Box::new(self.ledger.clone()),
            topic: Box::new(topic),
            policies: sync_lambda::config::policies(&self.config).unwrap(),
        }
    }

    /// Stage and reason of what was reported, each once.
    pub(crate) fn tickets(&self) -> BTreeSet<String> {
        let named = |failure: FailureEvent| format!("{}: {}", failure.stage, failure.reason.code);
        self.bus.reported().into_iter().map(named).collect()
    }
}

fn policy(policy: &FilterPolicy, name: &str) -> Value {
    json!({
        "model": policy.models,
        "operation": policy.operations,
        "changed": policy.changed,
        "only": [{ "exists": false }, name],
    })
}

fn delivering(target: CompiledTarget, ledger: &MemoryLedger, bus: &MemoryFailureBus) -> deliver::Deps {
    let dead_letters = Arc::new(MemoryQueue::new("dead"));
    let name = target.target().target.clone();
    deliver::Deps {
        ledger: Arc::new(ledger.clone()),
        keys: Arc::new(MemoryKeyService::new()),
        secrets: Arc::new(MemorySecrets::new().with(TARGET_SECRET, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")),
        inbox: Arc::new(MemoryInbox::new()),
        switch: Arc::new(MemorySwitch::new()),
        parker: Parker::new(Stage::Deliver, dead_letters, Arc::new(bus.clone())).with_target(name),
        http: sync_http::Client::new(deliver::deps::guard(&target, true)),
        tables: Arc::new(MemoryTables::new()),
        apart: Apart::default(),
        access_tokens: deliver::http::access_tokens::AccessTokens::new(sync_http::Client::new(
            deliver::deps::token_guard(&target, true),
        )),
        signer: Arc::new(MemorySigner::default()),
        max_receives: 1_000,
        pace: Pace::unlimited(),
        now: || 1_795_551_563,
        random: || 0,
        woken: Mutex::default(),
        hasher: OnceLock::new(),
        target,
    }
}

/// A target with its queue and its function.
pub(crate) struct Sink {
    queue: MemoryQueue,
    deps: deliver::Deps,
    kept: Kept,
    _server: Http,
}

impl Sink {
    async fn take(&self) {
        loop {
            let event = self.queue.receive(10);
            if event.records.is_empty() {
                return;
            }
            let report = deliver::handle(event, &self.deps, Deadline::after(Duration::from_secs(60))).await;
            self.queue.answer(Ok(&report.unwrap().response));
        }
    }

    /// What the target has.
    pub(crate) fn rows(&self) -> Rows {
        let rows = self.kept.0.lock().unwrap();
        let row =
            |after: &Value| (after["number"].as_i64().unwrap(), after["name"].as_str().unwrap().to_owned());
        rows.records.values().map(row).collect()
    }

    /// How many requests it got.
    pub(crate) fn requests(&self) -> usize {
        self.kept.0.lock().unwrap().requests
    }
}

/// What a target keeps: it takes what comes in the order in which it comes.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// The record by its protected key.
    records: BTreeMap<String, Value>,
    requests: usize,
}

impl Kept {
    fn handler(&self) -> sync_tests::http::Handler {
        let kept = self.clone();
        Arc::new(move |call: Call| {
            let status = kept.take(call.body());
            Box::pin(async move { Response::builder().status(status).body(Full::new(Bytes::new())).unwrap() })
        })
    }

    fn take(&self, body: &[u8]) -> u16 {
        let event: Value = serde_json::from_slice(body).unwrap();
        let mut state = self.0.lock().unwrap();
        state.requests += 1;
        let (key, after) = (event["data"]["key"].to_string(), event["data"]["after"].clone());
        if after["name"] == REFUSED {
            return 422;
        }
        if event["type"] == "customer.deleted" {
            state.records.remove(&key);
        } else {
            state.records.insert(key, after);
        }
        204
    }
}

/// The function that reads the source, on a thread of its own: a reader of databases stays on one.
#[derive(Clone)]
struct Capture(mpsc::UnboundedSender<Asked>);

type Answer = Result<String, String>;
type Asked = (String, oneshot::Sender<Answer>);

impl Capture {
    fn start(config: SyncConfig, secrets: MemorySecrets, queue: MemoryQueue, bus: MemoryFailureBus) -> Self {
        let (ask, mut asked) = mpsc::unbounded_channel::<Asked>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let deps = capture_pull::deps::Deps {
                    sources: config.sources().map(|source| (source.source.clone(), source.clone())).collect(),
                    policies: sync_lambda::config::policies(&config).unwrap(),
                    open: Box::new(Databases::new(config, Arc::new(secrets), PathBuf::new(), true)),
                    ids: RecordIds::new(Arc::new(MemoryKeyService::new())),
                    checkpoints: Arc::new(MemoryCheckpoints::new()),
                    dead_letters: Arc::new(MemoryQueue::new("changes-dead-letters")),
                    queue: Arc::new(queue),
                    bus: Arc::new(bus),
                    run_for: Duration::ZERO,
                    now: Box::new(SystemTime::now),
                };
                let mut count = 0;
                while let Some((payload, answer)) = asked.recv().await {
                    count += 1;
                    let payload: Payload = serde_json::from_str(&payload).unwrap();
                    let now = Instant::now();
                    let invocation = Invocation {
                        owner: format!("request-{count}"),
                        no_poll_after: now,
                        no_page_after: now + Duration::from_secs(60),
                    };
                    let done = match handle(&payload, &deps, &invocation).await {
                        Ok(answer) => Ok(serde_json::to_string(&answer).unwrap()),
                        Err(error) => Err(json!({ "errorMessage": error.to_string() }).to_string()),
                    };
                    // Whoever asked may have been killed.
                    let _ = answer.send(done);
                }
            });
        });
        Self(ask)
    }
}

#[async_trait]
impl Invoke for Capture {
    async fn invoke(&self, payload: &str) -> ports::Result<Answer> {
        let (answer, answered) = oneshot::channel();
        self.0.send((payload.to_owned(), answer)).unwrap();
        Ok(answered.await.unwrap())
    }
}

/// A topic that takes some events and then never comes back, as to one who is killed.
pub(crate) struct Deadly {
    pub(crate) topic: MemoryTopic,
    pub(crate) takes: usize,
    pub(crate) died: Arc<Notify>,
}

#[async_trait]
impl Topic for Deadly {
    async fn publish(&self, events: &[Event]) -> Vec<ports::Result<()>> {
        self.topic.publish(&events[..self.takes]).await;
        self.died.notify_one();
        std::future::pending().await
    }
}

/// A topic on whose way events are held up.
pub(crate) struct Held(pub(crate) Arc<Mutex<Vec<Event>>>);

#[async_trait]
impl Topic for Held {
    async fn publish(&self, events: &[Event]) -> Vec<ports::Result<()>> {
        self.0.lock().unwrap().extend_from_slice(events);
        events.iter().map(|_| Ok(())).collect()
    }
}
