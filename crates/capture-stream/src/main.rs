//! The reader of a table's stream: wiring only.

use std::process::ExitCode;

use capture_stream::deps::Deps;
use lambda_runtime::LambdaEvent;
use serde_json::value::RawValue;
use sync_lambda::start;

fn main() -> ExitCode {
    start::function("capture-stream", Deps::of_aws, async |deps: &Deps, event: LambdaEvent<Box<RawValue>>| {
        Ok(capture_stream::invoke(event.payload.get(), deps).await?)
    })
}
