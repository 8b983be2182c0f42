//! The reader of a table's stream: wiring only.

use std::process::ExitCode;

use capture_stream::deps::Deps;
use lambda_runtime::LambdaEvent;
use serde_json::value::RawValue;
use sync_lambda::deadline::Deadline;
use sync_lambda::start;

fn main() -> ExitCode {
    start::function("capture-stream", Deps::of_aws, async |deps: &Deps, event: LambdaEvent<Box<RawValue>>| {
        let (payload, context) = (event.payload.get(), &event.context);
        Ok(capture_stream::invoke(payload, deps, &context.request_id, Deadline::of(context)).await?)
    })
}
