//! What the endpoint needs: its configuration, compiled, and its ports.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use sync_aws::clients::Clients;
use sync_aws::dynamodb::DynamoReceipts;
use sync_aws::kms::KmsKeys;
use sync_aws::secrets::SecretsManager;
use sync_aws::sqs::SqsQueue;
use sync_config::SyncConfig;
use sync_domain::config::Source;
use sync_domain::id::ModelId;
use sync_domain::policy::CompiledPolicy;
use sync_domain::ports::{HashKey, Queue, Receipts, Secrets};
use sync_lambda::record_ids::RecordIds;
use sync_lambda::settings::Lookup;
use sync_lambda::start;

use crate::settings::Settings;

/// The outside of the function.
pub struct Deps {
    /// The sources by name.
    pub sources: BTreeMap<String, Source>,
    /// The policies by model.
    pub models: BTreeMap<ModelId, CompiledPolicy>,
    /// Makes record ids.
    pub ids: RecordIds,
    /// The secrets that sources sign with.
    pub secrets: Arc<dyn Secrets>,
    /// The requests of sources without versions.
    pub receipts: Arc<dyn Receipts>,
    /// The Changes queue.
    pub queue: Arc<dyn Queue>,
    /// The clock.
    pub now: Box<dyn Fn() -> SystemTime + Send + Sync>,
}

impl Deps {
    /// The real ones, from the environment and the configuration files. Nothing here touches the network.
    pub fn from_env(lookup: &dyn Lookup) -> Result<Self, start::Error> {
        let settings = Settings::read(lookup)?;
        let config = sync_lambda::config::load(lookup)?;
        let clients = Clients::from_env(|name| lookup.get(name));
        Ok(Self {
            sources: sources(&config),
            models: sync_lambda::config::policies(&config)?,
            ids: RecordIds::new(Arc::new(
                KmsKeys::new(clients.kms()).with_hash_key(HashKey::Id, settings.id_key_arn),
            )),
            secrets: Arc::new(SecretsManager::new(clients.secrets_manager())),
            receipts: Arc::new(DynamoReceipts::new(clients.dynamodb(), settings.receipt_table)),
            queue: Arc::new(SqsQueue::new(clients.sqs(), settings.changes_queue_url)),
            now: Box::new(SystemTime::now),
        })
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
