//! What the delivery ledger says of an arriving event: whether it is news, and as what it goes out.

use super::digest::comparable;
use crate::ports::LedgerRow;
use crate::version::Version;

/// How long a tombstone must be remembered: what the Changes and Enrichment queues (4 days), the target's (14), and the
/// dead-letter queues of these and of the subscription (14 each) can hold one behind the other, and a day. After that no
/// older copy of the record can come.
pub const TOMBSTONE_S: i64 = (2 * (4 + 14) + 14 + (14 + 14) + 1) * 86_400;

/// What an event does at the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// The target does not have the record.
    Create,
    /// The target has the record.
    Update,
    /// The record goes.
    Delete,
}

impl Effect {
    /// The name in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// An event as the ledger looks at it.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// Its version.
    pub version: Version,
    /// The digest of its content for the target; none for a delete.
    pub digest: Option<&'a str>,
    /// Part of a backfill or replay: what is unchanged goes out too, what is older never.
    pub force: bool,
}

/// What becomes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The target has a newer version.
    Stale,
    /// The target has this content. The ledger advances all the same, or a late copy of what came between would go out.
    Unchanged,
    /// The same version came with other content: somebody counts wrongly, and nobody can say which one is right.
    Conflict,
    /// It is news.
    Send(Effect),
}

/// Decides what becomes of an event, given what the ledger knows of its record at the target.
pub fn decide(row: Option<&LedgerRow>, arrival: &Arrival<'_>) -> Decision {
    let Some(row) = row else {
        return Decision::Send(if arrival.digest.is_some() { Effect::Create } else { Effect::Delete });
    };
    if arrival.version < row.version {
        return Decision::Stale;
    }
    let same = match arrival.digest {
        None => row.deleted,
        Some(digest) => row.digest.as_deref() == Some(digest),
    };
    if !same && !arrival.force && arrival.version == row.version {
        return if told_apart(row, arrival) { Decision::Conflict } else { Decision::Unchanged };
    }
    match arrival.digest {
        _ if same && !arrival.force => Decision::Unchanged,
        None => Decision::Send(Effect::Delete),
        Some(_) if row.deleted => Decision::Send(Effect::Create),
        Some(_) => Decision::Send(Effect::Update),
    }
}

/// Whether a difference between the row and an arrival of the same version is one of the record, and not of how the
/// target's mapping stood then, or of a target that never said what it has.
fn told_apart(row: &LedgerRow, arrival: &Arrival<'_>) -> bool {
    match (arrival.digest, row.digest.as_deref()) {
        (None, _) => true,
        (Some(_), _) if row.deleted => true,
        (Some(_), None) => false,
        (Some(digest), Some(known)) => comparable(digest, known),
    }
}

/// The row after the target accepted the event, or had its content already; `now` is seconds since 1970.
pub fn accepted(arrival: &Arrival<'_>, key: &str, tries: u32, now: i64) -> LedgerRow {
    let deleted = arrival.digest.is_none();
    LedgerRow {
        version: arrival.version,
        digest: arrival.digest.map(str::to_owned),
        deleted,
        key: key.to_owned(),
        tries,
        expires_at: deleted.then(|| now.saturating_add(TOMBSTONE_S)),
        whose: None,
    }
}

/// The row after the target said that it has something newer: it has the record, but in what state is not known.
pub fn outrun(arrival: &Arrival<'_>, key: &str, tries: u32, now: i64) -> LedgerRow {
    LedgerRow { digest: None, deleted: false, expires_at: None, ..accepted(arrival, key, tries, now) }
}

/// The row after an event of `version` was given up that the target may have all the same, because the answer to some
/// attempt was lost. None if the row says nothing that could be wrong: there is none, or it is of a later event.
///
/// What the target has is not known then: the content before, the content of that event, or after a delete nothing. An
/// unchanged digest would say of the next event that the target has it, and the target would stay with the one that was
/// given up. So the row says only that there may be a record: whatever comes next is news, and a delete goes out. The version
/// stays: raised, it would make stale what was given up, and that is to be moved back.
pub fn doubted(row: Option<&LedgerRow>, version: Version) -> Option<LedgerRow> {
    let row = row.filter(|row| row.version <= version && !in_doubt(row))?;
    Some(LedgerRow { digest: None, deleted: false, expires_at: None, ..row.clone() })
}

/// Whether the row does not say what the target has.
pub fn in_doubt(row: &LedgerRow) -> bool {
    row.digest.is_none() && !row.deleted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: u64) -> Version {
        Version::from_log(0, number, 0)
    }

    fn arrival(number: u64, digest: Option<&str>, force: bool) -> Arrival<'_> {
        Arrival { version: version(number), digest, force }
    }

    fn live(number: u64, digest: &str) -> LedgerRow {
        accepted(&arrival(number, Some(digest), false), "{}", 1, 0)
    }

    fn gone(number: u64) -> LedgerRow {
        accepted(&arrival(number, None, false), "{}", 1, 0)
    }

    fn check(row: Option<&LedgerRow>, number: u64, digest: Option<&str>, expect: Decision) {
        assert_eq!(decide(row, &arrival(number, digest, false)), expect);
    }

    fn check_forced(row: Option<&LedgerRow>, number: u64, digest: Option<&str>, expect: Decision) {
        assert_eq!(decide(row, &arrival(number, digest, true)), expect);
    }

    use Decision::{Conflict, Send, Stale, Unchanged};

    #[test]
    fn an_unknown_record_goes_out() {
        check(None, 1, Some("m.a"), Send(Effect::Create));
        check(None, 1, None, Send(Effect::Delete));
    }

    #[test]
    fn what_is_older_never_goes_out() {
        for row in [live(5, "m.a"), gone(5)] {
            for digest in [Some("m.a"), Some("m.b"), Some("n.a"), None] {
                check(Some(&row), 4, digest, Stale);
                check_forced(Some(&row), 4, digest, Stale);
            }
        }
    }

    #[test]
    fn news_goes_out_as_what_it_is_to_the_target() {
        check(Some(&live(5, "m.a")), 6, Some("m.b"), Send(Effect::Update));
        check(Some(&live(5, "m.a")), 6, None, Send(Effect::Delete));
        check(Some(&gone(5)), 6, Some("m.a"), Send(Effect::Create));
    }

    #[test]
    fn what_the_target_has_does_not_go_out_again() {
        check(Some(&live(5, "m.a")), 5, Some("m.a"), Unchanged);
        check(Some(&live(5, "m.a")), 6, Some("m.a"), Unchanged);
        check(Some(&gone(5)), 5, None, Unchanged);
        check(Some(&gone(5)), 6, None, Unchanged);
    }

    #[test]
    fn a_run_sends_what_is_unchanged_and_equal() {
        check_forced(Some(&live(5, "m.a")), 5, Some("m.a"), Send(Effect::Update));
        check_forced(Some(&live(5, "m.a")), 6, Some("m.a"), Send(Effect::Update));
        check_forced(Some(&live(5, "m.a")), 5, Some("m.b"), Send(Effect::Update));
        check_forced(Some(&gone(5)), 5, None, Send(Effect::Delete));
    }

    #[test]
    fn one_version_with_two_contents_is_a_conflict() {
        check(Some(&live(5, "m.a")), 5, Some("m.b"), Conflict);
        check(Some(&live(5, "m.a")), 5, None, Conflict);
        check(Some(&gone(5)), 5, Some("m.a"), Conflict);
    }

    #[test]
    fn a_late_copy_under_another_mapping_is_no_conflict() {
        check(Some(&live(5, "m.a")), 5, Some("n.b"), Unchanged);
        check(Some(&live(5, "m.a")), 6, Some("n.a"), Send(Effect::Update));
    }

    #[test]
    fn after_a_target_was_ahead_the_next_version_is_an_update() {
        let row = outrun(&arrival(5, Some("m.a"), false), "{}", 1, 0);
        assert_eq!(row.digest, None);
        check(Some(&row), 5, Some("m.a"), Unchanged);
        check(Some(&row), 6, Some("m.a"), Send(Effect::Update));
        check(Some(&row), 4, Some("m.a"), Stale);
        let kept = outrun(&arrival(5, None, false), "{}", 1, 0);
        assert!(
            !kept.deleted && kept.expires_at.is_none(),
            "a target that refuses a delete still has the record"
        );
    }

    #[test]
    fn doubt_takes_back_what_the_row_says_and_keeps_its_version() {
        for row in [live(5, "m.a"), gone(5)] {
            let doubted = doubted(Some(&row), version(6)).unwrap();
            assert_eq!((doubted.version, doubted.digest.as_deref()), (version(5), None));
            assert!(!doubted.deleted && doubted.expires_at.is_none());
            check(Some(&doubted), 7, Some("m.a"), Send(Effect::Update));
            check(Some(&doubted), 7, None, Send(Effect::Delete));
            check(Some(&doubted), 6, Some("m.b"), Send(Effect::Update));
            check(Some(&doubted), 5, Some("m.a"), Unchanged);
            check(Some(&doubted), 4, Some("m.c"), Stale);
        }
        assert_eq!(doubted(None, version(6)), None, "of what is not known everything is news");
        assert_eq!(doubted(Some(&live(7, "m.a")), version(6)), None, "a later event has said what there is");
        let already = doubted(Some(&live(5, "m.a")), version(6)).unwrap();
        assert_eq!(doubted(Some(&already), version(6)), None, "nothing is left to take back");
    }

    /// Takes a record through every history of four events, each of which arrives, is given up after it arrived, or is
    /// given up before. Whatever is taken last is what the target has.
    #[test]
    fn a_target_ends_at_the_last_event_that_it_took_whatever_was_given_up_before() {
        let contents = [Some("m.a"), Some("m.b"), None];
        let fates = ["taken", "given up, yet there", "given up"];
        let events: Vec<_> = contents.into_iter().flat_map(|c| fates.map(|fate| (c, fate))).collect();
        let mut histories = vec![vec![]];
        for _ in 0..4 {
            histories = histories
                .iter()
                .flat_map(|history: &Vec<_>| {
                    events.iter().map(|event| history.iter().copied().chain([*event]).collect())
                })
                .collect();
        }
        for history in histories.iter().filter(|history| history.last().unwrap().1 == "taken") {
            let (mut row, mut target) = (None, None);
            for (number, (content, fate)) in (1..).zip(history) {
                let arrival = arrival(number, *content, false);
                match (decide(row.as_ref(), &arrival), *fate) {
                    (Send(_), "taken") => {
                        target = *content;
                        row = Some(accepted(&arrival, "{}", 1, 0));
                    }
                    (Send(_), fate) => {
                        if fate == "given up, yet there" {
                            target = *content;
                        }
                        row = doubted(row.as_ref(), arrival.version).or(row);
                    }
                    (Unchanged, _) => row = Some(accepted(&arrival, "{}", 1, 0)),
                    (other, _) => panic!("{other:?} in {history:?}"),
                }
            }
            assert_eq!(target, history.last().unwrap().0, "{history:?}");
        }
    }

    #[test]
    fn only_tombstones_end_and_they_outlive_both_queues() {
        assert_eq!(live(5, "m.a").expires_at, None);
        let tombstone = accepted(&arrival(5, None, false), "{}", 1, 1_000);
        assert_eq!(tombstone.expires_at, Some(1_000 + 79 * 86_400));
        assert_eq!((tombstone.digest, tombstone.deleted), (None, true));
    }

    /// Replays every order of a record's history, each event up to twice: the target ends as the newest version says.
    #[test]
    fn every_order_of_arrival_ends_at_the_newest_version() {
        let history = [(1, Some("m.a")), (2, Some("m.b")), (3, Some("m.a")), (4, None), (5, Some("m.b"))];
        let mut orders = vec![vec![]];
        for event in history {
            orders = orders
                .into_iter()
                .flat_map(|order: Vec<_>| {
                    (0..=order.len()).map(move |at| {
                        let mut longer = order.clone();
                        longer.insert(at, event);
                        longer
                    })
                })
                .collect();
        }
        for order in orders {
            let (mut row, mut target) = (None, None);
            for (number, digest) in order.iter().chain(&order) {
                let arrival = arrival(*number, *digest, false);
                match decide(row.as_ref(), &arrival) {
                    Send(_) => target = Some(*digest),
                    Stale => continue,
                    Unchanged => {}
                    Conflict => panic!("no two contents have one version here: {order:?}"),
                }
                row = Some(accepted(&arrival, "{}", 1, 0));
            }
            assert_eq!(target, Some(Some("m.b")), "{order:?}");
        }
    }
}
