//! A table that is read as a source: its items page by page, in the JSON in which its stream writes them.

use std::collections::BTreeMap;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, StreamViewType};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use sync_domain::ports::{ItemTable, Items, Kind, Result, TableShape};

use super::item::Item;
use crate::error::{error, from_sdk};

const SCAN: &str = "dynamodb:Scan";
const DESCRIBE: &str = "dynamodb:DescribeTable";
/// Items of a page, which has at most 1 MB besides.
const PAGE: i32 = 500;

/// The table.
#[derive(Debug, Clone)]
pub struct DynamoItems {
    client: Client,
    table: String,
}

impl DynamoItems {
    /// The items of a table.
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self { client, table: table.into() }
    }
}

#[async_trait]
impl ItemTable for DynamoItems {
    async fn shape(&self) -> Result<TableShape> {
        let answer = self.client.describe_table().table_name(&self.table).send().await;
        let table = answer.map_err(|failed| from_sdk(DESCRIBE, &failed))?.table;
        let table = table.ok_or_else(|| error(DESCRIBE, Kind::Refused, "NoTable"))?;
        let stream = table.stream_specification();
        Ok(TableShape {
            key: table.key_schema().iter().map(|part| part.attribute_name().to_owned()).collect(),
            streams: stream.is_some_and(|stream| {
                stream.stream_enabled() && stream.stream_view_type() == Some(&StreamViewType::NewAndOldImages)
            }),
        })
    }

    async fn page(&self, from: Option<&str>) -> Result<Items> {
        let bad = |code| move || error(SCAN, Kind::Refused, code);
        let from = from.map(|from| read_key(from).ok_or_else(bad("BadPlace"))).transpose()?;
        // Consistently: what was written before and is captured already under an earlier epoch would not come again.
        let call = self.client.scan().table_name(&self.table).consistent_read(true).limit(PAGE);
        let answer = call.set_exclusive_start_key(from).send().await;
        let answer = answer.map_err(|failed| from_sdk(SCAN, &failed))?;
        let items = answer.items.unwrap_or_default();
        let items = items.iter().map(|item| write(item).ok_or_else(bad("BadItem"))).collect::<Result<_>>()?;
        let next = answer.last_evaluated_key.filter(|key| !key.is_empty());
        let next = next.map(|key| write(&key).ok_or_else(bad("BadItem"))).transpose()?;
        Ok(Items { items, next })
    }
}

fn write(item: &Item) -> Option<String> {
    Some(Value::Object(members(item)?).to_string())
}

fn members(item: &Item) -> Option<Map<String, Value>> {
    item.iter().map(|(name, value)| Some((name.clone(), typed(value)?))).collect()
}

/// A value under the name of its type. Numbers are texts there, so that none loses a digit.
fn typed(value: &AttributeValue) -> Option<Value> {
    let base64 = |bytes: &Blob| STANDARD.encode(bytes);
    Some(match value {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(number) => json!({ "N": number }),
        AttributeValue::B(bytes) => json!({ "B": base64(bytes) }),
        AttributeValue::Bool(value) => json!({ "BOOL": value }),
        AttributeValue::Null(value) => json!({ "NULL": value }),
        AttributeValue::M(item) => json!({ "M": members(item)? }),
        AttributeValue::L(list) => json!({ "L": list.iter().map(typed).collect::<Option<Vec<_>>>()? }),
        AttributeValue::Ss(texts) => json!({ "SS": texts }),
        AttributeValue::Ns(numbers) => json!({ "NS": numbers }),
        AttributeValue::Bs(list) => json!({ "BS": list.iter().map(base64).collect::<Vec<_>>() }),
        _ => return None,
    })
}

/// A key as it was written: texts, numbers and bytes alone are keys.
fn read_key(text: &str) -> Option<Item> {
    let key: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_str(text).ok()?;
    let attribute = |(name, typed): (String, BTreeMap<String, String>)| {
        let (kind, value) = typed.into_iter().next()?;
        let value = match kind.as_str() {
            "S" => AttributeValue::S(value),
            "N" => AttributeValue::N(value),
            "B" => AttributeValue::B(Blob::new(STANDARD.decode(value).ok()?)),
            _ => return None,
        };
        Some((name, value))
    };
    key.into_iter().map(attribute).collect()
}
