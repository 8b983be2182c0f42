//! SQS: a FIFO queue to send to, and the visibility of what was received.

pub mod letters;

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, MessageAttributeValue, MessageSystemAttributeName,
    SendMessageBatchRequestEntry,
};
use sync_domain::ports::{Inbox, Kind, Queue, QueueEntry, Received, Result};

use crate::batches::{self, Answer, Item, Limits, Patience};
use crate::error::{error, from_sdk, kind_of};

const SEND: &str = "sqs:SendMessageBatch";
const DELAY: &str = "sqs:ChangeMessageVisibilityBatch";
const TAKE: &str = "sqs:ReceiveMessage";
const REMOVE: &str = "sqs:DeleteMessage";
/// A receive that does not wait asks only some of the queue's servers, and may miss what stands on another.
const TAKE_WAITS_S: i32 = 2;
const LIMITS: Limits = Limits { entries: 10, bytes: 1024 * 1024 };
/// The longest time that a message can be hidden.
const MAX_DELAY_S: u64 = 12 * 60 * 60;

/// A FIFO queue to send to.
#[derive(Debug, Clone)]
pub struct SqsQueue {
    client: Client,
    url: String,
    patience: Patience,
}

impl SqsQueue {
    /// The queue of a URL.
    pub fn new(client: Client, url: impl Into<String>) -> Self {
        Self { client, url: url.into(), patience: Patience::DEFAULT }
    }

    async fn send_call(&self, entries: Vec<&QueueEntry>) -> Result<Vec<Answer>> {
        let count = entries.len();
        let wired: Result<Vec<_>> =
            entries.into_iter().enumerate().map(|(id, entry)| wire(id, entry)).collect();
        let call = self.client.send_message_batch().queue_url(&self.url).set_entries(Some(wired?));
        let answer = call.send().await.map_err(|failed| from_sdk(SEND, &failed))?;
        let taken = answer.successful().iter().map(|entry| (entry.id(), Ok(())));
        let failed = answer.failed().iter().map(|entry| (entry.id(), Err(refusal(entry))));
        Ok(in_order(count, taken.chain(failed)))
    }
}

#[async_trait]
impl Queue for SqsQueue {
    async fn send(&self, entries: Vec<QueueEntry>) -> Vec<Result<()>> {
        let items: Vec<Item<'_>> = entries.iter().map(item).collect();
        batches::send(SEND, &items, LIMITS, self.patience, |indices| {
            let some = indices.into_iter().filter_map(|index| entries.get(index)).collect();
            self.send_call(some)
        })
        .await
    }

    fn url(&self) -> &str {
        &self.url
    }
}

/// The queue that a function is fed from.
#[derive(Debug, Clone)]
pub struct SqsInbox {
    client: Client,
    url: String,
    patience: Patience,
}

impl SqsInbox {
    /// The queue of a URL.
    pub fn new(client: Client, url: impl Into<String>) -> Self {
        Self { client, url: url.into(), patience: Patience::DEFAULT }
    }

    async fn delay_call(&self, receipts: Vec<&String>, seconds: i32) -> Result<Vec<Answer>> {
        let count = receipts.len();
        let entry = |(id, receipt): (usize, &String)| {
            ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(id.to_string())
                .receipt_handle(receipt)
                .visibility_timeout(seconds)
                .build()
                .map_err(|_| error(DELAY, Kind::Refused, "RequestNotMade"))
        };
        let wired: Result<Vec<_>> = receipts.into_iter().enumerate().map(entry).collect();
        let call =
            self.client.change_message_visibility_batch().queue_url(&self.url).set_entries(Some(wired?));
        let answer = call.send().await.map_err(|failed| from_sdk(DELAY, &failed))?;
        let taken = answer.successful().iter().map(|entry| (entry.id(), Ok(())));
        let failed = answer.failed().iter().map(|entry| (entry.id(), Err(refusal(entry))));
        Ok(in_order(count, taken.chain(failed)))
    }

    /// One result per receipt, in order.
    async fn delay_each(&self, receipts: &[String], delay: Duration) -> Vec<Result<()>> {
        let whole_seconds =
            delay.as_secs().saturating_add(u64::from(delay.subsec_nanos() > 0)).min(MAX_DELAY_S);
        let seconds = i32::try_from(whole_seconds).unwrap_or(i32::MAX);
        let items: Vec<Item<'_>> =
            receipts.iter().map(|receipt| Item { group: None, size: receipt.len() }).collect();
        let results = batches::send(DELAY, &items, LIMITS, self.patience, |indices| {
            let some = indices.into_iter().filter_map(|index| receipts.get(index)).collect();
            self.delay_call(some, seconds)
        });
        results.await
    }
}

#[async_trait]
impl Inbox for SqsInbox {
    async fn delay(&self, receipts: &[String], delay: Duration) -> Result<()> {
        self.delay_each(receipts, delay).await.into_iter().collect()
    }

    async fn take(&self) -> Result<Option<Received>> {
        let call = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(1)
            .wait_time_seconds(TAKE_WAITS_S)
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .message_attribute_names("All");
        let answer = call.send().await.map_err(|failed| from_sdk(TAKE, &failed))?;
        let Some(message) = answer.messages.and_then(|mut messages| messages.pop()) else { return Ok(None) };
        let incomplete = || error(TAKE, Kind::Refused, "BadMessage");
        let system = message.attributes.unwrap_or_default();
        let attributes = message.message_attributes.unwrap_or_default();
        let text = |(name, value): (String, MessageAttributeValue)| Some((name, value.string_value?));
        Ok(Some(Received {
            id: message.message_id.ok_or_else(incomplete)?,
            receipt: message.receipt_handle.ok_or_else(incomplete)?,
            body: message.body.unwrap_or_default(),
            system: system.into_iter().map(|(name, value)| (name.as_str().to_owned(), value)).collect(),
            attributes: attributes.into_iter().filter_map(text).collect(),
        }))
    }

    async fn remove(&self, receipt: &str) -> Result<()> {
        let call = self.client.delete_message().queue_url(&self.url).receipt_handle(receipt);
        call.send().await.map(|_| ()).map_err(|failed| from_sdk(REMOVE, &failed))
    }
}

fn wire(id: usize, entry: &QueueEntry) -> Result<SendMessageBatchRequestEntry> {
    let refused = |_| error(SEND, Kind::Refused, "RequestNotMade");
    let mut wired = SendMessageBatchRequestEntry::builder()
        .id(id.to_string())
        .message_body(&entry.body)
        .message_group_id(&entry.group)
        .message_deduplication_id(&entry.dedup);
    for (name, value) in &entry.attributes {
        let value = MessageAttributeValue::builder().data_type("String").string_value(value);
        wired = wired.message_attributes(name, value.build().map_err(refused)?);
    }
    wired.build().map_err(refused)
}

fn item(entry: &QueueEntry) -> Item<'_> {
    let attribute = |(name, value): &(String, String)| name.len() + "String".len() + value.len();
    let attributes: usize = entry.attributes.iter().map(attribute).sum();
    Item { group: Some(&entry.group), size: entry.body.len() + attributes }
}

fn refusal(entry: &aws_sdk_sqs::types::BatchResultErrorEntry) -> (Kind, String) {
    // "Not the sender's fault" is the service's own way of saying that another try may help.
    let kind = if entry.sender_fault() { kind_of(entry.code()) } else { Kind::Unavailable };
    (kind, entry.code().to_owned())
}

/// Puts the answers, which name entries by their id, into the order of the entries. An entry without an answer was not taken.
pub(crate) fn in_order<'a>(count: usize, answers: impl Iterator<Item = (&'a str, Answer)>) -> Vec<Answer> {
    let mut ordered: Vec<Answer> =
        std::iter::repeat_with(|| Err((Kind::Unavailable, "NoAnswer".to_owned()))).take(count).collect();
    for (id, answer) in answers {
        if let Some(place) = id.parse::<usize>().ok().and_then(|index| ordered.get_mut(index)) {
            *place = answer;
        }
    }
    ordered
}

#[cfg(test)]
mod tests;
