#![doc = include_str!("../README.md")]

pub mod deps;
pub mod settings;
mod step;

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use aws_lambda_events::sqs::SqsEvent;
use sync_domain::event::Event;
use sync_domain::id::ModelId;
use sync_domain::outcome::{Outcome, Reason};
use sync_domain::policy::{CompiledPolicy, Enrichment};
use sync_domain::ports::{self, QueueEntry};
use sync_lambda::batch::{self, Message, Plan, Report};
use sync_lambda::failpoint;
use sync_lambda::park::About;

use crate::deps::Deps;
use crate::step::{Read, Step, Stopped};

/// A message that has come five times is suspected of killing the process and worked alone; before that, what comes again
/// is more likely held up by a service that is away, and is worked in one round.
const PLAN: Plan = Plan { groups: batch::Groups::SideBySide, alone_from: 5 };

/// When no new round is begun: what a round waits for ends after 15 s, and the function after 30.
const LAST_ROUND_AFTER: Duration = Duration::from_secs(10);

/// Transforms a batch of the Changes queue at `now` (seconds since 1970).
pub async fn handle(event: SqsEvent, deps: &Deps, now: i64) -> Result<Report, batch::Error> {
    let started = Instant::now();
    batch::rounds_of(event, PLAN, &*deps.inbox, async |messages| {
        if started.elapsed() > LAST_ROUND_AFTER {
            return vec![Outcome::Retry(Reason::new("no_time_left", "")); messages.len()];
        }
        round(messages, deps, now).await
    })
    .await
}

/// One round: every message is read and transformed, what cannot go on is parked, the rest is published in as few calls as
/// can be.
async fn round(messages: &[&Message], deps: &Deps, now: i64) -> Vec<Outcome> {
    let read: Vec<_> = messages.iter().map(|message| step::read(message, deps)).collect();
    failpoint::pass("transform.read");
    let unready = unready_models(&read, deps, now).await;
    failpoint::pass("transform.keys-ready");
    let mut outcomes = Vec::with_capacity(messages.len());
    let mut onward = Onward::default();
    let mut held_up = HashSet::new();
    for (place, (message, read)) in messages.iter().zip(read).enumerate() {
        let outcome = if held_up.contains(message.group.as_str()) {
            let about = step::about(read);
            deps.parker
                .retry_or_park(message, deps.max_receives, Reason::new("behind_failed", ""), &about)
                .await
        } else {
            let step = read.and_then(|read| match unready.get(read.policy().model()) {
                Some(reason) => Err(Stopped::without_keys(read, reason)),
                None => step::transform(read, deps),
            });
            match step {
                Ok(step) => {
                    onward.take(place, step);
                    Outcome::Published
                }
                Err(Stopped::Rejected(reason, about)) => {
                    let outcome = deps.parker.park(message, reason, &about).await;
                    failpoint::pass("transform.parked");
                    outcome
                }
                Err(Stopped::Retry(reason, about)) => {
                    deps.parker.retry_or_park(message, deps.max_receives, reason, &about).await
                }
            }
        };
        if matches!(outcome, Outcome::Retry(_)) {
            held_up.insert(message.group.as_str());
        }
        outcomes.push(outcome);
    }
    failpoint::pass("transform.transformed");
    for (place, about, result) in onward.send(deps).await {
        if let (Err(error), Some(message), Some(outcome)) =
            (result, messages.get(place), outcomes.get_mut(place))
        {
            tracing::warn!(error = %error, "an event was not taken");
            let reason = Reason::new("publish_failed", error.code);
            *outcome = deps.parker.retry_or_park(message, deps.max_receives, reason, &about).await;
        }
    }
    failpoint::pass("transform.round-done");
    outcomes
}

/// Makes the keys of every model in the round ready; returns the models whose keys cannot be had now.
async fn unready_models(
    read: &[Result<Read<'_, '_>, Stopped>],
    deps: &Deps,
    now: i64,
) -> BTreeMap<ModelId, Reason> {
    let mut unready = BTreeMap::new();
    let policies: BTreeMap<&ModelId, &CompiledPolicy> =
        read.iter().flatten().map(|read| (read.policy().model(), read.policy())).collect();
    for (model, policy) in policies {
        if let Err(error) = deps.keyring.ready(policy, false, now).await {
            tracing::warn!(error = %error, model.id = %model, "the keys cannot be had");
            unready.insert(model.clone(), Reason::new("keys_unavailable", error.code));
        }
    }
    unready
}

/// What goes on from a round: at once to the topic, or to the Enrichment queue.
#[derive(Default)]
struct Onward {
    to_topic: Vec<Event>,
    topic_places: Vec<(usize, Box<About>)>,
    to_enrichment: Vec<QueueEntry>,
    enrichment_places: Vec<(usize, Box<About>)>,
}

impl Onward {
    fn take(&mut self, place: usize, step: Step) {
        let enrich = match step.enrichment {
            Enrichment::None => {
                self.topic_places.push((place, step.about));
                return self.to_topic.push(step.event);
            }
            Enrichment::Pass => "no",
            Enrichment::LookUp => "yes",
        };
        self.enrichment_places.push((place, step.about));
        self.to_enrichment.push(QueueEntry {
            body: step.event.body().to_owned(),
            group: step.event.rid().as_str().to_owned(),
            dedup: step.event.dedup_id(),
            attributes: vec![("enrich".to_owned(), enrich.to_owned())],
        });
    }

    /// Sends; one result per place. A record's model either enriches or not, so its order lies in one of the two.
    async fn send(self, deps: &Deps) -> Vec<(usize, Box<About>, ports::Result<()>)> {
        let published = match self.to_topic.is_empty() {
            true => Vec::new(),
            false => {
                let published = deps.topic.publish(&self.to_topic).await;
                failpoint::pass("transform.published");
                published
            }
        };
        let queued = match self.to_enrichment.is_empty() {
            true => Vec::new(),
            false => {
                let queued = deps.enrichment.send(self.to_enrichment).await;
                failpoint::pass("transform.queued");
                queued
            }
        };
        // A place without a result was not taken.
        let missing = || std::iter::repeat_with(|| Err(not_answered()));
        let topic = self.topic_places.into_iter().zip(published.into_iter().chain(missing()));
        let all = topic.chain(self.enrichment_places.into_iter().zip(queued.into_iter().chain(missing())));
        all.map(|((place, about), result)| (place, about, result)).collect()
    }
}

fn not_answered() -> ports::Error {
    ports::Error {
        kind: ports::Kind::Unavailable,
        operation: "send",
        code: "NoResult".to_owned(),
        source: None,
    }
}
