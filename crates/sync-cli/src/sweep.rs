//! `datasync sweep`, the end of a resync: deletes at the targets what the source has no more.
//!
//! The ledger says what each target has; what the source has says the function that reads it, as record ids. A row of the
//! ledger that nothing of the new epoch has reached, of a record that the source does not list, becomes a deletion, which
//! takes the way of any event: through the topic, the target's filter, the ledger. The caller needs
//! `lambda:InvokeFunction` on the function, `dynamodb:Scan` on the ledger, `sns:Publish` on the topic of the events, and
//! their key.
//!
//! Nothing is remembered from one sweep to the next: one that was broken off is begun anew, and finds only tombstones
//! where it has been.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;
use sync_aws::clients::Clients;
use sync_aws::dynamodb::DynamoLedger;
use sync_aws::lambda::{Invoke, LambdaFunction};
use sync_aws::sns::SnsTopic;
use sync_config::SyncConfig;
use sync_domain::event::Event;
use sync_domain::id::{ModelId, SourceId};
use sync_domain::policy::CompiledPolicy;
use sync_domain::ports::{self, LedgerRow, LedgerRows, Topic};
use sync_domain::sweep::{Finding, Sweep as Rules};
use sync_domain::version::Version;
use sync_lambda::backfill::State;
use sync_lambda::settings::ProcessEnv;

use crate::call::runtime;
use crate::outputs::{self, Outputs};
use crate::pull::{self, Function, PAUSE, Status, WAITS, Work, ask, new_run};
use crate::{DEFAULT_CONFIG, validate};

/// Rows that are held against one list of the source: the list is read again for each so many, and so many fit the memory
/// of a laptop (some 50 MB).
const ROWS: usize = 100_000;
/// Deletions that are published at once.
const SEND: usize = 100;

/// Deletes at the targets what a source that was begun anew has no more.
#[derive(Debug, Args)]
pub struct Sweep {
    /// The source, as its file is named.
    pub source: SourceId,
    /// Only says how many records would be deleted.
    #[arg(long)]
    pub count: bool,
    #[command(flatten)]
    /// Where its function, the ledger and the topic are.
    pub places: Places,
}

/// Where the configuration, the ledger, the topic and the function of a source are.
#[derive(Debug, Clone, Args)]
pub struct Places {
    /// The folder with models/, sources/ and targets/.
    #[arg(long, default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
    /// The ledger's table; else LEDGER_TABLE or the stack's output.
    #[arg(long)]
    pub ledger_table: Option<String>,
    /// The topic of the events; else EVENTS_TOPIC_ARN or the stack's output.
    #[arg(long)]
    pub events_topic: Option<String>,
    #[command(flatten)]
    /// Its function.
    pub function: Function,
}

/// Why a sweep did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not known where something is.
    #[error(transparent)]
    Where(#[from] outputs::Error),
    /// The function did not list what the source has.
    #[error(transparent)]
    Function(#[from] pull::Error),
    /// Nothing was begun anew.
    #[error("the source stands in epoch 0: a sweep follows a resync, and there was none")]
    NoEpoch,
    /// It waits for too long.
    #[error(
        "the source is not read yet, or a transaction in its database has been open for five minutes; see its log, then sweep again"
    )]
    Waits,
    /// A second resync began meanwhile.
    #[error("the source was begun anew meanwhile; sweep again when that resync is through")]
    OtherEpoch,
    /// The ledger cannot be read.
    #[error("the ledger cannot be read; it takes dynamodb:Scan on it and kms:Decrypt of its key")]
    Ledger(#[source] ports::Error),
    /// A deletion was not published.
    #[error(
        "a deletion was not published; it takes sns:Publish on the topic, and kms:GenerateDataKey and kms:Decrypt of its key. Then sweep again"
    )]
    Topic(#[source] ports::Error),
    /// Nothing can be written.
    #[error("cannot write")]
    Write(#[from] std::io::Error),
}

/// What a sweep works with.
pub struct Parts {
    /// The function that reads the source.
    pub function: Box<dyn Invoke>,
    /// The ledger.
    pub ledger: Box<dyn LedgerRows>,
    /// The topic of the events.
    pub topic: Box<dyn Topic>,
    /// The policies of the models that the source writes.
    pub policies: BTreeMap<ModelId, CompiledPolicy>,
}

/// What a sweep has found, in rows of the ledger: one for each record and target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// The source has no such record: the deletion was published, or would have been.
    pub removed: u64,
    /// The source has the record, and the target none of its new epoch yet: it did not ask for snapshots, or they wait or
    /// have a ticket.
    pub behind: u64,
    /// The target heard of the record in the new epoch, or has it no more.
    pub settled: u64,
    /// An earlier release wrote the row, and it does not say of what: of this source or another.
    pub unnamed: u64,
    /// The row is of a model that the source does not write any more, or its key cannot be read.
    pub unjudged: u64,
}

pub(crate) fn run(command: &Sweep, out: &mut dyn Write) -> Result<(), crate::Error> {
    runtime()?.block_on(async {
        let parts = Parts::open(&command.source, &command.places).await?;
        Ok(sweep(&parts, &command.source, command.count, out).await.map(drop)?)
    })
}

/// The policies of the models that a source writes.
pub(crate) fn policies(
    source: &SourceId,
    config: &Path,
) -> Result<BTreeMap<ModelId, CompiledPolicy>, crate::Error> {
    let no_source = || crate::Error::NoSource(source.clone());
    let config = SyncConfig::parse(&validate::read(config)?).map_err(|_| no_source())?;
    let written = config.source(source).filter(|source| source.postgres.is_some());
    let models = written.ok_or_else(no_source)?.models();
    let mut policies = sync_lambda::config::policies(&config)?;
    policies.retain(|model, _| models.contains(&model));
    Ok(policies)
}

impl Parts {
    /// Those of a stack.
    pub(crate) async fn open(source: &SourceId, places: &Places) -> Result<Self, crate::Error> {
        let policies = policies(source, &places.config)?;
        let outputs = Outputs::read(places.function.outputs.as_deref()).map_err(Error::from)?;
        let setting = |given: &Option<String>, option, variable, output| {
            outputs.setting(&ProcessEnv, given.as_deref(), option, variable, output).map_err(Error::from)
        };
        let table = setting(&places.ledger_table, "--ledger-table", "LEDGER_TABLE", "LedgerTableName")?;
        let topic = setting(&places.events_topic, "--events-topic", "EVENTS_TOPIC_ARN", "EventsTopicArn")?;
        let function = places.function.name(source, &outputs).map_err(Error::from)?;
        let clients = Clients::from_profile().await;
        Ok(Self {
            function: Box::new(LambdaFunction::new(clients.lambda(), function)),
            ledger: Box::new(DynamoLedger::new(clients.dynamodb(), table)),
            topic: Box::new(SnsTopic::new(clients.sns(), topic)),
            policies,
        })
    }
}

/// Begins a source anew, sends every row of its models again, and sweeps.
pub async fn resync(parts: &Parts, source: &SourceId, out: &mut dyn Write) -> Result<Swept, Error> {
    let models: Vec<ModelId> = parts.policies.keys().cloned().collect();
    pull::begin_anew(&*parts.function, source, &models, out).await?;
    sweep(parts, source, false, out).await
}

/// Sweeps and tells what came of it; with `count`, nothing is published.
pub async fn sweep(
    parts: &Parts,
    source: &SourceId,
    count: bool,
    out: &mut dyn Write,
) -> Result<Swept, Error> {
    let status: Status = ask(&*parts.function, source, Some(Work::Status)).await?;
    let version = Version::before_epoch(status.epoch).ok_or(Error::NoEpoch)?;
    let began = i64::try_from(pull::now()).unwrap_or_default();
    let began = jiff::Timestamp::from_second(began).unwrap_or_default().to_string();
    // Two sweeps that begin in one second must not read on in each other's list.
    let run = format!("{}-{}", new_run(), std::process::id());
    let rules = Rules { source, version, run: &run, began: &began };
    let swept = Swept::default();
    let mut sweeping = Sweeping { parts, rules, epoch: status.epoch, count, lists: 0, swept };
    sweeping.all(ROWS).await?;
    let swept = sweeping.swept;
    tell(source, &swept, count, out)?;
    Ok(swept)
}

struct Sweeping<'a> {
    parts: &'a Parts,
    rules: Rules<'a>,
    epoch: u32,
    count: bool,
    /// How many lists of record ids were begun.
    lists: u64,
    swept: Swept,
}

/// Rows of one model by the ids of their records.
type Open = HashMap<String, Vec<LedgerRow>>;

impl Sweeping<'_> {
    async fn all(&mut self, most: usize) -> Result<(), Error> {
        let (mut open, mut held) = (BTreeMap::<ModelId, Open>::new(), 0);
        let mut behind = None;
        loop {
            let page = self.parts.ledger.page(behind.as_deref()).await.map_err(Error::Ledger)?;
            for row in page.rows {
                match self.rules.look_at(&row) {
                    Finding::Other => {}
                    // Its target has it no more, whatever it was.
                    Finding::Unnamed if row.deleted => {}
                    Finding::Unnamed => self.swept.unnamed += 1,
                    Finding::Settled => self.swept.settled += 1,
                    Finding::Open(whose) if !self.parts.policies.contains_key(&whose.model) => {
                        self.swept.unjudged += 1;
                    }
                    Finding::Open(whose) => {
                        let (model, rid) = (whose.model.clone(), whose.rid.as_str().to_owned());
                        open.entry(model).or_default().entry(rid).or_default().push(row);
                        held += 1;
                    }
                }
            }
            behind = page.next;
            if held >= most || behind.is_none() {
                for (model, open) in std::mem::take(&mut open) {
                    self.judge(&model, open).await?;
                }
                held = 0;
            }
            if behind.is_none() {
                return Ok(());
            }
        }
    }

    /// Strikes out what the source has, and publishes the deletion of the rest.
    async fn judge(&mut self, model: &ModelId, mut open: Open) -> Result<(), Error> {
        let Some(policy) = self.parts.policies.get(model) else { return Ok(()) };
        let run = format!("{}-{}", self.rules.run, self.lists);
        self.lists += 1;
        for part in 0.. {
            let listed = self.list(model, &run, part).await?;
            let found = listed.rids.iter().filter_map(|rid| open.remove(rid));
            self.swept.behind += found.map(|rows| rows.len() as u64).sum::<u64>();
            if listed.state == State::Done {
                break;
            }
        }
        let rows: Vec<LedgerRow> = open.into_values().flatten().collect();
        for rows in rows.chunks(SEND) {
            let removals: Vec<Event> =
                rows.iter().filter_map(|row| self.rules.removal(policy, row)).collect();
            if !self.count {
                let published = self.parts.topic.publish(&removals).await;
                published.into_iter().collect::<ports::Result<()>>().map_err(Error::Topic)?;
            }
            self.swept.removed += removals.len() as u64;
            self.swept.unjudged += (rows.len() - removals.len()) as u64;
        }
        Ok(())
    }

    /// One part of a list of what the source has.
    async fn list(&self, model: &ModelId, run: &str, part: u64) -> Result<Listed, Error> {
        for _ in 0..=WAITS {
            let work = Work::RecordIds { model, run, part };
            let listed: Listed = ask(&*self.parts.function, self.rules.source, Some(work)).await?;
            match listed.state {
                State::Running | State::Done if listed.epoch == self.epoch => return Ok(listed),
                State::Running | State::Done => return Err(Error::OtherEpoch),
                State::Waiting | State::Busy | State::Paused => tokio::time::sleep(PAUSE).await,
            }
        }
        Err(Error::Waits)
    }
}

/// What the function answers (`capture_pull::Listed`).
#[derive(Debug, Deserialize)]
struct Listed {
    state: State,
    epoch: u32,
    rids: Vec<String>,
}

fn tell(source: &SourceId, swept: &Swept, count: bool, out: &mut dyn Write) -> std::io::Result<()> {
    let Swept { removed, behind, settled, unnamed, unjudged } = swept;
    let done = if count { "to publish" } else { "published" };
    writeln!(
        out,
        "{source}: {removed} deletions {done}, one for each record and target; {settled} rows of the ledger are settled"
    )?;
    for (rows, why) in [
        (behind, "are of records that the source has; their targets have none of its new epoch yet"),
        (unnamed, "do not say of what: an earlier release wrote them. What is gone of them stays"),
        (unjudged, "have a key that cannot be read, or a model that the source no longer writes. They stay"),
    ] {
        if *rows > 0 {
            writeln!(out, "{source}: {rows} rows of the ledger {why}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
