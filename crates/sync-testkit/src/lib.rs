//! Twins of the ports in memory, with faults that a test scripts, and builders of what Lambda hands a function; for real
//! adapters and functions a fault proxy ([`proxy`]).
//!
//! Each twin keeps the contract of its port (`sync_domain::ports`) as the adapter in `sync-aws` does: deduplication, order
//! within a group, conditional writes. Clones share their state, so that a test keeps one to look into.

mod alerts;
mod checkpoints;
mod dead_letters;
mod dice;
mod failures;
mod fault;
pub mod http;
mod items;
mod keys;
mod ledger;
mod lookup;
pub mod mapping;
mod meters;
pub mod postgres;
pub mod proxy;
mod queue;
mod receipts;
mod records;
mod secrets;
mod signer;
mod switch;
mod tables;
mod tickets;
mod topic;
pub mod workload;

pub use alerts::MemoryAlerts;
pub use checkpoints::MemoryCheckpoints;
pub use dead_letters::MemoryDeadLetterStore;
pub use dice::Dice;
pub use failures::MemoryFailureBus;
pub use fault::{Fault, Faults};
pub use items::MemoryItems;
pub use keys::{MemoryKeyService, MemoryKeyTable};
pub use ledger::MemoryLedger;
pub use lookup::MemoryLookup;
pub use meters::MemoryMeters;
pub use queue::{MemoryInbox, MemoryQueue, Stored};
pub use receipts::MemoryReceipts;
pub use records::{Record, event_of};
pub use secrets::MemorySecrets;
pub use signer::MemorySigner;
pub use switch::MemorySwitch;
pub use tables::MemoryTables;
pub use tickets::MemoryTickets;
pub use topic::{FilterError, MemoryTopic};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks whatever a panicked test left behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
