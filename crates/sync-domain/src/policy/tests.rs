//! What the policy promises, over whole changes: from the body of a message in the Changes queue to the event's body.

mod arrays;
mod bytes;
mod capture;
mod changed;
mod compile;
mod computed;
mod deny;
mod enrich;
mod keys;
mod leaks;
mod rules;
mod sealed;
mod types;

use super::*;
use crate::change::{Change, Operation};
use crate::event::{Envelope, Event, ReceivedEvent};
use crate::id::RecordId;
use crate::ports::KeyBytes;
use crate::protect::{Nonces, SealingKey, TokenHasher};
use crate::scan::{Limits, Scanner};
use crate::version::Version;

/// Every model of these tests begins with this key; the tests list what comes behind it.
const HEAD: &str = "model: m\nkey: [_k]\nattributes:\n  _k: { class: identifier }\n";

pub(super) const BEFORE: &str = "before: true\n";

/// The bounds that `transform` reads changes with.
pub(super) const LIMITS: Limits =
    Limits { bytes: 1 << 20, depth: 64, items: 500_000, string: 1 << 20, names: 10_000 };

struct Counter(u64);

impl Nonces for Counter {
    fn next(&mut self) -> [u8; 12] {
        self.0 += 1;
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&self.0.to_be_bytes());
        nonce
    }
}

/// The data key of the attribute with this index.
pub(super) fn data_key(attribute: usize) -> KeyBytes {
    KeyBytes::new([u8::try_from(attribute).unwrap() + 1; 32])
}

pub(super) fn model(yaml: &str) -> Model {
    serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"))
}

pub(super) fn compile(yaml: &str) -> Result<CompiledPolicy, Vec<Error>> {
    CompiledPolicy::compile(&model(yaml), "v1")
}

/// A policy with its keys, ready to be applied.
pub(super) struct Rig {
    pub(super) policy: CompiledPolicy,
    pub(super) keys: PolicyKeys,
    pub(super) rid: RecordId,
    nonces: Counter,
}

impl Rig {
    /// A whole model.
    pub(super) fn of_model(yaml: &str) -> Self {
        let policy = compile(yaml).unwrap_or_else(|errors| panic!("{errors:?}\n{yaml}"));
        let mut keys = PolicyKeys::new(&policy, &TokenHasher::new(KeyBytes::new([200; 32])));
        for later in [false, true] {
            for (index, path) in keys.due(&policy, later, 0) {
                keys.install(
                    index,
                    SealingKey::new(&data_key(index), policy.model.as_str(), path, 0).unwrap(),
                );
            }
        }
        Self { policy, keys, rid: RecordId::from_wire("r1"), nonces: Counter(0) }
    }

    /// The model with these attributes behind the key `_k`.
    pub(super) fn new(attributes: &str) -> Self {
        Self::of_model(&format!("{HEAD}{attributes}"))
    }

    pub(super) fn apply_to(&mut self, change: &Change<'_>) -> Result<Applied, Failure> {
        let body = change.write();
        let captured = Captured::read(&body, &LIMITS, |name| (name == "m").then_some(&self.policy));
        let captured = captured.expect("a change").expect("the model is known");
        captured.apply(&self.rid, &mut self.keys, &mut self.nonces)
    }

    pub(super) fn event_of(&mut self, change: &Change<'_>) -> Event {
        let applied = self.apply_to(change).unwrap();
        Event::new(&envelope(change, &self.rid), applied.protected, "m1")
    }

    /// `data.after` of the event of a record, without the key at its begin.
    pub(super) fn after(&mut self, members: &str) -> String {
        self.try_after(members).unwrap()
    }

    pub(super) fn try_after(&mut self, members: &str) -> Result<String, Failure> {
        let record = record(members);
        let change = Change { after: Some(&record), ..sample() };
        let data = self.apply_to(&change)?.protected.data().to_owned();
        Ok(without_key(&member(&data, "after").unwrap()))
    }

    /// Why a record is refused: code and place.
    pub(super) fn reason(&mut self, members: &str) -> (String, String) {
        match self.try_after(members) {
            Err(Failure::Rejected(reason)) => (reason.code, reason.place),
            other => panic!("{members}: {other:?}"),
        }
    }

    /// What changed between two records, by the event's own word.
    pub(super) fn changed(&mut self, before: &str, after: &str) -> Option<Vec<String>> {
        let (before, after) = (record(before), record(after));
        let change =
            Change { operation: Operation::Update, before: Some(&before), after: Some(&after), ..sample() };
        self.apply_to(&change).unwrap().protected.changed().map(<[String]>::to_vec)
    }

    pub(super) fn enrich(&mut self, body: &str, found: &[(&str, &str)]) -> Result<Event, Failure> {
        let found: Vec<_> =
            found.iter().map(|(path, json)| ((*path).to_owned(), (*json).to_owned())).collect();
        let event = ReceivedEvent::read(body).unwrap();
        let protected = self.policy.enrich(&event, &found, &mut self.keys, &mut self.nonces)?;
        Ok(Event::new(&event.envelope, protected, "m2"))
    }
}

/// A record with the key `_k` and these members.
pub(super) fn record(members: &str) -> String {
    let comma = if members.is_empty() { "" } else { "," };
    format!("{{\"_k\":1{comma}{members}}}")
}

fn without_key(after: &str) -> String {
    let rest = after.strip_prefix("{\"_k\":1").unwrap_or_else(|| panic!("{after}"));
    format!("{{{}", rest.strip_prefix(',').unwrap_or(rest))
}

/// The text of a member of an object.
pub(super) fn member(object: &str, wanted: &str) -> Option<String> {
    let mut found = None;
    let mut scanner = Scanner::new(object, &LIMITS).unwrap();
    scanner
        .object(|scanner, name| -> crate::scan::Result<()> {
            let value = scanner.value()?;
            if name == wanted {
                found = Some(value.raw.to_owned());
            }
            Ok(())
        })
        .unwrap();
    found
}

pub(super) fn sample() -> Change<'static> {
    Change {
        id: "chg_1".into(),
        source: "crm".into(),
        model: "m".into(),
        operation: Operation::Create,
        version: Some(Version::from_decimal(0, "7").unwrap()),
        occurred_at: "2026-11-24T20:19:23Z".into(),
        origin: "crm".into(),
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
        subject_key_id: None,
        run: None,
        only: None,
        key: r#"{"_k":1}"#,
        before: None,
        after: Some(r#"{"_k":1}"#),
    }
}

pub(super) fn envelope<'a>(change: &Change<'a>, rid: &RecordId) -> Envelope<'a> {
    Envelope {
        rid: rid.clone(),
        version: change.version.unwrap(),
        source: change.source.parse().unwrap(),
        model: change.model.parse().unwrap(),
        operation: change.operation,
        occurred_at: change.occurred_at.clone(),
        origin: change.origin.clone(),
        traceparent: change.traceparent.clone(),
        subject_key_id: change.subject_key_id.clone(),
        run: change.run.clone(),
        only: change.only.clone(),
    }
}
