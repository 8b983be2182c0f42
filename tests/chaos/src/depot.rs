//! The emulator with what one `deliver` works with: a target, its queue and dead-letter queue, ledger and tickets; and the
//! queues of a second target, which must notice nothing. Messages are handed to the function here, not by the emulator.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sync_bench::function::{Function, Launch};
use sync_testkit::Dice;
use sync_testkit::proxy::Proxy;
use sync_tests::aws::{ACCESS_KEY, ACCOUNT, Aws, Credentials, Held, REGION, SECRET_KEY, xml_texts};
use sync_tests::emulator::Emulator;
use sync_tests::place::RunFolder;
use sync_tests::target::{Auth, Target};

/// What an invocation may take.
const TIMEOUT: Duration = Duration::from_secs(50);
/// How long a message is hidden while the function has it.
const HIDDEN_S: u32 = 60;

/// A running depot.
pub struct Depot {
    /// The target.
    pub warehouse: Target,
    aws: Aws,
    environment: BTreeMap<&'static str, String>,
    urls: BTreeMap<&'static str, String>,
    launch: Launch,
    // Last: it goes after everything that talks to it.
    _emulator: Emulator,
}

/// What an operator may do: actions on the warehouse's dead-letter queue, on its queue, and on the ticket table.
#[derive(Debug, Clone, Copy)]
pub struct Grants {
    /// The role's name.
    pub role: &'static str,
    /// On the dead-letter queue.
    pub letters: &'static [&'static str],
    /// On the queues of both targets.
    pub queues: &'static [&'static str],
    /// On the ticket table.
    pub tickets: &'static [&'static str],
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    /// Its exit code; none if it was killed.
    pub code: Option<i32>,
    /// Standard output and error.
    pub text: String,
}

impl Depot {
    /// Makes everything; `deliver` is the function's binary.
    pub async fn make(purpose: &str, deliver: PathBuf) -> Result<Self> {
        Self::of(purpose, deliver, "").await
    }

    /// The same; `more` is what the target's file says of its endpoint besides, a line each.
    pub async fn of(purpose: &str, deliver: PathBuf, more: &str) -> Result<Self> {
        let run = RunFolder::new(purpose)?;
        let emulator = Emulator::start(&run).await?;
        let aws = emulator.aws();
        let auth = Auth::ApiKey { header: "x-api-key".to_owned(), key: "key-of-the-warehouse".to_owned() };
        let warehouse = Target::start("warehouse", auth).await?;
        aws.put_secret("datasync/target/warehouse", "key-of-the-warehouse").await?;
        let mut urls = BTreeMap::new();
        for (queue, dead) in [("warehouse", "warehouse-dead"), ("loyalty", "loyalty-dead")] {
            urls.insert(dead, fifo(&aws, dead, None).await?);
            urls.insert(queue, fifo(&aws, queue, Some(dead)).await?);
        }
        let key = json!({ "KeySpec": "HMAC_256", "KeyUsage": "GENERATE_VERIFY_MAC" });
        let key = aws.kms("CreateKey", &key).await?;
        let key = key["KeyMetadata"]["Arn"].as_str().context("no ARN of the key")?.to_owned();
        for name in ["ledger", "tickets"] {
            let table = json!({
                "TableName": name,
                "BillingMode": "PAY_PER_REQUEST",
                "AttributeDefinitions": [{ "AttributeName": "pk", "AttributeType": "S" }],
                "KeySchema": [{ "AttributeName": "pk", "KeyType": "HASH" }],
            });
            aws.dynamodb("CreateTable", &table).await?;
        }
        aws.events("CreateEventBus", &json!({ "Name": "failures" })).await?;
        let configuration = configure(&run, warehouse.port(), more)?;
        let environment = BTreeMap::from([
            ("AWS_ENDPOINT_URL", aws.endpoint().to_owned()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("AWS_LAMBDA_FUNCTION_NAME", "deliver".to_owned()),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".to_owned()),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256".to_owned()),
            ("AWS_LAMBDA_LOG_GROUP_NAME", "chaos".to_owned()),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "chaos".to_owned()),
            ("SYNC_CONFIG_DIR", configuration.display().to_string()),
            ("TARGET", "warehouse".to_owned()),
            ("QUEUE_URL", urls["warehouse"].clone()),
            ("DEAD_LETTER_QUEUE_URL", urls["warehouse-dead"].clone()),
            ("FAILURE_BUS", "failures".to_owned()),
            ("LEDGER_TABLE", "ledger".to_owned()),
            ("LEDGER_KEY_ARN", key),
            ("PROBE_RULE", "warehouse-probe".to_owned()),
            ("TICKET_TABLE", "tickets".to_owned()),
            ("ALLOW_LOOPBACK", "true".to_owned()),
        ]);
        let of_function = environment.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        let launch = Launch {
            name: "deliver",
            binary: deliver,
            environment: of_function.collect(),
            timeout: TIMEOUT,
            log: run.path().join("deliver.log"),
        };
        Ok(Self { warehouse, aws, environment, urls, launch, _emulator: emulator })
    }

    /// Lets the commands that are run from now on go through a proxy, not the function.
    pub async fn proxy(&mut self, dice: &mut Dice) -> Result<Proxy> {
        let proxy = Proxy::start(self.aws.endpoint(), dice).await?;
        self.environment.insert("AWS_ENDPOINT_URL", proxy.url());
        Ok(proxy)
    }

    /// Makes the target a DynamoDB table, for the functions that are started from now on.
    pub async fn store(&self, table: &str) -> Result<()> {
        let made = json!({
            "TableName": table,
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [{ "AttributeName": "customer_id", "AttributeType": "N" }],
            "KeySchema": [{ "AttributeName": "customer_id", "KeyType": "HASH" }],
        });
        self.aws.dynamodb("CreateTable", &made).await?;
        let target = format!(
            "target: warehouse\nsubscribe: [{{ model: customer }}]\nendpoint: {{ dynamodb: {{ table: {table}, key: [customer_id] }} }}\n"
        );
        let folder = self.environment.get("SYNC_CONFIG_DIR").context("no configuration")?;
        fs::write(Path::new(folder).join("targets/warehouse.yaml"), target)?;
        Ok(())
    }

    /// The items of a table.
    pub async fn items(&self, table: &str) -> Result<Vec<Value>> {
        self.aws.scan(table).await
    }

    /// Empties the ledger, as a restore of an old backup would in the worst case.
    pub async fn forget(&self) -> Result<()> {
        for row in self.aws.scan("ledger").await? {
            self.aws
                .dynamodb("DeleteItem", &json!({ "TableName": "ledger", "Key": { "pk": row["pk"] } }))
                .await?;
        }
        Ok(())
    }

    /// The URL of a queue.
    pub fn url(&self, queue: &str) -> &str {
        self.urls.get(queue).map_or("", String::as_str)
    }

    /// Sends events (id, group, body) to a queue, with the message attributes of the topic.
    pub async fn send(&self, queue: &str, events: &[(String, String, String)]) -> Result<()> {
        for some in events.chunks(10) {
            let text = |value: &str| json!({ "DataType": "String", "StringValue": value });
            let entries = some.iter().enumerate().map(|(index, (id, group, body))| {
                json!({
                    "Id": index.to_string(),
                    "MessageBody": body,
                    "MessageGroupId": group,
                    "MessageDeduplicationId": format!("first-{id}"),
                    "MessageAttributes": { "model": text("customer"), "type": text("customer.updated") },
                })
            });
            let call = json!({ "QueueUrl": self.url(queue), "Entries": entries.collect::<Vec<_>>() });
            let answer = self.aws.sqs("SendMessageBatch", &call).await?;
            if answer["Successful"].as_array().map(Vec::len) != Some(some.len()) {
                bail!("the queue did not take all");
            }
        }
        Ok(())
    }

    /// Starts the function and hands it what stands in its queue, ten at a time, until nothing does.
    pub async fn drain(&self) -> Result<()> {
        // A new one each time: one that waits for an event for a minute is sent away.
        let function = Function::start(&self.launch)?;
        loop {
            let call = json!({
                "QueueUrl": self.url("warehouse"),
                "MaxNumberOfMessages": 10,
                "VisibilityTimeout": HIDDEN_S,
                "AttributeNames": ["All"],
                "MessageAttributeNames": ["All"],
            });
            let answer = self.aws.sqs("ReceiveMessage", &call).await?;
            let messages = answer["Messages"].as_array().cloned().unwrap_or_default();
            if messages.is_empty() {
                return Ok(());
            }
            let records: Vec<Value> =
                messages.iter().map(|message| record(message, "warehouse.fifo")).collect();
            let answer = function.invoke(json!({ "Records": records }).to_string())?.answer;
            let answer: Value = serde_json::from_str(&answer).context("the function answers")?;
            if answer["batchItemFailures"] != json!([]) {
                bail!("the function does not get rid of its messages: {answer}");
            }
            let receipt = |(index, message): (usize, &Value)| json!({ "Id": index.to_string(), "ReceiptHandle": message["ReceiptHandle"] });
            let entries: Vec<Value> = messages.iter().enumerate().map(receipt).collect();
            let call = json!({ "QueueUrl": self.url("warehouse"), "Entries": entries });
            self.aws.sqs("DeleteMessageBatch", &call).await?;
        }
    }

    /// What the function wrote of each record since it was asked last: event id and outcome, in order.
    pub fn outcomes(&self) -> Result<Vec<(String, String)>> {
        let log = &self.launch.log;
        let text = fs::read_to_string(log)?;
        fs::write(log, "")?;
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let outcome = |line: Value| {
            let text = |name: &str| line[name].as_str().map(str::to_owned);
            Some((text("event.id")?, text("outcome")?))
        };
        Ok(lines.filter_map(outcome).collect())
    }

    /// What stands in a queue, visible or not.
    pub async fn held(&self, queue: &str) -> Result<Vec<Held>> {
        let name = format!("{queue}.fifo");
        Ok(self.aws.held().await?.into_iter().filter(|held| held.queue == name).collect())
    }

    /// How many messages of a queue are hidden.
    pub async fn hidden(&self, queue: &str) -> Result<u64> {
        const HIDDEN: &str = "ApproximateNumberOfMessagesNotVisible";
        let call = json!({ "QueueUrl": self.url(queue), "AttributeNames": [HIDDEN] });
        let answer = self.aws.sqs("GetQueueAttributes", &call).await?;
        answer["Attributes"][HIDDEN].as_str().and_then(|text| text.parse().ok()).context("no such count")
    }

    /// The rows of the ticket table.
    pub async fn tickets(&self) -> Result<Vec<Value>> {
        self.aws.scan("tickets").await
    }

    /// Makes a role and takes it.
    pub async fn operator(&self, grants: Grants) -> Result<Credentials> {
        let trust = json!({ "Version": "2012-10-17", "Statement": [
            { "Effect": "Allow", "Principal": { "AWS": format!("arn:aws:iam::{ACCOUNT}:root") }, "Action": "sts:AssumeRole" },
        ] });
        let table = format!("arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/tickets");
        let statements: Vec<Value> = [
            (grants.letters, vec![arn("warehouse-dead")]),
            (grants.queues, vec![arn("warehouse"), arn("loyalty")]),
            (grants.tickets, vec![table]),
        ]
        .into_iter()
        .filter(|(actions, _)| !actions.is_empty())
        .map(|(actions, on)| {
            // The emulator asks for a permission of its own for a batch call.
            let batches = actions.iter().map(|action| format!("{action}Batch"));
            let actions: Vec<String> =
                actions.iter().map(|action| (*action).to_owned()).chain(batches).collect();
            json!({ "Effect": "Allow", "Action": actions, "Resource": on })
        })
        .collect();
        let policy = json!({ "Version": "2012-10-17", "Statement": statements }).to_string();
        let (trust, version) = (trust.to_string(), ("Version", "2010-05-08"));
        let create = [
            ("Action", "CreateRole"),
            version,
            ("RoleName", grants.role),
            ("AssumeRolePolicyDocument", &trust),
        ];
        self.aws.query("iam", &create).await?;
        let permit = [
            ("Action", "PutRolePolicy"),
            version,
            ("RoleName", grants.role),
            ("PolicyName", "operator"),
            ("PolicyDocument", &policy),
        ];
        self.aws.query("iam", &permit).await?;
        let role = format!("arn:aws:iam::{ACCOUNT}:role/{}", grants.role);
        let assume = [
            ("Action", "AssumeRole"),
            ("Version", "2011-06-15"),
            ("RoleArn", role.as_str()),
            ("RoleSessionName", "operator"),
        ];
        let answer = self.aws.query("sts", &assume).await?;
        let text = |element: &str| {
            xml_texts(&answer, element).into_iter().next().context("the answer lacks credentials")
        };
        Ok(Credentials {
            access_key: text("AccessKeyId")?,
            secret_key: text("SecretAccessKey")?,
            session_token: Some(text("SessionToken")?),
        })
    }

    /// Runs `datasync dead-letters …` as somebody; where things are, it reads from the environment.
    pub fn dead_letters(&self, program: &Path, who: &Credentials, words: &[&str]) -> Result<Said> {
        let mut command = Command::new(program);
        command.env_clear().envs(&self.environment).current_dir(sync_tests::place::root());
        command.env("AWS_ACCESS_KEY_ID", &who.access_key).env("AWS_SECRET_ACCESS_KEY", &who.secret_key);
        command.envs(who.session_token.iter().map(|token| ("AWS_SESSION_TOKEN", token)));
        command.arg("dead-letters").args(words).args(["--target", "warehouse"]);
        let output = command.output().with_context(|| format!("cannot run {}", program.display()))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Said { code: output.status.code(), text: text(&output.stdout) + &text(&output.stderr) })
    }
}

fn arn(queue: &str) -> String {
    format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}.fifo")
}

async fn fifo(aws: &Aws, name: &str, dead: Option<&str>) -> Result<String> {
    let mut attributes = json!({
        "FifoQueue": "true",
        "DeduplicationScope": "messageGroup",
        "FifoThroughputLimit": "perMessageGroupId",
    });
    if let Some(dead) = dead {
        let policy = json!({ "deadLetterTargetArn": arn(dead), "maxReceiveCount": 1000 });
        attributes["RedrivePolicy"] = policy.to_string().into();
    }
    let queue = json!({ "QueueName": format!("{name}.fifo"), "Attributes": attributes });
    let made = aws.sqs("CreateQueue", &queue).await?;
    Ok(made["QueueUrl"].as_str().context("the queue has no URL")?.to_owned())
}

fn configure(run: &RunFolder, port: u16, more: &str) -> Result<PathBuf> {
    let folder = run.make("sync")?;
    for kind in ["models", "sources", "targets"] {
        fs::create_dir_all(folder.join(kind))?;
    }
    let target = format!(
        "target: warehouse\nsubscribe: [{{ model: customer }}]\nendpoint:\n  url: \"http://127.0.0.1:{port}/ingest\"\n  \
         auth: {{ api_key: {{ header: x-api-key, secret: datasync/target/warehouse }} }}\n{more}"
    );
    fs::write(folder.join("targets/warehouse.yaml"), target)?;
    Ok(folder)
}

/// A message that was received from a queue of this name, as Lambda hands it over.
pub fn record(message: &Value, queue: &str) -> Value {
    let attributes = message["MessageAttributes"].as_object().cloned().unwrap_or_default();
    let attribute = |(name, value): (String, Value)| {
        let value = json!({ "stringValue": value["StringValue"], "stringListValues": [], "binaryListValues": [], "dataType": value["DataType"] });
        (name, value)
    };
    json!({
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message["Attributes"],
        "messageAttributes": attributes.into_iter().map(attribute).collect::<serde_json::Map<_, _>>(),
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}"),
        "awsRegion": REGION,
    })
}
