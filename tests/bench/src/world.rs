//! What surrounds the functions: configuration, AWS, the outside, and the environment that the template would set.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::artifacts::Binaries;
use crate::function::{Function, Launch};
use crate::outside::Outside;
use crate::stub::Stub;
use crate::workload::SECRET;

/// The Changes queue.
pub const CHANGES: &str = "https://sqs.eu-central-1.amazonaws.com/123456789012/datasync-changes.fifo";
/// The Enrichment queue.
pub const ENRICHMENT: &str = "https://sqs.eu-central-1.amazonaws.com/123456789012/datasync-enrichment.fifo";

const TOPIC: &str = "arn:aws:sns:eu-central-1:123456789012:datasync-events.fifo";
const DEAD_LETTERS: &str = "https://sqs.eu-central-1.amazonaws.com/123456789012/datasync-dead-letters.fifo";

const SOURCE: &str = "source: crm
push: { secret: datasync/source/crm, models: [customer], version: time }
";

/// A running world.
pub struct World {
    /// AWS.
    pub stub: Stub,
    /// The target and the service that is asked.
    pub outside: Outside,
    /// Whether every customer is looked up.
    pub enriched: bool,
    binaries: Binaries,
    folder: PathBuf,
}

impl World {
    /// Makes a world with one source, one model and one target; with `enriched`, every customer is looked up.
    pub fn new(binaries: &Binaries, name: &str, enriched: bool) -> Result<Self> {
        Self::with_slow_target(binaries, name, enriched, Duration::ZERO)
    }

    /// The same with a target that takes `delay` for each record.
    pub fn with_slow_target(
        binaries: &Binaries,
        name: &str,
        enriched: bool,
        delay: Duration,
    ) -> Result<Self> {
        let secret = |name: &str| (name.to_owned(), SECRET.to_owned());
        let stub = Stub::start([secret("datasync/source/crm"), secret("datasync/target/loyalty")])?;
        let outside = Outside::start(delay)?;
        let folder = binaries.folder().join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        let at = outside.address();
        let mut model = crate::MODEL.to_owned();
        if enriched {
            model.push_str(&format!(
                "  segment: {{ class: internal, type: string }}
enrich:
  when: {{ tier: {{ in: [gold, platinum] }} }}
  http: {{ url: \"http://{at}/customers/{{customer_id}}\", timeout: 3s, cache: 60s, set: {{ segment: segment }} }}
"
            ));
        }
        let target = format!(
            "target: loyalty
subscribe: [{{ model: customer }}]
endpoint: {{ url: \"http://{at}/hooks\", auth: {{ standard_webhooks: datasync/target/loyalty }}, timeout: 10s }}
"
        );
        for (path, text) in
            [("models/customer", model), ("sources/crm", SOURCE.to_owned()), ("targets/loyalty", target)]
        {
            let path = folder.join("sync").join(format!("{path}.yaml"));
            fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
            fs::write(path, text)?;
        }
        Ok(Self { stub, outside, enriched, binaries: binaries.clone(), folder })
    }

    /// How to start a function in this world.
    pub fn launch(&self, name: &'static str) -> Result<Launch> {
        let key = |name: &str| format!("arn:aws:kms:eu-central-1:123456789012:key/{name}");
        let text = str::to_owned;
        let (timeout, own): (u64, Vec<(&str, String)>) = match name {
            "capture-push" => (
                15,
                vec![
                    ("CHANGES_QUEUE_URL", text(CHANGES)),
                    ("RECEIPT_TABLE", text("receipts")),
                    ("ID_KEY_ARN", key("id")),
                ],
            ),
            "transform" | "enrich" => (
                30,
                vec![
                    ("QUEUE_URL", text(CHANGES)),
                    ("EVENTS_TOPIC_ARN", text(TOPIC)),
                    ("ENRICHMENT_QUEUE_URL", text(ENRICHMENT)),
                    ("DEAD_LETTER_QUEUE_URL", text(DEAD_LETTERS)),
                    ("FAILURE_BUS", text("failures")),
                    ("KEYS_TABLE", text("keys")),
                    ("VALUE_KEY_ARN", key("value")),
                    ("TOKEN_KEY_ARN", key("token")),
                    ("TOKEN_KEY_VERSION", text("1")),
                    ("MAX_RECEIVES", text("5")),
                    ("ALLOW_LOOPBACK", text("true")),
                ],
            ),
            "deliver" => (
                60,
                vec![
                    ("TARGET", text("loyalty")),
                    (
                        "QUEUE_URL",
                        text("https://sqs.eu-central-1.amazonaws.com/123456789012/datasync-loyalty.fifo"),
                    ),
                    ("DEAD_LETTER_QUEUE_URL", text(DEAD_LETTERS)),
                    ("FAILURE_BUS", text("failures")),
                    ("LEDGER_TABLE", text("ledger")),
                    ("LEDGER_KEY_ARN", key("ledger")),
                    ("PROBE_RULE", text("probe")),
                    ("MAX_RECEIVES", text("1000")),
                    ("ALLOW_LOOPBACK", text("true")),
                ],
            ),
            _ => (
                30,
                vec![
                    ("TICKET_TABLE", text("tickets")),
                    ("ALERT_TOPIC_ARN", text("arn:aws:sns:eu-central-1:123456789012:datasync-alerts")),
                    ("TICKET_DAYS", text("90")),
                ],
            ),
        };
        // What Lambda itself sets, and what the template sets for all.
        let shared = [
            ("AWS_LAMBDA_FUNCTION_NAME", text(name)),
            ("AWS_LAMBDA_FUNCTION_VERSION", text("$LATEST")),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", text("256")),
            ("AWS_LAMBDA_LOG_GROUP_NAME", format!("/datasync/bench/{name}")),
            ("AWS_LAMBDA_LOG_STREAM_NAME", text("bench")),
            ("AWS_REGION", text("eu-central-1")),
            ("AWS_ACCESS_KEY_ID", text("bench")),
            ("AWS_SECRET_ACCESS_KEY", text("bench")),
            ("AWS_SESSION_TOKEN", text("bench")),
            ("AWS_ENDPOINT_URL", self.stub.url()),
            ("SYNC_CONFIG_DIR", self.folder.join("sync").display().to_string()),
            ("LOG_LEVEL", text("info")),
        ];
        Ok(Launch {
            name,
            binary: self.binaries.of(name)?.to_owned(),
            environment: shared
                .into_iter()
                .chain(own)
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            timeout: Duration::from_secs(timeout),
            log: self.folder.join(format!("{name}.log")),
        })
    }

    /// Starts a function.
    pub fn start(&self, name: &'static str) -> Result<Function> {
        let launch = self.launch(name)?;
        let function = Function::start(&launch)?;
        function.start_time().with_context(|| format!("{name}: see {}", launch.log.display()))?;
        Ok(function)
    }
}
