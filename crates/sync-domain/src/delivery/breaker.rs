//! Whether a target is sent to, as a state machine without a clock: what was seen of the target and the time go in, the row
//! that is to be written comes out, or nothing where the row says it already.
//!
//! Closed is the ordinary state. A target that is away, or that nothing can be sent to until somebody helps, opens the
//! breaker: its queue is not read any more but for one record per [`INTERVAL_S`], the probe. Of a paused target nothing is
//! asked until somebody resumes it.
//!
//! **Invariant.** A new row counts only behind the one that it was made of (`revision`), so that of two who act on the same
//! row one finds out that the other was faster.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::id::RecordId;
use crate::outcome::Reason;

/// How many records have to fail, with nothing taken in between. One record that the target cannot digest is no outage,
/// however often it is tried.
pub const RECORDS: usize = 3;
/// The time within which they have to: failures further apart are no outage.
pub const WINDOW_S: i64 = 300;
/// From one probe to the next, at least. A schedule that comes every minute, give or take some seconds, finds each of its
/// invocations due.
pub const INTERVAL_S: i64 = 45;
/// How long messages may still be handed out after the event source mapping was told to stop.
pub const SETTLES_S: i64 = 180;
/// The code of a pause that somebody asked for.
pub const PAUSED_BY_OPERATOR: &str = "paused_by_operator";

/// The breaker of a target: its row in the ledger's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaker {
    /// Grows by one with each write; 0 where there is no row yet.
    pub revision: u64,
    /// Whether the target is sent to.
    pub state: State,
    /// When the event source mapping was last made to fit the state (seconds since 1970); none while that is to be done.
    pub applied_at: Option<i64>,
}

/// Whether a target is sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// As usual.
    Closed(Failing),
    /// Not but for the probe, which is not due before `next_probe` (seconds since 1970).
    Open {
        /// Since when and why.
        halt: Halt,
        /// When the next probe is due.
        next_probe: i64,
    },
    /// Not at all.
    Paused(Halt),
}

/// The records that failed in a row, the first of them at `since` (seconds since 1970).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Failing {
    /// When the first failed.
    pub since: i64,
    /// Which; never more than [`RECORDS`].
    pub records: BTreeSet<RecordId>,
}

/// Since when and why a target is not sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halt {
    /// Seconds since 1970.
    pub since: i64,
    /// Why.
    pub reason: Reason,
    /// The failure bus has it.
    pub reported: bool,
}

/// What a batch, or a probe, has seen of the target. That it asks for time (429, `Retry-After`) is not in here: it is there,
/// and says when.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// It took a record, or refused it for what it is.
    pub worked: bool,
    /// The records that it gave no answer to, or an error of its own.
    pub away: BTreeSet<RecordId>,
    /// What the last of these failed by.
    pub reason: Option<Reason>,
    /// What is wrong with the target itself.
    pub trouble: Option<Trouble>,
}

/// What is wrong with a target itself, whatever the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// It, or our configuration of it, needs help, or its quota of today is used up.
    Misconfigured(Reason),
    /// It wants nothing any more.
    Gone(Reason),
}

impl Default for Breaker {
    /// That of a target without a row: closed, and nothing to be done.
    fn default() -> Self {
        Self { revision: 0, state: State::Closed(Failing::default()), applied_at: Some(0) }
    }
}

impl Halt {
    fn new(reason: &Reason, now: i64) -> Self {
        Self { since: now, reason: reason.clone(), reported: false }
    }
}

impl Breaker {
    /// Why the target is not sent to; none while it is.
    pub fn halt(&self) -> Option<&Halt> {
        match &self.state {
            State::Closed(_) => None,
            State::Open { halt, .. } | State::Paused(halt) => Some(halt),
        }
    }

    /// Whether the target's queue is to be read.
    pub fn is_fed(&self) -> bool {
        self.halt().is_none()
    }

    /// Whether nobody has to come back: the state is told and applied, and no probe will be due.
    pub fn rests(&self) -> bool {
        let told = self.halt().is_none_or(|halt| halt.reported);
        told && self.applied_at.is_some() && !matches!(self.state, State::Open { .. })
    }

    /// After a batch of the queue.
    pub fn after(&self, seen: &Seen, now: i64) -> Option<Self> {
        match (&self.state, &seen.trouble) {
            (State::Paused(_), _) | (State::Open { .. }, None | Some(Trouble::Misconfigured(_))) => None,
            (_, Some(Trouble::Gone(reason))) => Some(self.turned(State::Paused(Halt::new(reason, now)))),
            (State::Closed(_), Some(Trouble::Misconfigured(reason))) => Some(self.opened(reason, now)),
            (State::Closed(failing), None) if seen.worked => {
                (!failing.records.is_empty()).then(|| self.noted(State::Closed(Failing::default())))
            }
            (State::Closed(failing), None) => self.failed(failing, seen, now),
        }
    }

    fn failed(&self, before: &Failing, seen: &Seen, now: i64) -> Option<Self> {
        let reason = seen.reason.as_ref().filter(|_| !seen.away.is_empty())?;
        let over = before.records.is_empty() || now.saturating_sub(before.since) > WINDOW_S;
        let mut failing =
            if over { Failing { since: now, records: BTreeSet::new() } } else { before.clone() };
        failing.records.extend(seen.away.iter().cloned());
        if failing.records.len() >= RECORDS {
            return Some(self.opened(reason, now));
        }
        (failing != *before).then(|| self.noted(State::Closed(failing)))
    }

    /// Takes the right to the probe of this interval; none if the breaker is not open, or somebody had it.
    pub fn claimed(&self, now: i64) -> Option<Self> {
        match &self.state {
            State::Open { halt, next_probe } if *next_probe <= now => {
                let next_probe = now.saturating_add(INTERVAL_S);
                Some(self.noted(State::Open { halt: halt.clone(), next_probe }))
            }
            _ => None,
        }
    }

    /// After the probe. A target that is now known to need help is another matter than one that was away, and is told anew.
    pub fn probed(&self, seen: &Seen, now: i64) -> Option<Self> {
        let State::Open { halt, next_probe } = &self.state else { return self.after(seen, now) };
        match &seen.trouble {
            Some(Trouble::Gone(reason)) => Some(self.turned(State::Paused(Halt::new(reason, now)))),
            Some(Trouble::Misconfigured(reason)) if reason.code != halt.reason.code => {
                let halt = Halt { reason: reason.clone(), reported: false, since: now };
                Some(self.noted(State::Open { halt, next_probe: *next_probe }))
            }
            Some(Trouble::Misconfigured(_)) => None,
            None if seen.worked => Some(self.turned(State::Closed(Failing::default()))),
            None => None,
        }
    }

    /// Somebody wants the target left alone.
    pub fn pause(&self, now: i64) -> Option<Self> {
        let paused = matches!(self.state, State::Paused(_));
        // Whoever asks for it needs no ticket.
        let halt = Halt { since: now, reason: Reason::new(PAUSED_BY_OPERATOR, ""), reported: true };
        (!paused).then(|| self.turned(State::Paused(halt)))
    }

    /// Somebody wants the target sent to, whatever the row says: it may say so, and the mapping not know.
    pub fn resume(&self) -> Option<Self> {
        Some(self.turned(State::Closed(Failing::default())))
    }

    /// The failure bus has taken the reason.
    pub fn reported(&self) -> Option<Self> {
        let told = |halt: &Halt| Halt { reported: true, ..halt.clone() };
        match &self.state {
            State::Open { halt, next_probe } if !halt.reported => {
                Some(self.noted(State::Open { halt: told(halt), next_probe: *next_probe }))
            }
            State::Paused(halt) if !halt.reported => Some(self.noted(State::Paused(told(halt)))),
            _ => None,
        }
    }

    /// The event source mapping fits the state.
    pub fn applied(&self, now: i64) -> Self {
        Self { applied_at: Some(now), ..self.noted(self.state.clone()) }
    }

    /// Messages were handed out although the mapping was stopped long ago: somebody has started it again.
    pub fn contradicted(&self, now: i64) -> Option<Self> {
        let at = self.applied_at.filter(|_| !self.is_fed())?;
        let late = now.saturating_sub(at) > SETTLES_S;
        late.then(|| self.turned(self.state.clone()))
    }

    fn opened(&self, reason: &Reason, now: i64) -> Self {
        let next_probe = now.saturating_add(INTERVAL_S);
        self.turned(State::Open { halt: Halt::new(reason, now), next_probe })
    }

    /// The next row, with nothing to be done at the mapping.
    fn noted(&self, state: State) -> Self {
        Self { revision: self.revision.saturating_add(1), state, applied_at: self.applied_at }
    }

    /// The next row, which the mapping does not fit yet.
    fn turned(&self, state: State) -> Self {
        Self { applied_at: None, ..self.noted(state) }
    }
}

/// How long a message of a target that is not sent to is hidden: up to a minute while its mapping is being stopped. If
/// that cannot be, a quarter of an hour from the twelfth receive on, so that its receives (1,000, some ten days) end before
/// the queue's retention does (14 days): a record is parked with a ticket, it does not fade away.
pub fn hold(received: u32, random: u64) -> Duration {
    if received <= 12 { Duration::from_secs(30 + random % 30) } else { Duration::from_secs(900) }
}

/// How long the message of a probe that failed is hidden: past the next probe, which then tries another record, since this one
/// may be what the target chokes on, and not past the one behind it, since this one may be all there is. After 100 receives
/// a quarter of an hour, for the same reason as above: they are counted.
pub fn aside(received: u32) -> Duration {
    Duration::from_secs(if received <= 100 { 100 } else { 900 })
}

#[cfg(test)]
mod tests;
