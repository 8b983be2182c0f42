//! The enrich function: wiring only.

use std::process::ExitCode;

use aws_lambda_events::sqs::SqsEvent;
use enrich::deps::Deps;
use enrich::settings::Settings;
use lambda_runtime::LambdaEvent;
use sync_aws::clients::Clients;
use sync_lambda::deadline::Deadline;
use sync_lambda::start;

fn main() -> ExitCode {
    start::function(
        "enrich",
        |lookup| {
            let clients = Clients::from_env(|name| lookup.get(name));
            Ok(Deps::of_aws(&Settings::read(lookup)?, &enrich::deps::config(lookup)?, &clients)?)
        },
        async |deps: &Deps, event: LambdaEvent<SqsEvent>| {
            let deadline = Deadline::of(&event.context);
            Ok(enrich::handle(event.payload, deps, deadline).await?.response)
        },
    )
}
