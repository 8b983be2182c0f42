//! The ticket function: wiring only.

use std::process::ExitCode;

use lambda_runtime::LambdaEvent;
use serde_json::value::RawValue;
use sync_lambda::start;
use ticket::deps::Deps;

fn main() -> ExitCode {
    start::function("ticket", Deps::of_aws, async |deps: &Deps, event: LambdaEvent<Box<RawValue>>| {
        Ok(ticket::invoke(event.payload.get(), deps).await?)
    })
}
