//! The filter policy of a target's subscription: what SNS can decide of what the target's file asks for.
//!
//! A policy is the union over the `subscribe` entries, as SNS matches attribute by attribute. It may let through more
//! than the entries ask for, never less; `deliver` decides exactly.

use std::collections::BTreeSet;

use crate::change::Operation;
use crate::config::Target;

/// SNS takes at most so many combinations: the values of all keys multiplied.
pub const MAX_COMBINATIONS: usize = 150;

/// In `changed`: matches every event.
pub const ANY: &str = "any";

/// In `changed`: matches events whose difference is not known.
pub const UNKNOWN: &str = "unknown";

/// `only` is absent, or names the target.
const ONLY_VALUES: usize = 2;

/// The values of a target's filter policy, each list sorted. The policy has the keys `model`, `operation`, `changed` and
/// `only`: four of the five that SNS takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterPolicy {
    /// The values of `model`.
    pub models: Vec<String>,
    /// The values of `operation`.
    pub operations: Vec<String>,
    /// The values of `changed`: `any` alone, or names of attributes and `unknown`.
    pub changed: Vec<String>,
    /// `changed` would have named attributes, but the combinations were too many.
    pub widened: bool,
}

impl FilterPolicy {
    /// The policy of a target.
    pub fn of(target: &Target) -> Self {
        let models: BTreeSet<String> = target.subscribe.iter().map(|entry| entry.model.to_string()).collect();
        let operations: BTreeSet<Operation> = target
            .subscribe
            .iter()
            .flat_map(|entry| {
                entry.operations.iter().copied().chain(entry.snapshot.then_some(Operation::Snapshot))
            })
            .collect();
        let mut policy = Self {
            models: models.into_iter().collect(),
            operations: operations.into_iter().map(|operation| operation.as_str().to_owned()).collect(),
            changed: changed(target),
            widened: false,
        };
        if policy.combinations() > MAX_COMBINATIONS && policy.changed != [ANY] {
            policy.changed = vec![ANY.to_owned()];
            policy.widened = true;
        }
        policy
    }

    /// How many combinations SNS counts.
    pub fn combinations(&self) -> usize {
        self.models.len() * self.operations.len() * self.changed.len() * ONLY_VALUES
    }
}

/// The names that any entry waits for; `any` as soon as one entry waits for none.
fn changed(target: &Target) -> Vec<String> {
    if target.subscribe.iter().any(|entry| entry.when_changed.is_empty()) {
        return vec![ANY.to_owned()];
    }
    let names = target.subscribe.iter().flat_map(|entry| entry.when_changed.iter().cloned());
    let names: BTreeSet<String> = names.chain([UNKNOWN.to_owned()]).collect();
    names.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(subscribe: &str) -> FilterPolicy {
        let text = format!(
            "target: t\nsubscribe: {subscribe}\nendpoint: {{ url: \"https://t.example\", auth: none }}\n"
        );
        FilterPolicy::of(&serde_saphyr::from_str(&text).unwrap())
    }

    #[test]
    fn a_policy_is_the_union_of_the_entries() {
        let policy = policy(
            "[{ model: b, operations: [update], when_changed: [x], snapshot: false }, { model: a, operations: [delete], when_changed: [w] }]",
        );
        assert_eq!(policy.models, ["a", "b"]);
        assert_eq!(policy.operations, ["update", "delete", "snapshot"]);
        assert_eq!(policy.changed, ["unknown", "w", "x"]);
        assert_eq!(policy.combinations(), 2 * 3 * 3 * 2);
    }

    #[test]
    fn one_entry_that_waits_for_nothing_opens_the_policy() {
        assert_eq!(policy("[{ model: a, when_changed: [x] }, { model: b }]").changed, ["any"]);
    }

    #[test]
    fn a_policy_beyond_the_limit_is_widened() {
        let names: Vec<_> = (0..18).map(|n| format!("a{n:02}")).collect();
        let policy = policy(&format!("[{{ model: a, when_changed: [{}] }}]", names.join(", ")));
        assert!(policy.widened);
        assert_eq!(policy.changed, ["any"]);
        assert!(policy.combinations() <= MAX_COMBINATIONS);
    }
}
