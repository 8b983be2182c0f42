//! What the answer of a target means, and what it means that there is none.

use sync_domain::config::HttpEndpoint;
use sync_domain::delivery::backoff::retry_after;
use sync_domain::delivery::status::{Class, classify};
use sync_domain::outcome::Reason;
use sync_http::Response;

use crate::send::{Delivery, Sent};

/// What an answer means.
pub(super) fn answered(
    endpoint: &HttpEndpoint,
    delivery: &Delivery<'_>,
    response: &Response,
    now: i64,
) -> Sent {
    let place = format!("status {}", response.status);
    match classify(response.status, delivery.effect, &endpoint.statuses) {
        Class::Accepted => Sent::Accepted,
        Class::Stale => Sent::Outrun,
        Class::Rejected => Sent::Refused(Reason::new("refused_by_target", place)),
        Class::Misconfigured => Sent::Trouble(Reason::new("target_misconfigured", place)),
        Class::Paused => Sent::Gone(Reason::new("target_paused", place)),
        Class::Retry => {
            let reason = Reason::new("target_unavailable", place);
            let asked = response.header("retry-after").and_then(|text| retry_after(text, now));
            // A target that asks for time is there; so is one that says that this request came too often or too early.
            if response.status >= 500 && asked.is_none() {
                Sent::Away(reason)
            } else {
                Sent::Later(reason, asked)
            }
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
