//! Settings from the environment: parsed once per cold start into types; the first bad one stops the start.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;

/// Where settings come from. The functions use [`ProcessEnv`], tests a map.
pub trait Lookup {
    /// The setting's text; none if it is not set.
    fn get(&self, name: &str) -> Option<String>;
}

/// The environment of the process.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessEnv;

impl Lookup for ProcessEnv {
    fn get(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

impl Lookup for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<String> {
        BTreeMap::get(self, name).cloned()
    }
}

impl Lookup for HashMap<String, String> {
    fn get(&self, name: &str) -> Option<String> {
        HashMap::get(self, name).cloned()
    }
}

impl Lookup for [(&str, &str)] {
    fn get(&self, name: &str) -> Option<String> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }
}

impl<const N: usize> Lookup for [(&str, &str); N] {
    fn get(&self, name: &str) -> Option<String> {
        Lookup::get(self.as_slice(), name)
    }
}

/// A setting that is not there or does not parse. It names the variable, never its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The variable is not set, or empty.
    #[error("the environment variable {0} is not set")]
    Missing(&'static str),
    /// The variable's text is not of its type.
    #[error("the environment variable {name} is not valid: {problem}")]
    Invalid {
        /// The variable.
        name: &'static str,
        /// What the type's parser says.
        problem: String,
    },
}

/// A setting that must be there.
pub fn required<T>(lookup: &(impl Lookup + ?Sized), name: &'static str) -> Result<T, Error>
where
    T: FromStr<Err: std::fmt::Display>,
{
    optional(lookup, name)?.ok_or(Error::Missing(name))
}

/// A setting that may be absent; an empty one counts as absent, since a template can only leave a value empty.
pub fn optional<T>(lookup: &(impl Lookup + ?Sized), name: &'static str) -> Result<Option<T>, Error>
where
    T: FromStr<Err: std::fmt::Display>,
{
    let Some(text) = lookup.get(name).filter(|text| !text.is_empty()) else { return Ok(None) };
    match text.parse() {
        Ok(value) => Ok(Some(value)),
        Err(problem) => Err(Error::Invalid { name, problem: problem.to_string() }),
    }
}

/// A setting with a default.
pub fn or_default<T>(lookup: &(impl Lookup + ?Sized), name: &'static str, default: T) -> Result<T, Error>
where
    T: FromStr<Err: std::fmt::Display>,
{
    Ok(optional(lookup, name)?.unwrap_or(default))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_setting_names_its_variable() {
        let problem = required::<String>(&[("OTHER", "1")], "QUEUE_URL").unwrap_err();
        assert_eq!(problem.to_string(), "the environment variable QUEUE_URL is not set");
        assert_eq!(required::<String>(&[("QUEUE_URL", "")], "QUEUE_URL"), Err(Error::Missing("QUEUE_URL")));
    }

    #[test]
    fn a_setting_of_the_wrong_type_names_its_variable_and_not_its_value() {
        let problem = required::<u32>(&[("MAX_RECEIVES", "secret-five")], "MAX_RECEIVES").unwrap_err();
        assert!(problem.to_string().contains("MAX_RECEIVES"));
        assert!(!problem.to_string().contains("secret-five"));
    }

    #[test]
    fn a_default_stands_in_for_an_absent_setting_only() {
        assert_eq!(or_default(&[("ALLOW_LOOPBACK", "true")], "ALLOW_LOOPBACK", false), Ok(true));
        assert_eq!(or_default::<u32>(&[], "MAX_RECEIVES", 5), Ok(5));
        assert!(or_default::<u32>(&[("MAX_RECEIVES", "x")], "MAX_RECEIVES", 5).is_err());
    }
}
