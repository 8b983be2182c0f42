//! The table of push requests in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use sync_domain::ports::{Kind, Receipt, Receipts, Result};

use crate::fault::{Faults, error};
use crate::lock;

/// Receipts by request id.
#[derive(Debug, Clone, Default)]
pub struct MemoryReceipts {
    /// The faults of [`Receipts::claim`].
    pub claim_faults: Faults,
    /// The faults of [`Receipts::settle`].
    pub settle_faults: Faults,
    rows: Arc<Mutex<BTreeMap<String, Receipt>>>,
}

impl MemoryReceipts {
    /// Without any receipt.
    pub fn new() -> Self {
        Self::default()
    }

    /// All receipts.
    pub fn rows(&self) -> BTreeMap<String, Receipt> {
        lock(&self.rows).clone()
    }
}

#[async_trait]
impl Receipts for MemoryReceipts {
    async fn claim(&self, request_id: &str, body_hash: &str, _expires_at: i64) -> Result<Option<Receipt>> {
        self.claim_faults.single("memory:Claim", || {
            let mut rows = lock(&self.rows);
            let stands = rows.get(request_id).cloned();
            if stands.is_none() {
                let receipt = Receipt { body_hash: body_hash.to_owned(), accepted: None };
                rows.insert(request_id.to_owned(), receipt);
            }
            Ok(stands)
        })
    }

    async fn settle(&self, request_id: &str, accepted: &[usize]) -> Result<()> {
        self.settle_faults.single("memory:Settle", || match lock(&self.rows).get_mut(request_id) {
            Some(receipt) => {
                receipt.accepted = Some(accepted.to_vec());
                Ok(())
            }
            None => Err(error("memory:Settle", Kind::Refused)),
        })
    }
}
