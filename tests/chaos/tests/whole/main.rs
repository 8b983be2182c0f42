//! The whole path with everything that can go wrong on it, and the history of every record held against itself.
//!
//! Four ways to read a database and two systems that push; the real functions as processes, built with failpoints, fed from
//! the emulator's queues by Lambda's rules; two plain targets and a versioned one. Processes are killed at failpoints and by
//! signals, invocations throttled, messages copied and brought back late, requests refused, unanswered or applied too late.

#![expect(
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect, and tells its figures"
)]

mod crew;
mod desk;
mod ends;
mod run;
mod sources;
mod works;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use sync_chaos::{Brought, Dice, Journal, Keeps};
use sync_testkit::workload::setting;
use sync_tests::lookup::Lookup;
use tokio::task::JoinSet;

use crate::crew::{Crew, Fates, Life};
use crate::ends::End;
use crate::run::Run;
use crate::sources::{MODELS, PULLED, PUSHED, SHARES};
use crate::works::{FAILURES, TARGETS, Works};

/// Those on the path, and whether they share what `sync-lambda` has for stages that park.
const FUNCTIONS: [(&str, bool); 6] = [
    ("capture-push", false),
    ("capture-pull", false),
    ("transform", true),
    ("enrich", true),
    ("deliver", true),
    ("ticket", false),
];
/// `deliver` as its schedule invokes it, which nobody does as long as the target is well.
const PROBE: &str = "probe";
/// What it comes by then.
const AT_PROBES: [&str; 8] = [
    "deliver.probe-claimed",
    "deliver.probe-taken",
    "deliver.probe-worked",
    "deliver.probe-removed",
    "deliver.breaker-changed",
    "deliver.mapping-switched",
    "deliver.applied",
    "deliver.schedule-asleep",
];
/// Once in so many commits one of the targets is away, each in its turn; in a shorter run none, since what a probe has tried
/// in vain is hidden for a hundred seconds.
const OUTAGE_EVERY: u64 = 5_000;
/// For so long.
const OUTAGE: Duration = Duration::from_secs(8);
/// So many environments work each queue of a stage, and of a target, whose function waits most of the time.
const SIDE_BY_SIDE: (usize, usize) = (3, 4);

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_committed_comes_to_every_target_that_asked_for_it_whoever_dies_on_the_way() {
    let begun = Instant::now();
    let commits = setting("CHAOS_WHOLE", 2_500);
    let mut dice = Dice::from_env();
    // At failpoints, of each function; signals come on top.
    let kills = setting("CHAOS_WHOLE_KILLS", (commits / 200).clamp(12, 80));
    let mut fates: BTreeMap<&str, Arc<Fates>> = FUNCTIONS
        .map(|(name, parks)| {
            let counts = |place: &str| {
                let own = place.starts_with(name);
                (own || parks) && !place.contains("chunk") && !place.contains("probe")
            };
            (name, Fates::of(name, Life::Long, kills, counts).unwrap())
        })
        .into();
    let probes = Fates::of("deliver", Life::Once, kills, |place| AT_PROBES.contains(&place)).unwrap();
    fates.insert(PROBE, probes);

    let run = play(commits, &fates, &mut dice).await.unwrap();

    let journal = run.journal();
    let (messages, versions) = journal.changes();
    let (kills, places): (Vec<u64>, Vec<Vec<String>>) = fates.values().map(|fates| fates.kills()).unzip();
    let kills = kills.iter().sum::<u64>();
    let places = places.into_iter().flatten().collect::<BTreeSet<_>>().len();
    println!(
        "{} commits of {} records; {messages} changes of {versions} versions, {} copies; {} kills, at {} failpoints and by signals; {} times a target was let be; {} s",
        journal.commits(),
        journal.records(),
        run.copied(),
        kills,
        places,
        run.works.desk.openings(),
        begun.elapsed().as_secs(),
    );
    for (target, (queued, applied, ends)) in journal.tally() {
        println!("{target}: {queued} messages, {applied} requests applied, {ends:?}");
    }
    for fates in fates.values() {
        println!("{}", fates.told());
    }
    println!("{}", run.works.proxy.report());
    let findings = journal.check();
    println!("{findings}");
    assert!(findings.are_none(), "{findings}");
    assert!(journal.commits() as u64 >= commits);
    assert_eq!(fates.values().map(|fates| fates.unplanned()).sum::<u64>(), 0, "a function died by itself");
    let timed_out = fates.values().map(|fates| fates.timed_out()).sum::<u64>();
    assert!(timed_out <= 5, "{timed_out} invocations went on until their time was over");
    // What is late is not held against a target: it must be as seldom as it is made.
    let applied: usize = journal.tally().values().map(|(_, applied, _)| applied).sum();
    assert!(findings.late <= applied / 100 + 5, "{} of {applied} were late", findings.late);
    let copied = run.copied() as usize;
    assert!(copied * 5 > versions, "{copied} copies of {versions} versions show nothing");
    let least = if commits >= 50_000 { (200, 40) } else { (20, 10) };
    assert!(kills >= least.0 && places >= least.1, "{kills} kills at {places} failpoints show nothing");
}

async fn play(commits: u64, fates: &BTreeMap<&str, Arc<Fates>>, dice: &mut Dice) -> Result<Arc<Run>> {
    let lookup = Lookup::start().await?;
    let mut ends = Vec::new();
    for (name, ..) in TARGETS {
        ends.push(End::open(name, dice).await?);
    }
    let mut ports: BTreeMap<&'static str, u16> = ends.iter().map(|end| (end.name(), end.port())).collect();
    ports.insert("lookup", lookup.port());
    let (server, url) = sources::database().await?;
    let works = Works::make(&url, &ports, dice).await?;
    sources::prepare(&server, works.configuration()).await?;
    let server = Arc::new(server);

    let mut journal = Journal::default();
    for (name, versioned, models) in TARGETS {
        journal.target(name, if versioned { Keeps::Highest } else { Keeps::Last }, models);
    }
    let keys = setting("CHAOS_WHOLE_KEYS", 1_000) / MODELS.len() as u64 + 1;
    let run = Arc::new(Run::new(works, keys, journal));
    ends.iter().for_each(|end| end.begin(&run));
    run.works.desk.begin(&run);
    let crew = |role: &str, queue: &str, dice: &mut Dice| Crew::new(&run.works, &fates[role], queue, dice);

    // Where each source is read from is fixed before its first commit.
    for (source, ..) in PULLED {
        let mut first = crew("capture-pull", "changes", dice)?;
        sources::begin(&run, &mut first, source).await?;
    }
    let mut workers = JoinSet::new();
    for (name, function, environments) in
        [("changes", "transform", SIDE_BY_SIDE.0), ("enrichment", "enrich", SIDE_BY_SIDE.0)]
            .into_iter()
            .chain(TARGETS.map(|(name, ..)| (name, "deliver", SIDE_BY_SIDE.1)))
    {
        for _ in 0..environments {
            let crew = crew(function, name, dice)?;
            workers.spawn(Arc::clone(&run).work(run.works.queue(name)?.clone(), crew, dice.split()));
        }
    }
    for (target, ..) in TARGETS {
        workers.spawn(Arc::clone(&run).probe(target, crew(PROBE, target, dice)?));
    }
    workers.spawn(Arc::clone(&run).report(crew("ticket", FAILURES, dice)?));
    workers.spawn(Arc::clone(&run).copy());
    run.works.disturb();

    let (mut writers, mut readers) = (JoinSet::new(), JoinSet::new());
    let share = |model: &str| {
        let at = MODELS.iter().position(|other| *other == model).unwrap_or_default();
        (commits * SHARES[at]).div_ceil(100)
    };
    for (source, model, ..) in PULLED {
        writers.spawn(sources::write(
            Arc::clone(&run),
            Arc::clone(&server),
            model,
            share(model),
            dice.split(),
        ));
        readers.spawn(sources::pull(Arc::clone(&run), crew("capture-pull", "changes", dice)?, source));
    }
    for (source, model) in PUSHED {
        let crew = crew("capture-push", "changes", dice)?;
        writers.spawn(sources::push(Arc::clone(&run), crew, (source, model), share(model), dice.split()));
    }

    // One target after the other is away for a while, so that its breaker opens.
    let outages = commits / OUTAGE_EVERY;
    let (mut begun, mut away): (u64, Option<(usize, Instant)>) = (0, None);
    let mut empty = 0;
    let mut told = Instant::now();
    while empty < 3 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        for set in [&mut writers, &mut readers, &mut workers] {
            while let Some(ended) = set.try_join_next() {
                ended??;
            }
        }
        if writers.is_empty() {
            run.end_writing();
        }
        fates.values().for_each(|fates| fates.allow(run.seen() * 100 / commits));
        let rests = run.measure().await?;
        match away {
            Some((target, since)) if since.elapsed() > OUTAGE => {
                ends[target].turn(true);
                away = None;
            }
            None if begun < outages && run.seen() * (outages + 1) > commits * (begun + 1) => {
                let target = usize::try_from(begun)? % ends.len();
                ends[target].turn(false);
                (begun, away) = (begun + 1, Some((target, Instant::now())));
            }
            _ => {}
        }
        empty = if rests && readers.is_empty() && away.is_none() { empty + 1 } else { 0 };
        if told.elapsed() > Duration::from_secs(20) {
            told = Instant::now();
            println!("{} commits, {} versions seen", run.journal().commits(), run.seen());
        }
    }
    run.end_draining();
    while let Some(ended) = workers.join_next().await {
        ended??;
    }
    run.works.desk.end();
    for end in &ends {
        if end.unbelieved() > 0 {
            bail!("{} got requests that are not signed", end.name());
        }
    }
    close(&run).await?;
    Ok(run)
}

/// Reads what the functions say of each record, and what stands among the dead letters.
async fn close(run: &Run) -> Result<()> {
    for held in run.works.front.held().await? {
        let Some(queue) = held.queue.strip_suffix("-dead.fifo") else { bail!("{} is not empty", held.queue) };
        let mut journal = run.journal();
        match queue {
            "changes" => journal.park(Brought::change(held.body(), 0)?),
            "enrichment" => journal.park(Brought::event(held.body(), 0)?),
            target => journal.dead(target, &Brought::event(held.body(), 0)?.id),
        }
    }
    let (of_targets, before) = run.works.tickets().await?;
    for (target, event) in of_targets {
        run.journal().ticket(&target, &event);
    }
    ensure!(before >= run.journal().parked(), "{before} tickets of what was parked before the topic");
    for (target, ..) in TARGETS {
        let log = run.works.run.path().join(format!("deliver-{target}.log"));
        for line in BufReader::new(File::open(&log)?).lines() {
            let line = line?;
            if !line.contains("\"outcome\"") {
                continue;
            }
            // A process that was killed may have left half a line.
            let Ok(line) = serde_json::from_str::<Value>(&line) else { continue };
            let outcome = line["outcome"].as_str().context("a record has an outcome")?;
            if let Some(id) = line["event.id"].as_str().filter(|id| !id.is_empty()) {
                run.journal().end(target, id, outcome);
            }
        }
    }
    Ok(())
}
