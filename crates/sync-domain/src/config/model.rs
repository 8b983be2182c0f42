//! A model as written in `models/<name>.yaml`. `policy` compiles it.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use crate::id::ModelId;
use crate::predicate::Predicate;

/// A kind of record and what governance says of each of its attributes. What is not listed stays behind.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The model's name; the file is named after it.
    pub model: ModelId,
    /// Counts the incompatible changes of the model; stands in `dataschema`.
    #[serde(default = "one")]
    pub schema: u32,
    /// The attributes that tell one record from another, each a top-level path.
    pub key: Vec<String>,
    /// The attribute that names the person whose data this is.
    #[serde(default)]
    pub subject: Option<String>,
    /// Whether `before` travels with the event, under the same rules as `after`.
    #[serde(default)]
    pub before: bool,
    /// What a listed attribute that a record lacks becomes.
    #[serde(default, deserialize_with = "null_or")]
    pub missing: Missing,
    /// The attributes by path: dotted, with `[]` behind the name of an array (`contacts[].email`).
    pub attributes: BTreeMap<String, Attribute>,
    /// A look-up in another system that every record of the model passes.
    #[serde(default)]
    pub enrich: Option<Enrich>,
}

fn one() -> u32 {
    1
}

/// Takes YAML's own `null` for the choice of that name.
fn null_or<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// What a listed attribute that a record lacks becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// `null`: every event has every attribute.
    #[default]
    Null,
    /// It stays missing.
    Keep,
    /// The record is refused, with a ticket.
    Refuse,
}

/// One attribute.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attribute {
    /// How closely governance guards it.
    pub class: Class,
    /// The type that its values must have; without it any scalar will do.
    #[serde(default, rename = "type")]
    pub kind: Option<Type>,
    /// How it is protected. `sensitive` attributes and computed ones that read `personal` or higher must say.
    #[serde(default)]
    pub protect: Option<Protect>,
    /// The path that it has in the event, if another; `[]` must stand where they stand in its own path.
    #[serde(default, rename = "as")]
    pub output: Option<String>,
    /// Makes the attribute out of others instead of reading it.
    #[serde(default)]
    pub compute: Option<Compute>,
}

/// How closely governance guards an attribute, in rising order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Anybody may know it.
    Public,
    /// The business may know it.
    Internal,
    /// Names a record.
    Identifier,
    /// Says something of a person.
    Personal,
    /// Harms a person when it leaks; must be protected.
    Sensitive,
}

/// The type of an attribute's values. `null` fits every type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Type {
    /// A JSON string.
    String,
    /// A number without fraction and exponent.
    Integer,
    /// Any number, every digit kept.
    Decimal,
    /// `true` or `false`.
    Boolean,
    /// A string that holds an RFC 3339 time.
    Time,
    /// Anything, objects and arrays too, taken whole as one value.
    Json,
}

/// How a value is protected.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protect {
    /// Leaves it in clear, said on purpose.
    None,
    /// Replaces it by a keyed hash: equal values give equal tokens.
    Tokenize,
    /// Seals it with AES-256-GCM under a data key of (model, attribute).
    Encrypt,
    /// Replaces it by `null`.
    Redact,
    /// Hides a part of it, or all behind a fixed text.
    Mask(Mask),
}

/// Which part of a masked text stays to be read. Where the kept ends would meet, all is hidden.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mask {
    /// Leading characters that stay.
    #[serde(default)]
    pub keep_first: usize,
    /// Trailing characters that stay.
    #[serde(default)]
    pub keep_last: usize,
    /// A text that stands instead of the whole value; not together with the other two.
    #[serde(default)]
    pub text: Option<String>,
}

/// An attribute made out of others of the same record.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compute {
    /// Computes only where this holds; `null` elsewhere.
    #[serde(default)]
    pub when: Option<Predicate>,
    /// A fixed scalar.
    #[serde(default)]
    pub constant: Option<Literal>,
    /// Texts and attributes one after the other: `[{ attribute: first_name }, { text: " " }, { attribute: last_name }]`.
    #[serde(default)]
    pub concat: Option<Vec<ConcatPart>>,
    /// The first of these attributes that is neither missing nor null.
    #[serde(default)]
    pub coalesce: Option<Vec<String>>,
    /// A code list.
    #[serde(default)]
    pub code: Option<CodeList>,
}

/// A part of a concatenation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConcatPart {
    /// A fixed text.
    Text(String),
    /// The path of an attribute.
    Attribute(String),
}

/// A code list: the values of one attribute and what each becomes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeList {
    /// The attribute that is looked up, by path.
    pub of: String,
    /// From its value (as text) to the computed one.
    pub map: BTreeMap<String, Literal>,
    /// For values that the map lacks; `null` without it.
    #[serde(default)]
    pub default: Option<Literal>,
}

/// A scalar in a configuration.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Literal {
    /// `true`, `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A text; decimals stand in quotes, so that no digit is lost.
    Text(String),
}

/// A look-up in another system.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrich {
    /// Which records are looked up; the others pass untouched.
    #[serde(default)]
    pub when: Option<Predicate>,
    /// Asks an HTTP service.
    #[serde(default)]
    pub http: Option<HttpLookup>,
    /// Reads a DynamoDB table.
    #[serde(default)]
    pub dynamodb: Option<TableLookup>,
    /// What a record that the other system does not know gets.
    #[serde(default, deserialize_with = "null_or")]
    pub absent: Absent,
}

/// What a record that the other system does not know gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Absent {
    /// `null` in every attribute that the look-up sets.
    #[default]
    Null,
    /// A ticket; the record does not go on.
    Refuse,
}

/// A look-up by `GET` at an HTTP service that answers with a JSON object.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpLookup {
    /// The address, with `{path}` for clear attributes (their path in the event): `https://host/customers/{customer_id}`.
    pub url: String,
    /// A secret whose text is sent as a header.
    #[serde(default)]
    pub api_key: Option<ApiKey>,
    /// For one request; `3s` without it.
    #[serde(default)]
    pub timeout: Option<String>,
    /// How long an answer may be used again; `60s` without it, `0s` = never.
    #[serde(default)]
    pub cache: Option<String>,
    /// From the attribute (as listed in `attributes`) to the dotted path in the answer.
    pub set: BTreeMap<String, String>,
    /// Private networks that the address may be in.
    #[serde(default)]
    pub allow_networks: Vec<String>,
}

/// A secret that is sent as a header.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// The header's name.
    pub header: String,
    /// The name of the secret in Secrets Manager.
    pub secret: String,
}

/// A look-up by key in a DynamoDB table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableLookup {
    /// The table's name.
    pub table: String,
    /// From the table's key attribute to the clear attribute (its path in the event) that fills it.
    pub key: BTreeMap<String, String>,
    /// How long an answer may be used again; `60s` without it, `0s` = never.
    #[serde(default)]
    pub cache: Option<String>,
    /// From the attribute (as listed in `attributes`) to the dotted path in the item.
    pub set: BTreeMap<String, String>,
}

impl Enrich {
    /// What the look-up sets: from the attribute to the path in the answer.
    pub fn set(&self) -> &BTreeMap<String, String> {
        static NOTHING: BTreeMap<String, String> = BTreeMap::new();
        let http = self.http.as_ref().map(|lookup| &lookup.set);
        http.or(self.dynamodb.as_ref().map(|lookup| &lookup.set)).unwrap_or(&NOTHING)
    }
}
