//! The way through a dead-letter queue: ten letters at a time, each hidden until the step was taken with it or the walk
//! ends. What SQS hands out first it would hand out again, so that letters which stay are let go at the end only.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::time::Duration;

use sync_aws::dynamodb::{Discard, Discards};
use sync_aws::sqs::letters::{Letter, Letters};
use sync_domain::ports::{self, Queue};
use tokio::time::Instant;

use super::Error;
use super::letter::{Filter, facts, way_back};

/// How long letters stay hidden that stay, if the process ends without letting them go.
const HELD: Duration = Duration::from_secs(240);
/// The same for letters that a step is about to be taken with. Far less than the five minutes for which SQS knows a
/// deduplication id: what was sent and not deleted comes again in time to be known.
const IN_WORK: Duration = Duration::from_secs(30);
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
    /// Noted, then deleted.
    Discard(Note<'a>),
}

/// What is noted of letters that are discarded.
#[derive(Clone, Copy)]
pub(super) struct Note<'a> {
    /// Where.
    pub(super) discards: &'a dyn Discards,
    /// Why.
    pub(super) because: &'a str,
    /// The ARN of the dead-letter queue.
    pub(super) queue: &'a str,
    /// When, in seconds since 1970.
    pub(super) at: u64,
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
    let mut held = BTreeMap::new();
    let walked = hold(letters, filter, step, each, &mut held).await;
    let receipts: Vec<String> = held.into_values().collect();
    let released = if receipts.is_empty() { Ok(()) } else { letters.release(&receipts).await };
    let counts = walked?;
    released?;
    Ok(counts)
}

/// `held`: the receipts of what is hidden, by the letters' ids.
async fn hold(
    letters: &dyn Letters,
    filter: &Filter,
    step: Step<'_>,
    each: &mut dyn FnMut(&Letter) -> io::Result<()>,
    held: &mut BTreeMap<String, String>,
) -> Result<Counts, Error> {
    let looks = matches!(step, Step::Look);
    let started = Instant::now();
    let mut counts = Counts::default();
    let mut known: HashSet<String> = HashSet::new();
    let mut came_again = 0;
    loop {
        let batch = letters.receive(if looks { HELD } else { IN_WORK }).await?;
        if batch.is_empty() {
            return Ok(counts);
        }
        // Held first: an error on the way must not keep them hidden.
        held.extend(batch.iter().map(|letter| (letter.id.clone(), letter.receipt.clone())));
        let (news, again): (Vec<&Letter>, Vec<&Letter>) =
            batch.iter().partition(|letter| known.insert(letter.id.clone()));
        counts.seen = counts.seen.saturating_add(u64::try_from(news.len()).unwrap_or(u64::MAX));
        // A walk that lasts longer than letters stay hidden meets them again, and goes on; not when it meets nothing else.
        came_again = if news.is_empty() { again.len().saturating_add(came_again) } else { 0 };
        if came_again > held.len() || held.len() > MOST_HELD {
            return Ok(Counts { more: true, ..counts });
        }
        let meant: Vec<&Letter> = news.into_iter().filter(|letter| filter.takes(letter)).collect();
        let (worked, failed) = take(letters, step, &meant).await;
        for letter in &worked {
            if !looks {
                held.remove(&letter.id);
            }
            each(letter)?;
            counts.done = counts.done.saturating_add(1);
        }
        if let Some(failed) = failed {
            return Err(failed.into());
        }
        if !looks {
            let stays = batch.iter().filter(|letter| held.contains_key(&letter.id));
            let stay: Vec<String> = stays.map(|letter| letter.receipt.clone()).collect();
            if !stay.is_empty() {
                letters.hide(&stay, HELD).await?;
            }
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
        Step::Discard(note) => note.all(meant).await,
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

impl Note<'_> {
    /// Notes letters until one cannot be noted: that one and those behind it are kept.
    async fn all<'a>(&self, letters: &[&'a Letter]) -> (Vec<&'a Letter>, Option<ports::Error>) {
        let mut noted = Vec::new();
        for letter in letters {
            let facts = facts(letter);
            let discard = Discard {
                letter_id: letter.id.clone(),
                message_id: letter.attributes.get("message_id").cloned(),
                rid: letter.group.clone(),
                model: facts.model.map(|model| model.as_str().to_owned()),
                reason: facts.reason.to_owned(),
                sent_ms: letter.sent_ms,
                dead_letter_queue: self.queue.to_owned(),
                because: self.because.to_owned(),
                at: self.at,
            };
            if let Err(error) = self.discards.note(&discard).await {
                return (noted, Some(error));
            }
            noted.push(*letter);
        }
        (noted, None)
    }
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
