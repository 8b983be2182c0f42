//! What a letter says of itself, which letters are meant, and what goes back to the queue.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use sync_aws::sqs::letters::Letter;
use sync_domain::id::{Hop, ModelId, dedup_id};
use sync_domain::ports::QueueEntry;

use super::Which;
use super::shown::Body;

/// What parking added to a message (`sync_lambda::park`), and what is not sent back.
const ADDED: [&str; 4] = ["reason", "place", "message_id", "tries"];
/// The reason of a letter that has none: SQS moved it when it had been received too often.
const MOVED_BY_SQS: &str = "moved_by_sqs";
/// What is said for a reason that is no code: somebody else's message.
const NO_CODE: &str = "no_code";

/// What a letter says of itself; no value of the record is among it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Facts<'a> {
    pub(super) reason: &'a str,
    pub(super) model: Option<ModelId>,
    /// How often it was received before.
    pub(super) tries: Option<u32>,
    /// When it was received first, in milliseconds since 1970.
    pub(super) first_ms: Option<u64>,
}

pub(super) fn facts(letter: &Letter) -> Facts<'_> {
    let attribute = |name: &str| letter.attributes.get(name).map(String::as_str);
    let (tries, first) = match attribute("tries").map(|tries| tries.split_once(" since ").ok_or(tries)) {
        Some(Ok((tries, first))) => (tries.parse().ok(), first.parse().ok()),
        Some(Err(tries)) => (tries.parse().ok(), None),
        None => (None, None),
    };
    let reason = match attribute("reason") {
        Some(reason) if is_code(reason) => reason,
        Some(_) => NO_CODE,
        None => MOVED_BY_SQS,
    };
    let model = attribute("model").and_then(|model| model.parse().ok()).or_else(|| model_of(&letter.body));
    Facts { reason, model, tries, first_ms: first }
}

fn is_code(text: &str) -> bool {
    let in_code = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    text.len() <= 64 && text.bytes().all(in_code)
}

/// The model that a change names in its body; a body that cannot be read is of none.
fn model_of(body: &str) -> Option<ModelId> {
    #[derive(Deserialize)]
    struct Named {
        model: String,
    }

    serde_json::from_str::<Named>(body).ok()?.model.parse().ok()
}

/// A length of time before now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ago {
    ms: u64,
}

impl FromStr for Ago {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "a whole number and one of s, m, h, d: 90s, 15m, 36h, 7d";
        let units = [('s', 1_000), ('m', 60_000), ('h', 3_600_000), ('d', 86_400_000_u64)];
        let found = units.into_iter().find_map(|(unit, ms)| Some((text.strip_suffix(unit)?, ms)));
        let (number, unit) = found.ok_or(wrong)?;
        let ms = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).ok_or(wrong)?;
        Ok(Self { ms })
    }
}

/// The key of a record, apart from the order of its members and the way in which texts are escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(BTreeMap<String, String>);

impl FromStr for Key {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let members: BTreeMap<String, &RawValue> =
            serde_json::from_str(text).map_err(|_| r#"a JSON object: '{"customer_id":42}'"#)?;
        // A number is compared as it is written: no digit of it is lost.
        let alike = |value: &RawValue| match serde_json::from_str(value.get()) {
            Ok(Value::String(text)) => Value::String(text).to_string(),
            _ => value.get().to_owned(),
        };
        Ok(Self(members.into_iter().map(|(name, value)| (name, alike(value))).collect()))
    }
}

/// Which letters are meant.
#[derive(Debug, Clone)]
pub(super) struct Filter {
    pub(super) id: Option<String>,
    pub(super) which: Which,
    pub(super) from_ms: u64,
    pub(super) to_ms: u64,
    /// Only letters that a function parked, not those that SQS moved.
    pub(super) only_parked: bool,
}

impl Default for Filter {
    fn default() -> Self {
        Self { id: None, which: Which::default(), from_ms: 0, to_ms: u64::MAX, only_parked: false }
    }
}

impl Filter {
    /// Nothing younger than the command itself: what fails again while it runs would go round for ever.
    pub(super) fn new(which: &Which, now_ms: u64) -> Self {
        let before = |ago: Ago| now_ms.saturating_sub(ago.ms);
        let (from_ms, to_ms) = (which.since.map_or(0, before), which.until.map_or(now_ms, before));
        Self { id: None, which: which.clone(), from_ms, to_ms, only_parked: false }
    }

    pub(super) fn takes(&self, letter: &Letter) -> bool {
        let facts = facts(letter);
        let Which { model, reason, rid, key, .. } = &self.which;
        let of_key =
            |key: &Key| Body::read(&letter.body).is_some_and(|body| body.key.parse().as_ref() == Ok(key));
        self.id.as_ref().is_none_or(|id| *id == letter.id)
            && model.as_ref().is_none_or(|model| facts.model.as_ref() == Some(model))
            && reason.as_ref().is_none_or(|reason| reason == facts.reason)
            && rid.as_ref().is_none_or(|rid| rid.as_str() == letter.group)
            && (self.from_ms..=self.to_ms).contains(&letter.sent_ms)
            && !(self.only_parked && facts.reason == MOVED_BY_SQS)
            && key.as_ref().is_none_or(of_key)
    }
}

/// The letter on its way back: its group, body and first attributes. The deduplication id is of this letter alone: with
/// that of the event SQS would swallow a redrive inside five minutes, and a repeated send of one letter is one message.
pub(super) fn way_back(letter: &Letter) -> QueueEntry {
    let first = letter.attributes.iter().filter(|(name, _)| !ADDED.contains(&name.as_str()));
    QueueEntry {
        body: letter.body.clone(),
        group: letter.group.clone(),
        dedup: dedup_id(&letter.id, Hop::Moved(&letter.id)),
        attributes: first.map(|(name, value)| (name.clone(), value.clone())).collect(),
    }
}
