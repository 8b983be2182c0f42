//! `datasync validate`: the whole configuration, and the template against it.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use sync_config::validate::validate;
use sync_config::{ConfigFile, Error as Finding};

use crate::{DEFAULT_CONFIG, Error, template};

/// Checks models, sources and targets, and holds template.yaml against them.
#[derive(Debug, Args)]
pub struct Validate {
    /// The folder with models/, sources/ and targets/.
    #[arg(long, default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
    /// The template to hold against it.
    #[arg(long, default_value = "template.yaml")]
    pub template: PathBuf,
}

/// The files of a configuration, named as the user would open them.
pub(crate) fn read(dir: &Path) -> Result<Vec<ConfigFile>, Error> {
    let files = sync_lambda::config::read_files(dir)?;
    Ok(files
        .into_iter()
        .map(|(path, text)| ConfigFile::new(dir.join(path).to_string_lossy(), text))
        .collect())
}

/// Prints what is wrong and says whether nothing is.
pub(crate) fn run(command: &Validate, out: &mut dyn Write) -> Result<bool, Error> {
    let mut report = validate(&read(&command.config)?);
    report.warnings.extend(files_that_nobody_reads(&command.config)?);
    // Only then: the template repeats names, and a name that is wrong may be a secret.
    if let (Some(config), true) = (&report.config, report.errors.is_empty()) {
        let text = std::fs::read_to_string(&command.template)
            .map_err(|source| Error::Read { path: command.template.clone(), source })?;
        let file = ConfigFile::new(command.template.to_string_lossy(), text);
        let found = template::check(&file, config);
        report.errors.extend(found.errors);
        report.warnings.extend(found.warnings);
    }
    for warning in &report.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    for error in &report.errors {
        writeln!(out, "error: {error}")?;
    }
    match (&report.config, report.errors.len()) {
        (Some(config), 0) => writeln!(
            out,
            "{} models, {} sources, {} targets: in order ({} warnings)",
            config.models().count(),
            config.sources().count(),
            config.targets().count(),
            report.warnings.len()
        )?,
        (_, count) => writeln!(out, "{count} errors, {} warnings", report.warnings.len())?,
    }
    Ok(report.errors.is_empty())
}

/// Files that look like configuration but are passed over: `.yml`, or YAML beside the folders.
fn files_that_nobody_reads(dir: &Path) -> Result<Vec<Finding>, Error> {
    let mut found = Vec::new();
    for folder in ["", "models", "sources", "targets"] {
        let folder_path = dir.join(folder);
        let Ok(entries) = std::fs::read_dir(&folder_path) else { continue };
        for entry in entries {
            let path = entry.map_err(|source| Error::Read { path: folder_path.clone(), source })?.path();
            let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
            if extension == "yml" || (extension == "yaml" && folder.is_empty()) {
                found.push(Finding {
                    file: path.to_string_lossy().into_owned(),
                    line: 1,
                    column: 1,
                    path: String::new(),
                    message: "is not read; move it to models/, sources/ or targets/ as <name>.yaml"
                        .to_owned(),
                });
            }
        }
    }
    found.sort();
    Ok(found)
}
