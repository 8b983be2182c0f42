//! A dead-letter queue as an operator's tool sees it: letters are received, hidden meanwhile, deleted or let go.
//! For the command line; no function receives by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{
    DeleteMessageBatchRequestEntry, Message, MessageSystemAttributeName, QueueAttributeName,
};
use serde_json::Value;
use sync_domain::ports::{Inbox, Kind, Result};

use super::{LIMITS, SqsInbox, in_order, refusal};
use crate::batches::{self, Answer, Item, Patience};
use crate::error::{error, from_sdk};

const RECEIVE: &str = "sqs:ReceiveMessage";
const DELETE: &str = "sqs:DeleteMessageBatch";
const ATTRIBUTES: &str = "sqs:GetQueueAttributes";
/// How long an empty queue is listened to, so that every server of SQS is asked.
const LISTEN_S: i32 = 1;
/// What SQS says of a receipt whose letter is visible already, or gone.
const NOT_HIDDEN: [&str; 3] = ["InvalidParameterValue", "MessageNotInflight", "ReceiptHandleIsInvalid"];

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

/// What a queue says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// Its ARN.
    pub arn: String,
    /// About how many messages can be received, those behind the head of a group included.
    pub visible: u64,
    /// About how many are hidden: somebody else is at them.
    pub hidden: u64,
}

/// A dead-letter queue.
///
/// A letter that was received is hidden, and all of its group with it, until it is deleted or let go or its time is over.
#[async_trait]
pub trait Letters: Send + Sync {
    /// Receives up to ten letters and hides them; none if nothing that is visible stands in the queue.
    async fn receive(&self, hidden: Duration) -> Result<Vec<Letter>>;

    /// Deletes letters by their receipts; one result per receipt, in order.
    async fn delete(&self, receipts: &[String]) -> Vec<Result<()>>;

    /// Hides letters for so long from now on.
    async fn hide(&self, receipts: &[String], hidden: Duration) -> Result<()>;

    /// Makes letters visible again at once. One that is visible by now is no failure.
    async fn release(&self, receipts: &[String]) -> Result<()>;

    /// Which queue it is, and how full.
    async fn standing(&self) -> Result<Standing>;
}

/// A dead-letter queue of SQS.
#[derive(Debug, Clone)]
pub struct SqsLetters {
    client: Client,
    url: String,
    patience: Patience,
}

impl SqsLetters {
    /// The queue of a URL.
    pub fn new(client: Client, url: impl Into<String>) -> Self {
        Self { client, url: url.into(), patience: Patience::DEFAULT }
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

    fn inbox(&self) -> SqsInbox {
        SqsInbox { client: self.client.clone(), url: self.url.clone(), patience: self.patience }
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
        batches::send(DELETE, &items, LIMITS, self.patience, |indices| {
            let some = indices.into_iter().filter_map(|index| receipts.get(index)).collect();
            self.delete_call(some)
        })
        .await
    }

    async fn hide(&self, receipts: &[String], hidden: Duration) -> Result<()> {
        self.inbox().delay(receipts, hidden).await
    }

    async fn release(&self, receipts: &[String]) -> Result<()> {
        let results = self.inbox().delay_each(receipts, Duration::ZERO).await;
        let late = |code: &str| NOT_HIDDEN.contains(&code.rsplit('.').next().unwrap_or_default());
        results.into_iter().filter(|result| !result.as_ref().is_err_and(|error| late(&error.code))).collect()
    }

    async fn standing(&self) -> Result<Standing> {
        let names = [
            QueueAttributeName::QueueArn,
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        let call = self.client.get_queue_attributes().queue_url(&self.url);
        let answer = call.set_attribute_names(Some(names.to_vec())).send().await;
        let attributes =
            answer.map_err(|failed| from_sdk(ATTRIBUTES, &failed))?.attributes.unwrap_or_default();
        let [arn, visible, hidden] = names.map(|name| attributes.get(&name).map(String::as_str));
        let count = |text: Option<&str>| text.and_then(|text| text.parse().ok());
        match (arn, count(visible), count(hidden)) {
            (Some(arn), Some(visible), Some(hidden)) => Ok(Standing { arn: arn.to_owned(), visible, hidden }),
            _ => Err(error(ATTRIBUTES, Kind::Refused, "AttributesMissing")),
        }
    }
}

/// The ARN of the dead-letter queue that a queue names; none if it names none.
pub async fn dead_letters_of(client: &Client, url: &str) -> Result<Option<String>> {
    let name = QueueAttributeName::RedrivePolicy;
    let call = client.get_queue_attributes().queue_url(url).attribute_names(name.clone());
    let answer = call.send().await.map_err(|failed| from_sdk(ATTRIBUTES, &failed))?;
    let Some(policy) = answer.attributes().and_then(|attributes| attributes.get(&name)) else {
        return Ok(None);
    };
    let policy: Option<Value> = serde_json::from_str(policy).ok();
    let named = policy.as_ref().and_then(|policy| policy.get("deadLetterTargetArn")?.as_str());
    let named = named.ok_or_else(|| error(ATTRIBUTES, Kind::Refused, "PolicyUnreadable"))?;
    Ok(Some(named.to_owned()))
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

#[cfg(test)]
mod tests;
