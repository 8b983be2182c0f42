#![doc = include_str!("../README.md")]

pub mod alert;
pub mod deps;
pub mod failure;
pub mod settings;

use std::time::Duration;

use sync_domain::id::{ModelId, SourceId, TargetId};
use sync_domain::ports::{self, Kind, Ticket};

use crate::deps::Deps;
use crate::failure::Report;

/// How often the alert is sent, and given back, before the invocation fails.
const ATTEMPTS: u32 = 3;
/// The pause before the second attempt; it doubles.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a claim outlasts its hour, so that a late retry does not alert a second time.
const CLAIM_OUTLASTS: i64 = 24 * 60 * 60;

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
    /// The alert could not be sent. The claim was given back, so that the next attempt sends it.
    #[error("the alert for ticket {id} could not be sent")]
    Alert {
        /// The ticket's id.
        id: String,
        /// What the topic said.
        #[source]
        source: ports::Error,
    },
    /// The alert could not be sent and the claim not given back: this cause stays silent until its hour is over.
    #[error("the alert for ticket {id} could not be sent, nor its claim given back")]
    Silenced {
        /// The ticket's id.
        id: String,
        /// What the table said.
        #[source]
        source: ports::Error,
    },
}

impl Error {
    /// The failed call, if one failed.
    fn port(&self) -> Option<&ports::Error> {
        match self {
            Self::Unreadable(_) => None,
            Self::Ticket { source, .. }
            | Self::Claim { source, .. }
            | Self::Alert { source, .. }
            | Self::Silenced { source, .. } => Some(source),
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
/// and the claim come from the failure alone.
pub async fn handle(event: &str, deps: &Deps) -> Result<Done, Error> {
    let report = Report::read(event)?;
    let ticket = report.ticket(deps.ticket_days);
    let id = || ticket.id.clone();

    let opened = deps.tickets.open(&ticket).await.map_err(|source| Error::Ticket { id: id(), source })?;

    let cause = alert::cause(&ticket.failure, report.hour());
    let expires_at = report.hour_end().saturating_add(CLAIM_OUTLASTS);
    let claimed = deps.tickets.claim_alert(&cause, expires_at).await;
    let alerted = claimed.map_err(|source| Error::Claim { id: id(), source })?;
    if alerted && let Err(source) = send(deps, &ticket).await {
        release(deps, &cause).await.map_err(|source| Error::Silenced { id: id(), source })?;
        return Err(Error::Alert { id: id(), source });
    }
    let done = Done { opened, alerted };
    log(&ticket, done);
    Ok(done)
}

async fn send(deps: &Deps, ticket: &Ticket) -> ports::Result<()> {
    let (subject, text) = (alert::subject(&ticket.failure), alert::text(ticket));
    again(async || deps.alerts.send(&subject, &text).await).await
}

async fn release(deps: &Deps, cause: &str) -> ports::Result<()> {
    again(async || deps.tickets.release_alert(cause).await).await
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
