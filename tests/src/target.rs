//! Targets: small HTTP services that check who is calling, write down everything and keep what they were sent. Arrays they
//! take too, each event for itself, and answer with a result for each.
//!
//! They are *plain*: they take the versions in the order of arrival and overwrite. A version that steps back is
//! taken too, and written down as a fault, so that the ledger is what is tested and not the target.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;

use crate::change::RecordName;
use crate::http::{Call, Server, answer};
use crate::{raw, signature};

/// What a delivery of one event is, and what one of several.
const EVENT: &str = "application/cloudevents+json";
const ARRAY: &str = "application/cloudevents-batch+json";

/// How a target knows that a delivery comes from Data Sync.
#[derive(Debug, Clone)]
pub enum Auth {
    /// Standard Webhooks, with this secret.
    StandardWebhooks(String),
    /// A header with this text.
    ApiKey {
        /// The header's name.
        header: String,
        /// Its text.
        key: String,
    },
}

/// A request that a target got and believed.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The place in the order of arrival, from 0, over all requests of this target.
    pub place: usize,
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// `webhook-id`, where the request has it.
    pub webhook_id: Option<String>,
    /// All headers, as text.
    pub headers: Vec<(String, String)>,
    /// The body as it came.
    pub raw: String,
    /// The members of the event's envelope, as JSON text.
    pub envelope: BTreeMap<String, String>,
    /// The members of its data, as JSON text.
    pub data: BTreeMap<String, String>,
    /// What the target answered.
    pub status: u16,
}

impl Delivery {
    /// A text of the event's envelope; only names, hashes and numbers stand there, so nothing is escaped.
    pub fn envelope(&self, name: &str) -> &str {
        self.envelope.get(name).map(|text| text.trim_matches('"')).unwrap_or_default()
    }

    /// A record of the data, `before` or `after`, as JSON text; none where it is missing or null.
    pub fn image(&self, name: &str) -> Option<&str> {
        self.data.get(name).map(String::as_str).filter(|image| *image != "null")
    }

    /// The record: model and key.
    pub fn record(&self) -> RecordName {
        RecordName { model: self.model().to_owned(), key: self.data.get("key").cloned().unwrap_or_default() }
    }

    /// The model, from the type `<model>.<what happened>`.
    pub fn model(&self) -> &str {
        self.envelope("type").split('.').next().unwrap_or_default()
    }

    /// What happened: `created`, `updated`, `deleted`, `snapshot`.
    pub fn happened(&self) -> &str {
        self.envelope("type").rsplit('.').next().unwrap_or_default()
    }

    /// Whether the target took it.
    pub fn accepted(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// A record as a target holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The record id.
    pub record_id: String,
    /// The version that came last.
    pub version: String,
    /// The attributes, as JSON text; none after a delete.
    pub after: Option<String>,
}

/// What a target says to a delivery that it believes: a status, or none to take it.
pub type Verdict = Box<dyn Fn(&Delivery) -> Option<u16> + Send + Sync>;

#[derive(Default)]
struct State {
    records: BTreeMap<RecordName, Record>,
    deliveries: Vec<Delivery>,
    faults: Vec<String>,
    unbelieved: usize,
    taken: BTreeSet<String>,
    arrays: usize,
    again: usize,
    answering: Option<u16>,
    verdict: Option<Verdict>,
}

/// A running target.
pub struct Target {
    name: String,
    server: Server,
    state: Arc<Mutex<State>>,
}

impl Target {
    /// Starts a target on a free port.
    pub async fn start(name: &str, auth: Auth) -> Result<Self> {
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        let auth = Arc::new(auth);
        let server = Server::start(Arc::new(move |call| {
            let (shared, auth) = (shared.clone(), auth.clone());
            Box::pin(async move { receive(&shared, &auth, &call) })
        }))
        .await?;
        Ok(Self { name: name.to_owned(), server, state })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// Lets the target refuse what `verdict` gives a status for.
    pub fn refuse(&self, verdict: Verdict) {
        self.lock().verdict = Some(verdict);
    }

    /// Answers everything with this status, e.g. 503.
    pub fn fail_with(&self, status: u16) {
        self.lock().answering = Some(status);
    }

    /// Closes the port: nobody answers.
    pub fn take_down(&self) {
        self.server.close();
    }

    /// Brings the target back, whatever was wrong.
    pub fn bring_back(&self) {
        self.lock().answering = None;
        self.server.open();
    }

    /// What it holds, by record.
    pub fn records(&self) -> BTreeMap<RecordName, Record> {
        self.lock().records.clone()
    }

    /// Every request that it believed, in order, refused ones too.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.lock().deliveries.clone()
    }

    /// What no target should see: a version that steps back, a broken envelope.
    pub fn faults(&self) -> Vec<String> {
        self.lock().faults.clone()
    }

    /// How many requests had no right signature or key.
    pub fn unbelieved(&self) -> usize {
        self.lock().unbelieved
    }

    /// How many deliveries came again with an id and body that had been taken already.
    pub fn repeated(&self) -> usize {
        self.lock().again
    }

    /// How many requests with an array it believed.
    pub fn arrays(&self) -> usize {
        self.lock().arrays
    }

    /// How many deliveries it took.
    pub fn accepted(&self) -> usize {
        self.lock().deliveries.iter().filter(|delivery| delivery.accepted()).count()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn believes(auth: &Auth, call: &Call) -> bool {
    match auth {
        Auth::StandardWebhooks(secret) => {
            let now = jiff::Timestamp::now().as_second();
            signature::verify(secret, call.headers(), call.body(), now).is_ok()
        }
        Auth::ApiKey { header, key } => {
            call.headers().get(header).is_some_and(|value| value.as_bytes() == key.as_bytes())
        }
    }
}

fn receive(state: &Mutex<State>, auth: &Auth, call: &Call) -> Response<Full<Bytes>> {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    if !believes(auth, call) {
        state.unbelieved += 1;
        return answer(401, "application/json", r#"{"error":"unauthorized"}"#);
    }
    let text = |name: &str| call.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = String::from_utf8_lossy(call.body()).into_owned();
    if text("content-type").is_some_and(|kind| kind.starts_with(ARRAY)) {
        state.arrays += 1;
        if let Some(status) = state.answering {
            return answer(status, "application/json", "");
        }
        let Ok(events) = raw::elements(&body) else { return answer(400, "application/json", "") };
        let results = events.into_iter().map(|event| {
            let delivery = judge(&mut state, call, event.get());
            format!(r#"{{"id":{},"status":{}}}"#, raw::string(delivery.envelope("id")), delivery.status)
        });
        let results = format!(r#"{{"results":[{}]}}"#, results.collect::<Vec<_>>().join(","));
        return answer(200, "application/json", &results);
    }
    let status = judge(&mut state, call, &body).status;
    answer(status, "application/json", "")
}

/// What the target says to one event, and does with it.
fn judge(state: &mut State, call: &Call, event: &str) -> Delivery {
    let text = |name: &str| call.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut delivery = Delivery {
        place: state.deliveries.len(),
        method: call.method().to_string(),
        path: call.uri().path().to_owned(),
        webhook_id: text("webhook-id"),
        headers: call
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect(),
        raw: event.to_owned(),
        envelope: BTreeMap::new(),
        data: BTreeMap::new(),
        status: 0,
    };
    delivery.envelope = texts(&delivery.raw);
    delivery.data = delivery.envelope.remove("data").map(|data| texts(&data)).unwrap_or_default();
    let verdict = state.verdict.as_ref().and_then(|verdict| verdict(&delivery));
    delivery.status = state.answering.or(verdict).unwrap_or(204);
    if delivery.accepted() {
        take(state, &delivery);
    }
    state.deliveries.push(delivery.clone());
    delivery
}

fn take(state: &mut State, delivery: &Delivery) {
    let has_type = |kind: &str| {
        delivery.headers.iter().any(|(name, value)| name == "content-type" && value.starts_with(kind))
    };
    let id = delivery.webhook_id.as_deref().unwrap_or_default();
    for (what, right) in [
        ("specversion", delivery.envelope("specversion") == "1.0"),
        ("content type", has_type(EVENT) || has_type(ARRAY)),
        ("webhook-id", if has_type(ARRAY) { id.starts_with("arr_") } else { id == delivery.envelope("id") }),
        ("sequence", delivery.envelope("sequence").len() == 49),
        ("partitionkey", delivery.envelope("partitionkey") == delivery.envelope("subject")),
    ] {
        if !right {
            state.faults.push(format!("delivery {} has a wrong {what}", delivery.place));
        }
    }
    if !state.taken.insert(delivery.envelope("id").to_owned()) {
        state.again += 1;
    }
    let record = Record {
        record_id: delivery.envelope("subject").to_owned(),
        version: delivery.envelope("sequence").to_owned(),
        after: delivery.image("after").map(str::to_owned),
    };
    let version = record.version.clone();
    if let Some(held) = state.records.insert(delivery.record(), record)
        && held.version > version
    {
        state
            .faults
            .push(format!("delivery {} steps back from {} to {version}", delivery.place, held.version));
    }
}

/// The members of an object, each as it is written; none of what is no object.
fn texts(object: &str) -> BTreeMap<String, String> {
    let members = raw::members(object).unwrap_or_default();
    members.into_iter().map(|(name, value)| (name, value.get().to_owned())).collect()
}
