//! What a target's breaker switches: the event source mapping and the rule that wakes its function. And what a probe takes from
//! the queue by itself is seen here. Everything else is passed on to the emulator.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use sync_tests::http::{self, Call, Server};

use crate::run::{Run, handed};

/// How a target's queue is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Switch {
    /// The mapping is enabled.
    pub(crate) fed: bool,
    /// The rule is enabled.
    pub(crate) probed: bool,
}

const AS_DEPLOYED: Switch = Switch { fed: true, probed: false };

#[derive(Default)]
struct State {
    switches: BTreeMap<String, Switch>,
    /// How often a mapping was disabled.
    openings: u64,
    run: Option<Arc<Run>>,
    /// By receipt: the target and the event of what a probe has taken.
    taken: BTreeMap<String, (String, String)>,
}

type Shared = Arc<Mutex<State>>;

pub(crate) struct Desk {
    server: Server,
    state: Shared,
}

impl Desk {
    /// Opens it in front of an emulator.
    pub(crate) async fn open(to: &str) -> Result<Self> {
        let (to, client) = (to.to_owned(), http::client());
        let state = Shared::default();
        let shared = Arc::clone(&state);
        let server = Server::start(Arc::new(move |call: Call| {
            let (to, client, shared) = (to.clone(), client.clone(), Arc::clone(&shared));
            Box::pin(async move {
                if let Some(answer) = switched(&call, &mut lock(&shared)) {
                    return http::answer(200, "application/x-amz-json-1.1", answer.to_string());
                }
                let (action, asked) = (action(&call), body(call.body()));
                let answer = http::pass_on(&client, call, &to).await;
                if action == "AmazonSQS.DeleteMessage" {
                    deleted(&shared, &asked);
                }
                if action != "AmazonSQS.ReceiveMessage" {
                    return answer;
                }
                let (head, answer) = answer.into_parts();
                let Ok(answer) = answer.collect().await;
                let answer = answer.to_bytes();
                received(&shared, &asked, &body(&answer));
                ::http::Response::from_parts(head, Full::new(answer))
            })
        }))
        .await?;
        Ok(Self { server, state })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.server.port())
    }

    /// From now on what is taken is written down.
    pub(crate) fn begin(&self, run: &Arc<Run>) {
        lock(&self.state).run = Some(Arc::clone(run));
    }

    /// Writes nothing down any more, and lets the run go.
    pub(crate) fn end(&self) {
        lock(&self.state).run = None;
    }

    /// How a target's queue is read now.
    pub(crate) fn switch(&self, target: &str) -> Switch {
        lock(&self.state).switches.get(target).copied().unwrap_or(AS_DEPLOYED)
    }

    /// How often a mapping was disabled.
    pub(crate) fn openings(&self) -> u64 {
        lock(&self.state).openings
    }
}

fn lock(state: &Shared) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn action(call: &Call) -> String {
    let target = call.headers().get("x-amz-target").and_then(|target| target.to_str().ok());
    target.unwrap_or_default().to_owned()
}

fn body(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_default()
}

/// Switches what the call asks for; none if it asks for something else.
fn switched(call: &Call, state: &mut State) -> Option<Value> {
    let asked = body(call.body());
    if let Some((_, mapping)) = call.uri().path().rsplit_once("/event-source-mappings/") {
        let on = asked["Enabled"].as_bool()?;
        let switch = state.switches.entry(mapping.to_owned()).or_insert(AS_DEPLOYED);
        state.openings += u64::from(switch.fed && !on);
        switch.fed = on;
        return Some(json!({ "UUID": mapping, "State": if on { "Enabling" } else { "Disabling" } }));
    }
    let on = match action(call).as_str() {
        "AWSEvents.EnableRule" => true,
        "AWSEvents.DisableRule" => false,
        _ => return None,
    };
    let target = asked["Name"].as_str()?.strip_suffix("-probe")?;
    state.switches.entry(target.to_owned()).or_insert(AS_DEPLOYED).probed = on;
    Some(json!({}))
}

/// Takes down what a probe has received.
fn received(state: &Shared, asked: &Value, answer: &Value) {
    let Some(run) = lock(state).run.clone() else { return };
    let url = asked["QueueUrl"].as_str().unwrap_or_default();
    let name = url.rsplit('/').next().unwrap_or_default();
    let target = name.trim_end_matches(".fifo");
    for message in answer["Messages"].as_array().into_iter().flatten() {
        let handed = handed(message, name);
        // What cannot be read is missed in the end.
        if let Ok(id) = run.hand_to_target(target, &handed) {
            lock(state).taken.insert(handed.receipt, (target.to_owned(), id));
        }
    }
}

fn deleted(state: &Shared, asked: &Value) {
    let receipt = asked["ReceiptHandle"].as_str().unwrap_or_default();
    let (run, taken) = {
        let mut state = lock(state);
        (state.run.clone(), state.taken.remove(receipt))
    };
    if let (Some(run), Some((target, id))) = (run, taken) {
        run.journal().done(&target, &id);
    }
}
