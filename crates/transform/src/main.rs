//! The transform function: wiring only.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lambda_events::sqs::SqsEvent;
use lambda_runtime::LambdaEvent;
use sync_lambda::start;
use transform::deps::Deps;

fn main() -> ExitCode {
    start::function("transform", Deps::of_aws, async |deps: &Deps, event: LambdaEvent<SqsEvent>| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        Ok(transform::handle(event.payload, deps, i64::try_from(now)?).await?)
    })
}
