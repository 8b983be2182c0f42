//! The rules of Data Sync without any input or output: what a change is, what governance makes of it, what an event
//! says, who gets it, what to do when something fails.
//!
//! **Invariant.** Nothing here reaches a clock, the environment, randomness, a file or the network: the time, keys and
//! nonces come in as arguments (`clippy.toml` beside this crate bans the rest, `tests/tests/architecture.rs` the dependencies).

pub mod capture;
pub mod change;
pub mod config;
pub mod credentials;
pub mod delivery;
pub mod event;
pub mod id;
pub mod oauth2;
pub mod outcome;
pub mod policy;
pub mod ports;
pub mod predicate;
pub mod protect;
pub mod scan;
pub mod sweep;
pub mod version;
pub mod webhook;
