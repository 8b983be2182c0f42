#![doc = include_str!("../README.md")]

pub mod answer;
pub mod ask;
pub mod cache;
pub mod deps;
pub mod lookup;
pub mod question;
mod round;
pub mod settings;

use std::time::Instant;

use aws_lambda_events::sqs::SqsEvent;
use sync_domain::outcome::Stage;
use sync_lambda::batch::{self, Message, Plan, Report};
use sync_lambda::deadline::Deadline;
use sync_lambda::telemetry;

use crate::deps::Deps;
use crate::round::Round;

/// Works a batch of the Enrichment queue.
pub async fn handle(event: SqsEvent, deps: &Deps, deadline: Deadline) -> Result<Report, batch::Error> {
    let start = Instant::now();
    let work = async |messages: &[&Message]| Round::new(deps, deadline).work(messages).await;
    let report = batch::rounds_of(event, Plan::default(), &*deps.inbox, work).await?;
    telemetry::batch_metrics(Stage::Enrich, None, &report.outcomes, start.elapsed());
    Ok(report)
}
