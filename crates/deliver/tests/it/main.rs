//! The function against a real listener, with its other ports in memory.

mod answers;
mod endpoint;
mod ledger;
mod requests;
mod samples;
mod world;
