//! The template against the configuration: CloudFormation cannot read the YAML of the targets, so the mappings of the
//! template repeat what it needs of them. This finds where the two went apart.

pub(crate) mod invoke;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_saphyr::{Location, Spanned};
use sync_config::{ConfigFile, Error as Finding, SyncConfig};
use sync_domain::config::Target;
use sync_domain::config::filter::{ANY, FilterPolicy, MAX_COMBINATIONS};

/// What a target without authentication has in the place of its secret's name. The template grants every target's function
/// one secret by name, since a loop cannot leave a statement out for one of its items; this is no secret that there
/// can be: those of a configuration start with `datasync/`.
pub(crate) const NO_SECRET: &str = "none";

/// What stands for the table of a target that is none. No table has a slash in its name.
pub(crate) const NO_TABLE: &str = "n/a";

/// The longest run of a minute (`RunSeconds`).
const LONGEST_RUN: u32 = 54;

/// The longest name of a target's entry: it is part of the name of a rule (`<stack>-<entry>-probe`), which has 64 characters
/// at most and needs some for the stack.
const LONGEST_ENTRY: usize = 40;

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
    #[serde(rename = "Parameters", default)]
    parameters: Section,
    #[serde(rename = "Resources", default)]
    resources: Section,
    #[serde(rename = "Outputs", default)]
    outputs: Section,
}

#[derive(Debug, Default, Deserialize)]
struct Mappings {
    #[serde(rename = "Sources", default)]
    sources: Entries<SourceEntry>,
    #[serde(rename = "PullSources", default)]
    pulls: Entries<PullEntry>,
    #[serde(rename = "Streams", default)]
    streams: Entries<StreamEntry>,
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
struct PullEntry {
    name: Spanned<String>,
    secret: Spanned<String>,
    state: Spanned<String>,
    run_seconds: Spanned<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StreamEntry {
    name: Spanned<String>,
    table: Spanned<String>,
    parallelization_factor: Spanned<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TargetEntry {
    name: Spanned<String>,
    #[serde(default)]
    secret: Option<Spanned<String>>,
    #[serde(default)]
    table: Option<Spanned<String>>,
    #[serde(default)]
    invoke_arn: Option<Spanned<String>>,
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

/// A section of the template: the logical ids that stand in it as they are, and its `Fn::ForEach`.
#[derive(Debug, Default)]
struct Section {
    ids: Vec<String>,
    loops: Vec<Loop>,
}

/// A loop: its name, its variable, what it runs over and the ids that it makes, with the variable in them.
#[derive(Debug)]
struct Loop {
    name: String,
    variable: String,
    items: Spanned<Vec<String>>,
    ids: Vec<String>,
}

impl Loop {
    /// The logical ids that an item becomes.
    fn ids_of(&self, item: &str) -> impl Iterator<Item = String> {
        let variable = format!("${{{}}}", self.variable);
        self.ids.iter().map(move |id| id.replace(&variable, item))
    }
}

impl<'de> Deserialize<'de> for Section {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InParts;

        impl<'de> Visitor<'de> for InParts {
            type Value = Section;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a section of a template")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Section, A::Error> {
                let mut section = Section::default();
                while let Some(name) = map.next_key::<String>()? {
                    if name.starts_with("Fn::ForEach::") {
                        let (variable, items, made): (_, _, BTreeMap<String, IgnoredAny>) =
                            map.next_value()?;
                        let ids = made.into_keys().collect();
                        section.loops.push(Loop { name, variable, items, ids });
                    } else {
                        map.next_value::<IgnoredAny>()?;
                        section.ids.push(name);
                    }
                }
                Ok(section)
            }
        }

        deserializer.deserialize_map(InParts)
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
        self.pulls(&template.mappings.pulls, config);
        self.streams(template, config);
        self.targets(&template.mappings.targets, config);
        self.logical_ids(template);
        let sections = [("Resources", &template.resources), ("Outputs", &template.outputs)];
        for (section, parts) in sections {
            for each in &parts.loops {
                let path = format!("{section}.{}", each.name);
                match each.variable.as_str() {
                    "Source" => self.items(each, &path, &names(&template.mappings.sources), "Sources"),
                    "Pull" => self.items(each, &path, &names(&template.mappings.pulls), "PullSources"),
                    "Stream" => self.items(each, &path, &names(&template.mappings.streams), "Streams"),
                    "Target" => self.items(each, &path, &names(&template.mappings.targets), "Targets"),
                    _ => {}
                }
            }
        }
        let needed = [
            ("Source", config.sources().any(|source| source.push.is_some())),
            ("Pull", config.sources().any(|source| source.postgres.is_some())),
            ("Stream", config.sources().any(|source| source.dynamodb.is_some())),
            ("Target", config.targets().next().is_some()),
        ];
        for (variable, needed) in needed {
            let runs = template.resources.loops.iter().any(|each| each.variable == variable);
            if needed && !runs {
                self.error(
                    Location::UNKNOWN,
                    "Resources",
                    format!("has no Fn::ForEach over {variable}: nothing would be made"),
                );
            }
        }
    }

    /// No target makes what the stack, or another target, makes already: CloudFormation would refuse the template, or one
    /// of the two would silently stand for both.
    fn logical_ids(&mut self, template: &Template) {
        let mut taken_by: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for section in [&template.resources, &template.outputs] {
            let (of_targets, others): (Vec<_>, Vec<_>) =
                section.loops.iter().partition(|each| each.variable == "Target");
            let mut made: BTreeSet<String> = section.ids.iter().cloned().collect();
            for each in others {
                made.extend(each.items.value.iter().flat_map(|item| each.ids_of(item)));
            }
            for (name, _) in &template.mappings.targets.0 {
                let name = name.value.as_str();
                let own: BTreeSet<String> = of_targets.iter().flat_map(|each| each.ids_of(name)).collect();
                let taken = own.intersection(&made).cloned();
                taken_by.entry(name).or_default().extend(taken);
                made.extend(own);
            }
        }
        for (name, _) in &template.mappings.targets.0 {
            let taken = taken_by.remove(name.value.as_str()).unwrap_or_default();
            if !taken.is_empty() {
                let taken = taken.into_iter().collect::<Vec<_>>().join(", ");
                self.error(
                    name.referenced,
                    &format!("Mappings.Targets.{}", name.value),
                    format!("would make {taken}, which the template makes already; give the entry another name, here and in the lists"),
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

    /// Each database that is read has an entry: a function of its own, which may open that one secret.
    fn pulls(&mut self, entries: &Entries<PullEntry>, config: &SyncConfig) {
        let mut secrets: BTreeMap<&str, &str> = BTreeMap::new();
        for source in config.sources() {
            if let Some(postgres) = &source.postgres {
                secrets.insert(source.source.as_str(), &postgres.url_secret);
            }
        }
        for (name, entry) in &entries.0 {
            let path = format!("Mappings.PullSources.{}", name.value);
            match secrets.remove(entry.name.value.as_str()) {
                None => self.error(
                    entry.name.referenced,
                    &format!("{path}.Name"),
                    "no source with `postgres` has this name (or another entry does already); correct or remove the entry",
                ),
                Some(secret) if secret != entry.secret.value => self.error(
                    entry.secret.referenced,
                    &format!("{path}.Secret"),
                    format!("the source's file names {secret}; write that here"),
                ),
                Some(_) => {}
            }
            if !matches!(entry.state.value.as_str(), "ENABLED" | "DISABLED") {
                self.error(
                    entry.state.referenced,
                    &format!("{path}.State"),
                    "must be ENABLED, or DISABLED to have the source read only when asked",
                );
            }
            if entry.run_seconds.value > LONGEST_RUN {
                self.error(
                    entry.run_seconds.referenced,
                    &format!("{path}.RunSeconds"),
                    format!("must be 0 to {LONGEST_RUN}: the function ends after 60 seconds, and needs some for its last page"),
                );
            }
        }
        for (source, secret) in secrets {
            let place = entries.0.last().map_or(Location::UNKNOWN, |(name, _)| name.referenced);
            let entry = format!(
                "{}: {{ Name: {source}, Secret: {secret}, State: ENABLED, RunSeconds: {LONGEST_RUN} }}",
                logical_name(source)
            );
            self.error(place, "Mappings.PullSources", format!("source {source} has no entry; add `{entry}`"));
        }
    }

    /// Each table that is read has an entry, and the entry a parameter for the stream's ARN.
    fn streams(&mut self, template: &Template, config: &SyncConfig) {
        let entries = &template.mappings.streams;
        let mut tables: BTreeMap<&str, &str> = BTreeMap::new();
        for source in config.sources() {
            if let Some(dynamodb) = &source.dynamodb {
                tables.insert(source.source.as_str(), &dynamodb.table);
            }
        }
        for (name, entry) in &entries.0 {
            let path = format!("Mappings.Streams.{}", name.value);
            let named = &entry.name;
            match tables.remove(named.value.as_str()) {
                None => self.error(
                    named.referenced,
                    &format!("{path}.Name"),
                    "no source with `dynamodb` has this name (or another entry does already); correct or remove the entry",
                ),
                Some(table) if table != entry.table.value => self.error(
                    entry.table.referenced,
                    &format!("{path}.Table"),
                    format!("the source's file names {table}; write that here"),
                ),
                Some(_) => {}
            }
            let parallel = &entry.parallelization_factor;
            if !(1..=10).contains(&parallel.value) {
                self.error(
                    parallel.referenced,
                    &format!("{path}.ParallelizationFactor"),
                    "must be 1 to 10: what an event source of a stream takes",
                );
            }
            let parameter = format!("{}StreamArn", name.value);
            if !template.parameters.ids.contains(&parameter) {
                self.error(
                    name.referenced,
                    &path,
                    format!("has no parameter {parameter}; add one: it gets the ARN of the table's stream"),
                );
            }
        }
        for (source, table) in tables {
            let place = entries.0.last().map_or(Location::UNKNOWN, |(name, _)| name.referenced);
            let entry = format!(
                "{}: {{ Name: {source}, Table: {table}, ParallelizationFactor: 2 }}",
                logical_name(source)
            );
            self.error(place, "Mappings.Streams", format!("source {source} has no entry; add `{entry}`"));
        }
    }

    fn targets(&mut self, entries: &Entries<TargetEntry>, config: &SyncConfig) {
        let mut seen = BTreeSet::new();
        for (name, entry) in &entries.0 {
            let path = format!("Mappings.Targets.{}", name.value);
            if name.value.len() > LONGEST_ENTRY {
                let message = format!(
                    "is longer than {LONGEST_ENTRY} characters, and part of a name that can have 64; give the entry another name, here and in the lists"
                );
                self.error(name.referenced, &path, message);
            }
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
        let named = target.endpoint.secret();
        let asked = named.unwrap_or(NO_SECRET);
        match &entry.secret {
            Some(given) if given.value == asked => {}
            Some(given) => {
                let says = if named.is_some() { "names" } else { "has no authentication:" };
                self.error(
                    given.referenced,
                    &format!("{path}.Secret"),
                    format!("the target's file {says} {asked}; write that here"),
                );
            }
            None => {
                self.error(
                    entry.name.referenced,
                    path,
                    format!("add Secret: {asked}; the function may read no other"),
                );
            }
        }
        self.table(entry, target, path);
        self.invoke(entry, target, path);
        if entry.max_concurrency.value < 2 {
            self.error(
                entry.max_concurrency.referenced,
                &format!("{path}.MaxConcurrency"),
                "must be 2 or more: the least that an event source takes",
            );
        }
        let in_flight = target.endpoint.limits().concurrency;
        if let Some(most) = in_flight.filter(|most| *most < entry.max_concurrency.value) {
            let message = format!(
                "so many functions would have more requests in flight than the {most} of the target's file; write {} or less here, or raise concurrency there",
                most.max(2)
            );
            self.error(entry.max_concurrency.referenced, &format!("{path}.MaxConcurrency"), message);
        }
    }

    /// The one table that the role of the target's function may write.
    fn table(&mut self, entry: &TargetEntry, target: &Target, path: &str) {
        let named = target.endpoint.table();
        let asked = named.unwrap_or(NO_TABLE);
        match &entry.table {
            Some(given) if given.value == asked => {}
            Some(given) => {
                let says = if named.is_some() { "names" } else { "names no table:" };
                self.error(
                    given.referenced,
                    &format!("{path}.Table"),
                    format!("the target's file {says} {asked}; write that here"),
                );
            }
            None => {
                let message = format!("add Table: {asked}; the function may write no other");
                self.error(entry.name.referenced, path, message);
            }
        }
    }

    /// A signature alone opens nothing: the function's role needs the right to what stands behind the target, and to
    /// nothing else.
    fn invoke(&mut self, entry: &TargetEntry, target: &Target, path: &str) {
        match (&entry.invoke_arn, invoke::signed(target)) {
            (None, None) => {}
            (Some(given), Some((sigv4, url))) => {
                if let Some(problem) = invoke::problem(sigv4, url, &given.value) {
                    self.error(given.referenced, &format!("{path}.InvokeArn"), problem);
                }
            }
            (Some(given), None) => self.error(
                given.referenced,
                &format!("{path}.InvokeArn"),
                "the target's file does not sign with sigv4; remove it",
            ),
            (None, Some((sigv4, url))) => self.error(
                entry.name.referenced,
                path,
                format!(
                    "add InvokeArn: {}; without it the function may call nothing",
                    invoke::outline(sigv4, url)
                ),
            ),
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
