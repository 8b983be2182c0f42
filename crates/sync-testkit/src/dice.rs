//! Chance that can be repeated.

use std::time::{SystemTime, UNIX_EPOCH};

/// A small generator (xorshift64*): enough to choose by, and the same everywhere for one seed.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Dice of the seed in `CHAOS_SEED`, or of a new one; says which, so that the run can be repeated.
    #[expect(clippy::print_stdout, reason = "whoever reads a failure needs the seed")]
    pub fn from_env() -> Self {
        let given = std::env::var("CHAOS_SEED").ok().and_then(|text| text.parse().ok());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seed = given.unwrap_or(u64::from(now.subsec_nanos()) | 1);
        println!("CHAOS_SEED={seed}");
        Self::of(seed)
    }

    /// Dice of a seed, for what must not differ from run to run.
    pub fn of(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// Dice of their own for somebody who throws beside.
    pub fn split(&mut self) -> Self {
        Self(self.below(u64::MAX) | 1)
    }

    /// A number below `most`.
    pub fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % most.max(1)
    }
}
