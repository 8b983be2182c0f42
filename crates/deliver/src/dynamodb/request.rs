//! The item that a delivery becomes.

use sync_domain::delivery::item::Item;
use sync_domain::delivery::ledger::TOMBSTONE_S;
use sync_domain::outcome::Reason;

use super::Table;
use crate::send::Delivery;

/// The item of a delivery; of a delete its tombstone, which lives as long as the ledger's.
pub(super) fn item(table: Table<'_>, delivery: &Delivery<'_>) -> Result<Item, Reason> {
    table.items.item(delivery.event, delivery.mapping, (table.deps.now)(), TOMBSTONE_S)
}
