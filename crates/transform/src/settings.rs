//! The function's settings, from its environment.

use sync_lambda::settings::{Error, Lookup, or_default, required};

/// Where things are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `QUEUE_URL`: the Changes queue
    pub queue: String,
    /// `EVENTS_TOPIC_ARN`
    pub events_topic: String,
    /// `ENRICHMENT_QUEUE_URL`
    pub enrichment_queue: String,
    /// `DEAD_LETTER_QUEUE_URL`
    pub dead_letter_queue: String,
    /// `FAILURE_BUS`
    pub failure_bus: String,
    /// `KEYS_TABLE`
    pub keys_table: String,
    /// `VALUE_KEY_ARN`
    pub value_key: String,
    /// `TOKEN_KEY_ARN`
    pub token_key: String,
    /// `TOKEN_KEY_VERSION`, 1 by default
    pub token_key_version: u32,
    /// `MAX_RECEIVES`: `maxReceiveCount` of the Changes queue
    pub max_receives: u32,
}

impl Settings {
    /// Reads the settings; an error names the variable.
    pub fn read(lookup: &(impl Lookup + ?Sized)) -> Result<Self, Error> {
        Ok(Self {
            queue: required(lookup, "QUEUE_URL")?,
            events_topic: required(lookup, "EVENTS_TOPIC_ARN")?,
            enrichment_queue: required(lookup, "ENRICHMENT_QUEUE_URL")?,
            dead_letter_queue: required(lookup, "DEAD_LETTER_QUEUE_URL")?,
            failure_bus: required(lookup, "FAILURE_BUS")?,
            keys_table: required(lookup, "KEYS_TABLE")?,
            value_key: required(lookup, "VALUE_KEY_ARN")?,
            token_key: required(lookup, "TOKEN_KEY_ARN")?,
            token_key_version: or_default(lookup, "TOKEN_KEY_VERSION", 1)?,
            max_receives: required(lookup, "MAX_RECEIVES")?,
        })
    }
}
