//! `datasync targets`: what is asked of the function that sends to a target. The caller needs `lambda:InvokeFunction` on it.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Deserialize;
use sync_aws::clients::Clients;
use sync_aws::lambda::{Invoke, LambdaFunction};
use sync_domain::id::TargetId;
use sync_lambda::settings::ProcessEnv;

use crate::call::{self, call, runtime};
use crate::outputs::{self, Outputs};
use crate::template::logical_name;

/// The target, and where its function is.
#[derive(Debug, Clone, Args)]
pub struct Which {
    /// The target, as its file is named.
    pub target: TargetId,
    /// The function that sends to it; else DELIVER_FUNCTION or the stack's output `Deliver<Target>Name`.
    #[arg(long)]
    pub function: Option<String>,
    /// A file with the stack's outputs, as `sam list stack-outputs --output json` prints them.
    #[arg(long)]
    pub outputs: Option<PathBuf>,
}

/// Looks at a target, lets it be, or sends to it again.
#[derive(Debug, Args)]
pub struct Targets {
    #[command(subcommand)]
    /// What to do.
    pub action: Action,
}

/// What to do with a target.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Says whether the target is sent to, and if not, why.
    Status(Which),
    /// Sends the target nothing any more. Its events wait in its queue, for 14 days.
    Pause(Which),
    /// Sends to the target as usual, whatever held it up.
    Resume(Which),
}

/// Why the function did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not known which function it is.
    #[error(transparent)]
    Where(#[from] outputs::Error),
    /// It was asked in vain.
    #[error(transparent)]
    Call(#[from] call::Error),
    /// The runtime for the call cannot be made, or nothing can be written.
    #[error("cannot call or write")]
    Shell(#[from] std::io::Error),
}

/// How the target stands, as the function says it (`deliver::payload`).
#[derive(Debug, Deserialize)]
struct Standing {
    state: State,
    since: Option<i64>,
    reason: Option<String>,
    place: Option<String>,
    applied: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Closed,
    Open,
    Paused,
}

pub(crate) fn run(command: &Targets, out: &mut dyn Write) -> Result<(), Error> {
    let (which, work) = match &command.action {
        Action::Status(which) => (which, "status"),
        Action::Pause(which) => (which, "pause"),
        Action::Resume(which) => (which, "resume"),
    };
    let outputs = Outputs::read(which.outputs.as_deref())?;
    let output = format!("Deliver{}Name", logical_name(which.target.as_str()));
    let given = which.function.as_deref();
    let name = outputs.setting(&ProcessEnv, given, "--function", "DELIVER_FUNCTION", &output)?;
    runtime()?.block_on(async {
        let function = LambdaFunction::new(Clients::from_profile().await.lambda(), name);
        ask(&function, &which.target, work, out).await
    })
}

async fn ask(function: &dyn Invoke, target: &TargetId, work: &str, out: &mut dyn Write) -> Result<(), Error> {
    let standing: Standing = call(function, &format!(r#"{{"work":"{work}"}}"#)).await?;
    Ok(writeln!(out, "{target}: {}", said(&standing))?)
}

fn said(standing: &Standing) -> String {
    let since = standing.since.and_then(|since| Timestamp::from_second(since).ok());
    let since = since.map(|since| format!(" since {since}")).unwrap_or_default();
    let why = match (&standing.reason, &standing.place) {
        (Some(reason), Some(place)) => format!(" ({reason}, {place})"),
        (Some(reason), None) => format!(" ({reason})"),
        (None, _) => String::new(),
    };
    let state = match standing.state {
        State::Closed => "sent to as usual".to_owned(),
        State::Open => format!("away{since}{why}; its events wait, one of them is tried every minute"),
        State::Paused => format!("paused{since}{why}; its events wait until `datasync targets resume`"),
    };
    let follows = if standing.applied { "" } else { "; its event source mapping follows within two minutes" };
    state + follows
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use sync_domain::ports;

    use super::*;

    /// A function that gives one answer and keeps what it was asked.
    struct Says(std::result::Result<&'static str, &'static str>, Mutex<Vec<String>>);

    #[async_trait]
    impl Invoke for Says {
        async fn invoke(&self, payload: &str) -> ports::Result<std::result::Result<String, String>> {
            self.1.lock().unwrap().push(payload.to_owned());
            Ok(self.0.map(str::to_owned).map_err(str::to_owned))
        }
    }

    async fn printed(
        work: &str,
        answer: std::result::Result<&'static str, &'static str>,
    ) -> Result<String, Error> {
        let function = Says(answer, Mutex::default());
        let mut out = Vec::new();
        ask(&function, &"loyalty".parse().unwrap(), work, &mut out).await?;
        assert_eq!(*function.1.lock().unwrap(), [format!("{{\"work\":\"{work}\"}}")]);
        Ok(String::from_utf8(out).unwrap())
    }

    #[tokio::test]
    async fn a_target_is_described_as_it_stands() {
        let check = async |answer, expect: &str| {
            assert_eq!(printed("status", Ok(answer)).await.unwrap(), format!("loyalty: {expect}\n"));
        };
        check(r#"{"state":"closed","applied":true}"#, "sent to as usual").await;
        check(
            r#"{"state":"closed","applied":false}"#,
            "sent to as usual; its event source mapping follows within two minutes",
        )
        .await;
        check(
            r#"{"state":"open","since":1795559963,"reason":"target_unavailable","place":"status 503","applied":true}"#,
            "away since 2026-11-24T22:39:23Z (target_unavailable, status 503); its events wait, one of them is tried every minute",
        )
        .await;
        check(
            r#"{"state":"paused","since":1795559963,"reason":"paused_by_operator","applied":true}"#,
            "paused since 2026-11-24T22:39:23Z (paused_by_operator); its events wait until `datasync targets resume`",
        )
        .await;
    }

    #[tokio::test]
    async fn what_the_function_cannot_do_is_said() {
        let ended =
            printed("pause", Err(r#"{"errorType":"x","errorMessage":"the target's breaker: try again"}"#));
        assert_eq!(
            ended.await.unwrap_err().to_string(),
            "the function says: the target's breaker: try again"
        );
        assert!(matches!(printed("pause", Ok("{}")).await, Err(Error::Call(call::Error::Answer))));
        assert!(matches!(
            printed("pause", Ok(r#"{"state":"half","applied":true}"#)).await,
            Err(Error::Call(call::Error::Answer))
        ));
    }
}
