//! `serde_json` parses the text of the first argument to a `Value` and writes it back. Prints nanoseconds.

#[path = "../../src/clock.rs"]
mod clock;

use std::io::Write;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let text = std::env::args().nth(1).ok_or("no text to parse")?;
    let _: serde_json::Value = serde_json::from_str(&text)?;
    let ns = clock::nanoseconds(|| {
        let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        serde_json::to_string(&value)
    });
    Ok(writeln!(std::io::stdout(), "{ns:.0}")?)
}
