//! The transform function: wiring only.

use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use aws_lambda_events::sqs::SqsEvent;
use lambda_runtime::LambdaEvent;
use sync_domain::outcome::Stage;
use sync_lambda::{start, telemetry};
use transform::deps::Deps;

fn main() -> ExitCode {
    start::function("transform", Deps::of_aws, async |deps: &Deps, event: LambdaEvent<SqsEvent>| {
        let (started, now) = (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs());
        let report = transform::handle(event.payload, deps, i64::try_from(now)?).await?;
        telemetry::batch_metrics(Stage::Transform, None, &report.outcomes, started.elapsed());
        Ok(report.response)
    })
}
