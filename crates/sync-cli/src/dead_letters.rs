//! `datasync dead-letters`: the letters of one target or stage, looked at, sent back or deleted.
//!
//! **Invariant.** A letter is deleted only after its queue confirmed it (redrive) or after a note of it stands in the ticket
//! table (discard); a run that ends anywhere leaves each letter in one of the two queues at least. What then arrives twice is
//! one message by its deduplication id, or `unchanged` or `stale` by the ledger of `deliver`.

mod letter;
mod shown;
mod walk;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand, ValueEnum};
use sync_aws::clients::Clients;
use sync_aws::dynamodb::{Discards, DynamoDiscards};
use sync_aws::sqs::SqsQueue;
use sync_aws::sqs::letters::{Letter, Letters, SqsLetters, Standing, dead_letters_of};
use sync_config::SyncConfig;
use sync_domain::id::{ModelId, RecordId, TargetId};
use sync_domain::ports::{self, Queue};
use sync_lambda::settings::ProcessEnv;

use self::letter::{Ago, Filter, Key, facts};
use self::walk::{Counts, Note, Step, walk};
use crate::call::runtime;
use crate::outputs::{self, Outputs};
use crate::template::logical_name;
use crate::{DEFAULT_CONFIG, validate};

/// Looks at dead letters, sends them back, or deletes them.
#[derive(Debug, Args)]
pub struct DeadLetters {
    #[command(subcommand)]
    /// What to do.
    pub action: Action,
}

/// What to do with dead letters. While a command runs the letters that it saw are hidden from others.
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
    /// Prints one: its attributes, and of its body what says nothing of a person.
    Show {
        /// Its message id, as list prints it.
        id: String,
        #[command(flatten)]
        /// Where.
        place: Place,
        /// The folder with models/, which say what may be shown.
        #[arg(long, default_value = DEFAULT_CONFIG)]
        config: PathBuf,
    },
    /// Sends them back to the queue that they came from. Only letters that stand there already: one that fails again stays.
    Redrive {
        #[command(flatten)]
        /// Where.
        place: Place,
        #[command(flatten)]
        /// Which.
        which: Which,
        /// The URL of the queue that they go back to; else the output `<Target or stage>QueueUrl` or QUEUE_URL.
        #[arg(long)]
        queue: Option<String>,
        /// Letters per second; they go in bursts of ten at most.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=3000))]
        rate: u32,
        /// Only says what would be sent.
        #[arg(long)]
        dry_run: bool,
    },
    /// Deletes them for good and notes in the ticket table that they were there.
    Discard {
        #[command(flatten)]
        /// Where.
        place: Place,
        #[command(flatten)]
        /// Which.
        which: Which,
        /// Why, for whoever asks later: up to 200 characters, no value of a record.
        #[arg(long, value_parser = because)]
        because: String,
        /// The ticket table; else the output `TicketTableName` or TICKET_TABLE.
        #[arg(long)]
        ticket_table: Option<String>,
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
    /// The dead-letter queue's URL; else the output `<Target or stage>DeadLetterQueueUrl` or DEAD_LETTER_QUEUE_URL.
    #[arg(long)]
    pub dead_letter_queue: Option<String>,
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
    /// Of the record with this key, as its ticket has it: a JSON object. With `--stage changes` the key in clear.
    #[arg(long)]
    pub key: Option<Key>,
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
    /// It is not known which queue or table it is.
    #[error(transparent)]
    Where(#[from] outputs::Error),
    /// A call failed; nothing is lost, and what was done is done.
    #[error("a call to AWS failed; nothing is lost: run the command again to go on")]
    Call(#[from] ports::Error),
    /// Nothing can be written, or the runtime for the calls cannot be made.
    #[error("cannot call or write")]
    Shell(#[from] io::Error),
    /// The letter was not found.
    #[error("no such letter is visible; one that another command or the head of its group hides is not seen")]
    NoLetter,
    /// The letters are of another queue.
    #[error(
        "nothing was sent: the redrive policy of the queue to send to does not name this dead-letter queue; see --queue and --dead-letter-queue"
    )]
    NotItsQueue,
    /// No model can be read.
    #[error(
        "the models, which say what may be shown, cannot be read; see --config and run datasync validate"
    )]
    Models,
}

fn because(text: &str) -> Result<String, &'static str> {
    let fits = !text.trim().is_empty() && text.chars().count() <= 200 && !text.contains(char::is_control);
    if fits { Ok(text.to_owned()) } else { Err("one line of 1 to 200 characters") }
}

pub(crate) fn run(command: &DeadLetters, out: &mut dyn Write) -> Result<(), Error> {
    let action = &command.action;
    let place = action.place();
    let outputs = Outputs::read(place.outputs.as_deref())?;
    let setting = |given: &Option<String>, option, variable, output: &str| {
        outputs.setting(&ProcessEnv, given.as_deref(), option, variable, output)
    };
    let (owner, given) = (place.owner(), &place.dead_letter_queue);
    let output = format!("{owner}DeadLetterQueueUrl");
    let from = setting(given, "--dead-letter-queue", "DEAD_LETTER_QUEUE_URL", &output)?;
    let to = match action {
        Action::Redrive { queue, .. } => {
            Some(setting(queue, "--queue", "QUEUE_URL", &format!("{owner}QueueUrl"))?)
        }
        _ => None,
    };
    let table = match action {
        Action::Discard { ticket_table, .. } => {
            Some(setting(ticket_table, "--ticket-table", "TICKET_TABLE", "TicketTableName")?)
        }
        _ => None,
    };
    runtime()?.block_on(async {
        let clients = Clients::from_profile().await;
        let letters = SqsLetters::new(clients.sqs(), from);
        let standing = letters.standing().await?;
        if let Some(to) = &to
            && dead_letters_of(&clients.sqs(), to).await?.as_ref() != Some(&standing.arn)
        {
            return Err(Error::NotItsQueue);
        }
        let queue = to.map(|to| SqsQueue::new(clients.sqs(), to));
        let discards = table.map(|table| DynamoDiscards::new(clients.dynamodb(), table));
        let desk = Desk {
            letters: &letters,
            standing,
            queue: queue.as_ref().map(|queue| queue as &dyn Queue),
            discards: discards.as_ref().map(|discards| discards as &dyn Discards),
            now_ms: now_ms(),
        };
        desk.work(action, out).await
    })
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

impl Action {
    fn place(&self) -> &Place {
        match self {
            Self::List { place, .. }
            | Self::Show { place, .. }
            | Self::Redrive { place, .. }
            | Self::Discard { place, .. } => place,
        }
    }
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
}

/// What a command works with.
struct Desk<'a> {
    letters: &'a dyn Letters,
    /// How the dead-letter queue stood before the command.
    standing: Standing,
    /// Where letters go back to, for a redrive.
    queue: Option<&'a dyn Queue>,
    /// Where they are noted, for a discard.
    discards: Option<&'a dyn Discards>,
    now_ms: u64,
}

impl Desk<'_> {
    async fn work(&self, action: &Action, out: &mut dyn Write) -> Result<(), Error> {
        match action {
            Action::List { which, .. } => self.look(&Filter::new(which, self.now_ms), "listed", out).await,
            Action::Show { id, config, .. } => self.show(id, config, out).await,
            Action::Redrive { place, which, rate, dry_run, .. } => {
                // A body alone does not say the version of a change that was versioned by its place in the queue.
                let only_parked = place.stage == Some(Before::Changes);
                let filter = Filter { only_parked, ..Filter::new(which, self.now_ms) };
                let Some(queue) = self.queue.filter(|_| !dry_run) else {
                    return self.look(&filter, "to be sent back", out).await;
                };
                let step = Step::Redrive { queue, rate: *rate };
                let counts = walk(self.letters, &filter, step, &mut |_| Ok(())).await?;
                self.summary(&counts, "sent back", out)
            }
            Action::Discard { which, because, yes, .. } => {
                let filter = Filter::new(which, self.now_ms);
                let Some(discards) = self.discards.filter(|_| *yes) else {
                    return self.look(&filter, "to be deleted (say --yes)", out).await;
                };
                let at = self.now_ms / 1000;
                let step = Step::Discard(Note { discards, because, queue: &self.standing.arn, at });
                let counts = walk(self.letters, &filter, step, &mut |letter| line(letter, out)).await?;
                self.summary(&counts, "deleted", out)
            }
        }
    }

    async fn look(&self, filter: &Filter, done: &str, out: &mut dyn Write) -> Result<(), Error> {
        let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
        let mut print = |letter: &Letter| {
            let count = reasons.entry(facts(letter).reason.to_owned()).or_default();
            *count = count.saturating_add(1);
            line(letter, out)
        };
        let counts = walk(self.letters, filter, Step::Look, &mut print).await?;
        for (reason, count) in &reasons {
            writeln!(out, "{reason}: {count}")?;
        }
        self.summary(&counts, done, out)
    }

    async fn show(&self, id: &str, config: &Path, out: &mut dyn Write) -> Result<(), Error> {
        let files = validate::read(config).map_err(|_| Error::Models)?;
        let config = SyncConfig::parse(&files).map_err(|_| Error::Models)?;
        let mut found = None;
        let mut keep = |letter: &Letter| {
            found = Some(letter.clone());
            Ok(())
        };
        let filter = Filter { id: Some(id.to_owned()), ..Filter::default() };
        walk(self.letters, &filter, Step::Look, &mut keep).await?;
        let letter = found.ok_or(Error::NoLetter)?;
        line(&letter, out)?;
        let model = facts(&letter).model.and_then(|model| config.model(&model));
        Ok(shown::show(&letter, model, out)?)
    }

    /// What a walk came to, and what it did not see.
    fn summary(&self, counts: &Counts, done: &str, out: &mut dyn Write) -> Result<(), Error> {
        let Counts { seen, done: worked, more } = counts;
        writeln!(out, "{seen} seen, {worked} {done}, {} left as they are", seen.saturating_sub(*worked))?;
        let Standing { visible, hidden, .. } = self.standing;
        if *more || visible > *seen {
            writeln!(
                out,
                "About {visible} stood there. Those not seen stand behind others of their record, or behind very many: work these first."
            )?;
        }
        if hidden > 0 {
            writeln!(
                out,
                "About {hidden} were hidden: by another command, or by one that was killed minutes ago."
            )?;
        }
        Ok(())
    }
}

fn line(letter: &Letter, out: &mut dyn Write) -> io::Result<()> {
    let facts = facts(letter);
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let (tries, first) = (number(facts.tries.map(u64::from)), number(facts.first_ms));
    let model = facts.model.as_ref().map_or("-", ModelId::as_str);
    let Letter { id, group, sent_ms, .. } = letter;
    writeln!(out, "{id} {group} {model} {} {tries} {first} {sent_ms}", facts.reason)
}

#[cfg(test)]
mod tests;
