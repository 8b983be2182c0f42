#![doc = include_str!("../README.md")]

pub mod alert;
pub mod deps;
pub mod failure;
pub mod settings;

use std::time::Duration;

use sync_domain::id::{ModelId, SourceId, TargetId};
use sync_domain::ports::{self, Kind, Ticket};
use sync_lambda::failpoint;

use crate::deps::Deps;
use crate::failure::Report;

/// How often the alert is sent, or noted as sent, before that is given up.
const ATTEMPTS: u32 = 3;
/// The pause before the second attempt; it doubles.
const PAUSE: Duration = Duration::from_millis(200);
/// How long others leave an alert to whoever claimed it: longer than an invocation (30 seconds) lives.
const CLAIM: Duration = Duration::from_secs(60);
/// How long it is known beyond its hour that an alert was sent, so that a late retry does not send a second one.
const SETTLED_OUTLASTS: i64 = 24 * 60 * 60;

/// Why an invocation fails. Lambda then tries it again and hands it to the dead-letter queue in the end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The event is not a failure event; trying again will not help.
    #[error(transparent)]
    Unreadable(#[from] failure::Error),
    /// The ticket could not be written.
    #[error("the ticket {id} could not be written")]
    Ticket {
        /// The ticket's id.
        id: String,
        /// What the table said.
        #[source]
        source: ports::Error,
    },
    /// The right to alert could not be taken.
    #[error("the claim to alert for ticket {id} could not be made")]
    Claim {
        /// The ticket's id.
        id: String,
        /// What the table said.
        #[source]
        source: ports::Error,
    },
    /// The alert could not be sent. The next attempt sends it.
    #[error("the alert for ticket {id} could not be sent")]
    Alert {
        /// The ticket's id.
        id: String,
        /// What the topic said.
        #[source]
        source: ports::Error,
    },
}

impl Error {
    /// The failed call, if one failed.
    fn port(&self) -> Option<&ports::Error> {
        match self {
            Self::Unreadable(_) => None,
            Self::Ticket { source, .. } | Self::Claim { source, .. } | Self::Alert { source, .. } => {
                Some(source)
            }
        }
    }
}

/// What an invocation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// The ticket was written now; false = an earlier attempt had written it.
    pub opened: bool,
    /// The alert was sent now; false = the cause had one this hour.
    pub alerted: bool,
}

/// One invocation: [`handle`], with the failure of a port named in the log, because the error that Lambda shows holds the
/// ticket's id only. The answer is empty; nobody reads it.
pub async fn invoke(event: &str, deps: &Deps) -> Result<(), Error> {
    let failed = match handle(event, deps).await {
        Ok(_) => return Ok(()),
        Err(failed) => failed,
    };
    match failed.port() {
        Some(port) => {
            tracing::error!(error = %failed, error.code = port.code, error.operation = port.operation, "the failure has no ticket or alert yet");
        }
        None => tracing::error!(error = %failed, "the event cannot be read"),
    }
    Err(failed)
}

/// Writes the ticket of a failure, then alerts if nobody did for this cause in this hour.
///
/// The ticket comes first: an alert names a ticket that stands. Every step can be done again, because the ticket's id
/// and the cause come from the failure alone. The claim is the ticket's until the alert was sent: an attempt that dies in
/// between leaves it to the next attempt at the same failure, and after a minute to any failure of the cause. What is left
/// to chance is a second alert (a death between alert and settling), never silence.
pub async fn handle(event: &str, deps: &Deps) -> Result<Done, Error> {
    let report = Report::read(event)?;
    let ticket = report.ticket(deps.ticket_days);
    let id = || ticket.id.clone();

    failpoint::pass("ticket.read");
    let opened = deps.tickets.open(&ticket).await.map_err(|source| Error::Ticket { id: id(), source })?;
    failpoint::pass("ticket.opened");

    let cause = alert::cause(&ticket.failure, report.hour());
    let claimed = deps.tickets.claim_alert(&cause, &ticket.id, CLAIM).await;
    let alerted = claimed.map_err(|source| Error::Claim { id: id(), source })?;
    failpoint::pass("ticket.claimed");
    if alerted {
        send(deps, &ticket).await.map_err(|source| Error::Alert { id: id(), source })?;
        failpoint::pass("ticket.alerted");
        settle(deps, &cause, report.hour_end().saturating_add(SETTLED_OUTLASTS)).await;
        failpoint::pass("ticket.settled");
    }
    let done = Done { opened, alerted };
    log(&ticket, done);
    Ok(done)
}

async fn send(deps: &Deps, ticket: &Ticket) -> ports::Result<()> {
    let (subject, text) = (alert::subject(&ticket.failure), alert::text(ticket));
    again(async || deps.alerts.send(&subject, &text).await).await
}

/// Notes that the alert was sent. People have it by then, so a failure is no reason to fail: another may follow.
async fn settle(deps: &Deps, cause: &str, expires_at: i64) {
    if let Err(error) = again(async || deps.tickets.settle_alert(cause, expires_at).await).await {
        tracing::warn!(
            error.operation = error.operation,
            error.code = error.code,
            "it is not noted that the alert was sent"
        );
    }
}

/// Calls up to [`ATTEMPTS`] times while the service is away; a refusal is final.
async fn again(call: impl AsyncFn() -> ports::Result<()>) -> ports::Result<()> {
    let mut pause = PAUSE;
    for _ in 1..ATTEMPTS {
        match call().await {
            Err(error) if error.kind != Kind::Refused => tokio::time::sleep(pause).await,
            done => return done,
        }
        pause = pause.saturating_mul(2);
    }
    call().await
}

fn log(ticket: &Ticket, done: Done) {
    let failure = &ticket.failure;
    tracing::info!(
        stage = failure.stage.as_str(),
        reason = failure.reason.code,
        source.id = failure.source.as_ref().map(SourceId::as_str),
        model.id = failure.model.as_ref().map(ModelId::as_str),
        target.id = failure.target.as_ref().map(TargetId::as_str),
        message.id = failure.message_id,
        outcome = match (done.opened, done.alerted) {
            (true, true) => "opened, alerted",
            (true, false) => "opened",
            (false, true) => "stood already, alerted",
            (false, false) => "stood already",
        },
        "the failure has a ticket"
    );
}
