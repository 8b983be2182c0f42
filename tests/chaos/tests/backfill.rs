//! A backfill of many rows that dies again and again at the borders of its chunks, beside writers and live capture.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::Value;
use sync_chaos::{Bed, Dice, History, Pace, Rows, Till, build, failpoints, invoke, write};
use sync_testkit::proxy::Proxy;
use sync_tests::pos::{TABLES, Table};

/// Rows of a chunk at most.
const CHUNK: usize = 1_000;
const WRITERS: u64 = 2;
const RUN: &str = "chaos";

/// A number that `make chaos` sets higher.
fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_that_is_killed_at_the_borders_of_its_chunks_leaves_no_gap_and_no_old_row() {
    let binary = build("capture-pull").unwrap();
    let places: Vec<String> =
        failpoints("capture-pull").unwrap().into_iter().filter(|place| place.contains("chunk")).collect();
    assert_eq!(places.len(), 3, "the failpoints are gone: {places:?}");
    let mut dice = Dice::from_env();
    let till = Till::unprepared().await.unwrap();
    let mut filled = Vec::new();
    for table in TABLES {
        filled.push(Rows::fill(&till, table, setting("CHAOS_ROWS", 20_000)).await.unwrap());
    }
    till.pos.prepare().await.unwrap();
    let bed = Bed::make("backfill", &till.pos.url()).await.unwrap();

    for (table, rows) in TABLES.into_iter().zip(filled) {
        let begun = Instant::now();
        let mut live = Live::begin(&bed, &binary, table).await;
        let standing = till.table(table).await.unwrap();
        let count = standing.len();
        let mut backfill = Backfill {
            table,
            plan: shuffled(&places, &mut dice),
            history: History::of(standing),
            died: BTreeMap::new(),
            done: 0,
            finished: None,
            again: 0,
        };
        let (pace, over) = (Arc::<Pace>::default(), AtomicBool::new(false));
        let mut others = dice.split();
        let work = async {
            let backfilled = async {
                backfill.run(&bed, &binary, &pace, &mut dice).await;
                pace.stop.store(true, Ordering::Release);
            };
            let (written, ()) = tokio::join!(write(&till, rows, WRITERS, &mut others, &pace), backfilled);
            over.store(true, Ordering::Release);
            written.unwrap()
        };
        let (written, runs) = tokio::join!(work, live.follow(&over));
        let Backfill { mut history, died, done, again, .. } = backfill;
        history.commit(written);
        history.see(table.model, &bed.take_sent()).unwrap();
        println!(
            "{}: {count} rows, {done} read, {again} of them sent again, died {died:?}; beside it {} commits in {runs} runs; {} changes; {} s",
            table.source,
            history.commits(),
            history.changes(),
            begun.elapsed().as_secs(),
        );
        let now = till.table(table).await.unwrap();
        let mut wrong = history.gaps(&now);
        wrong.extend(history.old_over_new());
        wrong.extend(match table.model {
            "pos_store" => history.last_state(),
            _ => history.every_commit(),
        });
        wrong.truncate(20);
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert!(history.commits() * 20 > count, "the writers did hardly anything");
        assert_eq!(bed.dead_letters().await.unwrap(), 0);
    }
}

/// Each place as often as it is to be the end, in any order.
fn shuffled(places: &[String], dice: &mut Dice) -> Vec<String> {
    let kills = usize::try_from(setting("CHAOS_KILLS", 5)).unwrap();
    let mut ordered: Vec<String> = places.iter().flat_map(|place| vec![place.clone(); kills]).collect();
    let mut plan = Vec::new();
    while !ordered.is_empty() {
        let at = usize::try_from(dice.below(ordered.len() as u64)).unwrap();
        plan.push(ordered.swap_remove(at));
    }
    plan
}

/// The function that reads what writers commit, run after run.
struct Live {
    function: sync_bench::function::Function,
    table: Table,
    _proxy: Proxy,
}

impl Live {
    /// Starts it; its first poll marks where capture begins.
    async fn begin(bed: &Bed, binary: &Path, table: Table) -> Self {
        let proxy = bed.proxy().await.unwrap();
        let function = bed.start_behind(&proxy, "capture-pull", binary.to_owned(), None).unwrap();
        let mut live = Self { function, table, _proxy: proxy };
        live.run("0s").await;
        live
    }

    /// How many changes a run has handed off.
    async fn run(&mut self, run_for: &str) -> u64 {
        let event = format!(r#"{{"source":"{}","run_for":"{run_for}"}}"#, self.table.source);
        let answer = invoke(&mut self.function, event).await.unwrap().expect("it has no failpoint");
        let report: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((&report["ended"], &report["refused"]), (&"done".into(), &0.into()), "{answer}");
        report["changes"].as_u64().unwrap()
    }

    /// Reads until all is over and two runs have found nothing; gives the number of runs.
    async fn follow(&mut self, over: &AtomicBool) -> u64 {
        let (mut runs, mut quiet) = (0, 0);
        while quiet < 2 {
            let last = over.load(Ordering::Acquire);
            let changes = self.run(if last { "0s" } else { "1s" }).await;
            quiet = if last && changes == 0 { quiet + 1 } else { 0 };
            runs += 1;
        }
        runs
    }
}

struct Backfill {
    table: Table,
    /// Where it is still to die.
    plan: Vec<String>,
    history: History,
    died: BTreeMap<String, u64>,
    /// Rows of finished chunks.
    done: usize,
    /// The last of them.
    finished: Option<(String, u64)>,
    /// Rows that were sent in a chunk that was not finished.
    again: usize,
}

impl Backfill {
    /// From its beginning to its end, through all its deaths.
    async fn run(&mut self, bed: &Bed, binary: &Path, pace: &Pace, dice: &mut Dice) {
        let table = self.table;
        let proxy = bed.proxy().await.unwrap();
        let row = format!("{}#backfill#{}#{RUN}", table.source, table.model);
        let work = format!(r#"{{"backfill":{{"model":"{}","run":"{RUN}"}}}}"#, table.model);
        loop {
            let place = self.plan.last().cloned();
            // Now and then in the second chunk of a life.
            let pass = if dice.below(4) == 0 { 2 } else { 1 };
            let failpoint = place.as_ref().map(|place| format!("{place}@{pass}"));
            let binary = binary.to_owned();
            let mut function =
                bed.start_behind(&proxy, "capture-pull", binary, failpoint.as_deref()).unwrap();
            let event = format!(r#"{{"source":"{}","work":{work}}}"#, table.source);
            let answer = invoke(&mut function, event).await.unwrap();
            drop(function);
            let sent = self.history.see(table.model, &bed.take_sent()).unwrap();
            let memory = bed.row(&row).await.unwrap()["cursor"]["S"].take();
            let memory: Value =
                memory.as_str().map(serde_json::from_str).transpose().unwrap().unwrap_or_default();
            let done = usize::try_from(memory["rows"].as_u64().unwrap_or_default()).unwrap();
            self.check(&sent, done, place.as_deref().filter(|_| answer.is_none()));
            pace.near.store(done as u64, Ordering::Relaxed);
            let Some(answer) = answer else {
                *self.died.entry(place.unwrap()).or_default() += 1;
                self.plan.pop();
                bed.end_lease(&row).await.unwrap();
                continue;
            };
            let progress: Value = serde_json::from_str(&answer).unwrap();
            match progress["state"].as_str() {
                Some("running" | "waiting") => {}
                Some("done") => {
                    assert!(self.plan.is_empty(), "too few chunks for so many deaths: {:?}", self.plan);
                    assert_eq!((&progress["rows"], &progress["refused"]), (&done.into(), &0.into()));
                    return;
                }
                _ => panic!("{answer}"),
            }
        }
    }

    /// Nothing of a finished chunk was sent, and but for one chunk what was sent is finished.
    fn check(&mut self, sent: &[String], done: usize, died: Option<&str>) {
        let mut sent: Vec<(String, u64)> = sent.iter().map(|key| place(key)).collect();
        sent.sort();
        // A call that took too long is made again.
        sent.dedup();
        let finished = done - self.done;
        assert!(
            sent.first().is_none_or(|first| Some(first) > self.finished.as_ref()),
            "a finished chunk came again"
        );
        assert!(finished <= sent.len(), "{finished} rows are finished, {} were sent", sent.len());
        let unfinished = sent.len() - finished;
        let most = if died.is_some_and(|place| place.ends_with("chunk-sent")) { CHUNK } else { 0 };
        assert!(unfinished <= most, "{unfinished} rows were sent and are not finished");
        if finished > 0 {
            self.finished = Some(sent.swap_remove(finished - 1));
        }
        self.again += unfinished;
        self.done = done;
    }
}

/// Where a row stands in the order of its table's key: what stands before the number, and the number.
fn place(key: &str) -> (String, u64) {
    let text: String = key.chars().take_while(|sign| !sign.is_ascii_digit()).collect();
    let digits: String =
        key.chars().skip_while(|sign| !sign.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    (text, digits.parse().unwrap())
}
