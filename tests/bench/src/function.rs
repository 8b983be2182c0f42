//! A function's real binary as a process, and what the kernel says about it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::runtime::{Invocation, PATIENCE, RuntimeApi};

/// How to start a function.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The function's name.
    pub name: &'static str,
    /// Its binary.
    pub binary: PathBuf,
    /// The whole environment besides the runtime API's address.
    pub environment: Vec<(String, String)>,
    /// What it may take per invocation.
    pub timeout: Duration,
    /// Where its output goes.
    pub log: PathBuf,
}

/// A running function; killed when this is dropped.
pub struct Function {
    child: Child,
    runtime: RuntimeApi,
    started: Instant,
}

/// What came of an invocation.
#[derive(Debug)]
pub enum Outcome {
    /// An answer.
    Answered(Invocation),
    /// The end of the process.
    Died(ExitStatus),
}

/// What a process has taken of the machine's memory, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// `VmHWM`: the most that was ever resident, pages of the binary included.
    pub peak: u64,
    /// `RssAnon`: what is its own, now.
    pub own: u64,
}

impl Function {
    /// Starts the process.
    pub fn start(launch: &Launch) -> Result<Self> {
        let runtime = RuntimeApi::start(launch.timeout)?;
        let log = File::options().create(true).append(true).open(&launch.log)?;
        let mut command = Command::new(&launch.binary);
        command
            .env_clear()
            .envs(launch.environment.iter().map(|(name, value)| (name, value)))
            .env("AWS_LAMBDA_RUNTIME_API", runtime.address())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("cannot start {}", launch.binary.display()))?;
        Ok(Self { child, runtime, started })
    }

    /// From `exec` to the first poll of the runtime API.
    pub fn start_time(&self) -> Result<Duration> {
        Ok(self.runtime.first_poll()?.saturating_duration_since(self.started))
    }

    /// Invokes it once.
    pub fn invoke(&self, event: String) -> Result<Invocation> {
        self.runtime.invoke(event)
    }

    /// Invokes it once, unless it dies over it: then there is no answer.
    pub fn invoke_or_die(&mut self, event: String) -> Result<Option<Invocation>> {
        self.begin(event);
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            match self.outcome()? {
                Some(Outcome::Answered(invocation)) => return Ok(Some(invocation)),
                Some(Outcome::Died(_)) => return Ok(None),
                None => std::thread::park_timeout(Duration::from_millis(1)),
            }
        }
        bail!("the function neither answers nor dies")
    }

    /// Begins an invocation and goes on.
    pub fn begin(&self, event: String) {
        self.runtime.hand_out(event);
    }

    /// What came of it, if it is over.
    pub fn outcome(&mut self) -> Result<Option<Outcome>> {
        // In this order: it may answer and end in between.
        let ended = self.child.try_wait()?;
        let answered = self.runtime.answered()?.map(Outcome::Answered);
        Ok(answered.or(ended.map(Outcome::Died)))
    }

    /// Sends it a signal: `STOP` freezes it, `CONT` lets it go on.
    pub fn signal(&self, name: &str) -> Result<()> {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status()?;
        if !status.success() {
            bail!("the function does not get the signal {name}");
        }
        Ok(())
    }

    /// Its memory so far.
    pub fn memory(&self) -> Result<Memory> {
        let status = fs::read_to_string(self.proc().join("status"))?;
        let bytes = |name: &str| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .with_context(|| format!("no {name}"))?;
            let kibibytes = line.trim().trim_end_matches("kB").trim().parse::<u64>()?;
            anyhow::Ok(kibibytes * 1024)
        };
        Ok(Memory { peak: bytes("VmHWM:")?, own: bytes("RssAnon:")? })
    }

    /// The processor time of all its threads so far.
    pub fn processor_time(&self) -> Result<Duration> {
        let mut nanoseconds = 0;
        for task in fs::read_dir(self.proc().join("task"))? {
            let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            nanoseconds +=
                text.split(' ').next().and_then(|field| field.parse::<u64>().ok()).unwrap_or_default();
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    fn proc(&self) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string())
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        // It is gone already, or it goes now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
