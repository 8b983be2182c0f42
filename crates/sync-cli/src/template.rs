//! The template against the configuration: CloudFormation cannot read the YAML of the targets, so the mappings of the
//! template repeat what it needs of them. This finds where the two went apart.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_saphyr::{Location, Spanned};
use sync_config::{ConfigFile, Error as Finding, SyncConfig};
use sync_domain::config::Target;
use sync_domain::config::filter::{ANY, FilterPolicy, MAX_COMBINATIONS};

/// What was found in the template.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) errors: Vec<Finding>,
    pub(crate) warnings: Vec<Finding>,
}

/// The part of a template that repeats the configuration.
#[derive(Debug, Deserialize)]
struct Template {
    #[serde(rename = "Mappings", default)]
    mappings: Mappings,
    #[serde(rename = "Resources", default)]
    resources: Loops,
    #[serde(rename = "Outputs", default)]
    outputs: Loops,
}

#[derive(Debug, Default, Deserialize)]
struct Mappings {
    #[serde(rename = "Sources", default)]
    sources: Entries<SourceEntry>,
    #[serde(rename = "Targets", default)]
    targets: Entries<TargetEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SourceEntry {
    secret: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TargetEntry {
    name: Spanned<String>,
    #[serde(default)]
    secret: Option<Spanned<String>>,
    models: Spanned<Vec<String>>,
    operations: Spanned<Vec<String>>,
    changed: Spanned<Vec<String>>,
    max_concurrency: Spanned<u32>,
}

/// The entries of a mapping in their order, each with the place of its name.
#[derive(Debug)]
struct Entries<T>(Vec<(Spanned<String>, T)>);

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for InOrder<T> {
            type Value = Entries<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(InOrder(std::marker::PhantomData))
    }
}

/// The `Fn::ForEach` of a section: its name, its variable and what it runs over.
#[derive(Debug, Default)]
struct Loops(Vec<Loop>);

#[derive(Debug)]
struct Loop {
    name: String,
    variable: String,
    items: Spanned<Vec<String>>,
}

impl<'de> Deserialize<'de> for Loops {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Section;

        impl<'de> Visitor<'de> for Section {
            type Value = Loops;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a section of a template")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Loops, A::Error> {
                let mut loops = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name.starts_with("Fn::ForEach::") {
                        let (variable, items, IgnoredAny) = map.next_value()?;
                        loops.push(Loop { name, variable, items });
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Loops(loops))
            }
        }

        deserializer.deserialize_map(Section)
    }
}

/// The name that a source or target has in the template: `crm-db` becomes `CrmDb`.
pub(crate) fn logical_name(name: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
    };
    name.split(['-', '_']).map(word).collect()
}

/// Holds a template against a configuration.
pub(crate) fn check(file: &ConfigFile, config: &SyncConfig) -> Found {
    let mut check = Check { file: &file.path, found: Found::default() };
    let options = serde_saphyr::options! { with_snippet: false };
    match serde_saphyr::from_str_with_options::<Template>(&file.text, options) {
        Ok(template) => check.template(&template, config),
        Err(error) => {
            let place = error.location().unwrap_or(Location::UNKNOWN);
            let message = error.to_string();
            // The place stands in front already.
            let message = message.split(" at line ").next().unwrap_or_default();
            check.error(place, "", format!("cannot be read as a template: {message}"));
        }
    }
    check.found
}

struct Check<'a> {
    file: &'a str,
    found: Found,
}

impl Check<'_> {
    fn finding(&self, place: Location, path: &str, message: String) -> Finding {
        let (line, column) = (place.line().max(1), place.column().max(1));
        Finding { file: self.file.to_owned(), line, column, path: path.to_owned(), message }
    }

    fn error(&mut self, place: Location, path: &str, message: impl Into<String>) {
        let finding = self.finding(place, path, message.into());
        self.found.errors.push(finding);
    }

    fn warning(&mut self, place: Location, path: &str, message: impl Into<String>) {
        let finding = self.finding(place, path, message.into());
        self.found.warnings.push(finding);
    }

    fn template(&mut self, template: &Template, config: &SyncConfig) {
        self.sources(&template.mappings.sources, config);
        self.targets(&template.mappings.targets, config);
        for (section, loops) in [("Resources", &template.resources), ("Outputs", &template.outputs)] {
            for each in &loops.0 {
                let path = format!("{section}.{}", each.name);
                match each.variable.as_str() {
                    "Source" => self.items(each, &path, &names(&template.mappings.sources), "Sources"),
                    "Target" => self.items(each, &path, &names(&template.mappings.targets), "Targets"),
                    _ => {}
                }
            }
        }
        for variable in ["Source", "Target"] {
            let runs = template.resources.0.iter().any(|each| each.variable == variable);
            let needed = if variable == "Source" {
                config.sources().next().is_some()
            } else {
                config.targets().next().is_some()
            };
            if needed && !runs {
                self.error(
                    Location::UNKNOWN,
                    "Resources",
                    format!("has no Fn::ForEach over {variable}: nothing would be made"),
                );
            }
        }
    }

    /// A loop runs over exactly the entries of its mapping.
    fn items(&mut self, each: &Loop, path: &str, mapping: &BTreeSet<&str>, mapping_name: &str) {
        let place = each.items.referenced;
        let mut seen = BTreeSet::new();
        for item in &each.items.value {
            if !seen.insert(item.as_str()) {
                self.error(place, path, format!("{item} stands twice; keep one"));
            } else if !mapping.contains(item.as_str()) {
                self.error(
                    place,
                    path,
                    format!("{item} has no entry in Mappings.{mapping_name}; add one or remove the name"),
                );
            }
        }
        for name in mapping.iter().filter(|name| !seen.contains(*name)) {
            self.error(
                place,
                path,
                format!("{name} of Mappings.{mapping_name} is missing; add it to the list"),
            );
        }
    }

    /// Each secret that a source signs with has an entry: the push function may read those alone.
    fn sources(&mut self, entries: &Entries<SourceEntry>, config: &SyncConfig) {
        let mut secrets: BTreeMap<&str, &str> = BTreeMap::new();
        for source in config.sources() {
            if let Some(secret) = source.push.as_ref().and_then(|push| push.secret.as_deref()) {
                secrets.insert(secret, source.source.as_str());
            }
        }
        for (name, entry) in &entries.0 {
            if secrets.remove(entry.secret.value.as_str()).is_none() {
                let path = format!("Mappings.Sources.{}.Secret", name.value);
                self.error(entry.secret.referenced, &path, "no source names this secret (or another entry does already); correct or remove the entry");
            }
        }
        for (secret, source) in secrets {
            let place = entries.0.last().map_or(Location::UNKNOWN, |(name, _)| name.referenced);
            let entry = format!("{}: {{ Secret: {secret} }}", logical_name(source));
            self.error(place, "Mappings.Sources", format!("source {source} has no entry; add `{entry}`"));
        }
    }

    fn targets(&mut self, entries: &Entries<TargetEntry>, config: &SyncConfig) {
        let mut seen = BTreeSet::new();
        for (name, entry) in &entries.0 {
            let path = format!("Mappings.Targets.{}", name.value);
            if !seen.insert(entry.name.value.as_str()) {
                self.error(
                    entry.name.referenced,
                    &format!("{path}.Name"),
                    "another entry has this name already; keep one",
                );
                continue;
            }
            match config.targets().find(|target| target.target.as_str() == entry.name.value) {
                Some(target) => self.target(entry, target, &path),
                None => self.error(
                    entry.name.referenced,
                    &format!("{path}.Name"),
                    format!("there is no targets/{}.yaml; write it or remove the entry", entry.name.value),
                ),
            }
        }
        for target in config.targets().filter(|target| !seen.contains(target.target.as_str())) {
            let place = entries.0.last().map_or(Location::UNKNOWN, |(name, _)| name.referenced);
            let name = &target.target;
            self.error(
                place,
                "Mappings.Targets",
                format!("target {name} has no entry; add what `datasync filter-policy {name}` prints"),
            );
        }
    }

    fn target(&mut self, entry: &TargetEntry, target: &Target, path: &str) {
        let asked = FilterPolicy::of(target);
        self.values(&entry.models, &asked.models, &format!("{path}.Models"));
        self.values(&entry.operations, &asked.operations, &format!("{path}.Operations"));
        self.values(&entry.changed, &asked.changed, &format!("{path}.Changed"));
        let lists = [&entry.models, &entry.operations, &entry.changed];
        let combinations = lists.iter().map(|list| list.value.len()).product::<usize>() * 2;
        if combinations > MAX_COMBINATIONS {
            let message = format!(
                "Models, Operations and Changed make {combinations} combinations; SNS takes {MAX_COMBINATIONS}: write Changed: [{ANY}]"
            );
            self.error(entry.changed.referenced, path, message);
        }
        match (&entry.secret, target.endpoint.auth.secret()) {
            (Some(given), Some(asked)) if given.value != asked => {
                self.error(
                    given.referenced,
                    &format!("{path}.Secret"),
                    format!("the target's file names {asked}; write that here"),
                );
            }
            (None, Some(asked)) => {
                self.error(
                    entry.name.referenced,
                    path,
                    format!("add Secret: {asked}; the function may read no other"),
                );
            }
            _ => {}
        }
        if entry.max_concurrency.value < 2 {
            self.error(
                entry.max_concurrency.referenced,
                &format!("{path}.MaxConcurrency"),
                "must be 2 or more: the least that an event source takes",
            );
        }
    }

    /// What the template lacks never arrives; what it has too much, the target's function turns away.
    fn values(&mut self, given: &Spanned<Vec<String>>, asked: &[String], path: &str) {
        let all = given.value.iter().any(|value| value == ANY) && path.ends_with(".Changed");
        let lacking: Vec<&str> = asked
            .iter()
            .map(String::as_str)
            .filter(|value| !all && !given.value.iter().any(|own| own == value))
            .collect();
        let surplus = given.value.iter().any(|own| !asked.contains(own));
        let line = format!("[{}]", asked.join(", "));
        if !lacking.is_empty() {
            let message =
                format!("lacks {}, so the target would never get that; write {line}", lacking.join(", "));
            self.error(given.referenced, path, message);
        } else if surplus {
            self.warning(
                given.referenced,
                path,
                format!("lets more through than the target's file asks for; {line} is enough"),
            );
        }
    }
}

fn names<T>(entries: &Entries<T>) -> BTreeSet<&str> {
    entries.0.iter().map(|(name, _)| name.value.as_str()).collect()
}

#[cfg(test)]
mod tests;
