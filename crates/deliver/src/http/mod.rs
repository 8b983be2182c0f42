//! One attempt at a target that is reached by HTTP: the request as mapping and authentication make it, and what the
//! answer means.

pub mod access_tokens;
mod answer;
pub(crate) mod array;
mod auth;
mod request;

use sync_domain::config::HttpEndpoint;
use sync_domain::delivery::ledger::Effect;
use sync_domain::delivery::request::Requests;
use sync_domain::delivery::status::proves_refusal;
use sync_http::{Request, Response};
use sync_lambda::deadline::Deadline;

use self::answer::{answered, unanswered};
use self::auth::{Credential, another, authenticate, credential};
use self::request::request;
use crate::deps::Deps;
use crate::send::{Attempt, Delivery, Sent, place};

/// A target that is reached by HTTP.
#[derive(Clone, Copy)]
pub(crate) struct Http<'a> {
    pub(crate) deps: &'a Deps,
    pub(crate) endpoint: &'a HttpEndpoint,
    pub(crate) requests: &'a Requests,
}

/// What goes out in one request.
struct Parcel<'a> {
    /// `webhook-id`.
    id: &'a str,
    /// Without what proves where it comes from.
    request: Request,
    /// What a status of the whole request is about.
    effect: Effect,
}

/// What came of sending a parcel.
struct Reply {
    attempt: Attempt,
    /// The answer, if there was one.
    response: Option<Response>,
}

impl From<Sent> for Reply {
    /// An attempt that did not reach the target.
    fn from(sent: Sent) -> Self {
        Self { attempt: sent.into(), response: None }
    }
}

/// Sends an event in a request of its own.
pub(crate) async fn send(http: Http<'_>, deadline: Deadline, delivery: &Delivery<'_>) -> Attempt {
    match request(http, delivery) {
        Ok(request) => {
            let parcel = Parcel { id: delivery.event.id.as_str(), request, effect: delivery.effect };
            exchange(http, deadline, &parcel).await.attempt
        }
        Err(reason) => Sent::Refused(reason).into(),
    }
}

/// Sends a parcel; where the answer may be about the credential, once more if there is another one by now.
async fn exchange(http: Http<'_>, deadline: Deadline, parcel: &Parcel<'_>) -> Reply {
    let known = match credential(http, deadline).await {
        Ok(known) => known,
        Err(sent) => return sent.into(),
    };
    let first = attempt(http, deadline, parcel, &known).await;
    let status = first.response.as_ref().map(|response| response.status);
    let mut second = match another(http, deadline, &known, &first.attempt.sent, status).await {
        None => return first,
        Some(Ok(fresh)) => attempt(http, deadline, parcel, &fresh).await,
        Some(Err(sent)) => sent.into(),
    };
    second.attempt.may_be_there |= first.attempt.may_be_there;
    second
}

/// One request, and what came of it.
async fn attempt(http: Http<'_>, deadline: Deadline, parcel: &Parcel<'_>, credential: &Credential) -> Reply {
    let deps = http.deps;
    // Kept until the answer: so long the request is in flight.
    let _place = match place(deps, deadline, http.endpoint.timeout).await {
        Ok(place) => place,
        Err(sent) => return sent.into(),
    };
    let now = (deps.now)();
    let mut request = parcel.request.clone();
    if let Err(sent) = authenticate(http, parcel.id, credential, now, &mut request).await {
        return sent.into();
    }
    match deps.http.send(request).await {
        Ok(response) => {
            let (status, asked) = (response.status, response.header("retry-after"));
            let sent = answered(http.endpoint, parcel.effect, status, asked, now);
            let attempt = Attempt { sent, may_be_there: !proves_refusal(status), answered: true };
            Reply { attempt, response: Some(response) }
        }
        Err(error) => {
            let may_be_there = matches!(error, sync_http::Error::Broken | sync_http::Error::Timeout);
            let attempt = Attempt { sent: unanswered(error), may_be_there, answered: false };
            Reply { attempt, response: None }
        }
    }
}
