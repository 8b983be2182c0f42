//! The checkpoint table: how far each source has been read, and who reads it at this moment.
//!
//! Every write that belongs to a run has the run's token in its condition. The clock decides only when somebody else may
//! take the lease, never who may write: a run whose clock is wrong or that slept too long finds another token.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use sync_domain::ports::{Checkpoint, Checkpoints, Kind, Lease, Result, Taken};

use super::PK;
use super::item::{Item, get_number, get_text, number, text};
use crate::error::{error, from_sdk};

const UPDATE: &str = "dynamodb:UpdateItem";
const READ: &str = "dynamodb:GetItem";
/// How often a restart is tried against others that restart the same source.
const RESTARTS: u32 = 5;

/// The checkpoint table.
#[derive(Debug, Clone)]
pub struct DynamoCheckpoints {
    client: Client,
    table: String,
}

/// What came of a conditional update.
enum Updated {
    /// The item as it is now.
    Done(Item),
    /// The item as it stands instead, if it is there.
    Refused(Option<Item>),
}

impl DynamoCheckpoints {
    /// The checkpoints in a table.
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self { client, table: table.into() }
    }

    fn update(
        &self,
        row: &str,
        change: &str,
        condition: &str,
        values: &[Value<'_>],
    ) -> UpdateItemFluentBuilder {
        let mut call = self
            .client
            .update_item()
            .table_name(&self.table)
            .key(PK, text(row))
            .update_expression(change)
            .condition_expression(condition)
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        // Several of these names are words of DynamoDB's own.
        for (place, name) in NAMES {
            if change.contains(place) || condition.contains(place) {
                call = call.expression_attribute_names(place, name);
            }
        }
        for (name, value) in values {
            call = call.expression_attribute_values(*name, value.clone());
        }
        call
    }

    async fn send(&self, row: &str, call: UpdateItemFluentBuilder) -> Result<Updated> {
        let failed = match call.send().await {
            Ok(answer) => return Ok(Updated::Done(answer.attributes.unwrap_or_default())),
            Err(failed) => failed,
        };
        match failed.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(stands)) => {
                match stands.item.clone().filter(|item| !item.is_empty()) {
                    Some(item) => Ok(Updated::Refused(Some(item))),
                    None => Ok(Updated::Refused(self.get(row).await?)),
                }
            }
            _ => Err(from_sdk(UPDATE, &failed)),
        }
    }

    async fn get(&self, row: &str) -> Result<Option<Item>> {
        let call = self.client.get_item().table_name(&self.table).key(PK, text(row)).consistent_read(true);
        Ok(call.send().await.map_err(|failed| from_sdk(READ, &failed))?.item)
    }

    async fn is_done(&self, row: &str, change: &str, condition: &str, values: &[Value<'_>]) -> Result<bool> {
        let updated = self.send(row, self.update(row, change, condition, values)).await?;
        Ok(matches!(updated, Updated::Done(_)))
    }
}

type Value<'a> = (&'a str, AttributeValue);

const NAMES: [(&str, &str); 8] = [
    ("#pk", PK),
    ("#cursor", "cursor"),
    ("#epoch", "epoch"),
    ("#revision", "revision"),
    ("#stopped", "stopped"),
    ("#owner", "owner"),
    ("#until", "lease_until"),
    ("#token", "token"),
];

#[async_trait]
impl Checkpoints for DynamoCheckpoints {
    async fn read(&self, row: &str) -> Result<Option<Checkpoint>> {
        self.get(row).await?.map(|item| checkpoint(&item)).transpose()
    }

    async fn take(&self, row: &str, owner: &str, lasts: Duration) -> Result<Taken> {
        let now = now_ms();
        let change = "SET #owner = :owner, #until = :until, #revision = if_not_exists(#revision, :none), \
                      #epoch = if_not_exists(#epoch, :none) ADD #token :one";
        let condition = "attribute_not_exists(#stopped) AND (attribute_not_exists(#until) OR #until <= :now OR #owner = :owner)";
        let values = [
            (":owner", text(owner)),
            (":until", number(now.saturating_add(ms(lasts)))),
            (":now", number(now)),
            (":none", number(0)),
            (":one", number(1)),
        ];
        match self.send(row, self.update(row, change, condition, &values)).await? {
            Updated::Done(item) => {
                let checkpoint = checkpoint(&item)?;
                let token =
                    get_number(&item, "token").ok_or_else(|| error(UPDATE, Kind::Refused, "BadRow"))?;
                let lease = Lease { row: row.to_owned(), token, revision: checkpoint.revision };
                Ok(Taken::Held(lease, checkpoint))
            }
            Updated::Refused(Some(item)) => {
                let checkpoint = checkpoint(&item)?;
                Ok(if checkpoint.stopped.is_some() { Taken::Stopped(checkpoint) } else { Taken::Busy })
            }
            Updated::Refused(None) => Ok(Taken::Busy),
        }
    }

    async fn save(&self, lease: &mut Lease, cursor: &str, lasts: Duration) -> Result<bool> {
        let next = lease.revision.saturating_add(1);
        let values = [
            (":cursor", text(cursor)),
            (":until", number(now_ms().saturating_add(ms(lasts)))),
            (":next", number(next)),
            (":token", number(lease.token)),
            (":revision", number(lease.revision)),
        ];
        let change = "SET #cursor = :cursor, #until = :until, #revision = :next";
        let condition = "#token = :token AND #revision = :revision";
        let saved = match self.send(&lease.row, self.update(&lease.row, change, condition, &values)).await? {
            Updated::Done(_) => true,
            // An attempt whose answer was lost, and that the SDK repeated: what stands there is ours.
            Updated::Refused(Some(item)) => {
                get_number(&item, "token") == Some(lease.token)
                    && get_number(&item, "revision") == Some(next)
                    && get_text(&item, "cursor").as_deref() == Some(cursor)
            }
            Updated::Refused(None) => false,
        };
        if saved {
            lease.revision = next;
        }
        Ok(saved)
    }

    async fn release(&self, lease: &Lease) -> Result<bool> {
        let values = [(":token", number(lease.token))];
        self.is_done(&lease.row, "REMOVE #owner, #until", "#token = :token", &values).await
    }

    async fn stop(&self, lease: &Lease, reason: &str) -> Result<bool> {
        let values = [(":token", number(lease.token)), (":reason", text(reason))];
        let change = "SET #stopped = :reason REMOVE #owner, #until";
        self.is_done(&lease.row, change, "#token = :token", &values).await
    }

    async fn halt(&self, row: &str, reason: &str) -> Result<bool> {
        let values = [(":reason", text(reason)), (":one", number(1))];
        let change = "SET #stopped = :reason REMOVE #owner, #until ADD #token :one";
        self.is_done(row, change, "attribute_exists(#pk)", &values).await
    }

    async fn resume(&self, row: &str) -> Result<bool> {
        self.is_done(row, "REMOVE #stopped", "attribute_exists(#pk)", &[]).await
    }

    async fn restart(&self, row: &str, at_least: u32) -> Result<u32> {
        for _ in 0..RESTARTS {
            let standing = self.read(row).await?.map(|checkpoint| checkpoint.epoch);
            let next = standing.unwrap_or_default().max(at_least).saturating_add(1);
            let mut values = vec![(":next", number(next)), (":one", number(1))];
            values.extend(standing.map(|epoch| (":epoch", number(epoch))));
            let condition = if standing.is_some() { "#epoch = :epoch" } else { "attribute_not_exists(#pk)" };
            let change =
                "SET #epoch = :next REMOVE #cursor, #stopped, #owner, #until ADD #token :one, #revision :one";
            if self.is_done(row, change, condition, &values).await? {
                return Ok(next);
            }
        }
        Err(error(UPDATE, Kind::Unavailable, "RestartedElsewhere"))
    }
}

fn checkpoint(item: &Item) -> Result<Checkpoint> {
    let bad = || error(READ, Kind::Refused, "BadRow");
    let until: Option<u64> = get_number(item, "lease_until");
    Ok(Checkpoint {
        cursor: get_text(item, "cursor"),
        epoch: get_number(item, "epoch").ok_or_else(bad)?,
        revision: get_number(item, "revision").ok_or_else(bad)?,
        stopped: get_text(item, "stopped"),
        held: until.is_some_and(|until| until > now_ms()),
    })
}

fn now_ms() -> u64 {
    ms(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
