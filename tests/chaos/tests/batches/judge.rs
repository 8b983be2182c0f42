//! What is handed off, by whom, and whether it arrived as it should have.

use std::collections::{BTreeMap, BTreeSet};

use sync_domain::event::{Event, ReceivedEvent};
use sync_domain::outcome::{FailureEvent, Reason, Stage};
use sync_domain::ports::QueueEntry;

/// How often whoever hands off tries at most.
pub(crate) const ROUNDS: usize = 60;
const GROUPS: usize = 12;
const PER_GROUP: usize = 3;

/// Something of a group; the group's are numbered through.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) group: String,
    pub(crate) number: usize,
}

impl Entry {
    pub(crate) fn new(group: &str, number: usize) -> Self {
        Self { group: group.to_owned(), number }
    }

    /// Its body, in a queue.
    pub(crate) fn body(&self) -> String {
        format!("{}/{}", self.group, self.number)
    }

    /// Reads what was made of it on its way: a body, an event's, a failure's.
    pub(crate) fn read(body: &str) -> Self {
        let of_event = ReceivedEvent::read(body).ok().map(|event| event.key.to_owned());
        let key = of_event.as_deref().and_then(|key| key.strip_prefix("{\"id\":\"")?.strip_suffix("\"}"));
        let failure: Option<serde_json::Value> = serde_json::from_str(body).ok();
        let of_bus = failure.as_ref().and_then(|event| event["detail"]["message_id"].as_str());
        let text = key.or(of_bus).unwrap_or(body);
        let (group, number) = text.split_once('/').unwrap();
        Self { group: group.to_owned(), number: number.parse().unwrap() }
    }
}

/// Several of many groups, mixed.
pub(crate) fn entries() -> Vec<Entry> {
    let group = |group: usize| format!("group-{:02}", group * 5 % GROUPS);
    (0..PER_GROUP).flat_map(|number| (0..GROUPS).map(move |at| Entry::new(&group(at), number))).collect()
}

/// As a message for a queue.
pub(crate) fn message(entry: &Entry) -> QueueEntry {
    QueueEntry {
        body: entry.body(),
        group: entry.group.clone(),
        dedup: format!("dedup-{}-{}", entry.group, entry.number),
        attributes: vec![("enrich".to_owned(), "yes".to_owned())],
    }
}

/// As an event for the topic.
pub(crate) fn event(entry: &Entry) -> Event {
    let (group, body) = (&entry.group, entry.body());
    let body = format!(
        "{{\"specversion\":\"1.0\",\"id\":\"evt_{group}-{}\",\"source\":\"/datasync/crm\",\"type\":\"customer.updated\",\
         \"subject\":\"{group}\",\"time\":\"2026-11-24T20:19:23Z\",\"datacontenttype\":\"application/json\",\
         \"dataschema\":\"urn:datasync:schema/customer/1\",\"sequence\":\"00000000-{:040}\",\"partitionkey\":\"{group}\",\
         \"traceparent\":\"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\",\"origin\":\"crm\",\"policyversion\":\"1\",\
         \"data\":{{\"key\":{{\"id\":\"{body}\"}},\"before\":null,\"after\":{{\"id\":\"{body}\"}},\"changed\":[\"id\"],\"fingerprints\":{{}}}}}}",
        entry.number, entry.number
    );
    ReceivedEvent::read(&body)
        .expect("it is an event")
        .unchanged(&format!("message-{group}-{}", entry.number))
}

/// As a failure for the bus.
pub(crate) fn failure(entry: &Entry) -> FailureEvent {
    FailureEvent {
        stage: Stage::Transform,
        reason: Reason::new("not_a_change", ""),
        source: None,
        model: None,
        rid: None,
        key: None,
        event_id: None,
        target: None,
        message_id: entry.body(),
        tries: 1,
        dead_letter_queue: None,
    }
}

/// Hands everything off as a stage does: what was not confirmed comes again, and all behind it in its group with it, since
/// a queue would hand it out again so. Answers with what was confirmed out of turn: an entry behind one that was not.
pub(crate) async fn hand_off<F>(all: Vec<Entry>, send: F) -> Claimed
where
    F: AsyncFn(Vec<Entry>) -> Vec<bool>,
{
    let (mut left, mut out_of_turn) = (all, 0);
    for _ in 0..ROUNDS {
        let taken = send(left.clone()).await;
        let mut failed = BTreeSet::new();
        let mut again = Vec::new();
        // One without a result was not confirmed.
        for (entry, taken) in left.into_iter().zip(taken.into_iter().chain(std::iter::repeat(false))) {
            let behind = failed.contains(&entry.group);
            out_of_turn += usize::from(behind && taken);
            if behind || !taken {
                failed.insert(entry.group.clone());
                again.push(entry);
            }
        }
        left = again;
        if left.is_empty() {
            break;
        }
    }
    Claimed { out_of_turn, unconfirmed: left.len() }
}

/// What whoever handed off was told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claimed {
    out_of_turn: usize,
    unconfirmed: usize,
}

/// What is wrong with what arrived; nothing if all are zero.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Judged {
    /// Never arrived.
    pub(crate) lost: usize,
    /// Arrived again.
    pub(crate) twice: usize,
    /// Arrived for the first time behind a later one of their group.
    pub(crate) out_of_order: usize,
    /// Were confirmed behind one of their group that was not.
    out_of_turn: usize,
    /// Were never confirmed.
    unconfirmed: usize,
}

impl Judged {
    /// Leaves out what is nothing wrong where there is neither order nor deduplication.
    pub(crate) fn no_order(&mut self) {
        *self = Self { lost: self.lost, unconfirmed: self.unconfirmed, ..Self::default() };
    }
}

/// Holds what arrived, in its order, against what was sent.
pub(crate) fn judge(sent: &[Entry], claimed: Claimed, arrived: &[Entry]) -> Judged {
    let mut counts: BTreeMap<&Entry, usize> = BTreeMap::new();
    let mut highest: BTreeMap<&str, usize> = BTreeMap::new();
    let mut judged =
        Judged { out_of_turn: claimed.out_of_turn, unconfirmed: claimed.unconfirmed, ..Judged::default() };
    for entry in arrived {
        let count = counts.entry(entry).or_default();
        *count += 1;
        judged.twice += usize::from(*count > 1);
        let highest = highest.entry(&entry.group).or_insert(entry.number);
        judged.out_of_order += usize::from(*count == 1 && entry.number < *highest);
        *highest = entry.number.max(*highest);
    }
    judged.lost = sent.iter().filter(|entry| !counts.contains_key(entry)).count();
    judged
}
