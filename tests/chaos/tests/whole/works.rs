//! The installation: two emulators, the queues, the topic, tables, keys, secrets and the configuration, as the template would
//! make them; times are shorter, in the same order (a function's time ends before what it was handed shows again).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sync_chaos::Dice;
use sync_testkit::proxy::{Fault, Pick, Proxy, Rule};
use sync_tests::aws::{ACCESS_KEY, ACCOUNT, Aws, REGION, SECRET_KEY, xml_texts};
use sync_tests::emulator::Emulator;
use sync_tests::place::RunFolder;

use crate::desk::Desk;
use crate::sources::{MODELS, PULLED, PUSHED};

/// What an invocation may take.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(12);
/// How long a message is hidden that a function has.
const VISIBILITY_S: u64 = 15;
/// What a target may take for one request.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// A target: its name, whether it compares versions, and its models.
pub(crate) type TargetShape = (&'static str, bool, &'static [&'static str]);

/// Two plain targets, one of which did not subscribe to all, and a versioned one.
pub(crate) const TARGETS: [TargetShape; 3] = [
    ("plain", false, &MODELS),
    ("picky", false, &["by_log", "by_xid", "looked_up"]),
    ("versioned", true, &MODELS),
];

/// The secret that the sources sign with.
pub(crate) const PUSH_SECRET: &str = "whsec_bm90aGluZyB0aGF0IGFueWJvZHkgbmVlZHMgdG8ga25vdw==";
/// The secret that deliveries to the plain target are signed with.
pub(crate) const TARGET_SECRET: &str = "whsec_YW5vdGhlciBvbmUsIGtub3duIHRvIG5vYm9keSBhdCBhbGwuLg==";

/// The queue of what failed, for the function that writes tickets.
pub(crate) const FAILURES: &str = "failures";
/// What kind of topic the events' one is.
const EVENTS: [(&str, &str); 3] =
    [("FifoTopic", "true"), ("FifoThroughputScope", "MessageGroup"), ("ContentBasedDeduplication", "false")];

/// A queue by its name, with its dead-letter queue.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) dead: String,
}

pub(crate) struct Works {
    /// For queues and the topic.
    pub(crate) front: Aws,
    /// For tables, keys and secrets.
    pub(crate) back: Aws,
    pub(crate) queues: BTreeMap<&'static str, Queue>,
    pub(crate) desk: Desk,
    /// What every function takes for AWS.
    pub(crate) proxy: Proxy,
    pub(crate) run: RunFolder,
    configuration: PathBuf,
    topic: String,
    alerts: String,
    keys: BTreeMap<&'static str, String>,
    // Last: they go after everything that talks to them.
    _emulators: [Emulator; 2],
}

impl Works {
    /// Makes everything; the targets and the look-up are reached at these ports.
    pub(crate) async fn make(
        url: &str,
        ports: &BTreeMap<&'static str, u16>,
        dice: &mut Dice,
    ) -> Result<Self> {
        let run = RunFolder::new("whole")?;
        let folders = [RunFolder::new("whole-front")?, RunFolder::new("whole-back")?];
        let emulators = [Emulator::start(&folders[0]).await?, Emulator::start(&folders[1]).await?];
        let (front, back) = (emulators[0].aws(), emulators[1].aws());

        let mut queues = BTreeMap::new();
        for (name, receives) in
            [("changes", 10), ("enrichment", 10)].into_iter().chain(TARGETS.map(|(name, ..)| (name, 1_000)))
        {
            queues.insert(name, queue(&front, name, receives).await?);
        }
        let (topic, alerts) =
            (topic(&front, "events.fifo", &EVENTS).await?, topic(&front, "alerts", &[]).await?);
        for (name, _, models) in TARGETS {
            subscribe(&front, &topic, name, models).await?;
        }
        front.events("CreateEventBus", &json!({ "Name": "failures" })).await?;
        queues.insert(FAILURES, failures(&front).await?);
        for name in ["checkpoints", "receipts", "keys", "tickets", "ledger"] {
            let table = json!({
                "TableName": name,
                "BillingMode": "PAY_PER_REQUEST",
                "AttributeDefinitions": [{ "AttributeName": "pk", "AttributeType": "S" }],
                "KeySchema": [{ "AttributeName": "pk", "KeyType": "HASH" }],
            });
            back.dynamodb("CreateTable", &table).await?;
        }
        let mut keys = BTreeMap::new();
        for (name, spec, usage) in [
            ("ID_KEY_ARN", "HMAC_256", "GENERATE_VERIFY_MAC"),
            ("TOKEN_KEY_ARN", "HMAC_256", "GENERATE_VERIFY_MAC"),
            ("LEDGER_KEY_ARN", "HMAC_256", "GENERATE_VERIFY_MAC"),
            ("VALUE_KEY_ARN", "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT"),
        ] {
            let key = back.kms("CreateKey", &json!({ "KeySpec": spec, "KeyUsage": usage })).await?;
            let arn = key["KeyMetadata"]["Arn"].as_str().context("no ARN of the key")?.to_owned();
            keys.insert(name, arn);
        }
        for (name, secret) in
            [("source/database", url), ("source/push", PUSH_SECRET), ("target/plain", TARGET_SECRET)]
        {
            back.put_secret(&format!("datasync/{name}"), secret).await?;
        }
        let configuration = configure(&run, ports)?;
        let desk = Desk::open(front.endpoint()).await?;
        let proxy = Proxy::start(&desk.url(), dice).await?;
        for service in ["dynamodb", "kms", "secretsmanager"] {
            proxy.route(service, back.endpoint());
        }
        Ok(Self {
            front,
            back,
            queues,
            desk,
            proxy,
            run,
            configuration,
            topic,
            alerts,
            keys,
            _emulators: emulators,
        })
    }

    /// Breaks calls of AWS from now on.
    pub(crate) fn disturb(&self) {
        let batches = "SendMessageBatch|PublishBatch|PutEvents|BatchGetItem|ChangeMessageVisibilityBatch";
        let writes = "SendMessageBatch|PublishBatch|PutItem|UpdateItem";
        for rule in [
            Rule::on("*", batches, Fault::Fail(Pick::Any)).chance(0.03),
            Rule::on("*", writes, Fault::Lose).chance(0.015),
            Rule::on("*", writes, Fault::Twice).chance(0.01),
            Rule::on("*", "SendMessageBatch|PublishBatch", Fault::Overtaken(1)).chance(0.005),
            Rule::on("*", "*", Fault::Throttle).chance(0.01),
            Rule::on("*", "*", Fault::Down).chance(0.003),
            Rule::on("*", "*", Fault::Cut).chance(0.005),
        ] {
            self.proxy.add(rule);
        }
    }

    /// Where the configuration stands.
    pub(crate) fn configuration(&self) -> &Path {
        &self.configuration
    }

    pub(crate) fn queue(&self, name: &str) -> Result<&Queue> {
        self.queues.get(name).with_context(|| format!("there is no queue {name}"))
    }

    /// The environment of a function that works a queue; of `deliver` the target's.
    pub(crate) fn environment(&self, function: &str, queue: &str) -> Result<Vec<(String, String)>> {
        let own = self.queue(queue)?;
        let changes = &self.queue("changes")?.url;
        let mut environment: Vec<(&str, String)> = vec![
            ("AWS_ENDPOINT_URL", self.proxy.url()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("AWS_LAMBDA_FUNCTION_NAME", function.to_owned()),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".to_owned()),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256".to_owned()),
            ("AWS_LAMBDA_LOG_GROUP_NAME", "chaos".to_owned()),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "chaos".to_owned()),
            ("SYNC_CONFIG_DIR", self.configuration.display().to_string()),
            ("CHANGES_QUEUE_URL", changes.clone()),
            ("ENRICHMENT_QUEUE_URL", self.queue("enrichment")?.url.clone()),
            ("EVENTS_TOPIC_ARN", self.topic.clone()),
            ("QUEUE_URL", own.url.clone()),
            ("DEAD_LETTER_QUEUE_URL", own.dead.clone()),
            ("CHECKPOINT_TABLE", "checkpoints".to_owned()),
            ("RECEIPT_TABLE", "receipts".to_owned()),
            ("KEYS_TABLE", "keys".to_owned()),
            ("LEDGER_TABLE", "ledger".to_owned()),
            ("FAILURE_BUS", "failures".to_owned()),
            ("TICKET_TABLE", "tickets".to_owned()),
            ("ALERT_TOPIC_ARN", self.alerts.clone()),
            ("TARGET", queue.to_owned()),
            ("PROBE_RULE", format!("{queue}-probe")),
            ("ALLOW_LOOPBACK", "true".to_owned()),
            ("MAX_RECEIVES", if function == "deliver" { "1000" } else { "8" }.to_owned()),
        ];
        environment.extend(self.keys.iter().map(|(name, arn)| (*name, arn.clone())));
        Ok(environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// Lets the time pass that a lease lasts, which a dead run has left behind.
    pub(crate) async fn end_lease(&self, source: &str) -> Result<()> {
        let update = json!({
            "TableName": "checkpoints",
            "Key": { "pk": { "S": source } },
            "UpdateExpression": "SET lease_until = :past",
            "ExpressionAttributeValues": { ":past": { "N": "0" } },
        });
        self.back.dynamodb("UpdateItem", &update).await?;
        Ok(())
    }

    /// Lets the time pass that lies between two probes of a target, if it is left alone now.
    pub(crate) async fn end_interval(&self, target: &str) -> Result<()> {
        let update = json!({
            "TableName": "ledger",
            "Key": { "pk": { "S": format!("target#{target}") } },
            "UpdateExpression": "SET next_probe = :past",
            "ConditionExpression": "attribute_exists(next_probe)",
            "ExpressionAttributeValues": { ":past": { "N": "0" } },
        });
        match self.back.dynamodb("UpdateItem", &update).await {
            Err(error) if !error.to_string().contains("ConditionalCheckFailed") => Err(error),
            _ => Ok(()),
        }
    }

    /// The events of each target that have a ticket, and how many tickets there are of the stages before the targets.
    pub(crate) async fn tickets(&self) -> Result<(BTreeSet<(String, String)>, usize)> {
        let (mut of_targets, mut before) = (BTreeSet::new(), 0);
        for item in self.back.scan("tickets").await? {
            let text = |name: &str| item[name]["S"].as_str().map(str::to_owned);
            match (text("stage").as_deref(), text("target"), text("event_id")) {
                (Some("deliver"), Some(target), Some(event)) => {
                    of_targets.insert((target, event));
                }
                (Some("transform" | "enrich"), ..) => before += 1,
                _ => {}
            }
        }
        Ok((of_targets, before))
    }

    /// How many messages stand in a queue, visible or not.
    pub(crate) async fn depth(&self, queue: &Queue) -> Result<u64> {
        const COUNTS: [&str; 2] = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"];
        let call = json!({ "QueueUrl": queue.url, "AttributeNames": COUNTS });
        let answer = self.front.sqs("GetQueueAttributes", &call).await?;
        let count = |name: &str| {
            let text = answer["Attributes"][name].as_str();
            text.and_then(|text| text.parse::<u64>().ok()).context("the queue does not count")
        };
        Ok(count(COUNTS[0])? + count(COUNTS[1])?)
    }
}

fn arn(queue: &str) -> String {
    format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}.fifo")
}

async fn queue(aws: &Aws, name: &str, receives: u32) -> Result<Queue> {
    let dead = fifo(aws, &format!("{name}-dead"), &json!({})).await?;
    let policy = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": { "Service": "sns.amazonaws.com" }, "Action": "sqs:SendMessage", "Resource": arn(name),
    }] });
    let redrive = json!({ "deadLetterTargetArn": arn(&format!("{name}-dead")), "maxReceiveCount": receives });
    let attributes = json!({
        "VisibilityTimeout": VISIBILITY_S.to_string(),
        "RedrivePolicy": redrive.to_string(),
        "Policy": policy.to_string(),
    });
    Ok(Queue { name: name.to_owned(), url: fifo(aws, name, &attributes).await?, dead })
}

async fn fifo(aws: &Aws, name: &str, more: &Value) -> Result<String> {
    let mut attributes = json!({
        "FifoQueue": "true",
        "DeduplicationScope": "messageGroup",
        "FifoThroughputLimit": "perMessageGroupId",
    });
    for (attribute, value) in more.as_object().into_iter().flatten() {
        attributes[attribute] = value.clone();
    }
    let queue = json!({ "QueueName": format!("{name}.fifo"), "Attributes": attributes });
    let made = aws.sqs("CreateQueue", &queue).await?;
    Ok(made["QueueUrl"].as_str().context("the queue has no URL")?.to_owned())
}

/// The queue that the failures' rule sends to: here their events wait for the function that EventBridge invokes by itself.
async fn failures(aws: &Aws) -> Result<Queue> {
    let attributes = json!({ "VisibilityTimeout": VISIBILITY_S.to_string() });
    let made = aws.sqs("CreateQueue", &json!({ "QueueName": FAILURES, "Attributes": attributes })).await?;
    let rule = json!({ "Name": "record-failed", "EventBusName": "failures", "EventPattern": r#"{"source":["datasync"]}"# });
    aws.events("PutRule", &rule).await?;
    let arn = format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{FAILURES}");
    let targets = json!([{ "Id": "tickets", "Arn": arn }]);
    let call = json!({ "Rule": "record-failed", "EventBusName": "failures", "Targets": targets });
    aws.events("PutTargets", &call).await?;
    let url = made["QueueUrl"].as_str().context("the queue has no URL")?.to_owned();
    Ok(Queue { name: FAILURES.to_owned(), url, dead: String::new() })
}

async fn topic(aws: &Aws, name: &str, attributes: &[(&str, &str)]) -> Result<String> {
    let mut call = vec![("Action", "CreateTopic"), ("Version", "2010-03-31"), ("Name", name)];
    let named: Vec<_> = (1..=attributes.len())
        .map(|n| (format!("Attributes.entry.{n}.key"), format!("Attributes.entry.{n}.value")))
        .collect();
    for ((key, value), (name, text)) in named.iter().zip(attributes) {
        call.push((key, name));
        call.push((value, text));
    }
    let answer = aws.query("sns", &call).await?;
    xml_texts(&answer, "TopicArn").into_iter().next().context("the topic has no ARN")
}

async fn subscribe(aws: &Aws, topic: &str, queue: &str, models: &[&str]) -> Result<()> {
    let (endpoint, filter) = (arn(queue), json!({ "model": models }).to_string());
    let call = [
        ("Action", "Subscribe"),
        ("Version", "2010-03-31"),
        ("TopicArn", topic),
        ("Protocol", "sqs"),
        ("Endpoint", &endpoint),
        ("Attributes.entry.1.key", "RawMessageDelivery"),
        ("Attributes.entry.1.value", "true"),
        ("Attributes.entry.2.key", "FilterPolicy"),
        ("Attributes.entry.2.value", &filter),
    ];
    aws.query("sns", &call).await.map(drop)
}

/// Writes models, sources and targets.
fn configure(run: &RunFolder, ports: &BTreeMap<&'static str, u16>) -> Result<PathBuf> {
    let folder = run.make("sync")?;
    let port = |name: &str| ports.get(name).copied().with_context(|| format!("nobody serves {name}"));
    let write = |kind: &str, name: &str, text: String| {
        let folder = folder.join(kind);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(format!("{name}.yaml")), text)
    };
    for model in MODELS {
        let mut text = format!(
            "model: {model}\nkey: [id]\nattributes:\n  id: {{ class: identifier, type: integer }}\n  \
             mark: {{ class: internal, type: integer }}\n  \
             email: {{ class: personal, type: string, protect: tokenize }}\n  \
             note: {{ class: personal, type: string, protect: encrypt }}\n"
        );
        if model == "looked_up" {
            text += "  segment: { class: internal, type: string }\n";
            text += &format!(
                "enrich:\n  when: {{ mark: {{ \">\": 0 }} }}\n  http:\n    url: \"http://127.0.0.1:{}/customers/{{id}}\"\n    \
                 timeout: 2s\n    set: {{ segment: segment }}\n  absent: null\n",
                port("lookup")?
            );
        }
        write("models", model, text)?;
    }
    for (source, model, mode, reading) in PULLED {
        let text = format!(
            "source: {source}\npostgres:\n  url_secret: datasync/source/database\n  mode: {mode}\n  poll: 100ms\n  \
             tables: {{ public.{model}: {{ model: {model}{reading} }} }}\n"
        );
        write("sources", source, text)?;
    }
    for (source, model) in PUSHED {
        let push = format!("{{ secret: datasync/source/push, models: [{model}], version: integer }}");
        write("sources", source, format!("source: {source}\npush: {push}\n"))?;
    }
    for (name, compares, models) in TARGETS {
        let subscribe: Vec<_> = models.iter().map(|model| format!("{{ model: {model} }}")).collect();
        let auth = if name == "plain" { "{ standard_webhooks: datasync/target/plain }" } else { "none" };
        let statuses = if compares { "\n  statuses: { 409: stale }" } else { "" };
        let text = format!(
            "target: {name}\nsubscribe: [{}]\nendpoint:\n  url: \"http://127.0.0.1:{}/in\"\n  auth: {auth}\n  timeout: {}s{statuses}\n",
            subscribe.join(", "),
            port(name)?,
            PATIENCE.as_secs(),
        );
        write("targets", name, text)?;
    }
    Ok(folder)
}
