//! `datasync pull`, `backfill` and `resync`: what is asked of the function that reads a source. No password of a database
//! comes to this machine, and no way to its network is needed: the caller needs `lambda:InvokeFunction` on that function.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use sync_aws::clients::Clients;
use sync_aws::lambda::{Invoke, LambdaFunction};
use sync_domain::id::{ModelId, SourceId, TargetId};
use sync_lambda::backfill::{Progress, State};
use sync_lambda::settings::ProcessEnv;

use crate::call::{self, call, runtime};
use crate::outputs::{self, Outputs};
use crate::sweep::{self, Parts, Places};
use crate::template::logical_name;

/// The pause before something that waits is asked for again.
pub(crate) const PAUSE: Duration = Duration::from_secs(5);
/// How often in a row something may say that it waits: five minutes.
pub(crate) const WAITS: u32 = 60;

/// Where the function of a source is.
#[derive(Debug, Clone, Args)]
pub struct Function {
    /// The function that reads the source; else CAPTURE_PULL_FUNCTION or the stack's output `CapturePull<Source>Name`,
    /// of a DynamoDB table `CaptureStream<Source>Name`.
    #[arg(long)]
    pub function: Option<String>,
    /// A file with the stack's outputs, as `sam list stack-outputs --output json` prints them.
    #[arg(long)]
    pub outputs: Option<PathBuf>,
}

/// Looks at a source, or lets one that is stopped go on.
#[derive(Debug, Args)]
pub struct Pull {
    #[command(subcommand)]
    /// What to do.
    pub action: Action,
}

/// What to do with a source.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Says how the source stands.
    Status {
        /// The source, as its file is named.
        source: SourceId,
        #[command(flatten)]
        /// Its function.
        function: Function,
    },
    /// Lets a stopped source be read on behind its cursor: only where nothing was lost after all. Otherwise: resync.
    Resume {
        /// The source, as its file is named.
        source: SourceId,
        #[command(flatten)]
        /// Its function.
        function: Function,
    },
}

/// Reads the rows of a model that are there already and sends them as snapshots, beside live capture.
#[derive(Debug, Args)]
pub struct Backfill {
    /// The source, as its file is named.
    pub source: SourceId,
    /// The model.
    pub model: ModelId,
    /// The name of the run; name it again to go on with one that was broken off. A new one without it.
    #[arg(long)]
    pub run: Option<String>,
    /// Only rows for which this holds: SQL over the table's columns. Not of a DynamoDB table, which is read as a whole.
    #[arg(long = "where")]
    pub condition: Option<String>,
    /// Only for this target.
    #[arg(long)]
    pub target: Option<TargetId>,
    /// Lets the run rest, wherever it is driven from.
    #[arg(long, requires = "run", conflicts_with_all = ["resume", "progress"])]
    pub pause: bool,
    /// Lets a paused run go on.
    #[arg(long, requires = "run", conflicts_with = "progress")]
    pub resume: bool,
    /// Says how far the run is.
    #[arg(long, requires = "run")]
    pub progress: bool,
    #[command(flatten)]
    /// Its function.
    pub function: Function,
}

/// Begins a source anew: raises its epoch, forgets its cursor, backfills all its models, deletes what is gone.
#[derive(Debug, Args)]
pub struct Resync {
    /// The source, as its file is named.
    pub source: SourceId,
    /// Leaves at the targets what the source has no more, for `datasync sweep`.
    #[arg(long)]
    pub keep: bool,
    #[command(flatten)]
    /// Where its function, the ledger and the topic are.
    pub places: Places,
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
    /// The runtime for the calls cannot be made, or nothing can be written.
    #[error("cannot call or write")]
    Shell(#[from] std::io::Error),
    /// It waits for too long.
    #[error(
        "the source is not read yet, or a transaction in its database has been open for five minutes; see its log and go on with --run {0}"
    )]
    Waits(String),
    /// The source stopped.
    #[error("the source is stopped ({0}); see docs/OPERATIONS.md")]
    Stopped(String),
}

/// The request, as the function reads it (`capture_pull::payload`).
#[derive(Debug, Serialize)]
struct Request<'a> {
    source: &'a SourceId,
    #[serde(skip_serializing_if = "Option::is_none")]
    work: Option<Work<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_for: Option<&'a str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Work<'a> {
    Backfill {
        model: &'a ModelId,
        run: &'a str,
        #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
        condition: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        target: Option<&'a TargetId>,
    },
    PauseBackfill {
        model: &'a ModelId,
        run: &'a str,
    },
    ResumeBackfill {
        model: &'a ModelId,
        run: &'a str,
    },
    BackfillStatus {
        model: &'a ModelId,
        run: &'a str,
    },
    RecordIds {
        model: &'a ModelId,
        run: &'a str,
        part: u64,
    },
    Status,
    Resume,
    Resync,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Status {
    read: bool,
    stopped: Option<String>,
    held: bool,
    pub(crate) epoch: u32,
    revision: u64,
}

#[derive(Debug, Deserialize)]
struct Run {
    ended: String,
}

pub(crate) fn pull(command: &Pull, out: &mut dyn Write) -> Result<(), Error> {
    let (source, function, work) = match &command.action {
        Action::Status { source, function } => (source, function, Work::Status),
        Action::Resume { source, function } => (source, function, Work::Resume),
    };
    with_function(source, function, async |function| {
        let status: Status = ask(function, source, Some(work)).await?;
        print(&status, out)
    })
}

pub(crate) fn backfill(command: &Backfill, out: &mut dyn Write) -> Result<(), Error> {
    with_function(&command.source, &command.function, async |function| {
        backfill_with(function, command, out).await
    })
}

pub(crate) fn resync(command: &Resync, out: &mut dyn Write) -> Result<(), crate::Error> {
    let source = &command.source;
    if command.keep {
        let models = sweep::policies(source, &command.places.config)?.into_keys().collect::<Vec<_>>();
        return Ok(with_function(source, &command.places.function, async |function| {
            begin_anew(function, source, &models, out).await
        })?);
    }
    runtime()?.block_on(async {
        let parts = Parts::open(source, &command.places).await?;
        Ok(sweep::resync(&parts, source, out).await.map(drop)?)
    })
}

fn with_function(
    source: &SourceId,
    function: &Function,
    work: impl AsyncFnOnce(&dyn Invoke) -> Result<(), Error>,
) -> Result<(), Error> {
    let name = function.name(source, &Outputs::read(function.outputs.as_deref())?)?;
    runtime()?.block_on(async {
        let function = LambdaFunction::new(Clients::from_profile().await.lambda(), name);
        work(&function).await
    })
}

impl Function {
    /// Its name.
    pub(crate) fn name(&self, source: &SourceId, outputs: &Outputs) -> Result<String, outputs::Error> {
        let output = output(outputs, source);
        outputs.setting(&ProcessEnv, self.function.as_deref(), "--function", "CAPTURE_PULL_FUNCTION", &output)
    }
}

/// The output that names a source's function.
fn output(outputs: &Outputs, source: &SourceId) -> String {
    let source = logical_name(source.as_str());
    let of_stream = format!("CaptureStream{source}Name");
    if outputs.has(&of_stream) { of_stream } else { format!("CapturePull{source}Name") }
}

async fn backfill_with(function: &dyn Invoke, command: &Backfill, out: &mut dyn Write) -> Result<(), Error> {
    let (source, model) = (&command.source, &command.model);
    let run = command.run.clone().unwrap_or_else(new_run);
    let other = match (command.pause, command.progress) {
        (true, _) => Some(Work::PauseBackfill { model, run: &run }),
        (_, true) => Some(Work::BackfillStatus { model, run: &run }),
        _ => None,
    };
    if let Some(work) = other {
        let progress: Progress = ask(function, source, Some(work)).await?;
        return Ok(say(&progress, model, &run, out)?);
    }
    if command.resume {
        let _: Progress = ask(function, source, Some(Work::ResumeBackfill { model, run: &run })).await?;
    }
    let (condition, target) = (command.condition.as_deref(), command.target.as_ref());
    drive(function, source, model, &run, condition, target, out).await
}

/// Asks for one share after the other until every row was sent.
async fn drive(
    function: &dyn Invoke,
    source: &SourceId,
    model: &ModelId,
    run: &str,
    condition: Option<&str>,
    target: Option<&TargetId>,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let mut waits = 0;
    loop {
        let work = Work::Backfill { model, run, condition, target };
        let progress: Progress = ask(function, source, Some(work)).await?;
        say(&progress, model, run, out)?;
        match progress.state {
            State::Done | State::Paused => return Ok(()),
            State::Running => waits = 0,
            State::Waiting | State::Busy if waits == WAITS => return Err(Error::Waits(run.to_owned())),
            State::Waiting | State::Busy => {
                waits += 1;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// New epoch, first poll of it, then the rows.
pub(crate) async fn begin_anew(
    function: &dyn Invoke,
    source: &SourceId,
    models: &[ModelId],
    out: &mut dyn Write,
) -> Result<(), Error> {
    let status: Status = ask(function, source, Some(Work::Resync)).await?;
    writeln!(out, "{source}: epoch {}; what was read before counts as older", status.epoch)?;
    begin(function, source).await?;
    let run = new_run();
    for model in models {
        drive(function, source, model, &run, None, None, out).await?;
    }
    writeln!(out, "{source}: every row was sent again")?;
    Ok(())
}

/// Lets live capture begin: a backfill before that could miss what is written between the two.
async fn begin(function: &dyn Invoke, source: &SourceId) -> Result<(), Error> {
    for _ in 0..WAITS {
        // The schedule may be off, or its run may hold the lease: then that one does it.
        let run: Run = send(function, &Request { source, work: None, run_for: Some("0s") }).await?;
        let status: Status = ask(function, source, Some(Work::Status)).await?;
        if let Some(code) = status.stopped {
            return Err(Error::Stopped(code));
        }
        if status.read {
            return Ok(());
        }
        if run.ended != "done" {
            tokio::time::sleep(PAUSE).await;
        }
    }
    Err(Error::Waits(new_run()))
}

pub(crate) async fn ask<T: for<'de> Deserialize<'de>>(
    function: &dyn Invoke,
    source: &SourceId,
    work: Option<Work<'_>>,
) -> Result<T, Error> {
    send(function, &Request { source, work, run_for: None }).await
}

async fn send<T: for<'de> Deserialize<'de>>(
    function: &dyn Invoke,
    request: &Request<'_>,
) -> Result<T, Error> {
    let request = serde_json::to_string(request).map_err(|_| call::Error::Answer)?;
    Ok(call(function, &request).await?)
}

fn say(progress: &Progress, model: &ModelId, run: &str, out: &mut dyn Write) -> std::io::Result<()> {
    let state = match progress.state {
        State::Running => "running",
        State::Waiting => "waiting until the source has been read once and nothing older is under way",
        State::Busy => "busy: somebody else asks for it too",
        State::Paused => "paused; go on with --resume",
        State::Done => "done",
    };
    let Progress { rows, refused, .. } = progress;
    let tickets = if *refused == 0 { String::new() } else { format!(", {refused} with a ticket") };
    writeln!(out, "{model}, run {run}: {rows} rows{tickets}: {state}")
}

fn print(status: &Status, out: &mut dyn Write) -> Result<(), Error> {
    let Status { read, stopped, held, epoch, revision } = status;
    let state = match (stopped, held, read) {
        (Some(code), ..) => format!("stopped ({code})"),
        (None, true, _) => "being read".to_owned(),
        (None, false, true) => "between two runs".to_owned(),
        (None, false, false) => "not read yet".to_owned(),
    };
    Ok(writeln!(out, "{state}; epoch {epoch}, checkpoint moved {revision} times")?)
}

/// A name that no other run has, unless two begin in one second.
pub(crate) fn new_run() -> String {
    format!("run-{}", now())
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests;
