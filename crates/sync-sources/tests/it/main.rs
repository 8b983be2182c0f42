//! Reading a real PostgreSQL.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails shall panic, helpers of tests too"
)]

mod connect;
mod log;
mod mutants;
mod snapshot;
mod stand;
mod timestamp;
mod trigger;
mod values;
mod workload;
