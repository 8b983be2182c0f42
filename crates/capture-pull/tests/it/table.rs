//! A source in memory: a log of changes that is read behind a cursor and forgets what was confirmed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use capture_pull::open::{Chunks, Open};
use sync_domain::change::Operation;
use sync_domain::config::Source;
use sync_domain::id::ModelId;
use sync_domain::version::Version;
use sync_sources::{Error, Keys, Kind, Page, Reader, Result, Row};

use crate::steps::Steps;

/// Rows of a page and of a chunk.
pub(crate) const PAGE: usize = 7;

/// The source. Clones share their state.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    log: Vec<Row>,
    forgotten: usize,
    polls: usize,
    chunks: Vec<i64>,
    a_key_is_null: bool,
    faults: Vec<Error>,
    faults_of_page: Vec<Error>,
    faults_of_chunk: BTreeMap<i64, Error>,
}

impl Table {
    /// Adds changes of `keys` records, one after the other.
    pub(crate) fn write(&self, changes: usize, keys: usize) {
        let mut state = self.0.lock().unwrap();
        for _ in 0..changes {
            let number = state.log.len() + 1;
            let (key, value) = (number % keys, number);
            state.log.push(row(key, value));
        }
    }

    /// Adds a change as it is.
    pub(crate) fn push(&self, row: Row) {
        self.0.lock().unwrap().log.push(row);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().log.len()
    }

    /// How often the log was read.
    pub(crate) fn polls(&self) -> usize {
        self.0.lock().unwrap().polls
    }

    /// The first key of each chunk that was read.
    pub(crate) fn chunks_read(&self) -> Vec<i64> {
        self.0.lock().unwrap().chunks.clone()
    }

    /// Up to where the source has forgotten.
    pub(crate) fn forgotten(&self) -> usize {
        self.0.lock().unwrap().forgotten
    }

    /// Lets the first row of the table have no key.
    pub(crate) fn lose_a_key(&self) {
        self.0.lock().unwrap().a_key_is_null = true;
    }

    /// Lets the next opening fail.
    pub(crate) fn fail(&self, kind: Kind, code: &'static str) {
        self.0.lock().unwrap().faults.push(error(kind, code));
    }

    /// Lets the next page fail.
    pub(crate) fn fail_page(&self, kind: Kind, code: &'static str) {
        self.0.lock().unwrap().faults_of_page.push(error(kind, code));
    }

    /// Lets the chunk behind a key fail, once.
    pub(crate) fn fail_chunk(&self, behind: i64, kind: Kind, code: &'static str) {
        self.0.lock().unwrap().faults_of_chunk.insert(behind, error(kind, code));
    }

    /// The state that the log leads to: value by key.
    pub(crate) fn state(&self) -> BTreeMap<i64, i64> {
        let rows = self.0.lock().unwrap().log.clone();
        rows.iter().filter_map(|row| value(row.after.as_deref()?)).collect()
    }
}

pub(crate) fn error(kind: Kind, code: &'static str) -> Error {
    Error { kind, code, place: "slot datasync_crm".to_owned(), remedy: "look at it".to_owned() }
}

/// The nth change, of a key.
pub(crate) fn row(key: usize, number: usize) -> Row {
    Row {
        model: "customer".parse().unwrap(),
        operation: Operation::Update,
        version: Version::from_log(0, number as u64, 0),
        occurred_at: "2026-11-24T20:19:23Z".to_owned(),
        before: None,
        after: Some(format!(r#"{{"id":{key},"value":{number},"note":"not listed"}}"#)),
        set_aside: None,
    }
}

/// Key and value of a record.
pub(crate) fn value(record: &str) -> Option<(i64, i64)> {
    let record: serde_json::Value = serde_json::from_str(record).ok()?;
    Some((record["id"].as_i64()?, record["value"].as_i64()?))
}

/// Opens readers of the table.
pub(crate) struct Opens {
    pub(crate) table: Table,
    pub(crate) steps: Steps,
}

#[async_trait(?Send)]
impl Open for Opens {
    async fn reader(&self, _: &Source) -> Result<Box<dyn Reader>> {
        let fault = self.table.0.lock().unwrap().faults.pop();
        let reader = Log { table: self.table.clone(), steps: self.steps.clone(), epoch: 0, at: 0, end: 0 };
        fault.map_or(Ok(Box::new(reader)), Err)
    }

    async fn chunks(
        &self,
        _: &Source,
        _: &ModelId,
        _: Option<&str>,
        cursor: &str,
    ) -> Result<Box<dyn Chunks>> {
        // Of the live reader, whose cursors are numbers here.
        assert!(cursor.parse::<usize>().is_ok(), "{cursor}");
        let fault = self.table.0.lock().unwrap().faults.pop();
        let rows = Rows { table: self.table.clone(), steps: self.steps.clone() };
        fault.map_or(Ok(Box::new(rows)), Err)
    }
}

struct Log {
    table: Table,
    steps: Steps,
    epoch: u32,
    at: usize,
    end: usize,
}

#[async_trait]
impl Reader for Log {
    async fn begin(&mut self, cursor: Option<&str>, epoch: u32) -> Result<()> {
        self.steps.pass("begin").await;
        let mut state = self.table.0.lock().unwrap();
        state.polls += 1;
        // A source that was never read starts at its present state; here that is the beginning.
        self.at = cursor.map_or(0, |cursor| cursor.parse().unwrap());
        self.end = state.log.len();
        self.epoch = epoch;
        if self.at < state.forgotten { Err(error(Kind::Lost, "slot_ahead")) } else { Ok(()) }
    }

    async fn page(&mut self) -> Result<Option<Page>> {
        self.steps.pass("before read").await;
        if let Some(fault) = self.table.0.lock().unwrap().faults_of_page.pop() {
            return Err(fault);
        }
        if self.at == self.end {
            return Ok(None);
        }
        let to = self.end.min(self.at + PAGE);
        let rows = self.table.0.lock().unwrap().log[self.at..to].to_vec();
        let raised = |row: Row| {
            let (_, position) = row.version.as_str().split_once('-').unwrap();
            Row { version: Version::parse(&format!("{:08x}-{position}", self.epoch)).unwrap(), ..row }
        };
        self.at = to;
        let page = Page { rows: rows.into_iter().map(raised).collect(), cursor: to.to_string() };
        self.steps.pass("after read").await;
        Ok(Some(page))
    }

    async fn confirm(&mut self, cursor: &str) -> Result<()> {
        self.steps.pass("before confirm").await;
        {
            let mut state = self.table.0.lock().unwrap();
            state.forgotten = state.forgotten.max(cursor.parse().unwrap());
        }
        self.steps.pass("after confirm").await;
        Ok(())
    }

    async fn gauges(&mut self) -> Result<Vec<(&'static str, f64)>> {
        // In the middle of a poll the session is busy with it.
        Ok(if self.at == self.end { vec![("lag_bytes", 0.0)] } else { Vec::new() })
    }
}

/// Rows 1 to 30, all of which exist.
struct Rows {
    table: Table,
    steps: Steps,
}

pub(crate) const ROWS: i64 = 30;

#[async_trait]
impl Chunks for Rows {
    async fn chunk(&mut self, position: Option<&str>, epoch: u32) -> Result<Option<Page>> {
        let from: i64 = position.map_or(0, |position| position.parse().unwrap());
        if from == ROWS {
            return Ok(None);
        }
        let fault = {
            let mut state = self.table.0.lock().unwrap();
            state.chunks.push(from);
            state.faults_of_chunk.remove(&from)
        };
        fault.map_or(Ok(()), Err)?;
        let to = ROWS.min(from + PAGE as i64);
        let row = |key: i64| Row {
            operation: Operation::Snapshot,
            version: Version::from_log(epoch, 1_000, u64::MAX),
            ..row(usize::try_from(key).unwrap(), 0)
        };
        let page = Page { rows: (from + 1..=to).map(row).collect(), cursor: to.to_string() };
        self.steps.pass("chunk").await;
        Ok(Some(page))
    }

    async fn keys(&mut self, position: Option<&str>) -> Result<Option<Keys>> {
        let from: i64 = position.map_or(0, |position| position.parse().unwrap());
        let to = ROWS.min(from + PAGE as i64);
        self.steps.pass("keys").await;
        let mut keys: Vec<String> = (from + 1..=to).map(|key| format!(r#"{{"id":{key}}}"#)).collect();
        if self.table.0.lock().unwrap().a_key_is_null {
            keys[0] = r#"{"id":null}"#.to_owned();
        }
        Ok((from < ROWS).then(|| Keys { keys, cursor: to.to_string() }))
    }
}
