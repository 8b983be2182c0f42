//! Checks of a source's `dynamodb`.

use sync_domain::config::{Dynamodb, Model, Source, Type};

use super::Check;
use crate::SyncConfig;

pub(super) fn check(source: &Source, dynamodb: &Dynamodb, config: &SyncConfig, check: &mut Check<'_>) {
    check_table(source, &dynamodb.table, config, check);
    let (model, path) = (&dynamodb.model, ["dynamodb", "model"]);
    match config.model(model) {
        None => check.error(
            &path,
            format!("there is no model {model}; write models/{model}.yaml or correct the name"),
        ),
        Some(written) => check_key(written, check),
    }
    if let Some(first) = config.source_of(model).filter(|first| first.source != source.source) {
        // Two sources have no common order.
        let first = &first.source;
        check.error(&path, format!("source {first} writes {model} already; a model has exactly one source"));
    }
}

fn check_table(source: &Source, table: &str, config: &SyncConfig, check: &mut Check<'_>) {
    let path = ["dynamodb", "table"];
    if !is_table_name(table) {
        check.error(
            &path,
            "not the name of a table (3 to 255 letters, digits, `_`, `-`, `.`); the stream's ARN is a parameter of the template",
        );
    }
    let reads_it = |other: &&Source| other.dynamodb.as_ref().is_some_and(|dynamodb| dynamodb.table == table);
    let first = config.sources().find(reads_it).map(|first| &first.source);
    if let Some(first) = first.filter(|first| **first != source.source) {
        check.error(
            &path,
            format!("source {first} reads this table already; the items of a table are of one model"),
        );
    }
}

/// Whether DynamoDB takes this as the name of a table.
pub(super) fn is_table_name(table: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (3..=255).contains(&table.len()) && table.bytes().all(allowed)
}

/// The model's key is the table's: a partition key, with or without a sort key, each a text, a number or bytes.
fn check_key(model: &Model, check: &mut Check<'_>) {
    let (name, path) = (&model.model, ["dynamodb", "model"]);
    if model.key.len() > 2 {
        check.error(
            &path,
            format!(
                "the key of {name} has more than two attributes; name the table's partition and sort key"
            ),
        );
    }
    let is_boolean = |attribute: &&String| {
        model.attributes.get(*attribute).is_some_and(|attribute| attribute.kind == Some(Type::Boolean))
    };
    if let Some(attribute) = model.key.iter().find(is_boolean) {
        check.error(
            &path,
            format!("{attribute}, of the key of {name}, is a boolean, which no table has in its key; correct its type"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::validate;
    use crate::ConfigFile;

    const MODEL: &str = "\
model: preference
key: [id, topic]
attributes:
  id: { class: identifier, type: integer }
  topic: { class: identifier, type: string }
";
    const SOURCE: &str = "\
source: preferences
dynamodb:
  table: team.preferences-1
  model: preference
  ttl_deletes: ignore
  epoch: 3
";

    fn found(model: &str, source: &str, more: &[(&str, &str)]) -> Vec<String> {
        let mut files = vec![
            ConfigFile::new("models/preference.yaml", model),
            ConfigFile::new("sources/preferences.yaml", source),
        ];
        files.extend(more.iter().map(|(path, text)| ConfigFile::new(*path, *text)));
        validate(&files).errors.iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    fn refuses(model: &str, source: &str, more: &[(&str, &str)], expected: &str) {
        let found = found(model, source, more);
        assert!(found.iter().any(|error| error.starts_with(expected)), "{found:#?}");
    }

    #[test]
    fn a_table_and_its_model_are_all_that_a_source_needs() {
        assert_eq!(found(MODEL, SOURCE, &[]), [""; 0]);
        let shortest = "source: preferences\ndynamodb: { table: abc, model: preference }\n";
        assert_eq!(found(MODEL, shortest, &[]), [""; 0]);
    }

    #[test]
    fn a_table_is_named_and_read_once() {
        for wrong in ["ab", "a/b", "arn:aws:dynamodb:eu-central-1:1:table/abc"] {
            let source = SOURCE.replace("team.preferences-1", &format!("'{wrong}'"));
            refuses(
                MODEL,
                &source,
                &[],
                "sources/preferences.yaml:3:3: dynamodb.table: not the name of a table",
            );
        }
        let other =
            ("models/other.yaml", "model: other\nkey: [id]\nattributes:\n  id: { class: identifier }\n");
        let second = (
            "sources/second.yaml",
            "source: second\ndynamodb: { table: team.preferences-1, model: other }\n",
        );
        refuses(
            MODEL,
            SOURCE,
            &[other, second],
            "sources/second.yaml:2:13: dynamodb.table: source preferences reads this table already",
        );
    }

    #[test]
    fn a_model_is_there_has_one_source_and_the_tables_key() {
        let path = "sources/preferences.yaml:4:3: dynamodb.model: ";
        refuses(
            MODEL,
            &SOURCE.replace("model: preference", "model: other"),
            &[],
            &format!("{path}there is no model other"),
        );
        let second = ("sources/a.yaml", "source: a\ndynamodb: { table: abc, model: preference }\n");
        refuses(MODEL, SOURCE, &[second], &format!("{path}source a writes preference already"));
        let three = MODEL.replace("key: [id, topic]", "key: [id, topic, x]") + "  x: { class: identifier }\n";
        refuses(&three, SOURCE, &[], &format!("{path}the key of preference has more than two attributes"));
        let boolean = MODEL.replace("type: string", "type: boolean");
        refuses(&boolean, SOURCE, &[], &format!("{path}topic, of the key of preference, is a boolean"));
    }

    #[test]
    fn a_source_has_one_way_in_and_nothing_that_nobody_reads() {
        let two = format!("{SOURCE}push: {{ secret: datasync/source/p, models: [preference] }}\n");
        refuses(MODEL, &two, &[], "sources/preferences.yaml:1:1: source: more than one way in");
        for (from, to) in [("ignore", "forget"), ("epoch: 3", "stream: arn")] {
            assert!(!found(MODEL, &SOURCE.replace(from, to), &[]).is_empty(), "{to}");
        }
    }
}
