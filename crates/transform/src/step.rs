//! One message: from a change in the queue to an event, or to why not.

use sync_domain::change::{self, Change};
use sync_domain::config::{Push, Source};
use sync_domain::event::{Envelope, Event, MAX_EVENT_SIZE};
use sync_domain::id::{ModelId, RecordId, SourceId};
use sync_domain::outcome::Reason;
use sync_domain::policy::{Captured, CompiledPolicy, Enrichment, Failure};
use sync_domain::protect::event_id;
use sync_domain::scan::Limits;
use sync_domain::version::Version;
use sync_lambda::batch::{Message, guarded};
use sync_lambda::park::About;

use crate::deps::Deps;

/// An event and where it goes.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) event: Event,
    pub(crate) enrichment: Enrichment,
    pub(crate) about: Box<About>,
}

/// Why a message does not go on, and what a ticket may say of it.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// For good.
    Rejected(Reason, Box<About>),
    /// For now.
    Retry(Reason, Box<About>),
}

/// Bounds of a change: capture has checked its parts, and together they fit a message.
const LIMITS: Limits = Limits { bytes: 1 << 20, depth: 64, items: 500_000, string: 1 << 20, names: 10_000 };

/// A message that has been read: the change and the policy of its model, its source and version.
#[derive(Debug)]
pub(crate) struct Read<'m, 'd> {
    captured: Captured<'m, 'd>,
    source: SourceId,
    version: Version,
    message_id: &'m str,
    about: Box<About>,
}

impl<'d> Read<'_, 'd> {
    /// The policy of the change's model.
    pub(crate) fn policy(&self) -> &'d CompiledPolicy {
        self.captured.policy
    }
}

/// Reads one message.
pub(crate) fn read<'m, 'd>(message: &'m Message, deps: &'d Deps) -> Result<Read<'m, 'd>, Stopped> {
    guarded(|| read_change(message, deps))
        .unwrap_or_else(|reason| Err(Stopped::Retry(reason, Box::default())))
}

/// Applies the policy to what was read and makes the event.
pub(crate) fn transform(read: Read<'_, '_>, deps: &Deps) -> Result<Step, Stopped> {
    guarded(|| make_event(read, deps)).unwrap_or_else(|reason| Err(Stopped::Retry(reason, Box::default())))
}

fn read_change<'m, 'd>(message: &'m Message, deps: &'d Deps) -> Result<Read<'m, 'd>, Stopped> {
    let find = |model: &str| model.parse().ok().and_then(|model: ModelId| deps.policies.get(&model));
    let about = |change: &Change<'_>| {
        Box::new(About {
            id: Some(change.id.clone().into_owned()),
            rid: Some(RecordId::from_wire(message.group.as_str())),
            source: change.source.parse().ok(),
            model: change.model.parse().ok(),
            ..About::default()
        })
    };
    let captured = match Captured::read(&message.body, &LIMITS, find) {
        Ok(Ok(captured)) => captured,
        Ok(Err(change)) => {
            return Err(Stopped::Rejected(Reason::new("unknown_model", "model"), about(&change)));
        }
        Err(error) => {
            return Err(Stopped::Rejected(
                Reason::new("not_a_change", place_of(&error)),
                nothing_read(message),
            ));
        }
    };
    let mut about = about(&captured.change);
    let source = match permitted_source(&captured, deps) {
        Ok(source) => source,
        Err(reason) => return Err(Stopped::Rejected(reason, about)),
    };
    let version = match version_of(&captured.change, message, source) {
        Ok(version) => version,
        Err(reason) => return Err(Stopped::Rejected(reason, about)),
    };
    about.version = captured.change.version.is_none().then(|| version.to_string());
    let rid = RecordId::from_wire(message.group.as_str());
    about.event_id = Some(event_id(&rid, &version, captured.change.operation));
    Ok(Read { captured, source: source.source.clone(), version, message_id: &message.id, about })
}

fn make_event(read: Read<'_, '_>, deps: &Deps) -> Result<Step, Stopped> {
    let Read { captured, source, version, message_id, mut about } = read;
    let Some(rid) = about.rid.clone() else {
        return Err(Stopped::Rejected(Reason::new("not_a_change", "MessageGroupId"), about));
    };
    let policy = captured.policy;
    let applied = deps.keyring.lend(policy, |keys, nonces| {
        let applied = captured.apply(&rid, keys, nonces);
        if applied.is_err() {
            about.key = policy.protected_key(captured.change.key, &rid, keys, nonces);
        }
        applied
    });
    let applied = match applied {
        Some(Ok(applied)) => applied,
        Some(Err(Failure::Rejected(reason))) => return Err(Stopped::Rejected(reason, about)),
        Some(Err(Failure::Key(error))) => {
            return Err(Stopped::Retry(Reason::new("key_refused", error.to_string()), about));
        }
        None => return Err(Stopped::Retry(Reason::new("keys_unavailable", ""), about)),
    };
    let change = captured.change;
    let envelope = Envelope {
        rid,
        version,
        source,
        model: policy.model().clone(),
        operation: change.operation,
        occurred_at: change.occurred_at,
        origin: change.origin,
        traceparent: change.traceparent,
        subject_key_id: change.subject_key_id,
        run: change.run,
        only: change.only,
    };
    let event = Event::new(&envelope, applied.protected, message_id);
    if event.size() > MAX_EVENT_SIZE {
        return Err(Stopped::Rejected(Reason::new("too_large", format!("{} bytes", event.size())), about));
    }
    Ok(Step { event, enrichment: applied.enrichment, about })
}

/// What is known of a message, whatever became of it.
pub(crate) fn about(read: Result<Read<'_, '_>, Stopped>) -> Box<About> {
    match read {
        Ok(read) => read.about,
        Err(Stopped::Rejected(_, about) | Stopped::Retry(_, about)) => about,
    }
}

impl Stopped {
    /// Keys that cannot be had now.
    pub(crate) fn without_keys(read: Read<'_, '_>, reason: &Reason) -> Self {
        Self::Retry(reason.clone(), read.about)
    }
}

/// What a ticket and a dead letter say of a message that could not be read.
fn nothing_read(message: &Message) -> Box<About> {
    Box::new(About { sequence: place_in_queue(message), ..About::default() })
}

/// The place of a message in the Changes queue: the one that it had first, if it has been in a dead-letter queue.
fn place_in_queue(message: &Message) -> Option<String> {
    message.attributes.get("sequence").or(message.sequence.as_ref()).cloned()
}

fn place_of(error: &change::Error) -> String {
    match error {
        change::Error::Scan(error) => format!("byte {}", error.offset),
        change::Error::Member(name) => (*name).to_owned(),
    }
}

/// The source of a change, which must be the one that writes its model.
fn permitted_source<'d>(captured: &Captured<'_, '_>, deps: &'d Deps) -> Result<&'d Source, Reason> {
    let id: Option<SourceId> = captured.change.source.parse().ok();
    let source =
        id.and_then(|id| deps.sources.get(&id)).ok_or_else(|| Reason::new("unknown_source", "source"))?;
    match source.writes(captured.policy.model()) {
        true => Ok(source),
        false => Err(Reason::new("forbidden_model", "model")),
    }
}

/// The change's own version, or the one of its place in the queue: as a redriven message carries it, or as SQS gave it.
fn version_of(change: &Change<'_>, message: &Message, source: &Source) -> Result<Version, Reason> {
    if let Some(version) = change.version {
        return Ok(version);
    }
    if !source.push.as_ref().is_some_and(Push::counts_by_arrival) {
        return Err(Reason::new("bad_version", "version"));
    }
    if let Some(carried) = message.attributes.get("version") {
        return Version::parse(carried).map_err(|_| Reason::new("bad_version", "attribute version"));
    }
    let sequence = place_in_queue(message).unwrap_or_default();
    Version::from_decimal(source.epoch(), &sequence).map_err(|_| Reason::new("bad_version", "SequenceNumber"))
}
