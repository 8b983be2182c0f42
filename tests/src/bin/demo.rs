//! `make demo`: the main job on real input, each stage shown, exit 0 only if what arrived is what should have.

#![expect(clippy::print_stdout, reason = "the demo talks to whoever runs it")]

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use sync_tests::ink::Ink;
use sync_tests::judge::{at_rest, judge};
use sync_tests::report::report;
use sync_tests::rig::{Lines, Rig, stage};
use sync_tests::run;
use sync_tests::workload::{Size, workload};
use sync_tests::{pos, preferences};

#[tokio::main]
async fn main() -> ExitCode {
    let interrupted = tokio::signal::ctrl_c();
    tokio::select! {
        result = run() => match result {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                println!("\n\nThe demo failed: {error:#}");
                ExitCode::FAILURE
            }
        },
        _ = interrupted => {
            println!("\n\nStopped.");
            ExitCode::from(130)
        }
    }
}

async fn run() -> Result<bool> {
    let start = Instant::now();
    println!("Data Sync: changes, pushed and read, arrive at their targets, governed\n");
    let rig = Rig::start("demo", &Ink::Life, &Lines).await?;
    let day = workload(Size::default(), &Ink::Life)?;
    let (pushed, oracle) = run::day(&rig, &day, &Lines).await?;
    pos::day(&rig, &Ink::Life, &Lines).await?;
    preferences::day(&rig, &Ink::Life, &Lines).await?;
    let mut wrong = pushed.differences.clone();
    let judged = stage(&Lines, "compare with what must have arrived", async {
        let mut judged = judge(&rig, &oracle).await?;
        judged.extend(at_rest(&rig, &rig.pos).await?);
        judged.extend(preferences::differences(&rig).await?);
        let note = if judged.is_empty() {
            "exactly right".to_owned()
        } else {
            format!("{} differences", judged.len())
        };
        Ok((judged, note))
    })
    .await?;
    wrong.extend(judged);

    print!("{}", report(&pushed, &oracle, &rig.loyalty, &rig.warehouse)?);
    println!();
    for difference in wrong.iter().take(40) {
        println!("WRONG  {difference}");
    }
    if wrong.is_empty() {
        println!(
            "Exactly what should have arrived did, in {:.0} s. Logs: {}",
            start.elapsed().as_secs_f64(),
            rig.run.path().display()
        );
    } else {
        println!("{} things are wrong. Logs: {}", wrong.len(), rig.run.path().display());
    }
    Ok(wrong.is_empty())
}
