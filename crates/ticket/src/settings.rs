//! The function's environment, read once.

use std::num::NonZeroU32;

use sync_lambda::settings::{Error, Lookup, or_default, required};

/// How long a ticket is kept when nothing is said: longer than any dead letter (14 days), so that none is without its ticket.
const DAYS: u32 = 90;

/// What the template sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `TICKET_TABLE`: the name of the ticket table.
    pub ticket_table: String,
    /// `ALERT_TOPIC_ARN`: the topic that people subscribe to.
    pub alert_topic_arn: String,
    /// `TICKET_DAYS`: how long a ticket is kept.
    pub ticket_days: NonZeroU32,
}

impl Settings {
    /// Reads the settings; the error names the variable.
    pub fn read(lookup: &(impl Lookup + ?Sized)) -> Result<Self, Error> {
        Ok(Self {
            ticket_table: required(lookup, "TICKET_TABLE")?,
            alert_topic_arn: required(lookup, "ALERT_TOPIC_ARN")?,
            ticket_days: or_default(lookup, "TICKET_DAYS", NonZeroU32::new(DAYS).unwrap_or(NonZeroU32::MIN))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_read_and_a_bad_one_is_named() {
        let good = [("TICKET_TABLE", "tickets"), ("ALERT_TOPIC_ARN", "arn:alerts"), ("TICKET_DAYS", "30")];
        let settings = Settings::read(&good).unwrap();
        assert_eq!(
            (settings.ticket_table.as_str(), settings.alert_topic_arn.as_str()),
            ("tickets", "arn:alerts")
        );
        assert_eq!(settings.ticket_days.get(), 30);
        assert_eq!(Settings::read(&good[..2]).unwrap().ticket_days.get(), 90);
        assert_eq!(Settings::read(&good[1..]), Err(Error::Missing("TICKET_TABLE")));
        let none = [("TICKET_TABLE", "t"), ("ALERT_TOPIC_ARN", "a"), ("TICKET_DAYS", "0")];
        assert!(Settings::read(&none).unwrap_err().to_string().contains("TICKET_DAYS"));
    }
}
