//! What `sam build` makes, kept apart per run: two runs at once never pull the build from under each other.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::group::Group;
use crate::place::{self, RunFolder};

/// Builds with the real `sam build` and copies the result into the run's folder. Answers with the built template.
///
/// `SYNC_BUILD_DIR` names a build to take as it stands, e.g. `.aws-sam/build`.
pub async fn build(run: &RunFolder) -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("SYNC_BUILD_DIR") {
        return copy(&place::root().join(given), run);
    }
    // Held until the copy is made.
    let _lock = lock().await?;
    let log = run.path().join("sam-build.log");
    let mut sam = place::sam()?;
    sam.args(["build", "--parameter-overrides", &architecture_override()?]);
    if !Group::start(&sam, &log)?.end().await?.success() {
        bail!("`sam build` failed, see {}", log.display());
    }
    copy(&place::root().join(".aws-sam/build"), run)
}

/// One build at a time; others wait here.
async fn lock() -> Result<File> {
    fs::create_dir_all(place::local())?;
    let lock = File::create(place::local().join("build.lock")).context("cannot open the build's lock")?;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(200)).await,
            Err(TryLockError::Error(error)) => return Err(error).context("cannot lock the build"),
        }
    }
}

/// Copies a build; as deep in the run's folder as it is in the root, since the template names the layer's folder
/// relative to its own.
fn copy(built: &Path, run: &RunFolder) -> Result<PathBuf> {
    let copy = run.path().join("aws-sam/build");
    copy_tree(built, &copy).context("cannot copy the build")?;
    Ok(copy.join("template.yaml"))
}

/// The architecture of this machine, as a parameter of the template: the emulator runs the functions here.
pub fn architecture_override() -> Result<String> {
    Ok(format!("Architecture={}", architecture()?))
}

/// The name that Lambda has for this machine's architecture.
pub fn architecture() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("x86_64"),
        "aarch64" => Ok("arm64"),
        other => bail!("Lambda has no architecture like {other}"),
    }
}

/// Copies a folder; files that are never changed in place are linked instead, which costs nothing.
pub fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else if entry.file_name() == "bootstrap" {
            // `sam build` replaces the file, it does not write into it.
            fs::hard_link(entry.path(), &target).or_else(|_| fs::copy(entry.path(), &target).map(drop))?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
