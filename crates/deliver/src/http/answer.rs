//! What the answer of a target means, and what it means that there is none.

use sync_domain::config::HttpEndpoint;
use sync_domain::delivery::backoff::retry_after;
use sync_domain::delivery::ledger::Effect;
use sync_domain::delivery::status::{Class, classify};
use sync_domain::outcome::Reason;

use crate::send::Sent;

/// What a status means, with what the target says of when to come again (`Retry-After`).
pub(super) fn answered(
    endpoint: &HttpEndpoint,
    effect: Effect,
    status: u16,
    asked: Option<&str>,
    now: i64,
) -> Sent {
    let place = format!("status {status}");
    match classify(status, effect, &endpoint.statuses) {
        Class::Accepted => Sent::Accepted,
        Class::Stale => Sent::Outrun,
        Class::Rejected => Sent::Refused(Reason::new("refused_by_target", place)),
        Class::Misconfigured => Sent::Trouble(Reason::new("target_misconfigured", place)),
        Class::Paused => Sent::Gone(Reason::new("target_paused", place)),
        Class::Retry => {
            let reason = Reason::new("target_unavailable", place);
            let asked = asked.and_then(|text| retry_after(text, now));
            // A target that asks for time is there; so is one that says that this request came too often or too early.
            if status >= 500 && asked.is_none() { Sent::Away(reason) } else { Sent::Later(reason, asked) }
        }
    }
}

/// What it means that there is no answer.
pub(super) fn unanswered(error: sync_http::Error) -> Sent {
    match error {
        // The address was read at the start, so only what the record put into it can be wrong.
        sync_http::Error::Malformed => Sent::Refused(Reason::new("malformed_request", "data.key")),
        sync_http::Error::Refused(_) => Sent::Trouble(Reason::new("target_misconfigured", error.code())),
        sync_http::Error::Name
        | sync_http::Error::Connect
        | sync_http::Error::Broken
        | sync_http::Error::Timeout => Sent::Away(Reason::new("target_unreachable", error.code())),
    }
}
