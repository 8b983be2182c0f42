//! What the function needs: its table's source and model, and its ports.

use std::sync::Arc;
use std::time::SystemTime;

use sync_aws::clients::Clients;
use sync_aws::dynamodb::{DynamoCheckpoints, DynamoItems};
use sync_aws::eventbridge::EventBridgeBus;
use sync_aws::kms::KmsKeys;
use sync_aws::s3::S3DeadLetters;
use sync_aws::sqs::SqsQueue;
use sync_config::SyncConfig;
use sync_domain::config::TtlDeletes;
use sync_domain::id::SourceId;
use sync_domain::policy::CompiledPolicy;
use sync_domain::ports::{Checkpoints, DeadLetterStore, FailureBus, HashKey, ItemTable, Queue};
use sync_lambda::record_ids::RecordIds;
use sync_lambda::settings::Lookup;
use sync_lambda::start;

use crate::settings::Settings;

/// The table whose stream is read.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// The source that it is.
    pub source: SourceId,
    /// The origin of what DynamoDB deletes itself; a source's name holds no dot.
    pub ttl_origin: String,
    /// What becomes of those deletes.
    pub ttl_deletes: TtlDeletes,
    /// Stands in front of every version.
    pub epoch: u32,
    /// The attributes of its model's key.
    pub key: Vec<String>,
    /// The policy of its items' model.
    pub policy: CompiledPolicy,
}

impl Table {
    /// The table of a source.
    pub fn of(source: &SourceId, config: &SyncConfig) -> Result<Self, start::Error> {
        let named = config.sources().find(|known| known.source == *source);
        let Some(dynamodb) = named.and_then(|named| named.dynamodb.as_ref()) else {
            return Err(format!("sources/{source}.yaml with `dynamodb` is needed: SOURCE names it").into());
        };
        let mut policies = sync_lambda::config::policies(config)?;
        let model = &dynamodb.model;
        let missing = || format!("models/{model}.yaml is missing");
        let policy = policies.remove(model).ok_or_else(missing)?;
        Ok(Self {
            name: dynamodb.table.clone(),
            source: source.clone(),
            ttl_origin: format!("{source}.ttl"),
            ttl_deletes: dynamodb.ttl_deletes,
            epoch: dynamodb.epoch,
            key: config.model(model).ok_or_else(missing)?.key.clone(),
            policy,
        })
    }
}

/// The outside of the function.
pub struct Deps {
    /// The table.
    pub table: Table,
    /// Makes record ids.
    pub ids: RecordIds,
    /// The Changes queue.
    pub queue: Arc<dyn Queue>,
    /// Where records go that cannot go on.
    pub dead_letters: Arc<dyn DeadLetterStore>,
    /// Who hears of them.
    pub bus: Arc<dyn FailureBus>,
    /// The items that the table holds, for a backfill.
    pub items: Arc<dyn ItemTable>,
    /// How far each backfill is.
    pub checkpoints: Arc<dyn Checkpoints>,
    /// The clock.
    pub now: Box<dyn Fn() -> SystemTime + Send + Sync>,
}

impl Deps {
    /// The real ones, from the environment and the configuration files. Nothing here touches the network.
    pub fn of_aws(lookup: &dyn Lookup) -> Result<Self, start::Error> {
        let settings = Settings::read(lookup)?;
        let config = sync_lambda::config::load(lookup)?;
        let clients = Clients::from_env(|name| lookup.get(name));
        let table = Table::of(&settings.source, &config)?;
        Ok(Self {
            items: Arc::new(DynamoItems::new(clients.dynamodb(), table.name.as_str())),
            checkpoints: Arc::new(DynamoCheckpoints::new(clients.dynamodb(), settings.checkpoint_table)),
            now: Box::new(SystemTime::now),
            table,
            ids: RecordIds::new(Arc::new(
                KmsKeys::new(clients.kms()).with_hash_key(HashKey::Id, settings.id_key_arn),
            )),
            queue: Arc::new(SqsQueue::new(clients.sqs(), settings.changes_queue_url)),
            dead_letters: Arc::new(S3DeadLetters::new(clients.s3(), settings.dead_letter_bucket)),
            bus: Arc::new(EventBridgeBus::new(clients.eventbridge(), settings.failure_bus)),
        })
    }
}
