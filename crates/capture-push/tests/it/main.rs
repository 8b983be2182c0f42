//! The push endpoint from the gateway's payload to the queue, with everything around it in memory.

mod bench;
mod content;
mod events;
mod idempotency;
mod logs;
mod malformed;
mod mutated;
mod push;
mod queue;
