//! The table of push requests.

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use sync_domain::ports::{Kind, Receipt, Receipts, Result};

use super::PK;
use super::item::{Item, get_text, number, text};
use crate::error::{error, from_sdk};

const CLAIM: &str = "dynamodb:PutItem";
const SETTLE: &str = "dynamodb:UpdateItem";
const READ: &str = "dynamodb:GetItem";

/// The receipts' table.
#[derive(Debug, Clone)]
pub struct DynamoReceipts {
    client: Client,
    table: String,
}

impl DynamoReceipts {
    /// The receipts in a table.
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self { client, table: table.into() }
    }

    async fn read(&self, request_id: &str) -> Result<Option<Item>> {
        let call =
            self.client.get_item().table_name(&self.table).key(PK, text(request_id)).consistent_read(true);
        Ok(call.send().await.map_err(|failed| from_sdk(READ, &failed))?.item)
    }
}

#[async_trait]
impl Receipts for DynamoReceipts {
    async fn claim(&self, request_id: &str, body_hash: &str, expires_at: i64) -> Result<Option<Receipt>> {
        let call = self
            .client
            .put_item()
            .table_name(&self.table)
            .item(PK, text(request_id))
            .item("body_hash", text(body_hash))
            .item("expires_at", number(expires_at))
            .condition_expression("attribute_not_exists(#pk)")
            .expression_attribute_names("#pk", PK)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let failed = match call.send().await {
            Ok(_) => return Ok(None),
            Err(failed) => failed,
        };
        let standing = match failed.as_service_error() {
            Some(aws_sdk_dynamodb::operation::put_item::PutItemError::ConditionalCheckFailedException(
                stands,
            )) => stands.item.clone(),
            _ => return Err(from_sdk(CLAIM, &failed)),
        };
        let standing = match standing.filter(|item| !item.is_empty()) {
            Some(item) => Some(item),
            None => self.read(request_id).await?,
        };
        // Gone between the two calls (it expired): the caller tries the whole request again.
        let standing = standing.ok_or_else(|| error(CLAIM, Kind::Unavailable, "ReceiptGone"))?;
        receipt(&standing).map(Some).ok_or_else(|| error(CLAIM, Kind::Refused, "BadRow"))
    }

    async fn settle(&self, request_id: &str, accepted: &[usize]) -> Result<()> {
        let accepted: Vec<String> = accepted.iter().map(usize::to_string).collect();
        // Two attempts may settle side by side: what either got confirmed stays confirmed. A set cannot be empty.
        let update = if accepted.is_empty() {
            "SET #settled = :yes"
        } else {
            "SET #settled = :yes ADD #accepted :accepted"
        };
        let accepted = (!accepted.is_empty()).then_some(AttributeValue::Ns(accepted));
        let call = self
            .client
            .update_item()
            .table_name(&self.table)
            .key(PK, text(request_id))
            .update_expression(update)
            // A receipt that expired meanwhile must not come back without its end.
            .condition_expression("attribute_exists(#pk)")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_names("#settled", "settled")
            .expression_attribute_values(":yes", AttributeValue::Bool(true));
        let call = match accepted {
            Some(accepted) => call
                .expression_attribute_names("#accepted", "accepted")
                .expression_attribute_values(":accepted", accepted),
            None => call,
        };
        call.send().await.map(|_| ()).map_err(|failed| from_sdk(SETTLE, &failed))
    }
}

fn receipt(item: &Item) -> Option<Receipt> {
    let accepted = match (item.get("settled"), item.get("accepted")) {
        (None, _) => None,
        (Some(_), None) => Some(Vec::new()),
        (Some(_), Some(set)) => {
            let mut indices =
                set.as_ns().ok()?.iter().map(|n| n.parse().ok()).collect::<Option<Vec<usize>>>()?;
            indices.sort_unstable();
            Some(indices)
        }
    };
    Some(Receipt { body_hash: get_text(item, "body_hash")?, accepted })
}
