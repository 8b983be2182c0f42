//! Finds deletes by comparing keys, for tables that do not show them: what was handed off is noted at the source, key by
//! key, and what the table no longer has of it is gone. The keys never leave the database for this.

use sync_domain::id::SourceId;

use super::connect::{Session, column};
use super::horizon::rows;
use super::keyset::Keyset;
use crate::Result;

/// A key that is gone.
#[derive(Debug)]
pub(super) struct Gone {
    /// The key as JSON.
    pub(super) key: String,
    /// The position of its delete's version.
    pub(super) version: String,
    /// When it was noticed, RFC 3339.
    pub(super) noticed: String,
}

/// The keys of one table.
#[derive(Debug, Clone, Copy)]
pub(super) struct KnownKeys<'a> {
    pub(super) session: &'a Session,
    pub(super) source: &'a SourceId,
    pub(super) table: &'a str,
}

const PLACE: &str = "datasync.known_keys";

impl KnownKeys<'_> {
    /// Notes keys with the positions of their versions, before their rows are handed off. A key that had gone and is back
    /// is no longer gone. In the order of the keys, so that live capture and a backfill do not wait for each other in a ring.
    pub(super) async fn note<'k>(&self, keys: impl IntoIterator<Item = (&'k str, u128)>) -> Result<()> {
        let pairs: Vec<String> =
            keys.into_iter().map(|(key, version)| format!("[{key},{version}]")).collect();
        if pairs.is_empty() {
            return Ok(());
        }
        let sql = "INSERT INTO datasync.known_keys AS k (source, table_name, key, version)
            SELECT $1, $2, e.pair->0, max((e.pair->1)::numeric) FROM jsonb_array_elements($3::jsonb) AS e (pair)
            GROUP BY e.pair->0 ORDER BY e.pair->0
            ON CONFLICT (source, table_name, key) DO UPDATE
            SET version = greatest(k.version, excluded.version), gone = NULL, comparison = NULL";
        let pairs = format!("[{}]", pairs.join(","));
        rows(self.session, PLACE, sql, &[self.source.as_str(), self.table, &pairs]).await.map(drop)
    }

    /// Marks what the table does not have. A delete's version is `over`, below all that the row can get when it comes again,
    /// and above the row's own: a backfill may have handed off one above `over`. One that was marked before keeps it.
    pub(super) async fn compare(&self, keyset: &Keyset, over: u128, comparison: u64) -> Result<()> {
        let sql = format!(
            "UPDATE datasync.known_keys AS k
            SET gone = coalesce(k.gone, greatest($3::numeric, k.version + 1)), comparison = $4::bigint
            WHERE k.source = $1 AND k.table_name = $2 AND NOT EXISTS (SELECT FROM {} AS t WHERE {} = k.key)",
            keyset.table(),
            keyset.key(),
        );
        let parameters = [self.source.as_str(), self.table, &over.to_string(), &comparison.to_string()];
        rows(self.session, keyset.place(), &sql, &parameters).await.map(drop)
    }

    /// What a comparison has found behind a key; `null` is before all.
    pub(super) async fn gone(&self, comparison: u64, behind: &str, limit: u32) -> Result<Vec<Gone>> {
        let sql = "SELECT key::text, gone::text,
                to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')
            FROM datasync.known_keys
            WHERE source = $1 AND table_name = $2 AND comparison = $3::bigint AND key > $4::jsonb
            ORDER BY key LIMIT $5::int";
        let parameters =
            [self.source.as_str(), self.table, &comparison.to_string(), behind, &limit.to_string()];
        let found = rows(self.session, PLACE, sql, &parameters).await?;
        let gone =
            |row| Ok(Gone { key: column(row, 0)?, version: column(row, 1)?, noticed: column(row, 2)? });
        found.iter().map(gone).collect()
    }

    /// Forgets what a comparison has found, once its deletes are handed off. What a later one has found again is its own.
    pub(super) async fn forget(&self, comparison: u64) -> Result<()> {
        let sql = "DELETE FROM datasync.known_keys
            WHERE source = $1 AND table_name = $2 AND comparison = $3::bigint";
        let parameters = [self.source.as_str(), self.table, &comparison.to_string()];
        rows(self.session, PLACE, sql, &parameters).await.map(drop)
    }
}
