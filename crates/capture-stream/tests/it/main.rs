//! The stream from Lambda's payload to the queue, with everything around it in memory.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    reason = "a test that fails shall panic, helpers of tests too"
)]

mod backfill;
mod events;
mod failures;
mod mapping;
mod order;
mod stream;
mod values;
mod world;
