//! The enrich function: wiring only.

use std::process::ExitCode;

use aws_lambda_events::sqs::SqsEvent;
use enrich::deps::Deps;
use lambda_runtime::LambdaEvent;
use sync_lambda::deadline::Deadline;
use sync_lambda::start;

fn main() -> ExitCode {
    start::function("enrich", Deps::of_aws, async |deps: &Deps, event: LambdaEvent<SqsEvent>| {
        let deadline = Deadline::of(&event.context);
        Ok(enrich::handle(event.payload, deps, deadline).await?.response)
    })
}
