//! Twenty running instances keep one target's limits, in simulated time: each with a clock of its own, calls that take
//! their time or lose their answers, and a process that may die at any moment.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use deliver::pace::{Pace, Turn};
use futures_util::future::join_all;
use sync_domain::config::Quota;
use sync_domain::delivery::limit::{Claim, Claimed, Limit, SKEW_US};
use sync_domain::id::TargetId;
use sync_domain::ports::{Kind, Meters, Result};
use sync_testkit::{Fault, MemoryMeters};
use tokio::time::{Instant, sleep, timeout};

const INSTANCES: u64 = 20;
const SECOND_US: i64 = 1_000_000;
/// A minute to midnight.
const BEGIN: i64 = (1_795_564_800 - 60) * SECOND_US;
/// What a record can wait for a slot: an invocation's time without that of the request.
const PATIENCE: Duration = Duration::from_secs(40);

/// Numbers that look random and are the same in every run.
#[derive(Clone)]
struct Dice(Arc<AtomicU64>);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)))
    }

    fn below(&self, bound: u64) -> u64 {
        let mut state = self.0.load(Ordering::Relaxed);
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.0.store(state, Ordering::Relaxed);
        state % bound
    }

    fn ms(&self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

/// A table that takes its time. One answer in fifty is lost, one in fifty comes after more than a slot lasts.
struct Slow {
    meters: MemoryMeters,
    dice: Dice,
}

#[async_trait]
impl Meters for Slow {
    async fn claim(&self, target: &TargetId, claim: &Claim) -> Result<Claimed> {
        sleep(self.dice.ms(1, 10)).await;
        let fault = self.dice.below(50);
        if fault == 0 {
            self.meters.faults.push(Fault::Lost);
        }
        let claimed = self.meters.claim(target, claim).await;
        sleep(if fault == 1 { Duration::from_millis(150) } else { self.dice.ms(1, 10) }).await;
        claimed
    }
}

/// A table whose answers take as long as a test says, and whose rows it can delete.
#[derive(Default)]
struct Table {
    meters: Mutex<MemoryMeters>,
    takes: Duration,
}

#[async_trait]
impl Meters for Table {
    async fn claim(&self, target: &TargetId, claim: &Claim) -> Result<Claimed> {
        let meters = self.meters.lock().unwrap().clone();
        let claimed = meters.claim(target, claim).await;
        sleep(self.takes).await;
        claimed
    }
}

fn target() -> TargetId {
    "loyalty".parse().unwrap()
}

/// What all instances share, and what reached the target.
struct Fleet {
    limit: Limit,
    in_flight: Option<usize>,
    /// Whether a batch holds several records of one group now and then.
    mixed: bool,
    meters: MemoryMeters,
    dice: Dice,
    began: Instant,
    /// True times of the requests.
    sent: RefCell<Vec<i64>>,
    /// Requests in flight, and the most there were.
    flying: Cell<(usize, usize)>,
    /// How many had no turn.
    set_back: Cell<usize>,
}

impl Fleet {
    fn new(seed: u64, limit: Limit, in_flight: Option<usize>) -> Self {
        Self {
            limit,
            in_flight,
            mixed: true,
            meters: MemoryMeters::new(),
            dice: Dice::new(seed),
            began: Instant::now(),
            sent: RefCell::default(),
            flying: Cell::default(),
            set_back: Cell::default(),
        }
    }

    fn time(&self) -> i64 {
        BEGIN + i64::try_from(self.began.elapsed().as_micros()).unwrap()
    }

    /// A fresh process, with a clock that is a little off.
    fn process(&self) -> Pace {
        self.process_with(Arc::new(Slow { meters: self.meters.clone(), dice: self.dice.clone() }), 0)
    }

    /// The same on another table, with a clock that is further off.
    fn process_with(&self, meters: Arc<dyn Meters>, ahead: i64) -> Pace {
        let skew = i64::try_from(self.dice.below(2 * SKEW_US.unsigned_abs())).unwrap() - SKEW_US;
        let began = self.began;
        let clock = move || BEGIN + skew + ahead + i64::try_from(began.elapsed().as_micros()).unwrap();
        Pace::new(self.limit, self.in_flight, target(), meters, Arc::new(clock))
    }

    /// Works full batches, one behind the other: ten records in up to ten groups. Now and then the process dies and another
    /// one takes its place.
    async fn run(&self, lasts: Duration, dies: bool) {
        let mut pace = self.process();
        while self.began.elapsed() < lasts {
            let groups = if self.mixed { 1 + self.dice.below(10) } else { 10 };
            let groups = (0..groups).map(|_| async {
                for _ in 0..10 / groups {
                    self.deliver(&pace, lasts).await;
                }
            });
            let batch = join_all(groups);
            if dies && self.dice.below(20) == 0 {
                if timeout(self.dice.ms(0, 400), batch).await.is_err() {
                    // What it was at may be in flight still, for the target. Not for us.
                    self.flying.set((0, self.flying.get().1));
                }
                pace = self.process();
            } else {
                batch.await;
            }
        }
    }

    async fn deliver(&self, pace: &Pace, lasts: Duration) {
        match pace.turn(PATIENCE).await {
            Turn::Now(_permit) => {
                // The last ones would go out behind the end, where nobody competes any more.
                if self.began.elapsed() < lasts {
                    self.sent.borrow_mut().push(self.time());
                }
                let flying = self.flying.get().0 + 1;
                self.flying.set((flying, self.flying.get().1.max(flying)));
                sleep(self.dice.ms(5, 60)).await;
                let (flying, most) = self.flying.get();
                self.flying.set((flying.saturating_sub(1), most));
            }
            Turn::Later(..) | Turn::Spent(_) => {
                self.set_back.set(self.set_back.get() + 1);
                sleep(Duration::from_millis(500)).await;
            }
        }
        sleep(self.dice.ms(2, 15)).await;
    }

    async fn all(&self, instances: u64, lasts: Duration, die: bool) {
        join_all((0..instances).map(|_| self.run(lasts, die))).await;
    }

    fn most_in_a_second(&self) -> u64 {
        let mut sent = self.sent.borrow().clone();
        sent.sort_unstable();
        let within = |from: usize| sent[from..].iter().take_while(|at| **at < sent[from] + SECOND_US).count();
        (0..sent.len()).map(within).max().unwrap_or(0) as u64
    }
}

fn rate(text: &str) -> Limit {
    Limit::new(Some(text.parse().unwrap()), None)
}

#[tokio::test(start_paused = true)]
async fn twenty_instances_never_send_more_than_the_rate_and_its_burst_and_hardly_less() {
    // Full batches of ten records, and some of one record, whose events go one behind the other.
    let alike = [("50/s", 50_u64, false), ("1000/s", 1_000, false), ("7/s", 7, false), ("180/m", 3, false)];
    let mixed = [("50/s", 50, true), ("7/s", 7, true), ("180/m", 3, true)];
    for (seed, (text, per_second, mixed)) in (1..).zip(alike.into_iter().chain(mixed)) {
        let fleet = Fleet { mixed, ..Fleet::new(seed, rate(text), None) };
        let seconds = 40;
        fleet.all(INSTANCES, Duration::from_secs(seconds), false).await;
        let (sent, most) = (fleet.sent.borrow().len() as u64, fleet.most_in_a_second());
        let allowed = fleet.limit.in_a_second().unwrap();
        assert!(most <= allowed, "{text}: {most} in a second, {allowed} are allowed");
        assert!(allowed <= per_second + per_second.div_ceil(10), "{text}");
        let share = sent * 100 / (per_second * seconds);
        assert!(share >= 90, "{text}: {share} % of the rate was used");
        let calls = fleet.meters.faults.calls() as u64;
        // Where nearly all are set back, asking anew every few seconds is most of it.
        let bound = if mixed || per_second < 50 { 2 * sent } else { sent / 5 };
        assert!(calls <= bound, "{text}: {calls} calls for {sent} requests");
        println!("{text}: {sent} requests ({share} %), at most {most} in a second, {calls} calls");
    }
}

#[tokio::test(start_paused = true)]
async fn processes_that_die_give_nothing_back_and_get_nothing_on_top() {
    for seed in 10..14 {
        let fleet = Fleet::new(seed, rate("50/s"), None);
        fleet.all(INSTANCES, Duration::from_secs(30), true).await;
        assert!(fleet.most_in_a_second() <= fleet.limit.in_a_second().unwrap(), "seed {seed}");
        assert!(fleet.sent.borrow().len() > 500, "seed {seed}: the others go on");
    }
}

#[tokio::test(start_paused = true)]
async fn twenty_instances_never_send_more_than_the_quota_of_a_day() {
    let limit = Limit::new("50/s".parse().ok(), Some(Quota { requests: 1_234 }));
    let fleet = Fleet::new(20, limit, None);
    fleet.all(INSTANCES, Duration::from_secs(120), false).await;
    let midnight = BEGIN + 60 * SECOND_US;
    let (before, after): (Vec<i64>, Vec<i64>) =
        fleet.sent.borrow().iter().partition(|at| **at < midnight - SKEW_US);
    for (day, sent) in [("before", before.len()), ("after", after.len())] {
        assert!((1_111..=1_234).contains(&sent), "{sent} requests {day} midnight");
    }
    assert!(fleet.set_back.get() > 0);
}

#[tokio::test(start_paused = true)]
async fn instances_share_what_may_be_in_flight() {
    let fleet = Fleet::new(30, Limit::new(None, None), Some(2));
    fleet.all(4, Duration::from_secs(5), false).await;
    assert_eq!(fleet.flying.get().1, 8);
    assert_eq!(fleet.meters.faults.calls(), 0, "that is no matter of the row");
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_nothing_waits_and_nothing_is_asked() {
    let fleet = Fleet::new(40, Limit::new(None, None), None);
    let pace = fleet.process();
    for _ in 0..100 {
        assert!(matches!(pace.turn(Duration::ZERO).await, Turn::Now(None)));
    }
    assert_eq!((fleet.meters.faults.calls(), fleet.time()), (0, BEGIN));
}

#[tokio::test(start_paused = true)]
async fn a_row_that_cannot_be_reached_lets_nothing_out() {
    let fleet = Fleet::new(50, rate("50/s"), None);
    let pace = fleet.process();
    fleet.meters.faults.outage(Kind::Unavailable);
    for _ in 0..3 {
        let Turn::Later(reason, _) = pace.turn(PATIENCE).await else { panic!("sent without a slot") };
        assert_eq!(reason.code, "ledger_unavailable");
    }
    fleet.meters.faults.recover();
    assert!(matches!(pace.turn(PATIENCE).await, Turn::Now(_)));
}

#[tokio::test(start_paused = true)]
async fn a_record_without_a_slot_hears_when_there_is_one() {
    let fleet = Fleet::new(60, rate("1/h"), None);
    let (one, other) = (fleet.process(), fleet.process());
    assert!(matches!(one.turn(PATIENCE).await, Turn::Now(_)));
    for pace in [&one, &other] {
        let Turn::Later(reason, wait) = pace.turn(PATIENCE).await else { panic!("twice in an hour") };
        assert_eq!((reason.code.as_str(), reason.place.as_str()), ("rate_limited", "endpoint.rate"));
        assert_eq!(wait.as_secs().div_ceil(60), 60);
    }
    let before = fleet.meters.faults.calls();
    for _ in 0..10 {
        assert!(matches!(other.turn(PATIENCE).await, Turn::Later(..)));
    }
    assert_eq!(fleet.meters.faults.calls(), before, "what is known is not asked again");
}

#[tokio::test(start_paused = true)]
async fn a_table_that_answers_late_holds_nothing_up_for_ever() {
    let fleet = Fleet::new(70, rate("50/s"), None);
    let takes = Duration::from_millis(200);
    let pace = fleet.process_with(Arc::new(Table { takes, ..Table::default() }), 0);
    for _ in 0..20 {
        assert!(matches!(pace.turn(PATIENCE).await, Turn::Now(_)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_that_a_broken_clock_has_claimed_far_ahead_can_be_deleted() {
    let fleet = Fleet::new(80, rate("50/s"), None);
    let table = Arc::new(Table::default());
    let (broken, pace) =
        (fleet.process_with(table.clone(), 86_400 * SECOND_US), fleet.process_with(table.clone(), 0));
    assert!(matches!(broken.turn(PATIENCE).await, Turn::Now(_)));
    let Turn::Later(_, wait) = pace.turn(PATIENCE).await else { panic!("a slot of tomorrow") };
    assert_eq!(wait.as_secs(), 11 * 3_600, "as long as a message can be hidden");
    *table.meters.lock().unwrap() = MemoryMeters::new();
    sleep(Duration::from_secs(6)).await;
    assert!(matches!(pace.turn(PATIENCE).await, Turn::Now(_)), "who has seen the row looks again");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_frozen_while_it_waited_does_not_use_the_slot() {
    let fleet = Fleet::new(90, rate("1/s"), None);
    let (began, frozen) = (fleet.began, Arc::new(AtomicI64::new(0)));
    let slept = Arc::clone(&frozen);
    let clock =
        move || BEGIN + slept.load(Ordering::Relaxed) + i64::try_from(began.elapsed().as_micros()).unwrap();
    let pace = Pace::new(fleet.limit, None, target(), Arc::new(fleet.meters.clone()), Arc::new(clock));
    assert!(matches!(pace.turn(PATIENCE).await, Turn::Now(_)));
    let thaws = async {
        sleep(Duration::from_millis(500)).await;
        frozen.store(5 * SECOND_US, Ordering::Relaxed);
    };
    let (turn, ()) = tokio::join!(pace.turn(PATIENCE), thaws);
    assert!(matches!(turn, Turn::Now(_)));
    assert!(fleet.meters.faults.calls() > 2, "its slot was over, and another one was claimed");
}
