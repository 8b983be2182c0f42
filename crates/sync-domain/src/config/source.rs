//! A source as written in `sources/<name>.yaml`.

use std::fmt;

use serde::Deserialize;

use crate::id::{ModelId, SourceId};

/// A system that changes come from. Exactly one way in per source; `push` is the only one so far.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The source's name; the file is named after it.
    pub source: SourceId,
    /// The source sends its changes to the push endpoint.
    #[serde(default)]
    pub push: Option<Push>,
}

impl Source {
    /// The models that the source may write, in the order of the file.
    pub fn models(&self) -> &[ModelId] {
        self.push.as_ref().map_or(&[], |push| push.models.as_slice())
    }

    /// What stands in front of every version of the source.
    pub fn epoch(&self) -> u32 {
        self.push.as_ref().map_or(0, |push| push.epoch)
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
    /// The models that it may write; a model has exactly one source.
    pub models: Vec<ModelId>,
    /// What tells its newer changes from its older ones.
    #[serde(default)]
    pub version: VersionKind,
    /// Stands in front of every version; raised together with a resync when the source starts to count anew.
    #[serde(default)]
    pub epoch: u32,
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
