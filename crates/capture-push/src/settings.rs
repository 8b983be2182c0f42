//! The variables of the function.

use sync_lambda::settings::{self, Lookup};

/// What the function is told by its environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `CHANGES_QUEUE_URL`: where changes go.
    pub changes_queue_url: String,
    /// `RECEIPT_TABLE`: where requests of sources without versions are remembered.
    pub receipt_table: String,
    /// `ID_KEY_ARN`: the key that record ids are made with.
    pub id_key_arn: String,
}

impl Settings {
    /// Reads the variables; the first one that is missing stops the start.
    pub fn read(lookup: &(impl Lookup + ?Sized)) -> Result<Self, settings::Error> {
        Ok(Self {
            changes_queue_url: settings::required(lookup, "CHANGES_QUEUE_URL")?,
            receipt_table: settings::required(lookup, "RECEIPT_TABLE")?,
            id_key_arn: settings::required(lookup, "ID_KEY_ARN")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_must_be_there() {
        let all = [("CHANGES_QUEUE_URL", "q"), ("RECEIPT_TABLE", "t"), ("ID_KEY_ARN", "k")];
        assert!(Settings::read(&all).is_ok());
        for (name, _) in all {
            let some: Vec<_> = all.into_iter().filter(|(other, _)| *other != name).collect();
            assert!(Settings::read(some.as_slice()).unwrap_err().to_string().contains(name));
        }
    }
}
