//! The rows of targets' limits in the ledger's table.

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{ReturnValue, ReturnValuesOnConditionCheckFailure};
use sync_domain::delivery::limit::{Claim, Claimed, Meter, Step};
use sync_domain::id::TargetId;
use sync_domain::ports::{Kind, Meters, Result};

use super::item::{Item, get_number, number, text};
use super::{PK, breaker};
use crate::error::{error, from_sdk};

const CLAIM: &str = "dynamodb:UpdateItem";
const NEXT: &str = "next_slot";
const SPENT: &str = "spent";

/// The meters in the delivery ledger's table.
#[derive(Debug, Clone)]
pub struct DynamoMeters {
    client: Client,
    table: String,
}

impl DynamoMeters {
    /// The meters in a table.
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self { client, table: table.into() }
    }
}

#[async_trait]
impl Meters for DynamoMeters {
    async fn claim(&self, target: &TargetId, claim: &Claim) -> Result<Claimed> {
        let mut call = self
            .client
            .update_item()
            .table_name(&self.table)
            // Behind the breaker's key: whoever passes over the rows of breakers passes over this one too.
            .key(PK, text(format!("{}#limit", breaker::key(target))))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let (mut changes, mut conditions) = (Vec::new(), Vec::new());
        for (name, step) in [(NEXT, claim.next), (SPENT, claim.spent)] {
            let Some(step) = step else { continue };
            let (change, condition, values) = expressions(name, step);
            changes.push(change);
            conditions.push(condition);
            call = call.expression_attribute_names(format!("#{name}"), name);
            for (place, value) in values {
                call = call.expression_attribute_values(place, number(value));
            }
        }
        let call = call
            .update_expression(format!("SET {}", changes.join(", ")))
            .condition_expression(conditions.join(" AND "));
        let failed = match call.send().await {
            Ok(answer) => return Ok(Claimed::Done(meter(answer.attributes.as_ref())?)),
            Err(failed) => failed,
        };
        match failed.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(stands)) => {
                Ok(Claimed::Refused(meter(stands.item.as_ref())?))
            }
            _ => Err(from_sdk(CLAIM, &failed)),
        }
    }
}

/// What a step changes, under which condition, and with which values. A number that is not there is below every floor.
fn expressions(name: &str, step: Step) -> (String, String, Vec<(String, i64)>) {
    let (floor, ceiling) = (format!(":{name}_floor"), format!(":{name}_ceiling"));
    match step {
        Step::Raise { floor: below, to } => (
            format!("#{name} = :{name}_to"),
            format!("(attribute_not_exists(#{name}) OR #{name} < {floor})"),
            vec![(floor, below), (format!(":{name}_to"), to)],
        ),
        Step::Add { floor: least, ceiling: most, by } => (
            format!("#{name} = #{name} + :{name}_by"),
            format!("#{name} BETWEEN {floor} AND {ceiling}"),
            vec![(floor, least), (ceiling, most), (format!(":{name}_by"), by)],
        ),
    }
}

/// A number that a row lacks counts as nothing; one that is no number was not written by this release.
fn meter(item: Option<&Item>) -> Result<Meter> {
    let read = |name: &str| match item.filter(|item| item.contains_key(name)) {
        None => Ok(0),
        Some(item) => get_number(item, name).ok_or_else(|| error(CLAIM, Kind::Refused, "BadRow")),
    };
    Ok(Meter { next: read(NEXT)?, spent: read(SPENT)? })
}
