//! Wires the `deliver` function: settings and adapters once per cold start, then one batch after another.

use std::process::ExitCode;
use std::time::Instant;

use aws_lambda_events::sqs::SqsEvent;
use deliver::{Deps, handle};
use lambda_runtime::LambdaEvent;
use sync_domain::outcome::Stage;
use sync_lambda::deadline::Deadline;
use sync_lambda::{start, telemetry};

fn main() -> ExitCode {
    start::function("deliver", Deps::from_env, async |deps: &Deps, event: LambdaEvent<SqsEvent>| {
        let (started, deadline) = (Instant::now(), Deadline::of(&event.context));
        let report = handle(event.payload, deps, deadline).await?;
        let target = Some(&deps.target.target().target);
        telemetry::batch_metrics(Stage::Deliver, target, &report.outcomes, started.elapsed());
        Ok(report.response)
    })
}
