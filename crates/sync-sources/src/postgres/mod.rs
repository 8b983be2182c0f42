//! PostgreSQL.

mod connect;
mod horizon;
mod keyset;
mod known_keys;
pub mod log;
pub mod pgoutput;
mod schema;
pub mod snapshot;
pub mod sql;
pub mod timestamp;
pub mod trigger;
pub mod value;

use sync_domain::config::{Model, Postgres, PullMode};
use sync_domain::id::{ModelId, SourceId};
use zeroize::Zeroizing;

pub use self::connect::{Access, Identity, Purpose, Session};
pub use self::schema::{Column, Misfit, Shape, Table, Types, Wanted, tables};
use self::snapshot::Snapshot;
use crate::{Error, Kind, Reader, Result};

/// All that is needed to read a source.
pub struct Opening<'a> {
    /// The source.
    pub source: &'a SourceId,
    /// Its file.
    pub postgres: &'a Postgres,
    /// The models of its tables.
    pub models: &'a [&'a Model],
    /// What the secret holds.
    pub url: Zeroizing<String>,
    /// What `root_certificates` names.
    pub root_certificates: Option<Vec<u8>>,
    /// Whether the database may be on this machine.
    pub allow_loopback: bool,
}

/// Logs in and gives the reader of the source's mode.
///
/// # Errors
/// `authentication_failed` when the server refuses the role or its password: the secret may have been rotated.
pub async fn open(opening: Opening<'_>) -> Result<Box<dyn Reader>> {
    let tables = wanted(opening.postgres, opening.models)?;
    let source = opening.source.clone();
    let (mode, slot, publication) =
        (opening.postgres.mode, opening.postgres.slot_of(&source), opening.postgres.publication_of(&source));
    let access = opening.access();
    let compares =
        |table: &Wanted| table.reading.as_ref().is_some_and(|reading| reading.compare_keys.is_some());
    let purpose = match mode {
        PullMode::Log => Purpose::Read,
        PullMode::Trigger => Purpose::Write,
        PullMode::Timestamp if tables.iter().any(compares) => Purpose::Write,
        PullMode::Timestamp => Purpose::Read,
    };
    let session = access.open(purpose).await?;
    Ok(match mode {
        PullMode::Log => {
            let settings = log::Settings { access, slot, publication, tables };
            Box::new(log::Log::new(settings, session))
        }
        PullMode::Trigger => {
            let reader = source.as_str().to_owned();
            Box::new(trigger::Trigger::new(session, source, reader, tables))
        }
        PullMode::Timestamp => Box::new(timestamp::Timestamp::new(session, source, tables)),
    })
}

/// Logs in to read a model's rows that are there already, chunk by chunk of `rows`; `condition` is SQL over the columns,
/// `cursor` the live reader's.
pub async fn chunks(
    opening: Opening<'_>,
    model: &ModelId,
    condition: Option<&str>,
    cursor: &str,
    rows: u32,
) -> Result<Snapshot> {
    let (source, mode) = (opening.source.clone(), opening.postgres.mode);
    let mut tables = wanted(opening.postgres, opening.models)?;
    tables.retain(|table| table.model == *model);
    let Some(table) = tables.pop() else {
        return Err(Error {
            kind: Kind::Misconfigured,
            code: "no_table",
            place: format!("source {source}, model {model}"),
            remedy: "the source reads no table for the model: correct the source's file".into(),
        });
    };
    let history = Identity::of_cursor(cursor)?;
    let session = opening.access().open(Purpose::Write).await?;
    Ok(Snapshot::new(session, source, mode, table, condition.map(str::to_owned), rows, history))
}

/// The SQL that an administrator runs before a source is read by `role`; it may be run again.
pub fn setup(source: &SourceId, postgres: &Postgres, models: &[&Model], role: &str) -> Result<String> {
    let tables = wanted(postgres, models)?;
    Ok(match postgres.mode {
        PullMode::Log => log::sql::install(
            source,
            &postgres.slot_of(source),
            &postgres.publication_of(source),
            &tables,
            role,
        ),
        mode @ (PullMode::Trigger | PullMode::Timestamp) => sql::install(source, mode, &tables, role),
    })
}

/// The SQL that an administrator runs when a source is no longer read: it takes away what [`setup`] has made, without which
/// the server would keep its log, or the shadow table grow, for ever.
pub fn teardown(source: &SourceId, postgres: &Postgres, models: &[&Model]) -> Result<String> {
    Ok(match postgres.mode {
        PullMode::Log => {
            log::sql::remove(source, &postgres.slot_of(source), &postgres.publication_of(source))
        }
        mode @ (PullMode::Trigger | PullMode::Timestamp) => {
            sql::remove(source, mode, &wanted(postgres, models)?)
        }
    })
}

/// What the models take of the source's tables.
pub fn wanted(postgres: &Postgres, models: &[&Model]) -> Result<Vec<Wanted>> {
    let one = |(name, table): (&String, &sync_domain::config::Table)| {
        let model = models.iter().find(|model| model.model == *table.model());
        model.map(|model| Wanted::new(name, table, model)).ok_or_else(|| Error {
            kind: Kind::Misconfigured,
            code: "no_model",
            place: format!("table {name}"),
            remedy: format!("there is no model `{}`: correct the source's file", table.model()),
        })
    };
    postgres.tables.iter().map(one).collect()
}

impl Opening<'_> {
    fn access(self) -> Access {
        Access {
            url: self.url,
            root_certificates: self.root_certificates,
            allow_loopback: self.allow_loopback,
            application_name: format!("datasync {}", self.source),
        }
    }
}
