//! What feeds a function from a queue: an event source mapping by the rules that Lambda documents. The emulator's own is too
//! kind: it takes an answer that names nobody for a success.
//!
//! - A function gets at most ten messages of a FIFO queue at once, hidden for the queue's visibility timeout. The queue
//!   holds the groups; batches that are invoked side by side never share one.
//! - What a whole batch fails by: an error, a process that dies or takes too long, an answer that breaks the rules
//!   ([`failures`]). A batch that fails is left alone: its messages come again when their visibility ends, and their
//!   receives have been counted.
//! - Of a batch that succeeds the messages that the answer does not name are deleted, by the receipts of this receive: what
//!   was handed out once more meanwhile stays.
//! - A throttled invocation is no invocation, and still a receive.
//! - The receives that are too many are the queue's affair (its redrive policy).
//!
//! The same for a shard of a DynamoDB stream: [`stream`].

pub mod stream;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use serde_json::{Value, json};

/// What Lambda hands a function of a FIFO queue at most.
pub const BATCH: usize = 10;

/// The queue could not be reached.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// A message that was received.
#[derive(Debug, Clone, PartialEq)]
pub struct Handed {
    /// `MessageId`.
    pub id: String,
    /// The receipt handle of this receive.
    pub receipt: String,
    /// The message as it stands in the event.
    pub record: Value,
}

/// A queue, as Lambda's pollers use it.
#[async_trait]
pub trait Feed: Send + Sync {
    /// Receives up to `most` messages, which are hidden from then on for the queue's visibility timeout.
    async fn receive(&self, most: usize) -> Result<Vec<Handed>, Error>;

    /// Deletes what was received with these receipts; a receipt that is over deletes nothing, and is no error.
    async fn delete(&self, receipts: &[String]) -> Result<(), Error>;
}

/// One execution environment of a function.
#[async_trait]
pub trait Function: Send {
    /// Invokes it once.
    async fn invoke(&mut self, event: String) -> Invoked;
}

/// How an invocation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invoked {
    /// With what the function answered.
    Answered(String),
    /// With an error, with the end of the process, or with that of its time.
    Failed,
    /// It was not begun: too many run already.
    Throttled,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Worked: these ids come again, the others are deleted.
    Worked(BTreeSet<String>),
    /// The function failed: all come again.
    Failed,
    /// The function's answer breaks a rule: all come again.
    Refused(Refusal),
    /// The function was not invoked: all come again.
    Throttled,
}

impl End {
    /// The ids of the messages that are done.
    pub fn done<'a>(&self, handed: &'a [Handed]) -> Vec<&'a Handed> {
        match self {
            Self::Worked(failed) => handed.iter().filter(|one| !failed.contains(&one.id)).collect(),
            Self::Failed | Self::Refused(_) | Self::Throttled => Vec::new(),
        }
    }
}

/// What is wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not JSON, or not of the form of a partial answer.
    #[error("the answer is not JSON, or its batchItemFailures is no list")]
    Form,
    /// An entry without an id: the key is missing or another, the id is null, empty, or no text.
    #[error("an entry of batchItemFailures has no itemIdentifier")]
    NoId,
    /// An id of no message of the batch.
    #[error("an itemIdentifier is the id of no message of the batch")]
    UnknownId,
}

/// The ids that an answer says have failed. Nothing, null and an empty list say that all is done; an answer that breaks a
/// rule fails the whole batch.
///
/// # Errors
/// The rule that is broken.
pub fn failures(answer: &str, ids: &BTreeSet<&str>) -> Result<BTreeSet<String>, Refusal> {
    let answer: Value = serde_json::from_str(answer).map_err(|_| Refusal::Form)?;
    let listed = match &answer {
        Value::Null => return Ok(BTreeSet::new()),
        Value::Object(members) => members.get("batchItemFailures").unwrap_or(&Value::Null),
        _ => return Err(Refusal::Form),
    };
    let listed = match listed {
        Value::Null => return Ok(BTreeSet::new()),
        Value::Array(listed) => listed,
        _ => return Err(Refusal::Form),
    };
    let id = |entry: &Value| match entry.get("itemIdentifier").and_then(Value::as_str) {
        None | Some("") => Err(Refusal::NoId),
        Some(id) if !ids.contains(id) => Err(Refusal::UnknownId),
        Some(id) => Ok(id.to_owned()),
    };
    listed.iter().map(id).collect()
}

/// A mapping: a queue, and whether it is read.
#[derive(Debug)]
pub struct Mapping<F> {
    feed: F,
    enabled: AtomicBool,
}

impl<F: Feed> Mapping<F> {
    /// A mapping that is enabled.
    pub fn new(feed: F) -> Self {
        Self { feed, enabled: AtomicBool::new(true) }
    }

    /// The queue.
    pub fn feed(&self) -> &F {
        &self.feed
    }

    /// Enables or disables it. Batches that were received are worked to their end.
    pub fn enable(&self, enabled: bool) {
        self.enabled.store(enabled, Ordering::Release);
    }

    /// Whether the queue is read.
    pub fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Acquire)
    }

    /// Receives a batch; empty if there is none, or if the mapping is disabled.
    ///
    /// # Errors
    /// The queue could not be reached.
    pub async fn receive(&self) -> Result<Vec<Handed>, Error> {
        if self.is_enabled() { self.feed.receive(BATCH).await } else { Ok(Vec::new()) }
    }

    /// Lets a function work a batch, and deletes what is done. As many of these as the mapping's concurrency says may go on
    /// side by side, each with an environment of its own.
    ///
    /// # Errors
    /// The queue could not be reached: the batch was worked, and comes again.
    pub async fn work(&self, handed: &[Handed], function: &mut dyn Function) -> Result<End, Error> {
        let records: Vec<&Value> = handed.iter().map(|handed| &handed.record).collect();
        let end = match function.invoke(json!({ "Records": records }).to_string()).await {
            Invoked::Throttled => End::Throttled,
            Invoked::Failed => End::Failed,
            Invoked::Answered(answer) => {
                let ids = handed.iter().map(|handed| handed.id.as_str()).collect();
                failures(&answer, &ids).map_or_else(End::Refused, End::Worked)
            }
        };
        let done: Vec<String> = end.done(handed).into_iter().map(|one| one.receipt.clone()).collect();
        if !done.is_empty() {
            self.feed.delete(&done).await?;
        }
        Ok(end)
    }
}

#[cfg(test)]
mod tests;
