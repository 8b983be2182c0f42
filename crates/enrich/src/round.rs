//! One round over the messages of a batch: look-ups of different groups side by side, then one call to the topic.

use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, Shared, join_all};
use futures_util::lock::Mutex;
use sync_domain::event::{self, Event, MAX_EVENT_SIZE, ReceivedEvent};
use sync_domain::outcome::{Outcome, Reason};
use sync_domain::policy::{CompiledPolicy, Failure, Protected};
use sync_lambda::batch::Message;
use sync_lambda::deadline::Deadline;
use sync_lambda::failpoint;
use sync_lambda::park::About;

use crate::answer::Answer;
use crate::ask::{Failed, ask};
use crate::cache::Key;
use crate::deps::{Deps, Model};
use crate::lookup::Lookup;
use crate::question::Question;

/// The attribute by which transform says whether a record is looked up.
const ENRICH: &str = "enrich";

/// A question that is under way or answered. Whoever asks the same in this round waits for the same answer.
type Asked<'r> = Shared<LocalBoxFuture<'r, Result<Rc<Answer>, Failed>>>;

/// A message that has come as far as it can without the topic.
enum Prepared {
    /// To be published.
    Ready(Box<Event>, Box<About>),
    /// Its way ended, or it comes again.
    Over(Outcome),
}

/// Why a record cannot be published now.
enum Stop {
    /// It cannot go on.
    Never(Reason),
    /// It comes again.
    Later(Reason),
}

impl From<Failed> for Stop {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Later(reason) => Self::Later(reason),
            Failed::Never(reason) => Self::Never(reason),
        }
    }
}

/// The work on the messages of one round.
pub(crate) struct Round<'r> {
    deps: &'r Deps,
    deadline: Deadline,
    asked: RefCell<HashMap<Key, Asked<'r>>>,
    /// Groups that need a new key at the same time make it once.
    keys_in_turn: Mutex<()>,
}

impl<'r> Round<'r> {
    pub(crate) fn new(deps: &'r Deps, deadline: Deadline) -> Self {
        Self { deps, deadline, asked: RefCell::default(), keys_in_turn: Mutex::default() }
    }

    /// One outcome for each message, in order. Nothing of a message behind a failed one of its group is published.
    pub(crate) async fn work(&self, messages: &[&Message]) -> Vec<Outcome> {
        let groups = by_group(messages);
        let prepared = join_all(groups.iter().map(|group| self.prepare_group(group))).await;
        failpoint::pass("enrich.prepared");
        let mut outcomes = vec![Outcome::Retry(behind()); messages.len()];
        let mut ready = Vec::new();
        let mut events = Vec::new();
        for (index, prepared) in prepared.into_iter().flatten() {
            match prepared {
                Prepared::Ready(event, about) => ready.push((index, *event, about)),
                Prepared::Over(outcome) => set(&mut outcomes, index, outcome),
            }
        }
        ready.sort_by_key(|(index, ..)| *index);
        let waiting: Vec<(usize, Box<About>)> = ready
            .into_iter()
            .map(|(index, event, about)| {
                events.push(event);
                (index, about)
            })
            .collect();
        let published = match events.is_empty() {
            true => Vec::new(),
            false => {
                let published = self.deps.topic.publish(&events).await;
                failpoint::pass("enrich.published");
                published
            }
        };
        let mut results = published.into_iter();
        for (index, about) in waiting {
            let Some(message) = messages.get(index) else { continue };
            let outcome = match results.next() {
                Some(Ok(())) => Outcome::Published,
                Some(Err(error)) => {
                    let reason = Reason::new("publish_failed", error.code);
                    self.later(message, reason, &about).await
                }
                None => Outcome::Retry(Reason::new("publish_failed", "")),
            };
            set(&mut outcomes, index, outcome);
        }
        for (message, outcome) in messages.iter().zip(&outcomes) {
            log(message, outcome);
        }
        failpoint::pass("enrich.round-done");
        outcomes
    }

    /// The messages of one group, one after the other; what stands behind a failed one is not looked at.
    async fn prepare_group(&self, group: &[(usize, &Message)]) -> Vec<(usize, Prepared)> {
        let mut all = Vec::with_capacity(group.len());
        for (index, message) in group {
            let work = AssertUnwindSafe(self.prepare(message)).catch_unwind();
            let prepared = match work.await {
                Ok(prepared) => prepared,
                Err(_) => {
                    let reason = Reason::new("panicked", "");
                    Prepared::Over(self.later(message, reason, &About::default()).await)
                }
            };
            let failed = matches!(prepared, Prepared::Over(Outcome::Retry(_)));
            all.push((*index, prepared));
            if failed {
                break;
            }
        }
        all
    }

    async fn prepare(&self, message: &Message) -> Prepared {
        let received = match ReceivedEvent::read(&message.body) {
            Ok(received) => received,
            Err(error) => {
                let reason = unreadable(&error);
                return self.park(message, reason, &About::default()).await;
            }
        };
        let about = about(&received);
        match self.event(message, &received).await {
            Ok(event) if event.size() > MAX_EVENT_SIZE => {
                let reason = Reason::new("too_large", format!("{} bytes", event.size()));
                self.park(message, reason, &about).await
            }
            Ok(event) => Prepared::Ready(Box::new(event), Box::new(about)),
            Err(Stop::Never(reason)) => self.park(message, reason, &about).await,
            Err(Stop::Later(reason)) => Prepared::Over(self.later(message, reason, &about).await),
        }
    }

    async fn later(&self, message: &Message, reason: Reason, about: &About) -> Outcome {
        self.deps.parker.retry_or_park(message, self.deps.max_receives, reason, about).await
    }

    async fn park(&self, message: &Message, reason: Reason, about: &About) -> Prepared {
        let outcome = self.deps.parker.park(message, reason, about).await;
        failpoint::pass("enrich.parked");
        Prepared::Over(outcome)
    }

    /// The event to publish: the one that was received, or the same with what the look-up adds.
    async fn event(&self, message: &Message, received: &ReceivedEvent<'_>) -> Result<Event, Stop> {
        let wanted = message.attributes.get(ENRICH).map(String::as_str);
        let record = match (wanted, received.after) {
            (Some("yes"), Some(record)) => record,
            // A deleted record has nothing to add to.
            (Some("no"), _) | (Some("yes"), None) => return Ok(received.unchanged(&message.id)),
            _ => return Err(Stop::Never(Reason::new("attribute_missing", ENRICH))),
        };
        let name = &received.envelope.model;
        // During a deploy transform may know a look-up that this version does not know yet, or no longer.
        let unknown = || Stop::Later(Reason::new("lookup_unknown", ""));
        let Model { policy, lookup } = self.deps.models.get(name).ok_or_else(unknown)?;
        let answer = match lookup.question(record).map_err(Stop::Never)? {
            Some(question) => self.answer(question.key(name), question, lookup).await?,
            None => Rc::new(Answer::Absent),
        };
        let additions = lookup.additions(&answer).map_err(Stop::Never)?;
        let protected = self.protect(policy, received, &additions).await?;
        Ok(Event::new(&received.envelope, protected, &message.id))
    }

    /// The event's data with what was found, under the rules of the policy. Without the keys there is none.
    async fn protect(
        &self,
        policy: &CompiledPolicy,
        received: &ReceivedEvent<'_>,
        found: &[(String, String)],
    ) -> Result<Protected, Stop> {
        let keyring = &self.deps.keyring;
        let keys_gone = |code: &str| Stop::Later(Reason::new("keys_unavailable", code));
        let turn = self.keys_in_turn.lock().await;
        keyring.ready(policy, true, seconds_since_1970()).await.map_err(|error| keys_gone(&error.code))?;
        failpoint::pass("enrich.keys-ready");
        drop(turn);
        match keyring.lend(policy, |keys, nonces| policy.enrich(received, found, keys, nonces)) {
            Some(Ok(protected)) => Ok(protected),
            Some(Err(Failure::Rejected(reason))) => Err(Stop::Never(reason)),
            Some(Err(Failure::Key(error))) => Err(Stop::Later(Reason::new("key_refused", error.to_string()))),
            None => Err(keys_gone("")),
        }
    }

    async fn answer(&self, key: Key, question: Question, lookup: &'r Lookup) -> Result<Rc<Answer>, Failed> {
        if let Some(answer) = self.deps.cache.borrow().get(&key, Instant::now()) {
            return Ok(answer);
        }
        let known = self.asked.borrow().get(&key).cloned();
        let asked = known.unwrap_or_else(|| {
            let asked = self.ask(key, question, lookup).boxed_local().shared();
            self.asked.borrow_mut().insert(key, asked.clone());
            asked
        });
        asked.await
    }

    fn ask(
        &self,
        key: Key,
        question: Question,
        lookup: &'r Lookup,
    ) -> impl Future<Output = Result<Rc<Answer>, Failed>> + 'r {
        let (deps, deadline) = (self.deps, self.deadline);
        async move {
            let answer = Rc::new(ask(deps, &question, lookup, deadline).await?);
            failpoint::pass("enrich.looked-up");
            deps.cache.borrow_mut().put(key, Rc::clone(&answer), Instant::now(), lookup.age);
            Ok(answer)
        }
    }
}

fn seconds_since_1970() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn by_group<'m>(messages: &[&'m Message]) -> Vec<Vec<(usize, &'m Message)>> {
    let mut groups: Vec<Vec<(usize, &Message)>> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let same = |group: &&mut Vec<(usize, &Message)>| {
            group.first().is_some_and(|(_, m)| m.group == message.group)
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push((index, message)),
            None => groups.push(vec![(index, message)]),
        }
    }
    groups
}

/// One line for each record that was not published; the others are counted only.
fn log(message: &Message, outcome: &Outcome) {
    if let Outcome::Retry(reason) | Outcome::DeadLettered(reason) = outcome {
        tracing::warn!(
            message.id = message.id,
            message.received_count = message.received,
            record.id = message.group,
            outcome = outcome.as_str(),
            reason = reason.code,
            place = reason.place,
            "a record was not published"
        );
    }
}

fn set(outcomes: &mut [Outcome], index: usize, outcome: Outcome) {
    if let Some(place) = outcomes.get_mut(index) {
        *place = outcome;
    }
}

fn behind() -> Reason {
    Reason::new("behind_failed", "")
}

fn unreadable(error: &event::Error) -> Reason {
    let place = match error {
        event::Error::Scan(error) => format!("byte {}", error.offset),
        event::Error::Member(name) => (*name).to_owned(),
    };
    Reason::new("not_an_event", place)
}

fn about(received: &ReceivedEvent<'_>) -> About {
    About {
        id: Some(received.id.as_str().to_owned()),
        source: Some(received.envelope.source.clone()),
        model: Some(received.envelope.model.clone()),
        rid: Some(received.envelope.rid.clone()),
        key: Some(received.key.to_owned()),
        event_id: Some(received.id.clone()),
        sequence: None,
        version: None,
    }
}
