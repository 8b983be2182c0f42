//! The stack's outputs, and what else may say where something is.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use sync_lambda::settings::Lookup;

/// Why it is not known where something is.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The outputs cannot be read.
    #[error("{path} does not hold a list of outputs")]
    Outputs {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Neither an option nor the environment nor the outputs say it.
    #[error("say {option}, set {variable}, or give --outputs with {output}")]
    Unknown {
        /// The option of the command line.
        option: &'static str,
        /// The variable of the environment.
        variable: &'static str,
        /// The output of the stack.
        output: String,
    },
}

/// The outputs of a stack, as `sam list stack-outputs --output json` prints them.
#[derive(Debug, Default)]
pub(crate) struct Outputs(Vec<Output>);

#[derive(Debug, Deserialize)]
struct Output {
    #[serde(rename = "OutputKey")]
    key: String,
    #[serde(rename = "OutputValue")]
    value: String,
}

impl Outputs {
    /// Reads a file; none without one.
    pub(crate) fn read(path: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = path else { return Ok(Self::default()) };
        let wrong = |source| Error::Outputs { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(|source| wrong(source.into()))?;
        serde_json::from_str(&text).map(Self).map_err(|source| wrong(source.into()))
    }

    /// Whether the stack has an output.
    pub(crate) fn has(&self, output: &str) -> bool {
        self.0.iter().any(|own| own.key == output)
    }

    /// What an option gives, else an output, else a variable.
    pub(crate) fn setting(
        &self,
        environment: &impl Lookup,
        given: Option<&str>,
        option: &'static str,
        variable: &'static str,
        output: &str,
    ) -> Result<String, Error> {
        let from_outputs = || self.0.iter().find(|own| own.key == output).map(|own| own.value.clone());
        let from_environment = || environment.get(variable).filter(|value| !value.is_empty());
        let value = given.map(str::to_owned).or_else(from_outputs).or_else(from_environment);
        value.ok_or_else(|| Error::Unknown { option, variable, output: output.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [(&str, &str); 0] = [];

    #[test]
    fn outputs_are_read_as_sam_prints_them() {
        let path = std::env::temp_dir().join(format!("datasync-outputs-{}.json", std::process::id()));
        std::fs::write(&path, r#"[{"OutputKey":"KeysTableName","OutputValue":"t","Description":"-"}]"#)
            .unwrap();
        let outputs = Outputs::read(Some(&path)).unwrap();
        let table = outputs.setting(&NONE, None, "--keys-table", "KEYS_TABLE", "KeysTableName");
        assert_eq!(table.unwrap(), "t");
        std::fs::write(&path, "{}").unwrap();
        assert!(matches!(Outputs::read(Some(&path)), Err(Error::Outputs { .. })));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn an_option_counts_before_an_output_and_that_before_a_variable() {
        let outputs = Outputs(vec![Output { key: "Name".to_owned(), value: "output".to_owned() }]);
        let environment = [("NAME", "variable")];
        let of = |outputs: &Outputs, given: Option<&str>| {
            outputs.setting(&environment, given, "--name", "NAME", "Name").unwrap()
        };
        assert_eq!(of(&outputs, Some("option")), "option");
        assert_eq!(of(&outputs, None), "output");
        assert_eq!(of(&Outputs::default(), None), "variable");
        let unknown = Outputs::default().setting(&NONE, None, "--name", "NAME", "Name").unwrap_err();
        assert_eq!(unknown.to_string(), "say --name, set NAME, or give --outputs with Name");
    }
}
