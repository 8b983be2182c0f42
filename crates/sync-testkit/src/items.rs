//! A table that is read as a source, in memory.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use sync_domain::ports::{ItemTable, Items, Result, TableShape};

use crate::fault::Faults;
use crate::lock;

/// Items by their typed keys.
#[derive(Debug, Clone)]
pub struct MemoryItems {
    /// The faults of [`ItemTable::page`].
    pub faults: Faults,
    shape: Arc<Mutex<TableShape>>,
    items: Arc<Mutex<BTreeMap<String, String>>>,
    page: usize,
}

impl MemoryItems {
    /// An empty table with these attributes as its key, its stream on, that is read in pages of a size.
    pub fn new(key: &[&str], page: usize) -> Self {
        let key = key.iter().map(|name| (*name).to_owned()).collect();
        let shape = Arc::new(Mutex::new(TableShape { key, streams: true }));
        Self { faults: Faults::default(), shape, items: Arc::default(), page }
    }

    /// Makes it another table.
    pub fn reshape(&self, change: impl FnOnce(&mut TableShape)) {
        change(&mut lock(&self.shape));
    }

    /// Writes an item under its typed key.
    pub fn put(&self, key: &str, item: &str) {
        lock(&self.items).insert(key.to_owned(), item.to_owned());
    }

    /// Removes an item.
    pub fn delete(&self, key: &str) {
        lock(&self.items).remove(key);
    }
}

#[async_trait]
impl ItemTable for MemoryItems {
    async fn shape(&self) -> Result<TableShape> {
        Ok(lock(&self.shape).clone())
    }

    async fn page(&self, from: Option<&str>) -> Result<Items> {
        self.faults.single("memory:Scan", || {
            let items = lock(&self.items);
            let behind = from.map_or(Bound::Unbounded, Bound::Excluded);
            let rest = items.range::<str, _>((behind, Bound::Unbounded));
            let page: Vec<_> = rest.take(self.page).collect();
            // As DynamoDB does: a full page may be the last one, and does not say so.
            let next = page.last().filter(|_| page.len() == self.page).map(|(key, _)| (*key).clone());
            Ok(Items { items: page.into_iter().map(|(_, item)| item.clone()).collect(), next })
        })
    }
}
