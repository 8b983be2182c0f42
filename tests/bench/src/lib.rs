//! Measures the functions' real binaries against a runtime API, an AWS endpoint and a target of its own, all on this
//! machine. What is measured, and what the numbers contain, stands in `docs/PERFORMANCE.md`.

pub mod artifacts;
pub mod clock;
pub mod function;
pub mod http;
pub mod log;
pub mod outside;
pub mod pipeline;
pub mod runtime;
pub mod stub;
pub mod workload;
pub mod world;

use std::path::Path;

pub use crate::clock::nanoseconds;

/// The record: 900 bytes of JSON.
pub const RECORD: &str = include_str!("customer.json");

/// The model: 5 rules, one of them a seal and one a token.
pub const MODEL: &str = include_str!("customer.yaml");

/// The root of the repository.
pub fn root() -> &'static Path {
    let bench = Path::new(env!("CARGO_MANIFEST_DIR"));
    bench.ancestors().nth(2).unwrap_or(bench)
}

/// The record as the body of a message in the Changes queue.
pub fn change() -> String {
    format!(
        r#"{{"id":"evt_JXbx1kVQ2lXDGZ7vbqeSYMuA1oPp6EYrVmYf1u8M3xk","source":"crm","model":"customer","operation":"create","version":"00000000-0000000000000000000000001732480000123456","occurred_at":"2026-11-24T20:19:23Z","origin":"crm","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","subjectkeyid":"3q2-7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","key":{{"customer_id":4711}},"before":null,"after":{RECORD}}}"#
    )
}
