//! The function with ports in memory, and the records that it is given.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use enrich::cache::{Bounds, Cache};
use enrich::deps::{Deps, models};
use serde_json::{Value, json};
use sync_config::{ConfigFile, SyncConfig};
use sync_domain::event::Event;
use sync_domain::outcome::Stage;
use sync_domain::ports::{DataKey, HashKey, KeyBytes, KeyService, Result};
use sync_lambda::batch::Report;
use sync_lambda::deadline::Deadline;
use sync_lambda::keyring::Keyring;
use sync_lambda::park::Parker;
use sync_testkit::{
    MemoryFailureBus, MemoryInbox, MemoryKeyService, MemoryKeyTable, MemoryLookup, MemoryQueue,
    MemorySecrets, MemoryTopic, Record, event_of,
};

/// The model's file, with its look-up to be put in.
pub(crate) fn model(lookup: &str) -> String {
    format!(
        r#"
model: customer
key: [customer_id]
attributes:
  customer_id: {{ class: identifier }}
  tier: {{ class: internal }}
  segment: {{ class: internal, type: string }}
  risk: {{ class: sensitive, protect: encrypt }}
  advisor: {{ class: personal, protect: tokenize, as: contact.advisor }}
enrich:
{lookup}
"#
    )
}

/// A look-up at an HTTP service; `more` is further YAML of it.
pub(crate) fn http(url: &str, more: &str) -> String {
    model(&format!(
        "  http:\n    url: \"{url}\"\n    set: {{ segment: segment, risk: rating.risk, advisor: advisor }}\n{more}"
    ))
}

/// The key service as a network has it: every call takes a moment, in which other groups go on.
struct Remote(MemoryKeyService);

#[async_trait]
impl KeyService for Remote {
    async fn hash_root(&self, key: HashKey, version: u32) -> Result<KeyBytes> {
        tokio::time::sleep(MOMENT).await;
        self.0.hash_root(key, version).await
    }

    async fn new_data_key(&self, model: &str, attribute: &str) -> Result<DataKey> {
        tokio::time::sleep(MOMENT).await;
        self.0.new_data_key(model, attribute).await
    }

    async fn unwrap_data_key(&self, model: &str, attribute: &str, wrapped: &[u8]) -> Result<KeyBytes> {
        self.0.unwrap_data_key(model, attribute, wrapped).await
    }
}

const MOMENT: Duration = Duration::from_millis(5);

/// The function with twins to look into.
pub(crate) struct Stand {
    pub(crate) topic: MemoryTopic,
    pub(crate) dead_letters: MemoryQueue,
    pub(crate) bus: MemoryFailureBus,
    pub(crate) key_service: MemoryKeyService,
    pub(crate) key_table: MemoryKeyTable,
    pub(crate) secrets: MemorySecrets,
    pub(crate) deps: Deps,
    pub(crate) left: Duration,
}

pub(crate) const MAX_RECEIVES: u32 = 5;

impl Stand {
    /// With the model and look-ups allowed to go to this machine.
    pub(crate) fn new(model: &str) -> Self {
        Self::with(model, MemoryLookup::new(), true)
    }

    pub(crate) fn with(model: &str, tables: MemoryLookup, allow_loopback: bool) -> Self {
        let config = SyncConfig::parse(&[ConfigFile::new("models/customer.yaml", model)]).unwrap();
        let (topic, dead_letters) = (MemoryTopic::new(), MemoryQueue::new("enrichment-dead-letters"));
        let (bus, secrets) = (MemoryFailureBus::new(), MemorySecrets::new());
        let (key_service, key_table) = (MemoryKeyService::new(), MemoryKeyTable::new());
        let deps = Deps {
            models: models(&config, allow_loopback).unwrap(),
            tables: Arc::new(tables),
            secrets: Arc::new(secrets.clone()),
            keyring: Keyring::new(Arc::new(Remote(key_service.clone())), Arc::new(key_table.clone()), 1),
            inbox: Arc::new(MemoryInbox::new()),
            topic: Arc::new(topic.clone()),
            parker: Parker::new(Stage::Enrich, Arc::new(dead_letters.clone()), Arc::new(bus.clone())),
            max_receives: MAX_RECEIVES,
            cache: RefCell::new(Cache::new(Bounds::default())),
        };
        let left = Duration::from_secs(25);
        Self { topic, dead_letters, bus, key_service, key_table, secrets, deps, left }
    }

    /// Works a batch; gives the report.
    pub(crate) async fn report(&self, records: impl IntoIterator<Item = Record>) -> Report {
        let event = event_of(records.into_iter().map(Record::build));
        enrich::handle(event, &self.deps, Deadline::after(self.left)).await.unwrap()
    }

    /// Works a batch; gives the ids of the messages that come again.
    pub(crate) async fn work(&self, records: impl IntoIterator<Item = Record>) -> Vec<String> {
        let failures = self.report(records).await.response.batch_item_failures;
        failures.into_iter().map(|failure| failure.item_identifier).collect()
    }

    /// What was published, in order: record id and data.
    pub(crate) fn published(&self) -> Vec<(String, Value)> {
        let data = |event: &Event| (event.rid().as_str().to_owned(), body(event)["data"].take());
        self.topic.published().iter().map(data).collect()
    }

    /// The reasons (code, place) of what was parked. What stands in the dead-letter queue has been reported too.
    pub(crate) fn parked(&self) -> Vec<(String, String)> {
        let reasons: Vec<(String, String)> = self
            .bus
            .reported()
            .into_iter()
            .map(|failure| (failure.reason.code, failure.reason.place))
            .collect();
        assert_eq!(self.dead_letters.entries().len(), reasons.len(), "dead letters and reports");
        reasons
    }
}

/// The body of an event as JSON.
pub(crate) fn body(event: &Event) -> Value {
    serde_json::from_str(event.body()).unwrap()
}

/// An event's body for a customer: its record id, the number in its version, and the record.
pub(crate) fn customer(rid: &str, version: u32, after: &Value) -> String {
    let customer_id = after.get("customer_id").cloned().unwrap_or(json!(1));
    let operation = if after.is_null() { "deleted" } else { "updated" };
    json!({
        "specversion": "1.0", "id": format!("evt_{rid}_{version}"), "source": "/datasync/crm",
        "type": format!("customer.{operation}"), "subject": rid, "time": "2026-11-24T20:19:23Z",
        "datacontenttype": "application/json", "dataschema": "urn:datasync:schema/customer/1",
        "sequence": format!("00000000-{version:040}"), "partitionkey": rid, "policyversion": "p",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "origin": "crm",
        "data": {"key": {"customer_id": customer_id}, "after": after, "changed": ["tier"], "fingerprints": {}}
    })
    .to_string()
}

/// A message that is to be looked up.
pub(crate) fn wanted(id: &str, rid: &str, after: &Value) -> Record {
    Record::new(id, &customer(rid, 1, after)).group(rid).attribute("enrich", "yes")
}

/// The nth version of a record, to be looked up.
pub(crate) fn wanted_version(id: &str, rid: &str, version: u32, after: &Value) -> Record {
    Record::new(id, &customer(rid, version, after)).group(rid).attribute("enrich", "yes")
}
