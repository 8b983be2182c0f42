//! One record: filter, ledger, send, mark.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use sync_domain::change::Operation;
use sync_domain::delivery::backoff::{LONGEST_HELD_MS, LONGEST_STAY_MS, backoff};
use sync_domain::delivery::breaker::{Seen, Trouble, aside, hold};
use sync_domain::delivery::digest::{Content, digest};
use sync_domain::delivery::filter::{Facts, NOT_CHANGED, Verdict, filter};
use sync_domain::delivery::ledger::{Arrival, Decision, accepted, decide, doubted, in_doubt, outrun};
use sync_domain::event::{self, ReceivedEvent};
use sync_domain::outcome::{Outcome, Reason};
use sync_domain::ports::{self, LedgerRow, Whose};
use sync_domain::protect::LedgerHasher;
use sync_lambda::batch::{Message, Turn};
use sync_lambda::deadline::Deadline;
use sync_lambda::failpoint;
use sync_lambda::park::About;

use crate::collect::Collector;
use crate::deps::Deps;
use crate::send::{Arrays, Attempt, Delivery, Sent, send};

/// What the ledger says of the records of a batch, by their row keys; kept up to date as the batch is worked.
pub(crate) type Rows = HashMap<String, ports::Result<Option<LedgerRow>>>;

/// The work on one batch.
pub(crate) struct Work<'a> {
    pub(crate) deps: &'a Deps,
    pub(crate) deadline: Deadline,
    /// The hash key, or why it is not there.
    pub(crate) hasher: Result<&'a LedgerHasher, Reason>,
    pub(crate) rows: Mutex<Rows>,
    /// Where events wait for others to go with; none if the target takes single ones.
    pub(crate) arrays: Option<&'a Arrays>,
    /// The batch is the probe of a target that is away.
    pub(crate) probes: bool,
    /// Why nothing (more) is sent in this batch.
    pub(crate) stop: Mutex<Option<Reason>>,
    /// What was seen of the target so far.
    pub(crate) seen: Mutex<Seen>,
}

/// Whether the target gets an event, by what the event says alone.
pub(crate) fn verdict(deps: &Deps, event: &ReceivedEvent<'_>) -> Verdict {
    let envelope = &event.envelope;
    let facts = Facts {
        model: envelope.model.as_str(),
        operation: envelope.operation,
        changed: event.changed.as_deref(),
        only: envelope.only.as_deref(),
    };
    filter(deps.target.target(), &facts)
}

/// Why an event comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// The target, or the event itself.
    Target,
    /// Something of ours: the event did not go out, or it is not written down what came of it.
    Ours,
}

impl Cause {
    fn of(attempt: &Attempt) -> Self {
        match attempt.sent {
            Sent::Held(_) | Sent::Spent(_) => Self::Ours,
            // No place in its rate, no time left.
            Sent::Later(..) if !attempt.answered && !attempt.may_be_there => Self::Ours,
            _ => Self::Target,
        }
    }
}

impl Work<'_> {
    /// What was seen of the target.
    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Works a message to its outcome. One that panics every time is parked like any other that cannot go on: the loop over
    /// the batch would guard the others too, but let SQS move it in the end, without a ticket.
    pub(crate) async fn work(&self, turn: Turn<'_>) -> Outcome {
        let _at_work = self.arrays.map(Collector::enter);
        let worked = AssertUnwindSafe(self.guarded(turn)).catch_unwind().await;
        match worked {
            Ok(outcome) => outcome,
            Err(_) => {
                let reason = Reason::new("panicked", "");
                let delay = self.backoff(turn, None);
                let outcome = self.again_or_park(turn, reason, Cause::Target, &About::default(), delay).await;
                log(turn.message, None, &outcome);
                outcome
            }
        }
    }

    async fn guarded(&self, turn: Turn<'_>) -> Outcome {
        let message = turn.message;
        let event = ReceivedEvent::read(&message.body);
        let outcome = match &event {
            Ok(event) => self.event(turn, event).await,
            Err(error) => {
                let reason = Reason::new("unreadable_event", place_of(error));
                self.deps.parker.park(message, reason, &About::default()).await
            }
        };
        log(message, event.as_ref().ok(), &outcome);
        outcome
    }

    async fn event(&self, turn: Turn<'_>, event: &ReceivedEvent<'_>) -> Outcome {
        let (subscription, only_if_unknown) = match verdict(self.deps, event) {
            Verdict::Drop(code) => return Outcome::Filtered(code),
            Verdict::Send(subscription) => (subscription, false),
            Verdict::SendIfUnknown(subscription) => (subscription, true),
        };
        let Some(mapping) = self.deps.target.mapping(subscription) else {
            return Outcome::Filtered("model");
        };
        let hasher = match &self.hasher {
            Ok(hasher) => *hasher,
            Err(reason) => return self.later(turn, event, reason.clone(), Cause::Ours, None).await,
        };
        let envelope = &event.envelope;
        let row_key = hasher.row_key(self.deps.target.target().target.as_str(), &envelope.rid);
        let row = match self.row(&row_key) {
            Ok(row) => row,
            Err(reason) => return self.later(turn, event, reason, Cause::Ours, None).await,
        };
        if only_if_unknown && row.as_ref().is_some_and(|row| !row.deleted && !in_doubt(row)) {
            return Outcome::Filtered(NOT_CHANGED);
        }
        let record = event.after.filter(|_| envelope.operation != Operation::Delete);
        let digest = match record {
            Some(record) => {
                let target = &self.deps.target.target().target;
                let content = Content {
                    target,
                    rid: &envelope.rid,
                    key: event.key,
                    record,
                    policy_version: &event.policy_version,
                    mapping,
                };
                match digest(hasher, &content, |text| event.fingerprint(text)) {
                    Ok(digest) => Some(digest),
                    Err(error) => {
                        return self.park(turn, event, unreadable(format!("byte {}", error.offset))).await;
                    }
                }
            }
            None if envelope.operation == Operation::Delete => None,
            None => return self.park(turn, event, unreadable("data.after")).await,
        };
        let force = envelope.run.is_some();
        let arrival = Arrival { version: envelope.version, digest: digest.as_deref(), force };
        let effect = match decide(row.as_ref(), &arrival) {
            Decision::Stale => return Outcome::Stale,
            Decision::Conflict => {
                return self.park(turn, event, Reason::new("version_conflict", "sequence")).await;
            }
            Decision::Unchanged => {
                // At the same version the row says all already, or knows better.
                let news = row.as_ref().is_none_or(|row| row.version < arrival.version);
                let tries = row.map_or(0, |row| row.tries);
                if news
                    && !self
                        .mark(&row_key, event, accepted(&arrival, event.key, tries, (self.deps.now)()))
                        .await
                {
                    return self.later(turn, event, ledger_away(), Cause::Ours, None).await;
                }
                return Outcome::Unchanged;
            }
            Decision::Send(effect) => effect,
        };
        let delivery = Delivery { event, body: &turn.message.body, mapping, effect };
        let attempt = match self.stopped() {
            Some(reason) => Sent::Held(reason).into(),
            None => {
                failpoint::pass("deliver.decided");
                let attempt = send(self.deps, self.deadline, self.arrays, &delivery).await;
                failpoint::pass("deliver.sent");
                attempt
            }
        };
        self.notice(event, &attempt);
        if self.leaves_doubt(turn, &attempt) && !self.doubt(&row_key, event).await {
            return self.later(turn, event, ledger_away(), Cause::Ours, None).await;
        }
        let cause = Cause::of(&attempt);
        let (row, outcome) = match attempt.sent {
            Sent::Later(reason, asked) => return self.later(turn, event, reason, cause, asked).await,
            Sent::Away(reason) => return self.later(turn, event, reason, cause, None).await,
            Sent::Refused(reason) => return self.park(turn, event, reason).await,
            Sent::Held(reason) | Sent::Spent(reason) | Sent::Trouble(reason) | Sent::Gone(reason) => {
                return self.hold(turn, event, reason, cause).await;
            }
            Sent::Accepted => {
                (accepted(&arrival, event.key, turn.message.received, (self.deps.now)()), Outcome::Delivered)
            }
            Sent::Outrun => {
                (outrun(&arrival, event.key, turn.message.received, (self.deps.now)()), Outcome::Stale)
            }
        };
        if self.mark(&row_key, event, row).await {
            outcome
        } else {
            self.later(turn, event, ledger_away(), Cause::Ours, None).await
        }
    }

    /// What the ledger knows. A row that could not be read is no row that is not there.
    fn row(&self, key: &str) -> Result<Option<LedgerRow>, Reason> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        match rows.get(key) {
            Some(Ok(row)) => Ok(row.clone()),
            Some(Err(error)) => {
                tracing::warn!(
                    error.operation = error.operation,
                    error.code = error.code,
                    "the ledger cannot be read"
                );
                Err(ledger_away())
            }
            None => Err(ledger_away()),
        }
    }

    /// Whether an event is given up now that the target may have all the same. Of an earlier receive nobody knows how it
    /// ended: its answer may have been lost, or the process with it. As long as the event itself comes again there is no
    /// harm in that, since it stands at the head of its group and the target gets it before anything newer.
    fn leaves_doubt(&self, turn: Turn<'_>, attempt: &Attempt) -> bool {
        let given_up = match attempt.sent {
            Sent::Refused(_) => true,
            Sent::Later(..)
            | Sent::Away(_)
            | Sent::Held(_)
            | Sent::Spent(_)
            | Sent::Trouble(_)
            | Sent::Gone(_) => {
                turn.message.is_last_receive(self.last_receive(turn.message, Cause::of(attempt)))
            }
            Sent::Accepted | Sent::Outrun => false,
        };
        given_up && (attempt.may_be_there || turn.message.received > 1)
    }

    /// Takes back what the ledger says of a record's content, before an event of it is parked; see [`doubted`].
    /// False if the ledger does not take that: parked all the same, the event would be missed by nobody.
    async fn doubt(&self, key: &str, event: &ReceivedEvent<'_>) -> bool {
        let row = self.row(key).ok().flatten();
        match doubted(row.as_ref(), event.envelope.version) {
            Some(row) => {
                let marked = self.mark(key, event, row).await;
                failpoint::pass("deliver.doubted");
                marked
            }
            None => true,
        }
    }

    /// Marks what the target has now of the event's record, in the ledger and for the rest of the batch.
    async fn mark(&self, key: &str, event: &ReceivedEvent<'_>, row: LedgerRow) -> bool {
        let envelope = &event.envelope;
        let whose = Whose {
            target: self.deps.target.target().target.clone(),
            source: envelope.source.clone(),
            model: envelope.model.clone(),
            rid: envelope.rid.clone(),
        };
        let row = LedgerRow { whose: Some(whose), ..row };
        let marked = self.deps.ledger.mark(key, &row).await;
        failpoint::pass("deliver.marked");
        match marked {
            Ok(true) => {
                self.know(key, Ok(Some(row)));
                true
            }
            // Another invocation is ahead with a higher version, which stands there.
            Ok(false) => {
                if let Some(ahead) = self.deps.ledger.read(&[key.to_owned()]).await.pop() {
                    self.know(key, ahead);
                }
                true
            }
            Err(error) => {
                tracing::warn!(
                    error.operation = error.operation,
                    error.code = error.code,
                    "the ledger takes no mark"
                );
                false
            }
        }
    }

    fn know(&self, key: &str, row: ports::Result<Option<LedgerRow>>) {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned(), row);
    }

    fn stopped(&self) -> Option<Reason> {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes down what an attempt says of the target, and sends nothing more in this batch to one that needs help.
    fn notice(&self, event: &ReceivedEvent<'_>, attempt: &Attempt) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let stop = match &attempt.sent {
            Sent::Accepted | Sent::Outrun | Sent::Refused(_) => {
                seen.worked |= attempt.answered;
                return;
            }
            Sent::Away(reason) => {
                seen.away.insert(event.envelope.rid.clone());
                seen.reason = Some(reason.clone());
                return;
            }
            Sent::Later(..) | Sent::Held(_) => return,
            Sent::Spent(reason) | Sent::Trouble(reason) => {
                seen.trouble = Some(Trouble::Misconfigured(reason.clone()));
                reason
            }
            Sent::Gone(reason) => {
                seen.trouble = Some(Trouble::Gone(reason.clone()));
                reason
            }
        };
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = Some(stop.clone());
    }

    async fn park(&self, turn: Turn<'_>, event: &ReceivedEvent<'_>, reason: Reason) -> Outcome {
        let outcome = self.deps.parker.park(turn.message, reason, &about(event)).await;
        failpoint::pass("deliver.parked");
        if matches!(outcome, Outcome::Retry(_)) {
            self.set_back(turn, self.backoff(turn, None)).await;
        }
        outcome
    }

    /// Lets the message wait for the target's breaker.
    async fn hold(&self, turn: Turn<'_>, event: &ReceivedEvent<'_>, reason: Reason, cause: Cause) -> Outcome {
        let received = turn.message.received;
        let delay = if self.probes { aside(received) } else { hold(received, (self.deps.random)()) };
        self.again_or_park(turn, reason, cause, &about(event), delay).await
    }

    /// Lets the message come again behind a wait, or parks it if the queue would not hand it out again.
    async fn later(
        &self,
        turn: Turn<'_>,
        event: &ReceivedEvent<'_>,
        reason: Reason,
        cause: Cause,
        asked: Option<Duration>,
    ) -> Outcome {
        self.again_or_park(turn, reason, cause, &about(event), self.backoff(turn, asked)).await
    }

    fn backoff(&self, turn: Turn<'_>, asked: Option<Duration>) -> Duration {
        let received = turn.message.received;
        let own = if self.probes { aside(received) } else { backoff(received, (self.deps.random)()) };
        // A target may ask for more time, never for more receives: they are counted.
        asked.map_or(own, |asked| asked.max(own))
    }

    /// The receive behind which a message is parked: the last one that its queue allows, or this one if it would forget the
    /// message before long.
    fn last_receive(&self, message: &Message, cause: Cause) -> u32 {
        let now = (self.deps.now)().saturating_mul(1_000);
        let longest = match cause {
            Cause::Target => LONGEST_STAY_MS,
            Cause::Ours => LONGEST_HELD_MS,
        };
        let fades = message.sent.is_some_and(|sent| now.saturating_sub(sent) >= longest);
        if fades { message.received } else { self.deps.max_receives }
    }

    async fn again_or_park(
        &self,
        turn: Turn<'_>,
        reason: Reason,
        cause: Cause,
        about: &About,
        delay: Duration,
    ) -> Outcome {
        let (parker, most) = (&self.deps.parker, self.last_receive(turn.message, cause));
        let outcome = parker.retry_or_park(turn.message, most, reason, about).await;
        if matches!(outcome, Outcome::Retry(_)) {
            self.set_back(turn, delay).await;
        }
        outcome
    }

    /// Hides the message and those behind it: one of them alone would not hold up its group.
    async fn set_back(&self, turn: Turn<'_>, delay: Duration) {
        let delayed = self.deps.inbox.delay(&turn.receipts(), delay).await;
        failpoint::pass("deliver.set-back");
        if let Err(error) = delayed {
            // They come again when the queue's own visibility timeout ends.
            tracing::warn!(
                error.operation = error.operation,
                error.code = error.code,
                "a message was not set back"
            );
        }
    }
}

fn unreadable(place: impl Into<String>) -> Reason {
    Reason::new("unreadable_event", place)
}

fn ledger_away() -> Reason {
    Reason::new("ledger_unavailable", "")
}

fn place_of(error: &event::Error) -> String {
    match error {
        event::Error::Scan(error) => format!("byte {}", error.offset),
        event::Error::Member(member) => (*member).to_owned(),
    }
}

fn about(event: &ReceivedEvent<'_>) -> About {
    let envelope = &event.envelope;
    About {
        id: Some(event.id.as_str().to_owned()),
        source: Some(envelope.source.clone()),
        model: Some(envelope.model.clone()),
        rid: Some(envelope.rid.clone()),
        key: Some(event.key.to_owned()),
        event_id: Some(event.id.clone()),
        sequence: None,
        version: None,
    }
}

fn log(message: &Message, event: Option<&ReceivedEvent<'_>>, outcome: &Outcome) {
    let (reason, place) = match outcome {
        Outcome::DeadLettered(reason) | Outcome::Retry(reason) => {
            (reason.code.as_str(), reason.place.as_str())
        }
        Outcome::Filtered(code) => (*code, ""),
        Outcome::Rejected(code) => (code.as_str(), ""),
        Outcome::Published | Outcome::Delivered | Outcome::Unchanged | Outcome::Stale => ("", ""),
    };
    tracing::info!(
        outcome = outcome.as_str(),
        reason,
        place,
        event.id = event.map_or("", |event| event.id.as_str()),
        record.id = event.map_or("", |event| event.envelope.rid.as_str()),
        model.id = event.map_or("", |event| event.envelope.model.as_str()),
        operation = event.map_or("", |event| event.envelope.operation.as_str()),
        version = event.map_or("", |event| event.envelope.version.as_str()),
        message.id = message.id,
        message.received_count = message.received,
        "record"
    );
}
