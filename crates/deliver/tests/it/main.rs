//! The function against a real listener, with its other ports in memory.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

mod answers;
mod arrays;
mod breaker;
mod doubt;
mod endpoint;
mod judge;
mod ledger;
mod limits;
mod neighbours;
mod oauth2;
mod outages;
mod pace;
mod requests;
mod rotation;
mod samples;
mod sigv4;
mod sim;
mod tables;
mod world;
