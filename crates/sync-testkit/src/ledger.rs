//! The delivery ledger in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use sync_domain::delivery::breaker::Breaker;
use sync_domain::id::TargetId;
use sync_domain::ports::{Ledger, LedgerPage, LedgerRow, LedgerRows, Result};

use crate::fault::{Faults, Turn, error};
use crate::lock;

/// Rows of a page: few, so that a test has several.
const PAGE: usize = 7;

/// A ledger whose rows never go back to a lower version.
#[derive(Debug, Clone, Default)]
pub struct MemoryLedger {
    /// The faults of [`Ledger::read`].
    pub read_faults: Faults,
    /// The faults of [`Ledger::mark`].
    pub mark_faults: Faults,
    /// The faults of [`Ledger::breaker`] and [`Ledger::set_breaker`].
    pub breaker_faults: Faults,
    breakers: Arc<Mutex<BTreeMap<TargetId, Breaker>>>,
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

    /// The breaker of a target, as it stands.
    pub fn standing(&self, target: &TargetId) -> Breaker {
        lock(&self.breakers).get(target).cloned().unwrap_or_default()
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

    async fn look(
        &self,
        target: &TargetId,
        keys: &[String],
    ) -> (Result<Breaker>, Vec<Result<Option<LedgerRow>>>) {
        (Ok(self.standing(target)), self.read(keys).await)
    }

    async fn breaker(&self, target: &TargetId) -> Result<Breaker> {
        self.breaker_faults.single("memory:Breaker", || Ok(self.standing(target)))
    }

    async fn set_breaker(&self, target: &TargetId, breaker: &Breaker) -> Result<bool> {
        self.breaker_faults.single("memory:SetBreaker", || {
            let mut breakers = lock(&self.breakers);
            let stands = breakers.get(target).map_or(0, |stands| stands.revision);
            let next = stands + 1 == breaker.revision;
            if next {
                breakers.insert(target.clone(), breaker.clone());
            }
            Ok(next)
        })
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

#[async_trait]
impl LedgerRows for MemoryLedger {
    async fn page(&self, behind: Option<&str>) -> Result<LedgerPage> {
        let rows = lock(&self.rows);
        let mut left = rows.iter().filter(|(key, _)| behind.is_none_or(|behind| key.as_str() > behind));
        let page: Vec<_> = left.by_ref().take(PAGE).collect();
        let last = page.last().map(|(key, _)| (*key).clone());
        let next = last.filter(|_| left.next().is_some());
        Ok(LedgerPage { rows: page.into_iter().map(|(_, row)| row.clone()).collect(), next })
    }
}
