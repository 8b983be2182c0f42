//! The function's environment, read once.

use std::num::NonZeroU32;

use sync_lambda::settings::{Error, Lookup, or_default, required};

/// What the template sets, besides the place of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `QUEUE_URL`: the Enrichment queue.
    pub queue_url: String,
    /// `EVENTS_TOPIC_ARN`: where events go.
    pub events_topic_arn: String,
    /// `DEAD_LETTER_QUEUE_URL`: where records go that cannot go on.
    pub dead_letter_queue_url: String,
    /// `FAILURE_BUS`: the name of the bus that hears of them.
    pub failure_bus: String,
    /// `KEYS_TABLE`: the table of wrapped data keys.
    pub keys_table: String,
    /// `VALUE_KEY_ARN`: the KMS key that wraps them.
    pub value_key_arn: String,
    /// `TOKEN_KEY_ARN`: the KMS key that tokens and fingerprints come from.
    pub token_key_arn: String,
    /// `TOKEN_KEY_VERSION`: the version of that family of keys.
    pub token_key_version: u32,
    /// `MAX_RECEIVES`: how often the queue hands a message out.
    pub max_receives: NonZeroU32,
    /// `ALLOW_LOOPBACK`: look-ups may go to this machine; for a laptop only.
    pub allow_loopback: bool,
}

impl Settings {
    /// Reads the settings; the error names the variable.
    pub fn read(lookup: &(impl Lookup + ?Sized)) -> Result<Self, Error> {
        Ok(Self {
            queue_url: required(lookup, "QUEUE_URL")?,
            events_topic_arn: required(lookup, "EVENTS_TOPIC_ARN")?,
            dead_letter_queue_url: required(lookup, "DEAD_LETTER_QUEUE_URL")?,
            failure_bus: required(lookup, "FAILURE_BUS")?,
            keys_table: required(lookup, "KEYS_TABLE")?,
            value_key_arn: required(lookup, "VALUE_KEY_ARN")?,
            token_key_arn: required(lookup, "TOKEN_KEY_ARN")?,
            token_key_version: or_default(lookup, "TOKEN_KEY_VERSION", 1)?,
            max_receives: required(lookup, "MAX_RECEIVES")?,
            allow_loopback: or_default(lookup, "ALLOW_LOOPBACK", false)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn complete() -> BTreeMap<String, String> {
        let settings = [
            ("QUEUE_URL", "https://enrichment"),
            ("EVENTS_TOPIC_ARN", "arn:topic"),
            ("DEAD_LETTER_QUEUE_URL", "https://dead-letters"),
            ("FAILURE_BUS", "failures"),
            ("KEYS_TABLE", "keys"),
            ("VALUE_KEY_ARN", "arn:value"),
            ("TOKEN_KEY_ARN", "arn:token"),
            ("MAX_RECEIVES", "5"),
        ];
        settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    #[test]
    fn defaults_are_the_safe_ones() {
        let settings = Settings::read(&complete()).unwrap();
        assert!(!settings.allow_loopback);
        assert_eq!((settings.token_key_version, settings.max_receives.get()), (1, 5));
    }

    #[test]
    fn a_setting_that_is_missing_or_bad_is_named() {
        for name in complete().into_keys() {
            let mut settings = complete();
            settings.remove(&name);
            assert!(Settings::read(&settings).unwrap_err().to_string().contains(&name), "{name}");
        }
        for (name, value) in [("MAX_RECEIVES", "0"), ("ALLOW_LOOPBACK", "yes"), ("TOKEN_KEY_VERSION", "-1")] {
            let mut settings = complete();
            settings.insert(name.to_owned(), value.to_owned());
            assert!(Settings::read(&settings).unwrap_err().to_string().contains(name), "{name}");
        }
    }
}
