//! EventBridge: the bus for failures.

use async_trait::async_trait;
use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use sync_domain::outcome::FailureEvent;
use sync_domain::ports::{FailureBus, Kind, Result};

use crate::batches::{self, Answer, Item, Limits, Patience};
use crate::error::{error, from_sdk, kind_of};

const PUT: &str = "events:PutEvents";
const LIMITS: Limits = Limits { entries: 10, bytes: 1024 * 1024 };
/// The source that the rule of the `ticket` function matches.
const SOURCE: &str = "datasync";
/// The detail type that the rule of the `ticket` function matches.
const DETAIL_TYPE: &str = "record failed";

/// The failure bus.
#[derive(Debug, Clone)]
pub struct EventBridgeBus {
    client: Client,
    name: String,
    patience: Patience,
}

impl EventBridgeBus {
    /// The bus of a name or ARN.
    pub fn new(client: Client, name: impl Into<String>) -> Self {
        Self { client, name: name.into(), patience: Patience::DEFAULT }
    }

    async fn put_call(&self, details: Vec<&String>) -> Result<Vec<Answer>> {
        let entry = |detail: &String| {
            PutEventsRequestEntry::builder()
                .source(SOURCE)
                .detail_type(DETAIL_TYPE)
                .detail(detail)
                .event_bus_name(&self.name)
                .build()
        };
        let entries = details.into_iter().map(entry).collect();
        let call = self.client.put_events().set_entries(Some(entries));
        let answer = call.send().await.map_err(|failed| from_sdk(PUT, &failed))?;
        // The call as a whole succeeds however many entries failed; an entry was taken only if it got an event id.
        let result = |entry: &aws_sdk_eventbridge::types::PutEventsResultEntry| match (
            entry.event_id(),
            entry.error_code(),
        ) {
            (Some(_), None) => Ok(()),
            (_, Some(code)) => Err((kind_of(code), code.to_owned())),
            (None, None) => Err((Kind::Unavailable, "NoAnswer".to_owned())),
        };
        Ok(answer.entries().iter().map(result).collect())
    }
}

#[async_trait]
impl FailureBus for EventBridgeBus {
    async fn report(&self, failures: &[FailureEvent]) -> Vec<Result<()>> {
        let details: std::result::Result<Vec<String>, _> =
            failures.iter().map(serde_json::to_string).collect();
        let Ok(details) = details else {
            return failures.iter().map(|_| Err(error(PUT, Kind::Refused, "RequestNotMade"))).collect();
        };
        let size = |detail: &String| detail.len() + SOURCE.len() + DETAIL_TYPE.len();
        let items: Vec<Item<'_>> =
            details.iter().map(|detail| Item { group: None, size: size(detail) }).collect();
        batches::send(PUT, &items, LIMITS, self.patience, |indices| {
            self.put_call(indices.into_iter().filter_map(|index| details.get(index)).collect())
        })
        .await
    }
}

#[cfg(test)]
mod tests;
