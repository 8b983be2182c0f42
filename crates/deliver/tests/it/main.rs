//! The function against a real listener, with its other ports in memory.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

mod answers;
mod endpoint;
mod ledger;
mod requests;
mod samples;
mod world;
