//! One attempt at a target that is reached by HTTP: the request as mapping and authentication make it, and what the
//! answer means.

mod answer;
mod auth;
mod request;

use std::time::{Duration, Instant};

use sync_domain::delivery::ledger::Effect;
use sync_domain::delivery::mapping::Mapping;
use sync_domain::delivery::status::proves_refusal;
use sync_domain::event::ReceivedEvent;
use sync_domain::outcome::Reason;
use sync_domain::ports::{self, Kind};
use sync_lambda::deadline::Deadline;
use zeroize::Zeroizing;

use self::answer::{answered, unanswered};
use self::auth::authenticate;
use self::request::request;
use crate::deps::Deps;

/// Time that an invocation needs behind a request: mark, set back, answer.
const MARGIN: Duration = Duration::from_secs(3);

/// An event on its way out.
pub(crate) struct Delivery<'a> {
    pub(crate) event: &'a ReceivedEvent<'a>,
    pub(crate) body: &'a str,
    pub(crate) mapping: &'a Mapping,
    pub(crate) effect: Effect,
}

/// What came of sending it.
#[derive(Debug)]
pub(crate) enum Sent {
    /// The target has it.
    Accepted,
    /// The target has something newer.
    Outrun,
    /// It may work later; perhaps the target said when.
    Later(Reason, Option<Duration>),
    /// The target is away: no answer, or an error of its own.
    Away(Reason),
    /// Nothing was sent: the target is not to be asked now.
    Held(Reason),
    /// It will never work.
    Refused(Reason),
    /// Nothing will work until somebody helps the target or its configuration.
    Trouble(Reason),
    /// The target wants nothing any more.
    Gone(Reason),
}

/// What is known after sending.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// What came of it.
    pub(crate) sent: Sent,
    /// The target may have the event although it was not accepted: the request went out, and no answer came or one that
    /// does not prove the opposite.
    pub(crate) may_be_there: bool,
    /// The target has answered.
    pub(crate) answered: bool,
}

impl From<Sent> for Attempt {
    /// An attempt that did not reach the target.
    fn from(sent: Sent) -> Self {
        Self { sent, may_be_there: false, answered: false }
    }
}

/// Sends an event; where the target or the way to it is in doubt, once more if its secret has changed meanwhile.
pub(crate) async fn send(deps: &Deps, deadline: Deadline, delivery: &Delivery<'_>) -> Attempt {
    let Some(name) = deps.target.target().endpoint.auth.secret() else {
        return attempt(deps, deadline, delivery, None).await;
    };
    let secret = match deps.secrets.get(name).await {
        Ok(secret) => secret,
        Err(error) => return no_secret(&error).into(),
    };
    let first = attempt(deps, deadline, delivery, Some(&secret)).await;
    if !matches!(first.sent, Sent::Trouble(_) | Sent::Gone(_)) {
        return first;
    }
    let second = match deps.secrets.refresh(name).await {
        // The same request would get the same answer.
        Ok(fresh) if fresh == secret => return first,
        Ok(fresh) => attempt(deps, deadline, delivery, Some(&fresh)).await,
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
    deps: &Deps,
    deadline: Deadline,
    delivery: &Delivery<'_>,
    secret: Option<&Zeroizing<String>>,
) -> Attempt {
    let timeout = deps.target.target().endpoint.timeout;
    let no_time = || Sent::Later(Reason::new("no_time_left", ""), Some(Duration::ZERO)).into();
    let Some(patience) = deadline.left().checked_sub(timeout.saturating_add(MARGIN)) else {
        return no_time();
    };
    // Made before the wait for its place, so that what cannot be sent takes none.
    let mut request = match request(deps, delivery, timeout) {
        Ok(request) => request,
        Err(reason) => return Sent::Refused(reason).into(),
    };
    let Some(wait) = deps.pace.take(Instant::now(), patience) else { return no_time() };
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    let now = (deps.now)();
    if authenticate(deps, delivery, secret, now, &mut request).is_none() {
        return Sent::Trouble(Reason::new("target_misconfigured", "endpoint.auth")).into();
    }
    match deps.http.send(request).await {
        Ok(response) => Attempt {
            may_be_there: !proves_refusal(response.status),
            sent: answered(deps, delivery, &response, now),
            answered: true,
        },
        Err(error) => Attempt {
            answered: false,
            may_be_there: matches!(error, sync_http::Error::Broken | sync_http::Error::Timeout),
            sent: unanswered(error),
        },
    }
}
