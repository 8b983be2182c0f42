//! What the form of a single file cannot show: whether the files fit together, and whether what they ask for is safe.
//!
//! `datasync validate` runs this before every deploy. The functions do not: they read one configuration of one deploy,
//! and what protects values (the compiled policy) checks again for itself.

mod array;
mod auth;
mod dynamodb;
mod model;
mod network;
mod postgres;
mod source;
mod table;
mod target;

use super::position::Positions;
use super::{ConfigFile, Error, SyncConfig};

/// What is wrong with a configuration, and what is allowed but worth a look.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What must change before a deploy, in the order of the files.
    pub errors: Vec<Error>,
    /// What somebody should have decided on purpose.
    pub warnings: Vec<Error>,
    /// The configuration, if every file has the right form.
    pub config: Option<SyncConfig>,
}

/// Checks a whole configuration.
pub fn validate(files: &[ConfigFile]) -> Report {
    let config = match SyncConfig::parse(files) {
        Ok(config) => config,
        Err(errors) => return Report { errors, ..Report::default() },
    };
    let mut report = Report::default();
    for file in files {
        let mut check = Check { file, positions: Positions::of(&file.text), report: &mut report };
        match file.place() {
            Some(("models", name)) => {
                let model = config.models().find(|model| model.model.as_str() == name);
                model.into_iter().for_each(|model| model::check(model, &config, &mut check));
            }
            Some(("sources", name)) => {
                let source = config.sources().find(|source| source.source.as_str() == name);
                source.into_iter().for_each(|source| source::check(source, &config, &mut check));
            }
            Some(("targets", name)) => {
                let target = config.targets().find(|target| target.target.as_str() == name);
                target.into_iter().for_each(|target| target::check(target, &config, &mut check));
            }
            _ => {}
        }
    }
    report.config = Some(config);
    report
}

/// Collects what is found in one file.
struct Check<'a> {
    file: &'a ConfigFile,
    positions: Positions,
    report: &'a mut Report,
}

impl Check<'_> {
    fn error(&mut self, path: &[&str], message: impl Into<String>) {
        self.report.errors.push(Error::at(self.file, &self.positions, path, message));
    }

    /// An error at a path whose parts may hold dots themselves.
    fn error_at_dotted(&mut self, path: &str, message: impl Into<String>) {
        let parts = self.positions.split(path);
        self.error(&parts, message);
    }

    /// Whether this file has errors already.
    fn found_errors(&self) -> bool {
        self.report.errors.iter().any(|error| error.file == self.file.path)
    }

    fn warning(&mut self, path: &[&str], message: impl Into<String>) {
        self.report.warnings.push(Error::at(self.file, &self.positions, path, message));
    }
}

#[cfg(test)]
mod tests;
