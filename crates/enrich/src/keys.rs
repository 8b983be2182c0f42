//! The keys that protect what a look-up adds: asked of KMS as rarely as the rules on keys allow.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::lock::Mutex;
use sync_domain::event::{Event, ReceivedEvent};
use sync_domain::id::ModelId;
use sync_domain::outcome::Reason;
use sync_domain::policy::{CompiledPolicy, Failure, PolicyKeys};
use sync_domain::ports::{self, HashKey, KeyService, KeyTable, Kind};
use sync_domain::protect::{Nonces, SealingKey, TokenHasher};

use crate::ask::Failed;

/// The keys of every policy, made when they are first needed.
pub struct KeyRing {
    service: Arc<dyn KeyService>,
    table: Arc<dyn KeyTable>,
    token_key_version: u32,
    /// Behind a lock that waits: records that need the same key at the same time make it once.
    keys: Mutex<Keys>,
}

#[derive(Default)]
struct Keys {
    hasher: Option<TokenHasher>,
    policies: BTreeMap<ModelId, PolicyKeys>,
}

impl KeyRing {
    /// An empty ring; nothing is asked before the first record.
    pub fn new(service: Arc<dyn KeyService>, table: Arc<dyn KeyTable>, token_key_version: u32) -> Self {
        Self { service, table, token_key_version, keys: Mutex::default() }
    }

    /// The event with what was found, protected. Without the keys there is no event: the record comes again.
    pub async fn protect(
        &self,
        policy: &CompiledPolicy,
        event: &ReceivedEvent<'_>,
        found: &[(String, String)],
    ) -> Result<Event, Failed> {
        let mut keys = self.keys.lock().await;
        let policy_keys = self.ready(&mut keys, policy).await?;
        match policy.enrich(event, found, policy_keys, &mut RandomNonces) {
            Ok(event) => Ok(event),
            Err(Failure::Rejected(reason)) => Err(Failed::Never(reason)),
            Err(Failure::Key(_)) => Err(Failed::Later(Reason::new("key_used_up", ""))),
        }
    }

    async fn ready<'k>(
        &self,
        keys: &'k mut Keys,
        policy: &CompiledPolicy,
    ) -> Result<&'k mut PolicyKeys, Failed> {
        let Keys { hasher, policies } = keys;
        let hasher = match hasher {
            Some(hasher) => hasher,
            None => {
                let root = self.service.hash_root(HashKey::Token, self.token_key_version).await;
                hasher.insert(TokenHasher::new(root.map_err(unavailable)?))
            }
        };
        let policy_keys =
            policies.entry(policy.model().clone()).or_insert_with(|| PolicyKeys::new(policy, hasher));
        let now = seconds_since_1970();
        for (index, attribute) in policy_keys.due(policy, true, now) {
            let key = self.sealing_key(policy.model().as_str(), attribute, now).await?;
            policy_keys.install(index, key);
        }
        Ok(policy_keys)
    }

    /// A new data key. Its wrapped form stands in the table before it seals anything, or nobody could ever open it.
    async fn sealing_key(&self, model: &str, attribute: &str, now: i64) -> Result<SealingKey, Failed> {
        let key = self.service.new_data_key(model, attribute).await.map_err(unavailable)?;
        let id = SealingKey::id_of(&key.plain);
        self.table.put(&id, model, attribute, &key.wrapped).await.map_err(unavailable)?;
        SealingKey::new(&key.plain, model, attribute, now)
            .map_err(|_| Failed::Later(Reason::new("key_refused", attribute)))
    }
}

fn unavailable(error: ports::Error) -> Failed {
    let code = match error.kind {
        Kind::Unavailable | Kind::Behind => "keys_unavailable",
        Kind::Refused => "keys_refused",
    };
    Failed::Later(Reason::new(code, error.code))
}

fn seconds_since_1970() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Nonces from the library's generator.
struct RandomNonces;

impl Nonces for RandomNonces {
    fn next(&mut self) -> [u8; 12] {
        let mut nonce = [0; 12];
        if aws_lc_rs::rand::fill(&mut nonce).is_err() {
            // The same nonce twice would give the values away: a machine without randomness seals nothing.
            std::process::abort();
        }
        nonce
    }
}
