//! The shell around every function: settings, telemetry, the batch loop, parking, the deadline, the start.
//!
//! **Invariant.** No rule about records stands here: what a record means is decided in `sync-domain`, and this crate
//! sees to it that every record that came in has an accounted end.

pub mod backfill;
pub mod batch;
pub mod config;
pub mod deadline;
pub mod failpoint;
pub mod keyring;
pub mod park;
pub mod record_ids;
pub mod settings;
pub mod start;
pub mod telemetry;
