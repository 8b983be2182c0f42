//! The ticket table in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use sync_domain::ports::{Result, Ticket, Tickets};

use crate::fault::Faults;
use crate::lock;

/// Tickets by id, and who may alert. Its clock stands at zero unless a test moves it.
#[derive(Debug, Clone, Default)]
pub struct MemoryTickets {
    /// The faults of all calls.
    pub faults: Faults,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    now: i64,
    tickets: BTreeMap<String, Ticket>,
    claims: BTreeMap<String, i64>,
}

impl MemoryTickets {
    /// Without any ticket.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the clock (seconds since 1970), by which claims end.
    pub fn set_now(&self, now: i64) {
        lock(&self.state).now = now;
    }

    /// All tickets.
    pub fn tickets(&self) -> Vec<Ticket> {
        lock(&self.state).tickets.values().cloned().collect()
    }

    /// The causes that somebody has alerted for, with the ends of their windows.
    pub fn claims(&self) -> BTreeMap<String, i64> {
        lock(&self.state).claims.clone()
    }
}

#[async_trait]
impl Tickets for MemoryTickets {
    async fn open(&self, ticket: &Ticket) -> Result<bool> {
        self.faults.single("memory:Open", || {
            let tickets = &mut lock(&self.state).tickets;
            let news = !tickets.contains_key(&ticket.id);
            if news {
                tickets.insert(ticket.id.clone(), ticket.clone());
            }
            Ok(news)
        })
    }

    async fn claim_alert(&self, cause: &str, expires_at: i64) -> Result<bool> {
        self.faults.single("memory:ClaimAlert", || {
            let mut state = lock(&self.state);
            let free = state.claims.get(cause).is_none_or(|end| *end <= state.now);
            if free {
                state.claims.insert(cause.to_owned(), expires_at);
            }
            Ok(free)
        })
    }

    async fn release_alert(&self, cause: &str) -> Result<()> {
        self.faults.single("memory:ReleaseAlert", || {
            lock(&self.state).claims.remove(cause);
            Ok(())
        })
    }
}
