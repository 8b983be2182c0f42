//! MiniStack, the stand-in for AWS, with the functions that it runs.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::aws::{self, Aws};
use crate::group::Group;
use crate::place::{self, RunFolder};

/// A running emulator.
#[derive(Debug)]
pub struct Emulator {
    group: Group,
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
        let temporary = run.make("tmp")?;
        let mut command = Command::new(program);
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
            // Every call is held against the roles in the template.
            .env("AUTH", "true")
            .env("LOG_LEVEL", "INFO")
            .env("PYTHONUNBUFFERED", "1")
            .current_dir(run.path());
        let group = Group::start(&command, log).context("cannot start the emulator")?;
        Ok(Self { group, endpoint, log: log.to_owned() })
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
            if self.group.ended()?.is_some() {
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("the emulator did not answer within a minute, see {}", self.log.display())
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

/// A port that is free right now.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}
