//! Checks of `models/<name>.yaml`.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use sync_domain::config::{
    Attribute, Class, Compute, ConcatPart, Enrich, HttpLookup, Mask, Model, Protect, TableLookup, Type,
};
use sync_domain::policy::CompiledPolicy;
use sync_domain::predicate::Predicate;
use url::Url;

use super::Check;
use super::network::{LONGEST_LOOKUP, check_duration, check_header, check_secret, check_timeout, check_url};
use crate::SyncConfig;
use crate::path::{self, Part};

pub(super) fn check(model: &Model, config: &SyncConfig, check: &mut Check<'_>) {
    if config.source_of(&model.model).is_none() {
        check.error(&["model"], "no source writes it; list it in the models of one source");
    }
    if !config.targets().any(|target| target.subscribe.iter().any(|entry| entry.model == model.model)) {
        check.warning(&["model"], "no target subscribes to it");
    }
    if model.schema == 0 {
        check.error(&["schema"], "schemas count from 1");
    }
    if model.attributes.is_empty() {
        check.error(&["attributes"], "no attribute is listed, so nothing could leave; list some");
    }
    check_key(model, check);
    check_subject(model, check);
    for (name, attribute) in &model.attributes {
        check_attribute(name, attribute, model, check);
    }
    check_outputs(model, check);
    if let Some(enrich) = &model.enrich {
        check_enrich(enrich, model, check);
    }
    check_policy(model, check);
}

/// The path that an attribute has in the event.
pub(super) fn output<'a>(name: &'a str, attribute: &'a Attribute) -> &'a str {
    attribute.output.as_deref().unwrap_or(name)
}

/// Whether `enrich` sets the attribute.
pub(super) fn is_enriched(model: &Model, name: &str) -> bool {
    let Some(enrich) = &model.enrich else { return false };
    let by_http = enrich.http.as_ref().is_some_and(|lookup| lookup.set.contains_key(name));
    by_http || enrich.dynamodb.as_ref().is_some_and(|lookup| lookup.set.contains_key(name))
}

fn is_clear(attribute: &Attribute) -> bool {
    matches!(attribute.protect, None | Some(Protect::None))
}

fn check_key(model: &Model, check: &mut Check<'_>) {
    if model.key.is_empty() {
        check.error(&["key"], "names no attribute; say which attributes tell one record from another");
    }
    let mut seen = BTreeSet::new();
    for (index, name) in model.key.iter().enumerate() {
        let index = index.to_string();
        let path = ["key", index.as_str()];
        if !seen.insert(name) {
            check.error(&path, format!("{name} is named twice; keep one"));
            continue;
        }
        let Some(attribute) = model.attributes.get(name) else {
            check.error(&path, format!("{name} is not listed; add it to attributes"));
            continue;
        };
        if !path::is_top_level(name) || !path::is_top_level(output(name, attribute)) {
            check.error(
                &path,
                format!(
                    "{name} is not at the top level; a key is made of top-level attributes, `as` included"
                ),
            );
        }
        if attribute.compute.is_some() || is_enriched(model, name) {
            check.error(
                &path,
                format!("{name} is computed or set by enrich; a key must come with the record"),
            );
        }
        match &attribute.protect {
            Some(Protect::Encrypt | Protect::Mask(_) | Protect::Redact) => check.error(
                &["attributes", name, "protect"],
                "of a key: targets could not tell one record from another; use tokenize or none",
            ),
            None | Some(Protect::None | Protect::Tokenize) => {}
        }
        if let Some(Type::Decimal | Type::Json) = attribute.kind {
            check.error(&["attributes", name, "type"], "of a key must be string, integer, boolean or time");
        }
    }
}

fn check_subject(model: &Model, check: &mut Check<'_>) {
    let Some(subject) = &model.subject else {
        if model.attributes.values().any(|attribute| attribute.class >= Class::Personal) {
            check.warning(
                &["attributes"],
                "hold personal data, but nothing says whose; name the attribute of the person as subject",
            );
        }
        return;
    };
    let Some(attribute) = model.attributes.get(subject) else {
        check.error(&["subject"], format!("{subject} is not listed; add it to attributes"));
        return;
    };
    if path::has_array(subject) || attribute.compute.is_some() || is_enriched(model, subject) {
        check.error(
            &["subject"],
            format!("{subject} must come with the record, once: no array, not computed, not set by enrich"),
        );
    }
    if attribute.kind == Some(Type::Json) {
        check.error(&["subject"], format!("{subject} is of type json; a subject is one scalar"));
    }
}

fn check_attribute(name: &str, attribute: &Attribute, model: &Model, check: &mut Check<'_>) {
    let here = ["attributes", name];
    if path::split(name).is_none() {
        check.error(
            &here,
            "not a path; write names with dots between and [] behind an array: contacts[].email",
        );
    }
    if let Some(output) = &attribute.output
        && path::split(output).is_none()
    {
        check.error(
            &["attributes", name, "as"],
            "not a path; write names with dots between and [] behind an array: contacts[].email",
        );
    }
    check_protection(name, attribute, check);
    if let Some(compute) = &attribute.compute {
        check_compute(name, attribute, compute, model, check);
    }
}

fn check_protection(name: &str, attribute: &Attribute, check: &mut Check<'_>) {
    let here = ["attributes", name];
    let at = ["attributes", name, "protect"];
    match (attribute.class, &attribute.protect) {
        (Class::Sensitive, None) => {
            check.error(
                &here,
                "is sensitive; say how to protect it: tokenize, encrypt, redact or { mask: … }",
            );
        }
        (Class::Sensitive, Some(Protect::None)) => {
            check.warning(&at, "is sensitive and left clear; protect it unless somebody decided so");
        }
        (Class::Personal, None) if attribute.compute.is_none() => {
            check.warning(&here, "is personal and left clear; say protect: none if somebody decided so");
        }
        _ => {}
    }
    match &attribute.protect {
        Some(Protect::Tokenize | Protect::Mask(_)) if attribute.kind == Some(Type::Json) => {
            check.error(
                &at,
                "does not fit type json; use none, encrypt or redact, or list the attributes in it by path",
            );
        }
        Some(Protect::Mask(_)) if attribute.kind == Some(Type::Boolean) => {
            check.error(&at, "does not fit type boolean: nothing would be hidden by a part; use redact");
        }
        Some(Protect::Mask(Mask { keep_first, keep_last, text: Some(_) }))
            if *keep_first > 0 || *keep_last > 0 =>
        {
            check.error(
                &["attributes", name, "protect", "mask"],
                "has a text and keeps a part; a text stands for the whole value, so drop one of the two",
            );
        }
        _ => {}
    }
}

fn check_compute(name: &str, attribute: &Attribute, compute: &Compute, model: &Model, check: &mut Check<'_>) {
    let at = ["attributes", name, "compute"];
    let kinds = [
        compute.constant.is_some(),
        compute.concat.is_some(),
        compute.coalesce.is_some(),
        compute.code.is_some(),
    ];
    if kinds.iter().filter(|given| **given).count() != 1 {
        check.error(&at, "needs exactly one of constant, concat, coalesce and code");
    }
    if path::has_array(name) {
        check.error(
            &["attributes", name],
            "is computed, so it cannot be in an array; give it a path without []",
        );
    }
    for input in inputs(compute) {
        let Some(read) = model.attributes.get(input) else {
            check.error(&at, format!("reads {input}, which is not listed; add it to attributes"));
            continue;
        };
        if read.compute.is_some() {
            check.error(&at, format!("reads {input}, which is computed itself; read what that is made of"));
        } else if is_enriched(model, input) {
            check
                .error(&at, format!("reads {input}, which enrich sets later; read attributes of the record"));
        } else if path::has_array(input) {
            check.error(&at, format!("reads {input}, which is in an array; read single values"));
        } else if read.kind == Some(Type::Json)
            && !compute.coalesce.as_ref().is_some_and(|of| of.iter().any(|of| of == input))
        {
            check.error(&at, format!("reads {input} of type json; read scalars"));
        }
    }
    let highest = highest_class(compute, model);
    if attribute.class < highest {
        check.error(
            &["attributes", name, "class"],
            format!("is lower than what it reads; make it {}", class_name(highest)),
        );
    }
    if highest >= Class::Personal && attribute.protect.is_none() {
        check.error(
            &["attributes", name],
            format!(
                "is made of {} attributes; say how to protect it (protect: none leaves it clear)",
                class_name(highest)
            ),
        );
    }
    if let Some(when) = &compute.when {
        check_predicate(when, &["attributes", name, "compute", "when"], model, check);
    }
}

/// The highest class of what a computed attribute tells of: of what goes into its value, and of what decides whether
/// there is one. A constant that stands there only where a person is ill says as much as the illness does.
fn highest_class(compute: &Compute, model: &Model) -> Class {
    let mut read = inputs(compute);
    if let Some(when) = &compute.when {
        when.attributes(&mut |path| {
            read.insert(path);
        });
    }
    let classes = read.into_iter().filter_map(|path| model.attributes.get(path)).map(|read| read.class);
    classes.max().unwrap_or(Class::Public)
}

/// The attributes that go into the value.
fn inputs(compute: &Compute) -> BTreeSet<&str> {
    let concat = compute.concat.iter().flatten().filter_map(|part| match part {
        ConcatPart::Attribute(name) => Some(name.as_str()),
        ConcatPart::Text(_) => None,
    });
    let coalesce = compute.coalesce.iter().flatten().map(String::as_str);
    let code = compute.code.iter().map(|code| code.of.as_str());
    concat.chain(coalesce).chain(code).collect()
}

fn check_predicate(predicate: &Predicate, at: &[&str], model: &Model, check: &mut Check<'_>) {
    let resolve = |path: &str| {
        let attribute =
            model.attributes.get(path).ok_or_else(|| "is not listed; add it to attributes".to_owned())?;
        if path::has_array(path) {
            return Err("is in an array; a condition reads single values".to_owned());
        }
        if attribute.compute.is_some() || is_enriched(model, path) {
            return Err(
                "is computed or set by enrich; a condition reads what comes with the record".to_owned()
            );
        }
        Ok((0, attribute.kind))
    };
    if let Err((path, message)) = predicate.compile(&resolve) {
        let at: Vec<&str> = at.iter().copied().chain([path.as_str()]).collect();
        check.error(&at, message);
    }
}

/// Two attributes must not meet in the event: not in one path, none inside the other, arrays item by item.
fn check_outputs(model: &Model, check: &mut Check<'_>) {
    let mut taken: Vec<(Vec<Part<'_>>, &str)> = Vec::new();
    // From an array in the event to the array of the record that it is made of.
    let mut arrays: BTreeMap<Vec<&str>, Vec<&str>> = BTreeMap::new();
    for (name, attribute) in &model.attributes {
        let at: &[&str] =
            if attribute.output.is_some() { &["attributes", name, "as"] } else { &["attributes", name] };
        let (Some(from), Some(to)) = (path::split(name), path::split(output(name, attribute))) else {
            continue;
        };
        if let Some((_, other)) = taken.iter().find(|(other, _)| meet(other, &to)) {
            check
                .error(at, format!("meets {other} in the event; give one of the two another path with `as`"));
        }
        let (from_arrays, to_arrays) = (array_names(&from), array_names(&to));
        if from_arrays.len() != to_arrays.len() {
            check.error(at, "must have [] as often as the attribute's own path: items stay items");
        } else {
            for (from_array, to_array) in from_arrays.into_iter().zip(to_arrays) {
                let first = arrays.entry(to_array).or_insert_with(|| from_array.clone());
                if *first != from_array {
                    check.error(at, "would put the items of two arrays into one; keep each array apart");
                }
            }
        }
        taken.push((to, name));
    }
}

/// Whether one path is the other or goes through it.
fn meet(one: &[Part<'_>], other: &[Part<'_>]) -> bool {
    for (a, b) in one.iter().zip(other) {
        if a.name != b.name {
            return false;
        }
        if a.arrays != b.arrays {
            return true;
        }
    }
    true
}

/// The arrays that a path goes through, from the outside in, each as the names down to it.
fn array_names<'a>(parts: &[Part<'a>]) -> Vec<Vec<&'a str>> {
    let mut names = Vec::new();
    let mut arrays = Vec::new();
    for part in parts {
        names.push(part.name);
        arrays.extend(std::iter::repeat_n(names.clone(), part.arrays));
    }
    arrays
}

fn check_enrich(enrich: &Enrich, model: &Model, check: &mut Check<'_>) {
    match (&enrich.http, &enrich.dynamodb) {
        (Some(http), None) => check_http(http, model, check),
        (None, Some(table)) => check_table(table, model, check),
        _ => check.error(&["enrich"], "needs exactly one of http and dynamodb"),
    }
    if let Some(when) = &enrich.when {
        check_predicate(when, &["enrich", "when"], model, check);
    }
}

fn check_http(http: &HttpLookup, model: &Model, check: &mut Check<'_>) {
    let at = ["enrich", "http", "url"];
    match path::placeholders(&http.url) {
        None => check.error(&at, "has a brace without its partner; write {attribute}"),
        Some(inputs) => {
            if inputs.is_empty() {
                check.error(
                    &at,
                    "asks the same for every record; put an attribute into it: …/customers/{customer_id}",
                );
            }
            inputs.iter().for_each(|input| check_input(input, &at, model, check));
            check_lookup_url(&http.url, &inputs, &at, check);
        }
    }
    if let Some(api_key) = &http.api_key {
        check_header(&api_key.header, &["enrich", "http", "api_key", "header"], check);
        check_secret(&api_key.secret, &["enrich", "http", "api_key", "secret"], check);
    }
    if let Some(timeout) = check_duration(http.timeout.as_deref(), &["enrich", "http", "timeout"], check) {
        check_timeout(timeout, LONGEST_LOOKUP, &["enrich", "http", "timeout"], check);
    }
    check_duration(http.cache.as_deref(), &["enrich", "http", "cache"], check);
    for (index, network) in http.allow_networks.iter().enumerate() {
        if network.parse::<IpNet>().is_err() {
            check.error(
                &["enrich", "http", "allow_networks", &index.to_string()],
                "must be a network in CIDR form: 10.20.0.0/16",
            );
        }
    }
    check_set(http.set.iter(), &["enrich", "http", "set"], model, check);
}

/// The address without its placeholders: https, and none of them in the host, where a record would choose whom we ask.
fn check_lookup_url(template: &str, inputs: &[&str], at: &[&str], check: &mut Check<'_>) {
    let host_end = template.find("://").map_or(0, |start| start + 3);
    let authority =
        template.get(host_end..).and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
    if authority.contains('{') || host_end == 0 {
        check.error(at, "must start with https://host/; attributes may stand behind the host only");
        return;
    }
    let filled =
        inputs.iter().fold(template.to_owned(), |url, input| url.replace(&format!("{{{input}}}"), "x"));
    match Url::parse(&filled) {
        Ok(url) => check_url(&url, at, check),
        Err(_) => check.error(at, "not an address; write https://host/path/{attribute}"),
    }
}

fn check_table(table: &TableLookup, model: &Model, check: &mut Check<'_>) {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    if !(3..=255).contains(&table.table.len()) || !table.table.bytes().all(allowed) {
        check.error(
            &["enrich", "dynamodb", "table"],
            "not a name of a table: 3 to 255 letters, digits and _ . -",
        );
    }
    if !(1..=2).contains(&table.key.len()) {
        check.error(&["enrich", "dynamodb", "key"], "must name the table's whole key: one or two attributes");
    }
    for (name, input) in &table.key {
        check_input(input, &["enrich", "dynamodb", "key", name], model, check);
    }
    check_duration(table.cache.as_deref(), &["enrich", "dynamodb", "cache"], check);
    check_set(table.set.iter(), &["enrich", "dynamodb", "set"], model, check);
}

/// What a look-up asks with is read out of the event: only what the policy leaves clear is there to be asked with.
fn check_input(input: &str, at: &[&str], model: &Model, check: &mut Check<'_>) {
    let found = model.attributes.iter().find(|(name, attribute)| output(name, attribute) == input);
    let Some((name, attribute)) = found else {
        check.error(
            at,
            format!("{input} is no attribute of the event; use one that is listed, by its path in the event"),
        );
        return;
    };
    if !is_clear(attribute) {
        check.error(at, format!("{input} is protected, so the other system could not know it; look up by an attribute that stays clear"));
    }
    if is_enriched(model, name) {
        check.error(at, format!("{input} is what the look-up sets; look up by an attribute of the record"));
    }
    if path::has_array(input) || attribute.kind == Some(Type::Json) {
        check.error(at, format!("{input} is no single scalar; look up by one"));
    }
}

fn check_set<'a>(
    set: impl ExactSizeIterator<Item = (&'a String, &'a String)>,
    at: &[&str],
    model: &Model,
    check: &mut Check<'_>,
) {
    if set.len() == 0 {
        check.error(at, "sets nothing; name an attribute and where the answer has it: { segment: segment }");
    }
    for (name, from) in set {
        let at: Vec<&str> = at.iter().copied().chain([name.as_str()]).collect();
        let Some(attribute) = model.attributes.get(name) else {
            check.error(&at, "is not listed; add it to attributes with a class");
            continue;
        };
        if attribute.compute.is_some() {
            check.error(&at, "is computed; a look-up sets attributes of its own");
        }
        if path::has_array(name) {
            check.error(&at, "is in an array; a look-up sets single attributes");
        }
        if path::split(from).is_none() || path::has_array(from) {
            check.error(&at, "must say where the answer has it, as a dotted path without []");
        }
    }
}

/// What only the compiler of the policy sees, once the rest is right.
fn check_policy(model: &Model, check: &mut Check<'_>) {
    if check.found_errors() {
        return;
    }
    for error in CompiledPolicy::compile(model, "").err().unwrap_or_default() {
        check.error_at_dotted(&error.path, error.message);
    }
}

fn class_name(class: Class) -> &'static str {
    match class {
        Class::Public => "public",
        Class::Internal => "internal",
        Class::Identifier => "identifier",
        Class::Personal => "personal",
        Class::Sensitive => "sensitive",
    }
}
