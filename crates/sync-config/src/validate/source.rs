//! Checks of `sources/<name>.yaml`.

use std::collections::BTreeSet;

use sync_domain::config::{Push, Source};

use super::Check;
use super::network::check_secret;
use crate::SyncConfig;

pub(super) fn check(source: &Source, config: &SyncConfig, check: &mut Check<'_>) {
    let Some(push) = &source.push else {
        check.error(&["source"], "no way in; add push: { … }");
        return;
    };
    check_identity(push, check);
    if push.models.is_empty() {
        check.error(&["push", "models"], "the source may write nothing; list its models");
    }
    let mut seen = BTreeSet::new();
    for (index, model) in push.models.iter().enumerate() {
        let index = index.to_string();
        let path = ["push", "models", index.as_str()];
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
