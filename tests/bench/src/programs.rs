//! The transformation and its floor, as programs of their own that take turns.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sync_bench::artifacts::cargo;
use sync_bench::outside::Outside;

/// How often they take turns: who is disturbed in one turn is not in another.
const TURNS: usize = 6;

/// Where the programs are.
pub(crate) struct Programs {
    transform: PathBuf,
    send: PathBuf,
    log: PathBuf,
    floor: PathBuf,
}

/// Nanoseconds per call, the least of all turns.
pub(crate) struct Measured {
    /// The transformation of the message body.
    pub(crate) transform: f64,
    /// Parsing and writing the same bytes.
    pub(crate) floor_of_message: f64,
    /// Parsing and writing the record in it alone.
    pub(crate) floor_of_record: f64,
}

impl Programs {
    /// Builds them. `cargo run` has built only this program.
    pub(crate) fn build() -> Result<Self> {
        let own = std::env::current_exe()?;
        let release = own.parent().context("this program is in a folder")?;
        let target = release.parent().context("a release is in a target folder")?;
        let mut transform = cargo();
        transform
            .args(["build", "--quiet", "--release", "--package", "sync-bench"])
            .args(["--bin", "transform_loop", "--bin", "send_loop", "--bin", "log_pull"])
            .arg("--target-dir")
            .arg(target);
        run(&mut transform)?;
        let floors = target.join("floor");
        let mut floor = cargo();
        floor
            .args([
                "build",
                "--quiet",
                "--release",
                "--locked",
                "--manifest-path",
                "tests/bench/floor/Cargo.toml",
            ])
            .arg("--target-dir")
            .arg(&floors);
        run(&mut floor)?;
        let (transform, send) = (release.join("transform_loop"), release.join("send_loop"));
        let log = release.join("log_pull");
        Ok(Self { transform, send, log, floor: floors.join("release/parse-and-write") })
    }

    /// The reader of a database's log.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// The floor of `deliver`: the median time of a batch of ten.
    pub(crate) fn send(&self, outside: &Outside) -> Result<Duration> {
        let url = format!("http://{}/hooks", outside.address());
        Ok(Duration::from_secs_f64(nanoseconds(&self.send, &[&url])? / 1e9))
    }

    /// Measures in turns.
    pub(crate) fn measure(&self) -> Result<Measured> {
        let message = sync_bench::change();
        let mut least = Measured {
            transform: f64::INFINITY,
            floor_of_message: f64::INFINITY,
            floor_of_record: f64::INFINITY,
        };
        for _ in 0..TURNS {
            least.floor_of_message = least.floor_of_message.min(nanoseconds(&self.floor, &[&message])?);
            least.transform = least.transform.min(nanoseconds(&self.transform, &[])?);
            least.floor_of_record =
                least.floor_of_record.min(nanoseconds(&self.floor, &[sync_bench::RECORD])?);
        }
        Ok(least)
    }
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().context("cannot start cargo")?;
    ensure!(status.success(), "cargo failed: {command:?}");
    Ok(())
}

fn nanoseconds(program: &Path, arguments: &[&str]) -> Result<f64> {
    let output = Command::new(program).args(arguments).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "{} failed", program.display());
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}
