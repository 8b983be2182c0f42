//! What the endpoint needs: its configuration, compiled, and its ports.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::SystemTime;

use sync_aws::clients::Clients;
use sync_aws::dynamodb::DynamoReceipts;
use sync_aws::kms::KmsKeys;
use sync_aws::secrets::SecretsManager;
use sync_aws::sqs::SqsQueue;
use sync_config::SyncConfig;
use sync_domain::config::{Model, Source};
use sync_domain::policy::{self, CompiledPolicy};
use sync_domain::ports::{self, HashKey, KeyService, Queue, Receipts, Secrets};
use sync_domain::protect::IdHasher;
use sync_lambda::settings::Lookup;
use sync_lambda::start;
use tokio::sync::OnceCell;

use crate::settings::Settings;

/// The one version of the root of record ids: it never changes.
const ID_KEY_VERSION: u32 = 1;

/// The outside of the function.
pub struct Deps {
    /// The sources by name.
    pub sources: BTreeMap<String, Source>,
    /// The policies by model.
    pub models: BTreeMap<String, CompiledPolicy>,
    /// Makes the root of record ids, once.
    pub keys: Arc<dyn KeyService>,
    /// The secrets that sources sign with.
    pub secrets: Arc<dyn Secrets>,
    /// The requests of sources without versions.
    pub receipts: Arc<dyn Receipts>,
    /// The Changes queue.
    pub queue: Arc<dyn Queue>,
    /// The clock.
    pub now: Box<dyn Fn() -> SystemTime + Send + Sync>,
    /// The hasher, once its root is there.
    pub hasher: OnceCell<IdHasher>,
}

impl Deps {
    /// The real ones, from the environment and the configuration files. Nothing here touches the network.
    pub fn from_env(lookup: &dyn Lookup) -> Result<Self, start::Error> {
        let settings = Settings::read(lookup)?;
        let config = sync_lambda::config::load(lookup)?;
        let clients = Clients::from_env(|name| lookup.get(name));
        Ok(Self {
            sources: sources(&config),
            models: models(&config).map_err(|errors| joined(&errors))?,
            keys: Arc::new(KmsKeys::new(clients.kms()).with_hash_key(HashKey::Id, settings.id_key_arn)),
            secrets: Arc::new(SecretsManager::new(clients.secrets_manager())),
            receipts: Arc::new(DynamoReceipts::new(clients.dynamodb(), settings.receipt_table)),
            queue: Arc::new(SqsQueue::new(clients.sqs(), settings.changes_queue_url)),
            now: Box::new(SystemTime::now),
            hasher: OnceCell::new(),
        })
    }

    /// The hasher of record ids; its root is read with the first request, so that the start waits for no network.
    pub async fn hasher(&self) -> ports::Result<&IdHasher> {
        let make =
            async || self.keys.hash_root(HashKey::Id, ID_KEY_VERSION).await.map(|root| IdHasher::new(&root));
        self.hasher.get_or_try_init(make).await
    }

    /// Microseconds since 1970.
    pub fn now_us(&self) -> i64 {
        let since = (self.now)().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    }
}

/// The push sources of a configuration by name.
pub fn sources(config: &SyncConfig) -> BTreeMap<String, Source> {
    let push = config.sources().filter(|source| source.push.is_some());
    push.map(|source| (source.source.as_str().to_owned(), source.clone())).collect()
}

/// The policies of a configuration by model, or the first broken one's errors.
pub fn models(config: &SyncConfig) -> Result<BTreeMap<String, CompiledPolicy>, Vec<policy::Error>> {
    let compile = |model: &Model| {
        let version = config.policy_version(&model.model).unwrap_or_default();
        Ok((model.model.as_str().to_owned(), CompiledPolicy::compile(model, version)?))
    };
    config.models().map(compile).collect()
}

/// All errors as one: they name files, paths and remedies, never values.
fn joined(errors: &[impl Display]) -> start::Error {
    let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
    lines.join("; ").into()
}
