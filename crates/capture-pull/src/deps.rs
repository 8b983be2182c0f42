//! What the function needs: its configuration, compiled, and its ports.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sync_aws::clients::Clients;
use sync_aws::dynamodb::DynamoCheckpoints;
use sync_aws::eventbridge::EventBridgeBus;
use sync_aws::kms::KmsKeys;
use sync_aws::secrets::SecretsManager;
use sync_aws::sqs::SqsQueue;
use sync_domain::config::Source;
use sync_domain::id::{ModelId, SourceId};
use sync_domain::policy::CompiledPolicy;
use sync_domain::ports::{Checkpoints, FailureBus, HashKey, Queue};
use sync_lambda::record_ids::RecordIds;
use sync_lambda::settings::Lookup;
use sync_lambda::start;

use crate::open::{Databases, Open};
use crate::settings::Settings;

/// The outside of the function.
pub struct Deps {
    /// The sources that are read, by name.
    pub sources: BTreeMap<SourceId, Source>,
    /// The policies by model.
    pub policies: BTreeMap<ModelId, CompiledPolicy>,
    /// Opens readers of sources.
    pub open: Box<dyn Open>,
    /// Makes record ids.
    pub ids: RecordIds,
    /// How far each source has been read.
    pub checkpoints: Arc<dyn Checkpoints>,
    /// The dead-letter queue of Changes, for rows whose table does not fit their model.
    pub dead_letters: Arc<dyn Queue>,
    /// The Changes queue.
    pub queue: Arc<dyn Queue>,
    /// Where failures are reported.
    pub bus: Arc<dyn FailureBus>,
    /// How long a run begins new polls.
    pub run_for: Duration,
    /// The clock.
    pub now: Box<dyn Fn() -> SystemTime + Send + Sync>,
}

impl Deps {
    /// The real ones, from the environment and the configuration files. Nothing here touches the network.
    pub fn from_env(lookup: &dyn Lookup) -> Result<Self, start::Error> {
        let settings = Settings::read(lookup)?;
        let config = sync_lambda::config::load(lookup)?;
        let policies = sync_lambda::config::policies(&config)?;
        let clients = Clients::from_env(|name| lookup.get(name));
        let read = config.sources().filter(|source| source.postgres.is_some());
        let sources = read.map(|source| (source.source.clone(), source.clone())).collect();
        let secrets = Arc::new(SecretsManager::new(clients.secrets_manager()));
        let directory = sync_lambda::config::dir(lookup)?;
        Ok(Self {
            sources,
            policies,
            open: Box::new(Databases::new(config, secrets, directory, settings.allow_loopback)),
            ids: RecordIds::new(Arc::new(
                KmsKeys::new(clients.kms()).with_hash_key(HashKey::Id, settings.id_key_arn),
            )),
            checkpoints: Arc::new(DynamoCheckpoints::new(clients.dynamodb(), settings.checkpoint_table)),
            dead_letters: Arc::new(SqsQueue::new(clients.sqs(), settings.dead_letter_queue_url)),
            queue: Arc::new(SqsQueue::new(clients.sqs(), settings.changes_queue_url)),
            bus: Arc::new(EventBridgeBus::new(clients.eventbridge(), settings.failure_bus)),
            run_for: settings.run_for,
            now: Box::new(SystemTime::now),
        })
    }
}
