//! A clock around a loop. The floor is built without the rest of this package, so this stands alone.

use std::hint::black_box;
use std::time::Instant;

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
