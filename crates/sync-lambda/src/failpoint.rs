//! Places where a test may let the process die, as if the machine were taken away.
//!
//! Only with the feature `failpoints` is anything compiled in; a deployed binary holds none of it. `FAILPOINT` names one
//! place and which pass through it is the last: `capture-pull.sent@2`.

/// The variable that names the place.
pub const VARIABLE: &str = "FAILPOINT";

/// What a process that dies at such a place ends with, and no other does.
pub const EXIT: i32 = 86;

/// Dies here if this pass is the one that `FAILPOINT` names: at once, without unwinding anything.
#[cfg(feature = "failpoints")]
pub fn pass(place: &'static str) {
    use std::collections::BTreeMap;
    use std::sync::{Mutex, PoisonError};

    static PASSED: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());

    let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
    let passes = passed.entry(place).or_default();
    *passes += 1;
    let named = std::env::var(VARIABLE).unwrap_or_default();
    let (name, last) = named.split_once('@').unwrap_or((&named, "1"));
    if name == place && last.parse() == Ok(*passes) {
        std::process::exit(EXIT);
    }
}

/// Nothing.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn pass(_: &'static str) {}
