//! The floor: `serde_json` parses the record to a `Value` and writes it back. Prints nanoseconds.

use std::io::Write;

fn main() -> anyhow::Result<()> {
    let body = std::env::args().nth(1).unwrap_or_else(|| sync_bench::RECORD.to_owned());
    let ns = sync_bench::nanoseconds(|| {
        let value: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
        serde_json::to_string(&value)
    });
    Ok(writeln!(std::io::stdout(), "{ns:.0}")?)
}
