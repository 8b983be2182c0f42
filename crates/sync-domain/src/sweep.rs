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
use crate::id::SourceId;
use crate::policy::CompiledPolicy;
use crate::ports::{LedgerRow, Whose};
use crate::version::Version;

/// A sweep behind the beginning of a source's epoch.
#[derive(Debug, Clone, Copy)]
pub struct Sweep<'a> {
    /// The source that was begun anew.
    pub source: &'a SourceId,
    /// What stands before the versions of the new epoch; see [`Version::before_epoch`].
    pub version: Version,
    /// The run: another one sends again what this one has sent.
    pub run: &'a str,
    /// When it began, RFC 3339.
    pub began: &'a str,
}

/// What a row of the ledger means to a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding<'a> {
    /// It is of another source.
    Other,
    /// It does not say whose it is: an earlier release wrote it.
    Unnamed,
    /// The target has no such record any more, or heard of it in the new epoch.
    Settled,
    /// The target has the record, and nothing of the new epoch has reached it: the source must be asked.
    Open(&'a Whose),
}

impl Sweep<'_> {
    /// Looks at a row.
    pub fn look_at<'r>(&self, row: &'r LedgerRow) -> Finding<'r> {
        match &row.whose {
            None => Finding::Unnamed,
            Some(whose) if whose.source != *self.source => Finding::Other,
            Some(_) if row.deleted || row.version >= self.version => Finding::Settled,
            Some(whose) => Finding::Open(whose),
        }
    }

    /// Tells the row's target, and no other, that the record is gone. Only for a row that is open, of a record that the source
    /// did not have when it was asked after the new epoch had begun. `policy` is that of the row's model. None if the
    /// row's key cannot be read.
    pub fn removal(&self, policy: &CompiledPolicy, row: &LedgerRow) -> Option<Event> {
        let whose = row.whose.as_ref()?;
        let protected = policy.removal_of(row)?;
        // An event is told apart by record, version and operation, and one record may be removed at several targets.
        let send = format!("{}/{}", self.run, whose.target);
        let envelope = Envelope {
            rid: whose.rid.clone(),
            version: self.version,
            source: whose.source.clone(),
            model: whose.model.clone(),
            operation: Operation::Delete,
            occurred_at: Cow::Borrowed(self.began),
            origin: Cow::Borrowed(self.source.as_str()),
            traceparent: Cow::Owned(traceparent(&format!("{send}/{}", whose.rid))),
            subject_key_id: None,
            // With a run it would go out to a target again that has taken it from an earlier sweep.
            run: None,
            only: Some(Cow::Borrowed(whose.target.as_str())),
        };
        Some(Event::new(&envelope, protected, &send))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::ledger::{Arrival, Decision, Effect, accepted, decide};
    use crate::event::ReceivedEvent;
    use crate::id::RecordId;

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

    fn with<T>(work: impl FnOnce(&Sweep<'_>) -> T) -> T {
        let source = "crm-db".parse().unwrap();
        let version = Version::before_epoch(1).unwrap();
        work(&Sweep { source: &source, version, run: RUN, began: "2026-11-25T09:00:00Z" })
    }

    fn removal(row: &LedgerRow) -> Event {
        with(|sweep| {
            assert!(matches!(sweep.look_at(row), Finding::Open(_)));
            sweep.removal(&policy(), row).unwrap()
        })
    }

    fn old() -> Version {
        Version::from_log(0, u64::MAX, u64::MAX)
    }

    #[test]
    fn a_removal_is_a_deletion_for_its_target_alone() {
        let event = removal(&row(old()));
        let read = ReceivedEvent::read(event.body()).unwrap();
        let envelope = &read.envelope;
        assert_eq!((envelope.operation, envelope.rid.as_str()), (Operation::Delete, "rid-1"));
        assert_eq!((envelope.only.as_deref(), envelope.run.as_deref()), (Some("loyalty"), None));
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
    fn a_row_is_open_where_the_target_has_a_record_of_the_source_from_an_earlier_epoch() {
        with(|sweep| {
            let first = Version::from_decimal(1, "0").unwrap();
            assert!(matches!(sweep.look_at(&row(old())), Finding::Open(_)));
            assert_eq!(sweep.look_at(&row(first)), Finding::Settled);
            assert_eq!(sweep.look_at(&LedgerRow { deleted: true, ..row(old()) }), Finding::Settled);
            assert_eq!(sweep.look_at(&LedgerRow { whose: None, ..row(old()) }), Finding::Unnamed);
            let mut other = row(old());
            other.whose.as_mut().unwrap().source = "crm".parse().unwrap();
            assert_eq!(sweep.look_at(&other), Finding::Other);
        });
    }

    #[test]
    fn without_a_key_that_can_be_read_there_is_no_removal() {
        for bad in ["", "[1]", "{", "{}{}"] {
            let row = LedgerRow { key: bad.to_owned(), ..row(old()) };
            assert_eq!(with(|sweep| sweep.removal(&policy(), &row)), None, "{bad}");
        }
    }

    /// Every order in which an old row, the removal and what the new epoch says of the record can meet.
    #[test]
    fn whatever_the_new_epoch_says_of_the_record_wins_in_either_order() {
        let removal = removal(&row(old()));
        let version = ReceivedEvent::read(removal.body()).unwrap().envelope.version;
        let removed = Arrival { version, digest: None, force: false };
        let stands = row(old());
        assert_eq!(decide(Some(&stands), &removed), Decision::Send(Effect::Delete));
        let after_removal = accepted(&removed, &stands.key, 1, 0);
        assert_eq!(decide(Some(&after_removal), &removed), Decision::Unchanged);
        for force in [true, false] {
            let first = Version::from_decimal(1, "0").unwrap();
            let news = Arrival { version: first, digest: Some("digest"), force };
            let after_news = accepted(&news, &stands.key, 1, 0);
            assert_eq!(decide(Some(&after_news), &removed), Decision::Stale);
            assert_eq!(decide(Some(&after_removal), &news), Decision::Send(Effect::Create));
        }
        let late = Arrival { version: old(), digest: Some("digest"), force: true };
        assert_eq!(decide(Some(&after_removal), &late), Decision::Stale);
    }
}
