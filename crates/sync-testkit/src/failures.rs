//! The failure bus in memory.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use sync_domain::outcome::FailureEvent;
use sync_domain::ports::{FailureBus, Result};

use crate::fault::{Faults, Turn, error};
use crate::lock;

/// Keeps the failures that were reported.
#[derive(Debug, Clone, Default)]
pub struct MemoryFailureBus {
    /// The faults of [`FailureBus::report`].
    pub faults: Faults,
    reported: Arc<Mutex<Vec<FailureEvent>>>,
}

impl MemoryFailureBus {
    /// Without any failure.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was reported, in order.
    pub fn reported(&self) -> Vec<FailureEvent> {
        lock(&self.reported).clone()
    }
}

#[async_trait]
impl FailureBus for MemoryFailureBus {
    async fn report(&self, failures: &[FailureEvent]) -> Vec<Result<()>> {
        let turns = self.faults.batch(&vec![None; failures.len()]);
        let mut reported = lock(&self.reported);
        let report = |(failure, turn): (&FailureEvent, Turn)| {
            if !matches!(turn, Turn::Fail(_)) {
                reported.push(failure.clone());
            }
            match turn {
                Turn::Take => Ok(()),
                Turn::TakeButFail(kind) | Turn::Fail(kind) => Err(error("memory:Report", kind)),
            }
        };
        failures.iter().zip(turns).map(report).collect()
    }
}
