//! `datasync`: checks a configuration before a deploy, opens sealed values.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use sync_cli::{Arguments, run};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut out = std::io::stdout().lock();
    match run(&arguments, &mut std::io::stdin().lock(), &mut out) {
        Ok(code) => code,
        Err(error) => {
            // Nobody reads stderr: nothing to be done about it.
            let _ = writeln!(std::io::stderr(), "datasync: {:#}", anyhow::Error::new(error));
            ExitCode::from(2)
        }
    }
}
