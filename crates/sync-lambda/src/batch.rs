//! The loop over an SQS batch: what is done with its messages in which order, and which of them come again.
//!
//! Rules that hold for every handler:
//! - A message that fails takes the later messages of its group along; other groups go on.
//! - A handler that panics fails its message, not the batch.
//! - A message that has been received `alone_from` times or more is a *suspect*: something may have killed the process
//!   that worked it. It is worked alone, behind everything that is not one, the most suspect last; what stands
//!   behind it in its group waits for it. What is done by then is deleted before a suspect is touched, since an answer
//!   may never be given. Of suspects that came equally often the last is first every other time: so those on both sides
//!   of the one that kills are done after two receives, wherever it stands.
//! - The answer lists only message ids that came in. A batch with a message that has none fails as a whole, because Lambda
//!   could not be told about that message.

use std::any::Any;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::AssertUnwindSafe;

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use futures_util::FutureExt;
use futures_util::future::join_all;
use sync_domain::outcome::{Outcome, Reason};
use sync_domain::ports::Inbox;

/// A message as SQS handed it over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `MessageId`.
    pub id: String,
    /// The receipt handle of this receive.
    pub receipt: String,
    /// `MessageGroupId`; on a standard queue the message's own id.
    pub group: String,
    /// The body; empty if there was none.
    pub body: String,
    /// The FIFO `SequenceNumber`.
    pub sequence: Option<String>,
    /// How often the message was received, this time included; at least 1.
    pub received: u32,
    /// When it was sent to the queue: milliseconds since 1970.
    pub sent: Option<i64>,
    /// When it was first received: milliseconds since 1970, as SQS writes it.
    pub first_received: Option<String>,
    /// The message attributes of type String.
    pub attributes: BTreeMap<String, String>,
}

impl Message {
    /// True if the queue will not hand the message out again: the stage has to park it now if it cannot go on.
    pub fn is_last_receive(&self, max_receives: u32) -> bool {
        self.received >= max_receives
    }

    fn read(record: SqsMessage) -> Result<Self, Error> {
        let id = record.message_id.filter(|id| !id.is_empty()).ok_or(Error::NoMessageId)?;
        let system = |name: &str| record.attributes.get(name).cloned();
        let received = system("ApproximateReceiveCount").and_then(|count| count.parse().ok());
        let group = system("MessageGroupId").unwrap_or_else(|| id.clone());
        let text = |(name, value): (String, aws_lambda_events::sqs::SqsMessageAttribute)| {
            value.string_value.map(|value| (name, value))
        };
        Ok(Self {
            receipt: record.receipt_handle.unwrap_or_default(),
            group,
            body: record.body.unwrap_or_default(),
            sequence: system("SequenceNumber"),
            received: received.unwrap_or(1).max(1),
            sent: system("SentTimestamp").and_then(|at| at.parse().ok()),
            first_received: system("ApproximateFirstReceiveTimestamp"),
            attributes: record.message_attributes.into_iter().filter_map(text).collect(),
            id,
        })
    }
}

/// A batch that cannot be answered message by message; returned as the invocation's error, it comes again as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A record without a message id, which no partial answer can name.
    #[error("a record of the batch has no message id")]
    NoMessageId,
}

/// Whether the groups of a batch wait for one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Groups {
    /// Each group goes its way while the others wait for the network.
    SideBySide,
    /// One message at a time, in the order of the batch.
    OneByOne,
}

/// How a batch is worked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Whether groups wait for one another.
    pub groups: Groups,
    /// From how many receives on a message is a suspect. Where a message comes again for ordinary reasons (a target
    /// that is down), a high number keeps groups side by side.
    pub alone_from: u32,
}

impl Default for Plan {
    fn default() -> Self {
        Self { groups: Groups::SideBySide, alone_from: 2 }
    }
}

/// A message whose turn it is, and the messages of its group that stand behind it in the batch.
#[derive(Debug, Clone, Copy)]
pub struct Turn<'a> {
    /// The message to work.
    pub message: &'a Message,
    /// Those that come again with it if it fails.
    pub behind: &'a [&'a Message],
}

impl Turn<'_> {
    /// The receipt handles of the message and of those behind it: what a backoff has to delay, since the message's
    /// own visibility does not free or hold its group.
    pub fn receipts(&self) -> Vec<String> {
        std::iter::once(&self.message).chain(self.behind).map(|message| message.receipt.clone()).collect()
    }
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The answer for Lambda.
    pub response: SqsBatchResponse,
    /// One outcome per message, in the order of the batch.
    pub outcomes: Vec<Outcome>,
}

/// The messages of a batch, for handlers that plan for themselves.
pub fn messages(event: SqsEvent) -> Result<Vec<Message>, Error> {
    event.records.into_iter().map(Message::read).collect()
}

/// Works the messages of the queue `inbox` one at a time (per group). `work` gives each its outcome; a message whose outcome
/// is [`Outcome::Retry`] and all behind it in its group come again.
pub async fn each<F>(event: SqsEvent, plan: Plan, inbox: &dyn Inbox, work: F) -> Result<Report, Error>
where
    F: AsyncFn(Turn<'_>) -> Outcome,
{
    let messages = messages(event)?;
    let mut ledger = Account::new(&messages);
    for Round { alone, messages: round } in rounds(&messages, plan.alone_from) {
        let round = ledger.without_blocked(round);
        if alone && !round.is_empty() {
            ledger.settle(inbox).await;
        }
        let groups = by_group(&messages, &round, plan.groups);
        let worked = join_all(groups.iter().map(|group| work_group(&messages, group, &work))).await;
        ledger.note(worked.into_iter().flatten());
    }
    Ok(ledger.close())
}

/// Works the messages in as few rounds as the suspects allow, normally one: for handlers that send the results of many
/// messages in one call. `work` gets the messages of a round in the order of the batch and returns one outcome for each,
/// in order. It must not send anything of a message behind a failed one of the same group.
pub async fn rounds_of<F>(event: SqsEvent, plan: Plan, inbox: &dyn Inbox, work: F) -> Result<Report, Error>
where
    F: AsyncFn(&[&Message]) -> Vec<Outcome>,
{
    let messages = messages(event)?;
    let mut ledger = Account::new(&messages);
    for Round { alone, messages: round } in rounds(&messages, plan.alone_from) {
        let round = ledger.without_blocked(round);
        let taken: Vec<&Message> = round.iter().filter_map(|index| messages.get(*index)).collect();
        if taken.is_empty() {
            continue;
        }
        if alone {
            ledger.settle(inbox).await;
        }
        let outcomes = AssertUnwindSafe(work(&taken)).catch_unwind().await.unwrap_or_default();
        // A message that the handler gave no outcome for (a panic, a short answer) is not done.
        let missing = std::iter::repeat_with(|| Outcome::Retry(panicked()));
        ledger.note(round.into_iter().zip(outcomes.into_iter().chain(missing)));
    }
    Ok(ledger.close())
}

/// Runs a piece of work on one record and turns a panic into a reason, so that a handler of rounds can fail the record alone.
pub fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, Reason> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).map_err(|_: Box<dyn Any + Send>| panicked())
}

fn panicked() -> Reason {
    Reason::new("panicked", "")
}

async fn work_group<F>(messages: &[Message], group: &[usize], work: &F) -> Vec<(usize, Outcome)>
where
    F: AsyncFn(Turn<'_>) -> Outcome,
{
    let mut outcomes = Vec::with_capacity(group.len());
    let mut failed: HashSet<&str> = HashSet::new();
    for index in group {
        let Some(message) = messages.get(*index) else { continue };
        if failed.contains(message.group.as_str()) {
            outcomes.push((*index, behind()));
            continue;
        }
        let later = messages.iter().skip(index.saturating_add(1));
        let behind: Vec<&Message> = later.filter(|later| later.group == message.group).collect();
        let turn = Turn { message, behind: &behind };
        let outcome =
            AssertUnwindSafe(work(turn)).catch_unwind().await.unwrap_or_else(|_| Outcome::Retry(panicked()));
        if matches!(outcome, Outcome::Retry(_)) {
            failed.insert(&message.group);
        }
        outcomes.push((*index, outcome));
    }
    outcomes
}

fn behind() -> Outcome {
    Outcome::Retry(Reason::new("behind_failed", ""))
}

/// Messages that are worked together, by their place in the batch.
struct Round {
    /// One of a group with a suspect.
    alone: bool,
    messages: Vec<usize>,
}

/// Splits a batch into rounds: first everything that does not stand at or behind a suspect of its group, then the rest one
/// message a round, the groups with the most suspect head last, in order within each group.
fn rounds(messages: &[Message], alone_from: u32) -> Vec<Round> {
    let mut first = Vec::new();
    let mut waiting: Vec<(&str, u32, Vec<usize>)> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        if let Some((_, received, group)) = waiting.iter_mut().find(|(group, ..)| *group == message.group) {
            *received = message.received.max(*received);
            group.push(index);
        } else if message.received >= alone_from {
            waiting.push((&message.group, message.received, vec![index]));
        } else {
            first.push(index);
        }
    }
    // Whichever of them it is that kills, it does not come before the same ones each time.
    if waiting.iter().map(|(_, received, _)| *received).max().is_some_and(|received| received % 2 == 1) {
        waiting.reverse();
    }
    waiting.sort_by_key(|(_, received, _)| *received);
    let alone = waiting.into_iter().flat_map(|(_, _, group)| group);
    let alone = alone.map(|index| Round { alone: true, messages: vec![index] });
    let first = Round { alone: false, messages: first };
    std::iter::once(first).chain(alone).filter(|round| !round.messages.is_empty()).collect()
}

fn by_group(messages: &[Message], round: &[usize], groups: Groups) -> Vec<Vec<usize>> {
    if groups == Groups::OneByOne {
        return vec![round.to_vec()];
    }
    let mut place: HashMap<&str, usize> = HashMap::new();
    let mut lists: Vec<Vec<usize>> = Vec::new();
    for index in round {
        let Some(message) = messages.get(*index) else { continue };
        let at = *place.entry(message.group.as_str()).or_insert(lists.len());
        match lists.get_mut(at) {
            Some(list) => list.push(*index),
            None => lists.push(vec![*index]),
        }
    }
    lists
}

/// Keeps the outcome of each message and knows which groups are held up.
struct Account<'a> {
    messages: &'a [Message],
    outcomes: Vec<Option<Outcome>>,
    blocked: HashSet<&'a str>,
    /// The places of those that were deleted.
    settled: HashSet<usize>,
}

impl<'a> Account<'a> {
    fn new(messages: &'a [Message]) -> Self {
        Self {
            messages,
            outcomes: vec![None; messages.len()],
            blocked: HashSet::new(),
            settled: HashSet::new(),
        }
    }

    /// The messages of a round whose group is not held up by an earlier round.
    fn without_blocked(&self, round: Vec<usize>) -> Vec<usize> {
        let free = |index: &usize| {
            self.messages.get(*index).is_some_and(|m| !self.blocked.contains(m.group.as_str()))
        };
        round.into_iter().filter(free).collect()
    }

    fn note(&mut self, worked: impl IntoIterator<Item = (usize, Outcome)>) {
        for (index, outcome) in worked {
            let (Some(message), Some(place)) = (self.messages.get(index), self.outcomes.get_mut(index))
            else {
                continue;
            };
            if matches!(outcome, Outcome::Retry(_)) {
                self.blocked.insert(&message.group);
            }
            *place = Some(outcome);
        }
    }

    /// Deletes what is done. One that cannot be deleted now is done by the answer, or comes again.
    async fn settle(&mut self, inbox: &dyn Inbox) {
        let mut failed: HashSet<&str> = HashSet::new();
        for (index, (message, outcome)) in self.messages.iter().zip(&self.outcomes).enumerate() {
            let done = outcome.as_ref().is_some_and(|outcome| !matches!(outcome, Outcome::Retry(_)));
            if !done {
                failed.insert(&message.group);
            } else if !failed.contains(message.group.as_str())
                && self.settled.insert(index)
                && let Err(error) = inbox.remove(&message.receipt).await
            {
                tracing::warn!(
                    error.operation = error.operation,
                    error.code = error.code,
                    "a message that is done was not deleted"
                );
            }
        }
    }

    /// Writes the answer. A message behind a failed one of its group is failed whatever its own outcome was:
    /// SQS would otherwise hand out the failed one after its successor was deleted.
    fn close(self) -> Report {
        let mut failed: HashSet<&str> = HashSet::new();
        let mut response = SqsBatchResponse::default();
        let mut outcomes = Vec::with_capacity(self.messages.len());
        for (message, outcome) in self.messages.iter().zip(self.outcomes) {
            let outcome = outcome.unwrap_or_else(behind);
            if failed.contains(message.group.as_str()) || matches!(outcome, Outcome::Retry(_)) {
                failed.insert(&message.group);
                let mut failure = BatchItemFailure::default();
                failure.item_identifier.clone_from(&message.id);
                response.batch_item_failures.push(failure);
            }
            outcomes.push(outcome);
        }
        Report { response, outcomes }
    }
}

#[cfg(test)]
mod tests;
