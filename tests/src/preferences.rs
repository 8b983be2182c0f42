//! The consent service: a DynamoDB table of what customers want to hear about, whose stream is read, and a day's work in it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::aws::Aws;
use crate::change::RecordName;
use crate::ink::Ink;
use crate::rig::{Progress, Rig, stage};
use crate::{judge, raw, run};

/// The model of its items.
pub const MODEL: &str = "preference";
/// The table, as the source's file names it.
pub const TABLE: &str = "datasync-preferences";

/// How many customers have preferences.
const CUSTOMERS: u64 = 20;
/// The customers who had some before anybody read the table's stream.
const STANDING: RangeInclusive<u64> = 101..=130;
/// 38 digits, the most that DynamoDB has.
const AFFINITY: &str = "0.98765432109876543210987654321098765432";

/// What the table is made of, without its stream: the body of `CreateTable`.
pub fn table() -> Value {
    json!({
        "TableName": TABLE,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [
            { "AttributeName": "customer_id", "AttributeType": "N" },
            { "AttributeName": "topic", "AttributeType": "S" },
        ],
        "KeySchema": [
            { "AttributeName": "customer_id", "KeyType": "HASH" },
            { "AttributeName": "topic", "KeyType": "RANGE" },
        ],
    })
}

/// The table.
#[derive(Debug, Clone)]
pub struct Preferences {
    aws: Aws,
    stream_arn: String,
}

impl Preferences {
    /// Creates the table, with items that are older than its stream.
    pub async fn create(aws: &Aws, ink: &Ink) -> Result<Self> {
        aws.dynamodb("CreateTable", &table()).await?;
        for customer in STANDING {
            let item = item(customer, "standing", ink);
            aws.dynamodb("PutItem", &json!({ "TableName": TABLE, "Item": item })).await?;
        }
        let stream = json!({
            "TableName": TABLE,
            "StreamSpecification": { "StreamEnabled": true, "StreamViewType": "NEW_AND_OLD_IMAGES" },
        });
        let answer = aws.dynamodb("UpdateTable", &stream).await?;
        let stream_arn = answer["TableDescription"]["LatestStreamArn"].as_str();
        let stream_arn = stream_arn.context("the table has no stream")?.to_owned();
        Ok(Self { aws: aws.clone(), stream_arn })
    }

    /// The ARN of the stream, which the template takes as a parameter.
    pub fn stream_arn(&self) -> &str {
        &self.stream_arn
    }

    /// A day's work: items written alone, in batches and in a transaction, written again as they are, changed, removed,
    /// removed and written again. Gives the number of writes.
    pub async fn work(&self, ink: &Ink) -> Result<usize> {
        let mut writes = 0;
        for customer in 1..=CUSTOMERS {
            for topic in ["events", "news"] {
                self.put(item(customer, topic, ink)).await?;
                writes += 1;
            }
        }
        // Nothing changes, so nothing is in the stream.
        let same = item(1, "news", ink);
        for _ in 0..2 {
            self.put(same.clone()).await?;
        }
        for customer in (1..=CUSTOMERS).step_by(2) {
            self.set(customer, "news", "allowed", json!({ "BOOL": false })).await?;
            self.set(customer, "news", "channels", json!({ "SS": ["sms", "email", "call"] })).await?;
            writes += 2;
        }
        let puts =
            (1..=5).map(|customer| json!({ "PutRequest": { "Item": item(customer, "surveys", ink) } }));
        let deletes = (6..=9).map(|customer| json!({ "DeleteRequest": { "Key": key(customer, "events") } }));
        let requests: Vec<Value> = puts.chain(deletes).collect();
        writes += 2 + requests.len();
        let answer =
            self.aws.dynamodb("BatchWriteItem", &json!({ "RequestItems": { TABLE: requests } })).await?;
        if answer["UnprocessedItems"].as_object().is_some_and(|left| !left.is_empty()) {
            bail!("the batch was not written whole");
        }
        let transaction = json!([
            { "Put": { "TableName": TABLE, "Item": item(10, "surveys", ink) } },
            { "Delete": { "TableName": TABLE, "Key": key(10, "events") } },
        ]);
        self.aws.dynamodb("TransactWriteItems", &json!({ "TransactItems": transaction })).await?;
        writes += 2;
        for customer in [11, 12] {
            self.delete(customer, "news").await?;
            writes += 1;
        }
        self.put(item(12, "news", ink)).await?;
        // Of what is older than the stream, some change before it is loaded.
        self.set(*STANDING.start(), "standing", "allowed", json!({ "BOOL": false })).await?;
        self.delete(*STANDING.end(), "standing").await?;
        Ok(writes + 3)
    }

    /// Loads what the table holds, as `datasync backfill` does; somebody writes meanwhile. Gives the number of items.
    async fn load(&self, function: &str) -> Result<u64> {
        let backfill = json!({ "model": MODEL, "run": format!("demo-{}", std::process::id()) });
        let payload = json!({ "source": "preferences", "work": { "backfill": backfill } });
        let path = format!("/2015-03-31/functions/{function}/invocations");
        let write = async {
            for customer in STANDING.skip(1).step_by(3) {
                self.set(customer, "standing", "allowed", json!({ "BOOL": false })).await?;
            }
            Ok(())
        };
        let load = async {
            loop {
                let answer = self.aws.lambda("POST", &path, &payload).await?;
                match answer["state"].as_str() {
                    Some("done") => return Ok(answer["rows"].as_u64().unwrap_or_default()),
                    Some("running" | "busy") => {}
                    _ => bail!("the load of the table does not go on: {answer}"),
                }
            }
        };
        Ok(tokio::try_join!(load, write)?.0)
    }

    /// Every item that a target must hold in the end: its name, and the item as plain JSON.
    pub async fn rows(&self) -> Result<BTreeMap<RecordName, String>> {
        let mut rows = BTreeMap::new();
        for item in self.aws.scan(TABLE).await? {
            let key = format!(
                r#"{{"customer_id":{},"topic":{}}}"#,
                plain(&item["customer_id"])?,
                plain(&item["topic"])?
            );
            rows.insert(RecordName { model: MODEL.to_owned(), key }, plain(&json!({ "M": item }))?);
        }
        Ok(rows)
    }

    /// Writes an item, typed.
    pub async fn put(&self, item: Value) -> Result<()> {
        self.aws.dynamodb("PutItem", &json!({ "TableName": TABLE, "Item": item })).await?;
        Ok(())
    }

    /// Removes an item.
    pub async fn delete(&self, customer: u64, topic: &str) -> Result<()> {
        self.aws.dynamodb("DeleteItem", &json!({ "TableName": TABLE, "Key": key(customer, topic) })).await?;
        Ok(())
    }

    async fn set(&self, customer: u64, topic: &str, attribute: &str, value: Value) -> Result<()> {
        let body = json!({
            "TableName": TABLE,
            "Key": key(customer, topic),
            "UpdateExpression": "SET #a = :v",
            "ExpressionAttributeNames": { "#a": attribute },
            "ExpressionAttributeValues": { ":v": value },
        });
        self.aws.dynamodb("UpdateItem", &body).await?;
        Ok(())
    }
}

/// The key of an item, typed.
pub fn key(customer: u64, topic: &str) -> Value {
    json!({ "customer_id": { "N": customer.to_string() }, "topic": { "S": topic } })
}

/// An item with values of every type.
fn item(customer: u64, topic: &str, ink: &Ink) -> Value {
    let note = ink.write("preference.note", "", || "never on Sundays".to_owned());
    let signature = ink.write("preference.signature", "", || format!("ink of {customer}"));
    let internal = ink.write("preference.internal_note", "", || "called twice".to_owned());
    json!({
        "customer_id": { "N": customer.to_string() },
        "topic": { "S": topic },
        "allowed": { "BOOL": true },
        "channels": { "SS": ["sms", "email"] },
        "quiet_hours": { "M": { "to": { "N": "7" }, "from": { "N": "22" } } },
        "affinity": { "N": AFFINITY },
        "note": { "S": note },
        "signature": { "B": STANDARD.encode(signature) },
        "changed_at": { "S": "2026-11-24T20:19:23Z" },
        // No model lists these.
        "internal_note": { "S": internal },
        "history": { "L": [{ "NULL": true }, { "NS": ["10", "9"] }, { "BS": ["Yg==", "YQ=="] }] },
    })
}

/// A typed value as plain JSON, stated a second time: sets and maps in the order of their texts, numbers as they stand.
fn plain(typed: &Value) -> Result<String> {
    let (kind, value) =
        typed.as_object().and_then(|typed| typed.iter().next()).context("not a typed value")?;
    let elements = || value.as_array().into_iter().flatten();
    let texts = || elements().map(|text| text.as_str().unwrap_or_default());
    Ok(match kind.as_str() {
        "S" | "B" | "BOOL" => value.to_string(),
        "N" => value.as_str().context("not a number")?.to_owned(),
        "NULL" => "null".to_owned(),
        "L" => list(&elements().map(plain).collect::<Result<Vec<_>>>()?),
        "M" => {
            let members = value.as_object().into_iter().flatten();
            let members: Vec<String> = members
                .map(|(name, value)| Ok(format!("{}:{}", raw::string(name), plain(value)?)))
                .collect::<Result<_>>()?;
            format!("{{{}}}", members.join(","))
        }
        "SS" | "BS" => list(&sorted(texts()).into_iter().map(raw::string).collect::<Vec<_>>()),
        "NS" => {
            let mut numbers: Vec<i64> = texts().map(str::parse).collect::<Result<_, _>>()?;
            numbers.sort_unstable();
            list(&numbers.iter().map(ToString::to_string).collect::<Vec<_>>())
        }
        _ => bail!("no type of DynamoDB"),
    })
}

fn sorted<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut texts: Vec<&str> = texts.collect();
    texts.sort_unstable();
    texts
}

fn list(elements: &[String]) -> String {
    format!("[{}]", elements.join(","))
}

/// What the warehouse holds of the table and should not, or not so. Empty = it holds what the table does.
pub async fn differences(rig: &Rig) -> Result<Vec<String>> {
    judge::holds(rig, &[MODEL], rig.preferences.rows().await?).await
}

/// A day's work in the table, until the warehouse holds what the table does.
pub async fn day(rig: &Rig, ink: &Ink, progress: &dyn Progress) -> Result<()> {
    stage(progress, "consent service: write into its DynamoDB table", async {
        let writes = rig.preferences.work(ink).await?;
        Ok(((), format!("{writes} writes, read from the table's stream")))
    })
    .await?;
    stage(progress, "load what is older than the stream", async {
        let items = rig.preferences.load(rig.stack.resource("CaptureStreamPreferences")?).await?;
        Ok(((), format!("{items} items, while some change")))
    })
    .await?;
    stage(progress, "wait until the warehouse has them too", async {
        run::wait(Duration::from_secs(60), "the warehouse does not hold what the table does", || async {
            Ok(differences(rig).await?.is_empty())
        })
        .await?;
        Ok(((), format!("{} items", rig.preferences.rows().await?.len())))
    })
    .await
}
