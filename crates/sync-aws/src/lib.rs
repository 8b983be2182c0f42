//! The AWS side of the ports: one adapter per service, each with the contract of `sync_domain::ports`.
//!
//! **Invariant.** No adapter talks to the network before its first call, and no error carries what a service said beyond
//! its code: a message of a service may quote the value that it refused.

mod batches;
pub mod clients;
pub mod dynamodb;
mod error;
pub mod eventbridge;
pub mod kms;
#[cfg(feature = "lambda")]
pub mod lambda;
pub mod s3;
pub mod secrets;
pub mod sigv4;
pub mod sns;
pub mod sqs;
#[cfg(feature = "lambda")]
pub mod switch;
