//! The log of a real PostgreSQL: our reader against `pg_recvlogical`, which writes the same content to a file.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sync_testkit::postgres::{PASSWORD, Server};
use tokio_postgres::Client;

use crate::RECORD;

/// Changes in transactions of 100; 900 bytes of record each.
pub const CHANGES: u64 = 200_000;
/// Rows of the single transaction.
pub const LARGE: u64 = 1_000_000;
/// How often reader and floor take turns; the fastest counts.
const TURNS: usize = 3;

/// What was seen.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Changes per second, to the bodies of Changes messages.
    pub rate: f64,
    /// Changes per second of the floor.
    pub floor: f64,
    /// The most memory that the reader had, in bytes.
    pub memory: u64,
    /// The most that the server had in temporary files at once, in bytes.
    pub temporary: u64,
}

/// Reads many small transactions.
pub fn small(reader: &Path) -> Result<Measured> {
    runtime()?.block_on(measure(reader, CHANGES, 100, TURNS))
}

/// Reads one large one.
pub fn large(reader: &Path) -> Result<Measured> {
    runtime()?.block_on(measure(reader, LARGE, LARGE, 1))
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

async fn measure(reader: &Path, changes: u64, each: u64, turns: usize) -> Result<Measured> {
    let server = Server::start_with("work_mem = '4MB'\nmax_wal_size = '8GB'\ncheckpoint_timeout = '1h'\n")?;
    let client = server.database("bench").await?;
    client.batch_execute(&format!("CREATE ROLE reader LOGIN REPLICATION PASSWORD '{PASSWORD}'")).await?;
    client.batch_execute(&table()?).await?;
    let mut slots = Vec::new();
    for turn in 0..turns {
        for kind in ["ours", "floor"] {
            let slot = format!("{kind}_{turn}");
            let create = format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')");
            client.batch_execute(&create).await?;
            slots.push(slot);
        }
    }
    for slot in slots.iter().filter(|slot| slot.starts_with("ours")) {
        client.batch_execute(&format!("CREATE PUBLICATION {slot} FOR TABLE customers")).await?;
    }
    for first in (0..changes).step_by(usize::try_from(each)?) {
        let insert = format!(
            "INSERT INTO customers SELECT r.* FROM generate_series({first}, {}) AS i,
                LATERAL json_populate_record(NULL::customers, $1::text::json) AS r",
            first + each - 1
        );
        client.execute(&insert.replace("r.*", &columns()?), &[&RECORD]).await?;
    }
    let end: String = client.query_one("SELECT pg_current_wal_flush_lsn()::text", &[]).await?.get(0);

    let mut best = Measured { rate: 0.0, floor: 0.0, memory: 0, temporary: 0 };
    for slot in slots {
        if slot.starts_with("floor") {
            let took = floor(&server, &slot, &end, "ours_0")?;
            best.floor = best.floor.max(rate(changes, took));
            continue;
        }
        let (took, memory, temporary) = ours(&server, reader, &slot, changes, &client).await?;
        best.rate = best.rate.max(rate(changes, took));
        best.memory = best.memory.max(memory);
        best.temporary = best.temporary.max(temporary);
    }
    Ok(best)
}

/// A table with the columns of the record.
fn table() -> Result<String> {
    let record: serde_json::Map<String, serde_json::Value> = serde_json::from_str(RECORD)?;
    let mut sql = "CREATE TABLE customers (customer_id bigint PRIMARY KEY".to_owned();
    for (name, value) in record.iter().filter(|(name, _)| *name != "customer_id") {
        let kind = match value {
            serde_json::Value::Bool(_) => "boolean",
            serde_json::Value::Number(_) => "numeric",
            serde_json::Value::Object(_) => "jsonb",
            _ if name.ends_with("_at") => "timestamptz",
            _ => "text",
        };
        write!(sql, ", {name} {kind}")?;
    }
    sql.push_str("); GRANT SELECT ON customers TO reader");
    Ok(sql)
}

/// The columns of a row of the series.
fn columns() -> Result<String> {
    let record: serde_json::Map<String, serde_json::Value> = serde_json::from_str(RECORD)?;
    let mut columns = "i".to_owned();
    for name in record.keys().filter(|name| *name != "customer_id") {
        write!(columns, ", r.{name}")?;
    }
    Ok(columns)
}

async fn ours(
    server: &Server,
    reader: &Path,
    slot: &str,
    changes: u64,
    client: &Client,
) -> Result<(Duration, u64, u64)> {
    const FILES: &str = "SELECT coalesce(sum(size), 0)::bigint FROM pg_ls_tmpdir()";
    let mut command = Command::new(reader);
    command.arg(server.url_as("reader", "bench")).arg(slot).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut running = command.spawn()?;
    let mut temporary = 0;
    while running.try_wait()?.is_none() {
        let now: i64 = client.query_one(FILES, &[]).await?.get(0);
        temporary = temporary.max(now.cast_unsigned());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let output = running.wait_with_output()?;
    ensure!(output.status.success(), "{} failed", reader.display());
    let text = String::from_utf8(output.stdout)?;
    let mut numbers = text.split_whitespace().map(str::parse::<u64>);
    let mut next = || numbers.next().context("a number is missing")?.context("no number");
    let (took, read, memory) = (next()?, next()?, next()?);
    ensure!(read == changes, "{read} of {changes} changes were read");
    Ok((Duration::from_nanos(took), memory, temporary))
}

fn floor(server: &Server, slot: &str, end: &str, publication: &str) -> Result<Duration> {
    let file = server.socket().join("received");
    let mut command = server.command("pg_recvlogical");
    command
        .args(["--start", "--no-loop", "--host", "127.0.0.1", "--username", "postgres", "--dbname", "bench"])
        .arg("--port")
        .arg(server.port().to_string())
        .args(["--slot", slot, "--endpos", end, "--option", "proto_version=1", "--option"])
        .arg(format!("publication_names={publication}"))
        .arg("--file")
        .arg(&file);
    let start = Instant::now();
    ensure!(command.stdin(Stdio::null()).status()?.success(), "pg_recvlogical failed");
    let took = start.elapsed();
    std::fs::remove_file(&file).context("pg_recvlogical wrote nothing")?;
    Ok(took)
}

#[expect(clippy::cast_precision_loss, reason = "nobody waits for 2^53 changes")]
fn rate(changes: u64, took: Duration) -> f64 {
    changes as f64 / took.as_secs_f64()
}
