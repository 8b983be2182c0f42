//! `datasync sql`: what an administrator runs at the database of a source, once, and again after a change of its tables.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use sync_config::SyncConfig;
use sync_domain::config::Model;
use sync_domain::id::SourceId;
use sync_sources::postgres;

use crate::{DEFAULT_CONFIG, Error, validate};

/// Prints the SQL that makes a database readable.
#[derive(Debug, Args)]
pub struct Sql {
    /// The source, as its file is named.
    pub source: SourceId,
    /// The role that reads: what its URL in Secrets Manager logs in as. It is granted what the mode needs.
    #[arg(long, default_value = "datasync")]
    pub role: String,
    /// Prints what takes all that away again, for a source that is no longer read.
    #[arg(long)]
    pub remove: bool,
    /// The folder with models/, sources/ and targets/.
    #[arg(long, default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
}

pub(crate) fn run(command: &Sql, out: &mut dyn Write) -> Result<(), Error> {
    let no_source = || Error::NoSource(command.source.clone());
    let config = SyncConfig::parse(&validate::read(&command.config)?).map_err(|_| no_source())?;
    let source = config.source(&command.source).ok_or_else(no_source)?;
    let settings = source.postgres.as_ref().ok_or_else(no_source)?;
    let models: Vec<&Model> =
        settings.tables.values().filter_map(|table| config.model(table.model())).collect();
    let sql = match command.remove {
        true => postgres::teardown(&source.source, settings, &models)?,
        false => postgres::setup(&source.source, settings, &models, &command.role)?,
    };
    Ok(writeln!(out, "{}", sql.trim_end())?)
}
