#![doc = include_str!("../README.md")]

mod backfill;
pub mod deps;
mod failures;
mod halt;
mod hand_off;
mod live;
pub mod open;
mod operate;
pub mod payload;
mod record_ids;
mod run;
pub mod settings;

use std::time::Duration;

use serde::Serialize;
use sync_domain::config::{Postgres, Source, parse_duration};
use sync_lambda::deadline::Deadline;
use tokio::time::Instant;

use crate::deps::Deps;
use crate::payload::{Payload, Work};

pub use crate::halt::Error;
pub use crate::operate::Status;
pub use crate::record_ids::Listed;
pub use crate::run::{Ended, LEASE, Report};
pub use sync_lambda::backfill::{Progress, State};

/// The time between the last page that is begun and the end of the invocation: enough to hand a page off.
const MARGIN: Duration = Duration::from_secs(6);

/// One invocation: who it is and how long it may work.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The owner of a lease: the request's id.
    pub owner: String,
    /// From when on no poll is begun.
    pub no_poll_after: Instant,
    /// From when on no page is begun.
    pub no_page_after: Instant,
}

impl Invocation {
    /// The invocation of a context, with runs of a length.
    pub fn of(context: &lambda_runtime::Context, run_for: Duration) -> Self {
        let left = Deadline::of(context).left().saturating_sub(MARGIN);
        let now = Instant::now();
        Self { owner: context.request_id.clone(), no_poll_after: now + run_for, no_page_after: now + left }
    }

    fn shortened(&self, payload: &Payload) -> Self {
        let asked = payload.run_for.as_deref().and_then(|text| parse_duration(text).ok());
        let no_poll_after =
            asked.map_or(self.no_poll_after, |asked| self.no_poll_after.min(Instant::now() + asked));
        Self { no_poll_after, ..self.clone() }
    }
}

/// What an invocation answers. The schedule reads none of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// A run.
    Run(Report),
    /// A backfill's progress.
    Backfill(Progress),
    /// Some record ids.
    RecordIds(Listed),
    /// How the source stands.
    Status(Status),
}

/// Does what the payload asks for.
pub async fn handle(payload: &Payload, deps: &Deps, invocation: &Invocation) -> Result<Answer, Error> {
    let (source, postgres) = source(payload, deps)?;
    match &payload.work {
        Work::Poll => {
            let invocation = invocation.shortened(payload);
            run::run(source, postgres, deps, &invocation).await.map(Answer::Run)
        }
        Work::Backfill(asked) => backfill::step(source, asked, deps, invocation).await.map(Answer::Backfill),
        Work::PauseBackfill(run) => backfill::pause(source, run, deps).await.map(Answer::Backfill),
        Work::ResumeBackfill(run) => backfill::resume(source, run, deps).await.map(Answer::Backfill),
        Work::BackfillStatus(run) => backfill::status(source, run, deps).await.map(Answer::Backfill),
        Work::RecordIds(asked) => {
            record_ids::list(source, asked, deps, invocation).await.map(Answer::RecordIds)
        }
        Work::Status => operate::status(source, deps).await.map(Answer::Status),
        Work::Resume => operate::resume(source, deps).await.map(Answer::Status),
        Work::Resync => operate::resync(source, postgres, deps).await.map(Answer::Status),
    }
}

fn source<'d>(payload: &Payload, deps: &'d Deps) -> Result<(&'d Source, &'d Postgres), Error> {
    let found = deps.sources.get(&payload.source);
    let read = found.and_then(|source| Some((source, source.postgres.as_ref()?)));
    read.ok_or_else(|| Error::UnknownSource(payload.source.to_string()))
}
