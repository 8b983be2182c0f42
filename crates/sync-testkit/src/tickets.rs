//! The ticket table in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

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
    alerts: BTreeMap<String, Right>,
}

/// Who may alert for a cause, and until when; nobody may once the alert was sent.
#[derive(Debug, Clone)]
struct Right {
    ticket: Option<String>,
    expires_at: i64,
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

    /// The causes whose alert was sent, with the ends of their windows.
    pub fn settled(&self) -> BTreeMap<String, i64> {
        let state = lock(&self.state);
        let settled = state.alerts.iter().filter(|(_, right)| right.ticket.is_none());
        settled.map(|(cause, right)| (cause.clone(), right.expires_at)).collect()
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

    async fn claim_alert(&self, cause: &str, ticket_id: &str, lasts: Duration) -> Result<bool> {
        self.faults.single("memory:ClaimAlert", || {
            let mut state = lock(&self.state);
            let now = state.now;
            let free = state
                .alerts
                .get(cause)
                .is_none_or(|right| right.expires_at <= now || right.ticket.as_deref() == Some(ticket_id));
            if free {
                let lasts = i64::try_from(lasts.as_secs()).unwrap_or(i64::MAX);
                let ticket = Some(ticket_id.to_owned());
                let right = Right { ticket, expires_at: now.saturating_add(lasts) };
                state.alerts.insert(cause.to_owned(), right);
            }
            Ok(free)
        })
    }

    async fn settle_alert(&self, cause: &str, expires_at: i64) -> Result<()> {
        self.faults.single("memory:SettleAlert", || {
            lock(&self.state).alerts.insert(cause.to_owned(), Right { ticket: None, expires_at });
            Ok(())
        })
    }
}
