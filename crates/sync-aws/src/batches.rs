//! Sends entries in calls of many, and keeps the order within each group whatever fails.
//!
//! A service takes or refuses each entry of a call for itself: with two entries of one group in a call, the first could be
//! refused and the second taken, and nothing could put them in order again. So **a call never holds two entries of a
//! group**: each round sends the head of every group (its first entry that is not through), packed into as few calls
//! as the limits allow, and the next entry of a group waits until its head was taken. Where groups are distinct this is
//! the least number of calls; a hundred changes of one record take a hundred.
//!
//! An entry that the service could not take now is tried again a few times, after a pause, while its group waits.
//! When it is given up, everything behind it fails with [`Kind::Behind`]. A call that failed as a whole has been retried
//! by the SDK already; what was not sent by then is not tried.

use std::collections::HashSet;
use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use futures_util::future::join_all;
use sync_domain::ports::{Error, Kind, Result};

use crate::error::error;

/// What an entry counts for.
#[derive(Debug, Clone)]
pub(crate) struct Item<'a> {
    /// The message group; none where the service knows no order.
    pub(crate) group: Option<&'a str>,
    /// The entry's size in bytes, as the service counts it.
    pub(crate) size: usize,
}

/// What one call may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Entries.
    pub(crate) entries: usize,
    /// Bytes of all entries together; also the limit of one.
    pub(crate) bytes: usize,
}

/// How patiently entries are tried again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// How often an entry is sent at most.
    pub(crate) tries: u32,
    /// The longest pause after the first failure; it doubles from try to try.
    pub(crate) pause: Duration,
}

impl Patience {
    /// Four tries within about a second: behind it stand the queue's own retries.
    pub(crate) const DEFAULT: Self = Self { tries: 4, pause: Duration::from_millis(100) };

    /// No pause, for tests.
    #[cfg(test)]
    pub(crate) const IMPATIENT: Self = Self { tries: 4, pause: Duration::ZERO };

    /// The pause after `tries` failed tries, with full jitter, so that many senders do not come back at once.
    pub(crate) fn after(&self, tries: u32) -> Duration {
        let doubled = self.pause.saturating_mul(1_u32 << tries.saturating_sub(1).min(6));
        let random = u32::try_from(RandomState::new().build_hasher().finish() >> 32).unwrap_or(u32::MAX);
        doubled.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}

/// What a service said about one entry: taken, or refused with a kind and a code.
pub(crate) type Answer = std::result::Result<(), (Kind, String)>;

/// Calls that are under way at the same time.
const SIDE_BY_SIDE: usize = 4;

/// The codes of whole calls that one bad entry can cause: its neighbours are then sent without it.
const ABOUT_CONTENT: [&str; 7] = [
    "BatchRequestTooLong",
    "InvalidMessageContents",
    "InvalidParameter",
    "InvalidParameterValue",
    "MessageTooLong",
    "ParameterValueInvalid",
    "ValidationException",
];

/// Sends all items. `call` gets the indices of one call and returns an answer for each, in order; a shorter list means
/// that the service said nothing about the rest, which then counts as not taken.
pub(crate) async fn send<F, Fut>(
    operation: &'static str,
    items: &[Item<'_>],
    limits: Limits,
    patience: Patience,
    call: F,
) -> Vec<Result<()>>
where
    F: Fn(Vec<usize>) -> Fut,
    Fut: Future<Output = Result<Vec<Answer>>>,
{
    let mut sending = Sending::new(operation, items, patience);
    sending.refuse_oversized(limits.bytes);
    loop {
        let calls = sending.next_calls(limits);
        if calls.is_empty() {
            return sending.close();
        }
        for some in calls.chunks(SIDE_BY_SIDE) {
            let answers = join_all(some.iter().map(|indices| call(indices.clone()))).await;
            for (indices, answer) in some.iter().zip(answers) {
                sending.note(indices, answer);
            }
            if sending.given_up {
                break;
            }
        }
        if let Some(pause) = sending.pause.take() {
            tokio::time::sleep(pause).await;
        }
    }
}

struct Sending<'a> {
    operation: &'static str,
    items: &'a [Item<'a>],
    patience: Patience,
    results: Vec<Option<Result<()>>>,
    tries: Vec<u32>,
    /// Entries that are sent in calls of their own after a call was refused for its content.
    alone: Vec<bool>,
    /// A call failed as a whole: nothing more is sent.
    given_up: bool,
    pause: Option<Duration>,
}

impl<'a> Sending<'a> {
    fn new(operation: &'static str, items: &'a [Item<'a>], patience: Patience) -> Self {
        Self {
            operation,
            items,
            patience,
            results: items.iter().map(|_| None).collect(),
            tries: vec![0; items.len()],
            alone: vec![false; items.len()],
            given_up: false,
            pause: None,
        }
    }

    fn refuse_oversized(&mut self, bytes: usize) {
        for (index, item) in self.items.iter().enumerate() {
            if item.size > bytes {
                self.fail(index, Kind::Refused, "TooLarge");
            }
        }
    }

    /// The heads of all groups, packed in order.
    fn next_calls(&self, limits: Limits) -> Vec<Vec<usize>> {
        if self.given_up {
            return Vec::new();
        }
        let mut groups = HashSet::new();
        let mut calls = Vec::new();
        let mut call: Vec<usize> = Vec::new();
        let mut bytes: usize = 0;
        for (index, item) in self.items.iter().enumerate() {
            let open = self.results.get(index).is_some_and(Option::is_none);
            if !open || item.group.is_some_and(|group| !groups.insert(group)) {
                continue;
            }
            if self.alone.get(index) == Some(&true) {
                calls.push(vec![index]);
                continue;
            }
            if call.len() >= limits.entries || bytes.saturating_add(item.size) > limits.bytes {
                calls.push(std::mem::take(&mut call));
                bytes = 0;
            }
            call.push(index);
            bytes = bytes.saturating_add(item.size);
        }
        calls.push(call);
        calls.retain(|call| !call.is_empty());
        calls
    }

    fn note(&mut self, indices: &[usize], answer: Result<Vec<Answer>>) {
        match answer {
            Ok(answers) => {
                let silence = std::iter::repeat_with(|| Err((Kind::Unavailable, "NoAnswer".to_owned())));
                for (index, answer) in indices.iter().zip(answers.into_iter().chain(silence)) {
                    self.note_entry(*index, answer);
                }
            }
            Err(failed) if indices.len() > 1 && is_about_content(&failed) => {
                for index in indices {
                    if let Some(alone) = self.alone.get_mut(*index) {
                        *alone = true;
                    }
                }
            }
            Err(failed) => {
                // One bad entry that was sent alone says nothing about the others.
                self.given_up |= !is_about_content(&failed);
                for index in indices {
                    self.fail(*index, failed.kind, &failed.code);
                }
            }
        }
    }

    fn note_entry(&mut self, index: usize, answer: Answer) {
        let (kind, code) = match answer {
            Ok(()) => {
                self.set(index, Ok(()));
                return;
            }
            Err(refused) => refused,
        };
        let Some(tries) = self.tries.get_mut(index) else { return };
        *tries = tries.saturating_add(1);
        let tries = *tries;
        if kind == Kind::Unavailable && tries < self.patience.tries {
            self.pause = self.pause.max(Some(self.patience.after(tries)));
        } else {
            self.fail(index, kind, &code);
        }
    }

    /// Gives an entry up, and with it everything behind it in its group.
    fn fail(&mut self, index: usize, kind: Kind, code: &str) {
        self.set(index, Err(error(self.operation, kind, code)));
        let Some(group) = self.items.get(index).and_then(|item| item.group) else { return };
        for later in index.saturating_add(1)..self.items.len() {
            let same = self.items.get(later).and_then(|item| item.group) == Some(group);
            if same && self.results.get(later).is_some_and(Option::is_none) {
                self.set(later, Err(error(self.operation, Kind::Behind, "Behind")));
            }
        }
    }

    fn set(&mut self, index: usize, result: Result<()>) {
        if let Some(place) = self.results.get_mut(index) {
            *place = Some(result);
        }
    }

    fn close(self) -> Vec<Result<()>> {
        let not_tried = || Err(error(self.operation, Kind::Unavailable, "NotTried"));
        self.results.into_iter().map(|result| result.unwrap_or_else(not_tried)).collect()
    }
}

fn is_about_content(failed: &Error) -> bool {
    let last = failed.code.rsplit('.').next().unwrap_or_default();
    failed.kind == Kind::Refused && ABOUT_CONTENT.contains(&last)
}

#[cfg(test)]
mod tests;
