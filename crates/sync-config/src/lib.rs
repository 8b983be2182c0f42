//! Reads and checks what a user writes: models, sources and targets, one YAML file each, the folder says which.
//!
//! [`SyncConfig::parse`] takes the files' text and gives the types of [`sync_domain::config`]; whatever breaks the form of
//! a file is an error with file, line and path. What only several files together can get wrong is the matter of
//! [`validate`]. Errors name paths and remedies, never the value that stands there: somebody may have pasted a secret.
//!
//! A function reads its configuration once, at its start. So this crate, the YAML parser and the code that both make of
//! the types are built for size; `sync-domain`, which works on every record, is built for speed.
//!
//! **Invariant.** As pure as the domain: the shell reads the files and passes their text in.

mod error;
mod path;
mod position;
pub mod validate;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use sync_domain::config::{Model, Source, Target};
use sync_domain::id::{ModelId, SourceId, TargetId};

pub use self::error::Error;
use self::position::Positions;

/// A file of the configuration as the shell read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    /// Where it stands; the last two parts count: `models/customer.yaml`.
    pub path: String,
    /// What stands in it.
    pub text: String,
}

impl ConfigFile {
    /// A file by its path and text.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self { path: path.into(), text: text.into() }
    }

    /// The folder's name and the file's name without `.yaml`; none for a file that is no part of a configuration.
    fn place(&self) -> Option<(&str, &str)> {
        let mut parts = self.path.rsplit('/');
        let stem = parts.next()?.strip_suffix(".yaml")?;
        Some((parts.next()?, stem))
    }
}

/// A model and the version of its file.
#[derive(Debug, Clone)]
struct ModelFile {
    model: Model,
    policy_version: String,
}

/// The whole configuration of a stack.
#[derive(Debug, Clone, Default)]
pub struct SyncConfig {
    models: BTreeMap<ModelId, ModelFile>,
    sources: BTreeMap<SourceId, Source>,
    targets: BTreeMap<TargetId, Target>,
}

impl SyncConfig {
    /// Reads the files, or says all that is wrong with them, in the order of the files.
    pub fn parse(files: &[ConfigFile]) -> Result<Self, Vec<Error>> {
        Self::of(files, |config, file| match file.place() {
            Some(("targets", _)) => config.add_target(file),
            _ => config.add(file),
        })
    }

    /// The same of models and sources alone, for whoever knows no target: a mistake in a target's file does not stop it, and
    /// its binary does without the code that reads one.
    pub fn parse_without_targets(files: &[ConfigFile]) -> Result<Self, Vec<Error>> {
        Self::of(files, |config, file| match file.place() {
            Some(("targets", _)) => Ok(()),
            _ => config.add(file),
        })
    }

    fn of(
        files: &[ConfigFile],
        add: impl Fn(&mut Self, &ConfigFile) -> Result<(), Error>,
    ) -> Result<Self, Vec<Error>> {
        let mut config = Self::default();
        let mut errors = Vec::new();
        for file in files {
            if let Err(error) = add(&mut config, file) {
                errors.push(error);
            }
        }
        if errors.is_empty() { Ok(config) } else { Err(errors) }
    }

    /// A model by name.
    pub fn model(&self, model: &ModelId) -> Option<&Model> {
        self.models.get(model).map(|file| &file.model)
    }

    /// The models in the order of their names.
    pub fn models(&self) -> impl Iterator<Item = &Model> {
        self.models.values().map(|file| &file.model)
    }

    /// What `policyversion` says of events of the model: 16 characters of the hash of its file.
    pub fn policy_version(&self, model: &ModelId) -> Option<&str> {
        self.models.get(model).map(|file| file.policy_version.as_str())
    }

    /// A source by name.
    pub fn source(&self, source: &SourceId) -> Option<&Source> {
        self.sources.get(source)
    }

    /// The sources in the order of their names.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.sources.values()
    }

    /// The one source that writes a model.
    pub fn source_of(&self, model: &ModelId) -> Option<&Source> {
        self.sources.values().find(|source| source.writes(model))
    }

    /// A target by name.
    pub fn target(&self, target: &TargetId) -> Option<&Target> {
        self.targets.get(target)
    }

    /// The targets in the order of their names.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        self.targets.values()
    }

    fn add(&mut self, file: &ConfigFile) -> Result<(), Error> {
        match file.place() {
            Some(("models", _)) => {
                let model: Model = read(file)?;
                let policy_version = version_of(&file.text);
                insert(
                    &mut self.models,
                    file,
                    "model",
                    model.model.clone(),
                    ModelFile { model, policy_version },
                )
            }
            Some(("sources", _)) => {
                let source: Source = read(file)?;
                insert(&mut self.sources, file, "source", source.source.clone(), source)
            }
            _ => Err(Error::of_file(
                file,
                "no part of a configuration; put it into models/, sources/ or targets/ as <name>.yaml",
            )),
        }
    }

    fn add_target(&mut self, file: &ConfigFile) -> Result<(), Error> {
        let target: Target = read(file)?;
        insert(&mut self.targets, file, "target", target.target.clone(), target)
    }
}

fn read<T: DeserializeOwned>(file: &ConfigFile) -> Result<T, Error> {
    serde_saphyr::from_str_with_options(&file.text, yaml_options())
        .map_err(|error| Error::of_yaml(file, &error))
}

/// YAML as a configuration uses it: `true` and `false` are the only booleans, so that the country NO stays a text.
fn yaml_options() -> serde_saphyr::Options {
    serde_saphyr::options! { strict_booleans: true, with_snippet: false }
}

fn insert<K: Ord + fmt::Display, V>(
    all: &mut BTreeMap<K, V>,
    file: &ConfigFile,
    kind: &str,
    name: K,
    value: V,
) -> Result<(), Error> {
    let stem = file.place().map_or("", |(_, stem)| stem);
    if name.to_string() != stem {
        let message = format!("the file is named {stem}.yaml; call the {kind} {stem} or rename the file");
        return Err(Error::at(file, &Positions::of(&file.text), &[kind], message));
    }
    match all.entry(name) {
        Entry::Vacant(place) => {
            place.insert(value);
            Ok(())
        }
        Entry::Occupied(_) => {
            Err(Error::of_file(file, format!("a second file for the {kind} {stem}; keep one")))
        }
    }
}

/// 16 characters (96 bits) of the hash of a text.
fn version_of(text: &str) -> String {
    let hash = digest(&SHA256, text.as_bytes());
    URL_SAFE_NO_PAD.encode(hash.as_ref().get(..12).unwrap_or_default())
}

#[cfg(test)]
mod tests;
