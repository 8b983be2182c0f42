//! What the function needs of the outside.

use std::sync::Arc;

use sync_domain::ports::{Alerts, Tickets};

/// The ports, made once per cold start.
#[derive(Clone)]
pub struct Deps {
    /// Keeps tickets and who alerted for what.
    pub tickets: Arc<dyn Tickets>,
    /// Reaches people.
    pub alerts: Arc<dyn Alerts>,
    /// How long a ticket is kept.
    pub ticket_days: u32,
}
