//! Runs of one schedule that overlap, some of them frozen until others have taken their lease: the checkpoint never goes
//! back, and nothing is lost.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use sync_bench::function::{Function, Outcome};
use sync_chaos::{Bed, Dice, History, Till, build, invoke};
use sync_testkit::proxy::{Fault, Proxy, Rule};
use sync_tests::pos::{TABLES, Table};
use tokio::sync::{oneshot, watch};

/// The requests that a run's order hangs on: a lease, a hand-off, a save.
const WRITES: &str = "UpdateItem|SendMessageBatch";

/// How often runs overlap, per table; `make chaos` sets it higher.
fn rounds() -> u64 {
    std::env::var("CHAOS_OVERLAPS").ok().and_then(|text| text.parse().ok()).unwrap_or(10)
}

#[tokio::test(flavor = "multi_thread")]
async fn overlapping_runs_never_move_the_checkpoint_back_and_lose_nothing() {
    let binary = build("capture-pull").unwrap();
    let till = Till::start().await.unwrap();
    let bed = Bed::make("overlaps", &till.pos.url()).await.unwrap();
    let mut dice = Dice::from_env();
    for table in TABLES.into_iter().filter(|table| table.model != "pos_store") {
        let begun = Instant::now();
        let mut runs = Vec::new();
        for _ in 0..3 {
            let proxy = bed.proxy().await.unwrap();
            let function = bed.start_behind(&proxy, "capture-pull", binary.clone(), None).unwrap();
            runs.push(Run { bed: &bed, table, function, proxy });
        }
        runs[0].read_on().await;

        let (mut history, mut tally) = (History::default(), Tally::default());
        let over = AtomicBool::new(false);
        let rounds_over = async {
            for round in 0..rounds() {
                let overlapping = runs.split_at_mut(if round % 2 == 0 { 2 } else { 3 }).0;
                overlap(overlapping, &till, &mut history, &mut tally, &mut dice).await;
                if !tally.otherwise.is_empty() {
                    break;
                }
            }
            over.store(true, Ordering::Release);
        };
        let (places, ()) = tokio::join!(watch(&bed, table, &over), rounds_over);
        for pair in places.windows(2) {
            assert!(pair[0] < pair[1] && pair[0].2 < pair[1].2, "the checkpoint went back: {pair:?}");
        }
        assert!(tally.otherwise.is_empty(), "runs ended {:?}", tally.otherwise);
        runs[0].read_on().await;

        history.see(table.model, &bed.take_sent()).unwrap();
        println!(
            "{}: {} overlaps, {tally:?}; {} places of the checkpoint; {} commits, {} changes; {} s",
            table.source,
            rounds(),
            places.len(),
            history.commits(),
            history.changes(),
            begun.elapsed().as_secs(),
        );
        let wrong = history.every_commit();
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert!(tally.overtaken * 5 >= rounds(), "hardly any run was overtaken, so this shows nothing");
        assert_eq!(bed.dead_letters().await.unwrap(), 0);
    }
}

/// How runs ended.
#[derive(Debug, Default)]
struct Tally {
    done: u64,
    busy: u64,
    overtaken: u64,
    frozen: u64,
    otherwise: Vec<String>,
}

/// A process that the schedule invokes.
struct Run<'a> {
    bed: &'a Bed,
    table: Table,
    function: Function,
    proxy: Proxy,
}

/// What happens to one run.
struct Fate {
    run_for: u64,
    /// Where it is frozen.
    hold: Option<(u64, Fault)>,
    /// For how long; until the runs behind it have ended if that is later.
    frozen: Duration,
    patient: bool,
    /// When the next one begins, unless this one is frozen or ends before.
    next: Duration,
}

impl Fate {
    fn of(dice: &mut Dice, last: bool) -> Self {
        let freezes = if last { dice.below(4) == 0 } else { dice.below(3) != 0 };
        let what = if dice.below(2) == 0 { Fault::Hold } else { Fault::HoldAnswer };
        Self {
            run_for: dice.below(3) * 300,
            // The first write takes the lease.
            hold: freezes.then(|| (1 + dice.below(5), what)),
            frozen: Duration::from_millis(dice.below(600)),
            patient: dice.below(2) == 0,
            next: Duration::from_millis(dice.below(300)),
        }
    }
}

/// Lets runs overlap while somebody writes.
async fn overlap(
    runs: &mut [Run<'_>],
    till: &Till,
    history: &mut History,
    tally: &mut Tally,
    dice: &mut Dice,
) {
    let table = runs[0].table;
    for _ in 0..3 {
        history.commit(till.write(table, dice).await.unwrap());
    }
    let (ended, over) = (watch::Sender::new(0), AtomicBool::new(false));
    let (begin, mut begins) = oneshot::channel();
    begin.send(()).unwrap();
    let mut running = Vec::new();
    let mut behind = runs.len();
    for run in runs {
        let (next, begins_next) = oneshot::channel();
        let begins = std::mem::replace(&mut begins, begins_next);
        behind -= 1;
        running.push(run.once(Fate::of(dice, behind == 0), begins, next, behind, &ended));
    }
    let write = async {
        while !over.load(Ordering::Acquire) {
            history.commit(till.write(table, dice).await.unwrap());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let all = async {
        let all = all(running).await;
        over.store(true, Ordering::Release);
        all
    };
    for (how, frozen) in tokio::join!(all, write).0 {
        tally.frozen += u64::from(frozen);
        match how.as_str() {
            "done" => tally.done += 1,
            "busy" => tally.busy += 1,
            "overtaken" => tally.overtaken += 1,
            _ => tally.otherwise.push(how),
        }
    }
}

/// Waits for two or three at the same time.
async fn all<T>(running: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut running = running.into_iter();
    match (running.next(), running.next(), running.next()) {
        (Some(first), Some(second), Some(third)) => {
            let (first, second, third) = tokio::join!(first, second, third);
            vec![first, second, third]
        }
        (Some(first), Some(second), None) => {
            let (first, second) = tokio::join!(first, second);
            vec![first, second]
        }
        _ => panic!("nothing overlaps"),
    }
}

impl Run<'_> {
    /// One run: how it ended, and whether it was frozen.
    async fn once(
        &mut self,
        fate: Fate,
        begins: oneshot::Receiver<()>,
        next: oneshot::Sender<()>,
        behind: usize,
        ended: &watch::Sender<usize>,
    ) -> (String, bool) {
        begins.await.unwrap();
        let mut next = Some(next);
        let mut frozen = false;
        let freezes = fate.hold.is_some();
        if let Some((nth, what)) = fate.hold {
            self.proxy.add(Rule::on("*", WRITES, what).nth(nth));
        }
        let event = format!(r#"{{"source":"{}","run_for":"{}ms"}}"#, self.table.source, fate.run_for);
        let begun = Instant::now();
        self.function.begin(event);
        let answer = loop {
            match self.function.outcome().unwrap() {
                Some(Outcome::Answered(invocation)) => break invocation.answer,
                Some(Outcome::Died(_)) => panic!("a run died"),
                None => {}
            }
            let held = self.proxy.held() > 0;
            if held || (!freezes && begun.elapsed() >= fate.next) {
                // Whoever begins the next has gone on without it.
                let _ = next.take().map(|next| next.send(()));
            }
            if held {
                frozen = true;
                self.function.signal("STOP").unwrap();
                self.bed.end_lease(self.table.source).await.unwrap();
                tokio::time::sleep(fate.frozen).await;
                if fate.patient {
                    ended.subscribe().wait_for(|ended| *ended >= behind).await.unwrap();
                }
                self.function.signal("CONT").unwrap();
                self.let_go();
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "a run neither ends nor dies");
            tokio::time::sleep(Duration::from_millis(2)).await;
        };
        self.let_go();
        let _ = next.take().map(|next| next.send(()));
        ended.send_modify(|ended| *ended += 1);
        let report: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(report["refused"], 0, "{answer}");
        (report["ended"].as_str().unwrap_or_default().to_owned(), frozen)
    }

    fn let_go(&self) {
        self.proxy.calm();
        self.proxy.release_all();
    }

    /// Run after run until two find nothing.
    async fn read_on(&mut self) {
        let mut quiet = 0;
        while quiet < 2 {
            let event = format!(r#"{{"source":"{}","run_for":"0s"}}"#, self.table.source);
            let answer = invoke(&mut self.function, event).await.unwrap().expect("it has no failpoint");
            let report: Value = serde_json::from_str(&answer).unwrap();
            assert_eq!(report["ended"], "done", "{answer}");
            quiet = if report["changes"] == 0 { quiet + 1 } else { 0 };
        }
    }
}

/// Looks at the checkpoint until all is over; gives its places in the order in which they stood there.
async fn watch(bed: &Bed, table: Table, over: &AtomicBool) -> Vec<(u64, u64, u64)> {
    let mut places = Vec::new();
    while !over.load(Ordering::Acquire) {
        let row = bed.row(table.source).await.unwrap();
        let place = place(&row).unwrap();
        if places.last() != Some(&place) {
            places.push(place);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    places
}

/// How far a source's row says that it was read: the place in the log, or in the shadow table, and the row's revision.
fn place(row: &Value) -> Option<(u64, u64, u64)> {
    let revision = row["revision"]["N"].as_str()?.parse().ok()?;
    let cursor: Value = serde_json::from_str(row["cursor"]["S"].as_str()?).ok()?;
    match cursor["lsn"].as_str() {
        Some(lsn) => {
            let (high, low) = lsn.split_once('/')?;
            let half = |text| u64::from_str_radix(text, 16).ok();
            Some(((half(high)? << 32) | half(low)?, cursor["index"].as_u64()?, revision))
        }
        None => {
            let sequence = cursor["range"]["sequence"].as_u64().unwrap_or_default();
            Some((cursor["xid"].as_u64()?, sequence, revision))
        }
    }
}
