//! Real functions that are killed on purpose, in front of a real database and the emulator's queues and tables; and dead
//! letters that are worked by the real command.
//!
//! The functions that are killed are built with the feature `failpoints` into `target/failpoints`, so that no other build ever holds
//! one. A run prints its seed, and `CHAOS_SEED` repeats it.
//!
//! `tests/workload` needs none of this: there the functions are called, with their ports in memory.

#![expect(
    clippy::indexing_slicing,
    reason = "a JSON value answers a name that it lacks with null, it does not panic"
)]

mod bed;
mod debezium;
mod depot;
mod erp;
mod functions;
mod history;
mod journal;
mod rows;
mod till;

pub use bed::Bed;
pub use debezium::{Debezium, Push};
pub use depot::{Depot, Grants, Said, record};
pub use erp::Erp;
pub use functions::{build, failpoints, invoke};
pub use history::History;
pub use journal::{Brought, Findings, Journal, Keeps, Mark, Shows};
pub use rows::{Pace, Rows, write};
pub use sync_testkit::Dice;
pub use till::{Till, Written};
