//! The whole flow on a laptop: the emulator, the real deployment on it, targets that check what they get, a source
//! that signs what it sends, a workload and an independent answer to what must arrive.
//!
//! **Invariant.** What must arrive is computed here without the product's code: the sample policy is stated a second
//! time (`expected`), sealed values are opened and tokens recomputed with another implementation (`opener`).

#![expect(clippy::indexing_slicing, reason = "a JSON value answers a name that it lacks with null, it does not panic")]

pub mod artifacts;
pub mod aws;
pub mod emulator;
pub mod http;
pub mod lookup;
pub mod place;
pub mod rig;
pub mod signature;
pub mod source;
pub mod stack;
pub mod target;
