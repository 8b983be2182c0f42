//! Secrets in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use sync_domain::ports::{Kind, Result, Secrets};
use zeroize::Zeroizing;

use crate::fault::{Faults, error};
use crate::lock;

/// Secrets by name, with the cache of the real one: a changed secret shows after [`Secrets::refresh`] only.
#[derive(Debug, Clone, Default)]
pub struct MemorySecrets {
    /// The faults of all calls that are not answered from the cache.
    pub faults: Faults,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    stored: BTreeMap<String, String>,
    cached: BTreeMap<String, String>,
}

impl MemorySecrets {
    /// Without any secret.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with a secret.
    #[must_use]
    pub fn with(self, name: &str, text: &str) -> Self {
        self.set(name, text);
        self
    }

    /// Sets or changes a secret.
    pub fn set(&self, name: &str, text: &str) {
        lock(&self.state).stored.insert(name.to_owned(), text.to_owned());
    }
}

#[async_trait]
impl Secrets for MemorySecrets {
    async fn get(&self, name: &str) -> Result<Zeroizing<String>> {
        let cached = lock(&self.state).cached.get(name).cloned();
        match cached {
            Some(text) => Ok(Zeroizing::new(text)),
            None => self.refresh(name).await,
        }
    }

    async fn refresh(&self, name: &str) -> Result<Zeroizing<String>> {
        self.faults.single("memory:Secret", || {
            let mut state = lock(&self.state);
            let text =
                state.stored.get(name).cloned().ok_or_else(|| error("memory:Secret", Kind::Refused))?;
            state.cached.insert(name.to_owned(), text.clone());
            Ok(Zeroizing::new(text))
        })
    }
}
