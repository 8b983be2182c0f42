//! A run: takes the lease, polls until its time is over, gives the lease back.
//!
//! The order is what nothing may be lost by: a page is read, its changes are confirmed by the queue, then its cursor is
//! saved under the lease's token, then the source may forget. Whatever dies in between makes the next run read the page
//! again, and the queue or the ledger drops what it has.

use std::time::Duration;

use serde::Serialize;
use sync_domain::config::{Postgres, Source, parse_duration};
use sync_domain::outcome::Stage;
use sync_domain::ports::{Lease, Taken};
use sync_lambda::{failpoint, telemetry};
use sync_sources::{self as sources, Kind, Page, Reader};
use tokio::time::Instant;

use crate::Invocation;
use crate::deps::Deps;
use crate::failures;
use crate::halt::{Error, Halt};
use crate::hand_off::{HandOff, Handed};
use crate::live;

/// How long a lease lasts without a save: the longest that a run that was killed keeps the next one waiting.
pub const LEASE: Duration = Duration::from_secs(30);
/// The pause between two polls where the source's file says nothing.
const POLL: Duration = Duration::from_secs(1);
/// How much longer than a page may be begun it may be sent; what is left then is for the end of the run.
const PAGE_MARGIN: Duration = Duration::from_secs(4);

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// Its time was over.
    Done,
    /// Another run reads the source, or another session its slot.
    Busy,
    /// The source is stopped.
    Stopped,
    /// Another run took the lease meanwhile.
    Overtaken,
    /// The database went away in the middle of the run.
    Unavailable,
}

impl Ended {
    fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Busy => "busy",
            Self::Stopped => "stopped",
            Self::Overtaken => "overtaken",
            Self::Unavailable => "unavailable",
        }
    }
}

/// What a run did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// How it ended.
    pub ended: Ended,
    /// Whole polls.
    pub polls: u64,
    /// Changes that the queue confirmed.
    pub changes: u64,
    /// Rows that cannot go on and have a ticket.
    pub refused: u64,
    /// The longest time between a row's commit and the queue's confirmation.
    pub lag_ms: u64,
    /// What the source says of itself.
    #[serde(skip)]
    pub gauges: Vec<(&'static str, f64)>,
}

impl Report {
    fn new(ended: Ended) -> Self {
        Self { ended, polls: 0, changes: 0, refused: 0, lag_ms: 0, gauges: Vec::new() }
    }

    pub(crate) fn count(&mut self, handed: Handed) {
        self.changes = self.changes.saturating_add(handed.sent as u64);
        self.refused = self.refused.saturating_add(handed.refused as u64);
        self.lag_ms = self.lag_ms.max(u64::try_from(handed.lag.as_millis()).unwrap_or(u64::MAX));
    }
}

/// Reads the changes of a source.
pub(crate) async fn run(
    source: &Source,
    postgres: &Postgres,
    deps: &Deps,
    invocation: &Invocation,
) -> Result<Report, Error> {
    let taken = deps.checkpoints.take(source.source.as_str(), &invocation.owner, LEASE).await?;
    let (lease, checkpoint) = match taken {
        Taken::Held(lease, checkpoint) => (lease, checkpoint),
        Taken::Busy => return Ok(close(source, Report::new(Ended::Busy))),
        Taken::Stopped(checkpoint) => {
            let code = checkpoint.stopped.as_deref().unwrap_or_default();
            let epoch = checkpoint.epoch.max(postgres.epoch);
            let report = failures::report(deps, &[failures::of_stopped(source, epoch, code)]).await;
            let ended = close(source, Report::new(Ended::Stopped));
            report?;
            return Ok(ended);
        }
    };
    failpoint::pass("capture-pull.leased");
    let mut run = Run {
        deps,
        source,
        postgres,
        invocation,
        pause: pause(postgres),
        epoch: checkpoint.epoch.max(postgres.epoch),
        // The run before may have died between the two: told twice does no harm.
        unconfirmed: checkpoint.cursor.is_some(),
        saved: checkpoint.cursor,
        seen: None,
        lease,
        held_until: Instant::now() + LEASE,
        report: Report::new(Ended::Done),
    };
    let halted = run.work().await.err();
    run.end(halted).await
}

struct Run<'a> {
    deps: &'a Deps,
    source: &'a Source,
    postgres: &'a Postgres,
    invocation: &'a Invocation,
    pause: Duration,
    epoch: u32,
    /// The cursor in the checkpoint.
    saved: Option<String>,
    /// A cursor further on with no change before it: not worth a write by itself.
    seen: Option<String>,
    /// The source may not have heard of the saved cursor.
    unconfirmed: bool,
    lease: Lease,
    /// When the lease may be somebody else's, by our clock.
    held_until: Instant,
    report: Report,
}

impl Run<'_> {
    async fn work(&mut self) -> Result<(), Halt> {
        let ids = self.deps.ids.hasher().await?;
        let mut reader = self.deps.open.reader(self.source).await?;
        // Before the first poll, which may be cut in the middle: how a source stands matters most when it is far behind.
        self.gauge(&mut *reader).await;
        loop {
            let whole = self.poll(&mut *reader, ids).await?;
            if !whole || self.report.polls == 1 {
                self.gauge(&mut *reader).await;
            }
            if whole && self.report.polls == 1 {
                let (checkpoints, owner) = (&*self.deps.checkpoints, self.invocation.owner.as_str());
                live::tell(self.source, self.postgres, self.epoch, checkpoints, owner).await?;
            }
            let next = Instant::now() + self.pause;
            if !whole || next >= self.invocation.no_poll_after {
                break;
            }
            tokio::time::sleep_until(next).await;
        }
        self.settle(&mut *reader).await
    }

    /// What the source says of itself is for metrics: a run does not end for want of it.
    async fn gauge(&mut self, reader: &mut dyn Reader) {
        match reader.gauges().await {
            // A session that is busy with a long poll says nothing; what it said before stands.
            Ok(gauges) if gauges.is_empty() => {}
            Ok(gauges) => self.report.gauges = gauges,
            Err(error) => tracing::warn!(
                source.id = self.source.source.as_str(),
                reason = error.code,
                place = error.place,
                "the source's gauges cannot be read"
            ),
        }
    }

    /// One poll; false if the run's time was over before its end.
    async fn poll(
        &mut self,
        reader: &mut dyn Reader,
        ids: &sync_domain::protect::IdHasher,
    ) -> Result<bool, Halt> {
        let hand_off = HandOff { deps: self.deps, source: self.source, ids, run: None, only: None };
        let from = self.seen.as_ref().or(self.saved.as_ref()).cloned();
        reader.begin(from.as_deref(), self.epoch).await?;
        failpoint::pass("capture-pull.begun");
        while let Some(page) = reader.page().await? {
            failpoint::pass("capture-pull.read");
            let in_time = self.take(&hand_off, page).await?;
            if !in_time || Instant::now() >= self.invocation.no_page_after {
                return Ok(false);
            }
        }
        self.report.polls = self.report.polls.saturating_add(1);
        if self.unconfirmed {
            self.confirm(reader).await?;
        }
        Ok(true)
    }

    /// Hands a page off and saves its cursor; false if it could not be sent in time. A call to the queue holds one change of
    /// a record, so that a page of one record takes as many calls as it has rows: the next run, with its whole time, sends
    /// it again, which is better than to be ended in the middle with the lease in hand.
    async fn take(&mut self, hand_off: &HandOff<'_>, page: Page) -> Result<bool, Halt> {
        if !page.rows.is_empty() {
            self.still_held().await?;
            let until = self.invocation.no_page_after + PAGE_MARGIN;
            let Ok(handed) = tokio::time::timeout_at(until, hand_off.rows(&page.rows)).await else {
                tracing::warn!(
                    source.id = self.source.source.as_str(),
                    batch.record_count = page.rows.len(),
                    "a page was not sent in the time that was left; the next run sends it again"
                );
                return Ok(false);
            };
            failpoint::pass("capture-pull.sent");
            self.report.count(handed?);
            self.save(page.cursor).await?;
            return Ok(true);
        }
        self.seen = Some(page.cursor);
        // The first cursor of a source says where its history with us begins.
        if self.saved.is_none() || self.held_for() < LEASE / 2 {
            self.save_seen().await?;
        }
        Ok(true)
    }

    /// Before anything is handed off by a run that was slow: is the lease still ours?
    async fn still_held(&mut self) -> Result<(), Halt> {
        if !self.held_for().is_zero() {
            return Ok(());
        }
        match self.saved.clone() {
            Some(cursor) => self.save(cursor).await,
            None => Ok(()),
        }
    }

    fn held_for(&self) -> Duration {
        self.held_until.saturating_duration_since(Instant::now())
    }

    async fn save(&mut self, cursor: String) -> Result<(), Halt> {
        let asked_at = Instant::now();
        if !self.deps.checkpoints.save(&mut self.lease, &cursor, LEASE).await? {
            return Err(Halt::Overtaken);
        }
        failpoint::pass("capture-pull.saved");
        self.held_until = asked_at + LEASE;
        self.unconfirmed = self.unconfirmed || self.saved.as_ref() != Some(&cursor);
        self.saved = Some(cursor);
        self.seen = None;
        Ok(())
    }

    async fn save_seen(&mut self) -> Result<(), Halt> {
        match self.seen.take() {
            Some(cursor) => self.save(cursor).await,
            None => Ok(()),
        }
    }

    async fn confirm(&mut self, reader: &mut dyn Reader) -> Result<(), Halt> {
        if let Some(cursor) = &self.saved {
            reader.confirm(cursor).await?;
            self.unconfirmed = false;
        }
        failpoint::pass("capture-pull.confirmed");
        Ok(())
    }

    /// The last step of a run that ends in time.
    async fn settle(&mut self, reader: &mut dyn Reader) -> Result<(), Halt> {
        self.save_seen().await?;
        if self.unconfirmed { self.confirm(reader).await } else { Ok(()) }
    }

    async fn end(mut self, halted: Option<Halt>) -> Result<Report, Error> {
        let failed = match halted {
            None => None,
            Some(Halt::Overtaken) => {
                self.report.ended = Ended::Overtaken;
                return Ok(close(self.source, self.report));
            }
            Some(Halt::Port(error)) => Some(Error::from(error)),
            Some(Halt::Source(error)) => {
                tracing::warn!(
                    source.id = self.source.source.as_str(),
                    reason = error.code,
                    error = %error,
                    "the source cannot be read on"
                );
                match error.kind {
                    Kind::Busy => {
                        self.report.ended = Ended::Busy;
                        None
                    }
                    Kind::Unavailable => {
                        self.report.ended = Ended::Unavailable;
                        // A poll that never comes to its end, for one table of several perhaps, is for people to see.
                        (self.report.polls == 0).then_some(Error::from(error))
                    }
                    Kind::Misconfigured => {
                        let failure = failures::of_source(self.source, self.epoch, &error);
                        let reported = failures::report(self.deps, &[failure]).await;
                        Some(reported.err().map_or(Error::from(error), Error::from))
                    }
                    Kind::Lost => return self.stop(&error).await,
                }
            }
        };
        // A lease that stays behind ends by itself.
        if let Err(error) = self.deps.checkpoints.release(&self.lease).await {
            tracing::warn!(
                error.operation = error.operation,
                error.code = error.code,
                "the lease was not given back"
            );
        }
        let report = close(self.source, self.report);
        failed.map_or(Ok(report), Err)
    }

    /// Stops the source: what lies between the cursor and now cannot be read any more, and reading on would hide that.
    async fn stop(mut self, error: &sources::Error) -> Result<Report, Error> {
        // Under the lease's token first: to a run that was overtaken the source may look lost, and is not.
        if !self.deps.checkpoints.stop(&self.lease, error.code).await? {
            self.report.ended = Ended::Overtaken;
            return Ok(close(self.source, self.report));
        }
        // Should this run die here, the next one finds the source stopped and reports it.
        let failure = failures::of_stopped(self.source, self.epoch, error.code);
        let reported = failures::report(self.deps, &[failure]).await;
        tracing::error!(
            source.id = self.source.source.as_str(),
            reason = error.code,
            place = error.place,
            "the source is stopped until a resync"
        );
        self.report.ended = Ended::Stopped;
        let report = close(self.source, self.report);
        reported?;
        Ok(report)
    }
}

fn pause(postgres: &Postgres) -> Duration {
    postgres.poll.as_deref().and_then(|text| parse_duration(text).ok()).unwrap_or(POLL)
}

/// Logs and counts a run.
fn close(source: &Source, report: Report) -> Report {
    tracing::info!(
        source.id = source.source.as_str(),
        batch.record_count = report.changes,
        failed_count = report.refused,
        outcome = report.ended.as_str(),
        "a run has ended"
    );
    let flag = |is: bool| f64::from(u8::from(is));
    let mut metrics = vec![
        ("runs", 1.0),
        ("busy", flag(report.ended == Ended::Busy)),
        ("stopped", flag(report.ended == Ended::Stopped)),
        ("overtaken", flag(report.ended == Ended::Overtaken)),
        ("unavailable", flag(report.ended == Ended::Unavailable)),
        ("polls", report.polls as f64),
        ("changes", report.changes as f64),
        ("refused", report.refused as f64),
    ];
    if report.changes > 0 {
        metrics.push(("lag_ms", report.lag_ms as f64));
    }
    metrics.extend(report.gauges.iter().copied());
    telemetry::source_metrics(Stage::CapturePull, &source.source, &metrics);
    report
}
