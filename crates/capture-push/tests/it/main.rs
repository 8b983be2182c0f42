//! The push endpoint from the gateway's payload to the queue, with everything around it in memory.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    reason = "a test that fails shall panic, helpers of tests too"
)]

mod bench;
mod content;
mod debezium;
mod events;
mod idempotency;
mod logs;
mod malformed;
mod mutated;
mod push;
mod queue;
