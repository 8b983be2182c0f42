//! Parking: a record that cannot go on is put into the dead-letter queue and reported.

use std::sync::Arc;

use sync_domain::id::{EventId, Hop, ModelId, RecordId, SourceId, TargetId, dedup_id};
use sync_domain::outcome::{FailureEvent, Outcome, Reason, Stage};
use sync_domain::ports::{FailureBus, Queue, QueueEntry, Result};

use crate::batch::Message;
use crate::failpoint;

/// What is known of the record that is parked; a record that could not be read has none of it.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// The event or change id; the message's own id stands in for one that could not be read.
    pub id: Option<String>,
    /// The source.
    pub source: Option<SourceId>,
    /// The model.
    pub model: Option<ModelId>,
    /// The record id.
    pub rid: Option<RecordId>,
    /// The key in its protected form, as JSON text.
    pub key: Option<String>,
    /// The event id.
    pub event_id: Option<EventId>,
    /// The place in the queue that a record without a version of its own had; it goes along as the attribute `sequence`.
    pub sequence: Option<String>,
    /// The version that the record was given from its place in the queue; it goes along as the attribute
    /// `version`, since a redriven message has another place.
    pub version: Option<String>,
}

/// The attributes that parking sets. A message that is parked again after a redrive gets them anew. They are few, since an
/// event's own six must fit beside them; the stage is told by the queue.
const OWN_ATTRIBUTES: [&str; 4] = ["reason", "place", "message_id", "tries"];

/// The number of attributes that a message can have.
const MAX_ATTRIBUTES: usize = 10;

/// Parks records of one stage.
pub struct Parker {
    stage: Stage,
    target: Option<TargetId>,
    queue: Arc<dyn Queue>,
    bus: Arc<dyn FailureBus>,
}

impl Parker {
    /// A parker for a stage with its dead-letter queue and the failure bus.
    pub fn new(stage: Stage, queue: Arc<dyn Queue>, bus: Arc<dyn FailureBus>) -> Self {
        Self { stage, target: None, queue, bus }
    }

    /// The same for the stage of one target.
    pub fn with_target(self, target: TargetId) -> Self {
        Self { target: Some(target), ..self }
    }

    /// Puts the record into the dead-letter queue, and only when it stands there reports it. If either fails the message
    /// stays in its queue ([`Outcome::Retry`]) and is parked again when it comes back: the deduplication id makes one of two.
    pub async fn park(&self, message: &Message, reason: Reason, about: &About) -> Outcome {
        let entry = self.entry(message, &reason, about);
        let sent = self.queue.send(vec![entry]).await;
        failpoint::pass("park.sent");
        if !all_done(&sent) {
            return Outcome::Retry(Reason::new("dead_letter_failed", reason.code));
        }
        self.put_on_bus(message, reason, about).await
    }

    /// Reports what is wrong with the target itself; its records stay in their queue. `id` stands for the message: with the
    /// same one a second report makes no second ticket. False if the bus did not take it.
    pub async fn report_target(&self, reason: Reason, id: &str) -> bool {
        let failure = FailureEvent {
            stage: self.stage,
            reason,
            source: None,
            model: None,
            rid: None,
            key: None,
            event_id: None,
            target: self.target.clone(),
            message_id: id.to_owned(),
            tries: 1,
            dead_letter_queue: None,
        };
        let reported = self.bus.report(&[failure]).await;
        failpoint::pass("park.target-reported");
        all_done(&reported)
    }

    /// Lets the message come again, or parks it with `retries_exhausted` if the queue would not hand it out again.
    pub async fn retry_or_park(
        &self,
        message: &Message,
        max_receives: u32,
        reason: Reason,
        about: &About,
    ) -> Outcome {
        if message.is_last_receive(max_receives) {
            self.park(message, Reason::new("retries_exhausted", reason.code), about).await
        } else {
            Outcome::Retry(reason)
        }
    }

    async fn put_on_bus(&self, message: &Message, reason: Reason, about: &About) -> Outcome {
        let failure = FailureEvent {
            stage: self.stage,
            reason: reason.clone(),
            source: about.source.clone(),
            model: about.model.clone(),
            rid: about.rid.clone(),
            key: about.key.clone(),
            event_id: about.event_id.clone(),
            target: self.target.clone(),
            message_id: message.id.clone(),
            tries: message.received,
            dead_letter_queue: Some(self.queue.url().to_owned()),
        };
        let reported = self.bus.report(std::slice::from_ref(&failure)).await;
        failpoint::pass("park.reported");
        if all_done(&reported) {
            Outcome::DeadLettered(reason)
        } else {
            Outcome::Retry(Reason::new("failure_report_failed", reason.code))
        }
    }

    fn entry(&self, message: &Message, reason: &Reason, about: &About) -> QueueEntry {
        let tries = match &message.first_received {
            Some(first) => format!("{} since {first}", message.received),
            None => message.received.to_string(),
        };
        let own: [&str; OWN_ATTRIBUTES.len()] = [&reason.code, &reason.place, &message.id, &tries];
        let version = about.version.iter().map(|version| ("version", version.as_str()));
        // A record that was moved before keeps the place that it had first.
        let first_place = about.sequence.iter().filter(|_| !message.attributes.contains_key("sequence"));
        let sequence = first_place.map(|sequence| ("sequence", sequence.as_str()));
        let original = message.attributes.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let kept = original.filter(|(name, _)| {
            let set_anew = OWN_ATTRIBUTES.contains(name) || (*name == "version" && about.version.is_some());
            !set_anew
        });
        let attributes = OWN_ATTRIBUTES
            .into_iter()
            .zip(own)
            .chain(version)
            .chain(sequence)
            .chain(kept)
            // SQS refuses an attribute without a value.
            .filter(|(_, value)| !value.is_empty())
            .take(MAX_ATTRIBUTES)
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        QueueEntry {
            attributes: attributes.collect(),
            body: message.body.clone(),
            group: message.group.clone(),
            dedup: dedup_id(about.id.as_deref().unwrap_or(&message.id), Hop::Moved(&message.id)),
        }
    }
}

fn all_done(results: &[Result<()>]) -> bool {
    !results.is_empty() && results.iter().all(Result::is_ok)
}

#[cfg(test)]
mod tests;
