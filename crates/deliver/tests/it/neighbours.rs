//! What an outage of a target costs its neighbours (nothing), how it ends, and what one bad record costs the others. All
//! times are simulated: see `sim`.

use std::sync::OnceLock;
use std::time::Duration;

use sync_domain::delivery::breaker::INTERVAL_S;

use crate::sim::{BATCHES, BUSY, LENGTH, Mode, Plan, RATE, Story, changes, run};

const FROM: Duration = Duration::from_secs(60);
const UNTIL: Duration = Duration::from_secs(540);
/// How long requests may still go out that were on their way when the breaker opened: one time-out.
const ON_ITS_WAY: Duration = Duration::from_secs(11);
const MINUTE: Duration = Duration::from_secs(60);
/// What the account lets run at once: what the mappings ask for together, as the template's budget has it.
const ACCOUNT: usize = 3 * BATCHES;

/// The target that is in trouble: as slow as one may be without holding up a rate.
fn troubled() -> Plan {
    Plan { takes: Duration::from_millis(400), ..Plan::of("loyalty") }
}

fn away(mode: Mode) -> Plan {
    Plan { away: Some((mode, FROM, UNTIL)), ..troubled() }
}

fn others() -> [Plan; 2] {
    [Plan::of("warehouse"), Plan::of("helpdesk")]
}

/// The 99th percentiles of three targets that all work.
async fn calm() -> [f64; 3] {
    static CALM: OnceLock<[f64; 3]> = OnceLock::new();
    if let Some(known) = CALM.get() {
        return *known;
    }
    let [one, two] = others();
    let stories = run(&[troubled(), one, two], ACCOUNT).await;
    let p99: Vec<_> = stories.iter().map(|story| story.p99(None)).collect();
    *CALM.get_or_init(|| [p99[0], p99[1], p99[2]])
}

fn is_slower(story: &Story, calm: f64) -> bool {
    story.p99(None) > 1.2 * calm
}

/// A neighbour of a target in trouble notices nothing.
async fn is_untouched(stories: &[Story]) {
    let calm = calm().await;
    for (story, calm) in stories.iter().zip(&calm[1..]) {
        story.accounts_for_all();
        story.is_in_order();
        assert!(!is_slower(story, *calm), "p99 {} s, and {calm} s without it", story.p99(None));
        assert_eq!((story.taken.len(), story.tries.len()), (story.sent.len(), story.sent.len()));
        assert!(story.open.is_empty() && story.told.is_empty());
    }
}

/// Sends again within three minutes, at the target's rate.
fn recovers(story: &Story, mode: Mode) {
    // The first is the probe; behind it comes what the mapping hands out.
    let back = story.taken.iter().map(|(_, at)| *at).filter(|at| *at >= UNTIL).nth(1).unwrap();
    assert!(back <= UNTIL + 3 * MINUTE, "{mode:?}: sent again {:?} after its return", back - UNTIL);
    let (taken, most) = (story.taken_within(back, MINUTE), 60 * RATE as usize);
    assert!(taken * 10 >= most * 9, "{mode:?}: {taken} of {most} requests in the first minute");
    // What waited has gone out beside what came, and nobody was left behind.
    assert!(story.ended <= LENGTH + MINUTE, "{mode:?}: ended at {:?}", story.ended);
}

/// The outage of a target, from its beginning to its end.
fn is_an_outage(story: &Story, mode: Mode) {
    story.accounts_for_all();
    story.is_in_order();
    assert!(story.dead.is_empty(), "{mode:?}: nothing is given up");
    let [(opened, closed)] = story.open[..] else { panic!("{mode:?}: open {:?}", story.open) };
    assert!(opened <= FROM + MINUTE, "{mode:?}: open at {opened:?}");
    assert!((UNTIL..UNTIL + 2 * MINUTE).contains(&closed), "{mode:?}: closed at {closed:?}");
    let probes: Vec<_> = story.tries.iter().filter(|at| (opened + ON_ITS_WAY..UNTIL).contains(*at)).collect();
    // Until the mapping has stopped it takes all that a probe could try.
    assert!(probes.len() >= 4, "{mode:?}: probes at {probes:?}");
    let interval = Duration::from_secs(INTERVAL_S.unsigned_abs() - 1);
    assert!(probes.windows(2).all(|pair| *pair[1] - *pair[0] >= interval), "{mode:?}: probes at {probes:?}");
    assert_eq!(story.told.len(), 1, "{mode:?}: one outage, one ticket");
    recovers(story, mode);
}

async fn check(mode: Mode) {
    let [one, two] = others();
    let stories = run(&[away(mode), one, two], ACCOUNT).await;
    is_an_outage(&stories[0], mode);
    is_untouched(&stories[1..]).await;
}

#[tokio::test(start_paused = true)]
async fn errors_of_a_target_cost_its_neighbours_nothing() {
    check(Mode::Errors).await;
}

#[tokio::test(start_paused = true)]
async fn a_target_that_hangs_costs_its_neighbours_nothing() {
    check(Mode::Hangs).await;
}

#[tokio::test(start_paused = true)]
async fn answers_that_do_not_end_cost_the_neighbours_nothing() {
    check(Mode::SlowBody).await;
}

#[tokio::test(start_paused = true)]
async fn connections_that_break_cost_the_neighbours_nothing() {
    check(Mode::Resets).await;
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_lost_cost_the_neighbours_nothing() {
    check(Mode::LosesAnswers).await;
}

#[tokio::test(start_paused = true)]
async fn a_target_without_tls_costs_its_neighbours_nothing() {
    check(Mode::NoTls).await;
}

#[tokio::test(start_paused = true)]
async fn a_target_without_a_name_costs_its_neighbours_nothing() {
    check(Mode::NoName).await;
}

#[tokio::test(start_paused = true)]
async fn a_limit_a_minute_is_used_and_opens_nothing() {
    // Half of what comes.
    let limit = 30;
    let [one, two] = others();
    let stories = run(&[away(Mode::Limits(limit)), one, two], ACCOUNT).await;
    is_untouched(&stories[1..]).await;
    let story = &stories[0];
    story.accounts_for_all();
    story.is_in_order();
    assert!(story.open.is_empty() && story.told.is_empty(), "a target that asks for time is there");
    assert_eq!(story.taken.len(), story.sent.len(), "nothing is sent twice, nothing given up");
    for minute in 2..9 {
        let taken = story.taken_within(MINUTE * minute, MINUTE);
        assert!(taken * 10 >= limit * 9 && taken <= limit, "minute {minute}: {taken} of {limit}");
    }
    recovers(story, Mode::Limits(limit));
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_every_target_ends_with_every_event_delivered() {
    let modes = [Mode::Errors, Mode::Hangs, Mode::NoName];
    let plans: Vec<_> = std::iter::once("loyalty")
        .chain(["warehouse", "helpdesk"])
        .zip(modes)
        .map(|(name, mode)| Plan { name, ..away(mode) })
        .collect();
    for (story, mode) in run(&plans, ACCOUNT).await.iter().zip(modes) {
        is_an_outage(story, mode);
    }
}

/// The measure is not blind: where a mapping has no bound of its own, whoever hangs takes what the account lets run.
#[tokio::test(start_paused = true)]
async fn without_a_bound_of_its_own_a_target_that_hangs_is_felt_by_its_neighbours() {
    let [one, two] = others();
    let calm = calm().await;
    let stories = run(&[Plan { batches: 3 * ACCOUNT, ..away(Mode::Hangs) }, one, two], ACCOUNT).await;
    assert!(stories[1..].iter().zip(&calm[1..]).any(|(story, calm)| is_slower(story, *calm)));
}

/// How long the target takes to say that it does not take the record.
const SLOWLY: Duration = Duration::from_secs(2);

/// One of 100 fails with `status`, for good, and has more events than a batch holds. The others do not notice.
async fn one_bad_record(status: u16) -> Story {
    let plan = Plan { poison: Some((BUSY, status, SLOWLY)), ..Plan::of("loyalty") };
    let story = run(&[plan], BATCHES).await.remove(0);
    let calm = run(&[Plan::of("loyalty")], BATCHES).await.remove(0).p99(Some(BUSY));
    let p99 = story.p99(Some(BUSY));
    assert!(p99 <= 1.2 * calm, "p99 {p99} s, and {calm} s without it");
    story.accounts_for_all();
    story.is_in_order();
    assert!(story.open.is_empty() && story.told.is_empty(), "one record is no outage");
    let bad = changes().iter().filter(|(_, sample)| sample.record == BUSY).count();
    assert!(bad > 20, "{bad}");
    assert_eq!((story.taken.len(), story.dead.len()), (story.sent.len() - bad, bad));
    story
}

#[tokio::test(start_paused = true)]
async fn one_record_that_is_refused_costs_the_other_99_nothing() {
    let story = one_bad_record(422).await;
    assert!(story.dead.values().all(|reason| reason == "refused_by_target"));
    assert!(story.ended < LENGTH + MINUTE, "it is given up at once, not at {:?}", story.ended);
}

#[tokio::test(start_paused = true)]
async fn one_record_that_always_fails_costs_the_other_99_nothing_and_is_given_up_before_its_queue_forgets_it()
{
    let story = one_bad_record(503).await;
    assert!(story.dead.values().all(|reason| reason == "retries_exhausted"));
    let kept = Duration::from_secs(14 * 86_400);
    assert!(story.ended < kept, "given up at {:?}", story.ended);
}
