//! The answer of the endpoint: what was taken, what was not, and why.

use std::collections::BTreeMap;

use serde::Serialize;
use sync_domain::outcome::{Outcome, Reason};

use crate::gateway::GatewayResponse;
use crate::refusal::{Refusal, Rejection};

/// The code of a change that the queue did not take.
pub const UNAVAILABLE: &str = "unavailable";
/// The code of a change whose model is not the source's.
pub const FORBIDDEN_MODEL: &str = "forbidden_model";

/// A change that stands in the queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Accepted {
    /// Its place in the request.
    pub index: usize,
    /// The change id.
    pub id: String,
}

/// An entry that is no change which anybody here asked for: a heartbeat, a tombstone behind its delete, a table that is
/// not wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PassedOver {
    /// Its place in the request.
    pub index: usize,
    /// What it is.
    pub code: &'static str,
}

/// What became of each change of a request, in the order of the request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Answer {
    /// What the queue has confirmed.
    pub accepted: Vec<Accepted>,
    /// What it has not.
    pub rejected: Vec<Rejection>,
    /// What nobody here asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<PassedOver>,
    /// The sender looks at the status alone: what is not accepted must show in it.
    #[serde(skip)]
    pub status_is_all: bool,
}

impl Answer {
    /// 202 as soon as one change stands in the queue, for a sender that looks at the status alone only if nothing was
    /// rejected. Otherwise 503 if trying again can help, 403 if the source may write none of the models, else 422.
    pub fn status(&self) -> u16 {
        let mut codes = self.rejected.iter().map(|rejection| rejection.code.as_ref());
        let taken = !self.status_is_all && !self.accepted.is_empty();
        if taken || self.rejected.is_empty() {
            202
        } else if codes.clone().any(|code| code == UNAVAILABLE) {
            503
        } else if codes.all(|code| code == FORBIDDEN_MODEL) {
            403
        } else {
            422
        }
    }

    /// How the way of each change through this stage ended.
    pub fn outcomes(&self) -> Vec<Outcome> {
        let refused = |rejection: &Rejection| match rejection.code.as_ref() {
            UNAVAILABLE => Outcome::Retry(Reason::new(UNAVAILABLE, "queue")),
            code => Outcome::Rejected(code.to_owned()),
        };
        let published = self.accepted.iter().map(|_| Outcome::Published);
        let passed_over = self.passed_over.iter().map(|item| Outcome::Filtered(item.code));
        published.chain(passed_over).chain(self.rejected.iter().map(refused)).collect()
    }
}

impl From<&Answer> for GatewayResponse {
    fn from(answer: &Answer) -> Self {
        respond(answer.status(), answer)
    }
}

impl From<&Refusal> for GatewayResponse {
    fn from(refusal: &Refusal) -> Self {
        respond(refusal.status, refusal)
    }
}

fn respond(status: u16, body: &impl Serialize) -> GatewayResponse {
    let mut headers = BTreeMap::from([
        ("cache-control", "no-store".to_owned()),
        ("content-type", "application/json".to_owned()),
    ]);
    if status == 503 {
        headers.insert("retry-after", Refusal::RETRY_AFTER.to_string());
    }
    if status == 405 {
        headers.insert("allow", "POST".to_owned());
    }
    // Only strings and numbers stand in it, so writing never fails.
    let body = serde_json::to_string(body).unwrap_or_default();
    GatewayResponse { status_code: status, headers, body, is_base64_encoded: false }
}
