use super::*;

const NOW: i64 = 1_795_559_963;

fn rid(number: usize) -> RecordId {
    RecordId::from_wire(format!("rid_{number}"))
}

fn away(records: impl IntoIterator<Item = usize>) -> Seen {
    let reason = Some(Reason::new("target_unreachable", "timeout"));
    Seen { away: records.into_iter().map(rid).collect(), reason, ..Seen::default() }
}

fn worked() -> Seen {
    Seen { worked: true, ..Seen::default() }
}

fn misconfigured() -> Seen {
    let reason = Reason::new("target_misconfigured", "status 401");
    Seen { trouble: Some(Trouble::Misconfigured(reason)), ..Seen::default() }
}

fn gone() -> Seen {
    let reason = Reason::new("target_paused", "status 410");
    Seen { trouble: Some(Trouble::Gone(reason)), ..Seen::default() }
}

fn open() -> Breaker {
    Breaker::default().after(&away(0..RECORDS), NOW).unwrap()
}

fn is_open(breaker: &Breaker) -> bool {
    matches!(breaker.state, State::Open { .. })
}

#[test]
fn a_target_that_works_costs_no_write() {
    assert_eq!(Breaker::default().after(&worked(), NOW), None);
    assert_eq!(Breaker::default().after(&Seen::default(), NOW), None, "asked for time, or not asked at all");
    assert!(Breaker::default().rests());
}

#[test]
fn it_takes_several_records_to_open() {
    let mut breaker = Breaker::default();
    for number in 0..RECORDS - 1 {
        breaker = breaker.after(&away([number]), NOW).unwrap();
        assert!(breaker.is_fed() && breaker.rests());
        assert_eq!(breaker.after(&away([number]), NOW + 60), None, "the same record says nothing new");
    }
    let opened = breaker.after(&away([RECORDS]), NOW + 100).unwrap();
    assert!(is_open(&opened) && !opened.is_fed() && !opened.rests());
    assert_eq!(opened.applied_at, None, "the mapping does not know yet");
    let halt = opened.halt().unwrap();
    assert_eq!(
        (halt.since, halt.reported, halt.reason.code.as_str()),
        (NOW + 100, false, "target_unreachable")
    );
    assert!(is_open(&open()), "or one batch of several");
}

#[test]
fn one_record_that_fails_for_ever_is_no_outage() {
    let mut breaker = Breaker::default();
    for time in 0..10_000 {
        breaker = breaker.after(&away([1]), NOW + time).unwrap_or(breaker);
        assert!(breaker.is_fed());
    }
}

#[test]
fn what_is_taken_in_between_clears_what_failed() {
    let failing = Breaker::default().after(&away([1, 2]), NOW).unwrap();
    let cleared = failing.after(&worked(), NOW).unwrap();
    assert_eq!(cleared.state, State::Closed(Failing::default()));
    let both = Seen { worked: true, ..away(0..RECORDS) };
    assert_eq!(Breaker::default().after(&both, NOW), None, "a target that takes some records is not away");
}

#[test]
fn failures_far_apart_are_no_outage() {
    let failing = Breaker::default().after(&away([1, 2]), NOW).unwrap();
    let later = failing.after(&away([3, 4]), NOW + WINDOW_S + 1).unwrap();
    assert_eq!(later.state, State::Closed(Failing { since: NOW + WINDOW_S + 1, records: away([3, 4]).away }));
    assert!(is_open(&failing.after(&away([3]), NOW + WINDOW_S).unwrap()));
}

#[test]
fn a_target_that_needs_help_opens_at_once_and_one_that_is_gone_is_paused() {
    let opened = Breaker::default().after(&misconfigured(), NOW).unwrap();
    assert!(is_open(&opened));
    let paused = Breaker::default().after(&gone(), NOW).unwrap();
    assert_eq!(paused.halt().unwrap().reason.code, "target_paused");
    assert!(matches!(paused.state, State::Paused(_)));
    assert!(matches!(open().after(&gone(), NOW).unwrap().state, State::Paused(_)));
    assert!(matches!(open().probed(&gone(), NOW).unwrap().state, State::Paused(_)));
}

#[test]
fn what_was_under_way_when_it_opened_changes_nothing() {
    for seen in [worked(), away(0..9), misconfigured(), Seen::default()] {
        assert_eq!(open().after(&seen, NOW + 1), None);
    }
}

#[test]
fn a_probe_is_due_once_an_interval() {
    let opened = open();
    assert_eq!(opened.claimed(NOW + INTERVAL_S - 1), None);
    let claimed = opened.claimed(NOW + INTERVAL_S).unwrap();
    assert_eq!(claimed.revision, opened.revision + 1, "a second claim of the same row is too late");
    assert_eq!(claimed.claimed(NOW + INTERVAL_S), None);
    assert_eq!(claimed.claimed(NOW + 2 * INTERVAL_S - 1), None);
    assert!(claimed.claimed(NOW + 2 * INTERVAL_S).is_some());
    assert_eq!(Breaker::default().claimed(NOW), None);
    assert_eq!(
        Breaker::default().pause(NOW).unwrap().claimed(NOW + 1_000),
        None,
        "of a paused target nothing is asked"
    );
}

#[test]
fn only_a_probe_that_is_answered_closes() {
    let opened = open();
    assert_eq!(opened.probed(&away([1]), NOW), None);
    assert_eq!(opened.probed(&Seen::default(), NOW), None, "no message, or asked for time");
    let closed = opened.probed(&worked(), NOW).unwrap();
    assert!(closed.is_fed());
    assert!(!closed.rests(), "the mapping is still off");
    assert!(closed.applied(NOW).rests());
}

#[test]
fn a_probe_that_finds_another_kind_of_trouble_tells_it() {
    let known = open().reported().unwrap();
    let other = known.probed(&misconfigured(), NOW + 60).unwrap();
    let halt = other.halt().unwrap();
    assert_eq!((halt.reason.code.as_str(), halt.reported), ("target_misconfigured", false));
    assert_eq!(other.probed(&misconfigured(), NOW + 120), None);
}

#[test]
fn a_pause_lasts_until_somebody_resumes() {
    for before in [Breaker::default(), open()] {
        let paused = before.pause(NOW).unwrap();
        for seen in [worked(), away(0..9), misconfigured(), gone()] {
            assert_eq!(paused.after(&seen, NOW), None);
            assert_eq!(paused.probed(&seen, NOW), None);
        }
        assert_eq!(paused.pause(NOW), None);
        assert!(
            !paused.rests() && paused.applied(NOW).rests(),
            "nothing comes by any more once the mapping is off"
        );
        let resumed = paused.applied(NOW).resume().unwrap();
        assert!(resumed.is_fed() && !resumed.rests());
    }
    assert!(
        !Breaker::default().resume().unwrap().rests(),
        "whoever asks again is not put off by what the row says"
    );
}

#[test]
fn every_reason_is_told_once() {
    let opened = open();
    let told = opened.reported().unwrap();
    assert!(told.halt().unwrap().reported);
    assert_eq!(told.reported(), None);
    let gone = Breaker::default().after(&gone(), NOW).unwrap();
    assert!(!gone.applied(NOW).rests(), "a pause that nobody was told of is not at rest");
    assert!(gone.applied(NOW).reported().unwrap().rests());
    assert_eq!(Breaker::default().reported(), None);
    assert_eq!(Breaker::default().pause(NOW).unwrap().reported(), None);
}

#[test]
fn a_mapping_that_somebody_started_again_is_noticed() {
    let applied = open().applied(NOW);
    assert_eq!(applied.contradicted(NOW + SETTLES_S), None, "it takes its time to stop");
    assert_eq!(applied.contradicted(NOW + SETTLES_S + 1).unwrap().applied_at, None);
    assert_eq!(open().contradicted(NOW + 1_000), None, "nobody has stopped it yet");
    assert_eq!(Breaker::default().contradicted(NOW), None);
}

#[test]
fn every_new_row_stands_behind_the_one_it_was_made_of() {
    let opened = open();
    let steps = [
        opened.claimed(NOW + 100),
        opened.probed(&worked(), NOW),
        opened.pause(NOW),
        opened.resume(),
        opened.reported(),
        Some(opened.applied(NOW)),
        opened
            .applied(NOW)
            .contradicted(NOW + 1_000)
            .map(|row| Breaker { revision: row.revision - 1, ..row }),
    ];
    for step in steps {
        assert_eq!(step.unwrap().revision, opened.revision + 1);
    }
}

#[test]
fn a_message_that_is_held_comes_soon_and_lasts_for_days() {
    let seconds = |received, random| hold(received, random).as_secs();
    assert_eq!((seconds(1, 0), seconds(12, 59), seconds(12, u64::MAX)), (30, 59, 30 + u64::MAX % 30));
    let all: u64 = (1..=1_000).map(|received| seconds(received, 0)).sum();
    assert!(all > 10 * 86_400 && all < 14 * 86_400);
}

#[test]
fn the_message_of_a_probe_makes_room_for_one_other_and_lasts_for_days() {
    assert!(
        aside(1) > Duration::from_secs(60) && aside(1) < Duration::from_secs(120),
        "probes come every minute"
    );
    let all: u64 = (1..=1_000).map(|received| aside(received).as_secs()).sum();
    assert!(all > 9 * 86_400 && all < 14 * 86_400);
}
