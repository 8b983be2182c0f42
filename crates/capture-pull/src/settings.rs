//! The variables of the function.

use std::time::Duration;

use sync_lambda::settings::{self, Lookup};

/// How long a run begins new polls, without `RUN_SECONDS`.
const RUN_SECONDS: u64 = 54;

/// What the function is told by its environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `CHANGES_QUEUE_URL`: where changes go.
    pub changes_queue_url: String,
    /// `DEAD_LETTER_QUEUE_URL`: where rows wait whose table does not fit their model.
    pub dead_letter_queue_url: String,
    /// `CHECKPOINT_TABLE`: how far each source has been read.
    pub checkpoint_table: String,
    /// `FAILURE_BUS`: where failures are reported.
    pub failure_bus: String,
    /// `ID_KEY_ARN`: the key that record ids are made with.
    pub id_key_arn: String,
    /// `RUN_SECONDS`: how long a run begins new polls; 0 is one poll.
    pub run_for: Duration,
    /// `ALLOW_LOOPBACK`: the database may be on this machine, without TLS.
    pub allow_loopback: bool,
}

impl Settings {
    /// Reads the variables; the first one that is missing or wrong stops the start.
    pub fn read(lookup: &(impl Lookup + ?Sized)) -> Result<Self, settings::Error> {
        Ok(Self {
            changes_queue_url: settings::required(lookup, "CHANGES_QUEUE_URL")?,
            dead_letter_queue_url: settings::required(lookup, "DEAD_LETTER_QUEUE_URL")?,
            checkpoint_table: settings::required(lookup, "CHECKPOINT_TABLE")?,
            failure_bus: settings::required(lookup, "FAILURE_BUS")?,
            id_key_arn: settings::required(lookup, "ID_KEY_ARN")?,
            run_for: Duration::from_secs(settings::or_default(lookup, "RUN_SECONDS", RUN_SECONDS)?),
            allow_loopback: settings::or_default(lookup, "ALLOW_LOOPBACK", false)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [(&str, &str); 5] = [
        ("CHANGES_QUEUE_URL", "q"),
        ("DEAD_LETTER_QUEUE_URL", "d"),
        ("CHECKPOINT_TABLE", "t"),
        ("FAILURE_BUS", "b"),
        ("ID_KEY_ARN", "k"),
    ];

    #[test]
    fn every_variable_without_a_default_must_be_there() {
        let settings = Settings::read(&ALL).unwrap();
        assert_eq!((settings.run_for, settings.allow_loopback), (Duration::from_secs(54), false));
        for (name, _) in ALL {
            let some: Vec<_> = ALL.into_iter().filter(|(other, _)| *other != name).collect();
            assert!(Settings::read(some.as_slice()).unwrap_err().to_string().contains(name));
        }
    }

    #[test]
    fn a_run_may_be_one_poll() {
        let settings = Settings::read([ALL.as_slice(), &[("RUN_SECONDS", "0")]].concat().as_slice()).unwrap();
        assert_eq!(settings.run_for, Duration::ZERO);
    }
}
