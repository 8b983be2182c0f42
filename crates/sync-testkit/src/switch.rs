//! What feeds and wakes a function, in memory.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use sync_domain::ports::{Result, Switch};

use crate::fault::Faults;
use crate::lock;

/// An event source mapping that is on and a schedule that is off, as a deploy makes them.
#[derive(Debug, Clone, Default)]
pub struct MemorySwitch {
    /// The faults of [`Switch::feed`].
    pub feed_faults: Faults,
    /// The faults of [`Switch::wake`].
    pub wake_faults: Faults,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    starved: bool,
    waking: bool,
    mappings: Vec<String>,
}

impl MemorySwitch {
    /// As a deploy leaves it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the mapping reads the queue.
    pub fn feeds(&self) -> bool {
        !lock(&self.state).starved
    }

    /// Whether the schedule invokes the function.
    pub fn wakes(&self) -> bool {
        lock(&self.state).waking
    }

    /// The mappings that were switched, in order.
    pub fn mappings(&self) -> Vec<String> {
        lock(&self.state).mappings.clone()
    }

    /// Switches the mapping behind the function's back.
    pub fn by_hand(&self, on: bool) {
        lock(&self.state).starved = !on;
    }
}

#[async_trait]
impl Switch for MemorySwitch {
    async fn feed(&self, mapping: &str, on: bool) -> Result<()> {
        self.feed_faults.single("memory:Feed", || {
            let mut state = lock(&self.state);
            state.starved = !on;
            state.mappings.push(mapping.to_owned());
            Ok(())
        })
    }

    async fn wake(&self, on: bool) -> Result<()> {
        self.wake_faults.single("memory:Wake", || {
            lock(&self.state).waking = on;
            Ok(())
        })
    }
}
