//! DynamoDB: one adapter per table. Every table's partition key is the string `pk`.

mod breaker;
mod checkpoints;
mod discards;
mod item;
mod items;
mod keys;
mod ledger;
mod lookup;
mod meters;
mod receipts;
mod tables;
mod tickets;

pub use checkpoints::DynamoCheckpoints;
pub use discards::{Discard, Discards, DynamoDiscards};
pub use items::DynamoItems;
pub use keys::DynamoKeyTable;
pub use ledger::DynamoLedger;
pub use lookup::DynamoLookup;
pub use meters::DynamoMeters;
pub use receipts::DynamoReceipts;
pub use tables::DynamoTables;
pub use tickets::DynamoTickets;

use aws_sdk_dynamodb::operation::put_item::builders::PutItemFluentBuilder;
use sync_domain::ports::Result;

use crate::error::from_sdk;

/// The partition key of every table.
const PK: &str = "pk";

/// Puts an item under a condition; false = the condition does not hold.
async fn put_if(call: PutItemFluentBuilder, operation: &'static str) -> Result<bool> {
    match call.send().await {
        Ok(_) => Ok(true),
        Err(failed)
            if failed.as_service_error().is_some_and(|e| e.is_conditional_check_failed_exception()) =>
        {
            Ok(false)
        }
        Err(failed) => Err(from_sdk(operation, &failed)),
    }
}

#[cfg(test)]
mod tests;
