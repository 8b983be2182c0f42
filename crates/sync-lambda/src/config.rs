//! Reads the configuration files (models, sources, targets) that the layer carries.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use sync_config::{ConfigFile, SyncConfig};
use sync_domain::id::ModelId;
use sync_domain::policy::CompiledPolicy;

use crate::settings::{self, Lookup};

/// Where the layer puts the files.
pub const DEFAULT_DIR: &str = "/opt/sync";

/// The folders of the configuration; nothing else is read.
const FOLDERS: [&str; 3] = ["models", "sources", "targets"];

/// A configuration that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The setting of the directory is bad.
    #[error(transparent)]
    Settings(#[from] settings::Error),
    /// A folder or file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The directory holds no configuration at all, which is never meant.
    #[error("no configuration files in {0}")]
    Empty(PathBuf),
    /// The files say something that cannot be.
    #[error("the configuration is wrong: {0}")]
    Wrong(String),
}

impl Error {
    fn wrong<E: std::fmt::Display>(errors: &[E]) -> Self {
        Self::Wrong(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    }
}

/// Models and sources in the directory that the settings name.
pub fn load(lookup: &(impl Lookup + ?Sized)) -> Result<SyncConfig, Error> {
    let files = read_files(&dir(lookup)?)?;
    let files: Vec<ConfigFile> = files.into_iter().map(|(path, text)| ConfigFile::new(path, text)).collect();
    SyncConfig::parse_without_targets(&files).map_err(|errors| Error::wrong(&errors))
}

/// The policies of a configuration's models, as run.
pub fn policies(config: &SyncConfig) -> Result<BTreeMap<ModelId, CompiledPolicy>, Error> {
    let compile = |model: &sync_domain::config::Model| {
        let version = config.policy_version(&model.model).unwrap_or_default();
        let named = |error| format!("models/{}.yaml: {error}", model.model);
        let policy = CompiledPolicy::compile(model, version);
        policy.map_err(|errors| Error::wrong(&errors.into_iter().map(named).collect::<Vec<_>>()))
    };
    config.models().map(|model| Ok((model.model.clone(), compile(model)?))).collect()
}

/// The directory that `SYNC_CONFIG_DIR` names, `/opt/sync` by default.
pub fn dir(lookup: &(impl Lookup + ?Sized)) -> Result<PathBuf, Error> {
    Ok(settings::or_default(lookup, "SYNC_CONFIG_DIR", PathBuf::from(DEFAULT_DIR))?)
}

/// The files `{models,sources,targets}/*.yaml` below a directory as (path relative to it, text), sorted by path.
pub fn read_files(dir: &Path) -> Result<Vec<(String, String)>, Error> {
    let mut files = Vec::new();
    for folder in FOLDERS {
        let path = dir.join(folder);
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            // A stack without sources of its own, say, has no such folder.
            Err(problem) if problem.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(Error::Read { path, source }),
        };
        for entry in entries {
            let file = entry.map_err(|source| Error::Read { path: path.clone(), source })?.path();
            if file.extension().is_some_and(|extension| extension == "yaml") {
                files.push(read_file(dir, file)?);
            }
        }
    }
    if files.is_empty() {
        return Err(Error::Empty(dir.to_owned()));
    }
    files.sort();
    Ok(files)
}

fn read_file(dir: &Path, file: PathBuf) -> Result<(String, String), Error> {
    let name = file.strip_prefix(dir).unwrap_or(&file).to_string_lossy().into_owned();
    match std::fs::read_to_string(&file) {
        Ok(text) => Ok((name, text)),
        Err(source) => Err(Error::Read { path: file, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("datasync-config-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn only_yaml_files_of_the_three_folders_are_read_in_order_of_their_path() {
        let dir = scratch("read");
        for (path, text) in [
            ("targets/b.yaml", "b"),
            ("models/a.yaml", "a"),
            ("models/notes.md", "no"),
            ("other/c.yaml", "no"),
            ("d.yaml", "no"),
        ] {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let files = read_files(&dir).unwrap();
        let expected = [("models/a.yaml", "a"), ("targets/b.yaml", "b")];
        assert_eq!(files, expected.map(|(path, text)| (path.to_owned(), text.to_owned())));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn an_empty_configuration_is_an_error() {
        let dir = scratch("empty");
        assert!(matches!(read_files(&dir), Err(Error::Empty(_))));
        assert!(matches!(read_files(Path::new("/nowhere/at/all")), Err(Error::Empty(_))));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn the_directory_can_be_set() {
        assert_eq!(dir(&[("SYNC_CONFIG_DIR", "/tmp/x")]).unwrap(), Path::new("/tmp/x"));
        assert_eq!(dir(&[]).unwrap(), Path::new("/opt/sync"));
    }
}
