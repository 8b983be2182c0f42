//! Wires the reader of databases to AWS; what it does stands in the library.

use std::process::ExitCode;

use capture_pull::deps::Deps;
use capture_pull::payload::Payload;
use capture_pull::{Invocation, handle};
use lambda_runtime::LambdaEvent;
use sync_lambda::start;

fn main() -> ExitCode {
    start::function("capture-pull", Deps::from_env, async |deps: &Deps, event: LambdaEvent<Payload>| {
        let invocation = Invocation::of(&event.context, deps.run_for);
        Ok(handle(&event.payload, deps, &invocation).await?)
    })
}
