//! Whether a publication tells of all that a source reads.

use tokio_postgres::types::{ToSql, Type};

use super::super::connect::{Session, column, failure};
use super::super::schema::Table;
use crate::{Error, Kind, Result};

/// Makes sure that the publication tells of every change of every table, in all of its columns.
pub(super) async fn check(session: &Session, name: &str, tables: &[Table]) -> Result<()> {
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&oids, Type::OID_ARRAY), (&name, Type::TEXT)];
    let rows = session.client().query_typed(PUBLISHED, &parameters).await;
    for (row, table) in rows.map_err(|error| failure("the publication", &error))?.iter().zip(tables) {
        let (there, all, published, filtered) =
            (column(row, 0)?, column(row, 1)?, column(row, 2)?, column(row, 3)?);
        let left_out: Vec<String> = column(row, 4)?;
        let remedy = match (there, all, published, filtered) {
            (false, ..) => "it is not there: `datasync sql` prints how an administrator creates it",
            (_, false, ..) => "it must publish insert, update, delete and truncate",
            (_, _, false, _) => {
                "it does not publish the table, or not all of its partitions, so that changes are missed: add what is \
                     missing, and backfill"
            }
            (.., true) => "it publishes only rows that a WHERE lets through: take that away, and backfill",
            _ if table.read().any(|column| left_out.contains(&column.name)) => {
                "its list of columns lacks one that the model reads: take the list away, and backfill"
            }
            _ => continue,
        };
        let place = format!("publication {name}, table {}", table.wanted.table);
        return Err(Error { kind: Kind::Misconfigured, code: "publication", place, remedy: remedy.into() });
    }
    Ok(())
}

/// What a publication (`$2`) tells of each table (`$1`): it is there; all operations; the table, by itself or as each of
/// its partitions; only some rows; the columns that it leaves out. Filters and lists are read through `to_jsonb`, since
/// servers before 15 have none, and may stand at the table, at a partition or at a table above it.
const PUBLISHED: &str = "
    WITH listed AS (
        SELECT c.oid FROM pg_publication_tables l
        JOIN pg_namespace n ON n.nspname = l.schemaname
        JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = l.tablename
        WHERE l.pubname = $2::text::name
    ), entries AS (
        SELECT r.prrelid, to_jsonb(r)->>'prqual' IS NOT NULL AS filtered,
            string_to_array(translate(to_jsonb(r)->>'prattrs', '[],', '   '), ' ') AS columns
        FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
        WHERE p.pubname = $2::text::name
    )
    SELECT p.oid IS NOT NULL, coalesce(p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate, false),
        t.oid IN (SELECT prrelid FROM entries) OR t.oid IN (SELECT oid FROM listed)
        OR (EXISTS (SELECT FROM pg_partition_tree(t.oid) b WHERE b.isleaf)
            AND NOT EXISTS (SELECT FROM pg_partition_tree(t.oid) b
                WHERE b.isleaf AND b.relid::oid NOT IN (SELECT oid FROM listed))),
        EXISTS (SELECT FROM entries e WHERE e.filtered AND e.prrelid = ANY (family.relids)),
        ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attnum > 0
            AND EXISTS (SELECT FROM entries e WHERE e.columns IS NOT NULL AND e.prrelid = ANY (family.relids)
                AND NOT EXISTS (SELECT FROM pg_attribute b WHERE b.attrelid = e.prrelid
                    AND b.attname = a.attname AND b.attnum::text = ANY (e.columns))))
    FROM unnest($1) WITH ORDINALITY AS t (oid, at)
    LEFT JOIN pg_publication p ON p.pubname = $2::text::name
    CROSS JOIN LATERAL (SELECT ARRAY(SELECT t.oid
        UNION SELECT relid::oid FROM pg_partition_tree(t.oid)
        UNION SELECT relid::oid FROM pg_partition_ancestors(t.oid)) AS relids) family
    ORDER BY t.at";
