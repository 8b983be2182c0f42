//! What `datasync` does, apart from its process: every command writes to a writer and says how it ended.

mod call;
mod dead_letters;
mod filter_policy;
mod outputs;
mod pull;
mod reveal;
mod sql;
pub mod sweep;
mod targets;
mod template;
mod validate;

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sync_domain::id::{SourceId, TargetId};

pub use self::dead_letters::DeadLetters;
pub use self::pull::{Backfill, Pull, Resync};
pub use self::reveal::Reveal;
pub use self::sql::Sql;
pub use self::sweep::Sweep;
pub use self::targets::Targets;
pub use self::validate::Validate;

/// Checks a configuration before a deploy, sets sources up and reads them anew, opens sealed values.
#[derive(Debug, Parser)]
#[command(name = "datasync", about)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Checks models, sources and targets, and holds template.yaml against them; exit code 1 if something is wrong.
    Validate(Validate),
    /// Opens a sealed value (dse1.…) with your own AWS credentials and prints what was sealed, as JSON.
    Reveal(Reveal),
    /// Prints the entry of a target for the mapping `Targets` in template.yaml.
    FilterPolicy {
        /// The target, as its file is named.
        target: TargetId,
        /// The folder with models/, sources/ and targets/.
        #[arg(long, default_value = DEFAULT_CONFIG)]
        config: PathBuf,
    },
    /// Prints what an administrator runs at a source's database: objects and grants of its mode.
    Sql(Sql),
    /// Looks at a source that is read, or lets a stopped one go on.
    Pull(Pull),
    /// Sends the rows of a model that are there already, as snapshots.
    Backfill(Backfill),
    /// Begins a source anew after its changes were lost: raises its epoch, backfills all its models, sweeps.
    Resync(Resync),
    /// Deletes at the targets what a source that was begun anew has no more.
    Sweep(Sweep),
    /// Looks at the dead letters of one target or stage, sends them back to its queue, or deletes them.
    DeadLetters(DeadLetters),
    /// Says how a target stands, pauses it or resumes it.
    Targets(Targets),
}

const DEFAULT_CONFIG: &str = "infra/layer/sync";

/// Why a command could not do its work. A configuration that is wrong is no such error: it is a result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration's files cannot be read.
    #[error("the configuration cannot be read")]
    Config(#[from] sync_lambda::config::Error),
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The terminal or pipe is gone.
    #[error("cannot write")]
    Write(#[from] io::Error),
    /// There is no such target, or the configuration is wrong.
    #[error("no target {0} in a valid configuration; run datasync validate")]
    NoTarget(TargetId),
    /// There is no such source that is read, or the configuration is wrong.
    #[error("no database source {0} in a valid configuration; run datasync validate")]
    NoSource(SourceId),
    /// The source's file and its models do not fit together.
    #[error("no SQL")]
    Sql(#[from] sync_sources::Error),
    /// The source's function did not do what it was asked for.
    #[error("not done")]
    Pull(#[from] pull::Error),
    /// What the source has no more was not deleted everywhere.
    #[error("not swept")]
    Sweep(#[from] sweep::Error),
    /// Dead letters could not be worked.
    #[error("dead letters")]
    DeadLetters(#[from] dead_letters::Error),
    /// The target's function did not do what it was asked for.
    #[error("not done")]
    Targets(#[from] targets::Error),
    /// A sealed value could not be opened.
    #[error("not opened")]
    Reveal(#[from] reveal::Error),
}

/// Does what the command line asks for.
pub fn run(arguments: &Arguments, input: &mut dyn Read, out: &mut dyn Write) -> Result<ExitCode, Error> {
    match &arguments.command {
        Command::Validate(command) => {
            let sound = validate::run(command, out)?;
            Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Reveal(command) => {
            reveal::run(command, &sync_lambda::settings::ProcessEnv, input, out)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::FilterPolicy { target, config } => {
            filter_policy::run(target, config, out)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Sql(command) => {
            sql::run(command, out)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Pull(command) => {
            pull::pull(command, out)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Backfill(command) => {
            pull::backfill(command, out)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Resync(command) => {
            pull::resync(command, out)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Sweep(command) => {
            sweep::run(command, out)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::DeadLetters(command) => {
            dead_letters::run(command, out)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Targets(command) => {
            targets::run(command, out)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
