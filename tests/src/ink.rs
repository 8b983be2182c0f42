//! What sensitive values are written with: what looks like life, or tokens that can be found again wherever they leak.

use std::sync::{Mutex, PoisonError};

use crate::canary::Canary;

/// Writes the values of attributes that must not be seen in clear.
#[derive(Debug)]
pub enum Ink {
    /// Values as in life.
    Life,
    /// A token of its own in every value.
    Canary(Canaries),
}

/// Tokens that were given out.
#[derive(Debug)]
pub struct Canaries {
    run: String,
    given: Mutex<Vec<Canary>>,
}

impl Ink {
    /// Ink with tokens; `run` tells the tokens of one run from those of another.
    pub fn canary(run: &str) -> Self {
        Self::Canary(Canaries { run: run.to_owned(), given: Mutex::new(Vec::new()) })
    }

    /// A value of an attribute: `life` gives it as in life; a token stands in its place or in front of `tail`, which a
    /// mask may show.
    pub fn write(&self, attribute: &str, tail: &str, life: impl FnOnce() -> String) -> String {
        match self {
            Self::Life => life(),
            Self::Canary(canaries) => canaries.give(attribute, tail),
        }
    }

    /// All tokens that were given out.
    pub fn canaries(&self) -> Vec<Canary> {
        match self {
            Self::Life => Vec::new(),
            Self::Canary(canaries) => canaries.given.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

impl Canaries {
    fn give(&self, attribute: &str, tail: &str) -> String {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        // Letters and digits only, so that escaping leaves it as it is; the end keeps 1 from being the start of 10.
        let token = format!("Canary{}n{:05}z", self.run, given.len());
        let value = format!("{token}{tail}");
        given.push(Canary::new(attribute, &token).within(&value));
        value
    }
}
