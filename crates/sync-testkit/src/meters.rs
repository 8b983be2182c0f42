//! What targets were given of their limits, in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use sync_domain::delivery::limit::{Claim, Claimed, Meter};
use sync_domain::id::TargetId;
use sync_domain::ports::{Meters, Result};

use crate::fault::Faults;
use crate::lock;

/// The meters of targets.
#[derive(Debug, Clone, Default)]
pub struct MemoryMeters {
    /// The faults of [`Meters::claim`]; its calls are counted there.
    pub faults: Faults,
    meters: Arc<Mutex<BTreeMap<TargetId, Meter>>>,
}

impl MemoryMeters {
    /// Meters that nothing was claimed of.
    pub fn new() -> Self {
        Self::default()
    }

    /// The meter of a target, as it stands.
    pub fn standing(&self, target: &TargetId) -> Meter {
        lock(&self.meters).get(target).copied().unwrap_or_default()
    }
}

#[async_trait]
impl Meters for MemoryMeters {
    async fn claim(&self, target: &TargetId, claim: &Claim) -> Result<Claimed> {
        self.faults.single("memory:Claim", || {
            let mut meters = lock(&self.meters);
            let meter = meters.entry(target.clone()).or_default();
            Ok(match claim.made(meter) {
                Some(made) => {
                    *meter = made;
                    Claimed::Done(made)
                }
                None => Claimed::Refused(*meter),
            })
        })
    }
}
