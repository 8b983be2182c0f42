//! The alert topic in memory.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use sync_domain::ports::{Alerts, Result};

use crate::fault::Faults;
use crate::lock;

/// Keeps the alerts that were sent.
#[derive(Debug, Clone, Default)]
pub struct MemoryAlerts {
    /// The faults of [`Alerts::send`].
    pub faults: Faults,
    sent: Arc<Mutex<Vec<(String, String)>>>,
}

impl MemoryAlerts {
    /// Without any alert.
    pub fn new() -> Self {
        Self::default()
    }

    /// The alerts (subject, text), in order.
    pub fn sent(&self) -> Vec<(String, String)> {
        lock(&self.sent).clone()
    }
}

#[async_trait]
impl Alerts for MemoryAlerts {
    async fn send(&self, subject: &str, text: &str) -> Result<()> {
        self.faults.single("memory:Alert", || {
            lock(&self.sent).push((subject.to_owned(), text.to_owned()));
            Ok(())
        })
    }
}
