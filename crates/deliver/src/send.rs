//! One attempt at a target, whatever kind its endpoint is: what goes in and what comes out.

use std::time::Duration;

use sync_domain::delivery::CompiledEndpoint;
use sync_domain::delivery::ledger::Effect;
use sync_domain::delivery::mapping::Mapping;
use sync_domain::event::ReceivedEvent;
use sync_domain::outcome::Reason;
use sync_lambda::deadline::Deadline;
use tokio::sync::SemaphorePermit;

use crate::collect::Collector;
use crate::deps::Deps;
use crate::dynamodb::{self, Table};
use crate::http::array::{self, Item};
use crate::http::{self, Http};
use crate::pace::Turn;

/// Time that an invocation needs behind an attempt: mark, set back, answer.
const MARGIN: Duration = Duration::from_secs(3);

/// An event on its way out.
pub(crate) struct Delivery<'a> {
    pub(crate) event: &'a ReceivedEvent<'a>,
    pub(crate) body: &'a str,
    pub(crate) mapping: &'a Mapping,
    pub(crate) effect: Effect,
}

/// What came of sending it.
#[derive(Debug, Clone)]
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
    /// Nothing was sent: the target's quota of today is used up.
    Spent(Reason),
    /// It will never work.
    Refused(Reason),
    /// Nothing will work until somebody helps the target or its configuration.
    Trouble(Reason),
    /// The target wants nothing any more.
    Gone(Reason),
}

/// What is known after sending.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    /// What came of it.
    pub(crate) sent: Sent,
    /// The target may have the event although it was not accepted: the event went out, and no answer came or one that
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

/// The arrays that the events of a batch are collected in.
pub(crate) type Arrays = Collector<Item>;

/// The arrays of a batch; none if the target takes single events.
pub(crate) fn arrays(deps: &Deps) -> Option<Arrays> {
    match deps.target.endpoint() {
        CompiledEndpoint::Http { endpoint, .. } => endpoint.array.map(Collector::new),
        CompiledEndpoint::DynamoDb { .. } => None,
    }
}

/// Works the groups of a batch, and sends the arrays that they fill.
pub(crate) async fn collected<R>(
    deps: &Deps,
    deadline: Deadline,
    arrays: Option<&Arrays>,
    groups: impl Future<Output = R>,
) -> R {
    match (arrays, deps.target.endpoint()) {
        (Some(arrays), CompiledEndpoint::Http { endpoint, requests }) => {
            let http = Http { deps, endpoint, requests };
            arrays.run(groups, async |items| array::send(http, deadline, &items).await).await
        }
        (None, _) | (_, CompiledEndpoint::DynamoDb { .. }) => groups.await,
    }
}

/// Sends an event to the target.
pub(crate) async fn send(
    deps: &Deps,
    deadline: Deadline,
    arrays: Option<&Arrays>,
    delivery: &Delivery<'_>,
) -> Attempt {
    match deps.target.endpoint() {
        CompiledEndpoint::Http { endpoint, requests } => {
            let http = Http { deps, endpoint, requests };
            match arrays {
                Some(arrays) => array::join(http, deadline, arrays, delivery).await,
                None => http::send(http, deadline, delivery).await,
            }
        }
        CompiledEndpoint::DynamoDb { endpoint, items } => {
            dynamodb::send(Table { deps, endpoint, items }, deadline, delivery).await
        }
    }
}

/// How long an attempt that may last for `timeout` can still wait; none if it could not end before the invocation does.
pub(crate) fn patience(deadline: Deadline, timeout: Duration) -> Option<Duration> {
    deadline.left().checked_sub(timeout.saturating_add(MARGIN))
}

/// Waits for an attempt's turn within the target's limits. It is in flight for as long as the place is kept. None is taken if
/// the attempt, which may last for `timeout`, could not end before the invocation does.
pub(crate) async fn place(
    deps: &Deps,
    deadline: Deadline,
    timeout: Duration,
) -> Result<Option<SemaphorePermit<'_>>, Sent> {
    let Some(patience) = patience(deadline, timeout) else {
        return Err(Sent::Later(Reason::new("no_time_left", ""), Some(Duration::ZERO)));
    };
    match deps.pace.turn(patience).await {
        Turn::Now(place) => Ok(place),
        Turn::Later(reason, wait) => Err(Sent::Later(reason, Some(wait))),
        Turn::Spent(reason) => Err(Sent::Spent(reason)),
    }
}
