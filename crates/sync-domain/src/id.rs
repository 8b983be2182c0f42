//! Names and identifiers: one type for each, so that a source is never taken for a target. They are shared, not copied:
//! each event names its source, model and record several times.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// A name that breaks the form of names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a name has 1 to 48 characters: lower-case letters, digits, hyphens and underscores, a letter first")]
pub struct NameError;

fn check_name(name: &str) -> Result<(), NameError> {
    let starts_with_letter = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    if starts_with_letter && name.len() <= 48 && name.bytes().all(allowed) { Ok(()) } else { Err(NameError) }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(name: String) -> Result<Self, NameError> {
                check_name(&name)?;
                Ok(Self(name.into()))
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;

            fn from_str(name: &str) -> Result<Self, NameError> {
                check_name(name)?;
                Ok(Self(name.into()))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
    };
}

name!(
    /// A system that changes come from, as `sources/<name>.yaml` names it.
    SourceId
);
name!(
    /// A kind of record, as `models/<name>.yaml` names it.
    ModelId
);
name!(
    /// A system that events go to, as `targets/<name>.yaml` names it.
    TargetId
);

macro_rules! opaque {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }

        impl $name {
            /// Takes the identifier as it stands on the wire.
            pub fn from_wire(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

opaque!(
    /// The record id `rid`: a keyed hash of (source, model, key). Message group, ledger key, log and ticket key.
    RecordId
);
opaque!(
    /// `evt_` and the hash of (record id, version, operation): the `webhook-id` of every delivery of the event.
    EventId
);

/// What a message's deduplication id must keep apart: SQS and SNS drop a second message with the same id for
/// five minutes, so each send that is meant to arrive names why it is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop<'a> {
    /// The first pass of the event through this queue.
    First,
    /// The first pass of a change whose version comes from outside: a keyed hash of its content, so that two contents
    /// under one version both pass.
    Content(&'a str),
    /// The way on of a message (to the next queue or the topic, to a dead-letter queue, or back): the `MessageId` that it
    /// had.
    Moved(&'a str),
    /// A backfill or replay: the id of its run.
    Run(&'a str),
}

/// The `MessageDeduplicationId` of one send: the hash of (id, hop), 43 characters.
pub fn dedup_id(id: &str, hop: Hop<'_>) -> String {
    let (kind, value) = match hop {
        Hop::First => ("first", ""),
        Hop::Content(hash) => ("content", hash),
        Hop::Moved(message_id) => ("moved", message_id),
        Hop::Run(run_id) => ("run", run_id),
    };
    let mut input = Vec::with_capacity(id.len() + value.len() + 24);
    for part in [id, kind, value] {
        push_part(&mut input, part.as_bytes());
    }
    URL_SAFE_NO_PAD.encode(digest(&SHA256, &input))
}

/// Appends a part behind its length, so that no two lists of parts give the same bytes.
pub fn push_part(out: &mut Vec<u8>, part: &[u8]) {
    out.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(part);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_form() {
        for good in ["a", "crm-db", "x1", "loyalty_eu"] {
            assert!(good.parse::<SourceId>().is_ok(), "{good}");
        }
        let long = "a".repeat(49);
        for bad in ["", "A", "1a", "a b", "a/b", "ü", "a.b", long.as_str()] {
            assert!(bad.parse::<SourceId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_hop_has_a_deduplication_id_of_its_own() {
        let ids = [
            dedup_id("evt_1", Hop::First),
            dedup_id("evt_2", Hop::First),
            dedup_id("evt_1", Hop::Moved("m1")),
            dedup_id("evt_1", Hop::Moved("m2")),
            dedup_id("evt_1", Hop::Run("m1")),
            dedup_id("evt_1", Hop::Content("m1")),
        ];
        for (index, id) in ids.iter().enumerate() {
            assert_eq!(id.len(), 43);
            assert!(!ids[..index].contains(id));
        }
    }
}
