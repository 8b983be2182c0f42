//! What live capture reads, as the last run that came to the end of a poll has left it: the tables and the epoch.
//!
//! A backfill waits for it. A run that began before a deploy still reads what was written then, and passes over the changes
//! of a table that it does not know, or sends them under the epoch before: a row that a backfill had read already would
//! keep its old value.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sync_domain::config::{Postgres, Source};
use sync_domain::id::ModelId;
use sync_domain::ports::{Checkpoints, Result, Taken};

use crate::run::LEASE;

#[derive(Serialize, Deserialize, PartialEq, Eq)]
struct Live {
    epoch: u32,
    /// `schema.table=model`
    tables: BTreeSet<String>,
}

impl Live {
    fn of(postgres: &Postgres, epoch: u32) -> Self {
        let named = |(table, of): (&String, &sync_domain::config::Table)| format!("{table}={}", of.model());
        Self { epoch, tables: postgres.tables.iter().map(named).collect() }
    }
}

/// Notes what a run reads; a write only when that is news.
pub(crate) async fn tell(
    source: &Source,
    postgres: &Postgres,
    epoch: u32,
    checkpoints: &dyn Checkpoints,
    owner: &str,
) -> Result<()> {
    let (row, live) = (row(source), Live::of(postgres, epoch));
    if standing(&row, checkpoints).await?.is_some_and(|standing| standing == live) {
        return Ok(());
    }
    let text = serde_json::to_string(&live).unwrap_or_default();
    // Whoever holds the row notes the same, or notes it in a minute.
    if let Taken::Held(mut lease, _) = checkpoints.take(&row, owner, LEASE).await? {
        checkpoints.save(&mut lease, &text, LEASE).await?;
        checkpoints.release(&lease).await?;
    }
    Ok(())
}

/// Whether live capture reads the tables of a model as they are configured now, under this epoch.
pub(crate) async fn reads(
    source: &Source,
    postgres: &Postgres,
    model: &ModelId,
    epoch: u32,
    checkpoints: &dyn Checkpoints,
) -> Result<bool> {
    let Some(live) = standing(&row(source), checkpoints).await? else { return Ok(false) };
    let of_model = format!("={model}");
    let wanted = Live::of(postgres, epoch);
    let mut tables = wanted.tables.iter().filter(|table| table.ends_with(&of_model));
    Ok(live.epoch == epoch && tables.all(|table| live.tables.contains(table)))
}

async fn standing(row: &str, checkpoints: &dyn Checkpoints) -> Result<Option<Live>> {
    let text = checkpoints.read(row).await?.and_then(|checkpoint| checkpoint.cursor);
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

fn row(source: &Source) -> String {
    format!("{}#live", source.source)
}
