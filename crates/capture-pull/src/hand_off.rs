//! From the rows of a page to messages that the queue has confirmed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use sync_domain::capture::{self, Draft, Place, Prepared, Same};
use sync_domain::change::Operation;
use sync_domain::config::{PullMode, Source};
use sync_domain::id::{RecordId, TargetId};
use sync_domain::outcome::{FailureEvent, Reason};
use sync_domain::policy::CompiledPolicy;
use sync_domain::ports::{self, Kind};
use sync_domain::protect::IdHasher;
use sync_lambda::batch;
use sync_sources::Row;

use crate::deps::Deps;
use crate::failures;
use crate::halt::Halt;

/// How often what the queue does not take now is sent. The adapter tries a second long each time.
const TRIES: u32 = 4;
/// The pause before the second try; it doubles.
const PAUSE: Duration = Duration::from_millis(500);
/// The codes by which the queue refuses one message for what it holds. Every other refusal is about the queue, and would
/// be about the next message too.
const ABOUT_CONTENT: [&str; 3] = ["BatchRequestTooLong", "InvalidMessageContents", "MessageTooLong"];

/// The code of rows whose table does not fit their model.
const SCHEMA_DRIFT: &str = "schema_drift";

/// What becomes of a page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Handed {
    /// Rows that the queue confirmed.
    pub(crate) sent: usize,
    /// Rows that cannot go on, or are set aside, and have a ticket.
    pub(crate) refused: usize,
    /// How long the oldest row waited between its commit and the queue's confirmation.
    pub(crate) lag: Duration,
}

/// The rows that were set aside, and the tickets that tell of them.
#[derive(Debug, Clone, Copy, Default)]
struct SetAside {
    rows: usize,
    tickets: usize,
}

/// Hands rows of one source to the Changes queue.
pub(crate) struct HandOff<'a> {
    pub(crate) deps: &'a Deps,
    pub(crate) source: &'a Source,
    pub(crate) ids: &'a IdHasher,
    /// The run of a backfill.
    pub(crate) run: Option<&'a str>,
    /// The only target of a backfill.
    pub(crate) only: Option<&'a TargetId>,
}

impl HandOff<'_> {
    /// Sends every row of a page, in order within each record, and comes back when the queue has confirmed each or the bus
    /// the failure of those that cannot go on.
    pub(crate) async fn rows(&self, rows: &[Row]) -> Result<Handed, Halt> {
        let (aside, mut pending): (Vec<&Row>, Vec<&Row>) =
            rows.iter().partition(|row| row.set_aside.is_some());
        let mut refused = Vec::new();
        let set_aside = self.set_aside(&aside, &mut refused).await?;
        let mut pause = PAUSE;
        for left in (0..TRIES).rev() {
            let (behind, failed) = self.send(pending, &mut refused).await?;
            pending = behind;
            match failed {
                None => break,
                Some(error) if left == 0 => return Err(error.into()),
                Some(error) => {
                    tracing::warn!(
                        source.id = self.source.source.as_str(),
                        failed_count = pending.len(),
                        error.code = error.code,
                        "the queue did not take every change; trying again"
                    );
                    tokio::time::sleep(pause).await;
                    pause = pause.saturating_mul(2);
                }
            }
        }
        failures::report(self.deps, &refused).await?;
        for failure in &refused {
            tracing::error!(
                source.id = self.source.source.as_str(),
                record.id = failure.rid.as_ref().map(RecordId::as_str),
                reason = failure.reason.code,
                place = failure.reason.place,
                "a row cannot go on"
            );
        }
        let refused = refused.len().saturating_sub(set_aside.tickets).saturating_add(set_aside.rows);
        Ok(Handed { sent: rows.len().saturating_sub(refused), refused, lag: lag(rows, (self.deps.now)()) })
    }

    /// Puts rows of a table that does not fit its model into the dead-letter queue of Changes, as the messages that they
    /// would have been: once the model fits again, a redrive brings them. One ticket per place, however many rows.
    async fn set_aside(&self, rows: &[&Row], refused: &mut Vec<FailureEvent>) -> Result<SetAside, Halt> {
        let mut set_aside = SetAside::default();
        let mut entries = Vec::with_capacity(rows.len());
        let mut places: Vec<(&Row, &str)> = Vec::new();
        for row in rows {
            let place = row.set_aside.as_deref().unwrap_or_default();
            match batch::guarded(|| self.prepare(row)).and_then(|prepared| prepared) {
                Ok(Prepared { mut entry, .. }) => {
                    entry.attributes.push(("reason".to_owned(), SCHEMA_DRIFT.to_owned()));
                    entry.attributes.push(("place".to_owned(), place.to_owned()));
                    entries.push(entry);
                    set_aside.rows = set_aside.rows.saturating_add(1);
                    if !places.iter().any(|(_, known)| *known == place) {
                        places.push((row, place));
                    }
                }
                Err(reason) => refused.push(failures::of_row(self.source, row, self.rid(row), reason)),
            }
        }
        if !entries.is_empty() {
            let count = entries.len();
            let results = self.deps.dead_letters.send(entries).await;
            let confirmed = results.len();
            results.into_iter().collect::<ports::Result<()>>()?;
            if confirmed < count {
                return Err(failures::no_answer("sqs:SendMessageBatch").into());
            }
        }
        set_aside.tickets = places.len();
        let queue = self.deps.dead_letters.url();
        refused.extend(
            places.into_iter().map(|(row, place)| failures::of_table(self.source, row, place, queue)),
        );
        Ok(set_aside)
    }

    /// One try: gives the rows that were not taken, in order, and the last reason. A message is made anew for each try,
    /// which is rare and gives the same one, rather than kept for it.
    async fn send<'r>(
        &self,
        rows: Vec<&'r Row>,
        refused: &mut Vec<FailureEvent>,
    ) -> Result<(Vec<&'r Row>, Option<ports::Error>), Halt> {
        let mut sending = Vec::with_capacity(rows.len());
        let mut entries = Vec::with_capacity(rows.len());
        for row in rows {
            match batch::guarded(|| self.prepare(row)).and_then(|prepared| prepared) {
                Ok(Prepared { rid, entry, .. }) => {
                    sending.push((row, rid));
                    entries.push(entry);
                }
                Err(reason) => {
                    refused.push(failures::of_row(self.source, row, self.rid(row), reason));
                }
            }
        }
        if entries.is_empty() {
            return Ok((Vec::new(), None));
        }
        let mut results = self.deps.queue.send(entries).await.into_iter();
        let (mut behind, mut last) = (Vec::new(), None);
        for (row, rid) in sending {
            let result = results.next().unwrap_or_else(|| Err(failures::no_answer("sqs:SendMessageBatch")));
            match result {
                Ok(()) => {}
                Err(error) if error.kind == Kind::Refused => {
                    if !ABOUT_CONTENT.contains(&error.code.as_str()) {
                        return Err(error.into());
                    }
                    let reason = Reason::new("refused_by_queue", error.code);
                    refused.push(failures::of_row(self.source, row, Some(rid), reason));
                }
                Err(error) => {
                    behind.push(row);
                    last = Some(error);
                }
            }
        }
        Ok((behind, last))
    }

    fn policy(&self, row: &Row) -> Result<&CompiledPolicy, Reason> {
        self.deps.policies.get(&row.model).ok_or_else(|| Reason::new("unknown_model", row.model.as_str()))
    }

    fn prepare(&self, row: &Row) -> Result<Prepared, Reason> {
        let policy = self.policy(row)?;
        let key = key_alone(policy, row)?;
        let draft = Draft {
            operation: row.operation,
            place: Place::Version(row.version),
            occurred_at: &row.occurred_at,
            origin: self.source.source.as_str(),
            traceparent: None,
            run: self.run,
            only: self.only.map(TargetId::as_str),
            key: key.as_deref(),
            before: row.before.as_deref().filter(|_| key.is_none()),
            after: row.after.as_deref(),
            same: self.same(),
        };
        capture::prepare(&self.source.source, policy, self.ids, &draft)
    }

    /// A place in a log or a shadow table holds one content. A timestamp may hold two, where the clock is coarse: both
    /// must arrive, so that the ledger sees the conflict.
    fn same(&self) -> Same {
        match self.source.postgres.as_ref().map(|postgres| postgres.mode) {
            Some(PullMode::Timestamp) => Same::Content,
            _ => Same::Id,
        }
    }

    /// The record id of a row that cannot go on, for its ticket; none where its key is what is wrong.
    fn rid(&self, row: &Row) -> Option<RecordId> {
        let policy = self.policy(row).ok()?;
        let image = row.after.as_deref().or(row.before.as_deref())?;
        let canonical = policy.canonical_key(&policy.key_of(image).ok()?).ok()?;
        Some(self.ids.rid(self.source.source.as_str(), row.model.as_str(), &canonical))
    }
}

/// The key of a deleted row, if it is all that is known of it: as a record before, it would read as if every other
/// attribute had been null.
fn key_alone(policy: &CompiledPolicy, row: &Row) -> Result<Option<String>, Reason> {
    let before = row.before.as_deref().filter(|_| row.operation == Operation::Delete);
    let Some(before) = before else { return Ok(None) };
    let key = policy.key_of(before)?;
    Ok((members(before) == members(&key)).then_some(key))
}

fn members(object: &str) -> Option<usize> {
    type Members<'a> = std::collections::BTreeMap<String, &'a serde_json::value::RawValue>;
    serde_json::from_str::<Members<'_>>(object).ok().map(|members| members.len())
}

fn lag(rows: &[Row], now: SystemTime) -> Duration {
    let commits = rows.iter().filter_map(|row| row.occurred_at.parse::<Timestamp>().ok());
    let Some(oldest) = commits.min() else { return Duration::ZERO };
    let oldest = u64::try_from(oldest.as_microsecond()).unwrap_or_default();
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_micros(oldest))
}
