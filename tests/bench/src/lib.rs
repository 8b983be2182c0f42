//! What the benchmarks share: the customer record, its model, and a clock around a loop.

use std::hint::black_box;
use std::time::Instant;

/// The record: 900 bytes of JSON.
pub const RECORD: &str = include_str!("customer.json");

/// The model: 5 rules, one of them a seal and one a token.
pub const MODEL: &str = include_str!("customer.yaml");

/// Nanoseconds of one call: the fastest of 15 rounds of 20,000, since everything that disturbs only adds.
pub fn nanoseconds<T>(mut call: impl FnMut() -> T) -> f64 {
    const CALLS: u32 = 20_000;
    let mut best = f64::INFINITY;
    for _ in 0..15 {
        let start = Instant::now();
        for _ in 0..CALLS {
            black_box(call());
        }
        best = best.min(start.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS));
    }
    best
}

/// The record as the body of a message in the Changes queue.
pub fn change() -> String {
    format!(
        r#"{{"id":"evt_JXbx1kVQ2lXDGZ7vbqeSYMuA1oPp6EYrVmYf1u8M3xk","source":"crm","model":"customer","operation":"create","version":"00000000-0000000000000000000000001732480000123456","occurred_at":"2026-11-24T20:19:23Z","origin":"crm","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","subjectkeyid":"3q2-7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","key":{{"customer_id":4711}},"before":null,"after":{RECORD}}}"#
    )
}
