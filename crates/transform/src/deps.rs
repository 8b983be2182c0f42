//! What the function needs of the outside.

use std::collections::BTreeMap;
use std::sync::Arc;

use sync_aws::clients::Clients;
use sync_aws::dynamodb::DynamoKeyTable;
use sync_aws::eventbridge::EventBridgeBus;
use sync_aws::kms::KmsKeys;
use sync_aws::sns::SnsTopic;
use sync_aws::sqs::{SqsInbox, SqsQueue};
use sync_domain::config::Source;
use sync_domain::id::{ModelId, SourceId};
use sync_domain::outcome::Stage;
use sync_domain::policy::CompiledPolicy;
use sync_domain::ports::{HashKey, Inbox, Queue, Topic};
use sync_lambda::keyring::Keyring;
use sync_lambda::park::Parker;
use sync_lambda::settings::Lookup;
use sync_lambda::start;

use crate::settings::Settings;

/// The function's ports and rules, made once per cold start.
pub struct Deps {
    /// The policies by model.
    pub policies: BTreeMap<ModelId, CompiledPolicy>,
    /// The sources.
    pub sources: BTreeMap<SourceId, Source>,
    /// The keys.
    pub keyring: Keyring,
    /// The Changes queue, to delete from what is done before the answer says so.
    pub inbox: Arc<dyn Inbox>,
    /// The events topic.
    pub topic: Arc<dyn Topic>,
    /// The Enrichment queue.
    pub enrichment: Arc<dyn Queue>,
    /// Where records go that cannot go on.
    pub parker: Parker,
    /// How often the Changes queue hands out a message.
    pub max_receives: u32,
}

impl Deps {
    /// The real ones.
    pub fn of_aws(lookup: &dyn Lookup) -> Result<Self, start::Error> {
        let settings = Settings::read(lookup)?;
        let config = sync_lambda::config::load(lookup)?;
        let clients = Clients::from_env(|name| lookup.get(name));
        let keys = KmsKeys::new(clients.kms())
            .with_hash_key(HashKey::Token, settings.token_key)
            .with_value_key(settings.value_key);
        let table = DynamoKeyTable::new(clients.dynamodb(), settings.keys_table);
        let dead_letters = Arc::new(SqsQueue::new(clients.sqs(), settings.dead_letter_queue));
        let bus = Arc::new(EventBridgeBus::new(clients.eventbridge(), settings.failure_bus));
        Ok(Self {
            policies: sync_lambda::config::policies(&config)?,
            sources: config.sources().map(|source| (source.source.clone(), source.clone())).collect(),
            keyring: Keyring::new(Arc::new(keys), Arc::new(table), settings.token_key_version),
            inbox: Arc::new(SqsInbox::new(clients.sqs(), settings.queue)),
            topic: Arc::new(SnsTopic::new(clients.sns(), settings.events_topic)),
            enrichment: Arc::new(SqsQueue::new(clients.sqs(), settings.enrichment_queue)),
            parker: Parker::new(Stage::Transform, dead_letters, bus),
            max_receives: settings.max_receives,
        })
    }
}
