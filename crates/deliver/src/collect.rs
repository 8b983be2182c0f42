//! Brings together what is ready to be sent at the same time, for targets that take arrays.
//!
//! Each record waits here for the result of its own event, so that the next event of its group is not even looked at before.
//! **Invariant.** Whoever waits here gets a result: of the array that it left in, or, should sending that panic, one
//! that says so.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use sync_domain::config::Array;
use sync_domain::delivery::array::Filling;
use sync_domain::outcome::Reason;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::send::{Attempt, Sent};

/// What can join an array.
pub(crate) trait Joins {
    /// Whether the two can go in one request.
    fn beside(&self, other: &Self) -> bool;
    /// The bytes that it takes in the body.
    fn bytes(&self) -> usize;
}

/// Collects events of one batch into arrays.
pub(crate) struct Collector<T> {
    limits: Array,
    state: Mutex<State<T>>,
    /// Something was added, or somebody who could have is gone.
    changed: Notify,
}

struct State<T> {
    /// How many records are being worked.
    at_work: usize,
    filling: Vec<(Instant, Filling<Waiting<T>>)>,
    full: Vec<Filling<Waiting<T>>>,
}

/// One that waits, and where its result goes.
struct Waiting<T> {
    what: T,
    result: oneshot::Sender<Attempt>,
}

/// Says, as long as it is there, that a record is being worked and may still add to an array.
pub(crate) struct AtWork<'a, T>(&'a Collector<T>);

impl<T> Drop for AtWork<'_, T> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.at_work = state.at_work.saturating_sub(1);
        self.0.changed.notify_one();
    }
}

impl<T: Joins> Collector<T> {
    /// A collector of arrays within these limits.
    pub(crate) fn new(limits: Array) -> Self {
        let state = State { at_work: 0, filling: Vec::new(), full: Vec::new() };
        Self { limits, state: Mutex::new(state), changed: Notify::new() }
    }

    /// A record is being worked from now on.
    pub(crate) fn enter(&self) -> AtWork<'_, T> {
        self.state().at_work += 1;
        AtWork(self)
    }

    /// Sends something in an array with others, or in one of its own, and waits for its result.
    pub(crate) async fn send(&self, what: T, alone: bool) -> Attempt {
        let (result, received) = oneshot::channel();
        self.add(Waiting { what, result }, alone);
        self.changed.notify_one();
        // It is gone only if sending the array has panicked: nobody knows how far that had come.
        let lost = |_| Attempt {
            sent: Sent::Later(Reason::new("panicked", ""), None),
            may_be_there: true,
            answered: false,
        };
        received.await.unwrap_or_else(lost)
    }

    fn add(&self, new: Waiting<T>, alone: bool) {
        let (limits, bytes) = (self.limits, new.what.bytes());
        let mut state = self.state();
        let beside = |array: &Filling<Waiting<T>>| {
            array.members().first().is_some_and(|member| member.what.beside(&new.what))
        };
        let place = state.filling.iter().position(|(_, array)| !alone && beside(array));
        let mut left = Some(new);
        if let Some(place) = place
            && let Some((_, array)) = state.filling.get_mut(place)
        {
            left = left.and_then(|new| array.add(new, bytes).err());
            // What had no room for this one would not have room for much else.
            if array.is_full() || left.is_some() {
                let (_, array) = state.filling.remove(place);
                state.full.push(array);
            }
        }
        let Some(new) = left else { return };
        let array = Filling::new(limits, new, bytes);
        if alone || array.is_full() {
            state.full.push(array);
        } else {
            let now = Instant::now();
            state.filling.push((now.checked_add(limits.wait).unwrap_or(now), array));
        }
    }

    /// Works the groups of a batch, and sends by `fly` what they add: it gets the members of an array and returns one result
    /// for each, in order.
    pub(crate) async fn run<R>(
        &self,
        groups: impl Future<Output = R>,
        fly: impl AsyncFn(Vec<T>) -> Vec<Attempt>,
    ) -> R {
        let mut groups = pin!(groups);
        let mut flying = FuturesUnordered::new();
        loop {
            let next = self.next_due();
            let due = tokio::time::sleep_until(next.unwrap_or_else(Instant::now));
            tokio::select! {
                biased;
                // First: whoever can go on has done so before anybody asks whether more can come.
                done = &mut groups => return done,
                Some(()) = flying.next(), if !flying.is_empty() => {}
                () = self.changed.notified() => {}
                () = due, if next.is_some() => {}
            }
            for array in self.take_due(Instant::now()) {
                flying.push(deliver(array, &fly));
            }
        }
    }

    fn next_due(&self) -> Option<Instant> {
        self.state().filling.iter().map(|(due, _)| *due).min()
    }

    /// The arrays that wait for nobody any more.
    fn take_due(&self, now: Instant) -> Vec<Filling<Waiting<T>>> {
        let mut state = self.state();
        let waiting: usize = state.filling.iter().map(|(_, array)| array.members().len()).sum();
        let nobody_else = waiting >= state.at_work;
        let mut out = std::mem::take(&mut state.full);
        let filling = std::mem::take(&mut state.filling);
        let (due, rest): (Vec<_>, Vec<_>) =
            filling.into_iter().partition(|(due, _)| nobody_else || *due <= now);
        state.filling = rest;
        out.extend(due.into_iter().map(|(_, array)| array));
        out
    }
}

impl<T> Collector<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn deliver<T>(array: Filling<Waiting<T>>, fly: &impl AsyncFn(Vec<T>) -> Vec<Attempt>) {
    let (what, results): (Vec<_>, Vec<_>) =
        array.into_members().into_iter().map(|waiting| (waiting.what, waiting.result)).unzip();
    let Ok(attempts) = AssertUnwindSafe(fly(what)).catch_unwind().await else { return };
    for (result, attempt) in results.into_iter().zip(attempts) {
        // Whoever does not wait any more has gone by a panic of its own.
        let _ = result.send(attempt);
    }
}
