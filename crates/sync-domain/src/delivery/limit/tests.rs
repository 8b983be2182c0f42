use proptest::prelude::*;

use super::*;

const NOW: i64 = 1_795_559_963 * SECOND_US;

fn rate(text: &str) -> Limit {
    Limit::new(Some(text.parse().unwrap()), None)
}

fn quota(requests: u32) -> Limit {
    Limit::new(None, Some(Quota { requests }))
}

/// What an instance does that may wait for `patience`: the slots it gets, if any.
fn claim(limit: &Limit, row: &mut Meter, want: u32, now: i64, patience: i64) -> Result<Lease, Full> {
    let claim = limit.claim(row, want, now, now, now + patience)?;
    *row = claim.made(row).expect("nobody was faster");
    Ok(claim.lease(row))
}

fn all(mut lease: Lease, now: i64) -> Vec<i64> {
    std::iter::from_fn(|| lease.take(now)).map(|slot| slot.at - NOW).collect()
}

#[test]
fn slots_are_spread_evenly_and_nobody_gets_anothers() {
    let (limit, mut row) = (rate("50/s"), Meter::default());
    let first = claim(&limit, &mut row, 3, NOW, SECOND_US).unwrap();
    assert_eq!(all(first, NOW), [0, 20_000, 40_000]);
    let second = claim(&limit, &mut row, 2, NOW + 1_000, SECOND_US).unwrap();
    assert_eq!(all(second, NOW), [60_000, 80_000]);
    let later = claim(&limit, &mut row, 1, NOW + SECOND_US, 0).unwrap();
    assert_eq!(all(later, NOW), [SECOND_US], "unused slots do not add up");
}

#[test]
fn a_rate_is_never_rounded_up() {
    for (text, interval) in [("3/s", 333_334), ("7/s", 142_858), ("600/m", 100_000), ("1000/h", 3_600_000)] {
        assert_eq!(rate(text).interval, interval, "{text}");
    }
    let burst = |text| rate(text).in_a_second();
    assert_eq!((burst("50/s"), burst("1000/s"), burst("1/s")), (Some(55), Some(1_100), Some(2)));
    assert_eq!((burst("60/m"), quota(1).in_a_second()), (Some(2), None));
    assert!(Limit::new(None, None).is_none() && !quota(1).is_none());
}

#[test]
fn who_cannot_wait_takes_no_slot_and_hears_when_one_is() {
    let (limit, mut row) = (rate("1/s"), Meter::default());
    claim(&limit, &mut row, 1, NOW, 0).unwrap();
    let before = row;
    for patience in [0, 999_999] {
        let full = claim(&limit, &mut row, 1, NOW, patience).unwrap_err();
        assert_eq!((full, row), (Full::Until(NOW + SECOND_US), before));
    }
    let some = claim(&limit, &mut row, 10, NOW, 3 * SECOND_US).unwrap();
    assert_eq!(all(some, NOW), [1, 2, 3].map(|second| second * SECOND_US), "those that can be waited for");
}

#[test]
fn a_slot_is_used_at_its_time_or_a_little_later_or_not_at_all() {
    let (limit, mut row) = (rate("50/s"), Meter::default());
    let mut lease = claim(&limit, &mut row, 10, NOW, SECOND_US).unwrap();
    let slot = lease.take(NOW + LATE_US).unwrap();
    assert_eq!((slot.at, slot.until), (NOW, NOW + LATE_US));
    // Those at 20 and 40 ms are over.
    assert_eq!(lease.take(NOW + LATE_US + 40_001).unwrap().at, NOW + 60_000);
    assert_eq!(lease.take(NOW + SECOND_US), None, "a lease does not last");
}

#[test]
fn what_was_seen_may_be_old() {
    let (limit, mut row) = (rate("50/s"), Meter::default());
    let seen = row;
    claim(&limit, &mut row, 5, NOW, SECOND_US).unwrap();
    // Somebody else was here since: time has not gone by unused, and the row says so.
    let late = limit.claim(&seen, 1, NOW, NOW, NOW + SECOND_US).unwrap();
    assert_eq!(late.made(&row), None);
    let seen = row;
    claim(&limit, &mut row, 5, NOW, SECOND_US).unwrap();
    // Behind others there is always a place, without a second look.
    let behind = limit.claim(&seen, 2, NOW, NOW, NOW + SECOND_US).unwrap();
    let made = behind.made(&row).unwrap();
    assert_eq!(all(behind.lease(&made), NOW), [200_000, 220_000]);
    // But not further off than can be waited.
    row.next = NOW + SECOND_US - 20_000 + 1;
    assert_eq!(behind.made(&row), None);
}

#[test]
fn a_quota_is_used_up_and_comes_back_at_midnight() {
    let (limit, mut row) = (quota(3), Meter::default());
    assert_eq!(all(claim(&limit, &mut row, 2, NOW, 0).unwrap(), NOW).len(), 2);
    assert_eq!(all(claim(&limit, &mut row, 2, NOW, 0).unwrap(), NOW).len(), 1, "what is left");
    let midnight = end_of(day_of(NOW));
    assert_eq!(claim(&limit, &mut row, 1, NOW, 0).unwrap_err(), Full::Spent(midnight));
    assert_eq!(claim(&quota(2), &mut row, 1, NOW, 0).unwrap_err(), Full::Spent(midnight), "or made smaller");
    assert_eq!(all(claim(&quota(4), &mut row, 9, NOW, 0).unwrap(), NOW).len(), 1, "or made larger");
    let mut next = claim(&limit, &mut row, 9, midnight, 0).unwrap();
    assert_eq!(next.left, 3);
    assert_eq!(
        next.take(end_of(day_of(midnight)) - 1).map(|slot| slot.until),
        Some(end_of(day_of(midnight)) - 1)
    );
    assert_eq!(next.take(end_of(day_of(midnight))), None, "the day is over");
}

#[test]
fn a_clock_that_is_behind_at_midnight_counts_with_the_others() {
    let (limit, mut row) = (quota(3), Meter::default());
    let midnight = end_of(day_of(NOW));
    claim(&limit, &mut row, 2, midnight, 0).unwrap();
    let lease = claim(&limit, &mut row, 9, midnight - 1, 0).unwrap();
    assert_eq!((lease.left, lease.ends), (1, Some(midnight + DAY_US)));
}

#[test]
fn a_spent_quota_is_not_asked_for_again_before_midnight() {
    let since = NOW / SECOND_US;
    let midnight = end_of(day_of(NOW)) / SECOND_US;
    assert!(is_still_spent(since, since) && is_still_spent(since, midnight - 1));
    assert!(!is_still_spent(since, midnight));
}

/// One visit of an instance: which, how long after the last one, what it wants, how long it can wait, and how late it uses
/// each slot (more than [`LATE_US`]: it misses it).
type Visit = (usize, i64, u32, i64, i64);

fn visits() -> impl Strategy<Value = Vec<Visit>> {
    let visit = (0..20_usize, 0..200_000_i64, 1..15_u32, 0..3 * SECOND_US, 0..=LATE_US + 20_000);
    prop::collection::vec(visit, 1..300)
}

/// Lets instances with clocks of their own claim and use slots. The answer is the true times of the requests, in order.
fn requests(limit: &Limit, skews: &[i64], visits: &[Visit]) -> Vec<i64> {
    let (mut row, mut time, mut sent) = (Meter::default(), NOW, Vec::new());
    let mut seen = vec![Meter::default(); skews.len()];
    for (who, pause, want, patience, lateness) in visits {
        time += pause;
        let (skew, own) = (skews[*who], &mut seen[*who]);
        let now = time + skew;
        // What was seen is old as a rule; a second look is enough where nobody else comes in between.
        for _ in 0..2 {
            let Ok(claim) = limit.claim(own, *want, now, now, now + patience) else { break };
            match claim.made(&row) {
                None => *own = row,
                Some(made) => {
                    (row, *own) = (made, made);
                    let mut lease = claim.lease(&made);
                    while let Some(slot) = lease.take(now) {
                        let used = slot.at + lateness;
                        if used <= slot.until {
                            sent.push(used - skew);
                        }
                    }
                    break;
                }
            }
        }
    }
    sent.sort_unstable();
    sent
}

fn most_within(window: i64, times: &[i64]) -> u64 {
    let within =
        |first: usize| times[first..].iter().take_while(|time| **time < times[first] + window).count();
    (0..times.len()).map(within).max().unwrap_or(0) as u64
}

proptest! {
    #[test]
    fn no_second_has_more_requests_than_the_rate_and_its_burst(
        per_second in 1..2_000_u32,
        skews in prop::collection::vec(-SKEW_US..=SKEW_US, 20),
        visits in visits(),
    ) {
        let limit = rate(&format!("{per_second}/s"));
        let most = limit.in_a_second().unwrap();
        prop_assert!(most <= u64::from(per_second + per_second.div_ceil(10)));
        let sent = requests(&limit, &skews, &visits);
        prop_assert!(most_within(SECOND_US, &sent) <= most);
    }

    #[test]
    fn no_day_has_more_requests_than_the_quota(
        requests_a_day in 1..200_u32,
        to_midnight in 0..20 * SECOND_US,
        visits in visits(),
    ) {
        let limit = Limit::new("100/s".parse().ok(), Some(Quota { requests: requests_a_day }));
        let begin = end_of(day_of(NOW)) - to_midnight - NOW;
        let mut visits = visits;
        visits[0].1 = begin;
        let sent = requests(&limit, &[0; 20], &visits);
        let midnight = end_of(day_of(NOW));
        let before = sent.iter().filter(|time| **time < midnight).count();
        prop_assert!(before <= requests_a_day as usize);
        prop_assert!(sent.len() - before <= requests_a_day as usize);
    }

    #[test]
    fn what_a_claim_makes_of_a_row_only_grows_and_keeps_to_the_bounds(
        row in (NOW - SECOND_US..NOW + SECOND_US, 20_780..20_785_i64, 0..60_i64),
        ahead in 0..2 * SECOND_US,
        want in 0..200_u32,
        patience in 0..SECOND_US,
    ) {
        let limit = Limit::new("100/s".parse().ok(), Some(Quota { requests: 50 }));
        let seen = Meter { next: row.0, spent: row.1 * DAY_STRIDE + row.2 };
        let now = NOW;
        if let Ok(claim) = limit.claim(&seen, want, now, now, now + patience) {
            let row = Meter { next: seen.next + ahead, spent: seen.spent };
            if let Some(made) = claim.made(&row) {
                let mut lease = claim.lease(&made);
                prop_assert!(made.next > row.next && made.spent > row.spent);
                prop_assert!((1..=want.clamp(1, MOST)).contains(&lease.left));
                let mut last = row.next - 1;
                while let Some(slot) = lease.take(i64::MIN) {
                    prop_assert!(slot.at > last && slot.at >= now && slot.at <= now + patience);
                    last = slot.at;
                }
                prop_assert_eq!(made.next, last + limit.interval);
            }
        }
    }
}
