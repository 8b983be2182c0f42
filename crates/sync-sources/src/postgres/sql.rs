//! The SQL that an administrator runs once, so that a source can be read by trigger or by timestamp: objects, grants, and
//! how to take them away again. Pure text, nothing is executed here.
//!
//! Everything stands in the schema `datasync`, apart from the triggers, the indexes and the `xid8` columns of the tables
//! themselves. A script may be run again at any time, also after the configuration has changed; it is one transaction.

use std::fmt::Write as _;

use sync_domain::config::{Cursor, PullMode};
use sync_domain::id::SourceId;

use super::schema::{Wanted, quoted, split};

/// The session settings under which values are written, in every mode the same.
const SETTINGS: [(&str, &str); 5] = [
    ("TimeZone", "UTC"),
    ("DateStyle", "ISO"),
    ("IntervalStyle", "iso_8601"),
    ("bytea_output", "hex"),
    ("extra_float_digits", "1"),
];

/// What all sources of a database share.
///
/// Sequence cache 1: a session that keeps numbers in stock would hand out low ones late, and they are the versions.
/// The second index is what a poll goes by; the first is the order of a page. Records are `json`, not `jsonb`, which
/// refuses what `json` columns may hold (`\u0000`) and would make a write of the application fail.
const SHADOW: &str = r#"CREATE SCHEMA IF NOT EXISTS datasync;

CREATE TABLE IF NOT EXISTS datasync.changes (
  sequence   bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
  xid        xid8 NOT NULL DEFAULT pg_current_xact_id(),
  changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  source     text NOT NULL,
  table_name text NOT NULL,
  operation  text NOT NULL,
  before     json,
  after      json
);
CREATE INDEX IF NOT EXISTS changes_by_transaction ON datasync.changes (source, xid, sequence);

-- How far the changes of a source are pruned, and how far each of its readers has come.
CREATE TABLE IF NOT EXISTS datasync.sources (
  source text PRIMARY KEY,
  pruned xid8 NOT NULL DEFAULT '0'
);
CREATE TABLE IF NOT EXISTS datasync.readers (
  source    text NOT NULL REFERENCES datasync.sources,
  reader    text NOT NULL,
  confirmed xid8 NOT NULL,
  PRIMARY KEY (source, reader)
);

-- Emptying the table of changes would lose them without a trace.
CREATE OR REPLACE FUNCTION datasync.refuse() RETURNS trigger LANGUAGE plpgsql AS
$datasync$BEGIN RAISE EXCEPTION 'datasync.changes holds changes that are not read yet'; END$datasync$;
CREATE OR REPLACE TRIGGER refuse_truncate BEFORE TRUNCATE ON datasync.changes
  FOR EACH STATEMENT EXECUTE FUNCTION datasync.refuse();

"#;

/// The keys that were handed off of tables whose deletes are found by comparing, with the highest version of each; of one
/// that is gone the version of its delete, and the comparison that found it.
const KNOWN_KEYS: &str = r#"CREATE SCHEMA IF NOT EXISTS datasync;
CREATE TABLE IF NOT EXISTS datasync.known_keys (
  source     text NOT NULL,
  table_name text NOT NULL,
  key        jsonb NOT NULL,
  version    numeric NOT NULL,
  gone       numeric,
  comparison bigint,
  PRIMARY KEY (source, table_name, key)
);
CREATE INDEX IF NOT EXISTS known_keys_gone ON datasync.known_keys (source, table_name, comparison, key)
  WHERE comparison IS NOT NULL;

"#;

/// What an administrator runs before a source is read in mode `trigger` or `timestamp`: objects and the grants of `role`,
/// the role that reads. Mode `log` needs nothing of this.
pub fn install(source: &SourceId, mode: PullMode, tables: &[Wanted], role: &str) -> String {
    let mut sql = format!(
        "-- Data Sync, source {source}, mode {mode}: run as the owner of the tables or as a superuser; may be run again.\n\
         -- The role that reads comes first: CREATE ROLE {role} LOGIN PASSWORD '…';\n\
         BEGIN;\n\
         -- A table that is busy stops the script, which changes nothing then, instead of the application's writes.\n\
         SET LOCAL lock_timeout = '5s';\n\n",
        role = quoted(role),
        mode = mode.as_str(),
    );
    match mode {
        PullMode::Log => {}
        PullMode::Trigger => shadow(&mut sql, source, tables, role),
        PullMode::Timestamp => stamps(&mut sql, tables, role),
    }
    for table in tables {
        reading(&mut sql, table, role);
    }
    sql.push_str("COMMIT;\n");
    sql
}

/// What takes away again that [`install`] has made for a source. Columns and indexes of the tables stay: they may be in
/// use elsewhere, and dropping them is the owner's decision. Changes that were not read yet are gone.
pub fn remove(source: &SourceId, mode: PullMode, tables: &[Wanted]) -> String {
    let name = literal(source.as_str());
    let mut sql = format!("-- Data Sync, source {source}: takes its triggers and its rows away.\nBEGIN;\n");
    match mode {
        PullMode::Log => {}
        PullMode::Trigger => {
            drop_functions(&mut sql, source, &[]);
            for bookkeeping in ["changes", "readers", "sources"] {
                let _ = writeln!(sql, "DELETE FROM datasync.{bookkeeping} WHERE source = {name};");
            }
        }
        PullMode::Timestamp => {
            for table in tables {
                let function = quoted(&stamp_name(table));
                let _ = writeln!(sql, "DROP FUNCTION IF EXISTS datasync.{function}() CASCADE;");
            }
            if tables.iter().any(compares) {
                let _ = writeln!(sql, "DELETE FROM datasync.known_keys WHERE source = {name};");
            }
        }
    }
    sql.push_str("COMMIT;\n-- After the last source: DROP SCHEMA datasync CASCADE;\n");
    sql
}

/// The trigger that writes the changes of rows. The name is low on purpose: of several triggers of a row the first by name
/// runs first, so a trigger of the application that writes the same row again runs after this one has seen it.
pub(super) fn row_trigger(source: &SourceId) -> String {
    format!("0_datasync:{source}")
}

/// The trigger that tells of TRUNCATE; a name of a source holds no colon, so it is never that of a row trigger.
pub(super) fn truncate_trigger(source: &SourceId) -> String {
    format!("0_datasync:t:{source}")
}

/// A text as a literal, also where backslashes count.
pub(super) fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// `"schema"."table"`.
pub(super) fn qualified(table: &Wanted) -> String {
    let (schema, name) = split(&table.table);
    format!("{}.{}", quoted(schema), quoted(name))
}

/// What the comment of a capture function says: the columns that it writes down, as JSON. The reader compares.
pub(super) fn captured(table: &Wanted) -> String {
    let names: Vec<&String> = table.columns.keys().collect();
    serde_json::to_string(&names).unwrap_or_default()
}

/// Names as a list of identifiers, each behind a prefix.
pub(super) fn columns<'a>(names: impl IntoIterator<Item = &'a String>, prefix: &str) -> String {
    let quoted: Vec<String> = names.into_iter().map(|name| format!("{prefix}{}", quoted(name))).collect();
    quoted.join(", ")
}

fn shadow(sql: &mut String, source: &SourceId, tables: &[Wanted], role: &str) {
    let role = quoted(role);
    let name = literal(source.as_str());
    sql.push_str(SHADOW);
    let _ = write!(
        sql,
        "INSERT INTO datasync.sources (source) VALUES ({name}) ON CONFLICT DO NOTHING;\n\
         GRANT USAGE ON SCHEMA datasync TO {role};\n\
         GRANT SELECT, DELETE ON datasync.changes TO {role};\n\
         GRANT USAGE, SELECT ON SEQUENCE datasync.changes_sequence_seq TO {role};\n\
         GRANT SELECT, UPDATE ON datasync.sources TO {role};\n\
         GRANT SELECT, INSERT, UPDATE ON datasync.readers TO {role};\n\n",
    );
    let functions: Vec<String> = tables.iter().map(|table| capture_name(source, table)).collect();
    drop_functions(sql, source, &functions);
    for (table, function) in tables.iter().zip(&functions) {
        capture(sql, source, table, function);
    }
}

/// Takes away the functions that the source's triggers call, and with them the triggers; not those that `keep` names.
fn drop_functions(sql: &mut String, source: &SourceId, keep: &[String]) {
    let keep: Vec<String> = keep.iter().map(|function| literal(function)).collect();
    let body = format!(
        "DECLARE gone regprocedure;\n\
         BEGIN\n\
         \x20 FOR gone IN SELECT DISTINCT p.oid FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid\n\
         \x20   WHERE t.tgname IN ({rows}, {truncate}) AND p.pronamespace = 'datasync'::regnamespace\n\
         \x20     AND p.proname <> ALL (ARRAY[{keep}]::text[])\n\
         \x20 LOOP EXECUTE format('DROP FUNCTION %s CASCADE', gone); END LOOP;\n\
         END",
        rows = literal(&row_trigger(source)),
        truncate = literal(&truncate_trigger(source)),
        keep = keep.join(", "),
    );
    let _ = write!(
        sql,
        "-- Tables that the source no longer reads.\nDO {body};\n\n",
        body = dollar_quoted(&body)
    );
}

/// The function and the triggers of one table.
///
/// The function names each column, which is fast; where that fails, because a column was dropped or has another type than
/// when the session first wrote, it looks at what the row has now, and where even that fails it says so in a row without
/// records. Only a change that cannot be written down at all makes the application's statement fail: losing it would be
/// worse. The two inner blocks write nothing, so they cost no transaction id of their own.
fn capture(sql: &mut String, source: &SourceId, table: &Wanted, function: &str) {
    let picked = |row: &str| {
        let list = columns(table.columns.keys(), &format!("{row}."));
        format!("(SELECT row_to_json(r) FROM (SELECT {list}) AS r)")
    };
    let names: Vec<String> = table.columns.keys().map(|column| literal(column)).collect();
    let body = format!(
        "DECLARE\n\
         \x20 was json;\n\
         \x20 is_now json;\n\
         \x20 left_over text;\n\
         \x20 operation text := lower(TG_OP);\n\
         BEGIN\n\
         \x20 IF TG_OP <> 'TRUNCATE' THEN\n\
         \x20   BEGIN\n\
         \x20     IF TG_OP <> 'INSERT' THEN was := {old}; END IF;\n\
         \x20     IF TG_OP <> 'DELETE' THEN is_now := {new}; END IF;\n\
         \x20   EXCEPTION WHEN OTHERS THEN\n\
         \x20     BEGIN\n\
         \x20       SELECT string_agg(format('($1).%1$I AS %1$I', a.attname), ', ' ORDER BY array_position(c.names, a.attname::text))\n\
         \x20         INTO left_over\n\
         \x20         FROM (SELECT ARRAY[{names}]::text[] AS names) AS c\n\
         \x20         JOIN pg_attribute a ON a.attrelid = TG_RELID AND NOT a.attisdropped AND a.attname = ANY (c.names);\n\
         \x20       left_over := format('SELECT row_to_json(r) FROM (SELECT %s) AS r', left_over);\n\
         \x20       IF TG_OP <> 'INSERT' THEN EXECUTE left_over INTO was USING OLD; END IF;\n\
         \x20       IF TG_OP <> 'DELETE' THEN EXECUTE left_over INTO is_now USING NEW; END IF;\n\
         \x20     EXCEPTION WHEN OTHERS THEN\n\
         \x20       was := NULL;\n\
         \x20       is_now := NULL;\n\
         \x20       operation := 'unreadable';\n\
         \x20     END;\n\
         \x20   END;\n\
         \x20   IF operation = 'update' AND was::text = is_now::text THEN RETURN NULL; END IF;\n\
         \x20 END IF;\n\
         \x20 INSERT INTO datasync.changes (source, table_name, operation, before, after)\n\
         \x20   VALUES ({source}, {table_name}, operation, was, is_now);\n\
         \x20 RETURN NULL;\n\
         END",
        old = picked("OLD"),
        new = picked("NEW"),
        names = names.join(", "),
        source = literal(source.as_str()),
        table_name = literal(&table.table),
    );
    let target = qualified(table);
    let function = format!("datasync.{}", quoted(function));
    let rows = quoted(&row_trigger(source));
    let _ = writeln!(
        sql,
        "CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER\n\
         \x20 SET search_path = pg_catalog, pg_temp",
    );
    for (setting, value) in SETTINGS {
        let _ = writeln!(sql, "  SET \"{setting}\" = '{value}'");
    }
    let _ = write!(
        sql,
        "AS {body};\n\
         COMMENT ON FUNCTION {function}() IS {comment};\n\
         REVOKE ALL ON FUNCTION {function}() FROM PUBLIC;\n\
         CREATE OR REPLACE TRIGGER {rows} AFTER INSERT OR UPDATE OR DELETE ON {target}\n\
         \x20 FOR EACH ROW EXECUTE FUNCTION {function}();\n\
         ALTER TABLE {target} ENABLE ALWAYS TRIGGER {rows};\n",
        body = dollar_quoted(&body),
        comment = literal(&captured(table)),
    );
    // A statement trigger of a partitioned table does not run for a partition that is emptied by its own name.
    let statements = format!(
        "DECLARE part regclass;\n\
         BEGIN\n\
         \x20 FOR part IN SELECT {relation}::regclass UNION SELECT relid FROM pg_partition_tree({relation}) LOOP\n\
         \x20   EXECUTE format('CREATE OR REPLACE TRIGGER %I AFTER TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION %s()',\n\
         \x20     {trigger}, part, {function});\n\
         \x20   EXECUTE format('ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER %I', part, {trigger});\n\
         \x20 END LOOP;\n\
         END",
        relation = literal(&target),
        trigger = literal(&truncate_trigger(source)),
        function = literal(&function),
    );
    let _ = write!(sql, "DO {};\n\n", dollar_quoted(&statements));
}

/// Mode `timestamp`: the `xid8` columns with their triggers, and the indexes that a poll goes by.
fn stamps(sql: &mut String, tables: &[Wanted], role: &str) {
    if tables.iter().any(|table| matches!(cursor(table), Some(Cursor::Timestamp(_)))) {
        let _ = write!(
            sql,
            "-- A clock tells nothing of transactions that are still open: the reader must see when they began.\n\
             GRANT pg_read_all_stats TO {};\n\n",
            quoted(role),
        );
    }
    if tables.iter().any(compares) {
        let role = quoted(role);
        sql.push_str(KNOWN_KEYS);
        let _ = write!(
            sql,
            "GRANT USAGE ON SCHEMA datasync TO {role};\n\
             GRANT SELECT, INSERT, UPDATE, DELETE ON datasync.known_keys TO {role};\n\n",
        );
    }
    for table in tables {
        let Some(Cursor::Xid8(column) | Cursor::Timestamp(column)) = cursor(table) else { continue };
        let target = qualified(table);
        if matches!(cursor(table), Some(Cursor::Xid8(_))) {
            stamp(sql, table, column);
        }
        let _ = write!(
            sql,
            "-- A large table: build it CONCURRENTLY first, under this name.\n\
             CREATE INDEX IF NOT EXISTS {index} ON {target} ({column}, {key});\n\n",
            index = quoted(&short("datasync:", &format!("{}.{column}", table.table))),
            column = quoted(column),
            key = columns(&table.key, ""),
        );
    }
}

/// The column that holds the transaction which wrote the row last. Rows from before have null: a backfill reads them.
fn stamp(sql: &mut String, table: &Wanted, column: &str) {
    let target = qualified(table);
    let column = quoted(column);
    let name = stamp_name(table);
    let (function, trigger) = (quoted(&name), quoted(&name));
    // Without the column there is nothing to stamp, and nothing to stop the application for.
    let body = format!(
        "BEGIN\n  NEW.{column} := pg_current_xact_id();\n  RETURN NEW;\nEXCEPTION WHEN undefined_column THEN\n  RETURN NEW;\nEND"
    );
    let _ = write!(
        sql,
        "CREATE SCHEMA IF NOT EXISTS datasync;\n\
         ALTER TABLE {target} ADD COLUMN IF NOT EXISTS {column} xid8;\n\
         CREATE OR REPLACE FUNCTION datasync.{function}() RETURNS trigger LANGUAGE plpgsql\n\
         \x20 SET search_path = pg_catalog, pg_temp\n\
         AS {body};\n\
         CREATE OR REPLACE TRIGGER {trigger} BEFORE INSERT OR UPDATE ON {target}\n\
         \x20 FOR EACH ROW EXECUTE FUNCTION datasync.{function}();\n\
         ALTER TABLE {target} ENABLE ALWAYS TRIGGER {trigger};\n",
        body = dollar_quoted(&body),
    );
}

/// What the reader may see of a table: the chosen columns and no other.
fn reading(sql: &mut String, table: &Wanted, role: &str) {
    let mut names: Vec<&String> = table.columns.keys().collect();
    let cursor = cursor(table).map(|cursor| match cursor {
        Cursor::Xid8(column) | Cursor::Timestamp(column) => column,
    });
    let soft_delete = table.reading.as_ref().and_then(|reading| reading.soft_delete.as_ref());
    for column in cursor.into_iter().chain(soft_delete) {
        if !names.contains(&column) {
            names.push(column);
        }
    }
    let _ = write!(
        sql,
        "GRANT USAGE ON SCHEMA {schema} TO {role};\nGRANT SELECT ({names}) ON {target} TO {role};\n",
        schema = quoted(split(&table.table).0),
        names = columns(names, ""),
        target = qualified(table),
        role = quoted(role),
    );
}

/// The column that a table is read by in mode `timestamp`.
pub(super) fn cursor(table: &Wanted) -> Option<&Cursor> {
    table.reading.as_ref().and_then(|reading| reading.cursor.as_ref())
}

/// Whether deletes of a table are found by comparing its keys.
pub(super) fn compares(table: &Wanted) -> bool {
    table.reading.as_ref().is_some_and(|reading| reading.compare_keys.is_some())
}

fn capture_name(source: &SourceId, table: &Wanted) -> String {
    short("capture:", &format!("{source}:{}", table.table))
}

fn stamp_name(table: &Wanted) -> String {
    // High: of the triggers before a write the last has the last word.
    short("~datasync:", &table.table)
}

/// A name of at most 63 bytes, where PostgreSQL would cut it without a word: as it is, or a hash of it.
fn short(prefix: &str, name: &str) -> String {
    if prefix.len() + name.len() <= 63 {
        return format!("{prefix}{name}");
    }
    // FNV-1a; it keeps names apart, nothing rests on it being hard to invert.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{prefix}{hash:016x}")
}

/// A text between dollar quotes whose tag it does not hold.
fn dollar_quoted(body: &str) -> String {
    let mut tag = "$datasync$".to_owned();
    while body.contains(&tag) {
        tag.insert(1, '_');
    }
    format!("{tag}{body}{tag}")
}
