//! One attempt at a target that is a DynamoDB table: the item as mapping and key make it, and what the table says.

mod answer;
mod request;

use std::time::Duration;

use sync_domain::config::TableEndpoint;
use sync_domain::delivery::item::Items;
use sync_lambda::deadline::Deadline;

use self::answer::{answered, unanswered};
use self::request::item;
use crate::deps::Deps;
use crate::send::{Attempt, Delivery, Sent, place};

/// For one put.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A target that is a table.
#[derive(Clone, Copy)]
pub(crate) struct Table<'a> {
    pub(crate) deps: &'a Deps,
    pub(crate) endpoint: &'a TableEndpoint,
    pub(crate) items: &'a Items,
}

/// Writes an event into the table, unless something newer stands there.
pub(crate) async fn send(table: Table<'_>, deadline: Deadline, delivery: &Delivery<'_>) -> Attempt {
    let deps = table.deps;
    // Made before the wait for its place, so that what cannot be sent takes none.
    let item = match item(table, delivery) {
        Ok(item) => item,
        Err(reason) => return Sent::Refused(reason).into(),
    };
    // Kept until the answer: so long the write is in flight.
    let _place = match place(deps, deadline, TIMEOUT).await {
        Ok(place) => place,
        Err(sent) => return sent.into(),
    };
    match tokio::time::timeout(TIMEOUT, deps.tables.put(&table.endpoint.table, item)).await {
        Ok(Ok(put)) => answered(put),
        Ok(Err(error)) => unanswered(&error),
        Err(_) => answer::too_late(),
    }
}
