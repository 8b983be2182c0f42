//! Tables to look up in, in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use sync_domain::ports::{LookupTable, Result};

use crate::fault::Faults;
use crate::lock;

type Key = (String, Vec<(String, String)>);

/// Items by table and key.
#[derive(Debug, Clone, Default)]
pub struct MemoryLookup {
    /// The faults of [`LookupTable::get`].
    pub faults: Faults,
    items: Arc<Mutex<BTreeMap<Key, String>>>,
}

impl MemoryLookup {
    /// Without any item.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with an item: its table, its key attributes (name, JSON scalar) and the item as a JSON object.
    #[must_use]
    pub fn with(self, table: &str, key: &[(&str, &str)], item: &str) -> Self {
        let key = key.iter().map(|(name, scalar)| ((*name).to_owned(), (*scalar).to_owned())).collect();
        lock(&self.items).insert((table.to_owned(), key), item.to_owned());
        self
    }
}

#[async_trait]
impl LookupTable for MemoryLookup {
    async fn get(&self, table: &str, key: &[(String, String)]) -> Result<Option<String>> {
        let key = (table.to_owned(), key.to_vec());
        self.faults.single("memory:Lookup", || Ok(lock(&self.items).get(&key).cloned()))
    }
}
