//! The whole flow on a laptop: the emulator, the real deployment on it, targets that check what they get, a source
//! that signs what it sends, a workload and an independent answer to what must arrive.
//!
//! **Invariant.** What must arrive is computed here without the product's code: the sample policy is stated a second
//! time (`expected`), sealed values are opened and tokens recomputed with another implementation (`opener`).

#![expect(
    clippy::indexing_slicing,
    reason = "a JSON value answers a name that it lacks with null, it does not panic"
)]

pub mod artifacts;
pub mod aws;
pub mod canary;
pub mod change;
pub mod dialect;
pub mod docker;
pub mod emulator;
pub mod expected;
pub mod group;
pub mod ink;
pub mod judge;
pub mod lookup;
pub mod mutants;
pub mod opener;
pub mod oracle;
pub mod place;
pub mod pos;
pub mod preferences;
pub mod raw;
pub mod report;
pub mod rig;
pub mod run;
pub mod signature;
pub mod sinks;
pub mod source;
pub mod stack;
pub mod target;
pub mod template;
pub mod workload;

pub use sync_testkit::http;
