//! The replication slot: where it stands, and whether what the cursor says may go on from there.

use serde::{Deserialize, Serialize};
use tokio_postgres::types::{PgLsn, Type};

use super::super::connect::{Identity, Session, column, failure};
use crate::{Error, Kind, Result};

/// A place among the row messages of the log: where the transaction's commit stands, and the index in the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) commit: u64,
    pub(super) index: u64,
}

/// How far a source was read: everything before the position was handed off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) history: Identity,
    pub(super) position: Position,
    /// See `Poll`.
    pub(super) fresh_until: u64,
}

/// A cursor as it is saved.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    history: Identity,
    slot: String,
    lsn: String,
    index: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fresh_until: Option<String>,
}

impl Cursor {
    /// Writes it down.
    pub(super) fn write(&self, slot: &str) -> String {
        let lsn = |lsn: u64| PgLsn::from(lsn).to_string();
        let saved = Saved {
            history: self.history.clone(),
            slot: slot.to_owned(),
            lsn: lsn(self.position.commit),
            index: self.position.index,
            fresh_until: (self.fresh_until > self.position.commit).then(|| lsn(self.fresh_until)),
        };
        // Texts and numbers only: nothing that could fail.
        serde_json::to_string(&saved).unwrap_or_default()
    }

    /// Reads a cursor of this slot.
    pub(super) fn read(text: &str, slot: &str) -> Result<Self> {
        let unreadable = || lost("cursor", slot, "the cursor does not read");
        let lsn = |text: &str| text.parse::<PgLsn>().map(u64::from).map_err(|_| unreadable());
        let saved: Saved = serde_json::from_str(text).map_err(|_| unreadable())?;
        if saved.slot != slot {
            return Err(lost("other_slot", slot, "the cursor is of another slot"));
        }
        Ok(Self {
            position: Position { commit: lsn(&saved.lsn)?, index: saved.index },
            fresh_until: saved.fresh_until.as_deref().map(lsn).transpose()?.unwrap_or_default(),
            history: saved.history,
        })
    }
}

/// How the slot and the log stand.
#[derive(Debug)]
pub(super) struct Status {
    /// Where the log is safe on disk.
    pub(super) flushed: u64,
    /// Up to where the slot was confirmed.
    pub(super) confirmed: u64,
}

/// A row of `pg_replication_slots`, as far as all supported versions have it.
struct Slot {
    plugin: Option<String>,
    database: Option<String>,
    temporary: bool,
    active: bool,
    wal_status: Option<String>,
    confirmed: Option<PgLsn>,
    invalidation: Option<String>,
    two_phase: bool,
}

impl Status {
    /// Reads how the slot stands and makes sure that it may be read from `cursor` on.
    ///
    /// Everything that was consumed by somebody else, or cannot be read any more, is `Lost`: a slot that is gone, that
    /// was made again, that is ahead of the cursor, or that the server gave up. A slot behind the cursor is fine: the
    /// server forgets the last confirmations when it crashes, and the cursor says what to skip.
    pub(super) async fn read(
        session: &Session,
        slot: &str,
        history: &Identity,
        cursor: Option<Position>,
    ) -> Result<Self> {
        const SQL: &str = "
            SELECT s.slot_name IS NOT NULL, s.plugin::text, s.database::text, coalesce(s.temporary, false),
                coalesce(s.active, false), s.wal_status, s.confirmed_flush_lsn,
                to_jsonb(s) ->> 'invalidation_reason', coalesce((to_jsonb(s) ->> 'two_phase')::boolean, false),
                CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_flush_lsn() END
            FROM (SELECT 1) AS one LEFT JOIN pg_replication_slots s ON s.slot_name = $1::text::name";
        let rows = session.client().query_typed(SQL, &[(&slot, Type::TEXT)]).await;
        let rows = rows.map_err(|error| failure("the replication slots", &error))?;
        let Some(row) = rows.first() else { return Err(lost("slot_gone", slot, "the slot is gone")) };
        let Some(flushed) = column::<Option<PgLsn>>(row, 9)? else {
            return Err(misconfigured(
                "standby",
                slot,
                "the server is a standby: point the URL at the primary",
            ));
        };
        let flushed = u64::from(flushed);
        if !column::<bool>(row, 0)? {
            return Err(match cursor {
                Some(_) => lost("slot_gone", slot, "the slot is gone"),
                None => misconfigured(
                    "no_slot",
                    slot,
                    "an administrator must create it: `datasync sql` prints how",
                ),
            });
        }
        let found = Slot {
            plugin: column(row, 1)?,
            database: column(row, 2)?,
            temporary: column(row, 3)?,
            active: column(row, 4)?,
            wal_status: column(row, 5)?,
            confirmed: column(row, 6)?,
            invalidation: column(row, 7)?,
            two_phase: column(row, 8)?,
        };
        let confirmed = found.check(slot, history)?;
        if let Some(cursor) = cursor {
            if confirmed > cursor.commit {
                let why = "the slot is ahead of the cursor: it was made again, or somebody else consumed it";
                return Err(lost("slot_ahead", slot, why));
            }
            if cursor.commit > flushed {
                return Err(lost(
                    "cursor_ahead",
                    slot,
                    "the server is behind the cursor: it lost a part of its log",
                ));
            }
        }
        Ok(Self { flushed, confirmed })
    }
}

impl Slot {
    /// Up to where it was confirmed, if it can be read.
    fn check(&self, slot: &str, history: &Identity) -> Result<u64> {
        if self.invalidation.is_some() || self.wal_status.as_deref() == Some("lost") {
            return Err(lost("slot_lost", slot, "the server gave up the log that the slot needs"));
        }
        if self.plugin.as_deref() != Some("pgoutput") {
            return Err(misconfigured(
                "slot",
                slot,
                "it is not one of pgoutput: name another, or create it anew",
            ));
        }
        if self.database.as_deref() != Some(history.database.as_str()) {
            return Err(misconfigured(
                "slot",
                slot,
                "it belongs to another database: correct the URL or the slot's name",
            ));
        }
        if self.temporary {
            // Also what a standby has copied but not made ready when it was promoted; it is about to vanish.
            return Err(misconfigured(
                "slot",
                slot,
                "it is temporary, and would vanish: create a lasting one",
            ));
        }
        if self.two_phase {
            return Err(misconfigured(
                "slot",
                slot,
                "it decodes at PREPARE, not at commit: create it without two_phase",
            ));
        }
        if self.active {
            return Err(Error {
                kind: Kind::Busy,
                code: "busy",
                place: place(slot),
                remedy: "another session reads the slot; it will end".into(),
            });
        }
        self.confirmed
            .map(u64::from)
            .ok_or_else(|| misconfigured("slot", slot, "it has no place in the log yet"))
    }
}

/// The slot as a place.
pub(super) fn place(slot: &str) -> String {
    format!("slot {slot}")
}

/// Nobody can say what was missed.
pub(super) fn lost(code: &'static str, slot: &str, why: &str) -> Error {
    let remedy = format!(
        "{why}; changes may be missing: create the slot again, raise `epoch` and resync the source's models"
    );
    Error { kind: Kind::Lost, code, place: place(slot), remedy }
}

fn misconfigured(code: &'static str, slot: &str, remedy: &str) -> Error {
    Error { kind: Kind::Misconfigured, code, place: place(slot), remedy: remedy.into() }
}
