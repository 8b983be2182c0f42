//! What the function needs of the outside.

use std::sync::Arc;

use sync_aws::clients::Clients;
use sync_aws::dynamodb::DynamoTickets;
use sync_aws::sns::SnsAlerts;
use sync_domain::ports::{Alerts, Tickets};
use sync_lambda::settings::Lookup;
use sync_lambda::start;

use crate::settings::Settings;

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

impl Deps {
    /// The real ones. Nothing is asked of the network yet.
    pub fn of_aws(lookup: &dyn Lookup) -> Result<Self, start::Error> {
        let settings = Settings::read(lookup)?;
        let clients = Clients::from_env(|name| lookup.get(name));
        Ok(Self {
            tickets: Arc::new(DynamoTickets::new(clients.dynamodb(), settings.ticket_table)),
            alerts: Arc::new(SnsAlerts::new(clients.sns(), settings.alert_topic_arn)),
            ticket_days: settings.ticket_days.get(),
        })
    }
}
