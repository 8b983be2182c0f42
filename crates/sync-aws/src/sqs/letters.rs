//! A dead-letter queue as an operator's tool sees it: letters are received, hidden meanwhile, deleted or let go.
//! For the command line; no function receives by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, Message, MessageSystemAttributeName};
use sync_domain::ports::{Inbox, Kind, Result};

use super::{LIMITS, SqsInbox, in_order, refusal};
use crate::batches::{self, Answer, Item, Patience};
use crate::error::{error, from_sdk};

const RECEIVE: &str = "sqs:ReceiveMessage";
const DELETE: &str = "sqs:DeleteMessageBatch";
/// How long an empty queue is listened to, so that every server of SQS is asked.
const LISTEN_S: i32 = 2;

/// A letter as it was received.
#[derive(Clone, PartialEq, Eq)]
pub struct Letter {
    /// `MessageId`.
    pub id: String,
    /// The handle by which it is deleted or let go.
    pub receipt: String,
    /// `MessageGroupId`: the record id.
    pub group: String,
    /// When it was sent, in milliseconds since 1970.
    pub sent_ms: u64,
    /// The message attributes that are texts.
    pub attributes: BTreeMap<String, String>,
    /// The body: it may hold clear values.
    pub body: String,
}

/// A dead-letter queue.
///
/// A letter that was received is hidden, and with it all of its group, until it is deleted or let go or its time is over.
#[async_trait]
pub trait Letters: Send + Sync {
    /// Receives up to ten letters and hides them; none if nothing that is visible stands in the queue.
    async fn receive(&self, hidden: Duration) -> Result<Vec<Letter>>;

    /// Deletes letters by their receipts; one result per receipt, in order.
    async fn delete(&self, receipts: &[String]) -> Vec<Result<()>>;

    /// Makes letters visible again at once.
    async fn release(&self, receipts: &[String]) -> Result<()>;
}

/// A dead-letter queue of SQS.
#[derive(Debug, Clone)]
pub struct SqsLetters {
    client: Client,
    url: String,
}

impl SqsLetters {
    /// The queue of a URL.
    pub fn new(client: Client, url: impl Into<String>) -> Self {
        Self { client, url: url.into() }
    }

    async fn delete_call(&self, receipts: Vec<&String>) -> Result<Vec<Answer>> {
        let count = receipts.len();
        let entry = |(id, receipt): (usize, &String)| {
            DeleteMessageBatchRequestEntry::builder()
                .id(id.to_string())
                .receipt_handle(receipt)
                .build()
                .map_err(|_| error(DELETE, Kind::Refused, "RequestNotMade"))
        };
        let wired: Result<Vec<_>> = receipts.into_iter().enumerate().map(entry).collect();
        let call = self.client.delete_message_batch().queue_url(&self.url).set_entries(Some(wired?));
        let answer = call.send().await.map_err(|failed| from_sdk(DELETE, &failed))?;
        let done = answer.successful().iter().map(|entry| (entry.id(), Ok(())));
        let failed = answer.failed().iter().map(|entry| (entry.id(), Err(refusal(entry))));
        Ok(in_order(count, done.chain(failed)))
    }
}

#[async_trait]
impl Letters for SqsLetters {
    async fn receive(&self, hidden: Duration) -> Result<Vec<Letter>> {
        let seconds = i32::try_from(hidden.as_secs()).unwrap_or(i32::MAX);
        let call = self.client.receive_message().queue_url(&self.url).max_number_of_messages(10);
        let call = call.wait_time_seconds(LISTEN_S).visibility_timeout(seconds);
        let call = call.message_attribute_names("All");
        let call = call.message_system_attribute_names(MessageSystemAttributeName::All);
        let answer = call.send().await.map_err(|failed| from_sdk(RECEIVE, &failed))?;
        answer.messages.unwrap_or_default().into_iter().map(letter).collect()
    }

    async fn delete(&self, receipts: &[String]) -> Vec<Result<()>> {
        let items: Vec<Item<'_>> =
            receipts.iter().map(|receipt| Item { group: None, size: receipt.len() }).collect();
        batches::send(DELETE, &items, LIMITS, Patience::DEFAULT, |indices| {
            let some = indices.into_iter().filter_map(|index| receipts.get(index)).collect();
            self.delete_call(some)
        })
        .await
    }

    async fn release(&self, receipts: &[String]) -> Result<()> {
        SqsInbox::new(self.client.clone(), &self.url).delay(receipts, Duration::ZERO).await
    }
}

fn letter(message: Message) -> Result<Letter> {
    let lacking = |what| error(RECEIVE, Kind::Refused, what);
    let system = message.attributes.unwrap_or_default();
    let group = system.get(&MessageSystemAttributeName::MessageGroupId).cloned();
    let sent = system.get(&MessageSystemAttributeName::SentTimestamp).and_then(|sent| sent.parse().ok());
    let attributes = message.message_attributes.unwrap_or_default();
    let texts = attributes.into_iter().filter_map(|(name, value)| Some((name, value.string_value?)));
    Ok(Letter {
        id: message.message_id.ok_or_else(|| lacking("NoMessageId"))?,
        receipt: message.receipt_handle.ok_or_else(|| lacking("NoReceiptHandle"))?,
        group: group.ok_or_else(|| lacking("NoMessageGroupId"))?,
        sent_ms: sent.ok_or_else(|| lacking("NoSentTimestamp"))?,
        attributes: texts.collect(),
        body: message.body.unwrap_or_default(),
    })
}
