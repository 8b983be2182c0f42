//! The delivery ledger.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use sync_domain::delivery::breaker::Breaker;
use sync_domain::id::{RecordId, TargetId};
use sync_domain::ports::{Kind, Ledger, LedgerPage, LedgerRow, LedgerRows, Result, Whose};
use sync_domain::version::Version;

use super::item::{Item, get_number, get_text, number, text};
use super::{PK, breaker, put_if};
use crate::batches::Patience;
use crate::error::{error, from_sdk};

const READ: &str = "dynamodb:BatchGetItem";
const MARK: &str = "dynamodb:PutItem";
const SCAN: &str = "dynamodb:Scan";
/// Keys of one BatchGetItem.
const MAX_KEYS: usize = 100;

/// The delivery ledger's table.
#[derive(Debug, Clone)]
pub struct DynamoLedger {
    client: Client,
    table: String,
    patience: Patience,
}

impl DynamoLedger {
    /// The ledger in a table.
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self { client, table: table.into(), patience: Patience::DEFAULT }
    }

    /// Reads any number of keys.
    async fn find<'a>(&self, keys: impl Iterator<Item = &'a str> + Send) -> Founds<'a> {
        // BatchGetItem refuses a call that names a key twice.
        let mut seen = HashSet::new();
        let distinct: Vec<&str> = keys.filter(|key| seen.insert(*key)).collect();
        let mut founds = Vec::new();
        for some in distinct.chunks(MAX_KEYS) {
            founds.push((some.to_vec(), self.read_some(some).await));
        }
        Founds(founds)
    }

    /// Reads up to 100 distinct keys. What the service leaves unprocessed is asked for again, a few times.
    async fn read_some(&self, keys: &[&str]) -> Found {
        let mut found = Found { rows: HashMap::new(), missing: HashSet::new(), failed: None };
        let mut asked: Vec<Item> = keys.iter().map(|key| Item::from([(PK.to_owned(), text(*key))])).collect();
        let mut tries = 0;
        while !asked.is_empty() {
            let request = KeysAndAttributes::builder().set_keys(Some(asked)).consistent_read(true).build();
            let Ok(request) = request else {
                found.failed = Some((Kind::Refused, "RequestNotMade".to_owned()));
                break;
            };
            let call = self.client.batch_get_item().request_items(&self.table, request);
            let mut answer = match call.send().await {
                Ok(answer) => answer,
                Err(failed) => {
                    let failed = from_sdk(READ, &failed);
                    found.failed = Some((failed.kind, failed.code));
                    break;
                }
            };
            let rows =
                answer.responses.as_mut().and_then(|tables| tables.remove(&self.table)).unwrap_or_default();
            for row in rows {
                if let Some(key) = get_text(&row, PK) {
                    found.rows.insert(key, row);
                }
            }
            let left = answer.unprocessed_keys.as_mut().and_then(|tables| tables.remove(&self.table));
            asked = left.map(|left| left.keys).unwrap_or_default();
            tries += 1;
            if tries >= self.patience.tries && !asked.is_empty() {
                found.failed = Some((Kind::Unavailable, "UnprocessedKeys".to_owned()));
                found.missing = asked.iter().filter_map(|key| get_text(key, PK)).collect();
                break;
            }
            if !asked.is_empty() {
                tokio::time::sleep(self.patience.after(tries)).await;
            }
        }
        found
    }
}

/// What the calls of one read brought, by the keys that each asked for.
struct Founds<'a>(Vec<(Vec<&'a str>, Found)>);

impl Founds<'_> {
    fn answer<T>(&self, key: &str, read: impl FnOnce(&Item) -> Option<T>) -> Result<Option<T>> {
        let found = self.0.iter().find(|(some, _)| some.contains(&key));
        found.map_or(Ok(None), |(_, found)| found.answer(key, read))
    }
}

/// What a read brought: rows by key, and what could not be read.
struct Found {
    rows: HashMap<String, Item>,
    /// Keys that were left unprocessed; where it is empty and something failed, all without a row are.
    missing: HashSet<String>,
    failed: Option<(Kind, String)>,
}

impl Found {
    fn answer<T>(&self, key: &str, read: impl FnOnce(&Item) -> Option<T>) -> Result<Option<T>> {
        if let Some(item) = self.rows.get(key) {
            return read(item).map(Some).ok_or_else(|| error(READ, Kind::Refused, "BadRow"));
        }
        match &self.failed {
            Some((kind, code)) if self.missing.is_empty() || self.missing.contains(key) => {
                Err(error(READ, *kind, code))
            }
            _ => Ok(None),
        }
    }
}

#[async_trait]
impl Ledger for DynamoLedger {
    async fn read(&self, keys: &[String]) -> Vec<Result<Option<LedgerRow>>> {
        let founds = self.find(keys.iter().map(String::as_str)).await;
        keys.iter().map(|key| founds.answer(key, row)).collect()
    }

    async fn look(
        &self,
        target: &TargetId,
        keys: &[String],
    ) -> (Result<Breaker>, Vec<Result<Option<LedgerRow>>>) {
        let own = breaker::key(target);
        let founds = self.find(std::iter::once(own.as_str()).chain(keys.iter().map(String::as_str))).await;
        let standing = founds.answer(&own, breaker::breaker).map(Option::unwrap_or_default);
        (standing, keys.iter().map(|key| founds.answer(key, row)).collect())
    }

    async fn breaker(&self, target: &TargetId) -> Result<Breaker> {
        self.look(target, &[]).await.0
    }

    async fn set_breaker(&self, target: &TargetId, breaker: &Breaker) -> Result<bool> {
        let call = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(breaker::item(target, breaker)))
            // The first row is made of none.
            .condition_expression(if breaker.revision == 1 {
                "attribute_not_exists(#pk)"
            } else {
                "#revision = :before"
            });
        let call = if breaker.revision == 1 {
            call.expression_attribute_names("#pk", PK)
        } else {
            call.expression_attribute_names("#revision", "revision")
                .expression_attribute_values(":before", number(breaker.revision.saturating_sub(1)))
        };
        put_if(call, MARK).await
    }

    async fn mark(&self, key: &str, row: &LedgerRow) -> Result<bool> {
        let call = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item(key, row)))
            .condition_expression("attribute_not_exists(#pk) OR #version <= :version")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_names("#version", "version")
            .expression_attribute_values(":version", text(row.version.as_str()));
        put_if(call, MARK).await
    }
}

#[async_trait]
impl LedgerRows for DynamoLedger {
    async fn page(&self, behind: Option<&str>) -> Result<LedgerPage> {
        let behind = behind.map(|key| Item::from([(PK.to_owned(), text(key))]));
        let call = self.client.scan().table_name(&self.table).consistent_read(true);
        let call = call.set_exclusive_start_key(behind);
        let answer = call.send().await.map_err(|failed| from_sdk(SCAN, &failed))?;
        let bad_row = || error(SCAN, Kind::Refused, "BadRow");
        let records = answer.items().iter().filter(|item| !breaker::is_row(item));
        let rows = records.map(|item| row(item).ok_or_else(bad_row)).collect::<Result<_>>()?;
        let next = match &answer.last_evaluated_key {
            Some(key) => Some(get_text(key, PK).ok_or_else(bad_row)?),
            None => None,
        };
        Ok(LedgerPage { rows, next })
    }
}

fn item(key: &str, row: &LedgerRow) -> Item {
    let mut item = Item::from([
        (PK.to_owned(), text(key)),
        ("version".to_owned(), text(row.version.as_str())),
        ("deleted".to_owned(), AttributeValue::Bool(row.deleted)),
        ("key".to_owned(), text(&row.key)),
        ("tries".to_owned(), number(row.tries)),
    ]);
    if let Some(digest) = &row.digest {
        item.insert("digest".to_owned(), text(digest));
    }
    if let Some(expires_at) = row.expires_at {
        item.insert("expires_at".to_owned(), number(expires_at));
    }
    if let Some(whose) = &row.whose {
        let Whose { target, source, model, rid } = whose;
        for (name, value) in [
            ("target", target.as_str()),
            ("source", source.as_str()),
            ("model", model.as_str()),
            ("rid", rid.as_str()),
        ] {
            item.insert(name.to_owned(), text(value));
        }
    }
    item
}

fn row(item: &Item) -> Option<LedgerRow> {
    Some(LedgerRow {
        version: Version::parse(&get_text(item, "version")?).ok()?,
        digest: get_text(item, "digest"),
        deleted: *item.get("deleted")?.as_bool().ok()?,
        key: get_text(item, "key").unwrap_or_default(),
        tries: get_number(item, "tries").unwrap_or_default(),
        expires_at: get_number(item, "expires_at"),
        whose: whose(item),
    })
}

/// What a row is about; none in rows of releases that did not write it.
fn whose(item: &Item) -> Option<Whose> {
    Some(Whose {
        target: get_text(item, "target")?.parse().ok()?,
        source: get_text(item, "source")?.parse().ok()?,
        model: get_text(item, "model")?.parse().ok()?,
        rid: RecordId::from_wire(get_text(item, "rid")?),
    })
}
