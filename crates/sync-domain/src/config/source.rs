//! A source as written in `sources/<name>.yaml`.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use crate::id::{ModelId, SourceId};

/// A system that changes come from. Exactly one way in per source: `push`, `postgres` or `dynamodb`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The source's name; the file is named after it.
    pub source: SourceId,
    /// The source sends its changes to the push endpoint.
    #[serde(default)]
    pub push: Option<Push>,
    /// `capture-pull` reads a PostgreSQL database.
    #[serde(default)]
    pub postgres: Option<Postgres>,
    /// `capture-stream` reads the stream of a DynamoDB table.
    #[serde(default)]
    pub dynamodb: Option<Dynamodb>,
}

impl Source {
    /// The models that the source may write, in the order of the file.
    pub fn models(&self) -> Vec<&ModelId> {
        let push = self.push.iter().flat_map(Push::models);
        let postgres = self.postgres.iter().flat_map(|postgres| postgres.tables.values().map(Table::model));
        push.chain(postgres).chain(self.dynamodb.iter().map(|dynamodb| &dynamodb.model)).collect()
    }

    /// Whether the source may write the model.
    pub fn writes(&self, model: &ModelId) -> bool {
        self.models().contains(&model)
    }

    /// What stands in front of every version of the source.
    pub fn epoch(&self) -> u32 {
        let push = self.push.as_ref().map(|push| push.epoch);
        let postgres = self.postgres.as_ref().map(|postgres| postgres.epoch);
        push.or(postgres).or(self.dynamodb.as_ref().map(|dynamodb| dynamodb.epoch)).unwrap_or(0)
    }
}

/// How a source pushes: who it is, what it may write, how it counts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Push {
    /// The name of the secret in Secrets Manager that signs its requests (Standard Webhooks).
    #[serde(default)]
    pub secret: Option<String>,
    /// The ARN of the IAM role or user that may write as this source on the IAM route.
    #[serde(default)]
    pub principal: Option<String>,
    /// What its requests hold.
    #[serde(default)]
    pub format: PushFormat,
    /// Format `changes`: the models that it may write; a model has exactly one source.
    #[serde(default)]
    pub models: Vec<ModelId>,
    /// Format `debezium`: from the table as events name it (`schema.table` in PostgreSQL, `database.table` in MySQL) to its
    /// model; what comes of a table with none is passed over.
    #[serde(default)]
    pub tables: BTreeMap<String, Option<ModelId>>,
    /// Format `changes`: what tells its newer changes from its older ones.
    #[serde(default)]
    pub version: VersionKind,
    /// Stands in front of every version; raised together with a resync when the source starts to count anew.
    #[serde(default)]
    pub epoch: u32,
}

impl Push {
    /// The models that the source may write.
    pub fn models(&self) -> impl Iterator<Item = &ModelId> {
        self.models.iter().chain(self.tables.values().flatten())
    }

    /// Whether its changes come without a version, so that the order of their arrival counts.
    pub fn counts_by_arrival(&self) -> bool {
        self.format == PushFormat::Changes && self.version == VersionKind::Queue
    }
}

/// What the requests of a push source hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PushFormat {
    /// Changes as this project writes them.
    #[default]
    Changes,
    /// Change events of Debezium; their place in the database's log is the version.
    Debezium,
}

/// What a push source counts its changes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VersionKind {
    /// A whole number per record that only grows, in each change.
    Integer,
    /// A time (microseconds since 1970, or RFC 3339) per record that only grows, in each change.
    Time,
    /// Nothing in the change: the order of arrival counts.
    #[default]
    Queue,
}

impl VersionKind {
    /// The kind as the file writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Time => "time",
            Self::Queue => "queue",
        }
    }
}

impl fmt::Display for VersionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A PostgreSQL database that is read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Postgres {
    /// The name of the secret that holds the connection URL: `postgresql://user:password@host:5432/database`.
    pub url_secret: String,
    /// How changes are found.
    pub mode: PullMode,
    /// From the table (`schema.table`) to its model.
    pub tables: BTreeMap<String, Table>,
    /// Stands in front of every version; raised by a resync.
    #[serde(default)]
    pub epoch: u32,
    /// The replication slot of mode `log`; `datasync_<source>` without it.
    #[serde(default)]
    pub slot: Option<String>,
    /// The publication of mode `log`; `datasync_<source>` without it.
    #[serde(default)]
    pub publication: Option<String>,
    /// A file below the configuration directory with the certificates (PEM) that the server's certificate is checked
    /// against; the public ones without it.
    #[serde(default)]
    pub root_certificates: Option<String>,
    /// The pause between two polls of one run, `1s` without it.
    #[serde(default)]
    pub poll: Option<String>,
}

impl Postgres {
    /// The replication slot that the source is read by in mode `log`.
    pub fn slot_of(&self, source: &SourceId) -> String {
        named(self.slot.as_deref(), source)
    }

    /// The publication that tells of its tables in mode `log`.
    pub fn publication_of(&self, source: &SourceId) -> String {
        named(self.publication.as_deref(), source)
    }
}

/// The name given, or one after the source. Slots have names of `[a-z0-9_]`.
fn named(given: Option<&str>, source: &SourceId) -> String {
    given.map_or_else(|| format!("datasync_{}", source.as_str().replace('-', "_")), str::to_owned)
}

/// How the changes of a database are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullMode {
    /// In the transaction log, by logical decoding: every change, in commit order.
    Log,
    /// In a shadow table that triggers write: every change.
    Trigger,
    /// By a column that each write raises: the last state of each row, deletes only where the table shows them.
    Timestamp,
}

impl PullMode {
    /// The mode as the file writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Trigger => "trigger",
            Self::Timestamp => "timestamp",
        }
    }
}

/// What becomes of a table: its model alone, or with more to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Table {
    /// The model's name.
    Model(ModelId),
    /// The model and how the table is read.
    Reading(TableReading),
}

/// By hand: of an untagged enum serde says no more than that nothing fits, not what is wrong inside.
impl<'de> Deserialize<'de> for Table {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ModelOrMore;

        impl<'de> Visitor<'de> for ModelOrMore {
            type Value = Table;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a model, or { model: …, … }")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Table, E> {
                name.parse().map(Table::Model).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Table, A::Error> {
                TableReading::deserialize(MapAccessDeserializer::new(map)).map(Table::Reading)
            }
        }

        deserializer.deserialize_any(ModelOrMore)
    }
}

impl Table {
    /// The model of the table's rows.
    pub fn model(&self) -> &ModelId {
        match self {
            Self::Model(model) => model,
            Self::Reading(reading) => &reading.model,
        }
    }

    /// How it is read, if the file says more than the model.
    pub fn reading(&self) -> Option<&TableReading> {
        match self {
            Self::Model(_) => None,
            Self::Reading(reading) => Some(reading),
        }
    }
}

/// How a table is read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableReading {
    /// The model of its rows.
    pub model: ModelId,
    /// Mode `timestamp`: what every write raises.
    #[serde(default)]
    pub cursor: Option<Cursor>,
    /// Mode `timestamp`: the column that is not null (or true) in a row that counts as deleted.
    #[serde(default)]
    pub soft_delete: Option<String>,
    /// Mode `timestamp`: how often the table's keys are compared with those that were captured, so that deletes are seen
    /// (`1h`); never without it.
    #[serde(default)]
    pub compare_keys: Option<String>,
    /// What a change of the table's columns does.
    #[serde(default)]
    pub drift: Drift,
}

/// The column that every write of a row raises.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cursor {
    /// A column of type `xid8` that a trigger fills with `pg_current_xact_id()`: misses nothing.
    Xid8(String),
    /// A column of type `timestamptz` or `timestamp` that the database's clock fills.
    Timestamp(String),
}

/// What a change of a table's columns (listed one dropped, retyped) does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Drift {
    /// The records go on as they are; a listed column that is gone is missing.
    #[default]
    Ignore,
    /// The table's records are set aside, with one ticket, until the configuration fits again.
    Quarantine,
    /// The source stops, with a ticket.
    Fail,
}

/// A DynamoDB table whose stream is read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dynamodb {
    /// The table's name.
    pub table: String,
    /// The model of its items.
    pub model: ModelId,
    /// What becomes of the deletes that DynamoDB makes itself when an item's time to live is over.
    #[serde(default)]
    pub ttl_deletes: TtlDeletes,
    /// Stands in front of every version; raised by a resync.
    #[serde(default)]
    pub epoch: u32,
}

/// What becomes of the deletes that DynamoDB makes itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TtlDeletes {
    /// They are deletes like others, but for their origin: `<source>.ttl`.
    #[default]
    Capture,
    /// Targets keep what the table forgets.
    Ignore,
}
