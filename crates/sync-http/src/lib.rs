//! The one client for HTTP requests to the outside.
//!
//! Addresses come out of configuration, yet they are treated as hostile (see [`Guard`]). **Invariants.** A connection
//! is made only to an address that was checked after the name was resolved; redirects are not followed; no proxy is
//! taken from the environment; a response's body is bounded, and neither it nor an address stands in an error.

mod client;
mod connector;
mod error;
mod guard;
mod line;
mod resolver;

pub use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
pub use hyper::body::Bytes;

pub use self::client::{Client, Request, Response};
pub use self::error::Error;
pub use self::guard::{Guard, Refusal};
pub use self::line::{Connecting, Line, Lines};
pub use self::resolver::{Answer, Names, SystemNames};
