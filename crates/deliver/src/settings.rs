//! What the environment says.

use sync_config::{ConfigFile, Error as ConfigError, SyncConfig};
use sync_domain::delivery::{self, CompiledTarget};
use sync_domain::id::TargetId;
use sync_lambda::settings::{self, Lookup, optional, or_default, required};
use sync_lambda::{config, start};

/// The settings of a `deliver` function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `TARGET`: the one target that this function serves.
    pub target: TargetId,
    /// `QUEUE_URL`: the target's queue, to set back messages in.
    pub queue_url: String,
    /// `DEAD_LETTER_QUEUE_URL`: where records go that the target will never take.
    pub dead_letter_queue_url: String,
    /// `FAILURE_BUS`: where they are reported.
    pub failure_bus: String,
    /// `LEDGER_TABLE`: what the target has.
    pub ledger_table: String,
    /// `LEDGER_KEY_ARN`: makes the ledger's keys and digests.
    pub ledger_key_arn: String,
    /// `PROBE_RULE`: the rule that invokes the function once a minute while the target is away.
    pub probe_rule: String,
    /// `MAX_RECEIVES`: `maxReceiveCount` of the queue; the last receive parks.
    pub max_receives: u32,
    /// `MAX_CONCURRENCY`: how many batches of the queue are worked at once at most; asked for by a target with
    /// `concurrency`.
    pub max_concurrency: Option<u32>,
    /// `ALLOW_LOOPBACK`: lets the target be on this machine, for a laptop.
    pub allow_loopback: bool,
}

impl Settings {
    /// Reads the settings; the first bad one is named.
    pub fn read(lookup: &(impl Lookup + ?Sized)) -> Result<Self, settings::Error> {
        Ok(Self {
            target: required(lookup, "TARGET")?,
            queue_url: required(lookup, "QUEUE_URL")?,
            dead_letter_queue_url: required(lookup, "DEAD_LETTER_QUEUE_URL")?,
            failure_bus: required(lookup, "FAILURE_BUS")?,
            ledger_table: required(lookup, "LEDGER_TABLE")?,
            ledger_key_arn: required(lookup, "LEDGER_KEY_ARN")?,
            probe_rule: required(lookup, "PROBE_RULE")?,
            max_receives: or_default(lookup, "MAX_RECEIVES", 1_000)?,
            max_concurrency: optional(lookup, "MAX_CONCURRENCY")?,
            allow_loopback: or_default(lookup, "ALLOW_LOOPBACK", false)?,
        })
    }
}

/// A configuration without a usable target.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The target's file is not there.
    #[error("there is no targets/{0}.yaml")]
    NoTarget(TargetId),
    /// The target's file is wrong.
    #[error("{0}")]
    File(ConfigError),
    /// What it says makes no sense.
    #[error("targets/{target}.yaml: {problem}")]
    Target {
        /// The target.
        target: TargetId,
        /// What does not.
        #[source]
        problem: delivery::Error,
    },
}

/// Reads the target out of the configuration files. The other files are for other functions: a mistake in one
/// does not stop this target.
pub fn target(lookup: &(impl Lookup + ?Sized), target: &TargetId) -> Result<CompiledTarget, start::Error> {
    let own = format!("targets/{target}.yaml");
    let files = config::read_files(&config::dir(lookup)?)?.into_iter().filter(|(path, _)| *path == own);
    let files: Vec<_> = files.map(|(path, text)| ConfigFile::new(path, text)).collect();
    Ok(compile(&files, target)?)
}

fn compile(files: &[ConfigFile], target: &TargetId) -> Result<CompiledTarget, Error> {
    let parsed = SyncConfig::parse(files);
    let config = parsed.map_err(|errors| match errors.into_iter().next() {
        Some(error) => Error::File(error),
        None => Error::NoTarget(target.clone()),
    })?;
    let written = config.target(target).ok_or_else(|| Error::NoTarget(target.clone()))?;
    CompiledTarget::compile(written.clone())
        .map_err(|problem| Error::Target { target: target.clone(), problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: [(&str, &str); 7] = [
        ("TARGET", "loyalty"),
        ("QUEUE_URL", "q"),
        ("DEAD_LETTER_QUEUE_URL", "d"),
        ("FAILURE_BUS", "b"),
        ("LEDGER_TABLE", "t"),
        ("LEDGER_KEY_ARN", "k"),
        ("PROBE_RULE", "r"),
    ];

    #[test]
    fn every_setting_without_a_default_is_asked_for() {
        let settings = Settings::read(&SETTINGS).unwrap();
        assert_eq!((settings.max_receives, settings.allow_loopback), (1_000, false));
        for (name, _) in SETTINGS {
            let without: Vec<_> = SETTINGS.into_iter().filter(|(other, _)| *other != name).collect();
            assert_eq!(Settings::read(without.as_slice()), Err(settings::Error::Missing(name)));
        }
    }

    #[test]
    fn a_target_that_makes_no_sense_stops_the_start_with_its_place() {
        let id: TargetId = "loyalty".parse().unwrap();
        let with = |attributes: &str| {
            let text = format!(
                "target: loyalty\nsubscribe: [{{ model: customer }}]\nattributes: {attributes}\nendpoint: {{ url: \"https://a.example\", auth: none }}\n"
            );
            compile(&[ConfigFile::new("targets/loyalty.yaml", text)], &id)
        };
        assert!(with("[a]").is_ok());
        assert_eq!(with("[a, a]").unwrap_err().to_string().split(':').next(), Some("targets/loyalty.yaml"));
        assert!(matches!(with("{").unwrap_err(), Error::File(_)));
        assert!(matches!(compile(&[], &id).unwrap_err(), Error::NoTarget(_)));
    }
}
