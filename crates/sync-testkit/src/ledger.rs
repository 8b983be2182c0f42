//! The delivery ledger in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use sync_domain::ports::{Ledger, LedgerRow, Result};

use crate::fault::{Faults, Turn, error};
use crate::lock;

/// A ledger whose rows never go back to a lower version.
#[derive(Debug, Clone, Default)]
pub struct MemoryLedger {
    /// The faults of [`Ledger::read`].
    pub read_faults: Faults,
    /// The faults of [`Ledger::mark`].
    pub mark_faults: Faults,
    rows: Arc<Mutex<BTreeMap<String, LedgerRow>>>,
}

impl MemoryLedger {
    /// An empty ledger.
    pub fn new() -> Self {
        Self::default()
    }

    /// All rows by key.
    pub fn rows(&self) -> BTreeMap<String, LedgerRow> {
        lock(&self.rows).clone()
    }

    /// Puts a row there, whatever stood there.
    pub fn set(&self, key: &str, row: LedgerRow) {
        lock(&self.rows).insert(key.to_owned(), row);
    }
}

#[async_trait]
impl Ledger for MemoryLedger {
    async fn read(&self, keys: &[String]) -> Vec<Result<Option<LedgerRow>>> {
        let turns = self.read_faults.batch(&vec![None; keys.len()]);
        let rows = lock(&self.rows);
        let read = |(key, turn): (&String, Turn)| match turn {
            Turn::Take => Ok(rows.get(key).cloned()),
            Turn::TakeButFail(kind) | Turn::Fail(kind) => Err(error("memory:Read", kind)),
        };
        keys.iter().zip(turns).map(read).collect()
    }

    async fn mark(&self, key: &str, row: &LedgerRow) -> Result<bool> {
        self.mark_faults.single("memory:Mark", || {
            let mut rows = lock(&self.rows);
            let news = rows.get(key).is_none_or(|stands| stands.version <= row.version);
            if news {
                rows.insert(key.to_owned(), row.clone());
            }
            Ok(news)
        })
    }
}
