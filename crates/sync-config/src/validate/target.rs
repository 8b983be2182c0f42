//! Checks of `targets/<name>.yaml`.

use std::collections::BTreeSet;

use sync_domain::change::Operation;
use sync_domain::config::filter::{FilterPolicy, MAX_COMBINATIONS};
use sync_domain::config::{AttributeChoice, Endpoint, HttpEndpoint, Model, Subscription, Target, Type};
use sync_domain::delivery::{CompiledTarget, Error};

use super::auth::check_auth;
use super::model::{is_enriched, output};
use super::network::{LONGEST_DELIVERY, check_timeout, check_url, is_loopback};
use super::{Check, array, table};
use crate::{SyncConfig, path};

pub(super) fn check(target: &Target, config: &SyncConfig, check: &mut Check<'_>) {
    if target.subscribe.is_empty() {
        check.error(&["subscribe"], "the target would get nothing; subscribe it to a model");
    }
    let mut models = Vec::new();
    for (index, entry) in target.subscribe.iter().enumerate() {
        let index = index.to_string();
        match config.model(&entry.model) {
            Some(model) => {
                check_subscription(entry, model, &index, check);
                models.push(model);
            }
            None => {
                let name = &entry.model;
                let message =
                    format!("there is no model {name}; write models/{name}.yaml or correct the name");
                check.error(&["subscribe", &index, "model"], message);
            }
        }
    }
    if let Some(choices) = &target.attributes {
        check_choices(choices, &models, &["attributes"], check);
    }
    let place: &[&str] = match &target.endpoint {
        Endpoint::Http(_) => &["endpoint", "concurrency"],
        Endpoint::DynamoDb(_) => &["endpoint", "dynamodb", "concurrency"],
    };
    if target.endpoint.limits().concurrency.is_some_and(|most| most < 2) {
        check
            .error(place, "must be 2 or more: so many functions run at least, each with a request in flight");
    }
    match &target.endpoint {
        Endpoint::Http(endpoint) => check_http(endpoint, &models, check),
        Endpoint::DynamoDb(endpoint) => table::check(endpoint, target, &models, config, check),
    }
    check_filter(target, check);
    check_compiled(target, check);
}

fn check_subscription(entry: &Subscription, model: &Model, index: &str, check: &mut Check<'_>) {
    if entry.operations.is_empty() && !entry.snapshot {
        check.error(&["subscribe", index, "operations"], "the entry matches nothing; name operations");
    }
    for (at, operation) in entry.operations.iter().enumerate() {
        if *operation == Operation::Snapshot {
            check.error(
                &["subscribe", index, "operations", &at.to_string()],
                "snapshots are not named here; say snapshot: true or false",
            );
        }
    }
    for (at, name) in entry.when_changed.iter().enumerate() {
        let at = at.to_string();
        let path = ["subscribe", index, "when_changed", at.as_str()];
        let found = model.attributes.iter().find(|(own, attribute)| output(own, attribute) == name);
        match found {
            None => check.error(&path, unknown_attribute(name, &[model])),
            Some((own, _)) if is_enriched(model, own) => {
                let message = format!(
                    "enrich sets {name}, after what changed was found out: it would never match; remove it"
                );
                check.error(&path, message);
            }
            Some(_) => {}
        }
    }
    if !entry.when_changed.is_empty() && !entry.operations.contains(&Operation::Update) {
        check.error(
            &["subscribe", index, "when_changed"],
            "is about updates, which operations leaves out; add update or remove it",
        );
    }
    if let Some(choices) = &entry.attributes {
        check_choices(choices, &[model], &["subscribe", index, "attributes"], check);
    }
}

fn check_choices(choices: &[AttributeChoice], models: &[&Model], at: &[&str], check: &mut Check<'_>) {
    let mut outputs: Vec<&AttributeChoice> = Vec::new();
    for (index, choice) in choices.iter().enumerate() {
        let index = index.to_string();
        let at: Vec<&str> = at.iter().copied().chain([index.as_str()]).collect();
        let name = &choice.name;
        if !models.is_empty() && !models.iter().any(|model| is_in(model, name)) {
            check.error(&at, unknown_attribute(name, models));
        }
        if let Some(rename) = &choice.rename {
            if path::split(rename).is_none() {
                check.error(&at, "the new name is not a path; write names with dots between");
            } else if rename.matches("[]").count() != name.matches("[]").count() {
                check.error(&at, "the new name must have [] as often as the name: items stay items");
            }
        }
        let meets = |other: &&&AttributeChoice| {
            inside(other.output(), choice.output()) || inside(choice.output(), other.output())
        };
        if let Some(other) = outputs.iter().find(meets) {
            check.error(&at, format!("meets {} at the target; give one of the two another name", other.name));
        }
        outputs.push(choice);
    }
}

/// Whether the name is an attribute of the event, holds some, or stands in one that is taken whole.
fn is_in(model: &Model, name: &str) -> bool {
    model.attributes.iter().any(|(own, attribute)| {
        let own = output(own, attribute);
        inside(own, name) || (attribute.kind == Some(Type::Json) && inside(name, own))
    })
}

/// Whether a path is another or goes through it.
fn inside(path: &str, other: &str) -> bool {
    path.strip_prefix(other)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || rest.starts_with("[]"))
}

fn unknown_attribute(name: &str, models: &[&Model]) -> String {
    let mut known = BTreeSet::new();
    for model in models {
        known.extend(model.attributes.iter().map(|(own, attribute)| output(own, attribute)));
    }
    let known: Vec<&str> = known.into_iter().collect();
    format!("{name} is no attribute of the event; there are {}", known.join(", "))
}

fn check_http(endpoint: &HttpEndpoint, models: &[&Model], check: &mut Check<'_>) {
    check_url(&endpoint.url, &["endpoint", "url"], check);
    let port = endpoint.url.port_or_known_default();
    if !is_loopback(&endpoint.url) && port.is_some_and(|port| !endpoint.ports.contains(&port)) {
        check.error(&["endpoint", "url"], "its port is not allowed; add it to ports");
    }
    check_auth(&endpoint.auth, &endpoint.url, check);
    check_timeout(endpoint.timeout, LONGEST_DELIVERY, &["endpoint", "timeout"], check);
    for status in endpoint.statuses.keys().filter(|status| !(200..=599).contains(*status)) {
        check.error(
            &["endpoint", "statuses", &status.to_string()],
            "is no final HTTP status; they go from 200 to 599",
        );
    }
    if let Some(written) = &endpoint.array {
        array::check(written, endpoint, check);
    }
    for (operation, mapping) in &endpoint.operations {
        if let Some(template) = &mapping.path {
            check_path(template, models, &["endpoint", "operations", operation.as_str(), "path"], check);
        }
    }
}

/// The path of a request may name parts of the key: it is there on deletes too.
fn check_path(template: &str, models: &[&Model], at: &[&str], check: &mut Check<'_>) {
    if !template.starts_with('/') || template.contains(['?', '#']) {
        check.error(at, "must start with / and have no ? or #");
    }
    let Some(names) = path::placeholders(template) else {
        check.error(at, "has a brace without its partner; write {attribute}");
        return;
    };
    for name in names {
        for model in models {
            let key = |own: &&String| {
                model.attributes.get(*own).is_some_and(|attribute| output(own, attribute) == name)
            };
            if !model.key.iter().any(|own| key(&own)) {
                check.error(
                    at,
                    format!(
                        "{name} is not in the key of {}; only key attributes can stand in a path",
                        model.model
                    ),
                );
            }
        }
    }
}

fn check_filter(target: &Target, check: &mut Check<'_>) {
    let policy = FilterPolicy::of(target);
    let combinations = policy.combinations();
    if combinations > MAX_COMBINATIONS {
        check.error(&["subscribe"], format!("makes a filter policy of {combinations} combinations; SNS takes {MAX_COMBINATIONS}: split the target in two"));
    } else if policy.widened {
        check.warning(&["subscribe"], format!("names too many attributes in when_changed for SNS ({MAX_COMBINATIONS} combinations): the topic sends every update and the target's function filters"));
    }
}

/// What only the form that `deliver` runs sees, once the rest is right.
fn check_compiled(target: &Target, check: &mut Check<'_>) {
    if check.found_errors() {
        return;
    }
    match CompiledTarget::compile(target.clone()) {
        Ok(_) => {}
        Err(Error::Mapping(error)) => check.error(&["attributes"], error.to_string()),
        Err(Error::Request(error)) => check.error(&["endpoint", "operations"], error.to_string()),
        Err(Error::Item(error)) => check.error(&["endpoint", "dynamodb", "key"], error.to_string()),
    }
}
