//! Wires the `deliver` function: settings and adapters once per cold start, then one batch after another.

use std::process::ExitCode;
use std::time::Instant;

use deliver::payload::Payload;
use deliver::{Deps, invoke};
use lambda_runtime::LambdaEvent;
use sync_domain::outcome::Stage;
use sync_lambda::deadline::Deadline;
use sync_lambda::{start, telemetry};

fn main() -> ExitCode {
    start::function("deliver", Deps::from_env, async |deps: &Deps, event: LambdaEvent<Payload>| {
        let (started, deadline) = (Instant::now(), Deadline::of(&event.context));
        let mut outcomes = Vec::new();
        let answer = invoke(event.payload, deps, deadline, &mut outcomes).await;
        if !outcomes.is_empty() {
            let target = Some(&deps.target.target().target);
            telemetry::batch_metrics(Stage::Deliver, target, &outcomes, started.elapsed());
        }
        Ok(answer?)
    })
}
