//! The function with ports in memory.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use capture_stream::deps::{Deps, Table};
use capture_stream::payload::{Error, Response};
use serde_json::Value;
use sync_config::{ConfigFile, SyncConfig};
use sync_domain::change::Change;
use sync_domain::outcome::Outcome;
use sync_domain::scan::Limits;
use sync_lambda::record_ids::RecordIds;
use sync_testkit::{
    MemoryCheckpoints, MemoryDeadLetterStore, MemoryFailureBus, MemoryItems, MemoryKeyService, MemoryQueue,
};

/// The bounds that `transform` reads a change within.
const LIMITS: Limits = Limits { bytes: 1 << 20, depth: 64, items: 500_000, string: 1 << 20, names: 10_000 };

/// Items of a page of the table.
pub(crate) const PAGE: usize = 4;

const MODEL: &str = "model: item
key: [id]
attributes:
  id: { class: identifier }
  v: { class: internal, type: json }
  n: { class: internal, type: json }
";
const SOURCE: &str = "source: table\ndynamodb: { table: items, model: item, epoch: 2 }\n";

/// The function with twins to look into.
pub(crate) struct World {
    pub(crate) queue: MemoryQueue,
    pub(crate) keys: MemoryKeyService,
    pub(crate) dead_letters: MemoryDeadLetterStore,
    pub(crate) bus: MemoryFailureBus,
    pub(crate) items: MemoryItems,
    pub(crate) checkpoints: MemoryCheckpoints,
    /// Seconds since 1970.
    pub(crate) clock: Arc<AtomicU64>,
    pub(crate) deps: Deps,
}

impl World {
    /// A table of items with a key `id`, of any type, and two attributes that may hold anything.
    pub(crate) fn new() -> Self {
        Self::with(MODEL, SOURCE)
    }

    /// Another model `item`, another source `table`.
    pub(crate) fn with(model: &str, source: &str) -> Self {
        let files =
            [ConfigFile::new("models/item.yaml", model), ConfigFile::new("sources/table.yaml", source)];
        Self::of("table", &SyncConfig::parse(&files).unwrap())
    }

    /// The source and the model that are shipped.
    pub(crate) fn shipped() -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../infra/layer/sync");
        Self::of(
            "preferences",
            &sync_lambda::config::load(&[("SYNC_CONFIG_DIR", dir.to_str().unwrap())]).unwrap(),
        )
    }

    fn of(source: &str, config: &SyncConfig) -> Self {
        let queue = MemoryQueue::new("changes");
        let (keys, dead_letters) = (MemoryKeyService::new(), MemoryDeadLetterStore::new());
        let (bus, items, checkpoints) =
            (MemoryFailureBus::new(), MemoryItems::new(&["id"], PAGE), MemoryCheckpoints::new());
        let clock = Arc::new(AtomicU64::new(1_795_551_563));
        let now = Arc::clone(&clock);
        let deps = Deps {
            table: Table::of(&source.parse().unwrap(), config).unwrap(),
            ids: RecordIds::new(Arc::new(keys.clone())),
            queue: Arc::new(queue.clone()),
            dead_letters: Arc::new(dead_letters.clone()),
            bus: Arc::new(bus.clone()),
            items: Arc::new(items.clone()),
            checkpoints: Arc::new(checkpoints.clone()),
            // Each look at it is a little later than the one before.
            now: Box::new(move || UNIX_EPOCH + Duration::from_secs(now.fetch_add(1, Ordering::Relaxed))),
        };
        Self { queue, keys, dead_letters, bus, items, checkpoints, clock, deps }
    }

    pub(crate) async fn handle(&self, event: &str) -> Result<(Response, Vec<Outcome>), Error> {
        capture_stream::handle(event, &self.deps).await
    }

    /// Works a batch; gives the sequence number that it has to begin again at.
    pub(crate) async fn work(&self, records: &[String]) -> Option<String> {
        let (response, outcomes) = self.handle(&batch(records)).await.unwrap();
        assert_eq!(outcomes.len(), records.len(), "one outcome for each record");
        let mut failures = response.batch_item_failures.into_iter();
        let first = failures.next().map(|failure| failure.item_identifier);
        assert!(failures.next().is_none(), "Lambda begins again at the lowest in any case");
        first
    }

    /// The bodies of the messages in the queue.
    pub(crate) fn queued(&self) -> Vec<String> {
        self.queue.entries().into_iter().map(|entry| entry.body).collect()
    }

    /// The messages in the queue, read.
    pub(crate) fn changes(&self) -> Vec<Value> {
        self.queued()
            .iter()
            .map(|body| {
                Change::read(body, &LIMITS).unwrap();
                serde_json::from_str(body).unwrap()
            })
            .collect()
    }

    /// The reasons of what was parked. What stands in the bucket has been reported with the same reason and its place.
    pub(crate) fn parked(&self) -> Vec<String> {
        let documents = self.dead_letters.documents();
        let reported = self.bus.reported();
        for failure in &reported {
            let place = failure.dead_letter_queue.as_deref().unwrap();
            let document = &documents[place.strip_prefix("s3://dead-letters/").unwrap()];
            let document: Value = serde_json::from_str(document).unwrap();
            assert_eq!(document["reason"]["code"], failure.reason.code);
        }
        reported.into_iter().map(|failure| failure.reason.code).collect()
    }
}

/// The payload of some records.
pub(crate) fn batch(records: &[String]) -> String {
    format!(r#"{{"Records":[{}]}}"#, records.join(","))
}

/// The nth record of the table of items, of the item `id` (typed), with `v` (typed) after it.
pub(crate) fn record(n: u64, id: &str, v: &str) -> String {
    of_item(n, "MODIFY", &format!(r#"{{"id":{id}}}"#), Some(v))
}

/// The nth record of the table, of any event; `v` typed, none for a removal.
pub(crate) fn of_item(n: u64, event: &str, keys: &str, v: Option<&str>) -> String {
    let id = keys.trim_start_matches('{').trim_end_matches('}').to_owned() + "}";
    let image = |v: &str| format!(r#"{{{id},"v":{v}}}"#);
    let old = format!(r#""OldImage":{},"#, image(r#"{"S":"before"}"#));
    let new = v.map(|v| format!(r#""NewImage":{},"#, image(v))).unwrap_or_default();
    let old = if event == "INSERT" { "" } else { &old };
    format!(
        r#"{{"eventID":"e{n}","eventName":"{event}","eventSource":"aws:dynamodb","dynamodb":{{"ApproximateCreationDateTime":1795551563,"Keys":{keys},{new}{old}"SequenceNumber":"{n}","StreamViewType":"NEW_AND_OLD_IMAGES"}},"eventSourceARN":"arn:aws:dynamodb:eu-central-1:111122223333:table/items/stream/2026-11-24T20:00:00.000"}}"#
    )
}

/// A typed number.
pub(crate) fn n(number: impl std::fmt::Display) -> String {
    format!(r#"{{"N":"{number}"}}"#)
}
