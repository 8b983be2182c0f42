//! Outages of a target, each from its beginning to its end, with a queue, a mapping, a schedule and two running instances.
//! The clock is the test's: what takes real time is only a request that nobody answers.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use deliver::deps::guard;
use deliver::{Deps, handle};
use sync_config::{ConfigFile, SyncConfig};
use sync_domain::delivery::CompiledTarget;
use sync_domain::delivery::breaker::{INTERVAL_S, State};
use sync_domain::outcome::Outcome;
use sync_domain::ports::{Queue, QueueEntry};
use sync_http::{Client, Names};
use sync_lambda::deadline::Deadline;
use sync_testkit::MemoryQueue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::endpoint::receive;
use crate::sim::Mode;
use crate::world::{PLAIN, PROBE, Sample, World, advance, ask, now, update};

/// A target that is what a test says, and knows when it was reached.
#[derive(Clone)]
struct Target {
    port: u16,
    state: Arc<Mutex<Reached>>,
}

struct Reached {
    mode: Mode,
    /// Each time that somebody tried, by the test's clock.
    tries: Vec<i64>,
    /// Each time that a request was taken.
    taken: Vec<i64>,
    /// The ids of what was taken.
    ids: BTreeSet<String>,
}

impl Target {
    async fn start(mode: Mode) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let reached = Reached { mode, tries: Vec::new(), taken: Vec::new(), ids: BTreeSet::new() };
        let target =
            Self { port: listener.local_addr().unwrap().port(), state: Arc::new(Mutex::new(reached)) };
        let own = target.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let own = own.clone();
                // Whoever breaks off a connection is not waited for.
                tokio::spawn(async move { drop(own.serve(stream).await) });
            }
        });
        target
    }

    fn mode(&self) -> Mode {
        self.state.lock().unwrap().mode
    }

    fn set(&self, mode: Mode) {
        self.state.lock().unwrap().mode = mode;
    }

    fn tried(&self) {
        self.state.lock().unwrap().tries.push(now());
    }

    async fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        match self.mode() {
            Mode::Resets => {
                self.tried();
                // What was sent and not read makes a reset of the close.
                return stream.readable().await;
            }
            Mode::NoTls => {
                self.tried();
                return stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            }
            _ => {}
        }
        while let Some(got) = receive(&mut stream).await? {
            self.tried();
            let id = got.header("webhook-id").to_owned();
            let answer = match self.mode() {
                Mode::Works => self.take(id),
                Mode::Limits(most) => {
                    let this_minute = |at: &&i64| **at / 60 == now() / 60;
                    let taken = self.state.lock().unwrap().taken.iter().filter(this_minute).count();
                    if taken < most {
                        self.take(id)
                    } else {
                        "HTTP/1.1 429 X\r\nretry-after: 30\r\ncontent-length: 0\r\n\r\n"
                    }
                }
                Mode::LosesAnswers => {
                    self.take(id);
                    return Ok(());
                }
                Mode::SlowBody => {
                    stream.write_all(b"HTTP/1.1 200 X\r\ncontent-length: 100\r\n\r\n").await?;
                    loop {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        stream.write_all(b".").await?;
                    }
                }
                Mode::Hangs => {
                    // Until the other side has enough.
                    while stream.read(&mut [0; 64]).await? > 0 {}
                    return Ok(());
                }
                Mode::Errors | Mode::Resets | Mode::NoTls | Mode::NoName => {
                    "HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n"
                }
            };
            stream.write_all(answer.as_bytes()).await?;
        }
        Ok(())
    }

    /// What this record's events say is refused for good; everything else is taken.
    fn take(&self, id: String) -> &'static str {
        if id.starts_with(&format!("evt_{POISON}_")) {
            return "HTTP/1.1 422 X\r\ncontent-length: 0\r\n\r\n";
        }
        let mut state = self.state.lock().unwrap();
        state.taken.push(now());
        state.ids.insert(id);
        "HTTP/1.1 204 X\r\n\r\n"
    }
}

impl Names for Target {
    fn addresses(&self, _: &str) -> sync_http::Answer {
        let known = self.mode() != Mode::NoName;
        if !known {
            self.tried();
        }
        Box::pin(async move {
            let nobody = || io::Error::new(io::ErrorKind::NotFound, "no such name");
            if known { Ok(vec![IpAddr::from([127, 0, 0, 1])]) } else { Err(nobody()) }
        })
    }
}

/// The record whose events the target refuses.
const POISON: u32 = 99;
/// How long the target is away.
const OUTAGE_S: i64 = 400;
/// How often something happens.
const STEP_S: i64 = 5;

/// The events: 13 records, some of whose changes come while the target is away.
fn events() -> Vec<(i64, Sample)> {
    let of = |record, version, at| {
        let email = ["a@example.com", "b@example.com", "c@example.com"][version as usize % 3];
        (at, Sample { record, version, email, ..update(version) })
    };
    let early = (1..=12).map(|record| of(record, 1, 0));
    let meanwhile = (1..=6).map(|record| of(record, 2, i64::from(record) * 50));
    let late = (1..=12).map(|record| of(record, 3, OUTAGE_S + 100));
    let mut events: Vec<_> =
        early.chain(meanwhile).chain(late).chain([of(POISON, 1, 0), of(POISON, 2, 90)]).collect();
    events.sort_by_key(|(at, _)| *at);
    events
}

/// How often each event was done with, by how.
type Ends = BTreeMap<(String, &'static str), usize>;

/// Hands a batch to an instance, as the mapping does.
async fn feed(queue: &MemoryQueue, deps: &Deps, ends: &mut Ends) {
    let event = queue.receive(10);
    let stored = queue.stored();
    let message = |id: &Option<String>| stored.iter().find(|stored| Some(&stored.id) == id.as_ref()).unwrap();
    let ids: Vec<_> =
        event.records.iter().map(|record| message(&record.message_id).entry.dedup.clone()).collect();
    if ids.is_empty() {
        return;
    }
    let report = handle(event, deps, Deadline::after(Duration::from_secs(60))).await.unwrap();
    queue.answer(Ok(&report.response));
    for (id, outcome) in ids.into_iter().zip(report.outcomes) {
        if !matches!(outcome, Outcome::Retry(_)) {
            *ends.entry((id, outcome.as_str())).or_default() += 1;
        }
    }
}

/// What became of an outage.
struct Story {
    world: World,
    target: Target,
    queue: MemoryQueue,
    ends: Ends,
    /// When the breaker was first open, from the start.
    opened: Option<i64>,
    start: i64,
}

fn compiled(url: &str) -> CompiledTarget {
    let yaml = PLAIN.replace("URL", url).replace("timeout: 2s", "timeout: 400ms");
    let config = SyncConfig::parse(&[ConfigFile::new("targets/loyalty.yaml", yaml)]).unwrap();
    CompiledTarget::compile(config.targets().next().unwrap().clone()).unwrap()
}

fn point(deps: &mut Deps, target: &Target) {
    let scheme = if target.mode() == Mode::NoTls { "https" } else { "http" };
    let to = compiled(&format!("{scheme}://localhost:{}/hook", target.port));
    deps.http = Client::with_names(guard(&to, true), Arc::new(target.clone()));
    deps.target = to;
}

impl Story {
    async fn of(mode: Mode) -> Self {
        let mut world = World::plain().await;
        let queue = MemoryQueue::new("loyalty");
        let target = Target::start(mode).await;
        world.deps.inbox = Arc::new(queue.clone());
        point(&mut world.deps, &target);
        let mut other = world.instance();
        point(&mut other, &target);
        let mut story = Self { world, target, queue, ends: BTreeMap::new(), opened: None, start: now() };
        story.run(&mut other).await;
        story
    }

    async fn run(&mut self, other: &mut Deps) {
        let mut coming = events();
        for step in 0.. {
            let at = step * STEP_S;
            while coming.first().is_some_and(|(due, _)| *due <= at) {
                let (_, sample) = coming.remove(0);
                let group = format!("rid_{}", sample.record);
                let entry =
                    QueueEntry { body: sample.body(), group, dedup: sample.id(), attributes: Vec::new() };
                self.queue.send(vec![entry]).await.remove(0).unwrap();
            }
            if at == OUTAGE_S && !matches!(self.target.mode(), Mode::Limits(_)) {
                self.target.set(Mode::Works);
                point(&mut self.world.deps, &self.target);
                point(other, &self.target);
            }
            // A schedule may come twice.
            if at % 60 == 0 && self.world.switch.wakes() {
                for deps in [&self.world.deps, &*other] {
                    let before = self.queue.entries();
                    let (_, outcomes) = ask(deps, PROBE).await.unwrap();
                    let gone = before.into_iter().filter(|entry| !self.queue.entries().contains(entry));
                    let done = outcomes.into_iter().filter(|outcome| !matches!(outcome, Outcome::Retry(_)));
                    for (entry, outcome) in gone.zip(done) {
                        *self.ends.entry((entry.dedup, outcome.as_str())).or_default() += 1;
                    }
                }
            }
            for deps in [&self.world.deps, &*other] {
                if self.world.switch.feeds() {
                    feed(&self.queue, deps, &mut self.ends).await;
                }
            }
            if matches!(self.world.breaker().state, State::Open { .. }) {
                self.opened.get_or_insert(at);
            }
            if coming.is_empty() && self.queue.entries().is_empty() && !self.world.switch.wakes() {
                return;
            }
            assert!(at < 3_600, "an hour later there is still {:?} in the queue", self.queue.stored());
            advance(STEP_S);
            self.queue.advance(Duration::from_secs(STEP_S.unsigned_abs()));
        }
    }

    /// Every event is done with exactly once: delivered, or dead-lettered where the target refused it.
    fn accounts_for_all(&self) {
        let expected: BTreeMap<_, _> = events()
            .into_iter()
            .map(|(_, sample)| {
                let end = if sample.record == POISON { "dead_lettered" } else { "delivered" };
                ((sample.id(), end), 1)
            })
            .collect();
        assert_eq!(self.ends, expected);
        assert_eq!(self.world.dead(), ["refused_by_target"; 2]);
        let state = self.target.state.lock().unwrap();
        let all: BTreeSet<_> = events()
            .into_iter()
            .filter(|(_, sample)| sample.record != POISON)
            .map(|(_, sample)| sample.id())
            .collect();
        assert_eq!(state.ids, all, "the target has them");
    }

    fn ends_as_it_began(&self) {
        assert!(self.world.breaker().is_fed() && self.world.breaker().rests());
        assert!(self.world.switch.feeds() && !self.world.switch.wakes());
    }
}

async fn check(mode: Mode) {
    let story = Story::of(mode).await;
    story.accounts_for_all();
    story.ends_as_it_began();
    let opened = story.opened.unwrap_or_else(|| panic!("{mode:?} opens the breaker"));
    assert!(opened <= 60, "{mode:?}: open after {opened} s");
    let state = story.target.state.lock().unwrap();
    let since = |at: &i64| at - story.start;
    let probes: Vec<_> = state.tries.iter().map(since).filter(|at| *at > opened && *at < OUTAGE_S).collect();
    assert!(probes.len() >= 3, "{mode:?}: probes at {probes:?}");
    assert!(probes.windows(2).all(|pair| pair[1] - pair[0] >= INTERVAL_S), "{mode:?}: probes at {probes:?}");
    let back = state.taken.iter().map(since).find(|at| *at >= OUTAGE_S).unwrap();
    assert!(back <= OUTAGE_S + 180, "{mode:?}: sent again after {} s", back - OUTAGE_S);
    let told: Vec<_> =
        story.world.reported().into_iter().filter(|code| code.starts_with("target_")).collect();
    assert_eq!(told.len(), 1, "{mode:?}: one outage, one ticket");
}

#[tokio::test]
async fn an_outage_with_errors() {
    check(Mode::Errors).await;
}

#[tokio::test]
async fn an_outage_without_answers() {
    check(Mode::Hangs).await;
}

#[tokio::test]
async fn an_outage_with_answers_that_do_not_end() {
    check(Mode::SlowBody).await;
}

#[tokio::test]
async fn an_outage_with_connections_that_are_reset() {
    check(Mode::Resets).await;
}

#[tokio::test]
async fn an_outage_with_answers_that_are_lost() {
    check(Mode::LosesAnswers).await;
}

#[tokio::test]
async fn an_outage_of_tls() {
    check(Mode::NoTls).await;
}

#[tokio::test]
async fn an_outage_of_names() {
    check(Mode::NoName).await;
}

#[tokio::test]
async fn a_target_with_a_limit_a_minute_is_no_outage() {
    let story = Story::of(Mode::Limits(4)).await;
    story.accounts_for_all();
    story.ends_as_it_began();
    assert_eq!(story.opened, None, "a target that asks for time is there");
    assert_eq!(story.world.switch.wake_faults.calls(), 0);
    let state = story.target.state.lock().unwrap();
    assert!(state.tries.len() > state.taken.len(), "the limit was met");
}
