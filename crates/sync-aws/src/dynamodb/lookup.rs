//! Look-ups of `enrich` in somebody's table.

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sync_domain::ports::{Kind, LookupTable, Result};

use super::item::Item;
use crate::error::{error, from_sdk};

const GET: &str = "dynamodb:GetItem";
/// The nesting that DynamoDB allows is 32; one more level is somebody's mistake.
const MAX_DEPTH: usize = 33;

/// Tables to look up in.
#[derive(Debug, Clone)]
pub struct DynamoLookup {
    client: Client,
}

impl DynamoLookup {
    /// All tables that the function's role may read.
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

#[async_trait]
impl LookupTable for DynamoLookup {
    async fn get(&self, table: &str, key: &[(String, String)]) -> Result<Option<String>> {
        let mut call = self.client.get_item().table_name(table);
        for (name, scalar) in key {
            let value = key_value(scalar).ok_or_else(|| error(GET, Kind::Refused, "KeyNotScalar"))?;
            call = call.key(name, value);
        }
        let answer = call.send().await.map_err(|failed| from_sdk(GET, &failed))?;
        let Some(item) = answer.item else { return Ok(None) };
        let mut json = String::new();
        write_object(&mut json, &item, MAX_DEPTH).ok_or_else(|| error(GET, Kind::Refused, "BadItem"))?;
        Ok(Some(json))
    }
}

/// A key's value from its JSON text: a string or a number, the two that DynamoDB takes and JSON has.
fn key_value(scalar: &str) -> Option<AttributeValue> {
    if scalar.starts_with('"') {
        serde_json::from_str(scalar).ok().map(AttributeValue::S)
    } else {
        let digits = scalar.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        digits.then(|| AttributeValue::N(scalar.to_owned()))
    }
}

fn write_object(out: &mut String, item: &Item, depth: usize) -> Option<()> {
    let mut names: Vec<&String> = item.keys().collect();
    names.sort_unstable();
    out.push('{');
    for (at, name) in names.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        write_text(out, name)?;
        out.push(':');
        write_value(out, item.get(name)?, depth)?;
    }
    out.push('}');
    Some(())
}

/// Writes a value as JSON; numbers keep every digit, sets become arrays, bytes base64.
fn write_value(out: &mut String, value: &AttributeValue, depth: usize) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    match value {
        AttributeValue::S(text) => write_text(out, text),
        AttributeValue::N(number) => write_number(out, number),
        AttributeValue::Bool(value) => write_plain(out, if *value { "true" } else { "false" }),
        AttributeValue::Null(_) => write_plain(out, "null"),
        AttributeValue::B(bytes) => write_text(out, &STANDARD.encode(bytes)),
        AttributeValue::M(item) => write_object(out, item, depth),
        AttributeValue::L(list) => write_list(out, list, |out, value| write_value(out, value, depth)),
        AttributeValue::Ss(texts) => write_list(out, texts, |out, text| write_text(out, text)),
        AttributeValue::Ns(numbers) => write_list(out, numbers, |out, number| write_number(out, number)),
        AttributeValue::Bs(list) => {
            write_list(out, list, |out, bytes| write_text(out, &STANDARD.encode(bytes)))
        }
        _ => None,
    }
}

fn write_list<T>(out: &mut String, list: &[T], write: impl Fn(&mut String, &T) -> Option<()>) -> Option<()> {
    out.push('[');
    for (at, value) in list.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        write(out, value)?;
    }
    out.push(']');
    Some(())
}

fn write_plain(out: &mut String, text: &str) -> Option<()> {
    out.push_str(text);
    Some(())
}

fn write_number(out: &mut String, number: &str) -> Option<()> {
    // Parsed for its form only: the text is what is written.
    serde_json::from_str::<&serde_json::value::RawValue>(number).ok()?;
    write_plain(out, number)
}

fn write_text(out: &mut String, text: &str) -> Option<()> {
    write_plain(out, &serde_json::to_string(text).ok()?)
}
