use super::*;
use crate::config::Model;
use crate::delivery::digest::{self, Content};
use crate::delivery::ledger::{Arrival, Decision, Effect, accepted, decide};
use crate::delivery::mapping::Mapping;
use crate::event::{Envelope, Event, ReceivedEvent};
use crate::policy::{Captured, PolicyKeys};
use crate::ports::{KeyBytes, LedgerRow};
use crate::protect::{LedgerHasher, TokenHasher};
use crate::scan::Limits;

const MODEL: &str = "
model: customer
key: [customer_id]
subject: customer_id
attributes:
  customer_id: { class: identifier, type: integer }
  email: { class: personal, protect: redact }
  tier: { class: internal }
";

const RECORD: &str = r#"{"customer_id":42,"email":"a@example.com","unlisted":1}"#;

fn source() -> SourceId {
    "crm".parse().unwrap()
}

fn policy() -> CompiledPolicy {
    let model: Model = serde_saphyr::from_str(MODEL).unwrap();
    CompiledPolicy::compile(&model, "v1").unwrap()
}

fn hasher() -> IdHasher {
    IdHasher::new(&KeyBytes::new([1; 32]))
}

fn draft() -> Draft<'static> {
    Draft {
        operation: Operation::Update,
        place: Place::Version(Version::from_log(0, 7, 1)),
        occurred_at: "2026-11-24T20:19:23Z",
        origin: "crm",
        traceparent: None,
        run: None,
        only: None,
        key: Some(r#"{"customer_id":42}"#),
        before: None,
        after: Some(RECORD),
        same: Same::Content,
    }
}

fn made(draft: &Draft<'_>) -> Prepared {
    prepare(&source(), &policy(), &hasher(), draft).unwrap()
}

fn refused(draft: &Draft<'_>) -> (String, String) {
    let reason = prepare(&source(), &policy(), &hasher(), draft).unwrap_err();
    (reason.code, reason.place)
}

#[test]
fn a_message_holds_listed_attributes_only_and_stands_in_the_group_of_its_record() {
    let made = made(&draft());
    let change = Change::read(&made.entry.body, &Limits::default()).unwrap();
    assert_eq!(change.after, Some(r#"{"customer_id":42,"email":"a@example.com"}"#));
    assert_eq!(made.entry.group, made.rid.as_str());
    assert_eq!(made.id, event_id(&made.rid, &Version::from_log(0, 7, 1), Operation::Update).as_str());
    assert_eq!(change.id, made.id);
    assert!(change.subject_key_id.is_some());
}

#[test]
fn a_change_that_the_queue_counts_keeps_its_own_id_and_has_no_version() {
    let made = made(&Draft { place: Place::Arrival("chg_1"), ..draft() });
    let change = Change::read(&made.entry.body, &Limits::default()).unwrap();
    assert_eq!((change.id.as_ref(), change.version), ("chg_1", None));
}

#[test]
fn a_trace_context_is_taken_over_or_made_of_the_change_id() {
    let trace = |draft: &Draft<'_>| {
        let body = made(draft).entry.body;
        Change::read(&body, &Limits::default()).unwrap().traceparent.into_owned()
    };
    let given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    assert_eq!(trace(&Draft { traceparent: Some(given), ..draft() }), given);
    let own = trace(&draft());
    assert_eq!(own.len(), 55);
    assert!(own.starts_with("00-") && own.ends_with("-01"));
    assert_eq!(own, trace(&draft()));
    assert_ne!(own, trace(&Draft { operation: Operation::Create, ..draft() }));
}

#[test]
fn every_record_of_a_change_has_its_key() {
    let other = Some(r#"{"customer_id":43}"#);
    let none = Some(r#"{"email":"a@example.com"}"#);
    for record in [other, none] {
        let after = Draft { after: record, ..draft() };
        assert_eq!(refused(&after), (KEY_MISMATCH.to_owned(), "after".to_owned()));
        let before = Draft { before: record, ..draft() };
        assert_eq!(refused(&before), (KEY_CHANGED.to_owned(), "before".to_owned()));
    }
    let partial = Draft { key: Some("{}"), ..draft() };
    assert_eq!(refused(&partial), ("key_attributes".to_owned(), "customer_id".to_owned()));
}

#[test]
fn without_a_key_of_its_own_a_change_has_that_of_its_record() {
    let [given, found] = [draft().key, None].map(|key| made(&Draft { key, ..draft() }));
    assert_eq!(given, found);
    let deleted = Draft { key: None, before: Some(RECORD), after: None, ..draft() };
    assert_eq!(made(&deleted).rid, given.rid);
    let moved = Draft { key: None, before: Some(r#"{"customer_id":43}"#), ..draft() };
    assert_eq!(refused(&moved), (KEY_CHANGED.to_owned(), "before".to_owned()));
    let none = Draft { key: None, after: None, ..draft() };
    assert_eq!(refused(&none).0, "key_missing_in_record");
    let fraction = Draft { key: None, after: Some(r#"{"customer_id":4.2}"#), ..draft() };
    assert_eq!(refused(&fraction), ("key_value".to_owned(), "customer_id".to_owned()));
}

#[test]
fn what_could_not_fit_the_topic_is_refused() {
    let record = |length: usize| format!(r#"{{"customer_id":42,"email":"{}"}}"#, "x".repeat(length));
    let (fits, too_large) = (record(1_000), record(300_000));
    made(&Draft { after: Some(&fits), ..draft() });
    // A redacted value weighs nothing in the event; the key does.
    let key = format!(r#"{{"customer_id":{}}}"#, "1".repeat(300_000));
    let after = format!(r#"{{"customer_id":{},"email":null}}"#, "1".repeat(300_000));
    made(&Draft { after: Some(&too_large), ..draft() });
    let draft = Draft { key: Some(&key), after: Some(&after), ..draft() };
    assert_eq!(refused(&draft), (CHANGE_TOO_LARGE.to_owned(), "event".to_owned()));
}

#[test]
fn two_contents_under_one_version_are_two_messages_where_the_version_comes_from_outside() {
    let dedup = |draft: &Draft<'_>| made(draft).entry.dedup;
    let first = draft();
    let trace = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    assert_eq!(dedup(&first), dedup(&Draft { traceparent: trace, ..first }), "a true repeat");
    let unlisted = Some(r#"{"customer_id":42,"email":"a@example.com","unlisted":2}"#);
    assert_eq!(dedup(&first), dedup(&Draft { after: unlisted, ..first }), "what is not listed is not there");
    let others = [
        Draft { after: Some(r#"{"customer_id":42,"email":"b@example.com"}"#), ..first },
        Draft { before: Some(RECORD), ..first },
        Draft { occurred_at: "2026-11-24T20:19:24Z", ..first },
    ];
    for other in others {
        assert_eq!(made(&first).id, made(&other).id);
        assert_ne!(dedup(&first), dedup(&other));
        let (from_log, other) = (Draft { same: Same::Id, ..first }, Draft { same: Same::Id, ..other });
        assert_eq!(dedup(&from_log), dedup(&other), "one place in a log holds one content");
    }
}

#[test]
fn a_run_repeats_itself_only() {
    let dedup = |run, same| made(&Draft { run, same, ..draft() }).entry.dedup;
    let [first_pass, run, other_run] = [None, Some("r1"), Some("r2")].map(|run| dedup(run, Same::Id));
    assert!(first_pass != run && run != other_run);
    assert_eq!(run, dedup(Some("r1"), Same::Content));
}

/// The way of pushes from the door to the ledger of a target, each queue and topic a set of the deduplication ids that it
/// remembers: what the ledger decides of each that comes through.
#[derive(Default)]
struct Way {
    changes: Vec<Prepared>,
    topic: Vec<String>,
    row: Option<LedgerRow>,
    decisions: Vec<Decision>,
}

struct NoNonces;

impl crate::protect::Nonces for NoNonces {
    fn next(&mut self) -> [u8; 12] {
        panic!("nothing is sealed here")
    }
}

impl Way {
    fn push(&mut self, draft: &Draft<'_>) {
        let change = made(draft);
        if self.changes.iter().all(|known| known.entry.dedup != change.entry.dedup) {
            self.changes.push(change);
            self.work(self.changes.len() - 1, &format!("m{}", self.changes.len()));
        }
    }

    /// One message of the Changes queue, under this `MessageId`, to its end.
    fn work(&mut self, number: usize, message_id: &str) {
        let (policy, Prepared { rid, entry, .. }) = (policy(), &self.changes[number]);
        let change = Change::read(&entry.body, &Limits::default()).unwrap();
        let mut keys = PolicyKeys::new(&policy, &TokenHasher::new(KeyBytes::new([1; 32])));
        let captured = Captured::of(change, &policy);
        let protected = captured.apply(rid, &mut keys, &mut NoNonces).unwrap().protected;
        let change = captured.change;
        let envelope = Envelope {
            rid: rid.clone(),
            version: change.version.unwrap(),
            source: source(),
            model: policy.model().clone(),
            operation: change.operation,
            occurred_at: change.occurred_at,
            origin: change.origin,
            traceparent: change.traceparent,
            subject_key_id: change.subject_key_id,
            run: change.run,
            only: change.only,
        };
        let event = Event::new(&envelope, protected, message_id);
        if self.topic.contains(&event.dedup_id()) {
            return;
        }
        self.topic.push(event.dedup_id());
        let received = ReceivedEvent::read(event.body()).unwrap();
        let (ledger, target, mapping) = (
            LedgerHasher::new(&KeyBytes::new([3; 32])),
            "loyalty".parse().unwrap(),
            Mapping::compile(None).unwrap(),
        );
        let content = Content {
            target: &target,
            rid,
            key: received.key,
            record: received.after.unwrap(),
            policy_version: "v1",
            mapping: &mapping,
        };
        let digest = digest::digest(&ledger, &content, |_| None).unwrap();
        let arrival = Arrival { version: received.envelope.version, digest: Some(&digest), force: false };
        let decision = decide(self.row.as_ref(), &arrival);
        if !matches!(decision, Decision::Conflict | Decision::Stale) {
            self.row = Some(accepted(&arrival, received.key, 1, 0));
        }
        self.decisions.push(decision);
    }
}

#[test]
fn a_second_content_under_one_version_ends_as_a_conflict_and_a_repeat_nowhere() {
    let tiered = Some(r#"{"customer_id":42,"tier":"gold"}"#);
    let (first, second) = (draft(), Draft { after: tiered, ..draft() });
    let mut way = Way::default();
    way.push(&first);
    way.push(&first);
    assert_eq!(way.decisions, [Decision::Send(Effect::Create)], "the repeat died in the Changes queue");
    way.push(&second);
    way.push(&second);
    assert_eq!(way.decisions[1..], [Decision::Conflict]);
    way.work(0, "m1");
    assert_eq!(way.decisions.len(), 2, "a message that comes again after a crash dies at the topic");
    way.work(0, "m9");
    assert_eq!(way.decisions[2..], [Decision::Unchanged], "a redriven one is told by the ledger");
}
