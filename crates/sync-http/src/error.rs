//! Why a request has no answer.

use std::error::Error as StdError;

use crate::guard::Refusal;

/// A request without an answer. It names no address and no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The guard refused the address.
    #[error("the address is refused: {0}")]
    Refused(#[from] Refusal),
    /// The request cannot be written down as HTTP.
    #[error("the request is malformed")]
    Malformed,
    /// The name does not resolve.
    #[error("the name does not resolve")]
    Name,
    /// No connection, or no TLS session on it.
    #[error("no connection")]
    Connect,
    /// The connection broke before the answer was there. The other side may have done what it was asked.
    #[error("the connection broke")]
    Broken,
    /// No answer in time. The other side may have done what it was asked.
    #[error("no answer in time")]
    Timeout,
}

impl Error {
    /// The error as a code for reasons and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(_) => "address_refused",
            Self::Malformed => "malformed_request",
            Self::Name => "name_not_resolved",
            Self::Connect => "no_connection",
            Self::Broken => "connection_broken",
            Self::Timeout => "timeout",
        }
    }

    pub(crate) fn of_client(error: &hyper_util::client::legacy::Error) -> Self {
        let mut cause: Option<&(dyn StdError + 'static)> = error.source();
        while let Some(inner) = cause {
            if let Some(own) = inner.downcast_ref::<Self>() {
                return *own;
            }
            cause = inner.source();
        }
        if error.is_connect() { Self::Connect } else { Self::Broken }
    }
}
