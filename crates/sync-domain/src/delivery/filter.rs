//! Whether a target asked for an event: the exact rule behind the topic's filter policy, which only comes close.

use std::borrow::Cow;

use crate::change::Operation;
use crate::config::{Subscription, Target};

/// What the filter looks at.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The event's model.
    pub model: &'a str,
    /// What happened.
    pub operation: Operation,
    /// The attributes that changed; none = not known.
    pub changed: Option<&'a [Cow<'a, str>]>,
    /// The only target of a backfill or replay.
    pub only: Option<&'a str>,
}

/// The filter's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The target gets it, by this entry of `subscribe`.
    Send(usize),
    /// The target gets it by this entry if it has never seen the record: the entry asks for changes of
    /// other attributes, yet this update may be the record's first sight.
    SendIfUnknown(usize),
    /// The target did not ask for it; the code says which condition.
    Drop(&'static str),
}

/// Why an update that touches none of the asked-for attributes is not sent.
pub const NOT_CHANGED: &str = "when_changed";

/// Decides whether a target asked for an event. The first entry that fits decides what it gets.
pub fn filter(target: &Target, facts: &Facts<'_>) -> Verdict {
    if facts.only.is_some_and(|only| only != target.target.as_str()) {
        return Verdict::Drop("only");
    }
    let mut verdict = Verdict::Drop("model");
    let entries = target.subscribe.iter().enumerate();
    for (index, entry) in entries.filter(|(_, entry)| entry.model.as_str() == facts.model) {
        match asks_for(entry, facts) {
            Ask::Yes => return Verdict::Send(index),
            Ask::IfUnknown if matches!(verdict, Verdict::Drop(_)) => verdict = Verdict::SendIfUnknown(index),
            Ask::No(code) if verdict == Verdict::Drop("model") => verdict = Verdict::Drop(code),
            Ask::IfUnknown | Ask::No(_) => {}
        }
    }
    verdict
}

enum Ask {
    Yes,
    IfUnknown,
    No(&'static str),
}

fn asks_for(entry: &Subscription, facts: &Facts<'_>) -> Ask {
    if facts.operation == Operation::Snapshot {
        return if entry.snapshot { Ask::Yes } else { Ask::No("snapshot") };
    }
    if !entry.operations.contains(&facts.operation) {
        return Ask::No("operation");
    }
    match facts.changed {
        // What changed is a question about updates only; where the answer is not known the event is sent.
        Some(changed) if facts.operation == Operation::Update && !entry.when_changed.is_empty() => {
            let touched = changed.iter().any(|name| entry.when_changed.iter().any(|asked| asked == name));
            if touched { Ask::Yes } else { Ask::IfUnknown }
        }
        _ => Ask::Yes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(model: &str, operations: &[Operation], when_changed: &[&str], snapshot: bool) -> Subscription {
        Subscription {
            model: model.parse().unwrap(),
            operations: operations.to_vec(),
            when_changed: when_changed.iter().map(|name| (*name).to_owned()).collect(),
            snapshot,
            attributes: None,
        }
    }

    fn check(entries: Vec<Subscription>, operation: Operation, changed: Option<&[&str]>, expect: Verdict) {
        let mut target = crate::delivery::test_target("https://example.com/");
        target.subscribe = entries;
        let changed: Option<Vec<Cow<'_, str>>> =
            changed.map(|names| names.iter().map(|name| (*name).into()).collect());
        let facts = Facts { model: "customer", operation, changed: changed.as_deref(), only: None };
        assert_eq!(filter(&target, &facts), expect);
    }

    const CHANGES: &[Operation] = &[Operation::Create, Operation::Update, Operation::Delete];

    #[test]
    fn only_subscribed_models_and_operations_pass() {
        check(vec![], Operation::Create, None, Verdict::Drop("model"));
        check(vec![entry("price", CHANGES, &[], true)], Operation::Create, None, Verdict::Drop("model"));
        check(vec![entry("customer", CHANGES, &[], true)], Operation::Create, None, Verdict::Send(0));
        check(
            vec![entry("customer", &[Operation::Create], &[], true)],
            Operation::Delete,
            None,
            Verdict::Drop("operation"),
        );
    }

    #[test]
    fn snapshots_go_by_their_own_switch() {
        check(vec![entry("customer", &[], &[], true)], Operation::Snapshot, None, Verdict::Send(0));
        check(
            vec![entry("customer", CHANGES, &[], false)],
            Operation::Snapshot,
            None,
            Verdict::Drop("snapshot"),
        );
    }

    #[test]
    fn when_changed_asks_about_known_updates_only() {
        let asked = || vec![entry("customer", CHANGES, &["email"], true)];
        check(asked(), Operation::Update, Some(&["phone", "email"]), Verdict::Send(0));
        check(asked(), Operation::Update, Some(&["phone"]), Verdict::SendIfUnknown(0));
        check(asked(), Operation::Update, Some(&["email2"]), Verdict::SendIfUnknown(0));
        check(asked(), Operation::Update, Some(&[]), Verdict::SendIfUnknown(0));
        check(asked(), Operation::Update, None, Verdict::Send(0));
        check(asked(), Operation::Create, Some(&["phone"]), Verdict::Send(0));
        check(asked(), Operation::Delete, None, Verdict::Send(0));
    }

    #[test]
    fn one_entry_that_fits_is_enough() {
        let entries = || {
            vec![
                entry("price", CHANGES, &[], true),
                entry("customer", &[Operation::Create], &[], false),
                entry("customer", CHANGES, &["email"], true),
                entry("customer", CHANGES, &["phone"], true),
            ]
        };
        check(entries(), Operation::Update, Some(&["phone"]), Verdict::Send(3));
        check(entries(), Operation::Update, Some(&["tier"]), Verdict::SendIfUnknown(2));
        check(entries(), Operation::Snapshot, None, Verdict::Send(2));
        check(entries(), Operation::Create, None, Verdict::Send(1));
    }

    #[test]
    fn a_replay_for_another_target_is_not_for_this_one() {
        let mut target = crate::delivery::test_target("https://example.com/");
        target.subscribe = vec![entry("customer", CHANGES, &[], true)];
        let with = |only| {
            filter(&target, &Facts { model: "customer", operation: Operation::Create, changed: None, only })
        };
        assert_eq!(with(Some("loyalty")), Verdict::Send(0));
        assert_eq!(with(Some("warehouse")), Verdict::Drop("only"));
    }
}
