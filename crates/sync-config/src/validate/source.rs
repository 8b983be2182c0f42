//! Checks of `sources/<name>.yaml`.

use std::collections::BTreeSet;

use sync_domain::config::{Push, PushFormat, Source, VersionKind};
use sync_domain::id::ModelId;

use super::network::check_secret;
use super::{Check, dynamodb, postgres};
use crate::SyncConfig;

pub(super) fn check<'a>(source: &'a Source, config: &SyncConfig, check: &mut Check<'_>) {
    let ways = [source.push.is_some(), source.postgres.is_some(), source.dynamodb.is_some()];
    match ways.into_iter().filter(|way| *way).count() {
        0 => check.error(&["source"], "no way in; add push, postgres or dynamodb"),
        1 => {}
        _ => check.error(&["source"], "more than one way in, which have no common order; keep one"),
    }
    if let Some(dynamodb) = &source.dynamodb {
        dynamodb::check(source, dynamodb, config, check);
    }
    if let Some(postgres) = &source.postgres {
        postgres::check(source, postgres, config, check);
    }
    let Some(push) = &source.push else { return };
    check_identity(push, check);
    match push.format {
        PushFormat::Changes => check_changes(push, check),
        PushFormat::Debezium => check_debezium(push, check),
    }
    let listed = push.models.iter().enumerate().map(|(index, model)| ("models", index.to_string(), model));
    let table = |(table, model): (&String, &'a Option<ModelId>)| {
        model.as_ref().map(|model| ("tables", table.clone(), model))
    };
    let mut seen = BTreeSet::new();
    for (list, place, model) in listed.chain(push.tables.iter().filter_map(table)) {
        let path = ["push", list, place.as_str()];
        if !seen.insert(model) {
            check.error(&path, format!("{model} is listed twice; keep one"));
        } else if config.model(model).is_none() {
            check.error(
                &path,
                format!("there is no model {model}; write models/{model}.yaml or correct the name"),
            );
        } else if let Some(first) = config.source_of(model).filter(|first| first.source != source.source) {
            // Two sources have no common order.
            let first = &first.source;
            check.error(
                &path,
                format!("source {first} writes {model} already; a model has exactly one source"),
            );
        }
    }
}

fn check_changes(push: &Push, check: &mut Check<'_>) {
    if push.models.is_empty() {
        check.error(&["push", "models"], "the source may write nothing; list its models");
    }
    if !push.tables.is_empty() {
        check.error(&["push", "tables"], "tables belong to format: debezium; list models instead");
    }
}

fn check_debezium(push: &Push, check: &mut Check<'_>) {
    if !push.models.is_empty() {
        check.error(
            &["push", "models"],
            "with format: debezium the models are those of the tables; leave models out",
        );
    }
    if push.version != VersionKind::Queue {
        check.error(
            &["push", "version"],
            "with format: debezium the version is the place in the log; leave version out",
        );
    }
    if push.tables.values().flatten().next().is_none() {
        check.error(&["push", "tables"], "the source may write nothing; give a table its model");
    }
    for table in push.tables.keys() {
        let named = table
            .split_once('.')
            .is_some_and(|(first, second)| !first.is_empty() && !second.is_empty() && !second.contains('.'));
        if !named {
            check.error(
                &["push", "tables", table],
                "not the name of a table as Debezium's events have it; write schema.table, for MySQL database.table",
            );
        }
    }
}

fn check_identity(push: &Push, check: &mut Check<'_>) {
    if push.secret.is_none() && push.principal.is_none() {
        check.error(&["push"], "nobody could push; name a secret, a principal, or both");
    }
    if let Some(secret) = &push.secret {
        check_secret(secret, &["push", "secret"], check);
    }
    if let Some(principal) = &push.principal
        && !is_principal(principal)
    {
        check.error(
            &["push", "principal"],
            "not the ARN of a role or user: arn:aws:iam::111122223333:role/name",
        );
    }
}

/// `arn:<partition>:iam::<account>:role/…` or `…:user/…`, without wildcards.
fn is_principal(arn: &str) -> bool {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let [prefix, partition, service, region, account, resource] = parts.as_slice() else { return false };
    let named = ["role/", "user/"]
        .iter()
        .any(|kind| resource.strip_prefix(kind).is_some_and(|name| !name.is_empty()));
    let account = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
    *prefix == "arn"
        && partition.starts_with("aws")
        && *service == "iam"
        && region.is_empty()
        && account
        && named
        && !arn.contains(['*', '?'])
}
