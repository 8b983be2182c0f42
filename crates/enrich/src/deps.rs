//! What the function needs of the outside, made once per cold start.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use sync_aws::clients::Clients;
use sync_aws::dynamodb::{DynamoKeyTable, DynamoLookup};
use sync_aws::eventbridge::EventBridgeBus;
use sync_aws::kms::KmsKeys;
use sync_aws::secrets::SecretsManager;
use sync_aws::sns::SnsTopic;
use sync_aws::sqs::{SqsInbox, SqsQueue};
use sync_config::SyncConfig;
use sync_domain::id::ModelId;
use sync_domain::outcome::Stage;
use sync_domain::policy::CompiledPolicy;
use sync_domain::ports::{HashKey, Inbox, LookupTable, Secrets, Topic};
use sync_lambda::keyring::Keyring;
use sync_lambda::park::Parker;
use sync_lambda::settings::Lookup as Environment;
use sync_lambda::start;

use crate::cache::{Bounds, Cache};
use crate::lookup::{self, Lookup};
use crate::settings::Settings;

/// The ports and what came of the configuration.
pub struct Deps {
    /// The models that are looked up.
    pub models: BTreeMap<ModelId, Model>,
    /// DynamoDB tables to look up in.
    pub tables: Arc<dyn LookupTable>,
    /// The secrets that HTTP services ask for.
    pub secrets: Arc<dyn Secrets>,
    /// The keys that protect what is added.
    pub keyring: Keyring,
    /// The Enrichment queue, to delete from what is done before the answer says so.
    pub inbox: Arc<dyn Inbox>,
    /// Where events go.
    pub topic: Arc<dyn Topic>,
    /// Where records go that cannot go on.
    pub parker: Parker,
    /// How often the queue hands a message out.
    pub max_receives: u32,
    /// Answers that may be used again; kept from one invocation to the next.
    pub cache: RefCell<Cache>,
}

impl Deps {
    /// The real ones. Nothing is asked of the network yet.
    pub fn of_aws(environment: &dyn Environment) -> Result<Self, start::Error> {
        let settings = Settings::read(environment)?;
        let config = sync_lambda::config::load(environment)?;
        let clients = Clients::from_env(|name| environment.get(name));
        let dead_letters = Arc::new(SqsQueue::new(clients.sqs(), &settings.dead_letter_queue_url));
        let bus = Arc::new(EventBridgeBus::new(clients.eventbridge(), &settings.failure_bus));
        let key_service = KmsKeys::new(clients.kms())
            .with_hash_key(HashKey::Token, &settings.token_key_arn)
            .with_value_key(&settings.value_key_arn);
        let key_table = DynamoKeyTable::new(clients.dynamodb(), &settings.keys_table);
        Ok(Self {
            models: models(&config, settings.allow_loopback)?,
            tables: Arc::new(DynamoLookup::new(clients.dynamodb())),
            secrets: Arc::new(SecretsManager::new(clients.secrets_manager())),
            keyring: Keyring::new(Arc::new(key_service), Arc::new(key_table), settings.token_key_version),
            inbox: Arc::new(SqsInbox::new(clients.sqs(), &settings.queue_url)),
            topic: Arc::new(SnsTopic::new(clients.sns(), &settings.events_topic_arn)),
            parker: Parker::new(Stage::Enrich, dead_letters, bus),
            max_receives: settings.max_receives.get(),
            cache: RefCell::new(Cache::new(Bounds::default())),
        })
    }
}

/// A model with a look-up.
pub struct Model {
    /// Protects what is added.
    pub policy: CompiledPolicy,
    /// Where to ask and for what.
    pub lookup: Lookup,
}

/// A look-up that does not compile; `datasync validate` finds the same before a deploy.
#[derive(Debug, thiserror::Error)]
#[error("models/{model}.yaml: enrich: {source}")]
pub struct Error {
    /// The model.
    model: ModelId,
    /// What is wrong.
    source: lookup::Error,
}

/// Compiles the models that have a look-up; the others never come here.
pub fn models(config: &SyncConfig, allow_loopback: bool) -> Result<BTreeMap<ModelId, Model>, start::Error> {
    let mut models = BTreeMap::new();
    for (name, policy) in sync_lambda::config::policies(config)? {
        let Some(enrich) = config.model(&name).and_then(|model| model.enrich.as_ref()) else { continue };
        let lookup = Lookup::compile(enrich, allow_loopback)
            .map_err(|source| Error { model: name.clone(), source })?;
        models.insert(name, Model { policy, lookup });
    }
    Ok(models)
}
