//! Builders of what Lambda hands a function that is fed from SQS.

use aws_lambda_events::sqs::{SqsEvent, SqsMessage, SqsMessageAttribute};

use crate::queue::Stored;

/// A record of an SQS event.
#[derive(Debug, Clone)]
pub struct Record {
    id: String,
    body: String,
    group: Option<String>,
    received: u32,
    sequence: String,
    attributes: Vec<(String, String)>,
}

impl Record {
    /// A record with a message id and a body, received once, in a group of its own.
    pub fn new(id: &str, body: &str) -> Self {
        Self {
            id: id.to_owned(),
            body: body.to_owned(),
            group: None,
            received: 1,
            sequence: "18870000000000000000".to_owned(),
            attributes: Vec::new(),
        }
    }

    /// In a message group.
    #[must_use]
    pub fn group(mut self, group: &str) -> Self {
        self.group = Some(group.to_owned());
        self
    }

    /// Received for the nth time.
    #[must_use]
    pub fn received(mut self, times: u32) -> Self {
        self.received = times;
        self
    }

    /// With a FIFO sequence number.
    #[must_use]
    pub fn sequence(mut self, sequence: &str) -> Self {
        sequence.clone_into(&mut self.sequence);
        self
    }

    /// With one more message attribute of type String.
    #[must_use]
    pub fn attribute(mut self, name: &str, value: &str) -> Self {
        self.attributes.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn of(stored: &Stored) -> Self {
        Self {
            id: stored.id.clone(),
            body: stored.entry.body.clone(),
            group: Some(stored.entry.group.clone()),
            received: stored.received,
            sequence: stored.sequence.clone(),
            attributes: stored.entry.attributes.clone(),
        }
    }

    /// The record as Lambda writes it. Its receipt handle is `receipt-<id>-<times received>`.
    pub fn build(self) -> SqsMessage {
        let mut message = SqsMessage::default();
        message.receipt_handle = Some(format!("receipt-{}-{}", self.id, self.received));
        let mut set = |name: &str, value: String| message.attributes.insert(name.to_owned(), value);
        set("MessageGroupId", self.group.unwrap_or_else(|| self.id.clone()));
        set("SequenceNumber", self.sequence);
        set("ApproximateReceiveCount", self.received.to_string());
        set("SentTimestamp", "1795559963000".to_owned());
        set("ApproximateFirstReceiveTimestamp", "1795559963123".to_owned());
        for (name, value) in self.attributes {
            let mut attribute = SqsMessageAttribute::default();
            attribute.string_value = Some(value);
            attribute.data_type = Some("String".to_owned());
            message.message_attributes.insert(name, attribute);
        }
        message.message_id = Some(self.id);
        message.body = Some(self.body);
        message.event_source = Some("aws:sqs".to_owned());
        message
    }
}

/// The event of some records.
pub fn event_of(records: impl IntoIterator<Item = SqsMessage>) -> SqsEvent {
    let mut event = SqsEvent::default();
    event.records = records.into_iter().collect();
    event
}
