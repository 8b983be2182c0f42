//! The functions as processes, which die: at a failpoint, by a signal, by the end of their time. One that has died is started
//! again when it is needed, as Lambda would.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use async_trait::async_trait;
use sync_bench::function::{Function as Process, Launch, Outcome};
use sync_chaos::{Dice, build, failpoints};
use sync_lambda::failpoint::EXIT;
use sync_testkit::mapping::{Function, Invoked};

use crate::works::{TIMEOUT, Works};

/// How often is looked for an answer.
const LOOK: Duration = Duration::from_millis(3);
/// One invocation in so many ends by a signal.
const SIGNALS: u64 = 90;
/// One invocation in so many is throttled.
const THROTTLES: u64 = 60;
/// A failpoint is the end at its first passage, or at one of so many.
const SPREAD: u64 = 30;
/// So many invocations, and a process goes that did not come to its failpoint, or got none when there was one to give.
const OLD: u32 = 25;
/// What an invocation may take of a function that no queue feeds.
const UNFED: Duration = Duration::from_secs(50);
/// An environment that nobody needs is frozen, and gone at some time.
const IDLE: Duration = Duration::from_secs(30);

/// How long the processes of a function live that do not die before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// Many invocations.
    Long,
    /// One: of what is invoked seldom each process is to come to another failpoint.
    Once,
}

/// How the processes of a function are to end.
#[derive(Debug)]
pub(crate) struct Fates {
    name: &'static str,
    binary: PathBuf,
    life: Life,
    /// How many may die in the whole run.
    most: u64,
    /// How many may have died by now.
    allowed: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By failpoint: how many processes got it, and how many died of it.
    places: BTreeMap<String, (u64, u64)>,
    signalled: u64,
    timed_out: u64,
    failed: u64,
    throttled: u64,
    /// Ends that nobody had planned.
    unplanned: u64,
}

impl Fates {
    /// Builds the function; those of its failpoints count that `counts` lets through, for so many ends in a run.
    pub(crate) fn of(
        name: &'static str,
        life: Life,
        most: u64,
        counts: impl Fn(&str) -> bool,
    ) -> Result<Arc<Self>> {
        // What stages share is in each of them.
        let places = failpoints(name)?.into_iter().chain(failpoints("sync-lambda")?);
        let places = places.filter(|place| counts(place)).map(|place| (place, (0, 0))).collect();
        let state = Mutex::new(State { places, ..State::default() });
        Ok(Arc::new(Self { name, binary: build(name)?, life, most, allowed: AtomicU64::new(1), state }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Spreads the ends over the run: so many of a hundred parts of it are over.
    pub(crate) fn allow(&self, percent: u64) {
        self.allowed.store(1 + self.most * percent.min(100) / 100, Ordering::Relaxed);
    }

    /// Whether one more may die of a failpoint by now.
    fn may_die(&self) -> bool {
        let died: u64 = self.lock().places.values().map(|(_, died)| died).sum();
        died < self.allowed.load(Ordering::Relaxed)
    }

    /// The failpoint of a new process, if it has one: of those that were given least.
    fn next(&self, dice: &mut Dice) -> Option<String> {
        // Of chance as much is taken in any case.
        let (without, passage, first) = (dice.below(4) == 0, 2 + dice.below(SPREAD), dice.below(2) == 0);
        if without || !self.may_die() {
            return None;
        }
        let mut state = self.lock();
        let least = state.places.values().map(|(given, _)| *given).min()?;
        let places: Vec<String> = state
            .places
            .iter()
            .filter(|(_, (given, _))| *given == least)
            .map(|(place, _)| place.clone())
            .collect();
        let chosen = places.get(usize::try_from(dice.below(places.len() as u64)).ok()?)?.clone();
        state.places.entry(chosen.clone()).or_default().0 += 1;
        drop(state);
        Some(format!("{chosen}@{}", if first || self.life == Life::Once { 1 } else { passage }))
    }

    fn died(&self, failpoint: Option<&str>) {
        let mut state = self.lock();
        match failpoint.and_then(|failpoint| failpoint.split_once('@')) {
            Some((place, _)) => state.places.entry(place.to_owned()).or_default().1 += 1,
            None => state.unplanned += 1,
        }
    }

    /// How many processes died, and at which failpoints.
    pub(crate) fn kills(&self) -> (u64, Vec<String>) {
        let state = self.lock();
        let died = state.places.iter().filter(|(_, (_, died))| *died > 0);
        (
            died.clone().map(|(_, (_, died))| died).sum::<u64>() + state.signalled,
            died.map(|(place, _)| place.clone()).collect(),
        )
    }

    /// How many were still at work when their time was over.
    pub(crate) fn timed_out(&self) -> u64 {
        self.lock().timed_out
    }

    /// How many ended without a plan: their own fault.
    pub(crate) fn unplanned(&self) -> u64 {
        self.lock().unplanned
    }

    /// What became of its processes, in words.
    pub(crate) fn told(&self) -> String {
        let state = self.lock();
        let places: Vec<String> =
            state.places.iter().map(|(place, (_, died))| format!("{place} {died}")).collect();
        format!(
            "{}: signalled {}, out of time {}, failed {}, throttled {}, unplanned {}; {}",
            self.name,
            state.signalled,
            state.timed_out,
            state.failed,
            state.throttled,
            state.unplanned,
            places.join(", ")
        )
    }
}

/// One execution environment after another.
pub(crate) struct Crew {
    fates: Arc<Fates>,
    environment: Vec<(String, String)>,
    log: PathBuf,
    dice: Dice,
    running: Option<Running>,
    /// Whether invocations may be throttled: only those of a mapping are, here.
    throttles: bool,
    /// What an invocation may take.
    timeout: Duration,
}

struct Running {
    process: Process,
    failpoint: Option<String>,
    invocations: u32,
    used: Instant,
}

impl Crew {
    /// Of a function that works a queue (of `deliver` the target's); its log stands in the run's folder.
    pub(crate) fn new(works: &Works, fates: &Arc<Fates>, queue: &str, dice: &mut Dice) -> Result<Self> {
        let name = fates.name;
        let fed = matches!(name, "transform" | "enrich" | "deliver");
        Ok(Self {
            environment: works.environment(name, queue)?,
            log: works.run.path().join(format!("{name}-{queue}.log")),
            fates: Arc::clone(fates),
            dice: dice.split(),
            running: None,
            throttles: fed,
            timeout: if fed { TIMEOUT } else { UNFED },
        })
    }

    fn start(&mut self) -> Result<Running> {
        let failpoint = self.fates.next(&mut self.dice);
        let mut environment = self.environment.clone();
        environment.extend(failpoint.clone().map(|place| ("FAILPOINT".to_owned(), place)));
        let (name, binary, log) = (self.fates.name, self.fates.binary.clone(), self.log.clone());
        let process = Process::start(&Launch { name, binary, environment, timeout: self.timeout, log })?;
        Ok(Running { process, failpoint, invocations: 0, used: Instant::now() })
    }

    /// Invokes the function once.
    pub(crate) async fn run(&mut self, event: String) -> Result<Invoked> {
        if self.throttles && self.dice.below(THROTTLES) == 0 {
            self.fates.lock().throttled += 1;
            return Ok(Invoked::Throttled);
        }
        let old = |running: &Running| {
            let had_its_time = running.invocations >= OLD;
            (had_its_time && (running.failpoint.is_some() || self.fates.may_die()))
                || self.fates.life == Life::Once
                || running.used.elapsed() > IDLE
        };
        let running = self.running.take().filter(|running| !old(running));
        let mut running = match running {
            Some(running) => running,
            None => self.start()?,
        };
        let signalled = (self.dice.below(SIGNALS) == 0).then(|| Duration::from_millis(self.dice.below(60)));
        let until = Instant::now() + signalled.unwrap_or(self.timeout);
        running.process.begin(event);
        loop {
            match running.process.outcome() {
                Ok(Some(Outcome::Answered(invocation))) => {
                    running.invocations += 1;
                    running.used = Instant::now();
                    self.running = Some(running);
                    return Ok(Invoked::Answered(invocation.answer));
                }
                Ok(Some(Outcome::Died(status))) => {
                    let planned = status.code() == Some(EXIT);
                    self.fates.died(running.failpoint.as_deref().filter(|_| planned));
                    return Ok(Invoked::Failed);
                }
                Ok(None) if Instant::now() < until => tokio::time::sleep(LOOK).await,
                Ok(None) => {
                    let mut state = self.fates.lock();
                    match signalled {
                        Some(_) => state.signalled += 1,
                        None => state.timed_out += 1,
                    }
                    // It goes with its handle.
                    return Ok(Invoked::Failed);
                }
                // The function answered with an error; it can go on.
                Err(_) => {
                    running.invocations += 1;
                    self.fates.lock().failed += 1;
                    self.running = Some(running);
                    return Ok(Invoked::Failed);
                }
            }
        }
    }
}

#[async_trait]
impl Function for Crew {
    async fn invoke(&mut self, event: String) -> Invoked {
        self.run(event).await.unwrap_or(Invoked::Failed)
    }
}
