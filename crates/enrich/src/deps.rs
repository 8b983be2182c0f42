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
use sync_aws::sqs::SqsQueue;
use sync_domain::config::{ConfigFile, SyncConfig};
use sync_domain::id::ModelId;
use sync_domain::outcome::Stage;
use sync_domain::policy::CompiledPolicy;
use sync_domain::ports::{HashKey, LookupTable, Secrets, Topic};
use sync_lambda::park::Parker;

use crate::cache::{Bounds, Cache};
use crate::keys::KeyRing;
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
    pub keys: KeyRing,
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
    /// The function's dependencies on AWS. Nothing is asked of the network yet.
    pub fn of_aws(settings: &Settings, config: &SyncConfig, clients: &Clients) -> Result<Self, Error> {
        let dead_letters = Arc::new(SqsQueue::new(clients.sqs(), &settings.dead_letter_queue_url));
        let bus = Arc::new(EventBridgeBus::new(clients.eventbridge(), &settings.failure_bus));
        let key_service = KmsKeys::new(clients.kms())
            .with_hash_key(HashKey::Token, &settings.token_key_arn)
            .with_value_key(&settings.value_key_arn);
        let key_table = DynamoKeyTable::new(clients.dynamodb(), &settings.keys_table);
        Ok(Self {
            models: models(config, settings.allow_loopback)?,
            tables: Arc::new(DynamoLookup::new(clients.dynamodb())),
            secrets: Arc::new(SecretsManager::new(clients.secrets_manager())),
            keys: KeyRing::new(Arc::new(key_service), Arc::new(key_table), settings.token_key_version),
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

/// A configuration that does not serve; `datasync validate` finds the same before a deploy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its files cannot be read.
    #[error(transparent)]
    Files(#[from] sync_lambda::config::Error),
    /// A file is not what it should be: the first fault.
    #[error("{0}")]
    Config(String),
    /// Its policy does not.
    #[error("model {model}: {path}: {message}")]
    Policy {
        /// The model.
        model: ModelId,
        /// The place in its file.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// Its look-up does not.
    #[error("model {model}: enrich: {source}")]
    Lookup {
        /// The model.
        model: ModelId,
        /// What is wrong.
        source: lookup::Error,
    },
}

/// The configuration that the layer carries.
pub fn config(lookup: &(impl sync_lambda::settings::Lookup + ?Sized)) -> Result<SyncConfig, Error> {
    let files = sync_lambda::config::read_files(&sync_lambda::config::dir(lookup)?)?;
    let files: Vec<ConfigFile> = files.into_iter().map(|(path, text)| ConfigFile::new(path, text)).collect();
    let first =
        |errors: Vec<sync_domain::config::Error>| errors.into_iter().next().map(|error| error.to_string());
    SyncConfig::parse(&files).map_err(|errors| Error::Config(first(errors).unwrap_or_default()))
}

/// Compiles the models that have a look-up; the others never come here.
pub fn models(config: &SyncConfig, allow_loopback: bool) -> Result<BTreeMap<ModelId, Model>, Error> {
    let mut models = BTreeMap::new();
    for model in config.models() {
        let Some(enrich) = &model.enrich else { continue };
        let name = || model.model.clone();
        let version = config.policy_version(&model.model).unwrap_or_default();
        let policy = CompiledPolicy::compile(model, version).map_err(|errors| {
            let (path, message) = errors.into_iter().next().map(|e| (e.path, e.message)).unwrap_or_default();
            Error::Policy { model: name(), path, message }
        })?;
        let lookup = Lookup::compile(enrich, allow_loopback)
            .map_err(|source| Error::Lookup { model: name(), source })?;
        models.insert(name(), Model { policy, lookup });
    }
    Ok(models)
}
