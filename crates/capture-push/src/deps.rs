//! What the endpoint needs: its configuration, compiled, and its ports.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use sync_domain::config::{Model, Source, SyncConfig};
use sync_domain::policy::{self, CompiledPolicy};
use sync_domain::ports::{self, HashKey, KeyService, Queue, Receipts, Secrets};
use sync_domain::protect::IdHasher;
use tokio::sync::OnceCell;

/// The one version of the root of record ids: it never changes.
const ID_KEY_VERSION: u32 = 1;

/// A model as the endpoint needs it.
pub struct ModelRules {
    /// The names of the key attributes.
    pub key: Vec<String>,
    /// The policy, compiled.
    pub policy: CompiledPolicy,
}

/// The outside of the function.
pub struct Deps {
    /// The sources by name.
    pub sources: BTreeMap<String, Source>,
    /// The models by name.
    pub models: BTreeMap<String, ModelRules>,
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
    /// The hasher of record ids; its root is read with the first request, so that the start waits for no network.
    pub async fn hasher(&self) -> ports::Result<&IdHasher> {
        let make = async || self.keys.hash_root(HashKey::Id, ID_KEY_VERSION).await.map(|root| IdHasher::new(&root));
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

/// The models of a configuration by name, or the first one's errors.
pub fn models(config: &SyncConfig) -> Result<BTreeMap<String, ModelRules>, Vec<policy::Error>> {
    let compile = |model: &Model| {
        let policy = CompiledPolicy::compile(model)?;
        Ok((model.model.as_str().to_owned(), ModelRules { key: model.key.clone(), policy }))
    };
    config.models().map(compile).collect()
}
