//! `datasync dead-letters`: the letters of one target or stage, looked at, sent back or deleted.
//!
//! **Invariant.** A letter is deleted only after its queue confirmed it (redrive) or after `--yes` (discard); a run that
//! ends anywhere leaves each letter in one of the two queues at least. What then arrives twice is one message by its
//! deduplication id, or `unchanged` or `stale` by the ledger of `deliver`.

mod letter;
mod walk;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand, ValueEnum};
use sync_aws::clients::Clients;
use sync_aws::sqs::SqsQueue;
use sync_aws::sqs::letters::{Letter, Letters, SqsLetters};
use sync_domain::id::{ModelId, RecordId, TargetId};
use sync_domain::ports::{self, Queue};
use sync_lambda::settings::ProcessEnv;

use self::letter::{Ago, Filter, facts};
use self::walk::{Counts, Step, walk};
use crate::outputs::{self, Outputs};
use crate::template::logical_name;

/// Looks at dead letters, sends them back, or deletes them.
#[derive(Debug, Args)]
pub struct DeadLetters {
    #[command(subcommand)]
    /// What to do.
    pub action: Action,
}

/// What to do with dead letters. Letters are hidden from others while a command runs, ten minutes at most.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Counts them by reason and lists them, without any value.
    List {
        #[command(flatten)]
        /// Where.
        place: Place,
        #[command(flatten)]
        /// Which.
        which: Which,
    },
    /// Prints one whole: attributes and body.
    Show {
        /// Its message id, as list prints it.
        id: String,
        #[command(flatten)]
        /// Where.
        place: Place,
        /// Prints a body of the stage `changes` too, which holds clear values.
        #[arg(long)]
        clear_values: bool,
    },
    /// Sends them back to the queue that they came from. Only letters that stand there already: one that fails again stays.
    Redrive {
        #[command(flatten)]
        /// Where.
        place: Place,
        #[command(flatten)]
        /// Which.
        which: Which,
        /// Letters per second; they go in bursts of ten at most.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=3000))]
        rate: u32,
        /// Only says what would be sent.
        #[arg(long)]
        dry_run: bool,
    },
    /// Deletes them for good.
    Discard {
        #[command(flatten)]
        /// Where.
        place: Place,
        #[command(flatten)]
        /// Which.
        which: Which,
        /// Deletes; without it, only says what would be deleted.
        #[arg(long)]
        yes: bool,
    },
}

/// Whose dead letters.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// A target, as its file is named.
    #[arg(long, required_unless_present = "stage", conflicts_with = "stage")]
    pub target: Option<TargetId>,
    /// A stage before the topic.
    #[arg(long)]
    pub stage: Option<Before>,
    /// The dead-letter queue's URL; else the stack's output `<Target or stage>DeadLetterQueueUrl` or DEAD_LETTER_QUEUE_URL.
    #[arg(long)]
    pub dead_letter_queue: Option<String>,
    /// The URL of the queue that redrive sends to; else the output `<Target or stage>QueueUrl` or QUEUE_URL.
    #[arg(long)]
    pub queue: Option<String>,
    /// A file with the stack's outputs, as `sam list stack-outputs --output json` prints them.
    #[arg(long)]
    pub outputs: Option<PathBuf>,
}

/// A stage before the topic, named as its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Before {
    /// Changes that `transform` or the capture of a database gave up. Bodies hold clear values.
    Changes,
    /// Events that `enrich` gave up.
    Enrichment,
}

/// Which letters; all without any.
#[derive(Debug, Clone, Default, Args)]
pub struct Which {
    /// Of this model.
    #[arg(long)]
    pub model: Option<ModelId>,
    /// Given up for this reason, by its code; `moved_by_sqs` for those without one.
    #[arg(long)]
    pub reason: Option<String>,
    /// Of this record.
    #[arg(long)]
    pub rid: Option<RecordId>,
    /// Given up no longer ago than this: 90s, 15m, 36h, 7d.
    #[arg(long)]
    pub since: Option<Ago>,
    /// Given up at least this long ago.
    #[arg(long)]
    pub until: Option<Ago>,
}

/// Why dead letters could not be worked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not known which queue it is.
    #[error(transparent)]
    Where(#[from] outputs::Error),
    /// A call failed; nothing is lost, and what was done is done.
    #[error("a call to SQS failed; nothing is lost: run the command again to go on")]
    Call(#[from] ports::Error),
    /// Nothing can be written, or the runtime for the calls cannot be made.
    #[error("cannot call or write")]
    Shell(#[from] io::Error),
    /// The letter was not found.
    #[error("no such letter is visible; one that another command or the head of its group hides is not seen")]
    NoLetter,
    /// The letter's body is in clear.
    #[error("the body holds clear values: say --clear-values to print it")]
    Clear,
    /// Both queues are the same.
    #[error("the queue to send to is the dead-letter queue itself; see --queue")]
    SameQueue,
}

pub(crate) fn run(command: &DeadLetters, out: &mut dyn Write) -> Result<(), Error> {
    let place = match &command.action {
        Action::List { place, .. }
        | Action::Show { place, .. }
        | Action::Redrive { place, .. }
        | Action::Discard { place, .. } => place,
    };
    let outputs = Outputs::read(place.outputs.as_deref())?;
    let owner = place.owner();
    let from = outputs.setting(
        &ProcessEnv,
        place.dead_letter_queue.as_deref(),
        "--dead-letter-queue",
        "DEAD_LETTER_QUEUE_URL",
        &format!("{owner}DeadLetterQueueUrl"),
    )?;
    let to = match command.action {
        Action::Redrive { dry_run: false, .. } => {
            let output = format!("{owner}QueueUrl");
            Some(outputs.setting(&ProcessEnv, place.queue.as_deref(), "--queue", "QUEUE_URL", &output)?)
        }
        _ => None,
    };
    if to.as_ref() == Some(&from) {
        return Err(Error::SameQueue);
    }
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let now_ms = u64::try_from(now_ms).unwrap_or(u64::MAX);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = Clients::from_profile().await.sqs();
        let letters = SqsLetters::new(client.clone(), from);
        let queue = to.map(|to| SqsQueue::new(client, to));
        let queue = queue.as_ref().map(|queue| queue as &dyn Queue);
        work(&command.action, &letters, queue, now_ms, out).await
    })
}

impl Place {
    /// The first part of the names of its queues.
    fn owner(&self) -> String {
        match (&self.target, self.stage) {
            (_, Some(Before::Changes)) => "Changes".to_owned(),
            (_, Some(Before::Enrichment)) => "Enrichment".to_owned(),
            (Some(target), None) => logical_name(target.as_str()),
            // clap asks for one of the two.
            (None, None) => String::new(),
        }
    }

    fn is_clear(&self) -> bool {
        self.stage == Some(Before::Changes)
    }
}

async fn work(
    action: &Action,
    letters: &dyn Letters,
    queue: Option<&dyn Queue>,
    now_ms: u64,
    out: &mut dyn Write,
) -> Result<(), Error> {
    match action {
        Action::List { which, .. } => look(letters, &Filter::new(which, now_ms), "listed", out).await,
        Action::Show { id, place, clear_values } => {
            if place.is_clear() && !clear_values {
                return Err(Error::Clear);
            }
            show(letters, id, out).await
        }
        Action::Redrive { place, which, rate, .. } => {
            // A body alone does not say the version of a change that was versioned by its place in the queue.
            let filter = Filter { only_parked: place.is_clear(), ..Filter::new(which, now_ms) };
            let Some(queue) = queue else { return look(letters, &filter, "to be sent back", out).await };
            let counts =
                walk(letters, &filter, Step::Redrive { queue, rate: *rate }, &mut |_| Ok(())).await?;
            summary(&counts, "sent back", out)
        }
        Action::Discard { which, yes: false, .. } => {
            look(letters, &Filter::new(which, now_ms), "to be deleted (say --yes)", out).await
        }
        Action::Discard { which, yes: true, .. } => {
            let mut print = |letter: &Letter| line(letter, out);
            let counts = walk(letters, &Filter::new(which, now_ms), Step::Discard, &mut print).await?;
            summary(&counts, "deleted", out)
        }
    }
}

async fn look(letters: &dyn Letters, filter: &Filter, done: &str, out: &mut dyn Write) -> Result<(), Error> {
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    let mut print = |letter: &Letter| {
        let count = reasons.entry(facts(letter).reason.to_owned()).or_default();
        *count = count.saturating_add(1);
        line(letter, out)
    };
    let counts = walk(letters, filter, Step::Look, &mut print).await?;
    for (reason, count) in &reasons {
        writeln!(out, "{reason}: {count}")?;
    }
    summary(&counts, done, out)
}

async fn show(letters: &dyn Letters, id: &str, out: &mut dyn Write) -> Result<(), Error> {
    let mut found = None;
    let mut keep = |letter: &Letter| {
        found = Some(letter.clone());
        Ok(())
    };
    let filter = Filter { id: Some(id.to_owned()), ..Filter::default() };
    walk(letters, &filter, Step::Look, &mut keep).await?;
    let letter = found.ok_or(Error::NoLetter)?;
    line(&letter, out)?;
    for (name, value) in &letter.attributes {
        // As JSON, so that no control character reaches the terminal.
        writeln!(out, "{name}: {}", serde_json::Value::from(value.as_str()))?;
    }
    let escaped = letter.body.replace(|c: char| c.is_control(), " ");
    writeln!(out, "{escaped}")?;
    Ok(())
}

fn line(letter: &Letter, out: &mut dyn Write) -> io::Result<()> {
    let facts = facts(letter);
    let model = facts.model.as_ref().map_or("-", ModelId::as_str);
    let first = facts.first_ms.map_or_else(|| "-".to_owned(), |first| first.to_string());
    let Letter { id, group, sent_ms, .. } = letter;
    writeln!(out, "{id} {group} {model} {} {} {first} {sent_ms}", facts.reason, facts.tries)
}

fn summary(counts: &Counts, done: &str, out: &mut dyn Write) -> Result<(), Error> {
    let Counts { seen, done: worked, more } = counts;
    writeln!(out, "{seen} seen, {worked} {done}, {} left as they are", seen.saturating_sub(*worked))?;
    if *more {
        writeln!(out, "More may stand behind those: narrow the filters, or work these first.")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
