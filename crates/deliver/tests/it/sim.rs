//! Targets with their queues, mappings and rules, under a clock that moves on when nobody has anything left to do. Requests
//! go through the real client over lines in memory, so that a request that hangs takes no time of ours, and a rate takes
//! the time that it takes.
//!
//! What AWS does is modelled by its documented rules: a mapping runs so many batches side by side and hides what it took;
//! it stops and starts a minute after it was told to; a rule comes every minute, and twice; all functions share the account's
//! concurrency.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use deliver::deps::guard;
use deliver::{Deps, handle};
use futures_util::future::{BoxFuture, FutureExt, LocalBoxFuture, join, join_all};
use sync_config::{ConfigFile, SyncConfig};
use sync_domain::config::Endpoint;
use sync_domain::delivery::CompiledTarget;
use sync_domain::delivery::breaker::State;
use sync_domain::ports::{self, Inbox, Queue, QueueEntry, Received, Switch};
use sync_http::{Client, Connecting, Line, Lines, Names};
use sync_lambda::deadline::Deadline;
use sync_testkit::{MemoryLedger, MemoryQueue};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use crate::endpoint::receive;
use crate::world::{NOW, PLAIN, PROBE, Sample, World, ask, update};

/// How long a mapping takes to do what it is told.
const SETTLES: Duration = Duration::from_secs(60);
/// How often a mapping that finds nothing looks again.
const POLL: Duration = Duration::from_millis(100);
/// The same once nothing more is sent.
const IDLE_POLL: Duration = Duration::from_secs(10);
/// The record that changes more often than the others, ...
pub(crate) const BUSY: u32 = 42;
/// ... namely so often besides.
pub(crate) const BUSY_TOO: Duration = Duration::from_secs(45);
/// How many different records change.
pub(crate) const RECORDS: u32 = 100;
/// From one change to the next.
const EVERY: Duration = Duration::from_secs(1);
/// How long changes come.
pub(crate) const LENGTH: Duration = Duration::from_secs(15 * 60);
/// The requests a second that a target allows.
pub(crate) const RATE: u32 = 5;
/// Batches of one target side by side.
pub(crate) const BATCHES: usize = 2;

thread_local! {
    static START: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The time since the test began.
fn elapsed() -> Duration {
    START.get().map_or(Duration::ZERO, |start| start.elapsed())
}

/// The function's clock.
fn seconds() -> i64 {
    NOW + i64::try_from(elapsed().as_secs()).unwrap()
}

/// What is wrong with a target while it is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Works,
    /// Answers with an error of its own.
    Errors,
    /// Takes the request and says nothing.
    Hangs,
    /// Begins an answer and never ends it.
    SlowBody,
    /// Breaks the connection under the request.
    Resets,
    /// Does what it is asked and closes the connection.
    LosesAnswers,
    /// Speaks no TLS.
    NoTls,
    /// Has no address.
    NoName,
    /// Takes so many requests a minute.
    Limits(usize),
}

/// A target of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    /// What is wrong with it, from when to when.
    pub(crate) away: Option<(Mode, Duration, Duration)>,
    /// A record whose events are all answered so, with the time that this takes.
    pub(crate) poison: Option<(u32, u16, Duration)>,
    /// How long it takes for a request; up to half as much again by the event.
    pub(crate) takes: Duration,
    /// How many batches its mapping runs side by side.
    pub(crate) batches: usize,
}

impl Plan {
    /// A target that works.
    pub(crate) fn of(name: &'static str) -> Self {
        Self { name, away: None, poison: None, takes: Duration::from_millis(40), batches: BATCHES }
    }
}

/// What became of a target.
#[derive(Debug, Default)]
pub(crate) struct Story {
    /// When each event was sent to its queue.
    pub(crate) sent: BTreeMap<String, Duration>,
    /// Each time that somebody tried to reach it.
    pub(crate) tries: Vec<Duration>,
    /// What it took, and when, in order.
    pub(crate) taken: Vec<(String, Duration)>,
    /// What stands in its dead-letter queue.
    pub(crate) dead: BTreeMap<String, String>,
    /// When its breaker was seen open, and when closed again.
    pub(crate) open: Vec<(Duration, Duration)>,
    /// The reasons that were reported of the target itself.
    pub(crate) told: Vec<String>,
    /// When nothing of it was left.
    pub(crate) ended: Duration,
}

impl Story {
    /// From the queue to the target: each event that it took, shortest first, but for those of a record.
    fn latencies(&self, but: Option<u32>) -> Vec<Duration> {
        let first: BTreeMap<&String, Duration> = self.taken.iter().rev().map(|(id, at)| (id, *at)).collect();
        let but = but.map(|record| format!("evt_{record}_"));
        let counts = |id: &str| but.as_ref().is_none_or(|but| !id.starts_with(but));
        let mut all: Vec<_> =
            first.into_iter().filter(|(id, _)| counts(id)).map(|(id, at)| at - self.sent[id]).collect();
        all.sort();
        all
    }

    /// The 99th percentile of these, in seconds.
    pub(crate) fn p99(&self, but: Option<u32>) -> f64 {
        let all = self.latencies(but);
        all[all.len() * 99 / 100].as_secs_f64()
    }

    /// Every event is at the target or in its dead-letter queue, and in one of them only.
    pub(crate) fn accounts_for_all(&self) {
        let taken: BTreeSet<_> = self.taken.iter().map(|(id, _)| id).collect();
        let dead: BTreeSet<_> = self.dead.keys().collect();
        assert_eq!(taken.intersection(&dead).count(), 0, "delivered and given up");
        let ends: BTreeSet<_> = taken.union(&dead).copied().collect();
        assert_eq!(ends, self.sent.keys().collect(), "every event has an end");
    }

    /// No event of a record is taken behind a newer one.
    pub(crate) fn is_in_order(&self) {
        let mut newest = BTreeMap::new();
        for (id, at) in &self.taken {
            let mut parts = id.split('_').skip(1).map(|part| part.parse::<u32>().unwrap_or_default());
            let (record, version) = (parts.next().unwrap(), parts.next().unwrap());
            let before = newest.insert(record, version).unwrap_or_default();
            assert!(before <= version, "{id} came behind version {before}, {at:?} from the start");
        }
    }

    /// How many requests were taken from one moment on.
    pub(crate) fn taken_within(&self, from: Duration, length: Duration) -> usize {
        self.taken.iter().filter(|(_, at)| (from..from + length).contains(at)).count()
    }
}

/// A target's endpoint.
#[derive(Clone)]
struct Place {
    plan: Plan,
    story: Arc<Mutex<Story>>,
}

impl Place {
    fn mode(&self) -> Mode {
        let now = elapsed();
        let away = self.plan.away.filter(|(_, from, until)| (*from..*until).contains(&now));
        away.map_or(Mode::Works, |(mode, ..)| mode)
    }

    fn tried(&self) {
        self.story.lock().unwrap().tries.push(elapsed());
    }

    async fn serve(self, mut stream: DuplexStream) -> io::Result<()> {
        match self.mode() {
            Mode::Resets => {
                self.tried();
                stream.read_u8().await?;
                return Ok(());
            }
            Mode::NoTls => {
                self.tried();
                return stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            }
            _ => {}
        }
        while let Some(got) = receive(&mut stream).await? {
            let mode = self.mode();
            self.tried();
            let id = got.header("webhook-id").to_owned();
            sleep(self.takes(&id)).await;
            let answer = match mode {
                Mode::Works => self.take(id).await,
                Mode::Limits(most) => {
                    let minute = elapsed().as_secs() / 60;
                    let taken = |(_, at): &&(String, Duration)| at.as_secs() / 60 == minute;
                    if self.story.lock().unwrap().taken.iter().rev().take_while(taken).count() < most {
                        self.take(id).await
                    } else {
                        let left = 60 - elapsed().as_secs() % 60;
                        format!("HTTP/1.1 429 X\r\nretry-after: {left}\r\ncontent-length: 0\r\n\r\n")
                    }
                }
                Mode::LosesAnswers => {
                    self.take(id).await;
                    return Ok(());
                }
                Mode::SlowBody => {
                    stream.write_all(b"HTTP/1.1 200 X\r\ncontent-length: 100\r\n\r\n").await?;
                    loop {
                        sleep(Duration::from_secs(1)).await;
                        stream.write_all(b".").await?;
                    }
                }
                Mode::Hangs => {
                    // Until the other side has enough.
                    while stream.read(&mut [0; 64]).await? > 0 {}
                    return Ok(());
                }
                Mode::Errors | Mode::Resets | Mode::NoTls | Mode::NoName => status(503),
            };
            stream.write_all(answer.as_bytes()).await?;
        }
        Ok(())
    }

    /// The same for the same event, whatever else is on its way.
    fn takes(&self, id: &str) -> Duration {
        let sum: u32 = id.bytes().map(u32::from).sum();
        self.plan.takes + self.plan.takes * (sum % 50) / 100
    }

    async fn take(&self, id: String) -> String {
        if let Some((record, answer, time)) = self.plan.poison
            && id.starts_with(&format!("evt_{record}_"))
        {
            sleep(time).await;
            return status(answer);
        }
        self.story.lock().unwrap().taken.push((id, elapsed()));
        "HTTP/1.1 204 X\r\n\r\n".to_owned()
    }
}

fn status(status: u16) -> String {
    format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n")
}

impl Names for Place {
    fn addresses(&self, _: &str) -> sync_http::Answer {
        let known = self.mode() != Mode::NoName;
        if !known {
            self.tried();
        }
        let nobody = || io::Error::new(io::ErrorKind::NotFound, "no such name");
        async move { if known { Ok(vec![IpAddr::from([127, 0, 0, 1])]) } else { Err(nobody()) } }.boxed()
    }
}

impl Lines for Place {
    fn connect(&self, _: SocketAddr) -> Connecting {
        let (near, far) = tokio::io::duplex(1 << 16);
        let serving: BoxFuture<'static, _> = self.clone().serve(far).boxed();
        // Whoever breaks off a connection is not waited for.
        tokio::spawn(async move { drop(serving.await) });
        let near: Box<dyn Line> = Box::new(near);
        async move { Ok(near) }.boxed()
    }
}

/// A queue whose clock is the test's.
#[derive(Clone)]
struct Clocked {
    queue: MemoryQueue,
    shown: Arc<Mutex<Duration>>,
}

impl Clocked {
    /// The queue as it is now.
    fn now(&self) -> &MemoryQueue {
        let mut shown = self.shown.lock().unwrap();
        let now = elapsed();
        if now > *shown {
            self.queue.advance(now - *shown);
            *shown = now;
        }
        &self.queue
    }
}

#[async_trait]
impl Inbox for Clocked {
    async fn delay(&self, receipts: &[String], delay: Duration) -> ports::Result<()> {
        self.now().delay(receipts, delay).await
    }

    async fn take(&self) -> ports::Result<Option<Received>> {
        self.now().take().await
    }

    async fn remove(&self, receipt: &str) -> ports::Result<()> {
        self.now().remove(receipt).await
    }
}

/// A mapping that does what it is told [`SETTLES`] later, and a rule.
#[derive(Clone, Default)]
struct Slow {
    told: Arc<Mutex<Vec<(Duration, bool)>>>,
    awake: Arc<Mutex<bool>>,
}

impl Slow {
    fn feeds(&self) -> bool {
        let told = self.told.lock().unwrap();
        told.iter().rev().find(|(at, _)| *at + SETTLES <= elapsed()).is_none_or(|(_, on)| *on)
    }

    fn wakes(&self) -> bool {
        *self.awake.lock().unwrap()
    }
}

#[async_trait]
impl Switch for Slow {
    async fn feed(&self, _: &str, on: bool) -> ports::Result<()> {
        self.told.lock().unwrap().push((elapsed(), on));
        Ok(())
    }

    async fn wake(&self, on: bool) -> ports::Result<()> {
        *self.awake.lock().unwrap() = on;
        Ok(())
    }
}

/// A target with all that is its own.
struct Stand {
    world: World,
    endpoint: Place,
    queue: Clocked,
    switch: Slow,
}

impl Stand {
    async fn new(plan: Plan, ledger: &MemoryLedger) -> Self {
        let story = Arc::new(Mutex::new(Story::default()));
        let shown = Arc::default();
        let mut stand = Self {
            world: World::of(&yaml(plan, "http")).await,
            endpoint: Place { plan, story },
            queue: Clocked { queue: MemoryQueue::new(plan.name), shown },
            switch: Slow::default(),
        };
        stand.world.ledger = ledger.clone();
        stand
    }

    /// A running function.
    fn instance(&self) -> Deps {
        let mut deps = self.world.instance();
        deps.ledger = Arc::new(self.world.ledger.clone());
        deps.inbox = Arc::new(self.queue.clone());
        deps.switch = Arc::new(self.switch.clone());
        deps.now = seconds;
        deps.random = || 1 << 63;
        self.point(&mut deps, "http");
        deps
    }

    /// Sends where the target is. That of a target that speaks no TLS is another address while it does not.
    fn point(&self, deps: &mut Deps, scheme: &str) {
        let to = compiled(self.endpoint.plan, scheme);
        let (names, lines) = (Arc::new(self.endpoint.clone()), Arc::new(self.endpoint.clone()));
        deps.http = Client::with_lines(guard(&to, true), names, lines);
        deps.target = to;
    }

    fn point_if_moved(&self, deps: &mut Deps) {
        let scheme = if self.endpoint.mode() == Mode::NoTls { "https" } else { "http" };
        let Endpoint::Http(endpoint) = &deps.target.target().endpoint else { panic!("an HTTP target") };
        if endpoint.url.scheme() != scheme {
            self.point(deps, scheme);
        }
    }

    /// One of the batches that the mapping runs side by side.
    async fn poll(&self, account: &Semaphore, over: &Cell<bool>) {
        let mut deps = self.instance();
        let mut wait = POLL;
        while !self.is_done(over) {
            let batch = if self.switch.feeds() { self.queue.now().lend(10) } else { Default::default() };
            if batch.records.is_empty() {
                wait = if over.get() { (wait * 2).min(IDLE_POLL) } else { POLL };
                sleep(wait).await;
                continue;
            }
            wait = POLL;
            let running = account.acquire().await.unwrap();
            self.point_if_moved(&mut deps);
            let lent = batch.records.clone();
            let report = handle(batch, &deps, Deadline::after(Duration::from_secs(60))).await.unwrap();
            drop(running);
            self.queue.now().settle(&lent, Ok(&report.response));
        }
    }

    /// The rule, which comes twice each time, to two functions.
    async fn wake(&self, account: &Semaphore, over: &Cell<bool>) {
        let (mut one, mut other) = (self.instance(), self.instance());
        while !self.is_done(over) {
            sleep(Duration::from_secs(60)).await;
            if self.switch.wakes() {
                let running = account.acquire_many(2).await.unwrap();
                self.point_if_moved(&mut one);
                self.point_if_moved(&mut other);
                let (one, other) = join(ask(&one, PROBE), ask(&other, PROBE)).await;
                drop((one.unwrap(), other.unwrap()));
                drop(running);
            }
        }
    }

    /// Takes down how the breaker stands.
    async fn watch(&self, over: &Cell<bool>) {
        let mut since = None;
        while !self.is_done(over) {
            let open = matches!(self.breaker(), State::Open { .. });
            if open {
                since.get_or_insert(elapsed());
            } else if let Some(since) = since.take() {
                self.endpoint.story.lock().unwrap().open.push((since, elapsed()));
            }
            sleep(if over.get() && !open { IDLE_POLL } else { POLL }).await;
        }
    }

    fn breaker(&self) -> State {
        self.world.ledger.standing(&self.world.deps.target.target().target).state
    }

    /// Nothing is on its way, and nothing is left to be done.
    fn is_done(&self, over: &Cell<bool>) -> bool {
        let limit = Duration::from_secs(20 * 86_400);
        assert!(
            elapsed() < limit,
            "{}: {} are still waiting",
            self.endpoint.plan.name,
            self.queue.queue.depth()
        );
        let standing = self.world.ledger.standing(&self.world.deps.target.target().target);
        let done = over.get() && self.queue.queue.depth() == 0 && standing.is_fed() && standing.rests();
        if done {
            let mut story = self.endpoint.story.lock().unwrap();
            if story.ended.is_zero() {
                story.ended = elapsed();
            }
        }
        done
    }

    fn end(self) -> Story {
        let mut story = std::mem::take(&mut *self.endpoint.story.lock().unwrap());
        assert!(self.switch.feeds() || elapsed() - story.ended < SETTLES, "the mapping runs");
        assert!(!self.switch.wakes(), "the rule sleeps");
        for entry in self.world.dead_letters.entries() {
            let reason = entry.attributes.iter().find(|(name, _)| name == "reason").unwrap();
            let body: serde_json::Value = serde_json::from_str(&entry.body).unwrap();
            let before = story.dead.insert(body["id"].as_str().unwrap().to_owned(), reason.1.clone());
            assert_eq!(before, None, "given up twice");
        }
        story.told = self.world.reported();
        story.told.retain(|code| code.starts_with("target_"));
        story
    }
}

fn yaml(plan: Plan, scheme: &str) -> String {
    PLAIN
        .replace("target: loyalty", &format!("target: {}", plan.name))
        .replace("URL", &format!("{scheme}://localhost:8443/hook"))
        .replace("timeout: 2s", &format!("timeout: 10s, rate: {RATE}/s"))
}

fn compiled(plan: Plan, scheme: &str) -> CompiledTarget {
    let file = ConfigFile::new(format!("targets/{}.yaml", plan.name), yaml(plan, scheme));
    let config = SyncConfig::parse(&[file]).unwrap();
    CompiledTarget::compile(config.targets().next().unwrap().clone()).unwrap()
}

/// The changes, by when they come.
pub(crate) fn changes() -> Vec<(Duration, Sample)> {
    let count = |every: Duration| u32::try_from(LENGTH.as_millis() / every.as_millis()).unwrap();
    // Each record in turn, in an order that is none.
    let all = (0..count(EVERY)).map(|number| (EVERY * number, number * 37 % RECORDS));
    let busy = (0..count(BUSY_TOO)).map(|number| (BUSY_TOO * number + EVERY / 2, BUSY));
    let mut times: Vec<_> = all.chain(busy).collect();
    times.sort();
    let mut versions: BTreeMap<u32, u32> = BTreeMap::new();
    let change = |(at, record)| {
        let version = *versions.entry(record).and_modify(|version| *version += 1).or_insert(1);
        let email = ["a@example.com", "b@example.com", "c@example.com"][version as usize % 3];
        (at, Sample { record, version, email, ..update(version) })
    };
    times.into_iter().map(change).collect()
}

/// Sends each change to every target, as the topic does.
async fn publish(stands: &[Stand], over: &Cell<bool>) {
    for (at, sample) in changes() {
        sleep(at.saturating_sub(elapsed())).await;
        let (id, group) = (sample.id(), format!("rid_{}", sample.record));
        for stand in stands {
            stand.endpoint.story.lock().unwrap().sent.insert(id.clone(), elapsed());
            let (group, dedup) = (group.clone(), id.clone());
            let entry = QueueEntry { body: sample.body(), group, dedup, attributes: Vec::new() };
            stand.queue.now().send(vec![entry]).await.remove(0).unwrap();
        }
    }
    over.set(true);
}

/// Runs targets side by side until everything of them has come to its end. `account` functions can run at once.
pub(crate) async fn run(plans: &[Plan], account: usize) -> Vec<Story> {
    START.set(Some(Instant::now()));
    let ledger = MemoryLedger::new();
    let stands = join_all(plans.iter().map(|plan| Stand::new(*plan, &ledger))).await;
    let (account, over) = (Semaphore::new(account), Cell::new(false));
    let mut all: Vec<LocalBoxFuture<'_, ()>> = vec![publish(&stands, &over).boxed_local()];
    for stand in &stands {
        all.extend((0..stand.endpoint.plan.batches).map(|_| stand.poll(&account, &over).boxed_local()));
        all.push(stand.wake(&account, &over).boxed_local());
        all.push(stand.watch(&over).boxed_local());
    }
    join_all(all).await;
    stands.into_iter().map(Stand::end).collect()
}
