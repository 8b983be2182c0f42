//! The walk through a dead-letter queue. SQS shows letters only by handing them out, so the walk holds what it leaves as it
//! is until its end; else the first letters would come round again and hide those behind them.

use std::collections::HashSet;
use std::io;
use std::time::Duration;

use sync_aws::sqs::letters::{Letter, Letters};
use sync_domain::ports::{self, Queue};
use tokio::time::Instant;

use super::Error;
use super::letter::{Filter, way_back};

/// How long what is held stays hidden if the process ends without letting it go.
const HIDDEN: Duration = Duration::from_secs(600);
/// The most letters that are held: half of what SQS lets be in flight in one FIFO queue (20,000).
const MOST_HELD: usize = 10_000;

/// What is done with the letters that are meant.
#[derive(Clone, Copy)]
pub(super) enum Step<'a> {
    /// Nothing.
    Look,
    /// Back to their queue, at most so many per second, in bursts of ten at most.
    Redrive {
        /// The queue.
        queue: &'a dyn Queue,
        /// Letters per second.
        rate: u32,
    },
    /// Deleted.
    Discard,
}

/// What a walk came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Letters that were handed out.
    pub(super) seen: u64,
    /// Those that were meant, and with which the step was taken.
    pub(super) done: u64,
    /// The walk ended before the queue did.
    pub(super) more: bool,
}

/// Hands each letter that is meant to `each` once the step was taken with it, and lets go of all others at the end, whatever
/// happened.
pub(super) async fn walk(
    letters: &dyn Letters,
    filter: &Filter,
    step: Step<'_>,
    each: &mut dyn FnMut(&Letter) -> io::Result<()>,
) -> Result<Counts, Error> {
    let mut held = Vec::new();
    let walked = hold(letters, filter, step, each, &mut held).await;
    let released = if held.is_empty() { Ok(()) } else { letters.release(&held).await };
    let counts = walked?;
    released?;
    Ok(counts)
}

async fn hold(
    letters: &dyn Letters,
    filter: &Filter,
    step: Step<'_>,
    each: &mut dyn FnMut(&Letter) -> io::Result<()>,
    held: &mut Vec<String>,
) -> Result<Counts, Error> {
    let started = Instant::now();
    let mut counts = Counts::default();
    let mut known: HashSet<String> = HashSet::new();
    loop {
        let batch = letters.receive(HIDDEN).await?;
        if batch.is_empty() {
            return Ok(counts);
        }
        // Held first: an error on the way must not keep them hidden.
        held.extend(batch.iter().map(|letter| letter.receipt.clone()));
        if batch.iter().any(|letter| known.contains(&letter.id)) || held.len() > MOST_HELD {
            return Ok(Counts { more: true, ..counts });
        }
        known.extend(batch.iter().map(|letter| letter.id.clone()));
        counts.seen = counts.seen.saturating_add(u64::try_from(batch.len()).unwrap_or(u64::MAX));
        let meant: Vec<&Letter> = batch.iter().filter(|letter| filter.takes(letter)).collect();
        let (worked, failed) = take(letters, step, &meant).await;
        let gone: HashSet<&str> = match step {
            Step::Look => HashSet::new(),
            _ => worked.iter().map(|letter| letter.receipt.as_str()).collect(),
        };
        held.retain(|receipt| !gone.contains(receipt.as_str()));
        for letter in &worked {
            each(letter)?;
            counts.done = counts.done.saturating_add(1);
        }
        if let Some(failed) = failed {
            return Err(failed.into());
        }
        if let Step::Redrive { rate, .. } = step {
            let due = Duration::from_millis(counts.done.saturating_mul(1000) / u64::from(rate.max(1)));
            tokio::time::sleep_until(started + due).await;
        }
    }
}

/// Takes the step. The letters with which it was taken, and the first error among the others.
async fn take<'a>(
    letters: &dyn Letters,
    step: Step<'_>,
    meant: &[&'a Letter],
) -> (Vec<&'a Letter>, Option<ports::Error>) {
    let (confirmed, unsent) = match step {
        Step::Look => return (meant.to_vec(), None),
        Step::Discard => (meant.to_vec(), None),
        Step::Redrive { queue, .. } if !meant.is_empty() => {
            let entries = meant.iter().map(|letter| way_back(letter)).collect();
            sort(meant, queue.send(entries).await)
        }
        Step::Redrive { .. } => (Vec::new(), None),
    };
    if confirmed.is_empty() {
        return (confirmed, unsent);
    }
    let receipts: Vec<String> = confirmed.iter().map(|letter| letter.receipt.clone()).collect();
    let (gone, kept) = sort(&confirmed, letters.delete(&receipts).await);
    (gone, unsent.or(kept))
}

/// Those whose result is a success, and the first error.
fn sort<'a>(
    letters: &[&'a Letter],
    results: Vec<ports::Result<()>>,
) -> (Vec<&'a Letter>, Option<ports::Error>) {
    let mut done = Vec::new();
    let mut failed = None;
    for (letter, result) in letters.iter().zip(results) {
        match result {
            Ok(()) => done.push(*letter),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    (done, failed)
}
