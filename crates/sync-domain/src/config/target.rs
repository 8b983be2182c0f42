//! A target as written in `targets/<name>.yaml`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor};
use url::Url;

use super::array::Array;
use super::auth::Auth;
use super::duration::{self, Quota, Rate};
use crate::change::Operation;
use crate::id::{ModelId, TargetId};

/// A system that events go to.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The target's name; the file is named after it.
    pub target: TargetId,
    /// What it gets; an event that fits one entry is sent.
    pub subscribe: Vec<Subscription>,
    /// Which attributes it gets of every model, under which names; all that the policy publishes without it.
    /// A name that some subscribed model lacks is passed over for that model.
    #[serde(default)]
    pub attributes: Option<Vec<AttributeChoice>>,
    /// Where and how it is reached.
    pub endpoint: Endpoint,
}

impl Target {
    /// The attributes that a subscription sends: its own choice, else the target's; none = all.
    pub fn attributes_of<'a>(&'a self, subscription: &'a Subscription) -> Option<&'a [AttributeChoice]> {
        subscription.attributes.as_deref().or(self.attributes.as_deref())
    }
}

/// One entry of what a target gets.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subscription {
    /// The model.
    pub model: ModelId,
    /// The operations; `create`, `update` and `delete` without it. Snapshots go by `snapshot`.
    #[serde(default = "changes")]
    pub operations: Vec<Operation>,
    /// Sends an update only where one of these attributes changed (names in the event, before the target renames);
    /// empty = every update. What changed is not known for the other operations, so they are always sent.
    #[serde(default)]
    pub when_changed: Vec<String>,
    /// Whether the target gets snapshots (backfill, resync).
    #[serde(default = "yes")]
    pub snapshot: bool,
    /// As [`Target::attributes`], for this entry alone.
    #[serde(default)]
    pub attributes: Option<Vec<AttributeChoice>>,
}

fn changes() -> Vec<Operation> {
    vec![Operation::Create, Operation::Update, Operation::Delete]
}

fn yes() -> bool {
    true
}

/// An attribute that a target gets: `email`, or `{ email: mail }` under another name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributeChoice {
    /// The attribute's path in the event.
    pub name: String,
    /// The path that it has at the target, if another.
    pub rename: Option<String>,
}

impl AttributeChoice {
    /// The path that the attribute has at the target.
    pub fn output(&self) -> &str {
        self.rename.as_deref().unwrap_or(&self.name)
    }
}

impl<'de> Deserialize<'de> for AttributeChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Choice;

        impl<'de> Visitor<'de> for Choice {
            type Value = AttributeChoice;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of an attribute, or { name: new_name }")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<AttributeChoice, E> {
                Ok(AttributeChoice { name: name.to_owned(), rename: None })
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AttributeChoice, A::Error> {
                let one = || de::Error::custom("one attribute per entry: { name: new_name }");
                let (name, new_name) = map.next_entry::<String, String>()?.ok_or_else(one)?;
                if map.next_entry::<String, String>()?.is_some() {
                    return Err(one());
                }
                Ok(AttributeChoice { name, rename: Some(new_name) })
            }
        }

        deserializer.deserialize_any(Choice)
    }
}

/// Where and how a target is reached; what it is decides the kind. `dynamodb: { … }` is a table, all else is HTTP.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there is one of a target, and it stays where it is")]
pub enum Endpoint {
    /// The target answers HTTP requests.
    Http(HttpEndpoint),
    /// The target is a DynamoDB table.
    DynamoDb(TableEndpoint),
}

impl Endpoint {
    /// How much the target takes, over all running functions.
    pub fn limits(&self) -> Limits {
        let (rate, concurrency, quota) = match self {
            Self::Http(endpoint) => (endpoint.rate, endpoint.concurrency, endpoint.quota),
            Self::DynamoDb(endpoint) => (endpoint.rate, endpoint.concurrency, endpoint.quota),
        };
        Limits { rate, concurrency, quota }
    }

    /// The name of the secret in Secrets Manager that a delivery needs, if it needs one.
    pub fn secret(&self) -> Option<&str> {
        match self {
            Self::Http(endpoint) => endpoint.auth.secret(),
            Self::DynamoDb(_) => None,
        }
    }

    /// The name of the DynamoDB table that the target is, if it is one.
    pub fn table(&self) -> Option<&str> {
        match self {
            Self::Http(_) => None,
            Self::DynamoDb(endpoint) => Some(&endpoint.table),
        }
    }
}

/// What makes an endpoint a table.
const DYNAMODB: &str = "dynamodb";

/// By hand, by the first name that stands there: of an untagged enum serde says no more than that nothing fits, not what is
/// wrong inside, nor where.
impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfAKind;

        impl<'de> Visitor<'de> for OfAKind {
            type Value = Endpoint;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("{ url: …, auth: …, … }, or { dynamodb: { table: …, … } }")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Endpoint, A::Error> {
                let first = map.next_key::<String>()?;
                if first.as_deref() != Some(DYNAMODB) {
                    let map = MapAccessDeserializer::new(FromFirst { first, rest: map });
                    return HttpEndpoint::deserialize(map).map(Endpoint::Http);
                }
                let table = map.next_value()?;
                match map.next_key::<String>()? {
                    None => Ok(Endpoint::DynamoDb(table)),
                    Some(other) => Err(de::Error::unknown_field(&other, &[DYNAMODB])),
                }
            }
        }

        deserializer.deserialize_any(OfAKind)
    }
}

/// A map whose first name has been read already.
struct FromFirst<A> {
    first: Option<String>,
    rest: A,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for FromFirst<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        match self.first.take() {
            Some(first) => seed.deserialize(first.into_deserializer()).map(Some),
            None => self.rest.next_key_seed(seed),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.rest.next_value_seed(seed)
    }
}

/// A DynamoDB table that events are written to, one item per record.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableEndpoint {
    /// The table's name, in the account and region of the stack.
    pub table: String,
    /// The table's partition key, and its sort key if it has one, by the names of the model's key attributes in the event
    /// (`{ name: new_name }` under another one). Without it the partition key is the text `pk`, made of the model and the
    /// key: for tables that hold several models, and for keys of more than two attributes.
    #[serde(default)]
    pub key: Option<Vec<AttributeChoice>>,
    /// At most so many writes in so much time, over all running functions.
    #[serde(default)]
    pub rate: Option<Rate>,
    /// At most so many writes at once, over all running functions.
    #[serde(default)]
    pub concurrency: Option<u32>,
    /// At most so many writes a day, over all running functions.
    #[serde(default)]
    pub quota: Option<Quota>,
}

/// Where and how a target is reached by HTTP.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpEndpoint {
    /// The address: https (http for loopback alone, on a laptop), no user name or password.
    #[serde(deserialize_with = "url")]
    pub url: Url,
    /// How a delivery proves that it comes from here. Said on purpose, `none` too.
    pub auth: Auth,
    /// For one request, connection included; `10s` without it.
    #[serde(default = "ten_seconds", deserialize_with = "duration::deserialize")]
    pub timeout: Duration,
    /// At most so many requests in so much time, over all running functions.
    #[serde(default)]
    pub rate: Option<Rate>,
    /// At most so many requests at once, over all running functions.
    #[serde(default)]
    pub concurrency: Option<u32>,
    /// At most so many requests a day, over all running functions.
    #[serde(default)]
    pub quota: Option<Quota>,
    /// What an operation becomes at this target; `POST` of the event to `url` for those not listed.
    #[serde(default)]
    pub operations: BTreeMap<Operation, RequestMapping>,
    /// What a status of this target means where it differs from the rule.
    #[serde(default)]
    pub statuses: BTreeMap<u16, StatusClass>,
    /// Several events in one request; each in its own without it.
    #[serde(default)]
    pub array: Option<Array>,
    /// Private networks that the address may be in; all others are refused.
    #[serde(default, deserialize_with = "networks")]
    pub allow_networks: Vec<IpNet>,
    /// Ports that the address may use; 443 without it.
    #[serde(default = "https_port")]
    pub ports: Vec<u16>,
}

/// How much a target takes, over all running functions; none = as much as comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Requests in a time.
    pub rate: Option<Rate>,
    /// Requests at once.
    pub concurrency: Option<u32>,
    /// Requests of a day.
    pub quota: Option<Quota>,
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

pub(super) fn https_port() -> Vec<u16> {
    vec![443]
}

pub(super) fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
    struct Address;

    impl Visitor<'_> for Address {
        type Value = Url;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an address: https://host/path")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Url, E> {
            // The address itself stays out of the message: it may hold a password.
            Url::parse(text)
                .map_err(|error| E::custom(format_args!("not an address ({error}); write https://host/path")))
        }
    }

    deserializer.deserialize_str(Address)
}

pub(super) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    struct Network(IpNet);

    impl<'de> Deserialize<'de> for Network {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Range;

            impl Visitor<'_> for Range {
                type Value = Network;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a network in CIDR form: 10.20.0.0/16")
                }

                fn visit_str<E: de::Error>(self, text: &str) -> Result<Network, E> {
                    text.parse()
                        .map(Network)
                        .map_err(|_| E::custom("must be a network in CIDR form: 10.20.0.0/16"))
                }
            }

            deserializer.deserialize_str(Range)
        }
    }

    let networks = Vec::<Network>::deserialize(deserializer)?;
    Ok(networks.into_iter().map(|network| network.0).collect())
}

/// The request that an operation becomes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestMapping {
    /// The method; `POST` without it.
    #[serde(default)]
    pub method: Method,
    /// Appended to the endpoint's `url`, with `{name}` for key attributes: `/customers/{customer_id}`.
    #[serde(default)]
    pub path: Option<String>,
    /// What is sent; the whole event without it.
    #[serde(default)]
    pub body: Body,
}

/// The method of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// `POST`.
    #[default]
    Post,
    /// `PUT`.
    Put,
    /// `PATCH`.
    Patch,
    /// `DELETE`.
    Delete,
}

impl Method {
    /// The method as HTTP writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// What a request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// The whole event (CloudEvents).
    #[default]
    Event,
    /// The record's attributes alone.
    Attributes,
    /// The record's key alone.
    Key,
    /// Nothing.
    None,
}

/// What a status of a target means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatusClass {
    /// The target has it.
    Accepted,
    /// It may work later.
    Retry,
    /// It is about the record: dead letter and ticket.
    Reject,
    /// The target has a newer version.
    Stale,
    /// It is about the target: the breaker opens, one ticket, nothing dead-lettered.
    Misconfigured,
}
