//! Opens databases: secret, connection, reader; once more with the secret read anew where the login is refused.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use sync_config::SyncConfig;
use sync_domain::config::{Model, Postgres, Source};
use sync_domain::id::ModelId;
use sync_domain::ports::{self, Secrets};
use sync_sources::postgres::snapshot::Snapshot;
use sync_sources::postgres::{self, Opening};
use sync_sources::{Error, Keys, Kind, Page, Reader, Result};
use zeroize::Zeroizing;

/// By what code a source says that it refuses the login.
const REFUSED_LOGIN: &str = "authentication_failed";
/// Rows of a chunk of a backfill.
const CHUNK_ROWS: u32 = 1_000;

/// Opens readers, on the function's one thread. A session lives as long as its run: one that sleeps between two
/// invocations would be found dead.
#[async_trait(?Send)]
pub trait Open {
    /// A reader of the source's changes.
    async fn reader(&self, source: &Source) -> Result<Box<dyn Reader>>;

    /// A reader of a model's rows, of those alone for which a condition in SQL holds, in the history of the live reader's
    /// cursor.
    async fn chunks(
        &self,
        source: &Source,
        model: &ModelId,
        condition: Option<&str>,
        cursor: &str,
    ) -> Result<Box<dyn Chunks>>;
}

/// The rows of a table in key order.
#[async_trait]
pub trait Chunks: Send {
    /// The next rows behind a position (none: the first), as snapshots under an epoch; none at the end.
    async fn chunk(&mut self, position: Option<&str>, epoch: u32) -> Result<Option<Page>>;

    /// The keys of all rows that there are behind a position (none: the first); none at the end.
    async fn keys(&mut self, position: Option<&str>) -> Result<Option<Keys>>;
}

/// The real databases.
pub struct Databases {
    config: SyncConfig,
    secrets: Arc<dyn Secrets>,
    /// Where the configuration stands: certificates are files beside it.
    directory: PathBuf,
    allow_loopback: bool,
}

impl Databases {
    /// The databases of a configuration; their secrets are read when first needed.
    pub fn new(
        config: SyncConfig,
        secrets: Arc<dyn Secrets>,
        directory: PathBuf,
        allow_loopback: bool,
    ) -> Self {
        Self { config, secrets, directory, allow_loopback }
    }

    /// Opens with the secret as it is known, and once more with a fresh one if the login is refused: it may be changing.
    async fn with_secret<T>(
        &self,
        postgres: &Postgres,
        open: impl AsyncFn(Zeroizing<String>) -> Result<T>,
    ) -> Result<T> {
        let name = postgres.url_secret.as_str();
        let url = self.secrets.get(name).await.map_err(|error| no_secret(name, &error))?;
        match open(url.clone()).await {
            Err(refused) if refused.code == REFUSED_LOGIN => {
                let fresh = self.secrets.refresh(name).await.map_err(|error| no_secret(name, &error))?;
                // The same login would get the same answer, and count against the role.
                if fresh == url { Err(refused) } else { open(fresh).await }
            }
            opened => opened,
        }
    }

    fn root_certificates(&self, postgres: &Postgres) -> Result<Option<Vec<u8>>> {
        let Some(name) = &postgres.root_certificates else { return Ok(None) };
        let read = std::fs::read(self.directory.join(name));
        read.map(Some).map_err(|_| Error {
            kind: Kind::Misconfigured,
            code: "root_certificates",
            place: "postgres.root_certificates".into(),
            remedy: "the file is not there: put it below the configuration directory".into(),
        })
    }

    fn models(&self, postgres: &Postgres) -> Vec<&Model> {
        postgres.tables.values().filter_map(|table| self.config.model(table.model())).collect()
    }
}

impl Databases {
    fn opening<'a>(
        &self,
        source: &'a Source,
        postgres: &'a Postgres,
        models: &'a [&'a Model],
        url: Zeroizing<String>,
        root_certificates: Option<Vec<u8>>,
    ) -> Opening<'a> {
        let source = &source.source;
        Opening { source, postgres, models, url, root_certificates, allow_loopback: self.allow_loopback }
    }
}

fn no_secret(name: &str, error: &ports::Error) -> Error {
    let kind = if error.kind == ports::Kind::Refused { Kind::Misconfigured } else { Kind::Unavailable };
    let remedy = format!("it cannot be read ({}): create it, or let the function read it", error.code);
    Error { kind, code: "no_secret", place: format!("secret {name}"), remedy }
}

fn not_read(source: &Source) -> Error {
    Error {
        kind: Kind::Misconfigured,
        code: "not_read",
        place: format!("source {}", source.source),
        remedy: "it names no database: correct its file, or the schedule".into(),
    }
}

#[async_trait(?Send)]
impl Open for Databases {
    async fn reader(&self, source: &Source) -> Result<Box<dyn Reader>> {
        let postgres = source.postgres.as_ref().ok_or_else(|| not_read(source))?;
        let (models, roots) = (self.models(postgres), self.root_certificates(postgres)?);
        self.with_secret(postgres, async |url| {
            postgres::open(self.opening(source, postgres, &models, url, roots.clone())).await
        })
        .await
    }

    async fn chunks(
        &self,
        source: &Source,
        model: &ModelId,
        condition: Option<&str>,
        cursor: &str,
    ) -> Result<Box<dyn Chunks>> {
        let postgres = source.postgres.as_ref().ok_or_else(|| not_read(source))?;
        let (models, roots) = (self.models(postgres), self.root_certificates(postgres)?);
        let chunks = self.with_secret(postgres, async |url| {
            let opening = self.opening(source, postgres, &models, url, roots.clone());
            postgres::chunks(opening, model, condition, cursor, CHUNK_ROWS).await
        });
        Ok(Box::new(chunks.await?))
    }
}

#[async_trait]
impl Chunks for Snapshot {
    async fn chunk(&mut self, position: Option<&str>, epoch: u32) -> Result<Option<Page>> {
        Snapshot::chunk(self, position, epoch).await
    }

    async fn keys(&mut self, position: Option<&str>) -> Result<Option<Keys>> {
        Snapshot::keys(self, position).await
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use sync_config::ConfigFile;
    use sync_testkit::MemorySecrets;

    use super::*;

    const SECRET: &str = "datasync/source/crm-db";

    fn databases(secrets: &MemorySecrets) -> (Databases, Source) {
        let files = [
            ConfigFile::new(
                "models/customer.yaml",
                "model: customer\nkey: [id]\nattributes: { id: { class: identifier } }\n",
            ),
            ConfigFile::new(
                "sources/crm-db.yaml",
                format!(
                    "source: crm-db\npostgres: {{ url_secret: {SECRET}, mode: log, tables: {{ public.customer: customer }} }}\n"
                ),
            ),
        ];
        let config = SyncConfig::parse(&files).unwrap();
        let source = config.sources().next().unwrap().clone();
        (Databases::new(config, Arc::new(secrets.clone()), PathBuf::new(), false), source)
    }

    fn refused() -> Error {
        Error {
            kind: Kind::Misconfigured,
            code: REFUSED_LOGIN,
            place: "the login".into(),
            remedy: "renew the secret".into(),
        }
    }

    /// Tries with each secret once; the one that the database takes opens.
    async fn tried(databases: &Databases, source: &Source, taken: &str) -> (Result<()>, Vec<String>) {
        let tried = RefCell::new(Vec::new());
        let opened = databases
            .with_secret(source.postgres.as_ref().unwrap(), async |url| {
                tried.borrow_mut().push(url.to_string());
                if url.as_str() == taken { Ok(()) } else { Err(refused()) }
            })
            .await;
        (opened, tried.into_inner())
    }

    #[tokio::test]
    async fn a_rotated_secret_is_read_again_when_the_login_is_refused() {
        let secrets = MemorySecrets::new().with(SECRET, "old");
        let (databases, source) = databases(&secrets);
        assert_eq!(tried(&databases, &source, "old").await, (Ok(()), vec!["old".to_owned()]));
        secrets.set(SECRET, "new");
        let (opened, with) = tried(&databases, &source, "new").await;
        assert_eq!((opened, with), (Ok(()), vec!["old".to_owned(), "new".to_owned()]));
        assert_eq!(tried(&databases, &source, "new").await.1, ["new"], "and is known from then on");
    }

    #[tokio::test]
    async fn a_secret_that_has_not_changed_is_not_tried_twice() {
        let secrets = MemorySecrets::new().with(SECRET, "old");
        let (databases, source) = databases(&secrets);
        let (opened, with) = tried(&databases, &source, "other").await;
        assert_eq!((opened, with), (Err(refused()), vec!["old".to_owned()]));
    }

    #[tokio::test]
    async fn a_secret_that_is_not_there_names_itself_and_the_remedy() {
        let (databases, source) = databases(&MemorySecrets::new());
        let error = tried(&databases, &source, "").await.0.unwrap_err();
        assert_eq!((error.kind, error.code), (Kind::Misconfigured, "no_secret"));
        assert!(error.to_string().contains(SECRET));
    }
}
