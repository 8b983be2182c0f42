//! Tries the wrong designs of `tests/mutants` out, one at a time, and fails if one is not caught.

use std::io::{self, Write as _};
use std::time::Instant;

use anyhow::{Result, ensure};
use sync_tests::mutants::trial::{Trial, Verdict};
use sync_tests::mutants::{Mutant, read};
use sync_tests::place::root;

/// What is changed in these has what stands on them built again: they come last, the lowest at the end.
const LOWER: [&str; 5] = [
    "crates/sync-http/",
    "crates/sync-lambda/",
    "crates/sync-aws/",
    "crates/sync-config/",
    "crates/sync-domain/",
];

/// Those whose name holds what the variable `MUTANTS` says; all without it.
fn meant() -> Result<Vec<Mutant>> {
    let part = std::env::var("MUTANTS").unwrap_or_default();
    let mut mutants = read(root())?;
    mutants.retain(|mutant| mutant.name.contains(&part));
    ensure!(!mutants.is_empty(), "no mutant is named like {part}");
    mutants.sort_by_key(|mutant| {
        let file = mutant.change.first().map_or("", |change| change.file.as_str());
        let place = LOWER.iter().position(|folder| file.starts_with(folder));
        (
            place.map_or(file.starts_with("crates/").into(), |place| place + 2),
            file.to_owned(),
            mutant.name.clone(),
        )
    });
    Ok(mutants)
}

#[tokio::main]
async fn main() -> Result<()> {
    let mutants = meant()?;
    let mut out = io::stdout();
    writeln!(out, "\ncopying and building the tree as it is")?;
    let trial = Trial::begin(root(), &mutants)?;
    trial.check(&mutants).await?;
    let mut table = Vec::new();
    for (at, mutant) in mutants.iter().enumerate() {
        write!(out, "{:>3}/{} {} ", at + 1, mutants.len(), mutant.name)?;
        out.flush()?;
        let started = Instant::now();
        let verdict = trial.try_out(mutant).await?;
        let seconds = started.elapsed().as_secs();
        writeln!(out, "{verdict} ({seconds} s)")?;
        table.push((mutant, verdict));
    }
    table.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
    writeln!(out, "\n{:<46}{:<18}by", "wrong design", "")?;
    for (mutant, verdict) in &table {
        let test = &mutant.caught_by;
        writeln!(out, "{:<46}{verdict:<18}{} {}", mutant.name, test.package, test.name)?;
    }
    let escaped: Vec<&str> = table
        .iter()
        .filter(|(_, verdict)| *verdict != Verdict::Caught)
        .map(|(mutant, _)| mutant.name.as_str())
        .collect();
    writeln!(out, "{} of {} are caught", table.len() - escaped.len(), table.len())?;
    ensure!(
        escaped.is_empty(),
        "not caught: {}; their logs stand in target/mutants/logs",
        escaped.join(", ")
    );
    Ok(())
}
