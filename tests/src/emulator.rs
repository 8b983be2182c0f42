//! MiniStack, the stand-in for AWS, as a process of its own group that never outlives whoever started it.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::aws::{self, Aws};
use crate::place::{self, RunFolder};

/// Runs the emulator and waits for the end of its own input, a pipe that the starter holds. However the starter ends,
/// by Ctrl-C, a panic or a kill, the pipe closes, and the whole group goes: emulator and functions.
const WATCH: &str = r#"
trap : TERM
"$@" </dev/null &
cat >/dev/null
kill -TERM 0
for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 $! 2>/dev/null || break; sleep 0.1; done
kill -KILL 0
"#;

/// A running emulator.
#[derive(Debug)]
pub struct Emulator {
    watcher: Child,
    endpoint: String,
    log: PathBuf,
}

impl Emulator {
    /// Starts the emulator on a free port and waits until it answers. Its log stands in the run's folder.
    pub async fn start(run: &RunFolder) -> Result<Self> {
        let program = place::emulator_program("ministack");
        if !program.exists() {
            bail!("{} is missing; `make demo` and `make test` set it up", program.display());
        }
        let log = run.path().join("emulator.log");
        // Between looking for a free port and taking it somebody else may take it: then the next one.
        for _ in 0..5 {
            let mut emulator = Self::launch(&program, free_port()?, run, &log)?;
            if emulator.ready().await? {
                return Ok(emulator);
            }
        }
        bail!("the emulator does not start, see {}", log.display())
    }

    fn launch(program: &Path, port: u16, run: &RunFolder, log: &Path) -> Result<Self> {
        let endpoint = format!("http://127.0.0.1:{port}");
        let output = File::options().create(true).append(true).open(log)?;
        let temporary = run.make("tmp")?;
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(WATCH).arg("emulator").arg(program);
        place::local_credentials(&mut command);
        command
            .env("GATEWAY_PORT", port.to_string())
            .env("BIND_HOST", "127.0.0.1")
            .env("MINISTACK_REGION", aws::REGION)
            .env("MINISTACK_ACCOUNT_ID", aws::ACCOUNT)
            // The functions inherit it: without it they would look for the real AWS.
            .env("AWS_ENDPOINT_URL", &endpoint)
            .env("TMPDIR", &temporary)
            .env("S3_DATA_DIR", temporary.join("s3"))
            .env("STATE_DIR", temporary.join("state"))
            .env("LAMBDA_EXECUTOR", "local")
            // Otherwise every emulator wants the same port for it.
            .env("IOT_MTLS_ENABLED", "0")
            .env("LOG_LEVEL", "INFO")
            .env("PYTHONUNBUFFERED", "1")
            .current_dir(run.path())
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0);
        let watcher = command.spawn().context("cannot start the emulator")?;
        Ok(Self { watcher, endpoint, log: log.to_owned() })
    }

    /// Waits until the emulator answers; false = it ended.
    async fn ready(&mut self) -> Result<bool> {
        let aws = Aws::new(&self.endpoint);
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if let Ok(answer) = aws.get("/_ministack/ready").await
                && answer.status == 200
            {
                return Ok(true);
            }
            if self.ended()? {
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("the emulator did not answer within a minute, see {}", self.log.display())
    }

    /// Whether the emulator is gone. The watcher stays until its pipe closes, so the log has to tell.
    fn ended(&mut self) -> Result<bool> {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        Ok(self.watcher.try_wait()?.is_some() || log.contains("already in use"))
    }

    /// The emulator's address.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// A client for it.
    pub fn aws(&self) -> Aws {
        Aws::new(&self.endpoint)
    }

    /// Where it writes its log, the functions' output included.
    pub fn log(&self) -> &Path {
        &self.log
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // Closing the pipe ends the group; the wait makes sure that nothing is left when the starter goes on.
        drop(self.watcher.stdin.take());
        let _ = self.watcher.wait();
    }
}

/// A port that is free right now.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}
