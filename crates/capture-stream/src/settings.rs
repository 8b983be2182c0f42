//! The variables of the function.

use sync_domain::id::SourceId;
use sync_lambda::settings::{self, Lookup};

/// What the function is told by its environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `SOURCE`: the source whose table is read.
    pub source: SourceId,
    /// `CHANGES_QUEUE_URL`: where changes go.
    pub changes_queue_url: String,
    /// `CHECKPOINT_TABLE`: how far each backfill is.
    pub checkpoint_table: String,
    /// `DEAD_LETTER_BUCKET`: where records go that cannot go on.
    pub dead_letter_bucket: String,
    /// `FAILURE_BUS`: who hears of them.
    pub failure_bus: String,
    /// `ID_KEY_ARN`: the key that record ids are made with.
    pub id_key_arn: String,
}

impl Settings {
    /// Reads the variables; the first one that is missing stops the start.
    pub fn read(lookup: &(impl Lookup + ?Sized)) -> Result<Self, settings::Error> {
        Ok(Self {
            source: settings::required(lookup, "SOURCE")?,
            changes_queue_url: settings::required(lookup, "CHANGES_QUEUE_URL")?,
            checkpoint_table: settings::required(lookup, "CHECKPOINT_TABLE")?,
            dead_letter_bucket: settings::required(lookup, "DEAD_LETTER_BUCKET")?,
            failure_bus: settings::required(lookup, "FAILURE_BUS")?,
            id_key_arn: settings::required(lookup, "ID_KEY_ARN")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_must_be_there() {
        let all = [
            ("SOURCE", "preferences"),
            ("CHANGES_QUEUE_URL", "q"),
            ("CHECKPOINT_TABLE", "c"),
            ("DEAD_LETTER_BUCKET", "b"),
            ("FAILURE_BUS", "f"),
            ("ID_KEY_ARN", "k"),
        ];
        assert!(Settings::read(&all).is_ok());
        for (name, _) in all {
            let some: Vec<_> = all.into_iter().filter(|(other, _)| *other != name).collect();
            assert!(Settings::read(some.as_slice()).unwrap_err().to_string().contains(name));
        }
    }
}
