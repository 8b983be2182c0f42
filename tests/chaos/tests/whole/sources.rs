//! The systems that changes come from: a database that is read in four ways, and two systems that push. Each record has one
//! writer, who knows the order of its commits.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sync_chaos::{Dice, Mark, Shows};
use sync_config::{ConfigFile, SyncConfig};
use sync_sources::postgres::setup;
use sync_testkit::mapping::Invoked;
use sync_testkit::postgres::{PASSWORD, Server};
use sync_tests::change::RecordName;
use sync_tests::signature;
use tokio_postgres::Client;

use crate::crew::Crew;
use crate::run::Run;
use crate::works::PUSH_SECRET;

/// Every model, in the order of the sources below.
pub(crate) const MODELS: [&str; 6] = ["by_log", "by_trigger", "by_xid", "by_time", "pushed", "looked_up"];
/// Sources that are read: name, model (the table's name too), mode, and what else is said of the table.
pub(crate) const PULLED: [(&str, &str, &str, &str); 4] = [
    ("log", "by_log", "log", ""),
    ("trigger", "by_trigger", "trigger", ""),
    ("xid", "by_xid", "timestamp", r#", cursor: { xid8: changed_xid }, compare_keys: "0s""#),
    ("time", "by_time", "timestamp", r#", cursor: { timestamp: written }, compare_keys: "0s""#),
];
/// Sources that push: name and model.
pub(crate) const PUSHED: [(&str, &str); 2] = [("till", "pushed"), ("desk", "looked_up")];

const ROLE: &str = "reader";
const DATABASE: &str = "whole";
/// So many of a hundred commits are of a model, in the order of [`MODELS`]. Of the two in the middle only the last state at
/// each look goes on.
pub(crate) const SHARES: [u64; 6] = [28, 26, 6, 6, 22, 12];
/// A mark that a target refuses, and one that no policy can protect, once in so many.
pub(crate) const REFUSED_EVERY: u64 = 211;
const UNREADABLE_EVERY: u64 = 307;

/// What a source shows of its commits.
pub(crate) fn shows(model: &str) -> Shows {
    if matches!(model, "by_xid" | "by_time") { Shows::Last } else { Shows::Every }
}

/// The database with its tables, not captured yet.
pub(crate) async fn database() -> Result<(Server, String)> {
    let server = tokio::task::spawn_blocking(Server::start).await?.context("PostgreSQL does not start")?;
    let admin = server.database(DATABASE).await?;
    for (_, table, ..) in PULLED {
        let sql = format!(
            "CREATE TABLE {table} (id integer PRIMARY KEY, mark bigint NOT NULL, email text, note text, \
             written timestamptz NOT NULL DEFAULT now())"
        );
        admin.batch_execute(&sql).await?;
    }
    admin.batch_execute(&format!("CREATE ROLE {ROLE} LOGIN REPLICATION PASSWORD '{PASSWORD}'")).await?;
    let url = server.url_as(ROLE, DATABASE);
    Ok((server, url))
}

/// What an administrator does once.
pub(crate) async fn prepare(server: &Server, configuration: &std::path::Path) -> Result<()> {
    let admin = server.client(DATABASE).await?;
    let mut files = Vec::new();
    for kind in ["models", "sources"] {
        for entry in std::fs::read_dir(configuration.join(kind))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.push(ConfigFile::new(format!("{kind}/{name}"), std::fs::read_to_string(&path)?));
        }
    }
    let config = match SyncConfig::parse(&files) {
        Ok(config) => config,
        Err(errors) => bail!("the configuration is wrong: {errors:?}"),
    };
    let models: Vec<_> = config.models().collect();
    for source in config.sources() {
        if let Some(postgres) = &source.postgres {
            admin.batch_execute(&setup(&source.source, postgres, &models, ROLE)?).await?;
        }
    }
    Ok(())
}

fn record(model: &str, id: u64) -> RecordName {
    RecordName { model: model.to_owned(), key: format!(r#"{{"id":{id}}}"#) }
}

/// Chooses what is done with which record.
struct Chooser {
    keys: u64,
    there: BTreeSet<u64>,
    mark: u64,
    dice: Dice,
}

impl Chooser {
    fn new(keys: u64, dice: Dice) -> Self {
        Self { keys, there: BTreeSet::new(), mark: 0, dice }
    }

    /// A record and its next state.
    fn next(&mut self) -> (u64, Mark) {
        let id = 1 + self.dice.below(self.keys);
        if self.there.contains(&id) && self.dice.below(12) == 0 {
            self.there.remove(&id);
            return (id, None);
        }
        self.there.insert(id);
        self.mark += 1;
        (id, Some(self.mark))
    }
}

/// Writes a table until it has made so many commits of a row.
pub(crate) async fn write(
    run: Arc<Run>,
    server: Arc<Server>,
    model: &'static str,
    commits: u64,
    dice: Dice,
) -> Result<()> {
    let client = server.client(DATABASE).await?;
    let mut chooser = Chooser::new(run.keys, dice);
    let mut made = 0;
    while made < commits {
        run.wait_for_room(model).await;
        let before = chooser.there.clone();
        let wanted: Vec<(u64, Mark)> = (0..=chooser.dice.below(8)).map(|_| chooser.next()).collect();
        client.batch_execute("BEGIN").await?;
        for (id, mark) in &wanted {
            statement(&client, model, *id, *mark).await?;
        }
        if chooser.dice.below(20) == 0 {
            client.batch_execute("ROLLBACK").await?;
            chooser.there = before;
            continue;
        }
        client.batch_execute("COMMIT").await?;
        made += wanted.len() as u64;
        run.commit(model, wanted.into_iter().map(|(id, mark)| (record(model, id), mark)));
        // So that looks of the reader fall between commits.
        tokio::time::sleep(Duration::from_millis(chooser.dice.below(20))).await;
    }
    Ok(())
}

async fn statement(client: &Client, table: &str, id: u64, mark: Mark) -> Result<()> {
    let sql = match mark {
        Some(mark) => format!(
            "INSERT INTO {table} (id, mark, email, note) VALUES ({id}, {mark}, 'who-{id}@example.com', 'note {mark}') \
             ON CONFLICT (id) DO UPDATE SET mark = excluded.mark, note = excluded.note, written = clock_timestamp()"
        ),
        None => format!("DELETE FROM {table} WHERE id = {id}"),
    };
    client.batch_execute(&sql).await.with_context(|| sql)
}

/// Pushes until it has pushed so many changes, each until it is accepted.
pub(crate) async fn push(
    run: Arc<Run>,
    mut function: Crew,
    (source, model): (&'static str, &'static str),
    commits: u64,
    dice: Dice,
) -> Result<()> {
    let mut chooser = Chooser::new(run.keys, dice);
    let (mut made, mut version, mut requests) = (0, 0_u64, 0_u64);
    while made < commits {
        run.wait_for_room(model).await;
        let (mut changes, mut committed) = (Vec::new(), Vec::new());
        for _ in 0..=chooser.dice.below(10) {
            let (id, mark) = chooser.next();
            version += 1;
            changes.push(change(model, id, mark, version));
            committed.push((record(model, id), mark));
        }
        made += committed.len() as u64;
        run.commit(model, committed.into_iter());
        let repeats = chooser.dice.below(10) == 0;
        while !changes.is_empty() {
            requests += 1;
            let body = json!({ "changes": changes }).to_string();
            let id = format!("msg_{source}_{requests}");
            let rejected = accepted(&mut function, source, &id, &body).await?;
            if repeats {
                // The sender did not see the answer.
                accepted(&mut function, source, &id, &body).await?;
            }
            changes = rejected.into_iter().filter_map(|index| changes.get(index).cloned()).collect();
        }
    }
    Ok(())
}

fn change(model: &str, id: u64, mark: Mark, version: u64) -> Value {
    // What no policy can protect goes no further than the transformer.
    let note = |mark: u64| {
        if mark.is_multiple_of(UNREADABLE_EVERY) {
            json!({ "odd": mark })
        } else {
            json!(format!("note {mark}"))
        }
    };
    let after = mark.map(|mark| json!({ "id": id, "mark": mark, "email": format!("who-{id}@example.com"), "note": note(mark) }));
    json!({
        "model": model,
        "operation": if after.is_some() { "update" } else { "delete" },
        "key": { "id": id },
        "version": version,
        "occurred_at": "2026-11-24T20:19:23Z",
        "after": after,
    })
}

/// Sends a request until somebody answers for it; gives the places of the changes that are to be sent again.
async fn accepted(function: &mut Crew, source: &str, id: &str, body: &str) -> Result<Vec<usize>> {
    loop {
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
        let event = json!({
            "rawPath": format!("/v1/sources/{source}/changes"),
            "headers": {
                "content-type": "application/json",
                "webhook-id": id,
                "webhook-timestamp": now.to_string(),
                "webhook-signature": signature::sign(PUSH_SECRET, id, now, body.as_bytes())?,
            },
            "requestContext": { "http": { "method": "POST" } },
            "body": body,
            "isBase64Encoded": false,
        });
        let Invoked::Answered(answer) = function.run(event.to_string()).await? else { continue };
        let answer: Value = serde_json::from_str(&answer).context("the push function answers")?;
        let said: Value =
            serde_json::from_str(answer["body"].as_str().unwrap_or_default()).unwrap_or_default();
        match answer["statusCode"].as_u64() {
            Some(202) => {
                let rejected = said["rejected"].as_array().cloned().unwrap_or_default();
                if let Some(other) = rejected.iter().find(|one| one["code"] != "unavailable") {
                    bail!("a change was refused: {other}");
                }
                let places = rejected.iter().filter_map(|one| usize::try_from(one["index"].as_u64()?).ok());
                return Ok(places.collect());
            }
            Some(503) => tokio::time::sleep(Duration::from_millis(200)).await,
            _ => bail!("a push was answered with {answer}"),
        }
    }
}

/// Lets a source be looked at for the first time.
pub(crate) async fn begin(run: &Run, function: &mut Crew, source: &'static str) -> Result<()> {
    loop {
        let event = json!({ "source": source, "run_for": "0s" }).to_string();
        match function.run(event).await? {
            Invoked::Answered(answer) if answer.contains(r#""ended":"done""#) => return Ok(()),
            Invoked::Answered(answer) => bail!("{source} is not read: {answer}"),
            Invoked::Failed | Invoked::Throttled => run.works.end_lease(source).await?,
        }
    }
}

/// Reads a source look by look, as a schedule has it, until two looks behind the last write find nothing.
pub(crate) async fn pull(run: Arc<Run>, mut function: Crew, source: &'static str) -> Result<()> {
    let mut quiet = 0;
    while quiet < 2 {
        let last = run.written();
        // The last ones are longer than mode timestamp stays behind the clock.
        let run_for = if last { "1500ms" } else { "0s" };
        let event = json!({ "source": source, "run_for": run_for }).to_string();
        let Invoked::Answered(answer) = function.run(event).await? else {
            run.works.end_lease(source).await?;
            continue;
        };
        let report: Value = serde_json::from_str(&answer).context("the reader answers")?;
        match report["ended"].as_str() {
            Some("done") if report["refused"] == 0 => {
                // One that ran out of time in its first poll has not seen everything.
                let looked = report["polls"].as_u64().is_some_and(|polls| polls > 0);
                quiet = if last && looked && report["changes"] == 0 { quiet + 1 } else { 0 };
            }
            Some("busy" | "unavailable" | "overtaken") => {}
            _ => bail!("{source} is not read: {answer}"),
        }
        // One that found nothing comes a little later.
        let pause = if report["changes"] == 0 { 400 } else { 150 };
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    Ok(())
}
