//! The emulator with the queue, tables, key and secret that a capture function works with; nothing consumes the queue, so
//! that every message that was ever handed off can be read in the end. For long runs there is a queue beside the emulator:
//! see [`Bed::proxy`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sync_bench::function::{Function, Launch};
use sync_bench::stub::Stub;
use sync_testkit::Dice;
use sync_testkit::proxy::Proxy;
use sync_tests::aws::{ACCESS_KEY, Aws, REGION, SECRET_KEY};
use sync_tests::emulator::Emulator;
use sync_tests::place::{self, RunFolder};

/// What an invocation may take.
const TIMEOUT: Duration = Duration::from_secs(50);

/// A running bed.
pub struct Bed {
    aws: Aws,
    environment: Vec<(String, String)>,
    changes: String,
    queue: Stub,
    run: RunFolder,
    // Last: it goes after everything that talks to it.
    _emulator: Emulator,
}

impl Bed {
    /// Makes everything; `secret` is what `datasync/source/pos` holds.
    pub async fn make(purpose: &str, secret: &str) -> Result<Self> {
        let run = RunFolder::new(purpose)?;
        let emulator = Emulator::start(&run).await?;
        let aws = emulator.aws();
        aws.put_secret("datasync/source/pos", secret).await?;
        let changes = fifo(&aws, "changes.fifo").await?;
        let dead_letters = fifo(&aws, "dead-letters.fifo").await?;
        let key = json!({ "KeySpec": "HMAC_256", "KeyUsage": "GENERATE_VERIFY_MAC" });
        let key = aws.kms("CreateKey", &key).await?["KeyMetadata"]["Arn"]
            .as_str()
            .context("no ARN of the key")?
            .to_owned();
        let table = json!({
            "TableName": "checkpoints",
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [{ "AttributeName": "pk", "AttributeType": "S" }],
            "KeySchema": [{ "AttributeName": "pk", "KeyType": "HASH" }],
        });
        aws.dynamodb("CreateTable", &table).await?;
        aws.events("CreateEventBus", &json!({ "Name": "failures" })).await?;
        let environment = [
            ("AWS_ENDPOINT_URL", aws.endpoint().to_owned()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_LAMBDA_FUNCTION_NAME", "capture-pull".to_owned()),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".to_owned()),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256".to_owned()),
            ("AWS_LAMBDA_LOG_GROUP_NAME", "chaos".to_owned()),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "chaos".to_owned()),
            ("SYNC_CONFIG_DIR", place::root().join("infra/layer/sync").display().to_string()),
            ("CHANGES_QUEUE_URL", changes.clone()),
            ("DEAD_LETTER_QUEUE_URL", dead_letters),
            ("CHECKPOINT_TABLE", "checkpoints".to_owned()),
            ("FAILURE_BUS", "failures".to_owned()),
            ("ID_KEY_ARN", key),
            ("ALLOW_LOOPBACK", "true".to_owned()),
            // For a function that reads a table's stream.
            ("SOURCE", "preferences".to_owned()),
            ("DEAD_LETTER_BUCKET", "dead-letters".to_owned()),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value)).to_vec();
        Ok(Self { aws, environment, changes, queue: Stub::start([])?, run, _emulator: emulator })
    }

    /// A way to AWS for one function. What it sends to queues goes to a stand-in that keeps it, all else to the emulator,
    /// whose own queue takes 450 batches a second when it is new, and 40 behind 10,000 messages, even if they were taken out.
    pub async fn proxy(&self) -> Result<Proxy> {
        let proxy = Proxy::start(self.aws.endpoint(), &mut Dice::of(1)).await?;
        proxy.route("sqs", &self.queue.url());
        Ok(proxy)
    }

    /// Sets a variable of the functions that are started from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// The folder of the run, with the logs.
    pub fn folder(&self) -> &Path {
        self.run.path()
    }

    /// Starts a function, with a failpoint or without.
    pub fn start(&self, name: &'static str, binary: PathBuf, failpoint: Option<&str>) -> Result<Function> {
        self.launch(name, binary, failpoint, None)
    }

    /// Starts a function that goes through a proxy.
    pub fn start_behind(
        &self,
        proxy: &Proxy,
        name: &'static str,
        binary: PathBuf,
        failpoint: Option<&str>,
    ) -> Result<Function> {
        self.launch(name, binary, failpoint, Some(proxy.url()))
    }

    fn launch(
        &self,
        name: &'static str,
        binary: PathBuf,
        failpoint: Option<&str>,
        endpoint: Option<String>,
    ) -> Result<Function> {
        let mut environment = self.environment.clone();
        environment.extend(failpoint.map(|place| ("FAILPOINT".to_owned(), place.to_owned())));
        // The last one of a name counts.
        environment.extend(endpoint.map(|endpoint| ("AWS_ENDPOINT_URL".to_owned(), endpoint)));
        let log = self.run.path().join(format!("{name}.log"));
        Function::start(&Launch { name, binary, environment, timeout: TIMEOUT, log })
    }

    /// A client for the emulator.
    pub fn aws(&self) -> &Aws {
        &self.aws
    }

    /// Every change that was handed off, in the order of the queue, as it is written: a number keeps its zeros.
    pub async fn changes(&self) -> Result<Vec<String>> {
        let held = self.aws.held().await?;
        let changes = held.iter().filter(|held| held.queue == "changes.fifo");
        Ok(changes.map(|held| held.body().to_owned()).collect())
    }

    /// Takes what was handed off through proxies since the last time.
    pub fn take_sent(&self) -> Vec<String> {
        self.queue.take_sent(&self.changes).into_iter().map(|entry| entry.body).collect()
    }

    /// How many messages stand in the dead-letter queue.
    pub async fn dead_letters(&self) -> Result<usize> {
        Ok(self.aws.held().await?.iter().filter(|held| held.queue == "dead-letters.fifo").count())
    }

    /// A row of the checkpoint table: a source's, a backfill's.
    pub async fn row(&self, row: &str) -> Result<Value> {
        let get =
            json!({ "TableName": "checkpoints", "Key": { "pk": { "S": row } }, "ConsistentRead": true });
        Ok(self.aws.dynamodb("GetItem", &get).await?["Item"].take())
    }

    /// Lets the time pass that a lease lasts, which a dead run has left behind.
    pub async fn end_lease(&self, row: &str) -> Result<()> {
        let update = json!({
            "TableName": "checkpoints",
            "Key": { "pk": { "S": row } },
            "UpdateExpression": "SET lease_until = :past",
            "ExpressionAttributeValues": { ":past": { "N": "0" } },
        });
        self.aws.dynamodb("UpdateItem", &update).await?;
        Ok(())
    }
}

async fn fifo(aws: &Aws, name: &str) -> Result<String> {
    let attributes = json!({
        "FifoQueue": "true",
        "DeduplicationScope": "messageGroup",
        "FifoThroughputLimit": "perMessageGroupId",
    });
    let made = aws.sqs("CreateQueue", &json!({ "QueueName": name, "Attributes": attributes })).await?;
    Ok(made["QueueUrl"].as_str().context("the queue has no URL")?.to_owned())
}
