//! Everything that one run needs, started in the right order: emulator, targets, lookup service, secrets, stack, sources.

use std::io::{Read, Write};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::artifacts;
use crate::aws::Aws;
use crate::emulator::Emulator;
use crate::ink::Ink;
use crate::lookup::Lookup;
use crate::place::RunFolder;
use crate::pos::PointOfSale;
use crate::preferences::Preferences;
use crate::signature;
use crate::source::Source;
use crate::stack::{self, Stack};
use crate::target::{Auth, Target};

/// A running whole.
pub struct Rig {
    /// The loyalty programme: customers only, signed.
    pub loyalty: Target,
    /// The warehouse: everything, with an API key.
    pub warehouse: Target,
    /// The service that `enrich` asks.
    pub lookup: Lookup,
    /// The CRM: customers.
    pub crm: Source,
    /// The shop: prices and stores.
    pub shop: Source,
    /// The back office: settings.
    pub backoffice: Source,
    /// The point-of-sale system: a database that is read.
    pub pos: PointOfSale,
    /// The consent service: a DynamoDB table whose stream is read.
    pub preferences: Preferences,
    /// The deployed stack.
    pub stack: Stack,
    /// The folder of the run.
    pub run: RunFolder,
    // Last, so that the emulator goes after everything that talks to it.
    emulator: Emulator,
}

/// Hears how the start goes on.
pub trait Progress: Send + Sync {
    /// A stage begins.
    fn begin(&self, stage: &str);
    /// The stage that began last ended.
    fn end(&self, seconds: f64, note: &str);
}

/// Nobody listens.
#[derive(Debug)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str) {}
    fn end(&self, _: f64, _: &str) {}
}

/// Prints each stage with its seconds.
#[derive(Debug)]
pub struct Lines;

impl Progress for Lines {
    fn begin(&self, stage: &str) {
        // Nothing is to be done about a closed terminal, here and below.
        let mut out = std::io::stdout();
        let _ = write!(out, "  {stage:<46}").and_then(|()| out.flush());
    }

    fn end(&self, seconds: f64, note: &str) {
        let _ = writeln!(std::io::stdout(), "{seconds:6.1} s   {note}");
    }
}

/// Runs a stage and tells how long it took.
pub async fn stage<T>(
    progress: &dyn Progress,
    name: &str,
    work: impl Future<Output = Result<(T, String)>>,
) -> Result<T> {
    progress.begin(name);
    let start = Instant::now();
    let (made, note) = work.await.with_context(|| name.to_owned())?;
    progress.end(start.elapsed().as_secs_f64(), &note);
    Ok(made)
}

impl Rig {
    /// Builds, starts and deploys everything; what stands in the database already is written with `ink`.
    pub async fn start(purpose: &str, ink: &Ink, progress: &dyn Progress) -> Result<Self> {
        let run = RunFolder::new(purpose)?;
        let template = stage(progress, "build with sam build", async {
            Ok((artifacts::build(&run).await?, String::new()))
        })
        .await?;
        let emulator = stage(progress, "start the emulator", async {
            let emulator = Emulator::start(&run).await?;
            let note = emulator.endpoint().to_owned();
            Ok((emulator, note))
        })
        .await?;
        let aws = emulator.aws();

        let pos = stage(progress, "start PostgreSQL, make its tables ready", async {
            let pos = PointOfSale::start(ink).await?;
            pos.prepare().await?;
            aws.put_secret("datasync/source/pos", &pos.url()).await?;
            Ok((pos, "what `datasync sql` prints, run by its administrator".to_owned()))
        })
        .await?;

        let preferences = stage(progress, "create a DynamoDB table with a stream", async {
            Ok((Preferences::create(&aws, ink).await?, crate::preferences::TABLE.to_owned()))
        })
        .await?;

        let (loyalty, warehouse, lookup, secrets) =
            stage(progress, "start targets and lookup service", async {
                let secrets = Secrets::new()?;
                secrets.store(&aws).await?;
                let loyalty =
                    Target::start("loyalty", Auth::StandardWebhooks(secrets.loyalty.clone())).await?;
                let auth = Auth::ApiKey { header: "x-api-key".to_owned(), key: secrets.warehouse.clone() };
                let warehouse = Target::start("warehouse", auth).await?;
                let lookup = Lookup::start().await?;
                let note = format!(
                    "loyalty :{}, warehouse :{}, lookup :{}",
                    loyalty.port(),
                    warehouse.port(),
                    lookup.port()
                );
                Ok(((loyalty, warehouse, lookup, secrets), note))
            })
            .await?;

        let stack = stage(progress, "deploy with sam deploy", async {
            let configuration = stack::configure(
                &run,
                &[
                    ("loyalty.example.com", loyalty.port()),
                    ("warehouse.example.com", warehouse.port()),
                    ("profiles.example.com", lookup.port()),
                ],
            )?;
            let stack =
                stack::deploy(&run, &aws, &template, &configuration, preferences.stream_arn()).await?;
            let note = format!("{} resources", stack.resources().len());
            Ok((stack, note))
        })
        .await?;
        stage(progress, "check topic and queues", async {
            stack.check_topic_is_fifo().await?;
            stack.check_queues().await?;
            Ok(((), "a publish without a group id is refused".to_owned()))
        })
        .await?;

        let push_url = stack.push_url()?;
        Ok(Self {
            crm: Source::new("crm", &secrets.crm, &push_url),
            shop: Source::new("shop", &secrets.shop, &push_url),
            backoffice: Source::new("backoffice", &secrets.backoffice, &push_url),
            loyalty,
            warehouse,
            lookup,
            pos,
            preferences,
            stack,
            run,
            emulator,
        })
    }

    /// A client for the emulator.
    pub fn aws(&self) -> &Aws {
        self.stack.aws()
    }

    /// The emulator.
    pub fn emulator(&self) -> &Emulator {
        &self.emulator
    }

    /// Asks the function of a target, by its name in the template, as `datasync targets` and its schedule do.
    pub async fn ask(&self, target: &str, work: &Value) -> Result<Value> {
        let function = self.stack.output(&format!("Deliver{target}Name"))?;
        let path = format!("/2015-03-31/functions/{function}/invocations");
        let answer = self.aws().lambda("POST", &path, &json!({ "work": work })).await?;
        match answer["errorMessage"].as_str() {
            None => Ok(answer),
            Some(message) => bail!("{function} says: {message}"),
        }
    }

    /// The source of this name.
    pub fn source(&self, name: &str) -> Result<&Source> {
        [&self.crm, &self.shop, &self.backoffice]
            .into_iter()
            .find(|source| source.name() == name)
            .context("no such source")
    }
}

/// The secrets of one run; new ones each time.
struct Secrets {
    crm: String,
    shop: String,
    backoffice: String,
    loyalty: String,
    warehouse: String,
}

impl Secrets {
    fn new() -> Result<Self> {
        Ok(Self {
            crm: signature::secret(&random::<32>()?),
            shop: signature::secret(&random::<32>()?),
            backoffice: signature::secret(&random::<32>()?),
            loyalty: signature::secret(&random::<32>()?),
            warehouse: random::<24>()?.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }

    async fn store(&self, aws: &Aws) -> Result<()> {
        // One as a pair, as it looks while a secret is being replaced.
        let shop = json!({ "current": signature::secret(&random::<32>()?), "previous": self.shop });
        aws.put_secret("datasync/source/crm", &self.crm).await?;
        aws.put_secret("datasync/source/shop", &shop.to_string()).await?;
        aws.put_secret("datasync/source/backoffice", &self.backoffice).await?;
        aws.put_secret("datasync/target/loyalty", &self.loyalty).await?;
        aws.put_secret("datasync/target/warehouse", &self.warehouse).await
    }
}

/// Bytes from the system's source of randomness.
fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
