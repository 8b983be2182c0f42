//! DynamoDB: one adapter per table. Every table's partition key is the string `pk`.

mod breaker;
mod checkpoints;
mod discards;
mod item;
mod items;
mod keys;
mod ledger;
mod lookup;
mod receipts;
mod tickets;

pub use checkpoints::DynamoCheckpoints;
pub use discards::{Discard, Discards, DynamoDiscards};
pub use items::DynamoItems;
pub use keys::DynamoKeyTable;
pub use ledger::DynamoLedger;
pub use lookup::DynamoLookup;
pub use receipts::DynamoReceipts;
pub use tickets::DynamoTickets;

/// The partition key of every table.
const PK: &str = "pk";

#[cfg(test)]
mod tests;
