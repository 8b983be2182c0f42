//! Reading a failure event as EventBridge hands it over, and the ticket that comes of it.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use sync_domain::id::{TargetId, push_part};
use sync_domain::outcome::{FailureEvent, Reason};
use sync_domain::ports::Ticket;

/// The `source` of our events on the bus.
pub const SOURCE: &str = "datasync";
/// Their `detail-type`.
pub const DETAIL_TYPE: &str = "record failed";

const HOUR: i64 = 60 * 60;
const DAY: i64 = 24 * HOUR;
/// The longest reason code.
const CODE_LENGTH: usize = 64;

/// An event that is not a failure event. It names the part that is wrong and never repeats what stood there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not an EventBridge event at all.
    #[error("the event is not a JSON object with source, detail-type, time and detail")]
    Envelope,
    /// An event of somebody else: the rule lets too much through.
    #[error("the event's {0} is not the one of Data Sync's failures")]
    Foreign(&'static str),
    /// A part is missing or not of its type.
    #[error("{0} is missing or not what it should be")]
    Part(&'static str),
}

/// A failure and when it was reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The failure.
    pub failure: FailureEvent,
    /// When it was put on the bus; the same at every attempt.
    pub at: Timestamp,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    source: Option<&'a RawValue>,
    #[serde(borrow, rename = "detail-type")]
    detail_type: Option<&'a RawValue>,
    #[serde(borrow)]
    time: Option<&'a RawValue>,
    #[serde(borrow)]
    detail: Option<&'a RawValue>,
}

/// Each part by itself, so that an error can say which one is wrong. Parts that are not known (a newer version runs
/// beside this one during a deploy) are left alone.
#[derive(Deserialize)]
struct Detail<'a> {
    #[serde(borrow)]
    stage: Option<&'a RawValue>,
    #[serde(borrow)]
    reason: Option<&'a RawValue>,
    #[serde(borrow)]
    source: Option<&'a RawValue>,
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    rid: Option<&'a RawValue>,
    #[serde(borrow)]
    key: Option<&'a RawValue>,
    #[serde(borrow)]
    event_id: Option<&'a RawValue>,
    #[serde(borrow)]
    target: Option<&'a RawValue>,
    #[serde(borrow)]
    message_id: Option<&'a RawValue>,
    #[serde(borrow)]
    tries: Option<&'a RawValue>,
    #[serde(borrow)]
    dead_letter_queue: Option<&'a RawValue>,
}

impl Report {
    /// Reads the event.
    pub fn read(event: &str) -> Result<Self, Error> {
        let envelope: Envelope<'_> = serde_json::from_str(event).map_err(|_| Error::Envelope)?;
        if part::<String>(envelope.source, "source")? != SOURCE {
            return Err(Error::Foreign("source"));
        }
        if part::<String>(envelope.detail_type, "detail-type")? != DETAIL_TYPE {
            return Err(Error::Foreign("detail-type"));
        }
        let time: String = part(envelope.time, "time")?;
        let at = time.parse().map_err(|_| Error::Part("time"))?;
        let detail = envelope.detail.ok_or(Error::Part("detail"))?;
        let detail: Detail<'_> = serde_json::from_str(detail.get()).map_err(|_| Error::Part("detail"))?;
        let failure = FailureEvent {
            stage: part(detail.stage, "detail.stage")?,
            reason: reason(detail.reason)?,
            source: optional(detail.source, "detail.source")?,
            model: optional(detail.model, "detail.model")?,
            rid: optional(detail.rid, "detail.rid")?,
            key: optional(detail.key, "detail.key")?,
            event_id: optional(detail.event_id, "detail.event_id")?,
            target: optional(detail.target, "detail.target")?,
            message_id: part(detail.message_id, "detail.message_id")?,
            tries: part(detail.tries, "detail.tries")?,
            dead_letter_queue: optional(detail.dead_letter_queue, "detail.dead_letter_queue")?,
        };
        Ok(Self { failure, at })
    }

    /// The ticket of the failure; the same one at every attempt.
    pub fn ticket(&self, days: u32) -> Ticket {
        let kept = DAY.saturating_mul(i64::from(days));
        Ticket {
            id: ticket_id(&self.failure),
            failure: self.failure.clone(),
            failed_at: self.at.to_string(),
            expires_at: self.at.as_second().saturating_add(kept),
        }
    }

    /// The hour of the failure, counted from 1970: alerts are one per cause and hour. By the failure's own time, so that a
    /// retry an hour later does not alert again.
    pub fn hour(&self) -> i64 {
        self.at.as_second().div_euclid(HOUR)
    }

    /// The end of that hour, in seconds since 1970.
    pub fn hour_end(&self) -> i64 {
        self.hour().saturating_add(1).saturating_mul(HOUR)
    }
}

/// The ticket's id: `tkt_` and a hash of (stage, target, message, dead-letter queue).
///
/// A message keeps its id however often it is received, and a redriven one gets a new id: it may fail again and then
/// has a ticket of its own. The queue is in it because a message that first stayed with a paused target (no dead letter) may
/// be dead-lettered later; that is another thing to do for whoever reads the ticket.
fn ticket_id(failure: &FailureEvent) -> String {
    let target = failure.target.as_ref().map(TargetId::as_str).unwrap_or_default();
    let queue = failure.dead_letter_queue.as_deref().unwrap_or_default();
    let mut input = Vec::new();
    for text in [failure.stage.as_str(), target, &failure.message_id, queue] {
        push_part(&mut input, text.as_bytes());
    }
    let hash = digest(&SHA256, &input);
    format!("tkt_{}", URL_SAFE_NO_PAD.encode(hash))
}

fn reason(raw: Option<&RawValue>) -> Result<Reason, Error> {
    let reason: Reason = part(raw, "detail.reason")?;
    let in_code = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let is_code = (1..=CODE_LENGTH).contains(&reason.code.len()) && reason.code.bytes().all(in_code);
    if is_code { Ok(reason) } else { Err(Error::Part("detail.reason.code")) }
}

fn part<T: DeserializeOwned>(raw: Option<&RawValue>, name: &'static str) -> Result<T, Error> {
    let raw = raw.ok_or(Error::Part(name))?;
    serde_json::from_str(raw.get()).map_err(|_| Error::Part(name))
}

fn optional<T: DeserializeOwned>(raw: Option<&RawValue>, name: &'static str) -> Result<Option<T>, Error> {
    raw.map_or(Ok(None), |raw| part(Some(raw), name))
}
