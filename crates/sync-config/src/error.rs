//! What is wrong with a configuration, and where.

use std::fmt;

use super::ConfigFile;
use super::position::{Position, Positions};

/// Something wrong in a file. Prints as `file:line:column: path: what is wrong; the remedy`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Error {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: u64,
    /// The column, from 1.
    pub column: u64,
    /// The path of the part that is wrong, parts joined by dots; empty for the whole file.
    pub path: String,
    /// What is wrong and what to do. No value of the file stands in it.
    pub message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl Error {
    /// Something wrong with a file as a whole.
    pub(super) fn of_file(file: &ConfigFile, message: impl Into<String>) -> Self {
        Self::new(file, Position::START, String::new(), message.into())
    }

    /// Something wrong at a path of a file.
    pub(super) fn at(
        file: &ConfigFile,
        positions: &Positions,
        path: &[&str],
        message: impl Into<String>,
    ) -> Self {
        Self::new(file, positions.find(path), path.join("."), message.into())
    }

    /// Something that does not fit the types.
    pub(super) fn of_yaml(file: &ConfigFile, error: &serde_saphyr::Error) -> Self {
        use serde_saphyr::Error as Yaml;
        let error = error.without_snippet();
        let position = error.location().map_or(Position::START, Position::of);
        let positions = Positions::of(&file.text);
        let mut path = positions.path_at(position);
        match error {
            // What lacks a field is what holds the first key here, not that key.
            Yaml::SerdeMissingField { .. } if positions.starts_with_key(&path, position) => {
                path.pop();
            }
            // What stands here should be a name of ours; it may be anything.
            Yaml::SerdeUnknownField { .. } | Yaml::SerdeUnknownVariant { .. } => {
                if let Some(last) = path.last_mut().filter(|last| !is_a_word(last)) {
                    "…".clone_into(last);
                }
            }
            _ => {}
        }
        let path = path.join(".");
        Self::new(file, position, path, describe(error))
    }

    fn new(file: &ConfigFile, position: Position, path: String, message: String) -> Self {
        let Position { line, column } = position;
        Self { file: file.path.clone(), line, column, path, message }
    }
}

/// Says what the parser found wrong, without the value that it found.
fn describe(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error as Yaml;
    match error {
        Yaml::SerdeUnknownField { field, expected, .. } => {
            let field = if is_a_word(field) {
                format!("{field:?} is unknown here")
            } else {
                "this name is unknown here".to_owned()
            };
            format!("{field}; known are {}", list(expected))
        }
        Yaml::SerdeUnknownVariant { expected, .. } => format!("must be one of {}", list(expected)),
        Yaml::SerdeMissingField { field, .. } => format!("{field:?} is missing; add it"),
        Yaml::SerdeInvalidType { expected, .. } | Yaml::SerdeInvalidValue { expected, .. } => {
            format!("must be {expected}")
        }
        Yaml::SerdeInvalidLength { expected, .. } => {
            format!("has the wrong number of items; must be {expected}")
        }
        Yaml::DuplicateMappingKey { .. } => "stands here twice; keep one".to_owned(),
        Yaml::Unexpected { expected, .. } => format!("must be {expected}"),
        Yaml::InvalidScalar { ty, .. } => format!("must be of type {ty}"),
        Yaml::NonFiniteFloat { .. } => {
            "is not a number that a configuration can hold; put it in quotes".to_owned()
        }
        Yaml::TaggedEnumMismatch { .. } => "has a YAML tag; remove it".to_owned(),
        Yaml::MultipleDocuments { .. } => "a second document starts here; keep one per file".to_owned(),
        Yaml::Eof { .. } => "the file is empty or ends too early".to_owned(),
        Yaml::ExternallyTaggedEnumExpectedScalarOrMapping { .. } => {
            "must be a name or { name: … }".to_owned()
        }
        // Messages of our own types, written without values.
        Yaml::Message { msg, .. } => msg.clone(),
        Yaml::AliasError { error, .. } => describe(error),
        other => other.render_with_formatter(&serde_saphyr::UserMessageFormatter),
    }
}

fn is_a_word(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-' || b == b'.';
    !name.is_empty() && name.len() <= 32 && name.bytes().all(plain)
}

fn list(names: &[&str]) -> String {
    names.join(", ")
}
