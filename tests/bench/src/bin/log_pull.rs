//! Reads a replication slot to its end and makes the bodies of Changes messages of what it holds, without sending them:
//! `log_pull URL NAME`, where slot and publication are called NAME. Prints nanoseconds, changes, and the most memory that
//! the process ever had, in bytes.

use std::io::Write;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use sync_config::{ConfigFile, SyncConfig};
use sync_domain::capture::{Draft, Place, Same, prepare};
use sync_domain::config::Postgres;
use sync_domain::id::SourceId;
use sync_domain::policy::CompiledPolicy;
use sync_domain::ports::KeyBytes;
use sync_domain::protect::IdHasher;
use sync_sources::Row;
use sync_sources::postgres::{Opening, open};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().context("no URL")?;
    let name = arguments.next().context("no slot")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (took, changes) = runtime.block_on(pull(url, &name))?;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes: u64 = peak.and_then(|peak| peak.trim().strip_suffix(" kB")).unwrap_or("0").parse()?;
    Ok(writeln!(std::io::stdout(), "{took} {changes} {}", kilobytes * 1024)?)
}

async fn pull(url: String, name: &str) -> Result<(u128, u64)> {
    let config = SyncConfig::parse(&[ConfigFile::new("models/customer.yaml", sync_bench::MODEL)])
        .map_err(|errors| anyhow!("{errors:?}"))?;
    let model = config.models().next().context("one model")?;
    let policy =
        CompiledPolicy::compile(model, "0123456789abcdef").map_err(|errors| anyhow!("{errors:?}"))?;
    let source: SourceId = "crm".parse()?;
    let ids = IdHasher::new(&KeyBytes::new([1; 32]));
    let postgres: Postgres = serde_json::from_value(serde_json::json!({
        "url_secret": "none", "mode": "log", "tables": { "public.customers": "customer" }, "slot": name,
        "publication": name,
    }))?;
    let opening = Opening {
        source: &source,
        postgres: &postgres,
        models: &[model],
        url: url.into(),
        root_certificates: None,
        allow_loopback: true,
    };
    let mut reader = open(opening).await?;
    let start = Instant::now();
    let (mut changes, mut cursor) = (0, None::<String>);
    // As the function does: polls follow each other, here until one has nothing new. The first ones of a large transaction
    // have no rows yet.
    loop {
        let before = cursor.clone();
        reader.begin(cursor.as_deref(), 0).await?;
        while let Some(page) = reader.page().await? {
            for row in &page.rows {
                let body = body(&source, &policy, &ids, row)?;
                ensure!(body.len() > 100, "no message was made");
                changes += 1;
            }
            cursor = Some(page.cursor);
        }
        if cursor == before {
            return Ok((start.elapsed().as_nanos(), changes));
        }
        if let Some(cursor) = &cursor {
            reader.confirm(cursor).await?;
        }
    }
}

fn body(source: &SourceId, policy: &CompiledPolicy, ids: &IdHasher, row: &Row) -> Result<String> {
    let draft = Draft {
        operation: row.operation,
        place: Place::Version(row.version),
        occurred_at: &row.occurred_at,
        origin: source.as_str(),
        traceparent: None,
        run: None,
        only: None,
        key: None,
        before: row.before.as_deref(),
        after: row.after.as_deref(),
        same: Same::Id,
    };
    let prepared = prepare(source, policy, ids, &draft).map_err(|reason| anyhow!("{reason:?}"))?;
    Ok(prepared.entry.body)
}
