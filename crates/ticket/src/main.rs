//! The ticket function: wiring only.

use std::process::ExitCode;

use lambda_runtime::LambdaEvent;
use serde_json::value::RawValue;
use sync_aws::clients::Clients;
use sync_lambda::start;
use ticket::deps::Deps;
use ticket::settings::Settings;

fn main() -> ExitCode {
    start::function(
        "ticket",
        |lookup| {
            let clients = Clients::from_env(|name| lookup.get(name));
            Ok(Deps::of_aws(&Settings::read(lookup)?, &clients))
        },
        async |deps: &Deps, event: LambdaEvent<Box<RawValue>>| {
            Ok(ticket::invoke(event.payload.get(), deps).await?)
        },
    )
}
