//! How a record's way ends: every record that enters a stage leaves it with exactly one [`Outcome`].

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{EventId, ModelId, RecordId, SourceId, TargetId};

/// A stage of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The push endpoint.
    CapturePush,
    /// A database that is read.
    CapturePull,
    /// The stream of a DynamoDB table.
    CaptureStream,
    /// Governance and the exchange model.
    Transform,
    /// Look-ups in other systems.
    Enrich,
    /// Sending to a target.
    Deliver,
}

impl Stage {
    /// The stage's name in logs, metrics and tickets.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CapturePush => "capture_push",
            Self::CapturePull => "capture_pull",
            Self::CaptureStream => "capture_stream",
            Self::Transform => "transform",
            Self::Enrich => "enrich",
            Self::Deliver => "deliver",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a record cannot go on: a code for machines and tickets and a place in the record. It never holds a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code} at {place}")]
pub struct Reason {
    /// What is wrong, in snake case: `unknown_model`, `type_mismatch`, `refused_by_target`.
    pub code: String,
    /// Where: an attribute path of the model, an HTTP status, an offset. Names and numbers only.
    pub place: String,
}

impl Reason {
    /// A reason with its place; `place` must hold names and numbers only, never a value of the record.
    pub fn new(code: &str, place: impl Into<String>) -> Self {
        Self { code: code.to_owned(), place: place.into() }
    }
}

/// The end of a record's way through one stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Handed to the next queue or topic.
    Published,
    /// Accepted by the target.
    Delivered,
    /// The target has this content already.
    Unchanged,
    /// The target has a newer version.
    Stale,
    /// The target did not ask for it; the code says which condition.
    Filtered(&'static str),
    /// Refused at the door: the sender has the reason, and still has the record.
    Rejected(String),
    /// Stands in a dead-letter queue and has a ticket.
    DeadLettered(Reason),
    /// Stays in the queue and comes again.
    Retry(Reason),
}

impl Outcome {
    /// The metric name under which the outcome is counted.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Delivered => "delivered",
            Self::Unchanged => "unchanged",
            Self::Stale => "stale",
            Self::Filtered(_) => "filtered",
            Self::Rejected(_) => "rejected",
            Self::DeadLettered(_) => "dead_lettered",
            Self::Retry(_) => "retry",
        }
    }
}

/// What a stage puts on the failure bus for a record that cannot go on; the `ticket` function makes a ticket of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureEvent {
    /// Where it failed.
    pub stage: Stage,
    /// Why.
    pub reason: Reason,
    /// The source, if it could be read.
    pub source: Option<SourceId>,
    /// The model, if it could be read.
    pub model: Option<ModelId>,
    /// The record id, if it could be made.
    pub rid: Option<RecordId>,
    /// The key in its protected form, as JSON text, if the record came so far.
    pub key: Option<String>,
    /// The event id, if there is one.
    pub event_id: Option<EventId>,
    /// The target, in `deliver`.
    pub target: Option<TargetId>,
    /// The message that failed.
    pub message_id: String,
    /// How often it was received.
    pub tries: u32,
    /// The URL of the dead-letter queue that holds the record, or where it stands in the dead-letter bucket
    /// (`s3://…`); none where nothing was dead-lettered (a target that is misconfigured or paused keeps its events in its
    /// own queue).
    pub dead_letter_queue: Option<String>,
}
