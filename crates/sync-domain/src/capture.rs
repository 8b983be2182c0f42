//! What every way in makes of a change: the record id, the event id, the projection, the message for the Changes queue.
//!
//! A capture crate finds changes in its own manner and says each as a [`Draft`]; [`prepare`] does the rest, so that a
//! record has one id and one message form however it came.

use std::borrow::Cow;

use aws_lc_rs::digest::{SHA256, digest};

use crate::change::{Change, Operation};
use crate::event::MAX_EVENT_SIZE;
use crate::id::{Hop, RecordId, SourceId, dedup_id, push_part};
use crate::outcome::Reason;
use crate::policy::{CompiledPolicy, Picked};
use crate::ports::QueueEntry;
use crate::protect::{IdHasher, event_id};
use crate::version::Version;

/// What a message of the Changes queue may weigh.
const MAX_MESSAGE_SIZE: usize = 1 << 20;

/// The code of a change whose event could not fit the topic, or its message the queue.
pub const CHANGE_TOO_LARGE: &str = "change_too_large";
/// The code of a change whose `after` lacks the key or has another.
pub const KEY_MISMATCH: &str = "key_mismatch";
/// The code of a change whose `before` lacks the key or has another.
pub const KEY_CHANGED: &str = "key_changed";

/// A change as a way in found it. Records are JSON text of objects, whole and not projected yet.
#[derive(Debug, Clone, Copy)]
pub struct Draft<'a> {
    /// What happened.
    pub operation: Operation,
    /// What tells it from the record's other changes.
    pub place: Place<'a>,
    /// When it was committed at the source, RFC 3339.
    pub occurred_at: &'a str,
    /// The system where it was made: the source, unless the source only passes it on.
    pub origin: &'a str,
    /// W3C trace context; made of the change id where the source has none, the same on every retry.
    pub traceparent: Option<&'a str>,
    /// The run of a backfill or replay.
    pub run: Option<&'a str>,
    /// The only target of a backfill or replay.
    pub only: Option<&'a str>,
    /// The key: exactly the model's key attributes. None: it is that of the record.
    pub key: Option<&'a str>,
    /// The record before, with its key; [`KEY_CHANGED`] if that is another. A way in that knows of a changed key sends a
    /// delete of the old and a create of the new one.
    pub before: Option<&'a str>,
    /// The record after, with its key; none when deleted.
    pub after: Option<&'a str>,
    /// When the queue takes a second message for the first.
    pub same: Same,
}

/// Where a change stands among the changes of its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    /// The source counts: the change id is the event id.
    Version(Version),
    /// The Changes queue counts; the change has an id of its own.
    Arrival(&'a str),
}

/// Which second message within five minutes is a repeat that the queue drops. With a [`Draft::run`] only those of one run
/// are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Same {
    /// One with the same change id: the way in reads from a log, and one place in the log holds one content.
    Id,
    /// One with the same change id and content: the version comes from outside, and two contents under one version must
    /// both arrive, so that the ledger sees the conflict.
    Content,
}

/// A change that may go into the Changes queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The change id: the event id where the source counts.
    pub id: String,
    /// The record id.
    pub rid: RecordId,
    /// The message.
    pub entry: QueueEntry,
}

/// Makes the message of a change, or says why it cannot go on: the key is not the model's ([`CompiledPolicy::canonical_key`]
/// has the codes), a record has another key ([`KEY_MISMATCH`], [`KEY_CHANGED`]) or is not what the model says, or the event
/// could not fit 256 KiB or its message 1 MiB ([`CHANGE_TOO_LARGE`]).
pub fn prepare<'a>(
    source: &SourceId,
    policy: &'a CompiledPolicy,
    ids: &IdHasher,
    draft: &Draft<'a>,
) -> Result<Prepared, Reason> {
    let pick = |record: Option<&'a str>| record.map(|record| policy.pick(record)).transpose();
    let (before, after) = (pick(draft.before)?, pick(draft.after)?);
    let (before, after) = (before.as_ref(), after.as_ref());
    let key = match draft.key {
        Some(key) => Cow::Borrowed(key),
        None => Cow::Owned(after.or(before).ok_or_else(|| Reason::new("key_missing_in_record", ""))?.key()?),
    };
    let canonical_key = policy.canonical_key(&key)?;
    for (record, code, place) in [(after, KEY_MISMATCH, "after"), (before, KEY_CHANGED, "before")] {
        if record.is_some_and(|record| !record.has_key(&canonical_key)) {
            return Err(Reason::new(code, place));
        }
    }
    let (source, model) = (source.as_str(), policy.model().as_str());
    let rid = ids.rid(source, model, &canonical_key);
    let (id, version) = match draft.place {
        Place::Version(version) => {
            (event_id(&rid, &version, draft.operation).as_str().to_owned(), Some(version))
        }
        Place::Arrival(id) => (id.to_owned(), None),
    };
    let subject = policy.subject(&key, before, after);
    let project = |record: Option<&Picked<'_>>| record.map(Picked::project).transpose();
    let (listed_before, listed_after) = (project(before)?, project(after)?);
    let change = Change {
        id: Cow::Borrowed(&id),
        source: Cow::Borrowed(source),
        model: Cow::Borrowed(model),
        operation: draft.operation,
        version,
        occurred_at: Cow::Borrowed(draft.occurred_at),
        origin: Cow::Borrowed(draft.origin),
        traceparent: draft.traceparent.map_or_else(|| Cow::Owned(traceparent(&id)), Cow::Borrowed),
        subject_key_id: subject.map(|value| Cow::Owned(ids.subject_key_id(&value))),
        run: draft.run.map(Cow::Borrowed),
        only: draft.only.map(Cow::Borrowed),
        key: &key,
        before: listed_before.as_deref(),
        after: listed_after.as_deref(),
    };
    if policy.size_bound(&change, before, after) > MAX_EVENT_SIZE {
        return Err(Reason::new(CHANGE_TOO_LARGE, "event"));
    }
    let dedup = match (draft.run, draft.same) {
        (Some(run), _) => dedup_id(&id, Hop::Run(run)),
        (None, Same::Id) => dedup_id(&id, Hop::First),
        (None, Same::Content) => dedup_id(&id, Hop::Content(&content(ids, &change))),
    };
    let (body, group) = (change.write(), rid.as_str().to_owned());
    // The event may be small and its change large: what a policy hides is long before and short behind it.
    if body.len() > MAX_MESSAGE_SIZE {
        return Err(Reason::new(CHANGE_TOO_LARGE, "message"));
    }
    let entry = QueueEntry { body, group, dedup, attributes: Vec::new() };
    Ok(Prepared { id, rid, entry })
}

/// A keyed hash of what a change says about its record: keyed, since it stands beside the message in clear. The trace
/// context is not part of it, which differs from one attempt to the next.
fn content(ids: &IdHasher, change: &Change<'_>) -> String {
    let records =
        [Some(change.key), change.before, change.after].map(|record| record.unwrap_or("").as_bytes());
    let [key, before, after] = records;
    ids.content(&[change.operation.as_str().as_bytes(), change.occurred_at.as_bytes(), key, before, after])
}

/// A W3C trace context for a change whose source has none, the same on every retry.
pub(crate) fn traceparent(change_id: &str) -> String {
    let mut input = Vec::with_capacity(change_id.len() + 24);
    push_part(&mut input, b"traceparent");
    push_part(&mut input, change_id.as_bytes());
    let hash = digest(&SHA256, &input);
    let parts =
        hash.as_ref().split_first_chunk().and_then(|(trace, rest)| Some((*trace, *rest.first_chunk()?)));
    let (trace, parent) = parts.unwrap_or_default();
    format!("00-{:032x}-{:016x}-01", u128::from_be_bytes(trace), u64::from_be_bytes(parent))
}

#[cfg(test)]
mod tests;
