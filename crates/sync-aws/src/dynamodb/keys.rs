//! The table of wrapped data keys.

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use sync_domain::ports::{KeyTable, Kind, Result};

use super::PK;
use super::item::{get_text, text};
use crate::error::{error, from_sdk};

const PUT: &str = "dynamodb:PutItem";
const GET: &str = "dynamodb:GetItem";

/// The keys table.
#[derive(Debug, Clone)]
pub struct DynamoKeyTable {
    client: Client,
    table: String,
}

impl DynamoKeyTable {
    /// The keys in a table.
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self { client, table: table.into() }
    }
}

#[async_trait]
impl KeyTable for DynamoKeyTable {
    async fn put(&self, key_id: &str, model: &str, attribute: &str, wrapped: &[u8]) -> Result<()> {
        let call = self
            .client
            .put_item()
            .table_name(&self.table)
            .item(PK, text(key_id))
            .item("model", text(model))
            .item("attribute", text(attribute))
            .item("wrapped", AttributeValue::B(Blob::new(wrapped)));
        call.send().await.map(|_| ()).map_err(|failed| from_sdk(PUT, &failed))
    }

    async fn get(&self, key_id: &str) -> Result<Option<(String, String, Vec<u8>)>> {
        let call = self.client.get_item().table_name(&self.table).key(PK, text(key_id)).consistent_read(true);
        let answer = call.send().await.map_err(|failed| from_sdk(GET, &failed))?;
        let Some(item) = answer.item else { return Ok(None) };
        let wrapped = item.get("wrapped").and_then(|value| value.as_b().ok());
        match (get_text(&item, "model"), get_text(&item, "attribute"), wrapped) {
            (Some(model), Some(attribute), Some(wrapped)) => {
                Ok(Some((model, attribute, wrapped.as_ref().to_vec())))
            }
            _ => Err(error(GET, Kind::Refused, "BadRow")),
        }
    }
}
