//! The functions with their failpoints.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sync_bench::function::{Function, Outcome};
use sync_tests::place;

/// Longer than any function may run.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often is looked for an answer.
const LOOK: Duration = Duration::from_millis(2);

/// Every function.
const FUNCTIONS: [&str; 7] =
    ["capture-push", "capture-pull", "capture-stream", "transform", "enrich", "deliver", "ticket"];

/// Builds the functions with failpoints; answers with the binary of one. All at once: each by itself asks for other features
/// of what they share, and all of that would be built once for each.
pub fn build(name: &str) -> Result<PathBuf> {
    let target = place::root().join("target/failpoints");
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(place::root())
        .args(["build", "--quiet", "--features", "sync-lambda/failpoints"])
        .args(FUNCTIONS.iter().flat_map(|function| ["--package", function]))
        .arg("--target-dir")
        .arg(&target)
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("the functions do not build with failpoints");
    }
    Ok(target.join("debug").join(name))
}

/// The failpoints of a function, as its source names them: `<function>.<what has just happened>`. Those of the shell that
/// stages share (parking, keys) are the failpoints of `sync-lambda`. One that stands in two places is listed twice.
pub fn failpoints(name: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    collect(&place::root().join("crates").join(name).join("src"), &mut found)?;
    found.sort();
    Ok(found)
}

fn collect(folder: &Path, found: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, found)?;
            continue;
        }
        let text = fs::read_to_string(&path)?;
        let mut rest = text.as_str();
        while let Some((_, behind)) = rest.split_once("failpoint::pass(\"") {
            let (place, behind) = behind.split_once('"').context("a failpoint has a name")?;
            found.push(place.to_owned());
            rest = behind;
        }
    }
    Ok(())
}

/// Invokes a function and waits for the answer; none if it dies over it. Others go on meanwhile.
pub async fn invoke(function: &mut Function, event: String) -> Result<Option<String>> {
    function.begin(event);
    let wait = async {
        loop {
            match function.outcome()? {
                Some(Outcome::Answered(invocation)) => return Ok(Some(invocation.answer)),
                Some(Outcome::Died(_)) => return Ok(None),
                None => tokio::time::sleep(LOOK).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.context("the function neither answers nor dies")?
}
