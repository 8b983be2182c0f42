//! The end of a resync: deletions for what a target has and the source has no more.
//!
//! What the source has is asked of the source, not read off the ledger: a row that no snapshot has raised may belong to a
//! record that stands at the source all the same, because its snapshot has a ticket, waits, or was not subscribed to.
//!
//! A deletion gets the last version before the new epoch. So it is news to every row of an earlier epoch, and stale wherever
//! a snapshot or a change of the new epoch came first; where it comes first, they are news to its tombstone.

use std::borrow::Cow;

use crate::capture::traceparent;
use crate::change::Operation;
use crate::event::{Envelope, Event};
use crate::id::{RecordId, SourceId};
use crate::policy::CompiledPolicy;
use crate::ports::LedgerRow;
use crate::version::Version;

/// A sweep of one model.
#[derive(Debug, Clone, Copy)]
pub struct Sweep<'a> {
    /// The source that was begun anew.
    pub source: &'a SourceId,
    /// The model's policy, which says how an event of the model is laid out.
    pub policy: &'a CompiledPolicy,
    /// What stands before the versions of the new epoch; see [`Version::before_epoch`].
    pub version: Version,
    /// The run; the same one sends nothing twice within five minutes.
    pub run: &'a str,
    /// When it was found, RFC 3339.
    pub found_at: &'a str,
}

/// What a row of the ledger means to a sweep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It is of another source or model.
    Other,
    /// It does not say whose it is: an earlier release wrote it.
    Unnamed,
    /// The target has no such record any more, or heard of it in the new epoch.
    Settled,
    /// The source has the record.
    Present,
    /// Its key cannot be read.
    Unreadable,
    /// The target has what the source has no more: this tells it so.
    Removal(Box<Event>),
}

impl Sweep<'_> {
    /// Looks at a row; `present` says whether the source has a record, and must have been asked after the new epoch began.
    pub fn look_at(&self, row: &LedgerRow, present: impl FnOnce(&RecordId) -> bool) -> Finding {
        let Some(whose) = &row.whose else { return Finding::Unnamed };
        if whose.source != *self.source || whose.model != *self.policy.model() {
            return Finding::Other;
        }
        if row.deleted || row.version >= self.version {
            return Finding::Settled;
        }
        if present(&whose.rid) {
            return Finding::Present;
        }
        let Some(protected) = self.policy.removal_of(row) else { return Finding::Unreadable };
        // An event is told apart by record, version and operation, and one record may be removed at several targets.
        let send = format!("{}/{}", self.run, whose.target);
        let envelope = Envelope {
            rid: whose.rid.clone(),
            version: self.version,
            source: whose.source.clone(),
            model: whose.model.clone(),
            operation: Operation::Delete,
            occurred_at: Cow::Borrowed(self.found_at),
            origin: Cow::Borrowed(self.source.as_str()),
            traceparent: Cow::Owned(traceparent(&format!("{send}/{}", whose.rid))),
            subject_key_id: None,
            run: Some(Cow::Borrowed(self.run)),
            only: Some(Cow::Borrowed(whose.target.as_str())),
        };
        Finding::Removal(Box::new(Event::new(&envelope, protected, &send)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::ledger::{Arrival, Decision, Effect, accepted, decide};
    use crate::event::ReceivedEvent;
    use crate::ports::Whose;

    const RUN: &str = "run-1";

    fn policy() -> CompiledPolicy {
        let yaml = "model: customer\nkey: [id]\nschema: 3\nattributes:\n  id: { class: identifier }\n";
        CompiledPolicy::compile(&serde_saphyr::from_str(yaml).unwrap(), "0123456789abcdef").unwrap()
    }

    fn row(version: Version) -> LedgerRow {
        let whose = Whose {
            target: "loyalty".parse().unwrap(),
            source: "crm-db".parse().unwrap(),
            model: "customer".parse().unwrap(),
            rid: RecordId::from_wire("rid-1"),
        };
        let arrival = Arrival { version, digest: Some("digest"), force: false };
        LedgerRow { whose: Some(whose), ..accepted(&arrival, r#"{"id":42}"#, 1, 0) }
    }

    fn look(row: &LedgerRow, present: bool) -> Finding {
        let (policy, source) = (policy(), "crm-db".parse().unwrap());
        let version = Version::before_epoch(1).unwrap();
        let sweep =
            Sweep { source: &source, policy: &policy, version, run: RUN, found_at: "2026-11-25T09:00:00Z" };
        sweep.look_at(row, |rid| {
            assert_eq!(rid.as_str(), "rid-1");
            present
        })
    }

    fn removal(row: &LedgerRow) -> Event {
        match look(row, false) {
            Finding::Removal(event) => *event,
            other => panic!("{other:?}"),
        }
    }

    fn old() -> Version {
        Version::from_log(0, u64::MAX, u64::MAX)
    }

    #[test]
    fn what_the_source_has_no_more_is_removed_at_its_target_alone() {
        let event = removal(&row(old()));
        let read = ReceivedEvent::read(event.body()).unwrap();
        let envelope = &read.envelope;
        assert_eq!((envelope.operation, envelope.rid.as_str()), (Operation::Delete, "rid-1"));
        assert_eq!((envelope.only.as_deref(), envelope.run.as_deref()), (Some("loyalty"), Some(RUN)));
        assert_eq!((read.key, read.after, read.schema.as_ref()), (r#"{"id":42}"#, None, "3"));
        let named = |name| event.attributes().iter().any(|(own, _)| *own == name);
        assert!(named("only") && named("operation"));
    }

    #[test]
    fn two_targets_of_one_record_are_two_sends_and_a_run_sends_nothing_twice() {
        let (mut other, one) = (row(old()), row(old()));
        other.whose.as_mut().unwrap().target = "warehouse".parse().unwrap();
        assert_ne!(removal(&one).dedup_id(), removal(&other).dedup_id());
        assert_eq!(removal(&one).dedup_id(), removal(&one).dedup_id());
    }

    #[test]
    fn what_stands_at_the_source_or_is_settled_stays() {
        let first = Version::from_decimal(1, "0").unwrap();
        assert_eq!(look(&row(old()), true), Finding::Present);
        assert_eq!(look(&row(first), false), Finding::Settled);
        assert_eq!(look(&LedgerRow { deleted: true, ..row(old()) }, false), Finding::Settled);
        assert_eq!(look(&LedgerRow { whose: None, ..row(old()) }, false), Finding::Unnamed);
        let mut other = row(old());
        other.whose.as_mut().unwrap().source = "crm".parse().unwrap();
        assert_eq!(look(&other, false), Finding::Other);
        let mut other = row(old());
        other.whose.as_mut().unwrap().model = "price".parse().unwrap();
        assert_eq!(look(&other, false), Finding::Other);
        for bad in ["", "[1]", "{", "{}{}"] {
            assert_eq!(look(&LedgerRow { key: bad.to_owned(), ..row(old()) }, false), Finding::Unreadable);
        }
    }

    /// Every order in which an old row, the removal and what the new epoch says of the record can meet.
    #[test]
    fn whatever_the_new_epoch_says_of_the_record_wins_in_either_order() {
        let removal = removal(&row(old()));
        let version = ReceivedEvent::read(removal.body()).unwrap().envelope.version;
        let removed = Arrival { version, digest: None, force: true };
        let stands = row(old());
        assert_eq!(decide(Some(&stands), &removed), Decision::Send(Effect::Delete));
        for force in [true, false] {
            let first = Version::from_decimal(1, "0").unwrap();
            let news = Arrival { version: first, digest: Some("digest"), force };
            let after_news = accepted(&news, &stands.key, 1, 0);
            assert_eq!(decide(Some(&after_news), &removed), Decision::Stale);
            let after_removal = accepted(&removed, &stands.key, 1, 0);
            assert_eq!(decide(Some(&after_removal), &news), Decision::Send(Effect::Create));
        }
        let late = Arrival { version: old(), digest: Some("digest"), force: true };
        assert_eq!(decide(Some(&accepted(&removed, &stands.key, 1, 0)), &late), Decision::Stale);
    }
}
