//! The endpoint with everything around it in memory, and a clock that stands still until a test moves it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use capture_push::deps::{self, Deps};
use capture_push::gateway::{GatewayRequest, GatewayResponse};
use serde_json::Value;
use sync_config::{ConfigFile, SyncConfig};
use sync_testkit::{MemoryKeyService, MemoryQueue, MemoryReceipts, MemorySecrets};

use crate::logs;
use crate::push::Push;

/// 2026-11-24T20:19:23Z
pub(crate) const NOW: i64 = 1_795_551_563;
/// The secret of the source `crm`.
pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// A secret of nobody, until a test gives it to somebody.
pub(crate) const OTHER_SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// The secret that a source signs with.
pub(crate) fn secret_of(source: &str) -> &'static str {
    match source {
        "shop" => "whsec_c2hvcCBzaG9wIHNob3Agc2hvcCBzaG9wIHNob3A=",
        "backoffice" => "whsec_b2ZmaWNlIG9mZmljZSBvZmZpY2Ugb2ZmaWNlIG8=",
        "erp" => "whsec_ZXJwIGVycCBlcnAgZXJwIGVycCBlcnAgZXJwIGVycCA=",
        "warehouse" => "whsec_d2FyZWhvdXNlIHdhcmVob3VzZSB3YXJlaG91c2Ugdw==",
        _ => SECRET,
    }
}

const FILES: [(&str, &str); 12] = [
    (
        "models/customer.yaml",
        "model: customer\nkey: [customer_id]\nsubject: customer_id\nbefore: true\nattributes:\n  customer_id: { class: identifier, type: integer }\n  \
         email: { class: personal, protect: tokenize }\n  tier: { class: internal }\n  note: { class: internal, type: json }\n  \
         address.city: { class: personal }\n  contacts[].kind: { class: internal }\n",
    ),
    (
        "models/price.yaml",
        "model: price\nkey: [sku, currency]\nattributes:\n  sku: { class: public, type: string }\n  currency: { class: public }\n  amount: { class: internal, type: decimal }\n",
    ),
    (
        "models/setting.yaml",
        "model: setting\nkey: [name]\nattributes:\n  name: { class: public }\n  value: { class: internal, type: json }\n",
    ),
    ("models/event.yaml", "model: event\nkey: [event_id]\nattributes:\n  event_id: { class: public }\n"),
    (
        "sources/crm.yaml",
        "source: crm\npush: { secret: s/crm, models: [customer], version: time, epoch: 3 }\n",
    ),
    ("sources/shop.yaml", "source: shop\npush: { secret: s/shop, models: [price], version: integer }\n"),
    (
        "sources/backoffice.yaml",
        "source: backoffice\npush: { secret: s/backoffice, principal: \"arn:aws:iam::123456789012:role/jobs/BackOffice\", models: [setting] }\n",
    ),
    (
        "sources/events.yaml",
        "source: events\npush: { principal: \"arn:aws:iam::123456789012:user/events\", models: [event], version: integer }\n",
    ),
    (
        "models/person.yaml",
        "model: person\nkey: [id]\nbefore: true\nattributes:\n  id: { class: identifier, type: integer }\n  email: { class: personal, type: string }\n  \
         balance: { class: internal, type: string }\n  biography: { class: personal, type: string }\n",
    ),
    (
        "models/product.yaml",
        "model: product\nkey: [sku]\nattributes:\n  sku: { class: public, type: string }\n  name: { class: public, type: string }\n  weight: { class: public, type: decimal }\n",
    ),
    (
        "sources/erp.yaml",
        "source: erp\npush:\n  secret: s/erp\n  format: debezium\n  tables: { public.people: person, public.debezium_signal: null }\n  epoch: 2\n",
    ),
    (
        "sources/warehouse.yaml",
        "source: warehouse\npush: { secret: s/warehouse, format: debezium, tables: { inventory.products: product } }\n",
    ),
];

/// The endpoint in memory.
pub(crate) struct Bench {
    deps: Deps,
    pub(crate) queue: MemoryQueue,
    pub(crate) secrets: MemorySecrets,
    pub(crate) receipts: MemoryReceipts,
    pub(crate) keys: MemoryKeyService,
    clock: Arc<AtomicI64>,
    runtime: tokio::runtime::Runtime,
}

/// An answer, with what tests ask of it.
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) text: String,
    pub(crate) response: GatewayResponse,
    json: Value,
}

impl Answered {
    /// The code of a whole request's refusal.
    pub(crate) fn code(&self) -> &str {
        self.json["code"].as_str().unwrap_or_default()
    }

    /// The accepted indices.
    pub(crate) fn accepted(&self) -> Vec<u64> {
        let list = self.json["accepted"].as_array();
        list.into_iter().flatten().map(|item| item["index"].as_u64().unwrap()).collect()
    }

    /// The ids of the accepted changes.
    pub(crate) fn ids(&self) -> Vec<String> {
        let list = self.json["accepted"].as_array();
        list.into_iter().flatten().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    }

    /// The rejected indices with their codes.
    pub(crate) fn rejected(&self) -> Vec<(u64, String)> {
        self.coded("rejected")
    }

    /// The indices that were passed over, with what they were.
    pub(crate) fn passed_over(&self) -> Vec<(u64, String)> {
        self.coded("passed_over")
    }

    fn coded(&self, list: &str) -> Vec<(u64, String)> {
        let list = self.json[list].as_array();
        let pair =
            |item: &Value| (item["index"].as_u64().unwrap(), item["code"].as_str().unwrap().to_owned());
        list.into_iter().flatten().map(pair).collect()
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        logs::keep();
        let files = FILES.map(|(path, text)| ConfigFile::new(path, text));
        let config = SyncConfig::parse(&files).unwrap();
        let (queue, receipts, keys) =
            (MemoryQueue::new("changes"), MemoryReceipts::new(), MemoryKeyService::new());
        let secrets = MemorySecrets::new();
        for source in ["crm", "shop", "backoffice", "erp", "warehouse"] {
            secrets.set(&format!("s/{source}"), secret_of(source));
        }
        let clock = Arc::new(AtomicI64::new(NOW));
        let shown = Arc::clone(&clock);
        let deps = Deps {
            sources: deps::sources(&config),
            models: sync_lambda::config::policies(&config).unwrap(),
            ids: sync_lambda::record_ids::RecordIds::new(Arc::new(keys.clone())),
            secrets: Arc::new(secrets.clone()),
            receipts: Arc::new(receipts.clone()),
            queue: Arc::new(queue.clone()),
            now: Box::new(move || {
                SystemTime::UNIX_EPOCH + Duration::from_secs(shown.load(Ordering::Relaxed) as u64)
            }),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Self { deps, queue, secrets, receipts, keys, clock, runtime }
    }

    /// Moves the clocks on, the queue's too.
    pub(crate) fn later(&self, seconds: u32) {
        self.clock.fetch_add(i64::from(seconds), Ordering::Relaxed);
        self.queue.advance(Duration::from_secs(u64::from(seconds)));
    }

    pub(crate) fn now(&self) -> i64 {
        self.clock.load(Ordering::Relaxed)
    }

    pub(crate) fn send(&self, push: &Push) -> Answered {
        self.handle(&push.event())
    }

    pub(crate) fn handle(&self, event: &GatewayRequest) -> Answered {
        let (_, response) = self.runtime.block_on(capture_push::handle(event, &self.deps));
        let json = serde_json::from_str(&response.body).unwrap();
        Answered {
            status: response.status_code,
            text: serde_json::to_string(&response).unwrap(),
            response,
            json,
        }
    }

    /// The bodies that stand in the queue, in order.
    pub(crate) fn queued(&self) -> Vec<String> {
        self.queue.entries().into_iter().map(|entry| entry.body).collect()
    }
}
