//! The wrong designs of `tests/mutants`: each applies to the tree as it is, and each is caught.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::io::{self, Write as _};
use std::time::Instant;

use sync_tests::mutants::trial::{Trial, Verdict};
use sync_tests::mutants::{Mutant, read};
use sync_tests::place::root;

/// So many wrong designs of delivery and its queues there are at least.
const LEAST: usize = 25;

#[test]
fn every_wrong_design_applies_and_names_a_test_that_stands() {
    let mutants = read(root()).unwrap();
    let problems: Vec<String> = mutants
        .iter()
        .flat_map(|mutant| {
            let applied = mutant.applied(root()).map(drop);
            let test = mutant.caught_by.file(root()).map(drop);
            let name = &mutant.name;
            [applied.err(), test.err()].into_iter().flatten().map(move |error| format!("{name}: {error:#}"))
        })
        .collect();
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    assert!(mutants.len() >= LEAST, "only {} are left", mutants.len());
}

/// What is changed in these has what stands on them built again: they come last, the lowest at the end.
const LOWER: [&str; 5] = [
    "crates/sync-http/",
    "crates/sync-lambda/",
    "crates/sync-aws/",
    "crates/sync-config/",
    "crates/sync-domain/",
];

/// Those whose name holds what the variable `MUTANTS` says; all without it.
fn meant() -> Vec<Mutant> {
    let part = std::env::var("MUTANTS").unwrap_or_default();
    let mut mutants = read(root()).unwrap();
    mutants.retain(|mutant| mutant.name.contains(&part));
    assert!(!mutants.is_empty(), "no mutant is named like {part}");
    mutants.sort_by_key(|mutant| {
        let file = mutant.change.first().map_or("", |change| change.file.as_str());
        let place = LOWER.iter().position(|folder| file.starts_with(folder));
        (
            place.map_or(file.starts_with("crates/").into(), |place| place + 2),
            file.to_owned(),
            mutant.name.clone(),
        )
    });
    mutants
}

#[tokio::test]
#[ignore = "builds the tree once per mutant: `make mutants`"]
async fn every_wrong_design_is_caught() {
    let mutants = meant();
    let mut out = io::stdout();
    writeln!(out, "\ncopying and building the tree as it is").unwrap();
    let trial = Trial::begin(root(), &mutants).unwrap();
    trial.check(&mutants).await.unwrap();
    let mut table = Vec::new();
    for (at, mutant) in mutants.iter().enumerate() {
        write!(out, "{:>3}/{} {} ", at + 1, mutants.len(), mutant.name).unwrap();
        out.flush().unwrap();
        let started = Instant::now();
        let verdict = trial.try_out(mutant).await.unwrap();
        let seconds = started.elapsed().as_secs();
        writeln!(out, "{verdict} ({seconds} s)").unwrap();
        table.push((mutant, verdict));
    }
    table.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
    writeln!(out, "\n{:<46}{:<18}by", "wrong design", "").unwrap();
    for (mutant, verdict) in &table {
        let test = &mutant.caught_by;
        writeln!(out, "{:<46}{verdict:<18}{} {}", mutant.name, test.package, test.name).unwrap();
    }
    let escaped: Vec<&str> = table
        .iter()
        .filter(|(_, verdict)| *verdict != Verdict::Caught)
        .map(|(mutant, _)| mutant.name.as_str())
        .collect();
    writeln!(out, "{} of {} are caught", table.len() - escaped.len(), table.len()).unwrap();
    assert!(
        escaped.is_empty(),
        "not caught: {}; their logs stand in target/mutants/logs",
        escaped.join(", ")
    );
}
