//! Checks of a source's `postgres`.

use std::collections::BTreeMap;
use std::time::Duration;

use sync_domain::config::{Cursor, Model, Postgres, PullMode, Source, Table, TableReading};
use sync_domain::id::ModelId;

use super::Check;
use super::network::{check_duration, check_secret};
use crate::SyncConfig;

/// The shortest and the longest pause between two polls. A run of a minute polls at least once; more often than that the
/// database would do little else.
const POLLS: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(30)];
/// The shortest time between two comparisons of all keys of a table.
const COMPARES: Duration = Duration::from_secs(60);
/// The longest name that PostgreSQL keeps.
const NAME_LENGTH: usize = 63;

pub(super) fn check(source: &Source, postgres: &Postgres, config: &SyncConfig, check: &mut Check<'_>) {
    check_login(postgres, check);
    check_slot(source, postgres, config, check);
    check_poll(postgres, check);
    if postgres.tables.is_empty() {
        check.error(&["postgres", "tables"], "the source would read nothing; give a table its model");
    }
    let mut tables: BTreeMap<&ModelId, &str> = BTreeMap::new();
    for (name, table) in &postgres.tables {
        let path = ["postgres", "tables", name.as_str()];
        check_name(name, &path, check);
        let first = tables.insert(table.model(), name);
        check_model(source, table, first, config, &path, check);
        check_reading(postgres.mode, table.reading(), &path, check);
    }
}

fn check_login(postgres: &Postgres, check: &mut Check<'_>) {
    let path = ["postgres", "url_secret"];
    if postgres.url_secret.starts_with("postgres") && postgres.url_secret.contains("://") {
        check.error(&path, "this looks like the URL itself: replace the password (it counts as leaked), store the URL in Secrets Manager and write the secret's name here");
    } else {
        check_secret(&postgres.url_secret, &path, check);
    }
    if let Some(file) = &postgres.root_certificates {
        let outside = file.starts_with('/') || file.split('/').any(|part| part == ".." || part.is_empty());
        if outside {
            check.error(
                &["postgres", "root_certificates"],
                "not a file below the configuration directory; put it there and write its path from there: certificates/rds.pem",
            );
        }
    }
}

/// Slot and publication belong to mode `log`. A slot is read by one source: each would take the other's changes. So is a
/// publication: what `datasync sql` prints gives it the tables of one source, and no others.
fn check_slot(source: &Source, postgres: &Postgres, config: &SyncConfig, check: &mut Check<'_>) {
    for (name, value) in [("slot", &postgres.slot), ("publication", &postgres.publication)] {
        let Some(value) = value else { continue };
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let path = ["postgres", name];
        if postgres.mode != PullMode::Log {
            check.error(&path, format!("a {name} belongs to mode: log; leave it out"));
        } else if value.is_empty() || value.len() > NAME_LENGTH || !value.bytes().all(plain) {
            check.error(
                &path,
                "a name here has 1 to 63 characters: lower-case letters, digits and underscores",
            );
        }
    }
    if postgres.mode != PullMode::Log {
        return;
    }
    let beside = |same: &dyn Fn(&Postgres, &Source) -> bool| {
        config.sources().find(|other| {
            other.source != source.source
                && other.postgres.as_ref().is_some_and(|theirs| {
                    theirs.mode == PullMode::Log
                        && theirs.url_secret == postgres.url_secret
                        && same(theirs, other)
                })
        })
    };
    // Names that differ in `-` and `_` alone make one default.
    let slot = postgres.slot_of(&source.source);
    if let Some(other) = beside(&|theirs, other| theirs.slot_of(&other.source) == slot) {
        let place: &[&str] = if postgres.slot.is_some() { &["postgres", "slot"] } else { &["postgres"] };
        check.error(
            place,
            format!(
                "source {} reads the slot {slot} too, and each would take the other's changes; give each a `slot` of its own",
                other.source
            ),
        );
    }
    let publication = postgres.publication_of(&source.source);
    if let Some(other) = beside(&|theirs, other| theirs.publication_of(&other.source) == publication) {
        let named = postgres.publication.is_some();
        let place: &[&str] = if named { &["postgres", "publication"] } else { &["postgres"] };
        check.error(
            place,
            format!(
                "source {} reads the publication {publication} too, and `datasync sql` for the one takes the other's tables out of it; give each a `publication` of its own",
                other.source
            ),
        );
    }
}

fn check_poll(postgres: &Postgres, check: &mut Check<'_>) {
    let path = ["postgres", "poll"];
    let [shortest, longest] = POLLS;
    if let Some(pause) = check_duration(postgres.poll.as_deref(), &path, check)
        && !(shortest..=longest).contains(&pause)
    {
        check.error(&path, "must be 50ms to 30s: a run of a minute polls again after each such pause");
    }
}

fn check_name(name: &str, path: &[&str], check: &mut Check<'_>) {
    let named = |part: &str| !part.is_empty() && part.len() <= NAME_LENGTH && !part.contains('"');
    let parts: Vec<&str> = name.split('.').collect();
    if !matches!(parts.as_slice(), [schema, table] if named(schema) && named(table)) {
        check.error(
            path,
            "not the name of a table; write schema.table as the database keeps it, without quotes",
        );
    }
}

fn check_model(
    source: &Source,
    table: &Table,
    first: Option<&str>,
    config: &SyncConfig,
    path: &[&str],
    check: &mut Check<'_>,
) {
    let model = table.model();
    if let Some(first) = first {
        check.error(
            path,
            format!("{first} gives model {model} already, and one record of each could have one key; where these are partitions, name the partitioned table alone"),
        );
    }
    match config.model(model) {
        None => check
            .error(path, format!("there is no model {model}; write models/{model}.yaml or correct the name")),
        Some(written) => check_key(written, path, check),
    }
    if let Some(other) = config.source_of(model).filter(|other| other.source != source.source) {
        // Two sources have no common order.
        let other = &other.source;
        check.error(path, format!("source {other} writes {model} already; a model has exactly one source"));
    }
}

fn check_key(model: &Model, path: &[&str], check: &mut Check<'_>) {
    if let Some(inner) = model.key.iter().find(|attribute| attribute.contains(['.', '['])) {
        let name = &model.model;
        check.error(
            path,
            format!(
                "the key of {name} names {inner}, which lies inside a column; the key of a table is columns"
            ),
        );
    }
}

fn check_reading(mode: PullMode, reading: Option<&TableReading>, path: &[&str], check: &mut Check<'_>) {
    let at = |name: &'static str| path.iter().copied().chain([name]).collect::<Vec<_>>();
    if mode != PullMode::Timestamp {
        let given = reading.map(|reading| {
            [
                ("cursor", reading.cursor.is_some()),
                ("soft_delete", reading.soft_delete.is_some()),
                ("compare_keys", reading.compare_keys.is_some()),
            ]
        });
        for (name, _) in given.into_iter().flatten().filter(|(_, given)| *given) {
            check.error(
                &at(name),
                format!("mode: {} sees every write and delete without it; leave it out", mode.as_str()),
            );
        }
        return;
    }
    let cursor = reading.and_then(|reading| reading.cursor.as_ref());
    match cursor {
        None => check.error(
            path,
            "mode: timestamp needs the column that every write raises; write { model: …, cursor: { xid8: changed_xid } } (datasync sql makes it), or cursor: { timestamp: updated_at }",
        ),
        Some(Cursor::Timestamp(_)) => check.warning(
            &at("cursor"),
            "a time misses what is written with an older one (another clock, a restored row, a write that leaves it as it is), and needs pg_read_all_stats to wait for open transactions; an xid8 column misses nothing",
        ),
        Some(Cursor::Xid8(_)) => {}
    }
    let Some(reading) = reading else { return };
    let every = check_duration(reading.compare_keys.as_deref(), &at("compare_keys"), check);
    if every.is_some_and(|every| every < COMPARES) {
        check.error(&at("compare_keys"), "must be 1m or more: each comparison reads every key of the table");
    }
    if reading.soft_delete.is_none() && reading.compare_keys.is_none() {
        check.warning(
            path,
            "a row that is deleted is never noticed; name the column that marks it (soft_delete) or have the keys compared (compare_keys: 1h)",
        );
    } else if reading.compare_keys.is_none() {
        check.warning(
            path,
            "a row that is really deleted, not marked, is never noticed; have the keys compared (compare_keys: 1h) unless nobody may delete",
        );
    }
}
