//! The SQL that an administrator runs once, so that a source can be read in mode `log`. Pure text, nothing is executed here.
//!
//! A role that may read a slot may also make one, and a slot of its own would show it every table. So the role gets only
//! what it needs, an administrator makes the slot and the publication, and the role's secret is guarded accordingly.

use std::fmt::Write as _;

use sync_domain::id::SourceId;

use super::super::schema::{Wanted, quoted, split};
use super::super::sql::{columns, literal, qualified};

/// What an administrator runs before a source is read: publication, grants of `role`, slot. It may be run again, also
/// after the tables of the source have changed.
///
/// The publication has no list of columns: such a list must cover the replica identity, or the application's own updates
/// fail, also after a later change of the table. What the model does not read is dropped as soon as it is received. It
/// publishes partitions, not their root, since a TRUNCATE of one partition would otherwise not be told. Stored generated
/// columns are published where the server can (from 18 on); others are read from the table, row by row.
pub fn install(source: &SourceId, slot: &str, publication: &str, tables: &[Wanted], role: &str) -> String {
    let role_name = quoted(role);
    let list: Vec<String> = tables.iter().map(qualified).collect();
    let list = list.join(", ");
    let mut sql = format!(
        "-- Data Sync, source {source}, mode log: run as a superuser (on RDS as the master user); may be run again.\n\
         -- The server must run with wal_level = logical (on RDS: rds.logical_replication = 1), and should have a\n\
         -- max_slot_wal_keep_size, so that a reader that stays away cannot fill the disk.\n\
         -- The role that reads comes first: CREATE ROLE {role_name} LOGIN PASSWORD '…';\n\
         BEGIN;\n\
         DO $datasync$\n\
         DECLARE generated text := '';\n\
         BEGIN\n\
         \x20 IF EXISTS (SELECT FROM pg_publication WHERE pubname = {publication_text}) THEN\n\
         \x20   ALTER PUBLICATION {publication} SET TABLE {list};\n\
         \x20 ELSE\n\
         \x20   CREATE PUBLICATION {publication} FOR TABLE {list};\n\
         \x20 END IF;\n\
         \x20 IF current_setting('server_version_num')::int >= 180000 THEN\n\
         \x20   generated := ', publish_generated_columns = stored';\n\
         \x20 END IF;\n\
         \x20 EXECUTE 'ALTER PUBLICATION ' || quote_ident({publication_text})\n\
         \x20   || ' SET (publish = ''insert, update, delete, truncate''' || generated || ')';\n\
         \x20 IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_replication') THEN\n\
         \x20   GRANT rds_replication TO {role_name};\n\
         \x20 ELSE\n\
         \x20   ALTER ROLE {role_name} REPLICATION;\n\
         \x20 END IF;\n\
         END $datasync$;\n",
        publication = quoted(publication),
        publication_text = literal(publication),
    );
    sql.push_str("-- To read what the log does not hold (large values that an update left as they were), and for a backfill.\n");
    for table in tables {
        let _ = write!(
            sql,
            "GRANT USAGE ON SCHEMA {schema} TO {role_name};\nGRANT SELECT ({names}) ON {target} TO {role_name};\n",
            schema = quoted(split(&table.table).0),
            names = columns(table.columns.keys(), ""),
            target = qualified(table),
        );
    }
    let slot = literal(slot);
    let _ = write!(
        sql,
        "COMMIT;\n\
         -- A slot that the server gave up is of no more use. The source does not pass over what was lost with it: resync it.\n\
         SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots\n\
         \x20 WHERE slot_name = {slot} AND wal_status = 'lost';\n\
         -- Behind the publication, since the log from before it does not read; alone, since it waits for open transactions.\n\
         SELECT pg_create_logical_replication_slot({slot}, 'pgoutput')\n\
         \x20 WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = {slot});\n",
    );
    sql
}

/// What takes away again that [`install`] has made. The server then lets go of its log.
pub fn remove(source: &SourceId, slot: &str, publication: &str) -> String {
    let slot = literal(slot);
    format!(
        "-- Data Sync, source {source}: takes its slot and its publication away.\n\
         SELECT pg_drop_replication_slot({slot})\n\
         \x20 WHERE EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = {slot});\n\
         DROP PUBLICATION IF EXISTS {};\n",
        quoted(publication),
    )
}
