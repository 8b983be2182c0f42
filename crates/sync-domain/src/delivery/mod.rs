//! What a target gets of an event, as pure functions: whether ([`filter`], [`ledger`]), what ([`mapping`], [`request`],
//! [`item`]), when ([`limit`]) and what its answer means ([`status`], [`backoff`], [`breaker`]).
//!
//! **Invariant.** Nothing here sends anything or knows the time: the shell (`deliver`) passes in what it has read and
//! does what comes out.

pub mod array;
pub mod backoff;
pub mod breaker;
pub mod digest;
pub mod filter;
pub mod item;
pub mod ledger;
pub mod limit;
pub mod mapping;
pub mod request;
pub mod status;

use crate::config::{Endpoint, HttpEndpoint, TableEndpoint, Target};
use crate::scan::Limits;

/// A target as it is used: its configuration, checked, with all that can be made ready before the first event.
#[derive(Debug)]
pub struct CompiledTarget {
    target: Target,
    mappings: Vec<mapping::Mapping>,
    endpoint: CompiledEndpoint,
}

/// Where and how a target is reached, made ready.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of a target, and it stays where it is")]
pub enum CompiledEndpoint {
    /// By HTTP.
    Http {
        /// The endpoint as written.
        endpoint: HttpEndpoint,
        /// What an operation becomes.
        requests: request::Requests,
    },
    /// A DynamoDB table.
    DynamoDb {
        /// The endpoint as written.
        endpoint: TableEndpoint,
        /// What a record becomes.
        items: item::Items,
    },
}

/// A target's configuration that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An entry of `attributes`.
    #[error("attributes: {0}")]
    Mapping(#[from] mapping::Error),
    /// An entry of `endpoint.operations`.
    #[error("endpoint.operations: {0}")]
    Request(#[from] request::Error),
    /// The key of a table, or an attribute that meets it.
    #[error("endpoint.dynamodb.key: {0}")]
    Item(#[from] item::Error),
}

impl CompiledTarget {
    /// Checks a target and makes it ready.
    pub fn compile(target: Target) -> Result<Self, Error> {
        let mappings = target
            .subscribe
            .iter()
            .map(|subscription| mapping::Mapping::compile(target.attributes_of(subscription)))
            .collect::<Result<_, _>>()?;
        let endpoint = match &target.endpoint {
            Endpoint::Http(endpoint) => CompiledEndpoint::Http {
                endpoint: endpoint.clone(),
                requests: request::Requests::compile(endpoint)?,
            },
            Endpoint::DynamoDb(endpoint) => CompiledEndpoint::DynamoDb {
                endpoint: endpoint.clone(),
                items: item::Items::compile(endpoint, &target)?,
            },
        };
        Ok(Self { target, mappings, endpoint })
    }

    /// The target as written.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// What becomes of the attributes under an entry of `subscribe`, by its index.
    pub fn mapping(&self, subscription: usize) -> Option<&mapping::Mapping> {
        self.mappings.get(subscription)
    }

    /// Where and how it is reached.
    pub fn endpoint(&self) -> &CompiledEndpoint {
        &self.endpoint
    }
}

/// Bounds for events: looser than those for changes, since governance has checked the records and wrapped them.
fn limits() -> Limits {
    Limits { bytes: 4 << 20, depth: 64, items: 500_000, string: 1 << 20, names: 100_000 }
}

#[cfg(test)]
fn test_target(url: &str) -> Target {
    Target {
        target: "loyalty".parse().unwrap(),
        subscribe: Vec::new(),
        attributes: None,
        endpoint: Endpoint::Http(test_endpoint(url)),
    }
}

#[cfg(test)]
fn test_endpoint(url: &str) -> HttpEndpoint {
    HttpEndpoint {
        url: url.parse().unwrap(),
        auth: crate::config::Auth::None,
        timeout: std::time::Duration::from_secs(10),
        rate: None,
        concurrency: None,
        quota: None,
        operations: Default::default(),
        statuses: Default::default(),
        array: None,
        allow_networks: Vec::new(),
        ports: vec![443],
    }
}
