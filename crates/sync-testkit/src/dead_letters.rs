//! The dead-letter store in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use sync_domain::ports::{DeadLetterStore, Result};

use crate::fault::Faults;
use crate::lock;

/// Keeps the documents that were put, by name.
#[derive(Debug, Clone, Default)]
pub struct MemoryDeadLetterStore {
    /// The faults of [`DeadLetterStore::put`].
    pub faults: Faults,
    documents: Arc<Mutex<BTreeMap<String, String>>>,
}

impl MemoryDeadLetterStore {
    /// Without any document.
    pub fn new() -> Self {
        Self::default()
    }

    /// The documents by name.
    pub fn documents(&self) -> BTreeMap<String, String> {
        lock(&self.documents).clone()
    }
}

#[async_trait]
impl DeadLetterStore for MemoryDeadLetterStore {
    async fn put(&self, name: &str, document: String) -> Result<()> {
        self.faults.single("memory:PutDeadLetter", || {
            lock(&self.documents).insert(name.to_owned(), document);
            Ok(())
        })
    }

    fn place(&self, name: &str) -> String {
        format!("s3://dead-letters/{name}")
    }
}
