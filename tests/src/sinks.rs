//! Everything that the system writes anywhere, read back from the emulator: what a leak would show up in.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::aws::{Aws, Held};
use crate::preferences;
use crate::rig::Rig;
use crate::target::Target;

/// A place where something was written, and what.
#[derive(Debug, Clone)]
pub struct Sink {
    /// Where, for findings: `queue datasync-… <message id>`, `table …`.
    pub place: String,
    /// What stands there.
    pub bytes: Vec<u8>,
}

impl Sink {
    fn new(place: String, text: impl Into<Vec<u8>>) -> Self {
        Self { place, bytes: text.into() }
    }
}

type Seen = Arc<Mutex<BTreeMap<(String, String), Held>>>;

/// Extra listeners on topic, bus and alerts, and a watcher who looks into every queue all the time, so that messages
/// are seen in flight too.
#[derive(Debug)]
pub struct Spies {
    seen: Seen,
    watcher: JoinHandle<()>,
}

impl Spies {
    /// Puts the listeners up.
    pub async fn listen(rig: &Rig) -> Result<Self> {
        let aws = rig.aws().clone();
        let topic = rig.stack.output("EventsTopicArn")?;
        queue(&aws, "spy-events.fifo", true).await?;
        subscribe(&aws, topic, &rig.stack.queue_arn("spy-events.fifo")).await?;
        queue(&aws, "spy-alerts", false).await?;
        subscribe(&aws, rig.stack.output("AlertTopicArn")?, &rig.stack.queue_arn("spy-alerts")).await?;
        queue(&aws, "spy-failures", false).await?;
        let bus = rig.stack.output("FailureBusName")?;
        let pattern = json!({ "source": ["datasync"] }).to_string();
        aws.events("PutRule", &json!({ "Name": "spy", "EventBusName": bus, "EventPattern": pattern }))
            .await?;
        let targets = json!([{ "Id": "spy", "Arn": rig.stack.queue_arn("spy-failures") }]);
        aws.events("PutTargets", &json!({ "Rule": "spy", "EventBusName": bus, "Targets": targets })).await?;

        let seen = Seen::default();
        let watcher = tokio::spawn(watch(aws, seen.clone()));
        Ok(Self { seen, watcher })
    }

    /// Every message that was seen in any queue so far.
    pub fn messages(&self) -> Vec<Held> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

impl Drop for Spies {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

async fn watch(aws: Aws, seen: Seen) {
    loop {
        // An emulator that is busy is asked again.
        for held in aws.held().await.unwrap_or_default() {
            let id = held.message["MessageId"].as_str().unwrap_or_default().to_owned();
            seen.lock().unwrap_or_else(PoisonError::into_inner).insert((held.queue.clone(), id), held);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn queue(aws: &Aws, name: &str, fifo: bool) -> Result<()> {
    let anybody =
        json!({ "Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage", "Resource": "*" });
    let policy = json!({ "Version": "2012-10-17", "Statement": [anybody] }).to_string();
    let mut attributes = json!({ "Policy": policy });
    if fifo {
        attributes["FifoQueue"] = json!("true");
    }
    aws.sqs("CreateQueue", &json!({ "QueueName": name, "Attributes": attributes })).await?;
    Ok(())
}

async fn subscribe(aws: &Aws, topic: &str, queue: &str) -> Result<()> {
    let parameters = [
        ("Action", "Subscribe"),
        ("Version", "2010-03-31"),
        ("TopicArn", topic),
        ("Protocol", "sqs"),
        ("Endpoint", queue),
        ("Attributes.entry.1.key", "RawMessageDelivery"),
        ("Attributes.entry.1.value", "true"),
    ];
    aws.query("sns", &parameters).await?;
    Ok(())
}

/// Everything that was written anywhere, but for the messages of the queues in `clear_queues`.
pub async fn all(rig: &Rig, spies: &Spies, clear_queues: &[&str]) -> Result<Vec<Sink>> {
    let aws = rig.aws();
    let mut sinks = Vec::new();
    let mut messages = spies.messages();
    messages.extend(aws.held().await?);
    messages.retain(|held| !clear_queues.contains(&held.queue.as_str()));
    sinks.extend(messages.iter().map(message));
    tables(aws, &mut sinks).await?;
    logs(aws, &mut sinks).await?;
    let log = std::fs::read(rig.emulator().log()).context("the emulator has no log")?;
    sinks.push(Sink::new("the emulator's log".to_owned(), log));
    for target in [&rig.loyalty, &rig.warehouse] {
        deliveries(target, &mut sinks);
    }
    Ok(sinks)
}

/// A message with everything that goes with it.
pub fn message(held: &Held) -> Sink {
    let id = held.message["MessageId"].as_str().unwrap_or_default();
    // The body once more as it is: inside the description it is escaped.
    Sink::new(format!("queue {} {id}", held.queue), format!("{}\n{}", held.body(), held.message))
}

async fn tables(aws: &Aws, sinks: &mut Vec<Sink>) -> Result<()> {
    let tables = aws.dynamodb("ListTables", &json!({})).await?;
    let names = tables["TableNames"].as_array().into_iter().flatten().filter_map(Value::as_str);
    // A source is no sink.
    for table in names.filter(|table| *table != preferences::TABLE) {
        for item in aws.scan(table).await? {
            sinks.push(Sink::new(format!("table {table}"), item.to_string()));
        }
    }
    Ok(())
}

async fn logs(aws: &Aws, sinks: &mut Vec<Sink>) -> Result<()> {
    let groups = aws.logs("DescribeLogGroups", &json!({})).await?;
    for group in groups["logGroups"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|group| group["logGroupName"].as_str())
    {
        let mut next = Value::Null;
        loop {
            let mut body = json!({ "logGroupName": group, "limit": 10_000 });
            if !next.is_null() {
                body["nextToken"] = next;
            }
            let page = aws.logs("FilterLogEvents", &body).await?;
            for event in page["events"].as_array().into_iter().flatten() {
                let text = event["message"].as_str().unwrap_or_default();
                sinks.push(Sink::new(format!("log {group}"), text));
            }
            next = page["nextToken"].clone();
            if next.is_null() {
                break;
            }
        }
    }
    Ok(())
}

fn deliveries(target: &Target, sinks: &mut Vec<Sink>) {
    for delivery in target.deliveries() {
        let text = format!("{} {}\n{:?}\n{}", delivery.method, delivery.path, delivery.headers, delivery.raw);
        sinks.push(Sink::new(format!("delivery {} to {}", delivery.place, target.name()), text));
    }
}
