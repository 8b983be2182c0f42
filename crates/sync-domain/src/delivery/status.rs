//! What a target's answer means: one table, and what a target says differently of itself.

use std::collections::BTreeMap;

use super::ledger::Effect;
use crate::config::StatusClass;

/// What a status of a target means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The target has it.
    Accepted,
    /// The target has a newer version.
    Stale,
    /// It may work later.
    Retry,
    /// It is about the record: it will never work.
    Rejected,
    /// It is about the target or its configuration: nothing will work until somebody helps.
    Misconfigured,
    /// The target wants nothing any more until somebody says otherwise.
    Paused,
}

/// Classifies a status. What is not listed is taken to be about the target: nothing is lost by waiting for somebody
/// to look, while a dead letter leaves its place in the order.
pub fn classify(status: u16, effect: Effect, overrides: &BTreeMap<u16, StatusClass>) -> Class {
    if let Some(class) = overrides.get(&status) {
        return match class {
            StatusClass::Accepted => Class::Accepted,
            StatusClass::Retry => Class::Retry,
            StatusClass::Reject => Class::Rejected,
            StatusClass::Stale => Class::Stale,
            StatusClass::Misconfigured => Class::Misconfigured,
        };
    }
    match status {
        200..=299 => Class::Accepted,
        // What should go is gone.
        404 | 410 if effect == Effect::Delete => Class::Accepted,
        408 | 421 | 423 | 425 | 429 | 500..=599 => Class::Retry,
        // A conflict too: only a target that compares versions means "I have something newer", and says so in its YAML
        // (`statuses: { 409: stale, 412: stale }`).
        400 | 409 | 412 | 413 | 414 | 415 | 422 => Class::Rejected,
        410 => Class::Paused,
        // 3xx (redirects are not followed), 401, 403, 404, 405, 407 and whatever else.
        _ => Class::Misconfigured,
    }
}

/// Whether an answer proves that the target has not done what it was asked. A redirect, a server error and a time-out of
/// its own may come after the work was done; a conflict says that it has something else than was thought.
pub fn proves_refusal(status: u16) -> bool {
    (400..500).contains(&status) && !matches!(status, 408 | 409 | 412)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_about_the_request_proves_that_nothing_came_of_it() {
        for status in [400, 401, 403, 404, 405, 410, 413, 415, 421, 422, 423, 425, 429] {
            assert!(proves_refusal(status), "{status}");
        }
        for status in [200, 204, 301, 302, 303, 307, 408, 409, 412, 500, 502, 503, 504] {
            assert!(!proves_refusal(status), "{status}");
        }
    }

    #[test]
    fn statuses_mean_what_the_contract_says() {
        let check = |statuses: &[u16], expect: Class| {
            for status in statuses {
                assert_eq!(classify(*status, Effect::Update, &BTreeMap::new()), expect, "{status}");
            }
        };
        check(&[200, 201, 202, 204, 299], Class::Accepted);
        check(&[409, 412], Class::Rejected);
        check(&[408, 423, 425, 429, 500, 502, 503, 504, 599], Class::Retry);
        check(&[400, 413, 415, 422], Class::Rejected);
        check(&[401, 403, 404, 405, 407, 300, 301, 302, 303, 307, 308], Class::Misconfigured);
        check(&[410], Class::Paused);
        check(&[402, 406, 418, 451, 600], Class::Misconfigured);
    }

    #[test]
    fn a_record_that_is_gone_already_counts_as_deleted() {
        for status in [404, 410] {
            assert_eq!(classify(status, Effect::Delete, &BTreeMap::new()), Class::Accepted);
            assert_ne!(classify(status, Effect::Create, &BTreeMap::new()), Class::Accepted);
        }
        assert_eq!(classify(401, Effect::Delete, &BTreeMap::new()), Class::Misconfigured);
    }

    #[test]
    fn a_target_has_the_last_word_on_its_own_statuses() {
        let overrides = BTreeMap::from([
            (409, StatusClass::Accepted),
            (404, StatusClass::Retry),
            (200, StatusClass::Reject),
            (500, StatusClass::Misconfigured),
            (400, StatusClass::Stale),
        ]);
        let of = |status| classify(status, Effect::Delete, &overrides);
        assert_eq!(of(409), Class::Accepted);
        assert_eq!(of(404), Class::Retry);
        assert_eq!(of(200), Class::Rejected);
        assert_eq!(of(500), Class::Misconfigured);
        assert_eq!(of(400), Class::Stale);
        assert_eq!(of(201), Class::Accepted);
    }
}
