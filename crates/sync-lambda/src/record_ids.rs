//! The hasher of record ids, for every way in.

use std::sync::Arc;

use sync_domain::ports::{HashKey, KeyService, Result};
use sync_domain::protect::IdHasher;
use tokio::sync::OnceCell;

/// The one version of the root of record ids: it never changes.
const VERSION: u32 = 1;

/// Makes the hasher of record ids when it is first needed, so that the start waits for no network.
pub struct RecordIds {
    keys: Arc<dyn KeyService>,
    hasher: OnceCell<IdHasher>,
}

impl RecordIds {
    /// Without the root; `keys` is asked for it once.
    pub fn new(keys: Arc<dyn KeyService>) -> Self {
        Self { keys, hasher: OnceCell::new() }
    }

    /// The hasher. A root that cannot be had is asked for again the next time.
    ///
    /// # Errors
    /// Those of the key service.
    pub async fn hasher(&self) -> Result<&IdHasher> {
        let make = async || self.keys.hash_root(HashKey::Id, VERSION).await.map(|root| IdHasher::new(&root));
        self.hasher.get_or_try_init(make).await
    }
}
