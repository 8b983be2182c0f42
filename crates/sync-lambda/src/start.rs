//! The start of a function: telemetry, the setup without any network, then the invocations.

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::rc::Rc;

use futures_util::FutureExt;
use lambda_runtime::{LambdaEvent, service_fn};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::settings::{Lookup, ProcessEnv};
use crate::telemetry;

/// An error of the setup or of an invocation. Its text must name settings, codes and counts only.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Runs a function: `setup` once, then `handle` for each invocation, on one thread.
///
/// `setup` is not async, so that nothing can wait for the network before the first poll of the runtime API.
/// An invocation that panics fails without its panic's text.
pub fn function<S, E, A>(
    name: &'static str,
    setup: impl FnOnce(&dyn Lookup) -> Result<S, Error>,
    handle: impl AsyncFn(&S, LambdaEvent<E>) -> Result<A, Error>,
) -> ExitCode
where
    E: DeserializeOwned,
    A: Serialize,
{
    telemetry::init(name, &ProcessEnv);
    let state = match setup(&ProcessEnv) {
        Ok(state) => state,
        Err(problem) => return stop("the setup failed", &*problem),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(problem) => return stop("the async runtime does not start", &problem),
    };
    let shared = Rc::new((state, handle));
    let service = service_fn(move |event: LambdaEvent<E>| {
        let shared = Rc::clone(&shared);
        async move {
            let (state, handle) = &*shared;
            let outcome = AssertUnwindSafe(handle(state, event)).catch_unwind().await;
            outcome.unwrap_or_else(|_| Err(Error::from("the invocation panicked")))
        }
    });
    match runtime.block_on(lambda_runtime::run(service)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => stop("the runtime API cannot be reached", &*problem),
    }
}

fn stop(what: &'static str, problem: &dyn std::error::Error) -> ExitCode {
    tracing::error!(error = %problem, "{what}");
    ExitCode::FAILURE
}
