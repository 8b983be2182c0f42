//! Wires the push endpoint to AWS; what it does stands in the library.

use std::process::ExitCode;
use std::time::Instant;

use capture_push::deps::Deps;
use capture_push::gateway::GatewayRequest;
use lambda_runtime::LambdaEvent;
use sync_domain::outcome::Stage;
use sync_lambda::{start, telemetry};

fn main() -> ExitCode {
    start::function(
        "capture-push",
        Deps::from_env,
        async |deps: &Deps, event: LambdaEvent<GatewayRequest>| {
            let started = Instant::now();
            let (answer, response) = capture_push::handle(&event.payload, deps).await;
            telemetry::batch_metrics(Stage::CapturePush, None, &answer.outcomes(), started.elapsed());
            Ok(response)
        },
    )
}
