//! Checks of a target's `endpoint.dynamodb`.

use std::collections::BTreeSet;

use sync_domain::config::{Endpoint, Model, Protect, TableEndpoint, Target, Type};
use sync_domain::delivery::item::{EXPIRES_AT, PK, VERSION};

use super::Check;
use super::dynamodb::is_table_name;
use super::model::output;
use crate::SyncConfig;

pub(super) fn check(
    endpoint: &TableEndpoint,
    target: &Target,
    models: &[&Model],
    config: &SyncConfig,
    check: &mut Check<'_>,
) {
    check_name(&endpoint.table, target, config, check);
    if endpoint.key.is_some() {
        check_key(endpoint, models, check);
    }
    check_names(endpoint, target, models, check);
}

fn check_name(table: &str, target: &Target, config: &SyncConfig, check: &mut Check<'_>) {
    let path = ["endpoint", "dynamodb", "table"];
    if !is_table_name(table) {
        check.error(
            &path,
            "not the name of a table (3 to 255 letters, digits, `_`, `-`, `.`); the table is in the account and region of the stack",
        );
    }
    let reads_it =
        config.sources().find(|source| source.dynamodb.as_ref().is_some_and(|own| own.table == table));
    if let Some(source) = reads_it {
        let source = &source.source;
        check.error(
            &path,
            format!("source {source} reads this table: what is written would come back as a change; write into another one"),
        );
    }
    let writes_it =
        |other: &&Target| matches!(&other.endpoint, Endpoint::DynamoDb(own) if own.table == table);
    // The first one may.
    let first = config.targets().find(writes_it).map(|first| &first.target);
    if let Some(first) = first.filter(|first| **first != target.target) {
        check.error(
            &path,
            format!("target {first} writes into this table already; each has its own versions, so each needs its own table"),
        );
    }
}

/// The key of the table is the key of one model, whole: else two records would be one item.
fn check_key(endpoint: &TableEndpoint, models: &[&Model], check: &mut Check<'_>) {
    let path = ["endpoint", "dynamodb", "key"];
    let names: BTreeSet<&str> = models.iter().map(|model| model.model.as_str()).collect();
    if names.len() > 1 {
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        check.error(
            &path,
            format!("records of {names} with equal keys would be one item; remove key (then the table's key is the text pk), or make a target for each"),
        );
        return;
    }
    let Some(model) = models.first() else { return };
    let name = &model.model;
    let chosen = endpoint.key.as_deref().unwrap_or_default();
    let own: Vec<&str> = model
        .key
        .iter()
        .filter_map(|own| model.attributes.get(own).map(|attribute| output(own, attribute)))
        .collect();
    for (at, choice) in chosen.iter().enumerate().filter(|(_, choice)| !own.contains(&choice.name.as_str())) {
        check.error(
            &["endpoint", "dynamodb", "key", &at.to_string()],
            format!("{} is not in the key of {name}; that has {}", choice.name, own.join(", ")),
        );
    }
    let lacking: Vec<&str> =
        own.iter().copied().filter(|name| chosen.iter().all(|choice| choice.name != *name)).collect();
    if !lacking.is_empty() {
        let lacking = lacking.join(", ");
        check.error(
            &path,
            format!("lacks {lacking}, of the key of {name}: records that differ in nothing else would be one item; add it, or remove key (then the table's key is the text pk)"),
        );
    }
    for own in &model.key {
        let Some(attribute) = model.attributes.get(own) else { continue };
        let wrong = match (attribute.protect.as_ref(), attribute.kind) {
            // A token is a text.
            (Some(Protect::Tokenize), _) | (_, Some(Type::String | Type::Time | Type::Integer)) => continue,
            (_, Some(_)) => "is of a type that no table has in its key",
            (_, None) => "has no type, and the table's key has one",
        };
        check.error(
            &path,
            format!("{own}, of the key of {name}, {wrong}; make it a string or an integer in the model, or remove key (then the table's key is the text pk)"),
        );
    }
}

/// Attributes that would meet what an item has for itself. With a choice of attributes the compiled form finds them.
fn check_names(endpoint: &TableEndpoint, target: &Target, models: &[&Model], check: &mut Check<'_>) {
    let taken = |name: &str| {
        let top = name.split(['.', '[']).next().unwrap_or_default();
        top == VERSION || top == EXPIRES_AT || (top == PK && endpoint.key.is_none())
    };
    for (at, entry) in target.subscribe.iter().enumerate() {
        if target.attributes_of(entry).is_some() {
            continue;
        }
        let Some(model) = models.iter().find(|model| model.model == entry.model) else { continue };
        let outputs = model.attributes.iter().map(|(own, attribute)| output(own, attribute));
        for name in outputs.filter(|name| taken(name)) {
            check.error(
                &["subscribe", &at.to_string(), "model"],
                format!("its attribute {name} has a name that every item of a table has; choose attributes and rename it: {{ {name}: new_name }}"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::validate;
    use crate::ConfigFile;

    const MODEL: &str = "\
model: price
key: [sku, currency]
attributes:
  sku: { class: identifier, type: string }
  currency: { class: internal, type: string }
  amount: { class: internal, type: decimal }
";
    const SOURCE: &str = "source: shop\npush: { secret: datasync/source/shop, models: [price, store] }\n";
    const STORE: &str = "\
model: store
key: [id]
attributes:
  id: { class: identifier, type: integer }
  pk: { class: internal, type: string }
";
    const TARGET: &str = "\
target: prices
subscribe: [{ model: price }]
endpoint:
  dynamodb:
    table: team.prices-1
    key: [sku, currency]
";

    fn found(model: &str, target: &str, more: &[(&str, &str)]) -> Vec<String> {
        let mut files = vec![
            ConfigFile::new("models/price.yaml", model),
            ConfigFile::new("models/store.yaml", STORE),
            ConfigFile::new("sources/shop.yaml", SOURCE),
            ConfigFile::new("targets/prices.yaml", target),
        ];
        files.extend(more.iter().map(|(path, text)| ConfigFile::new(*path, *text)));
        validate(&files).errors.iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    fn refuses(model: &str, target: &str, more: &[(&str, &str)], expected: &str) {
        let found = found(model, target, more);
        assert!(found.iter().any(|error| error.starts_with(expected)), "{found:#?}\n{expected}");
    }

    #[test]
    fn a_table_is_named_and_has_the_models_key_or_one_of_its_own() {
        assert_eq!(found(MODEL, TARGET, &[]), [""; 0]);
        let own = TARGET.replace("    key: [sku, currency]\n", "");
        assert_eq!(found(MODEL, &own, &[]), [""; 0]);
        let tokens =
            MODEL.replace("{ class: internal, type: string }", "{ class: internal, protect: tokenize }");
        assert_eq!(found(&tokens, TARGET, &[]), [""; 0], "a token is a text");
        let renamed = TARGET.replace("[sku, currency]", "[{ sku: article }, currency]");
        assert_eq!(found(MODEL, &renamed, &[]), [""; 0]);
    }

    #[test]
    fn a_table_belongs_to_one_target_and_to_no_source() {
        let place = "targets/prices.yaml:5:5: endpoint.dynamodb.table: ";
        for wrong in ["ab", "a/b", "arn:aws:dynamodb:eu-central-1:1:table/abc"] {
            let target = TARGET.replace("team.prices-1", &format!("'{wrong}'"));
            refuses(MODEL, &target, &[], &format!("{place}not the name of a table"));
        }
        let source =
            ("sources/prices.yaml", "source: prices\ndynamodb: { table: team.prices-1, model: price }\n");
        refuses(MODEL, TARGET, &[source], &format!("{place}source prices reads this table"));
        let other = TARGET.replace("target: prices", "target: all-prices");
        let other = ("targets/all-prices.yaml", other.as_str());
        refuses(MODEL, TARGET, &[other], &format!("{place}target all-prices writes into this table already"));
    }

    #[test]
    fn no_two_records_are_one_item() {
        let place = "targets/prices.yaml:6:5: endpoint.dynamodb.key";
        refuses(
            MODEL,
            &TARGET.replace("[sku, currency]", "[sku]"),
            &[],
            &format!("{place}: lacks currency, of the key of price"),
        );
        refuses(
            MODEL,
            &TARGET.replace("[sku, currency]", "[sku, amount]"),
            &[],
            "targets/prices.yaml:6:16: endpoint.dynamodb.key.1: amount is not in the key of price; that has sku, currency",
        );
        refuses(
            MODEL,
            &TARGET.replace("[{ model: price }]", "[{ model: price }, { model: store }]"),
            &[],
            &format!("{place}: records of price, store with equal keys would be one item"),
        );
    }

    #[test]
    fn a_tables_key_has_a_type() {
        let place = "targets/prices.yaml:6:5: endpoint.dynamodb.key: currency, of the key of price, ";
        let typed = |kind: &str| {
            MODEL.replace(
                "currency: { class: internal, type: string }",
                &format!("currency: {{ class: internal{kind} }}"),
            )
        };
        refuses(&typed(", type: boolean"), TARGET, &[], &format!("{place}is of a type that no table has"));
        refuses(&typed(""), TARGET, &[], &format!("{place}has no type"));
    }

    #[test]
    fn no_attribute_meets_what_an_item_has_for_itself() {
        let stores =
            "target: prices\nsubscribe: [{ model: store }]\nendpoint: { dynamodb: { table: abc } }\n";
        refuses(
            MODEL,
            stores,
            &[],
            "targets/prices.yaml:2:15: subscribe.0.model: its attribute pk has a name",
        );
        let chosen = format!("{stores}attributes: [id, {{ pk: number }}]\n");
        assert_eq!(found(MODEL, &chosen, &[]), [""; 0]);
        let keyed = stores.replace("table: abc", "table: abc, key: [id]");
        assert_eq!(found(MODEL, &keyed, &[]), [""; 0], "with a key of its own the table has no pk");
        let meets = TARGET.to_owned() + "attributes: [sku, currency, { amount: datasync_version }]\n";
        refuses(
            MODEL,
            &meets,
            &[],
            "targets/prices.yaml:6:5: endpoint.dynamodb.key: datasync_version: this name is taken",
        );
    }
}
