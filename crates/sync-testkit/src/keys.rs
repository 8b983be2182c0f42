//! A key service without randomness, and the table of wrapped keys.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use sync_domain::id::push_part;
use sync_domain::ports::{DataKey, HashKey, KeyBytes, KeyService, KeyTable, Kind, Result};

use crate::fault::{Faults, error};
use crate::lock;

/// A key service whose keys follow from what is asked: the nth data key of a (model, attribute) is always the same.
/// A wrapped key names its context, and is unwrapped under that context only.
#[derive(Debug, Clone, Default)]
pub struct MemoryKeyService {
    /// The faults of all calls.
    pub faults: Faults,
    made: Arc<AtomicU64>,
}

impl MemoryKeyService {
    /// A key service that made no key yet.
    pub fn new() -> Self {
        Self::default()
    }
}

fn derived(parts: &[&[u8]]) -> KeyBytes {
    let mut input = Vec::new();
    for part in parts {
        push_part(&mut input, part);
    }
    let mut key = KeyBytes::default();
    for (to, from) in key.iter_mut().zip(digest(&SHA256, &input).as_ref()) {
        *to = *from;
    }
    key
}

fn context(model: &str, attribute: &str) -> Vec<u8> {
    let mut context = Vec::new();
    push_part(&mut context, model.as_bytes());
    push_part(&mut context, attribute.as_bytes());
    context
}

#[async_trait]
impl KeyService for MemoryKeyService {
    async fn hash_root(&self, key: HashKey, version: u32) -> Result<KeyBytes> {
        let family: &[u8] = match key {
            HashKey::Id => b"id",
            HashKey::Token => b"token",
            HashKey::Ledger => b"ledger",
        };
        self.faults.single("memory:HashRoot", || Ok(derived(&[b"root", family, &version.to_be_bytes()])))
    }

    async fn new_data_key(&self, model: &str, attribute: &str) -> Result<DataKey> {
        self.faults.single("memory:NewDataKey", || {
            let mut wrapped = self.made.fetch_add(1, Ordering::SeqCst).to_be_bytes().to_vec();
            wrapped.extend(context(model, attribute));
            Ok(DataKey { plain: derived(&[b"data", &wrapped]), wrapped })
        })
    }

    async fn unwrap_data_key(&self, model: &str, attribute: &str, wrapped: &[u8]) -> Result<KeyBytes> {
        self.faults.single("memory:Unwrap", || match wrapped.split_at_checked(8) {
            Some((_, bound)) if bound == context(model, attribute) => Ok(derived(&[b"data", wrapped])),
            _ => Err(error("memory:Unwrap", Kind::Refused)),
        })
    }
}

type Wrapped = (String, String, Vec<u8>);

/// The table of wrapped keys.
#[derive(Debug, Clone, Default)]
pub struct MemoryKeyTable {
    /// The faults of all calls.
    pub faults: Faults,
    keys: Arc<Mutex<BTreeMap<String, Wrapped>>>,
}

impl MemoryKeyTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// All rows: from key id to (model, attribute, wrapped).
    pub fn rows(&self) -> BTreeMap<String, (String, String, Vec<u8>)> {
        lock(&self.keys).clone()
    }
}

#[async_trait]
impl KeyTable for MemoryKeyTable {
    async fn put(&self, key_id: &str, model: &str, attribute: &str, wrapped: &[u8]) -> Result<()> {
        self.faults.single("memory:PutKey", || {
            let row = (model.to_owned(), attribute.to_owned(), wrapped.to_vec());
            lock(&self.keys).insert(key_id.to_owned(), row);
            Ok(())
        })
    }

    async fn get(&self, key_id: &str) -> Result<Option<(String, String, Vec<u8>)>> {
        self.faults.single("memory:GetKey", || Ok(lock(&self.keys).get(key_id).cloned()))
    }
}
