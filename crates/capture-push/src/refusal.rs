//! How the endpoint says no: to a whole request, or to one change of it.

use std::borrow::Cow;

use serde::Serialize;
use sync_domain::scan::{self, ErrorKind};

/// No to a whole request: nothing of it was taken.
///
/// Message and code are for the sender. They name places (a header, an index, a byte) and the remedy, and never hold
/// anything that came in with the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{status}: {code}")]
pub struct Refusal {
    /// The HTTP status.
    #[serde(skip)]
    pub status: u16,
    /// What is wrong, for machines.
    pub code: &'static str,
    /// What is wrong and what to do, for people.
    pub message: String,
}

impl Refusal {
    /// Seconds after which a request that could not be taken is worth another try.
    pub const RETRY_AFTER: u32 = 5;

    /// A refusal with its status.
    pub fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// The one answer to a source that nobody knows and to a signature that does not fit, so that sources cannot be
    /// guessed.
    pub fn wrong_signature() -> Self {
        Self::new(
            401,
            "wrong_signature",
            "the signature fits no live secret of this source: sign `webhook-id.webhook-timestamp.body` over the raw \
             bytes of the body",
        )
    }

    /// The same for the route with IAM.
    pub fn wrong_principal() -> Self {
        Self::new(401, "wrong_principal", "the caller is not the principal that this source names")
    }

    /// A service behind the endpoint is away.
    pub fn unavailable(message: &'static str) -> Self {
        Self::new(503, "unavailable", message)
    }
}

impl From<scan::Error> for Refusal {
    fn from(error: scan::Error) -> Self {
        let status = if error.kind == ErrorKind::TooLong { 413 } else { 400 };
        Self::new(status, scan_code(error.kind), scan_message(error))
    }
}

/// No to one change; the others go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("change {index}: {code}")]
pub struct Rejection {
    /// Which change.
    pub index: usize,
    /// What is wrong, for machines.
    pub code: Cow<'static, str>,
    /// What is wrong and what to do, for people.
    pub message: String,
}

/// Why a change is refused, before its index is put in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong, for machines.
    pub code: Cow<'static, str>,
    /// What is wrong and what to do, for people.
    pub message: String,
}

impl Fault {
    /// A fault with its code.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into() }
    }

    /// The fault as the answer says it.
    pub fn at(self, index: usize) -> Rejection {
        Rejection { index, code: self.code, message: self.message }
    }
}

/// A scan error inside one change, with the change's place in the body in front.
pub(crate) fn fault_in_change(error: scan::Error, offset: usize) -> Fault {
    let error = scan::Error { kind: error.kind, offset: error.offset + offset };
    Fault::new(scan_code(error.kind), scan_message(error))
}

fn scan_message(error: scan::Error) -> String {
    let remedy = match error.kind {
        ErrorKind::UnexpectedEnd | ErrorKind::UnexpectedCharacter | ErrorKind::BadNumber => {
            "send JSON (RFC 8259)"
        }
        ErrorKind::TrailingCharacters => "send one JSON object and nothing behind it",
        ErrorKind::TooLong => "send fewer changes in one request",
        ErrorKind::TooDeep | ErrorKind::TooManyItems | ErrorKind::TooManyNames => {
            "send a flatter or smaller record"
        }
        ErrorKind::StringTooLong => "send a reference instead of the content",
        ErrorKind::DuplicateName => "send each name once in an object",
        ErrorKind::LoneSurrogate => "send both halves, or U+FFFD",
        ErrorKind::ControlCharacter | ErrorKind::BadEscape => "escape as RFC 8259 says",
        ErrorKind::NotUtf8 => "send UTF-8",
        ErrorKind::WrongType => "send one change, or an object with `changes`: an array of changes",
    };
    format!("{error}: {remedy}")
}

fn scan_code(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::UnexpectedEnd => "unexpected_end",
        ErrorKind::UnexpectedCharacter => "unexpected_character",
        ErrorKind::TrailingCharacters => "trailing_characters",
        ErrorKind::TooLong => "body_too_large",
        ErrorKind::TooDeep => "too_deep",
        ErrorKind::TooManyItems => "too_many_values",
        ErrorKind::TooManyNames => "too_many_names",
        ErrorKind::StringTooLong => "string_too_long",
        ErrorKind::DuplicateName => "duplicate_name",
        ErrorKind::LoneSurrogate => "lone_surrogate",
        ErrorKind::ControlCharacter => "control_character",
        ErrorKind::BadEscape => "bad_escape",
        ErrorKind::BadNumber => "bad_number",
        ErrorKind::NotUtf8 => "not_utf8",
        ErrorKind::WrongType => "wrong_shape",
    }
}
