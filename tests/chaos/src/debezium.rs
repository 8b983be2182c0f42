//! A real Debezium in front of the real push function. Engine, connector, snapshot and JSON are Debezium's own; the HTTP
//! sink of Debezium Server is in no package, so that `debezium.py` makes its body and this its signed request.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sync_bench::function::Function;
use sync_tests::{place, signature};

/// What a start with all that comes before the first batch may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running engine; killed when this is dropped.
pub struct Debezium {
    child: Child,
    answers: ChildStdin,
    batches: Receiver<String>,
}

impl Debezium {
    /// Starts it with the settings; its log goes to `debezium.log` in the folder.
    pub fn start(folder: &Path, settings: &[(&str, String)]) -> Result<Self> {
        let python = place::debezium_program("python");
        if !python.exists() {
            bail!("{} is missing; `make test` sets it up", python.display());
        }
        let mut text = String::new();
        for (name, value) in settings {
            writeln!(text, "{name}={value}")?;
        }
        let file = folder.join("debezium.properties");
        fs::write(&file, text)?;
        let log = File::options().create(true).append(true).open(folder.join("debezium.log"))?;
        let mut child = Command::new(python)
            .arg(place::root().join("tests/chaos/src/debezium.py"))
            .arg(file)
            // It writes a log of its own below where it stands.
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("Debezium does not start")?;
        let answers = child.stdin.take().context("no way to answer")?;
        let said = BufReader::new(child.stdout.take().context("no batches")?);
        let (sender, batches) = channel();
        std::thread::spawn(move || {
            for line in said.lines() {
                // The test is over, or the engine was killed in the middle of a line.
                let Ok(line) = line else { break };
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, answers, batches })
    }

    /// The next batch, a JSON array.
    pub fn batch(&mut self) -> Result<String> {
        match self.batches.recv_timeout(PATIENCE) {
            Ok(batch) => Ok(batch),
            Err(RecvTimeoutError::Timeout) => bail!("nothing comes from Debezium"),
            Err(RecvTimeoutError::Disconnected) => bail!("Debezium ended: {:?}", self.child.wait()?.code()),
        }
    }

    /// Says what became of the batch.
    pub fn answer(&mut self, status: u64) -> Result<()> {
        writeln!(self.answers, "{status}")?;
        Ok(self.answers.flush()?)
    }
}

impl Drop for Debezium {
    fn drop(&mut self) {
        // It is gone already, or it goes now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The push function, as the gateway in front of it would call it.
pub struct Push {
    function: Function,
    secret: String,
    sent: u64,
}

impl Push {
    /// Of a running function, with the secret that the source signs with.
    pub fn new(function: Function, secret: &str) -> Self {
        Self { function, secret: secret.to_owned(), sent: 0 }
    }

    /// Posts a body for the source `erp`: the status and the body of the answer.
    pub fn post(&mut self, body: &str) -> Result<(u64, String)> {
        self.sent += 1;
        let id = format!("msg_{}", self.sent);
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
        let event = json!({
            "rawPath": "/v1/sources/erp/changes",
            "headers": {
                "content-type": "application/json",
                "webhook-id": id,
                "webhook-timestamp": now.to_string(),
                "webhook-signature": signature::sign(&self.secret, &id, now, body.as_bytes())?,
            },
            "requestContext": { "http": { "method": "POST" } },
            "body": body,
            "isBase64Encoded": false,
        });
        let answer = self.function.invoke(event.to_string())?.answer;
        let answer: Value = serde_json::from_str(&answer).with_context(|| format!("no answer: {answer}"))?;
        let status = answer["statusCode"].as_u64().with_context(|| format!("no status: {answer}"))?;
        Ok((status, answer["body"].as_str().unwrap_or_default().to_owned()))
    }
}
