//! What the function needs of the outside.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sync_aws::clients::Clients;
use sync_aws::dynamodb::{DynamoLedger, DynamoMeters, DynamoTables};
use sync_aws::eventbridge::EventBridgeBus;
use sync_aws::kms::KmsKeys;
use sync_aws::secrets::SecretsManager;
use sync_aws::sqs::{SqsInbox, SqsQueue};
use sync_aws::switch::AwsSwitch;
use sync_domain::config::{Auth, Endpoint, HttpEndpoint};
use sync_domain::delivery::CompiledTarget;
use sync_domain::delivery::limit::Limit;
use sync_domain::outcome::Stage;
use sync_domain::ports::{
    HashKey, Inbox, KeyService, Ledger, Meters, Result, Secrets, Signer, Switch, VersionedTable,
};
use sync_domain::protect::LedgerHasher;
use sync_http::{Client, Guard};
use sync_lambda::park::Parker;
use sync_lambda::settings::Error::Missing;
use sync_lambda::settings::Lookup;
use sync_lambda::start;

use crate::apart::Apart;
use crate::http::access_tokens::AccessTokens;
use crate::pace::{Clock, Pace};
use crate::settings::{self, Settings};

/// What stays from one invocation to the next.
pub struct Deps {
    /// The target.
    pub target: CompiledTarget,
    /// What it has.
    pub ledger: Arc<dyn Ledger>,
    /// Makes the ledger's hash key.
    pub keys: Arc<dyn KeyService>,
    /// The target's secret.
    pub secrets: Arc<dyn Secrets>,
    /// The queue that the messages come from.
    pub inbox: Arc<dyn Inbox>,
    /// What feeds and wakes this function.
    pub switch: Arc<dyn Switch>,
    /// Takes what cannot go on.
    pub parker: Parker,
    /// Sends to a target that is reached by HTTP.
    pub http: Client,
    /// Writes to a target that is a table.
    pub tables: Arc<dyn VersionedTable>,
    /// The target's access tokens, if it takes such.
    pub access_tokens: AccessTokens,
    /// Signs for a target that checks who sends as AWS does.
    pub signer: Arc<dyn Signer>,
    /// The receive that parks.
    pub max_receives: u32,
    /// Keeps to the target's limits.
    pub pace: Pace,
    /// Seconds since 1970.
    pub now: fn() -> i64,
    /// An evenly distributed number.
    pub random: fn() -> u64,
    /// Since when the target was not sent to when this process last woke the schedule, and when it did.
    pub woken: Mutex<Option<(i64, i64)>>,
    /// Which records go alone although the target takes arrays.
    pub apart: Apart,
    /// The ledger's hash key, once it is there.
    pub hasher: OnceLock<LedgerHasher>,
}

impl Deps {
    /// The real ones. Nothing is read from the network here.
    pub fn from_env(lookup: &dyn Lookup) -> std::result::Result<Self, start::Error> {
        let settings = Settings::read(lookup)?;
        let target = settings::target(lookup, &settings.target)?;
        let instances = match (target.target().endpoint.limits().concurrency, settings.max_concurrency) {
            (None, _) => 1,
            (Some(_), instances) => instances.ok_or(Missing("MAX_CONCURRENCY"))?,
        };
        let clients = Clients::from_env(|name| lookup.get(name));
        let meters = Arc::new(DynamoMeters::new(clients.dynamodb(), settings.ledger_table.clone()));
        let sqs = clients.sqs();
        let dead_letters = Arc::new(SqsQueue::new(sqs.clone(), settings.dead_letter_queue_url));
        let bus = Arc::new(EventBridgeBus::new(clients.eventbridge(), settings.failure_bus));
        let switch = AwsSwitch::new(clients.mappings(), clients.eventbridge(), settings.probe_rule);
        let keys = KmsKeys::new(clients.kms()).with_hash_key(HashKey::Ledger, settings.ledger_key_arn);
        Ok(Self {
            ledger: Arc::new(DynamoLedger::new(clients.dynamodb(), settings.ledger_table)),
            keys: Arc::new(keys),
            secrets: Arc::new(SecretsManager::new(clients.secrets_manager())),
            inbox: Arc::new(SqsInbox::new(sqs, settings.queue_url)),
            switch: Arc::new(switch),
            parker: Parker::new(Stage::Deliver, dead_letters, bus).with_target(settings.target),
            http: Client::new(guard(&target, settings.allow_loopback)),
            tables: Arc::new(DynamoTables::new(clients.dynamodb_once())),
            access_tokens: AccessTokens::new(Client::new(token_guard(&target, settings.allow_loopback))),
            signer: Arc::new(clients.signer()),
            max_receives: settings.max_receives,
            pace: pace(&target, instances, meters, Arc::new(now_us)),
            now,
            random,
            woken: Mutex::default(),
            apart: Apart::default(),
            hasher: OnceLock::new(),
            target,
        })
    }

    /// The ledger's hash key; asked of the key service once.
    pub async fn hasher(&self) -> Result<&LedgerHasher> {
        if let Some(hasher) = self.hasher.get() {
            return Ok(hasher);
        }
        let root = self.keys.hash_root(HashKey::Ledger, 1).await?;
        Ok(self.hasher.get_or_init(|| LedgerHasher::new(&root)))
    }
}

/// The guard for a target's addresses; one that is not reached by HTTP has none.
pub fn guard(target: &CompiledTarget, allow_loopback: bool) -> Guard {
    let (allow_networks, ports) = match &target.target().endpoint {
        Endpoint::Http(endpoint) => (endpoint.allow_networks.clone(), endpoint.ports.clone()),
        Endpoint::DynamoDb(_) => (Vec::new(), Vec::new()),
    };
    Guard { allow_loopback, allow_networks, ports }
}

/// The guard for the address of a target's token endpoint; of no use where there is none.
pub fn token_guard(target: &CompiledTarget, allow_loopback: bool) -> Guard {
    match &target.target().endpoint {
        Endpoint::Http(HttpEndpoint { auth: Auth::OAuth2(oauth2), .. }) => Guard {
            allow_loopback,
            allow_networks: oauth2.allow_networks.clone(),
            ports: oauth2.ports.clone(),
        },
        Endpoint::Http(_) | Endpoint::DynamoDb(_) => Guard::default(),
    }
}

/// What keeps to a target's limits, where at most so many `instances` of the function run.
pub fn pace(target: &CompiledTarget, instances: u32, meters: Arc<dyn Meters>, clock: Clock) -> Pace {
    let target = target.target();
    let limits = target.endpoint.limits();
    // Rounded down, so that all together have no more than there may be.
    let share = |concurrency: u32| usize::try_from(concurrency / instances.max(1)).unwrap_or(1).max(1);
    let in_flight = limits.concurrency.map(share);
    Pace::new(Limit::new(limits.rate, limits.quota), in_flight, target.target.clone(), meters, clock)
}

fn now() -> i64 {
    i64::try_from(since_1970().as_secs()).unwrap_or(i64::MAX)
}

fn now_us() -> i64 {
    i64::try_from(since_1970().as_micros()).unwrap_or(i64::MAX)
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    // Without random bytes every wait is the shortest; that hurts nobody's secrets.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u64::from_le_bytes(bytes)
}
