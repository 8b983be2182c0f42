//! What the function is invoked with: a batch of its queue, its schedule, or what `datasync targets` asks for.

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use serde::{Deserialize, Serialize};
use sync_domain::delivery::breaker::{Breaker, State};

/// The payload of an invocation. One of the two is there.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Payload {
    /// The messages of a batch.
    #[serde(default, rename = "Records")]
    pub records: Option<Vec<SqsMessage>>,
    /// What to do with the target.
    #[serde(default)]
    pub work: Option<Work>,
}

/// What to do with the target.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Look whether it is back, and make mapping and schedule fit what its breaker says.
    Probe {
        /// The id of the event source mapping, which only the schedule knows: it is made after the function.
        mapping: String,
    },
    /// Send it nothing until it is resumed.
    Pause,
    /// Send to it as usual.
    Resume,
    /// Say how it stands.
    Status,
}

/// A payload with neither records nor work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the payload has neither Records nor work; see events/deliver")]
pub struct Nothing;

impl Payload {
    /// What is asked for.
    pub fn read(self) -> Result<Asked, Nothing> {
        match (self.records, self.work) {
            (Some(records), _) => {
                let mut event = SqsEvent::default();
                event.records = records;
                Ok(Asked::Batch(event))
            }
            (None, Some(work)) => Ok(Asked::Work(work)),
            (None, None) => Err(Nothing),
        }
    }
}

/// What an invocation asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    /// To work a batch.
    Batch(SqsEvent),
    /// To do something with the target.
    Work(Work),
}

/// What an invocation answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// To a batch.
    Batch(SqsBatchResponse),
    /// To anything else.
    Standing(Standing),
}

/// How the target stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// `closed` (sent to as usual), `open` (away; probed once a minute) or `paused`.
    pub state: &'static str,
    /// Since when it is not sent to, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<i64>,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where that was seen: a status, a setting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// Its event source mapping fits the state; false = within a minute.
    pub applied: bool,
}

impl From<&Breaker> for Standing {
    fn from(breaker: &Breaker) -> Self {
        let state = match breaker.state {
            State::Closed(_) => "closed",
            State::Open { .. } => "open",
            State::Paused(_) => "paused",
        };
        let halt = breaker.halt();
        let place = halt.map(|halt| halt.reason.place.clone());
        Self {
            state,
            since: halt.map(|halt| halt.since),
            reason: halt.map(|halt| halt.reason.code.clone()),
            place: place.filter(|place| !place.is_empty()),
            applied: breaker.applied_at.is_some(),
        }
    }
}
