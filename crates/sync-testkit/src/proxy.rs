//! A fault proxy in front of AWS, of its emulator, or of a target.
//!
//! It is a small HTTP proxy: functions get its address as `AWS_ENDPOINT_URL` (a target's address where it stands in front of
//! a target), and it passes every call on, except those that meet with a [`Fault`].
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use sync_testkit::proxy::{Fault, Pick, Proxy, Rule};
//! use sync_testkit::Dice;
//!
//! let mut dice = Dice::from_env(); // prints CHAOS_SEED=…, and takes it from there
//! let proxy = Proxy::start("http://127.0.0.1:4566", &mut dice).await?;
//! // Every third call or so loses entries; the first mark in the ledger is made, and its answer lost.
//! proxy.add(Rule::on("sqs", "SendMessageBatch", Fault::Fail(Pick::Any)).with("changes.fifo").chance(0.3));
//! proxy.add(Rule::on("dynamodb", "PutItem", Fault::Lose).with("\"ledger\"").nth(1));
//! // … start a function with AWS_ENDPOINT_URL = proxy.url(), let it work …
//! proxy.calm();
//! assert!(proxy.faults("sqs", "SendMessageBatch") > 0, "{}", proxy.report());
//! # Ok(()) }
//! ```
//!
//! It runs on a thread of its own, so that a test that blocks its own does not hold it up. What a call is decided to meet with
//! hangs on the seed, the rule and how many calls the rule has seen: calls of other actions that come in between change
//! nothing. Where calls of one action overlap, which one is the nth is theirs.

mod answer;
mod batch;
mod operation;
mod rule;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use http::Response;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{oneshot, watch};

use self::answer::{Why, none_taken, with_body};
use self::batch::{Failing, split};
use self::operation::Operation;
use self::rule::{Armed, fits};
pub use self::rule::{Fault, OVERTAKEN_WITHIN, Pick, Rule};
use crate::http::{Call, PlainClient, Server, client, cut, pass_on};
use crate::{Dice, lock};

/// How a call that met with nothing is counted.
const FORWARDED: &str = "forwarded";

/// A running proxy; it ends when this is dropped.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    _server: Server,
    runtime: Option<Runtime>,
}

struct Shared {
    to: String,
    seed: u64,
    client: PlainClient,
    state: Mutex<State>,
    /// Ticks when a call has ended or is held.
    moved: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    rules: Vec<Armed>,
    rules_so_far: u64,
    routes: Vec<(String, String)>,
    counts: BTreeMap<(Operation, &'static str), u64>,
    entries_out: u64,
    ended: BTreeMap<Operation, u64>,
    held: Vec<oneshot::Sender<()>>,
}

impl Proxy {
    /// Starts it in front of `to` (`http://host:port`). Its seed is the next throw of the dice.
    pub async fn start(to: &str, dice: &mut Dice) -> Result<Self> {
        let runtime =
            Builder::new_multi_thread().worker_threads(1).enable_all().thread_name("proxy").build()?;
        let shared = Arc::new(Shared {
            to: to.to_owned(),
            seed: dice.below(u64::MAX),
            client: client(),
            state: Mutex::default(),
            moved: watch::Sender::new(0),
        });
        let handler = Arc::clone(&shared);
        let server = Server::start(Arc::new(move |call: Call| {
            // On its own: a call that is on its way arrives, whether or not whoever made it still waits.
            let task = tokio::spawn(Arc::clone(&handler).take(call));
            Box::pin(async move { task.await.unwrap_or_else(|_| cut()) })
        }));
        let server = runtime.spawn(server).await.context("the proxy does not start")??;
        Ok(Self { port: server.port(), shared, _server: server, runtime: Some(runtime) })
    }

    /// Its address: what `AWS_ENDPOINT_URL` is set to.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Passes the calls of a service on to another address from now on.
    pub fn route(&self, service: &str, to: &str) {
        lock(&self.shared.state).routes.push((service.to_owned(), to.to_owned()));
    }

    /// Adds a rule. Of those that have something for a call, the one that was added first decides.
    pub fn add(&self, rule: Rule) {
        let mut state = lock(&self.shared.state);
        let number = state.rules_so_far;
        state.rules_so_far += 1;
        state.rules.push(Armed::new(rule, number));
    }

    /// Takes all rules away. What is held stays held.
    pub fn calm(&self) {
        lock(&self.shared.state).rules.clear();
    }

    /// How many calls are held at this moment.
    pub fn held(&self) -> usize {
        lock(&self.shared.state).held.len()
    }

    /// Waits until so many calls are held.
    pub async fn until_held(&self, calls: usize) {
        // The sender is in here: it does not go away.
        let _ = self.shared.moved.subscribe().wait_for(|_| self.held() >= calls).await;
    }

    /// Lets a held call go: the one at this place among those that are held, counted from 0 in the order in which they
    /// came. False if there is none.
    pub fn release(&self, place: usize) -> bool {
        let mut state = lock(&self.shared.state);
        if place >= state.held.len() {
            return false;
        }
        // Whoever waited may be gone.
        let _ = state.held.remove(place).send(());
        true
    }

    /// Lets all held calls go.
    pub fn release_all(&self) {
        while self.release(0) {}
    }

    /// How many calls of an action came, faults included; names as in [`Rule::on`].
    pub fn calls(&self, service: &str, action: &str) -> u64 {
        self.count(|operation, _| fits(service, &operation.service) && fits(action, &operation.action))
    }

    /// How many calls of an action met with a fault.
    pub fn faults(&self, service: &str, action: &str) -> u64 {
        self.count(|operation, what| {
            what != FORWARDED && fits(service, &operation.service) && fits(action, &operation.action)
        })
    }

    /// How many entries of batch calls were taken out.
    pub fn entries_out(&self) -> u64 {
        lock(&self.shared.state).entries_out
    }

    /// What was done so far, one line for each action and fault, in the order of their names.
    pub fn report(&self) -> String {
        let state = lock(&self.shared.state);
        let line = |((operation, what), count): (&(Operation, &str), &u64)| {
            format!("{}:{} {what} {count}\n", operation.service, operation.action)
        };
        state.counts.iter().map(line).collect::<String>()
            + &format!("entries taken out {}\n", state.entries_out)
    }

    fn count(&self, of: impl Fn(&Operation, &str) -> bool) -> u64 {
        let state = lock(&self.shared.state);
        state.counts.iter().filter(|((operation, what), _)| of(operation, what)).map(|(_, count)| count).sum()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // A runtime that is dropped inside another one would panic; what is still on its way ends here.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    async fn take(self: Arc<Self>, call: Call) -> Response<Full<Bytes>> {
        let (head, body) = call.into_parts();
        let operation = Operation::of(&head, &body);
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let call = Call::from_parts(head, body);
        let (met, draw) = self.decide(&operation, &path, call.body());
        let answer = self.answer(&operation, call, met, draw).await;
        *lock(&self.state).ended.entry(operation).or_default() += 1;
        self.tick();
        answer
    }

    /// Whether a call meets with a fault; counts it.
    fn decide(&self, operation: &Operation, path: &str, body: &[u8]) -> (Option<Fault>, u64) {
        let mut state = lock(&self.state);
        let mut met = None;
        // Every rule counts, whoever decides.
        for armed in &mut state.rules {
            if let Some(meets) = armed.meets(operation, path, body, self.seed)
                && met.is_none()
            {
                let may_fail = !matches!(meets.0, Fault::Fail(_) | Fault::Refuse(_))
                    || split(operation, body, Failing::Now, |all| (0..all).collect()).is_some();
                if may_fail {
                    armed.note();
                    met = Some(meets);
                }
            }
        }
        let what = met.as_ref().map_or(FORWARDED, |(fault, _)| fault.name());
        *state.counts.entry((operation.clone(), what)).or_default() += 1;
        met.map_or((None, 0), |(fault, draw)| (Some(fault), draw))
    }

    async fn answer(
        &self,
        operation: &Operation,
        call: Call,
        met: Option<Fault>,
        draw: u64,
    ) -> Response<Full<Bytes>> {
        let service = operation.service.as_str();
        match met {
            None => self.forward(service, call).await,
            Some(Fault::Throttle) => none_taken(service, Why::Throttled),
            Some(Fault::Down) => none_taken(service, Why::Down),
            Some(Fault::Cut) => cut(),
            Some(Fault::Lose) => {
                self.forward(service, call).await;
                cut()
            }
            Some(Fault::Late(time)) => {
                tokio::time::sleep(time).await;
                self.forward(service, call).await
            }
            Some(Fault::Slow(time)) => {
                let answer = self.forward(service, call).await;
                tokio::time::sleep(time).await;
                answer
            }
            Some(Fault::Twice) => {
                self.forward(service, call.clone()).await;
                self.forward(service, call).await
            }
            Some(Fault::Overtaken(by)) => {
                self.until_overtaken(operation, by).await;
                self.forward(service, call).await
            }
            Some(Fault::Hold) => {
                self.hold().await;
                self.forward(service, call).await
            }
            Some(Fault::HoldAnswer) => {
                let answer = self.forward(service, call).await;
                self.hold().await;
                answer
            }
            Some(Fault::Fail(pick)) => self.forward_some(operation, call, Failing::Now, &pick, draw).await,
            Some(Fault::Refuse(pick)) => self.forward_some(operation, call, Failing::Ever, &pick, draw).await,
        }
    }

    async fn forward(&self, service: &str, call: Call) -> Response<Full<Bytes>> {
        let route = lock(&self.state).routes.iter().rfind(|(of, _)| of == service).map(|(_, to)| to.clone());
        pass_on(&self.client, call, route.as_deref().unwrap_or(&self.to)).await
    }

    /// Forwards a batch call without some of its entries.
    async fn forward_some(
        &self,
        operation: &Operation,
        call: Call,
        failing: Failing,
        pick: &Pick,
        draw: u64,
    ) -> Response<Full<Bytes>> {
        let service = operation.service.as_str();
        let Some(split) = split(operation, call.body(), failing, |all| pick.of(all, draw)) else {
            return self.forward(service, call).await;
        };
        lock(&self.state).entries_out += split.out;
        let Some(rest) = &split.rest else {
            // With nothing processed DynamoDB does not list what it left, it throttles.
            if service == "dynamodb" {
                return none_taken(service, Why::Throttled);
            }
            let kind = if service == "sns" { "text/xml" } else { "application/x-amz-json-1.0" };
            return with_body(crate::http::answer(200, kind, ""), split.answer(None).unwrap_or_default());
        };
        let (mut head, _) = call.into_parts();
        head.headers.remove(http::header::CONTENT_LENGTH);
        let answer = self.forward(service, Call::from_parts(head, Bytes::from(rest.clone()))).await;
        if !answer.status().is_success() {
            return answer;
        }
        let (head, body) = answer.into_parts();
        let Ok(body) = body.collect().await;
        let body = body.to_bytes();
        match split.answer(Some(&body)) {
            Some(merged) => with_body(Response::from_parts(head, Full::default()), merged),
            // Whoever asked must not take the failed ones for done.
            None => cut(),
        }
    }

    async fn hold(&self) {
        let (sender, receiver) = oneshot::channel();
        lock(&self.state).held.push(sender);
        self.tick();
        // The sender goes only with the proxy.
        let _ = receiver.await;
    }

    async fn until_overtaken(&self, operation: &Operation, by: u64) {
        let ended = || lock(&self.state).ended.get(operation).copied().unwrap_or_default();
        let enough = ended().saturating_add(by);
        let mut moved = self.moved.subscribe();
        let _ = tokio::time::timeout(OVERTAKEN_WITHIN, moved.wait_for(|_| ended() >= enough)).await;
    }

    fn tick(&self) {
        self.moved.send_modify(|ticks| *ticks = ticks.wrapping_add(1));
    }
}
