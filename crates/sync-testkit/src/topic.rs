//! A FIFO topic in memory that applies the filter policies of its subscriptions.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use sync_domain::event::{AttributeValue, Event};
use sync_domain::ports::{Queue, QueueEntry, Result, Topic};

use crate::fault::{Faults, Turn, error};
use crate::queue::{MemoryQueue, Remembered};
use crate::{Fault, lock};

/// A topic that keeps what was published and hands it to the queues whose policies match, with raw delivery.
#[derive(Debug, Clone, Default)]
pub struct MemoryTopic {
    /// The faults of [`Topic::publish`].
    pub faults: Faults,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    published: Vec<Event>,
    remembered: Remembered,
    subscriptions: Vec<(Value, MemoryQueue)>,
}

/// A filter policy that the twin cannot apply, and that SNS would refuse or this project does not use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterError(pub String);

impl MemoryTopic {
    /// A topic without subscriptions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Scripts a fault of the next [`Topic::publish`].
    pub fn fault(&self, fault: Fault) {
        self.faults.push(fault);
    }

    /// Subscribes a queue with a filter policy over message attributes, as it stands in the template.
    pub fn subscribe(&self, policy: &Value, queue: &MemoryQueue) -> std::result::Result<(), FilterError> {
        check(policy)?;
        lock(&self.state).subscriptions.push((policy.clone(), queue.clone()));
        Ok(())
    }

    /// Moves the topic's clock, by which it forgets deduplication ids.
    pub fn advance(&self, time: Duration) {
        lock(&self.state).remembered.advance(time);
    }

    /// What was published, duplicates left out, in order.
    pub fn published(&self) -> Vec<Event> {
        lock(&self.state).published.clone()
    }

    /// The same, and forgets it: for more events than a test wants to keep.
    pub fn take_published(&self) -> Vec<Event> {
        std::mem::take(&mut lock(&self.state).published)
    }

    async fn take(&self, event: &Event) {
        let dedup = event.dedup_id();
        let group = event.rid().as_str().to_owned();
        let queues: Vec<MemoryQueue> = {
            let mut state = lock(&self.state);
            if !state.remembered.note(&group, &dedup) {
                return;
            }
            state.published.push(event.clone());
            let matching =
                state.subscriptions.iter().filter(|(policy, _)| matches(policy, event.attributes()));
            matching.map(|(_, queue)| queue.clone()).collect()
        };
        for queue in queues {
            let attributes = event.attributes().iter().map(|(name, value)| ((*name).to_owned(), text(value)));
            let entry = QueueEntry {
                body: event.body().to_owned(),
                group: group.clone(),
                dedup: dedup.clone(),
                attributes: attributes.collect(),
            };
            queue.send(vec![entry]).await;
        }
    }
}

#[async_trait]
impl Topic for MemoryTopic {
    async fn publish(&self, events: &[Event]) -> Vec<Result<()>> {
        let groups: Vec<Option<&str>> = events.iter().map(|event| Some(event.rid().as_str())).collect();
        let mut results = Vec::with_capacity(events.len());
        for (event, turn) in events.iter().zip(self.faults.batch(&groups)) {
            if !matches!(turn, Turn::Fail(_)) {
                self.take(event).await;
            }
            results.push(match turn {
                Turn::Take => Ok(()),
                Turn::TakeButFail(kind) | Turn::Fail(kind) => Err(error("memory:Publish", kind)),
            });
        }
        results
    }
}

fn text(value: &AttributeValue) -> String {
    match value {
        AttributeValue::Text(text) => text.clone(),
        AttributeValue::List(texts) => Value::from(texts.clone()).to_string(),
    }
}

fn check(policy: &Value) -> std::result::Result<(), FilterError> {
    let Some(keys) = policy.as_object() else { return Err(FilterError("not an object".to_owned())) };
    let mut combinations: usize = 1;
    for (name, conditions) in keys {
        let conditions = conditions.as_array().filter(|conditions| !conditions.is_empty());
        let conditions =
            conditions.ok_or_else(|| FilterError(format!("{name}: not a list of conditions")))?;
        combinations = combinations.saturating_mul(conditions.len());
        if !conditions.iter().all(is_known) {
            return Err(FilterError(format!("{name}: unknown condition")));
        }
    }
    if keys.len() > 5 || combinations > 150 {
        return Err(FilterError("more than 5 keys or 150 combinations".to_owned()));
    }
    Ok(())
}

fn is_known(condition: &Value) -> bool {
    let Some(object) = condition.as_object() else { return condition.is_string() };
    object.len() == 1
        && object.iter().all(|(operator, value)| match operator.as_str() {
            "exists" => value.is_boolean(),
            "prefix" | "suffix" | "anything-but" => value.is_string() || value.is_array(),
            _ => false,
        })
}

/// Every key of the policy must be met by one of its conditions.
fn matches(policy: &Value, attributes: &[(&'static str, AttributeValue)]) -> bool {
    let empty = serde_json::Map::new();
    policy.as_object().unwrap_or(&empty).iter().all(|(name, conditions)| {
        let attribute = attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        conditions
            .as_array()
            .is_some_and(|conditions| conditions.iter().any(|condition| meets(condition, attribute)))
    })
}

fn meets(condition: &Value, attribute: Option<&AttributeValue>) -> bool {
    if let Some(wanted) = condition.get("exists").and_then(Value::as_bool) {
        return wanted == attribute.is_some();
    }
    let texts: &[String] = match attribute {
        None => return false,
        Some(AttributeValue::Text(text)) => std::slice::from_ref(text),
        Some(AttributeValue::List(texts)) => texts,
    };
    let one_of = |value: &Value, text: &str| match value {
        Value::Array(values) => values.iter().any(|value| value == text),
        value => value == text,
    };
    texts.iter().any(|text| match condition {
        Value::String(wanted) => wanted == text,
        condition => {
            let affix = |name: &str| condition.get(name).and_then(Value::as_str);
            affix("prefix").is_some_and(|prefix| text.starts_with(prefix))
                || affix("suffix").is_some_and(|suffix| text.ends_with(suffix))
                || condition.get("anything-but").is_some_and(|unwanted| !one_of(unwanted, text))
        }
    })
}

#[cfg(test)]
mod tests;
