//! The reader of databases against twins in memory: what it promises when everything works, and when it is killed, slow,
//! overtaken or refused at any step.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod backfills;
mod endings;
mod kills;
mod overlaps;
mod payloads;
mod record_ids;
mod rows;
mod steps;
mod table;
mod world;
