//! The whole way of a change, stage by stage: what one stage sends is what the next is fed with.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::function::{Function, Memory};
use crate::stub::{Counts, Entry};
use crate::workload;
use crate::world::{CHANGES, ENRICHMENT, World};

/// What Lambda hands a function of a queue at once.
pub const BATCH: usize = 10;

/// What was seen of a stage.
#[derive(Debug, Clone)]
pub struct Stage {
    /// The function.
    pub name: &'static str,
    /// How long each of its invocations took.
    pub took: Vec<Duration>,
    /// The processor time of all invocations but the first, which fetches keys and opens connections.
    pub processor: Duration,
    /// What it took of the machine's memory.
    pub memory: Memory,
    /// Its requests to AWS.
    pub requests: Counts,
}

impl Stage {
    /// Feeds a new process with events and looks at each answer.
    pub fn run(
        world: &World,
        name: &'static str,
        events: impl Iterator<Item = Result<String>>,
        check: impl Fn(&Value) -> bool,
    ) -> Result<Self> {
        world.stub.take_counts();
        let function: Function = world.start(name)?;
        let mut took = Vec::new();
        let mut after_first = Duration::ZERO;
        for event in events {
            let invocation = function.invoke(event?).with_context(|| name.to_owned())?;
            let answer = serde_json::from_str(&invocation.answer)
                .with_context(|| format!("{name} answers no JSON"))?;
            ensure!(check(&answer), "{name} answered {answer}");
            took.push(invocation.took);
            if took.len() == 1 {
                after_first = function.processor_time()?;
            }
        }
        let processor = settled(&function)?.saturating_sub(after_first);
        let requests = world.stub.take_counts();
        Ok(Self { name, took, processor, memory: function.memory()?, requests })
    }

    /// Feeds a new process with batches of a queue, each of which it must take completely.
    pub fn run_batches(world: &World, name: &'static str, queue: &str, entries: &[Entry]) -> Result<Self> {
        let events = entries.chunks(BATCH).map(|batch| Ok(workload::batch(batch, queue)));
        Self::run(world, name, events, |answer| {
            answer.get("batchItemFailures").and_then(Value::as_array).is_some_and(Vec::is_empty)
        })
    }

    /// The median of the invocations but the first.
    pub fn median(&self) -> Duration {
        median(self.took.get(1..).unwrap_or_default())
    }
}

/// The processor time once the function is idle: the kernel books a running thread's time late.
fn settled(function: &Function) -> Result<Duration> {
    let until = Instant::now() + Duration::from_secs(1);
    let mut before = function.processor_time()?;
    loop {
        std::thread::park_timeout(Duration::from_millis(20));
        let now = function.processor_time()?;
        if now == before || Instant::now() > until {
            return Ok(now);
        }
        before = now;
    }
}

/// The median.
pub fn median(durations: &[Duration]) -> Duration {
    let mut sorted = durations.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// Sends `requests` pushes of `each` changes all the way to the target of a new world. Every change must arrive.
pub fn run(world: &World, requests: u64, each: u64) -> Result<Vec<Stage>> {
    let changes = requests * each;
    let before = world.outside.delivered();
    let all = usize::try_from(changes)?;
    let mut stages = Vec::new();

    let pushes = (0..requests).map(|number| workload::push(1 + number * each, each));
    stages.push(Stage::run(world, "capture-push", pushes, |answer| {
        answer.get("statusCode").and_then(Value::as_u64) == Some(202)
    })?);
    let captured = world.stub.take_sent(CHANGES);
    ensure!(captured.len() == all, "{} of {all} changes were captured", captured.len());

    stages.push(Stage::run_batches(world, "transform", "changes", &captured)?);
    let waiting = world.stub.take_sent(ENRICHMENT);
    if world.enriched {
        ensure!(waiting.len() == all, "{} of {all} records wait for enrichment", waiting.len());
        stages.push(Stage::run_batches(world, "enrich", "enrichment", &waiting)?);
        ensure!(
            world.outside.asked() == changes,
            "{} of {all} records were looked up",
            world.outside.asked()
        );
    }
    let published = world.stub.take_published();
    ensure!(published.len() == all, "{} of {all} events were published", published.len());

    stages.push(Stage::run_batches(world, "deliver", "loyalty", &published)?);
    let arrived = world.outside.delivered() - before;
    ensure!(arrived == changes, "{arrived} of {all} events arrived");
    ensure!(world.stub.failures().is_empty(), "failures were reported: {:?}", world.stub.failures());
    Ok(stages)
}

/// All requests of some stages.
pub fn requests(stages: &[Stage]) -> Counts {
    let mut sum = Counts::new();
    for (action, count) in stages.iter().flat_map(|stage| &stage.requests) {
        *sum.entry(action.clone()).or_default() += count;
    }
    sum
}
