//! The governance policy of a model, as run: what is picked out of a record, what protects each attribute, and how the
//! event lays them out. Deny by default: what the model does not list is passed over and never copied.
//!
//! `config` holds the policy as written; [`CompiledPolicy::compile`] turns it into this form once per cold start.

mod apply;
mod capture;
mod compute;
mod difference;
mod enrich;
mod keys;
mod path;
mod removal;
mod scope;

use std::sync::Arc;

pub use self::apply::{Applied, Captured, Enrichment};
pub use self::capture::Picked;
use self::compute::Recipe;
pub use self::keys::PolicyKeys;
use self::path::Step;
use self::scope::{Entry, Layout, Scope, Slot};
use crate::config::{Class, Mask, Missing, Model, Protect, Type};
use crate::id::ModelId;
use crate::outcome::Reason;
use crate::predicate::Compiled;
use crate::protect;

/// What is wrong with a model: the path inside its file and a message with the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct Error {
    /// The path in the model's file, e.g. `attributes.email.as`.
    pub path: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// Why a record did not come through the policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The record is at fault: it gets a ticket.
    #[error("the record is refused: {0}")]
    Rejected(#[from] Reason),
    /// A key is at fault: the record is tried again under a new one.
    #[error(transparent)]
    Key(#[from] protect::Error),
}

/// The policy of a model, as run.
#[derive(Debug, Clone)]
pub struct CompiledPolicy {
    model: ModelId,
    schema: Arc<str>,
    version: Arc<str>,
    attributes: Vec<Attribute>,
    /// Indices of the key's attributes, in the model's order.
    key: Vec<usize>,
    subject: Option<usize>,
    before: bool,
    missing: Missing,
    record: Scope,
    enrich: Option<Enriching>,
    /// See [`CompiledPolicy::fixed_size`].
    fixed_size: usize,
}

/// An attribute, as run.
#[derive(Debug, Clone)]
pub(crate) struct Attribute {
    /// Its path in the record.
    path: String,
    /// Its path in the event.
    output: String,
    kind: Option<Type>,
    rule: Rule,
    recipe: Option<Recipe>,
    /// Its slot in the record's own scope; none for computed, looked up and array attributes.
    slot: Option<usize>,
    /// Filled in by a look-up.
    later: bool,
}

/// What is done to a value.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    Clear,
    Redact,
    Mask(Mask),
    Tokenize,
    Encrypt,
}

/// Which records are looked up.
#[derive(Debug, Clone)]
struct Enriching {
    when: Option<Compiled>,
}

/// Data that has been through the policy: the only thing that an event is made of.
///
/// There is no way to make one but [`Captured::apply`] and what follows from an event already published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protected {
    data: String,
    changed: Option<Vec<String>>,
    schema: Arc<str>,
    policy_version: Arc<str>,
}

impl Protected {
    /// The `data` of the event, as JSON.
    pub fn data(&self) -> &str {
        &self.data
    }

    /// The changed attributes by their names in the event; none = not known.
    pub fn changed(&self) -> Option<&[String]> {
        self.changed.as_deref()
    }

    pub(crate) fn into_parts(self) -> (String, Option<Vec<String>>) {
        (self.data, self.changed)
    }

    /// The schema's number.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// Which policy made it.
    pub fn policy_version(&self) -> &str {
        &self.policy_version
    }
}

impl CompiledPolicy {
    /// Compiles a model; `version` tells its file from earlier ones.
    pub fn compile(model: &Model, version: &str) -> Result<Self, Vec<Error>> {
        Compiler::default().compile(model, version)
    }

    /// The model.
    pub fn model(&self) -> &ModelId {
        &self.model
    }

    /// Whether the model's records pass the Enrichment queue.
    pub fn enriches(&self) -> bool {
        self.enrich.is_some()
    }

    /// The attributes' names in the event, in the order of the model.
    pub fn outputs(&self) -> impl Iterator<Item = &str> {
        self.attributes.iter().map(|attribute| attribute.output.as_str())
    }
}

/// Collects what is wrong while a model is compiled.
#[derive(Default)]
struct Compiler {
    errors: Vec<Error>,
}

impl Compiler {
    fn error(&mut self, path: String, message: impl Into<String>) {
        self.errors.push(Error { path, message: message.into() });
    }

    fn compile(mut self, model: &Model, version: &str) -> Result<CompiledPolicy, Vec<Error>> {
        let later: Vec<&String> = model.enrich.iter().flat_map(|enrich| enrich.set().keys()).collect();
        let mut attributes = Vec::with_capacity(model.attributes.len());
        let mut entries = Vec::new();
        let mut additions = Vec::new();
        for (index, (path, written)) in model.attributes.iter().enumerate() {
            let output = written.output.as_ref().unwrap_or(path);
            let place = format!("attributes.{path}");
            let input_steps = self.steps(&place, path);
            let output_steps = match &written.output {
                Some(output) => self.steps(&format!("{place}.as"), output),
                None => input_steps.clone(),
            };
            let is_later = later.contains(&path);
            if written.compute.is_some() || is_later {
                let layout = if is_later { Layout::Later } else { Layout::Computed(index) };
                if output_steps.contains(&Step::Each) {
                    self.error(place.clone(), "a computed or looked-up attribute stands outside arrays");
                } else {
                    additions.push((layout, output_steps, place.clone()));
                }
            } else {
                entries.push(Entry {
                    attribute: index,
                    path: path.clone(),
                    input: input_steps,
                    output: output_steps,
                });
            }
            attributes.push(Attribute {
                path: path.clone(),
                output: output.clone(),
                kind: written.kind,
                rule: self.rule(&place, written),
                recipe: None,
                slot: None,
                later: is_later,
            });
        }
        for name in later.iter().filter(|name| !model.attributes.contains_key(**name)) {
            self.error("enrich.set".to_owned(), format!("{name} is not listed in `attributes`"));
        }
        let record = self.scope(entries, additions);
        let Some(record) = record else { return Err(self.errors) };
        for (slot, kind) in record.slots.iter().enumerate() {
            if let Slot::Value(index) = kind
                && let Some(attribute) = attributes.get_mut(*index)
            {
                attribute.slot = Some(slot);
            }
        }
        self.recipes(model, &mut attributes);
        let key = self.key(model, &attributes);
        let subject = self.subject(model, &attributes);
        let enrich = model.enrich.as_ref().map(|enrich| Enriching { when: self.when(enrich, &attributes) });
        if !self.errors.is_empty() {
            return Err(self.errors);
        }
        let mut policy = CompiledPolicy {
            model: model.model.clone(),
            schema: model.schema.to_string().into(),
            version: version.into(),
            attributes,
            key,
            subject,
            before: model.before,
            missing: model.missing,
            record,
            enrich,
            fixed_size: 0,
        };
        policy.fixed_size = policy.fixed_size();
        Ok(policy)
    }

    fn steps(&mut self, place: &str, path: &str) -> Vec<Step> {
        path::parse(path).unwrap_or_else(|message| {
            self.error(place.to_owned(), message);
            vec![Step::Member(path.to_owned())]
        })
    }

    fn rule(&mut self, place: &str, written: &crate::config::Attribute) -> Rule {
        let json = written.kind == Some(Type::Json);
        let place = format!("{place}.protect");
        match &written.protect {
            None if written.class == Class::Sensitive => {
                self.error(place, "a sensitive attribute must say how it is protected; `none` leaves it in clear on purpose");
                Rule::Redact
            }
            None | Some(Protect::None) => Rule::Clear,
            Some(Protect::Redact) => Rule::Redact,
            Some(Protect::Encrypt) => Rule::Encrypt,
            Some(Protect::Tokenize | Protect::Mask(_)) if json => {
                self.error(place, "a value of type json can only be encrypted or redacted");
                Rule::Redact
            }
            Some(Protect::Tokenize) => Rule::Tokenize,
            Some(Protect::Mask(mask)) => {
                if mask.text.is_some() && (mask.keep_first > 0 || mask.keep_last > 0) {
                    self.error(
                        place,
                        "a mask has a fixed `text`, or keeps the first and last characters, not both",
                    );
                }
                Rule::Mask(mask.clone())
            }
        }
    }

    fn scope(&mut self, entries: Vec<Entry>, additions: Vec<(Layout, Vec<Step>, String)>) -> Option<Scope> {
        let mut scope = match Scope::build(entries, "") {
            Ok(scope) => scope,
            Err((path, message)) => {
                self.error(format!("attributes.{path}"), message);
                return None;
            }
        };
        for (layout, output, place) in additions {
            if let Err((place, message)) = scope.add_output(layout, &output, &place) {
                self.error(place, message);
            }
        }
        Some(scope)
    }

    fn recipes(&mut self, model: &Model, attributes: &mut [Attribute]) {
        for (index, (path, written)) in model.attributes.iter().enumerate() {
            let Some(compute) = &written.compute else { continue };
            let place = format!("attributes.{path}.compute");
            match Recipe::compile(compute, attributes) {
                Ok(recipe) => {
                    if let Some(attribute) = attributes.get_mut(index) {
                        attribute.recipe = Some(recipe);
                    }
                }
                Err(message) => self.error(place.clone(), message),
            }
            // A computed attribute takes the highest class that it reads.
            let class = compute::inputs(compute)
                .into_iter()
                .filter_map(|input| model.attributes.get(input))
                .map(|a| a.class);
            let reads = class.max().unwrap_or(Class::Public);
            if reads >= Class::Personal && written.protect.is_none() {
                let message = "it reads a personal or sensitive attribute, so it must say how it is protected; `none` leaves it in clear on purpose";
                self.error(place, message);
            }
        }
    }

    fn key(&mut self, model: &Model, attributes: &[Attribute]) -> Vec<usize> {
        let mut key = Vec::new();
        if model.key.is_empty() {
            self.error("key".to_owned(), "name at least one attribute");
        }
        for name in &model.key {
            let place = format!("key.{name}");
            match attributes.iter().position(|attribute| attribute.path == *name) {
                None => self.error(place, "a key attribute must be listed in `attributes`"),
                Some(index) => {
                    let Some(attribute) = attributes.get(index) else { continue };
                    if attribute.slot.is_none() || name.contains('.') || attribute.output.contains('.') {
                        self.error(
                            place,
                            "a key attribute is a plain attribute at the top of the record and of the event",
                        );
                    } else if !matches!(attribute.rule, Rule::Clear | Rule::Tokenize) {
                        self.error(place, "a key attribute can be clear or tokenized: the other rules make different records look alike, or one record different");
                    } else if matches!(attribute.kind, Some(Type::Json | Type::Decimal)) {
                        self.error(place, "a key attribute is a string, an integer or a boolean");
                    }
                    key.push(index);
                }
            }
        }
        key
    }

    fn subject(&mut self, model: &Model, attributes: &[Attribute]) -> Option<usize> {
        let name = model.subject.as_ref()?;
        let found =
            attributes.iter().position(|attribute| attribute.path == *name && attribute.slot.is_some());
        if found.is_none() {
            self.error(
                "subject".to_owned(),
                "the subject must be a listed attribute of the record, outside arrays",
            );
        }
        found
    }

    fn when(&mut self, enrich: &crate::config::Enrich, attributes: &[Attribute]) -> Option<Compiled> {
        match enrich.when.as_ref()?.compile(&|path| compute::readable(path, attributes)) {
            Ok(compiled) => Some(compiled),
            Err((path, message)) => {
                self.error(format!("enrich.when.{path}"), message);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
