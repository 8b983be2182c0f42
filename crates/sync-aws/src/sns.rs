//! SNS: the topic of the events, and the topic of the alerts.

use async_trait::async_trait;
use aws_sdk_sns::Client;
use aws_sdk_sns::types::{MessageAttributeValue, PublishBatchRequestEntry};
use sync_domain::event::{AttributeValue, Event};
use sync_domain::ports::{Alerts, Kind, Result, Topic};

use crate::batches::{self, Answer, Item, Limits, Patience};
use crate::error::{error, from_sdk, kind_of};
use crate::sqs::in_order;

const PUBLISH: &str = "sns:PublishBatch";
const ALERT: &str = "sns:Publish";
const LIMITS: Limits = Limits { entries: 10, bytes: 256 * 1024 };
/// The longest subject of an e-mail that SNS sends.
const MAX_SUBJECT: usize = 99;

/// The FIFO topic of the events.
#[derive(Debug, Clone)]
pub struct SnsTopic {
    client: Client,
    arn: String,
    patience: Patience,
}

impl SnsTopic {
    /// The topic of an ARN.
    pub fn new(client: Client, arn: impl Into<String>) -> Self {
        Self { client, arn: arn.into(), patience: Patience::DEFAULT }
    }

    async fn publish_call(&self, entries: Vec<Entry<'_>>) -> Result<Vec<Answer>> {
        let count = entries.len();
        let wired: Result<Vec<_>> = entries.iter().enumerate().map(|(id, entry)| wire(id, entry)).collect();
        let call = self.client.publish_batch().topic_arn(&self.arn);
        let call = call.set_publish_batch_request_entries(Some(wired?));
        let answer = call.send().await.map_err(|failed| from_sdk(PUBLISH, &failed))?;
        let taken = answer.successful().iter().map(|entry| (entry.id().unwrap_or_default(), Ok(())));
        let failed = answer.failed().iter().map(|entry| (entry.id(), Err(refusal(entry))));
        Ok(in_order(count, taken.chain(failed)))
    }

    async fn publish_entries(&self, entries: &[Entry<'_>]) -> Vec<Result<()>> {
        let items: Vec<Item<'_>> = entries.iter().map(Entry::item).collect();
        batches::send(PUBLISH, &items, LIMITS, self.patience, |indices| {
            let some = indices.into_iter().filter_map(|index| entries.get(index)).cloned().collect();
            self.publish_call(some)
        })
        .await
    }
}

#[async_trait]
impl Topic for SnsTopic {
    async fn publish(&self, events: &[Event]) -> Vec<Result<()>> {
        let entries: Vec<Entry<'_>> = events.iter().map(Entry::of).collect();
        self.publish_entries(&entries).await
    }
}

/// What is sent of an event.
#[derive(Debug, Clone)]
struct Entry<'a> {
    body: &'a str,
    group: &'a str,
    dedup: String,
    attributes: &'a [(&'static str, AttributeValue)],
}

impl<'a> Entry<'a> {
    fn of(event: &'a Event) -> Self {
        Self {
            body: event.body(),
            group: event.rid().as_str(),
            dedup: event.dedup_id(),
            attributes: event.attributes(),
        }
    }

    fn item(&self) -> Item<'_> {
        let attribute = |(name, value): &(&'static str, AttributeValue)| {
            let (data_type, text) = attribute_text(value);
            name.len() + data_type.len() + text.len()
        };
        let attributes: usize = self.attributes.iter().map(attribute).sum();
        Item { group: Some(self.group), size: self.body.len() + attributes }
    }
}

/// The data type and the text of an attribute; a list goes as a JSON array, which is what filter policies look into.
fn attribute_text(value: &AttributeValue) -> (&'static str, String) {
    match value {
        AttributeValue::Text(text) => ("String", text.clone()),
        AttributeValue::List(texts) => ("String.Array", serde_json::json!(texts).to_string()),
    }
}

fn wire(id: usize, entry: &Entry<'_>) -> Result<PublishBatchRequestEntry> {
    let refused = |_| error(PUBLISH, Kind::Refused, "RequestNotMade");
    let mut wired = PublishBatchRequestEntry::builder()
        .id(id.to_string())
        .message(entry.body)
        .message_group_id(entry.group)
        .message_deduplication_id(&entry.dedup);
    for (name, value) in entry.attributes {
        let (data_type, text) = attribute_text(value);
        let value = MessageAttributeValue::builder().data_type(data_type).string_value(text);
        wired = wired.message_attributes(*name, value.build().map_err(refused)?);
    }
    wired.build().map_err(refused)
}

fn refusal(entry: &aws_sdk_sns::types::BatchResultErrorEntry) -> (Kind, String) {
    let kind = if entry.sender_fault() { kind_of(entry.code()) } else { Kind::Unavailable };
    (kind, entry.code().to_owned())
}

/// The topic that alerts people.
#[derive(Debug, Clone)]
pub struct SnsAlerts {
    client: Client,
    arn: String,
}

impl SnsAlerts {
    /// The topic of an ARN.
    pub fn new(client: Client, arn: impl Into<String>) -> Self {
        Self { client, arn: arn.into() }
    }
}

#[async_trait]
impl Alerts for SnsAlerts {
    async fn send(&self, subject: &str, text: &str) -> Result<()> {
        // SNS refuses a subject with control or non-ASCII characters.
        let subject: String = subject.chars().filter(|c| matches!(c, ' '..='~')).take(MAX_SUBJECT).collect();
        let call = self.client.publish().topic_arn(&self.arn).message(text);
        let call = call.set_subject(Some(subject).filter(|subject| !subject.is_empty()));
        call.send().await.map(|_| ()).map_err(|failed| from_sdk(ALERT, &failed))
    }
}

#[cfg(test)]
mod tests;
