//! A FIFO queue in memory, from both sides: to send to, and to feed a function from.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use sync_domain::ports::{Inbox, Queue, QueueEntry, Received, Result};

use crate::fault::{Faults, Turn, error};
use crate::mapping::{self, Feed, Handed};
use crate::records::{Record, event_of};
use crate::{Fault, lock};

/// How long SQS and SNS remember a deduplication id.
const DEDUP_WINDOW: Duration = Duration::from_secs(5 * 60);
/// How long a message that was taken is hidden: the visibility timeout of a target's queue.
const VISIBILITY: Duration = Duration::from_secs(360);

/// The deduplication ids of the last five minutes, of a clock that a test moves.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    now: Duration,
    ids: HashMap<(String, String), Duration>,
}

impl Remembered {
    /// Notes an id of a group; false if it was there.
    pub(crate) fn note(&mut self, group: &str, id: &str) -> bool {
        match self.ids.entry((group.to_owned(), id.to_owned())) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(self.now);
                true
            }
        }
    }

    /// Moves the clock.
    pub(crate) fn advance(&mut self, time: Duration) {
        self.now += time;
        self.ids.retain(|_, at| self.now.saturating_sub(*at) < DEDUP_WINDOW);
    }
}

/// A FIFO queue with deduplication per group, in-flight groups, receive counts and a dead-letter queue.
/// Its clock stands still unless a test moves it.
#[derive(Debug, Clone)]
pub struct MemoryQueue {
    url: String,
    /// The faults of [`Queue::send`].
    pub faults: Faults,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    sent: u64,
    stored: Vec<Stored>,
    remembered: Remembered,
    delays: Vec<Delay>,
    dead_letters: Option<(MemoryQueue, u32)>,
}

/// Receipts and how long they are hidden.
type Delay = (Vec<String>, Duration);

/// A message that stands in a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// `MessageId`.
    pub id: String,
    /// `SequenceNumber`.
    pub sequence: String,
    /// What was sent.
    pub entry: QueueEntry,
    /// How often it was received.
    pub received: u32,
    /// Somebody is working on it.
    pub in_flight: bool,
    /// Not handed out before this moment of the queue's clock.
    pub hidden_until: Duration,
}

impl MemoryQueue {
    /// An empty queue with a name.
    pub fn new(name: &str) -> Self {
        let url = format!("https://sqs.eu-central-1.amazonaws.com/000000000000/{name}.fifo");
        Self { url, faults: Faults::default(), state: Arc::default() }
    }

    /// The same with a dead-letter queue for what was received `max_receives` times.
    pub fn with_dead_letters(self, queue: MemoryQueue, max_receives: u32) -> Self {
        lock(&self.state).dead_letters = Some((queue, max_receives));
        self
    }

    /// Scripts a fault of the next [`Queue::send`].
    pub fn fault(&self, fault: Fault) {
        self.faults.push(fault);
    }

    /// Moves the queue's clock, by which it forgets deduplication ids and shows delayed messages.
    pub fn advance(&self, time: Duration) {
        lock(&self.state).remembered.advance(time);
    }

    /// What stands in the queue, in order.
    pub fn stored(&self) -> Vec<Stored> {
        lock(&self.state).stored.clone()
    }

    /// The entries that stand in the queue, in order.
    pub fn entries(&self) -> Vec<QueueEntry> {
        self.stored().into_iter().map(|stored| stored.entry).collect()
    }

    /// The delays that were asked for, with their receipts.
    pub fn delays(&self) -> Vec<(Vec<String>, Duration)> {
        lock(&self.state).delays.clone()
    }

    /// Receives up to `max` messages as a Lambda event. A group with a message in flight or hidden gives nothing.
    pub fn receive(&self, max: usize) -> SqsEvent {
        let mut state = lock(&self.state);
        let places = state.hand_out(max);
        let taken = places.into_iter().filter_map(|place| {
            let stored = state.stored.get_mut(place)?;
            stored.in_flight = true;
            Some(Record::of(stored).build())
        });
        event_of(taken.collect::<Vec<_>>())
    }

    /// Receives up to `max` messages as an event source mapping does that runs several batches side by side: they are hidden
    /// for the visibility timeout of a target's queue (six minutes), and so is what stands behind them in their groups.
    pub fn lend(&self, max: usize) -> SqsEvent {
        let mut state = lock(&self.state);
        let hidden_until = state.remembered.now + VISIBILITY;
        let places = state.hand_out(max);
        let taken = places.into_iter().filter_map(|place| {
            let stored = state.stored.get_mut(place)?;
            stored.hidden_until = hidden_until;
            Some(Record::of(stored).build())
        });
        event_of(taken.collect::<Vec<_>>())
    }

    /// Takes a function's answer for a batch that was lent. What is done is deleted, if nobody else has received it since.
    /// What failed stays hidden until its delay ends, or its visibility timeout if the function asked for none. An id that
    /// is not of the batch fails everything, as in Lambda.
    pub fn settle(&self, lent: &[SqsMessage], answer: std::result::Result<&SqsBatchResponse, ()>) {
        let Ok(answer) = answer else { return };
        let failed: HashSet<&str> =
            answer.batch_item_failures.iter().map(|failure| failure.item_identifier.as_str()).collect();
        let is_of = |id: &&str| lent.iter().any(|message| message.message_id.as_deref() == Some(*id));
        if !failed.iter().all(is_of) {
            return;
        }
        let done =
            lent.iter().filter(|message| !failed.contains(message.message_id.as_deref().unwrap_or_default()));
        let receipts: HashSet<&str> = done.filter_map(|message| message.receipt_handle.as_deref()).collect();
        lock(&self.state).stored.retain(|stored| !receipts.contains(receipt(stored).as_str()));
    }

    /// How many messages stand in the queue.
    pub fn depth(&self) -> usize {
        lock(&self.state).stored.len()
    }

    /// Takes a function's answer for what is in flight: what failed is visible again (after its delay), the rest is deleted.
    /// `Err` stands for an invocation that failed as a whole. An id that is not in flight fails everything, as in Lambda.
    pub fn answer(&self, answer: std::result::Result<&SqsBatchResponse, ()>) {
        let mut state = lock(&self.state);
        let in_flight: HashSet<&str> =
            state.stored.iter().filter(|stored| stored.in_flight).map(|stored| stored.id.as_str()).collect();
        let failed: Option<HashSet<String>> = answer.ok().and_then(|answer| {
            let ids = answer.batch_item_failures.iter().map(|failure| &failure.item_identifier);
            ids.map(|id| in_flight.contains(id.as_str()).then(|| id.clone())).collect()
        });
        let stays = |stored: &Stored| {
            !stored.in_flight || failed.as_ref().is_none_or(|failed| failed.contains(&stored.id))
        };
        state.stored.retain(stays);
        for stored in &mut state.stored {
            stored.in_flight = false;
        }
    }
}

impl State {
    /// Counts a receive of up to `max` messages that can be handed out; their places.
    fn hand_out(&mut self, max: usize) -> Vec<usize> {
        self.bury();
        let now = self.remembered.now;
        let mut held: HashSet<String> = HashSet::new();
        let busy = self.stored.iter().filter(|stored| stored.in_flight);
        held.extend(busy.map(|stored| stored.entry.group.clone()));
        let mut places = Vec::new();
        for (place, stored) in self.stored.iter_mut().enumerate() {
            if places.len() == max {
                break;
            }
            if stored.hidden_until > now {
                held.insert(stored.entry.group.clone());
            }
            if held.contains(&stored.entry.group) {
                continue;
            }
            stored.received += 1;
            places.push(place);
        }
        places
    }

    /// Hands out up to `max` messages and hides them for the queue's visibility timeout.
    fn take(&mut self, max: usize) -> Vec<Stored> {
        let hidden_until = self.remembered.now + VISIBILITY;
        let mut taken = Vec::new();
        for place in self.hand_out(max) {
            if let Some(stored) = self.stored.get_mut(place) {
                stored.hidden_until = hidden_until;
                taken.push(stored.clone());
            }
        }
        taken
    }

    fn store(&mut self, entry: QueueEntry, dedupe: bool) {
        let news = self.remembered.note(&entry.group, &entry.dedup);
        if dedupe && !news {
            return;
        }
        self.sent += 1;
        let sequence = format!("1887{:016}", self.sent);
        let id = format!("00000000-0000-4000-8000-{:012}", self.sent);
        let hidden_until = Duration::ZERO;
        self.stored.push(Stored { id, sequence, entry, received: 0, in_flight: false, hidden_until });
    }

    /// Moves what was received too often to the dead-letter queue.
    fn bury(&mut self) {
        let Some((queue, max)) = self.dead_letters.clone() else { return };
        let now = self.remembered.now;
        let (dead, alive) = self
            .stored
            .drain(..)
            .partition(|stored| !stored.in_flight && stored.hidden_until <= now && stored.received >= max);
        self.stored = alive;
        let dead: Vec<Stored> = dead;
        for stored in dead {
            // SQS keeps the deduplication id, and its own move is never deduplicated.
            lock(&queue.state).store(stored.entry, false);
        }
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    async fn send(&self, entries: Vec<QueueEntry>) -> Vec<Result<()>> {
        let groups: Vec<Option<&str>> = entries.iter().map(|entry| Some(entry.group.as_str())).collect();
        let turns = self.faults.batch(&groups);
        let mut state = lock(&self.state);
        let send = |(entry, turn)| match turn {
            Turn::Take => {
                state.store(entry, true);
                Ok(())
            }
            Turn::TakeButFail(kind) => {
                state.store(entry, true);
                Err(error("memory:Send", kind))
            }
            Turn::Fail(kind) => Err(error("memory:Send", kind)),
        };
        entries.into_iter().zip(turns).map(send).collect()
    }

    fn url(&self) -> &str {
        &self.url
    }
}

#[async_trait]
impl Inbox for MemoryQueue {
    async fn delay(&self, receipts: &[String], delay: Duration) -> Result<()> {
        let mut state = lock(&self.state);
        let until = state.remembered.now + delay;
        state.delays.push((receipts.to_vec(), delay));
        let asked = state.stored.iter_mut().filter(|stored| receipts.contains(&receipt(stored)));
        for stored in asked {
            stored.hidden_until = until;
        }
        Ok(())
    }

    async fn take(&self) -> Result<Option<Received>> {
        let mut state = lock(&self.state);
        let Some(stored) = state.take(1).pop() else { return Ok(None) };
        let message = Record::of(&stored).build();
        Ok(Some(Received {
            id: stored.id.clone(),
            receipt: receipt(&stored),
            body: stored.entry.body.clone(),
            system: message.attributes.into_iter().collect(),
            attributes: stored.entry.attributes.clone(),
        }))
    }

    async fn remove(&self, taken: &str) -> Result<()> {
        lock(&self.state).stored.retain(|stored| receipt(stored) != taken);
        Ok(())
    }
}

/// As Lambda's pollers use it: unlike [`MemoryQueue::receive`], by visibility and receipts.
#[async_trait]
impl Feed for MemoryQueue {
    async fn receive(&self, most: usize) -> std::result::Result<Vec<Handed>, mapping::Error> {
        let taken = lock(&self.state).take(most);
        let handed = taken.iter().map(|stored| {
            let record = serde_json::to_value(Record::of(stored).build())?;
            Ok(Handed { id: stored.id.clone(), receipt: receipt(stored), record })
        });
        handed.collect()
    }

    async fn delete(&self, receipts: &[String]) -> std::result::Result<(), mapping::Error> {
        lock(&self.state).stored.retain(|stored| !receipts.contains(&receipt(stored)));
        Ok(())
    }
}

/// The receipt handle of a message's last receive.
fn receipt(stored: &Stored) -> String {
    format!("receipt-{}-{}", stored.id, stored.received)
}

/// An empty queue that takes down the delays that were asked for.
#[derive(Debug, Clone, Default)]
pub struct MemoryInbox {
    /// The faults of [`Inbox::delay`].
    pub faults: Faults,
    delays: Arc<Mutex<Vec<Delay>>>,
}

impl MemoryInbox {
    /// Without any delay yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The delays that were asked for, with their receipts.
    pub fn delays(&self) -> Vec<(Vec<String>, Duration)> {
        lock(&self.delays).clone()
    }
}

#[async_trait]
impl Inbox for MemoryInbox {
    async fn delay(&self, receipts: &[String], delay: Duration) -> Result<()> {
        self.faults.single("memory:Delay", || {
            lock(&self.delays).push((receipts.to_vec(), delay));
            Ok(())
        })
    }

    async fn take(&self) -> Result<Option<Received>> {
        self.faults.single("memory:Take", || Ok(None))
    }

    async fn remove(&self, _: &str) -> Result<()> {
        self.faults.single("memory:Remove", || Ok(()))
    }
}

#[cfg(test)]
mod tests;
