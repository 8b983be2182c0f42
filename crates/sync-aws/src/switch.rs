//! What feeds a function (Lambda's event source mapping) and what wakes it while nothing does (a rule of EventBridge).

use async_trait::async_trait;
use sync_domain::ports::{Result, Switch};

use crate::error::from_sdk;

const FEED: &str = "lambda:UpdateEventSourceMapping";
const ENABLE: &str = "events:EnableRule";
const DISABLE: &str = "events:DisableRule";

/// The mappings of a function and its rule.
#[derive(Debug, Clone)]
pub struct AwsSwitch {
    lambda: aws_sdk_lambda::Client,
    events: aws_sdk_eventbridge::Client,
    rule: String,
}

impl AwsSwitch {
    /// The switch for a rule of the default bus, by its name.
    pub fn new(
        lambda: aws_sdk_lambda::Client,
        events: aws_sdk_eventbridge::Client,
        rule: impl Into<String>,
    ) -> Self {
        Self { lambda, events, rule: rule.into() }
    }
}

#[async_trait]
impl Switch for AwsSwitch {
    async fn feed(&self, mapping: &str, on: bool) -> Result<()> {
        let call = self.lambda.update_event_source_mapping().uuid(mapping).enabled(on);
        call.send().await.map(|_| ()).map_err(|failed| from_sdk(FEED, &failed))
    }

    async fn wake(&self, on: bool) -> Result<()> {
        if on {
            let call = self.events.enable_rule().name(&self.rule);
            call.send().await.map(|_| ()).map_err(|failed| from_sdk(ENABLE, &failed))
        } else {
            let call = self.events.disable_rule().name(&self.rule);
            call.send().await.map(|_| ()).map_err(|failed| from_sdk(DISABLE, &failed))
        }
    }
}

#[cfg(test)]
mod tests;
