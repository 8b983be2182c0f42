//! The floor of `deliver`: a bare loop over the same HTTP client and target, ten requests side by side, without
//! signature, ledger or mark. Takes the target's address; prints the median nanoseconds of a batch of ten.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use sync_bench::pipeline::{BATCH, median};
use sync_http::{Bytes, Client, Guard, HeaderMap, HeaderValue, Method, Request, header};

const BATCHES: usize = 200;

fn main() -> Result<()> {
    let url: url::Url = std::env::args().nth(1).context("no address to send to")?.parse()?;
    let body = Bytes::from(sync_bench::change());
    let client = Client::new(Guard { allow_loopback: true, allow_networks: Vec::new(), ports: Vec::new() });
    let content = HeaderValue::from_static("application/cloudevents+json");
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, content)]);
    let send = async || {
        let (url, headers, body) = (url.clone(), headers.clone(), body.clone());
        let (timeout, max_body) = (Duration::from_secs(10), 64 << 10);
        let response =
            client.send(Request { method: Method::POST, url, headers, body, timeout, max_body }).await?;
        ensure!(response.status == 200, "the target answered {}", response.status);
        Ok(())
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let took = runtime.block_on(async {
        let mut took = Vec::with_capacity(BATCHES);
        for _ in 0..BATCHES {
            let start = Instant::now();
            try_join_all((0..BATCH).map(|_| send())).await?;
            took.push(start.elapsed());
        }
        Ok::<_, anyhow::Error>(took)
    })?;
    // The first batch opens the connections.
    Ok(writeln!(std::io::stdout(), "{}", median(took.get(1..).unwrap_or_default()).as_nanos())?)
}
