//! `make bench`: measures, prints a table, writes `target/bench.json`.

mod figures;
mod programs;

use std::fs;
use std::io::{Write, stdout};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sync_bench::artifacts::{Binaries, FUNCTIONS};
use sync_bench::function::Function;
use sync_bench::log;
use sync_bench::pipeline::{self, Stage, median};
use sync_bench::workload;
use sync_bench::world::World;

use crate::figures::{Figures, Unit};

/// Starts of each function; the median counts.
const STARTS: usize = 20;
/// Turns of `deliver` and its floor; the fastest of each counts.
const DELIVERIES: usize = 3;
/// Invocations of each function for memory and warm time.
const INVOCATIONS: u64 = 1_000;
/// Changes per invocation of them.
const EACH: u64 = 10;

fn main() -> Result<()> {
    ensure!(
        std::env::var_os("SAM_BUILD_MODE").is_none(),
        "SAM_BUILD_MODE is set: figures of unoptimised binaries say nothing"
    );
    let mut figures = Figures::default();
    say("building")?;
    let programs = programs::Programs::build()?;
    let binaries = Binaries::of_sam("bench")?;

    say("transform against its floor")?;
    transform(&programs, &mut figures)?;
    say("deliver against its floor")?;
    deliver(&programs, &binaries, &mut figures)?;
    say("the log of a database against pg_recvlogical")?;
    log(&programs, &mut figures)?;
    say("starts")?;
    starts(&binaries, &mut figures)?;
    say("requests of 1,000 changes")?;
    requests(&binaries, &mut figures)?;
    say("1,000 invocations of each function")?;
    invocations(&binaries, &mut figures)?;

    let path = sync_bench::root().join("target/bench.json");
    fs::write(&path, figures.json())?;
    fs::remove_dir_all(binaries.folder()).context("cannot tidy up")?;
    write!(stdout(), "\n{figures}\nwritten to {}\n", path.display())?;
    Ok(())
}

/// Progress goes to standard error: the table alone can be kept.
fn say(stage: &str) -> Result<()> {
    Ok(writeln!(std::io::stderr(), "· {stage}")?)
}

fn transform(programs: &programs::Programs, figures: &mut Figures) -> Result<()> {
    let measured = programs.measure()?;
    figures.against("transform", measured.transform, measured.floor_of_message, Unit::Nanoseconds);
    figures.against("transform_record", measured.transform, measured.floor_of_record, Unit::Nanoseconds);
    Ok(())
}

/// Records per second, with a target that answers at once (nothing hides our own work) and with one that takes its time.
fn deliver(programs: &programs::Programs, binaries: &Binaries, figures: &mut Figures) -> Result<()> {
    for (name, delay) in [("deliver", Duration::ZERO), ("deliver_10ms", Duration::from_millis(10))] {
        let (mut ours, mut floor) = (Duration::MAX, Duration::MAX);
        for _ in 0..DELIVERIES {
            let world = World::with_slow_target(binaries, name, false, delay)?;
            floor = floor.min(programs.send(&world.outside)?);
            let stages = pipeline::run(&world, 10, 100)?;
            ours = stages.last().map(Stage::median).unwrap_or_default().min(ours);
        }
        let rate = |batch: Duration| f64::from(10) / batch.as_secs_f64();
        figures.against(name, rate(ours), rate(floor), Unit::PerSecond);
    }
    Ok(())
}

/// Many small transactions, and one large one: the rate, what the reader takes of the machine's memory, and what the
/// server puts into temporary files.
fn log(programs: &programs::Programs, figures: &mut Figures) -> Result<()> {
    for (suffix, measured) in
        [("", log::small(programs.log())?), (".one_transaction", log::large(programs.log())?)]
    {
        figures.against(&format!("log_pull{suffix}"), measured.rate, measured.floor, Unit::PerSecond);
        figures.add(&format!("log_pull_memory{suffix}"), megabytes(measured.memory), Unit::Megabytes);
        figures.add(&format!("log_pull_temporary{suffix}"), megabytes(measured.temporary), Unit::Megabytes);
    }
    Ok(())
}

fn starts(binaries: &Binaries, figures: &mut Figures) -> Result<()> {
    let world = World::new(binaries, "starts", true)?;
    for (name, _) in FUNCTIONS {
        let launch = world.launch(name)?;
        // The first one reads the binary from the disk.
        Function::start(&launch)?.start_time()?;
        let times: Vec<Duration> = (0..STARTS)
            .map(|_| Function::start(&launch)?.start_time())
            .collect::<Result<_>>()
            .with_context(|| format!("{name}: see {}", launch.log.display()))?;
        figures.add(&format!("start.{name}"), milliseconds(median(&times)), Unit::Milliseconds);
        let least = times.iter().min().copied().unwrap_or_default();
        figures.add(&format!("start_min.{name}"), milliseconds(least), Unit::Milliseconds);
        let size = fs::metadata(&launch.binary)?.len();
        figures.add(&format!("binary.{name}"), megabytes(size), Unit::Megabytes);
    }
    Ok(())
}

fn requests(binaries: &Binaries, figures: &mut Figures) -> Result<()> {
    for (prefix, enriched) in [("requests", false), ("requests_enriched", true)] {
        let stages = pipeline::run(&World::new(binaries, prefix, enriched)?, 10, 100)?;
        for ((service, action), count) in pipeline::requests(&stages) {
            figures.count(&format!("{prefix}.{service}.{action}"), count);
            figures.count(&format!("{prefix}.{service}"), count);
        }
    }
    Ok(())
}

fn invocations(binaries: &Binaries, figures: &mut Figures) -> Result<()> {
    let published = pipeline::run(&World::new(binaries, "invocations", false)?, INVOCATIONS, EACH)?;
    let enriched = pipeline::run(&World::new(binaries, "invocations-enriched", true)?, INVOCATIONS, EACH)?;
    let world = World::new(binaries, "tickets", false)?;
    let tickets = Stage::run(
        &world,
        "ticket",
        (0..INVOCATIONS).map(workload::failure),
        |answer| !matches!(answer, Value::Object(answer) if answer.contains_key("errorType")),
    )?;
    ensure!(tickets.took.len() == 1_000, "a ticket is missing");

    let enrich = enriched.iter().filter(|stage| stage.name == "enrich");
    for stage in published.iter().chain(enrich).chain([&tickets]) {
        let name = stage.name;
        // A ticket comes alone; ten in a row are what a batch is elsewhere.
        let times = if name == "ticket" { 10 } else { 1 };
        let invocations = u32::try_from(stage.took.len().saturating_sub(1))?;
        figures.add(&format!("warm.{name}"), milliseconds(stage.median() * times), Unit::Milliseconds);
        figures.add(
            &format!("warm_processor.{name}"),
            milliseconds(stage.processor / invocations.max(1) * times),
            Unit::Milliseconds,
        );
        figures.add(&format!("memory.{name}"), megabytes(stage.memory.peak), Unit::Megabytes);
        figures.add(&format!("memory_own.{name}"), megabytes(stage.memory.own), Unit::Megabytes);
    }

    let requests = pipeline::requests(&published);
    let kms = requests.iter().filter(|((service, _), _)| service == "kms").map(|(_, count)| count).sum();
    figures.add("kms_calls", per_thousand(kms, INVOCATIONS * EACH), Unit::Count);
    Ok(())
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Of a million bytes.
#[expect(clippy::cast_precision_loss, reason = "no binary has 2^53 bytes")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[expect(clippy::cast_precision_loss, reason = "nobody calls that often")]
fn per_thousand(count: u64, of: u64) -> f64 {
    count as f64 * 1e3 / of as f64
}
