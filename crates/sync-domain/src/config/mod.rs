//! What a user writes: models, sources and targets, one YAML file each, as types.
//!
//! Policies and targets are compiled from them. Reading and checking the files is the matter of `sync-config`.

pub mod array;
pub mod auth;
pub mod duration;
pub mod filter;
pub mod model;
pub mod source;
pub mod target;

pub use self::array::{Array, SizeError, parse_size};
pub use self::auth::{Auth, AwsService, ClientAuth, OAuth2, SigV4};
pub use self::duration::{DurationError, Quota, QuotaError, Rate, RateError, parse_duration};
pub use self::model::*;
pub use self::source::{
    Cursor, Drift, Dynamodb, Postgres, PullMode, Push, PushFormat, Source, Table, TableReading, TtlDeletes,
    VersionKind,
};
pub use self::target::{
    AttributeChoice, Body, Endpoint, HttpEndpoint, Limits, Method, RequestMapping, StatusClass, Subscription,
    TableEndpoint, Target,
};
