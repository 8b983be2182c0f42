//! One attempt at a target that is reached by HTTP: the request as mapping and authentication make it, and what the
//! answer means.

mod answer;
mod auth;
mod request;

use sync_domain::config::HttpEndpoint;
use sync_domain::delivery::request::Requests;
use sync_domain::delivery::status::proves_refusal;
use sync_domain::outcome::Reason;
use sync_domain::ports::{self, Kind};
use sync_lambda::deadline::Deadline;
use zeroize::Zeroizing;

use self::answer::{answered, unanswered};
use self::auth::authenticate;
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

/// Sends an event; where the target or the way to it is in doubt, once more if its secret has changed meanwhile.
pub(crate) async fn send(http: Http<'_>, deadline: Deadline, delivery: &Delivery<'_>) -> Attempt {
    let deps = http.deps;
    let Some(name) = http.endpoint.auth.secret() else {
        return attempt(http, deadline, delivery, None).await;
    };
    let secret = match deps.secrets.get(name).await {
        Ok(secret) => secret,
        Err(error) => return no_secret(&error).into(),
    };
    let first = attempt(http, deadline, delivery, Some(&secret)).await;
    if !matches!(first.sent, Sent::Trouble(_) | Sent::Gone(_)) {
        return first;
    }
    let second = match deps.secrets.refresh(name).await {
        // The same request would get the same answer.
        Ok(fresh) if fresh == secret => return first,
        Ok(fresh) => attempt(http, deadline, delivery, Some(&fresh)).await,
        Err(error) => no_secret(&error).into(),
    };
    Attempt { may_be_there: first.may_be_there || second.may_be_there, ..second }
}

fn no_secret(error: &ports::Error) -> Sent {
    tracing::warn!(
        error.operation = error.operation,
        error.code = error.code,
        "the target's secret cannot be read"
    );
    match error.kind {
        Kind::Refused => Sent::Trouble(Reason::new("target_misconfigured", "endpoint.auth")),
        Kind::Unavailable | Kind::Behind => {
            Sent::Later(Reason::new("secret_unavailable", "endpoint.auth"), None)
        }
    }
}

async fn attempt(
    http: Http<'_>,
    deadline: Deadline,
    delivery: &Delivery<'_>,
    secret: Option<&Zeroizing<String>>,
) -> Attempt {
    let deps = http.deps;
    // Made before the wait for its place, so that what cannot be sent takes none.
    let mut request = match request(http, delivery) {
        Ok(request) => request,
        Err(reason) => return Sent::Refused(reason).into(),
    };
    if let Err(sent) = place(deps, deadline, http.endpoint.timeout).await {
        return sent.into();
    }
    let now = (deps.now)();
    if authenticate(http.endpoint, delivery, secret, now, &mut request).is_none() {
        return Sent::Trouble(Reason::new("target_misconfigured", "endpoint.auth")).into();
    }
    match deps.http.send(request).await {
        Ok(response) => Attempt {
            may_be_there: !proves_refusal(response.status),
            sent: answered(http.endpoint, delivery, &response, now),
            answered: true,
        },
        Err(error) => Attempt {
            answered: false,
            may_be_there: matches!(error, sync_http::Error::Broken | sync_http::Error::Timeout),
            sent: unanswered(error),
        },
    }
}
