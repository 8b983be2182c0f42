//! A role that signs, in memory.

use async_trait::async_trait;
use sync_domain::ports::{Proof, Result, Signer, ToSign};
use zeroize::Zeroizing;

use crate::fault::Faults;

/// Shows for whom a request was signed instead of a signature that somebody could check.
#[derive(Debug, Clone, Default)]
pub struct MemorySigner {
    /// The faults of its calls.
    pub faults: Faults,
}

#[async_trait]
impl Signer for MemorySigner {
    async fn sign(&self, request: &ToSign<'_>) -> Result<Vec<Proof>> {
        self.faults.single("memory:Sign", || {
            let region = request.region.unwrap_or("memory");
            Ok(vec![("authorization", Zeroizing::new(format!("Memory {}/{region}", request.service)))])
        })
    }
}
