//! The function with ports in memory, and the changes that it is given.

use std::path::Path;
use std::sync::Arc;

use aws_lambda_events::sqs::SqsEvent;
use serde_json::Value;
use sync_config::{ConfigFile, SyncConfig};
use sync_domain::change::{Change, Operation};
use sync_domain::event::Event;
use sync_domain::outcome::Stage;
use sync_domain::ports::Topic;
use sync_domain::version::Version;
use sync_lambda::keyring::Keyring;
use sync_lambda::park::Parker;
use sync_testkit::{
    MemoryFailureBus, MemoryInbox, MemoryKeyService, MemoryKeyTable, MemoryQueue, MemoryTopic, Record,
    event_of,
};
use transform::deps::Deps;

const FILES: [(&str, &str); 6] = [
    (
        "models/customer.yaml",
        "model: customer
key: [customer_id]
attributes:
  customer_id: { class: identifier, type: integer, protect: tokenize }
  email: { class: personal, type: string, protect: tokenize }
  national_id: { class: sensitive, type: string, protect: encrypt }
  tier: { class: internal, type: string }
",
    ),
    (
        "models/lead.yaml",
        "model: lead
key: [id]
attributes:
  id: { class: identifier }
  tier: { class: internal }
  segment: { class: internal }
enrich: { when: { tier: { is: gold } }, http: { url: \"https://example.com/{id}\", set: { segment: segment } } }
",
    ),
    (
        "models/setting.yaml",
        "model: setting
key: [name]
attributes:
  name: { class: identifier, type: string }
  value: { class: internal, type: json }
",
    ),
    ("sources/crm.yaml", "source: crm\npush: { secret: datasync/source/crm, models: [customer, lead], version: integer }\n"),
    ("sources/backoffice.yaml", "source: backoffice\npush: { secret: datasync/source/b, models: [setting], version: queue, epoch: 3 }\n"),
    ("sources/shop.yaml", "source: shop\npush: { secret: datasync/source/shop, models: [], version: integer }\n"),
];

pub(crate) const MAX_RECEIVES: u32 = 5;
pub(crate) const NOW: i64 = 1_795_551_563;

/// The function with twins to look into.
pub(crate) struct World {
    pub(crate) topic: MemoryTopic,
    pub(crate) enrichment: MemoryQueue,
    pub(crate) dead_letters: MemoryQueue,
    pub(crate) bus: MemoryFailureBus,
    pub(crate) key_service: MemoryKeyService,
    pub(crate) key_table: MemoryKeyTable,
    pub(crate) deps: Deps,
}

impl World {
    pub(crate) fn new() -> Self {
        let files = FILES.map(|(path, text)| ConfigFile::new(path, text));
        Self::of(&SyncConfig::parse(&files).unwrap())
    }

    /// With the configuration that is shipped.
    pub(crate) fn shipped() -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../infra/layer/sync");
        Self::of(&sync_lambda::config::load(&[("SYNC_CONFIG_DIR", dir.to_str().unwrap())]).unwrap())
    }

    fn of(config: &SyncConfig) -> Self {
        let topic = MemoryTopic::new();
        let [enrichment, dead_letters] = ["enrichment", "changes-dead-letters"].map(MemoryQueue::new);
        let (bus, key_service, key_table) =
            (MemoryFailureBus::new(), MemoryKeyService::new(), MemoryKeyTable::new());
        let deps = Deps {
            policies: sync_lambda::config::policies(config).unwrap(),
            sources: config.sources().map(|source| (source.source.clone(), source.clone())).collect(),
            keyring: Keyring::new(Arc::new(key_service.clone()), Arc::new(key_table.clone()), 1),
            inbox: Arc::new(MemoryInbox::new()),
            topic: Arc::new(topic.clone()),
            enrichment: Arc::new(enrichment.clone()),
            parker: Parker::new(Stage::Transform, Arc::new(dead_letters.clone()), Arc::new(bus.clone())),
            max_receives: MAX_RECEIVES,
        };
        Self { topic, enrichment, dead_letters, bus, key_service, key_table, deps }
    }

    /// With another topic.
    pub(crate) fn publishing_to(mut self, topic: impl Topic + 'static) -> Self {
        self.deps.topic = Arc::new(topic);
        self
    }

    /// Works a batch; gives the ids of the messages that come again.
    pub(crate) async fn work(&self, records: impl IntoIterator<Item = Record>) -> Vec<String> {
        self.invoke(event_of(records.into_iter().map(Record::build)), NOW).await
    }

    pub(crate) async fn invoke(&self, event: SqsEvent, now: i64) -> Vec<String> {
        let report = transform::handle(event, &self.deps, now).await.unwrap();
        report.response.batch_item_failures.into_iter().map(|failure| failure.item_identifier).collect()
    }

    /// What was published: (record id, version's last digits as a number).
    pub(crate) fn order(&self) -> Vec<(String, u64)> {
        let order = |event: &Event| {
            let version = body(event.body())["sequence"].as_str().unwrap()[9..].parse().unwrap();
            (event.rid().as_str().to_owned(), version)
        };
        self.topic.published().iter().map(order).collect()
    }

    /// The reasons (code, place) of what was parked. What stands in the dead-letter queue has been reported, with the same
    /// reason.
    pub(crate) fn parked(&self) -> Vec<(String, String)> {
        let reported: Vec<_> = self
            .bus
            .reported()
            .into_iter()
            .map(|failure| (failure.reason.code, failure.reason.place))
            .collect();
        let entries = self.dead_letters.entries();
        let of = |attributes: &[(String, String)], wanted: &str| {
            attributes
                .iter()
                .find(|(name, _)| name == wanted)
                .map_or(String::new(), |(_, value)| value.clone())
        };
        let stored: Vec<_> = entries
            .iter()
            .map(|entry| (of(&entry.attributes, "reason"), of(&entry.attributes, "place")))
            .collect();
        assert_eq!(stored, reported, "dead letters and reports");
        reported
    }

    /// Everything that anybody but the Changes queue's reader can see.
    pub(crate) fn visible(&self) -> String {
        let published: Vec<_> = self
            .topic
            .published()
            .iter()
            .map(|event| format!("{} {:?}", event.body(), event.attributes()))
            .collect();
        let queued: Vec<_> = self.enrichment.entries().iter().map(|entry| format!("{entry:?}")).collect();
        let attributes: Vec<_> = self
            .dead_letters
            .entries()
            .iter()
            .map(|entry| format!("{:?} {} {}", entry.attributes, entry.group, entry.dedup))
            .collect();
        let failures = serde_json::to_string(&self.bus.reported()).unwrap();
        format!("{published:?} {queued:?} {attributes:?} {failures}")
    }
}

pub(crate) fn body(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The value of a message attribute.
pub(crate) fn attribute<'a>(attributes: &'a [(String, String)], wanted: &str) -> Option<&'a str> {
    attributes.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
}

/// A change of a model of the tests.
pub(crate) fn change<'a>(
    source: &'a str,
    model: &'a str,
    version: Option<u64>,
    key: &'a str,
    after: Option<&'a str>,
) -> Change<'a> {
    Change {
        id: format!("chg_{model}_{}", version.unwrap_or_default()).into(),
        source: source.into(),
        model: model.into(),
        operation: if after.is_some() { Operation::Update } else { Operation::Delete },
        version: version.map(|version| Version::from_decimal(0, &version.to_string()).unwrap()),
        occurred_at: "2026-11-24T20:19:23Z".into(),
        origin: source.into(),
        traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into(),
        subject_key_id: None,
        run: None,
        only: None,
        key,
        before: None,
        after,
    }
}

/// The nth version of a customer, as a message of its group.
pub(crate) fn customer(id: &str, group: &str, version: u64) -> Record {
    let after = r#"{"customer_id":4711,"email":"canary-mail@example.com","national_id":"CANARY-ID","tier":"gold","unlisted":"CANARY-X"}"#;
    let change = change("crm", "customer", Some(version), r#"{"customer_id":4711}"#, Some(after));
    Record::new(id, &change.write()).group(group)
}

/// The same, of the wrong type.
pub(crate) fn misfit(id: &str, group: &str, version: u64) -> Record {
    let after = r#"{"customer_id":4711,"email":["canary-mail@example.com"],"national_id":"CANARY-ID"}"#;
    let change = change("crm", "customer", Some(version), r#"{"customer_id":4711}"#, Some(after));
    Record::new(id, &change.write()).group(group)
}

/// A setting, whose version is its place in the queue.
pub(crate) fn setting(id: &str, group: &str) -> Record {
    let change =
        change("backoffice", "setting", None, r#"{"name":"a"}"#, Some(r#"{"name":"a","value":[1.10]}"#));
    Record::new(id, &change.write()).group(group)
}
