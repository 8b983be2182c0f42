//! Tables of targets, in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use sync_domain::delivery::item::{Item, VERSION, Value};
use sync_domain::ports::{Error, Kind, Put, Result, VersionedTable};

use crate::fault::Faults;
use crate::lock;

const PUT: &str = "memory:Put";

/// Tables by name, each with the attributes of its key and its items by what stands in these.
#[derive(Debug, Clone, Default)]
pub struct MemoryTables {
    /// The faults of [`VersionedTable::put`].
    pub faults: Faults,
    tables: Arc<Mutex<BTreeMap<String, Table>>>,
    busy: Arc<Mutex<usize>>,
}

#[derive(Debug, Default)]
struct Table {
    key: Vec<String>,
    /// The attribute, a text, that an index has for its key.
    index: Option<String>,
    /// By the key's values as they print.
    items: BTreeMap<String, BTreeMap<String, Value>>,
}

impl MemoryTables {
    /// Without any table.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with an empty table of this key.
    #[must_use]
    pub fn with(self, table: &str, key: &[&str]) -> Self {
        let key = key.iter().map(|name| (*name).to_owned()).collect();
        lock(&self.tables).insert(table.to_owned(), Table { key, ..Table::default() });
        self
    }

    /// Gives a table an index with this key, a text.
    pub fn index(&self, table: &str, key: &str) {
        if let Some(table) = lock(&self.tables).get_mut(table) {
            table.index = Some(key.to_owned());
        }
    }

    /// Throttles the next puts.
    pub fn throttle(&self, puts: usize) {
        *lock(&self.busy) = puts;
    }

    /// Writes an item as somebody else would: without a condition.
    pub fn set(&self, table: &str, item: BTreeMap<String, Value>) {
        if let Some(table) = lock(&self.tables).get_mut(table) {
            let key = table.key.iter().map(|name| item.get(name)).collect::<Vec<_>>();
            table.items.insert(format!("{key:?}"), item);
        }
    }

    /// The items of a table, by nothing that means anything.
    pub fn items(&self, table: &str) -> Vec<BTreeMap<String, Value>> {
        lock(&self.tables).get(table).map(|table| table.items.values().cloned().collect()).unwrap_or_default()
    }
}

#[async_trait]
impl VersionedTable for MemoryTables {
    async fn put(&self, table: &str, item: Item) -> Result<Put> {
        self.faults.single(PUT, || {
            let refused = |code: &str| Error {
                kind: Kind::Refused,
                operation: PUT,
                code: code.to_owned(),
                source: None,
            };
            let busy = &mut *lock(&self.busy);
            if *busy > 0 {
                *busy -= 1;
                return Ok(Put::Busy("ThrottlingException".to_owned()));
            }
            let mut tables = lock(&self.tables);
            let table = tables.get_mut(table).ok_or_else(|| refused("ResourceNotFoundException"))?;
            let item: BTreeMap<String, Value> = item.attributes.into_iter().collect();
            let key: Option<Vec<&Value>> = table.key.iter().map(|name| item.get(name)).collect();
            let indexed = table.index.as_ref().and_then(|name| item.get(name));
            if indexed.is_some_and(|value| !matches!(value, Value::Text(text) if !text.is_empty())) {
                return Err(refused("ValidationException"));
            }
            // What DynamoDB says of an item without its table's key.
            let key = format!(
                "{:?}",
                key.ok_or_else(|| refused("ValidationException"))?.iter().map(Some).collect::<Vec<_>>()
            );
            let standing = table.items.get(&key).and_then(|item| item.get(VERSION));
            let newer = match (standing, item.get(VERSION)) {
                (Some(Value::Text(standing)), Some(Value::Text(version))) => standing > version,
                (standing, _) => standing.is_some(),
            };
            if newer {
                return Ok(Put::Newer);
            }
            table.items.insert(key, item);
            Ok(Put::Written)
        })
    }
}
