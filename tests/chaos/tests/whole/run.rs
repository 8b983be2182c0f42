//! A run: what everybody in it shares.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use async_trait::async_trait;
use serde_json::{Value, json};
use sync_chaos::{Brought, Dice, Journal, Mark, Shows, record};
use sync_testkit::mapping::{self, Feed, Handed, Invoked, Mapping};
use sync_tests::aws::Aws;
use sync_tests::change::RecordName;

use crate::crew::Crew;
use crate::sources::{MODELS, shows};
use crate::works::{FAILURES, Queue, TARGETS, Works};

/// No queue gets much longer: the emulator slows down with what stands in them.
const LONGEST: u64 = 500;
/// So many commits of a source may wait for the transformer.
const AHEAD: u64 = 250;
/// Of a hundred messages of the Changes queue so many come once more.
const COPIES: u64 = 25;
/// How often the schedule comes, and how much time it brings: a minute's worth.
const PROBES: Duration = Duration::from_secs(2);
/// The longest that a copy comes behind its original.
const BEHIND_MS: u64 = 20_000;

pub(crate) struct Run {
    pub(crate) works: Works,
    /// How many records there are of each model.
    pub(crate) keys: u64,
    journal: Mutex<Journal>,
    /// By model: commits, and versions that the transformer has seen.
    flow: BTreeMap<&'static str, (AtomicU64, AtomicU64)>,
    full: AtomicBool,
    written: AtomicBool,
    drained: AtomicBool,
    copies: Mutex<Vec<(Instant, Value)>>,
    copied: AtomicU64,
    places: Mutex<HashMap<(String, String), u128>>,
}

impl Run {
    pub(crate) fn new(works: Works, keys: u64, journal: Journal) -> Self {
        Self {
            works,
            keys,
            journal: Mutex::new(journal),
            flow: MODELS.map(|model| (model, <(AtomicU64, AtomicU64)>::default())).into(),
            full: AtomicBool::new(false),
            written: AtomicBool::new(false),
            drained: AtomicBool::new(false),
            copies: Mutex::default(),
            copied: AtomicU64::new(0),
            places: Mutex::default(),
        }
    }

    pub(crate) fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn commit(&self, model: &str, commits: impl Iterator<Item = (RecordName, Mark)>) {
        let mut journal = self.journal();
        for (record, mark) in commits {
            journal.commit(record, shows(model), mark);
            if let Some((committed, _)) = self.flow.get(model) {
                committed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Waits until the way behind is free enough for more.
    pub(crate) async fn wait_for_room(&self, model: &str) {
        loop {
            let ahead = self.flow.get(model).map_or(0, |(committed, seen)| {
                committed.load(Ordering::Relaxed).saturating_sub(seen.load(Ordering::Relaxed))
            });
            // Where only last states go on, commits say nothing of what is on the way.
            let behind = shows(model) == Shows::Every && ahead > AHEAD;
            if !behind && !self.full.load(Ordering::Relaxed) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether nobody writes any more.
    pub(crate) fn written(&self) -> bool {
        self.written.load(Ordering::Acquire)
    }

    pub(crate) fn end_writing(&self) {
        self.written.store(true, Ordering::Release);
    }

    /// Whether all queues are empty and stay so.
    pub(crate) fn drained(&self) -> bool {
        self.drained.load(Ordering::Acquire)
    }

    pub(crate) fn end_draining(&self) {
        self.drained.store(true, Ordering::Release);
    }

    /// How many copies came.
    pub(crate) fn copied(&self) -> u64 {
        self.copied.load(Ordering::Relaxed)
    }

    /// How many versions the transformer has seen.
    pub(crate) fn seen(&self) -> u64 {
        self.flow.values().map(|(_, seen)| seen.load(Ordering::Relaxed)).sum()
    }

    /// Measures the queues; true if they are all empty and no copy is to come.
    pub(crate) async fn measure(&self) -> Result<bool> {
        let waiting = !self.lock_copies().is_empty();
        let (mut longest, mut all) = (0, 0);
        for queue in self.works.queues.values() {
            let depth = self.works.depth(queue).await?;
            longest = longest.max(depth);
            all += depth;
        }
        self.full.store(longest > LONGEST, Ordering::Relaxed);
        Ok(all == 0 && !waiting && self.lock_copies().is_empty())
    }

    fn lock_copies(&self) -> MutexGuard<'_, Vec<(Instant, Value)>> {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends copies whose time has come, until all is drained.
    pub(crate) async fn copy(self: Arc<Self>) -> Result<()> {
        let url = self.works.queue("changes")?.url.clone();
        while !self.drained() {
            tokio::time::sleep(Duration::from_millis(100)).await;
            loop {
                let now = Instant::now();
                let due: Vec<Value> = {
                    let copies = self.lock_copies();
                    copies
                        .iter()
                        .filter(|(due, _)| *due <= now)
                        .take(10)
                        .map(|(_, copy)| copy.clone())
                        .collect()
                };
                if due.is_empty() {
                    break;
                }
                let answer = self
                    .works
                    .front
                    .sqs("SendMessageBatch", &json!({ "QueueUrl": url, "Entries": due }))
                    .await?;
                let sent = answer["Successful"].as_array().map_or(0, Vec::len);
                anyhow::ensure!(sent == due.len(), "the queue did not take all copies");
                self.copied.fetch_add(sent as u64, Ordering::Relaxed);
                // Only now: what is to come counts as long as it does not stand in the queue.
                let ids: Vec<&Value> = due.iter().map(|copy| &copy["Id"]).collect();
                self.lock_copies().retain(|(_, copy)| !ids.contains(&&copy["Id"]));
            }
        }
        Ok(())
    }

    /// The place of a message among those of its group: that of its first receive, since a group's messages are handed out
    /// one behind the other. The emulator's topic gives what it delivers no sequence number.
    fn place(&self, queue: &str, id: &str) -> u128 {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let next = places.len() as u128;
        *places.entry((queue.to_owned(), id.to_owned())).or_insert(next)
    }

    /// Takes down a message that was handed to a target's function; gives its event.
    pub(crate) fn hand_to_target(&self, target: &str, handed: &Handed) -> Result<String> {
        let body = handed.record["body"].as_str().context("a message has a body")?;
        let brought = Brought::event(body, self.place(target, &handed.id))?;
        let id = brought.id.clone();
        self.journal().hand(target, brought);
        Ok(id)
    }

    /// Takes down a message that was handed to the transformer, and lets some come once more.
    fn hand_to_transform(&self, handed: &Handed, dice: &mut Dice) -> Result<()> {
        let record = &handed.record;
        let body = record["body"].as_str().context("a message has a body")?;
        let change = Brought::change(body, self.place("changes", &handed.id))?;
        let model = change.record.model.clone();
        if self.journal().change(change)
            && let Some((_, seen)) = self.flow.get(model.as_str())
        {
            seen.fetch_add(1, Ordering::Relaxed);
        }
        let system = |name: &str| record["attributes"][name].as_str().unwrap_or_default();
        let first = system("ApproximateReceiveCount") == "1";
        if first && !system("MessageDeduplicationId").starts_with("copy-") && dice.below(100) < COPIES {
            let due = Instant::now() + Duration::from_millis(dice.below(BEHIND_MS));
            self.lock_copies().push((due, copy(&handed.id, record)));
        }
        Ok(())
    }

    /// Invokes a target's function as its rule does, as often as the rule is on, until all is drained.
    pub(crate) async fn probe(self: Arc<Self>, target: &'static str, mut crew: Crew) -> Result<()> {
        let event = json!({ "work": { "probe": { "mapping": target } } }).to_string();
        while !self.drained() {
            if self.works.desk.switch(target).probed {
                self.works.end_interval(target).await?;
                // One that fails is followed by the next.
                crew.run(event.clone()).await?;
            }
            tokio::time::sleep(PROBES).await;
        }
        Ok(())
    }

    /// Hands what failed to the function that writes tickets, each until it is written, until all is drained.
    pub(crate) async fn report(self: Arc<Self>, mut crew: Crew) -> Result<()> {
        let failures = Polled { aws: self.works.front.clone(), url: self.works.queue(FAILURES)?.url.clone() };
        let problem = |error: mapping::Error| anyhow::anyhow!("{error}");
        while !self.drained() {
            let handed = failures.receive(mapping::BATCH).await.map_err(problem)?;
            if handed.is_empty() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            for one in handed {
                let event = one.record["body"].as_str().context("a message has a body")?;
                while !matches!(crew.run(event.to_owned()).await?, Invoked::Answered(_)) {}
                failures.delete(&[one.receipt]).await.map_err(problem)?;
            }
        }
        Ok(())
    }

    /// Works a queue with one environment after another until all is drained.
    pub(crate) async fn work(self: Arc<Self>, queue: Queue, mut crew: Crew, mut dice: Dice) -> Result<()> {
        let name = queue.name.clone();
        let mapping = Mapping::new(Polled { aws: self.works.front.clone(), url: queue.url });
        let is_target = TARGETS.iter().any(|(target, ..)| *target == name);
        let problem = |error: mapping::Error| anyhow::anyhow!("{error}");
        while !self.drained() {
            mapping.enable(self.works.desk.switch(&name).fed);
            let handed = mapping.receive().await.map_err(problem)?;
            if handed.is_empty() {
                tokio::time::sleep(Duration::from_millis(60)).await;
                continue;
            }
            let mut events = BTreeMap::new();
            for one in &handed {
                if is_target {
                    events.insert(one.id.clone(), self.hand_to_target(&name, one)?);
                } else if name == "changes" {
                    self.hand_to_transform(one, &mut dice)?;
                }
            }
            let end = mapping.work(&handed, &mut crew).await.map_err(problem)?;
            let mut journal = self.journal();
            for event in end.done(&handed).iter().filter_map(|done| events.get(&done.id)) {
                journal.done(&name, event);
            }
        }
        Ok(())
    }
}

/// A message once more, under another deduplication id: what a second delivery, a redrive or a restored backup brings.
fn copy(id: &str, record: &Value) -> Value {
    let attributes = record["messageAttributes"].as_object().cloned().unwrap_or_default();
    let attributes: serde_json::Map<String, Value> = attributes
        .into_iter()
        .map(|(name, value)| {
            (name, json!({ "DataType": value["dataType"], "StringValue": value["stringValue"] }))
        })
        .collect();
    json!({
        "Id": id,
        "MessageBody": record["body"],
        "MessageGroupId": record["attributes"]["MessageGroupId"],
        "MessageDeduplicationId": format!("copy-{id}"),
        "MessageAttributes": attributes,
    })
}

/// A queue of the emulator, as Lambda's pollers use it.
struct Polled {
    aws: Aws,
    url: String,
}

#[async_trait]
impl Feed for Polled {
    async fn receive(&self, most: usize) -> Result<Vec<Handed>, mapping::Error> {
        let call = json!({
            "QueueUrl": self.url,
            "MaxNumberOfMessages": most,
            "AttributeNames": ["All"],
            "MessageAttributeNames": ["All"],
        });
        let answer = self.aws.sqs("ReceiveMessage", &call).await?;
        let queue = self.url.rsplit('/').next().unwrap_or_default();
        Ok(answer["Messages"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|message| handed(message, queue))
            .collect())
    }

    async fn delete(&self, receipts: &[String]) -> Result<(), mapping::Error> {
        let entries = receipts.iter().enumerate();
        let entries: Vec<Value> = entries
            .map(|(index, receipt)| json!({ "Id": index.to_string(), "ReceiptHandle": receipt }))
            .collect();
        self.aws.sqs("DeleteMessageBatch", &json!({ "QueueUrl": self.url, "Entries": entries })).await?;
        Ok(())
    }
}

/// A message that was received from a queue of this name.
pub(crate) fn handed(message: &Value, queue: &str) -> Handed {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Handed {
        id: text(&message["MessageId"]),
        receipt: text(&message["ReceiptHandle"]),
        record: record(message, queue),
    }
}
