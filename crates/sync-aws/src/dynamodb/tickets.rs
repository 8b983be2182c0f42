//! The ticket table: tickets under `ticket#<id>`, the right to alert under `alert#<cause>`: with the ticket that claims it,
//! without one when the alert was sent.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use sync_domain::ports::{Result, Ticket, Tickets};

use super::item::{Item, number, text};
use super::{PK, put_if};
use crate::error::from_sdk;

const PUT: &str = "dynamodb:PutItem";

/// The ticket table.
#[derive(Debug, Clone)]
pub struct DynamoTickets {
    client: Client,
    table: String,
}

impl DynamoTickets {
    /// The tickets in a table.
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self { client, table: table.into() }
    }
}

#[async_trait]
impl Tickets for DynamoTickets {
    async fn open(&self, ticket: &Ticket) -> Result<bool> {
        let call = self.client.put_item().table_name(&self.table).set_item(Some(item(ticket)));
        let call =
            call.condition_expression("attribute_not_exists(#pk)").expression_attribute_names("#pk", PK);
        put_if(call, PUT).await
    }

    async fn claim_alert(&self, cause: &str, ticket_id: &str, lasts: Duration) -> Result<bool> {
        let now = now();
        let call = self
            .client
            .put_item()
            .table_name(&self.table)
            .item(PK, text(alert_key(cause)))
            .item("ticket", text(ticket_id))
            .item("expires_at", number(now.saturating_add(lasts.as_secs())))
            // DynamoDB may take days to remove what has expired; an expired claim is nobody's.
            .condition_expression("attribute_not_exists(#pk) OR #expires_at <= :now OR #ticket = :ticket")
            .expression_attribute_names("#expires_at", "expires_at")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_names("#ticket", "ticket")
            .expression_attribute_values(":now", number(now))
            .expression_attribute_values(":ticket", text(ticket_id));
        put_if(call, PUT).await
    }

    async fn settle_alert(&self, cause: &str, expires_at: i64) -> Result<()> {
        let call = self
            .client
            .put_item()
            .table_name(&self.table)
            .item(PK, text(alert_key(cause)))
            .item("expires_at", number(expires_at));
        call.send().await.map(|_| ()).map_err(|failed| from_sdk(PUT, &failed))
    }
}

fn alert_key(cause: &str) -> String {
    format!("alert#{cause}")
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn item(ticket: &Ticket) -> Item {
    let failure = &ticket.failure;
    let mut item = Item::from([
        (PK.to_owned(), text(format!("ticket#{}", ticket.id))),
        ("id".to_owned(), text(&ticket.id)),
        ("failed_at".to_owned(), text(&ticket.failed_at)),
        ("expires_at".to_owned(), number(ticket.expires_at)),
        ("stage".to_owned(), text(failure.stage.as_str())),
        ("reason".to_owned(), text(&failure.reason.code)),
        ("place".to_owned(), text(&failure.reason.place)),
        ("message_id".to_owned(), text(&failure.message_id)),
        ("tries".to_owned(), number(failure.tries)),
    ]);
    let optional = [
        ("source", failure.source.as_ref().map(|name| name.as_str())),
        ("model", failure.model.as_ref().map(|name| name.as_str())),
        ("rid", failure.rid.as_ref().map(|id| id.as_str())),
        ("key", failure.key.as_deref()),
        ("event_id", failure.event_id.as_ref().map(|id| id.as_str())),
        ("target", failure.target.as_ref().map(|name| name.as_str())),
        ("dead_letter_queue", failure.dead_letter_queue.as_deref()),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            item.insert(name.to_owned(), text(value));
        }
    }
    item
}
