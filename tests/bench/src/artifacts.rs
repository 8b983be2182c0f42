//! The binaries that are measured: those that `sam build` makes for Lambda.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::root;

/// The functions and a logical id of each in the template.
pub const FUNCTIONS: [(&str, &str); 5] = [
    ("capture-push", "CapturePush"),
    ("transform", "Transform"),
    ("enrich", "Enrich"),
    ("deliver", "DeliverLoyalty"),
    ("ticket", "Ticket"),
];

/// Where each function's binary is, and a folder for what is written while it runs.
#[derive(Debug, Clone)]
pub struct Binaries {
    binaries: BTreeMap<&'static str, PathBuf>,
    folder: PathBuf,
}

impl Binaries {
    /// Builds with `sam build`, like the end-to-end tests and under their lock. `SYNC_BUILD_DIR` names a build to take
    /// as it stands.
    pub fn of_sam(purpose: &str) -> Result<Self> {
        let folder = folder(purpose)?;
        if let Some(given) = std::env::var_os("SYNC_BUILD_DIR") {
            return Self::kept(&root().join(given), folder);
        }
        let local = root().join("target/local");
        fs::create_dir_all(&local)?;
        // Held until the binaries are kept apart: the next build replaces them.
        let lock = File::create(local.join("build.lock")).context("cannot open the build's lock")?;
        lock.lock().context("cannot lock the build")?;
        let log = folder.join("sam-build.log");
        let output = File::create(&log)?;
        let sam = sam();
        let beside = sam.parent().context("the sam program has no folder")?.to_owned();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::iter::once(beside).chain(std::env::split_paths(&path)))
            .context("the search path holds a separator")?;
        let architecture = match std::env::consts::ARCH {
            "aarch64" => "arm64",
            other => other,
        };
        let status = Command::new(&sam)
            .args(["build", "--parameter-overrides", &format!("Architecture={architecture}")])
            .current_dir(root())
            .env("PATH", path)
            .env("SAM_CLI_TELEMETRY", "0")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .status()
            .with_context(|| format!("cannot start {}", sam.display()))?;
        ensure!(status.success(), "`sam build` failed, see {}", log.display());
        Self::kept(&root().join(".aws-sam/build"), folder)
    }

    /// Builds with cargo alone, unoptimised: good for counting, not for measuring.
    pub fn of_cargo(purpose: &str, target: &Path) -> Result<Self> {
        let mut command = cargo();
        command.arg("build").arg("--quiet").arg("--target-dir").arg(target);
        for (name, _) in FUNCTIONS {
            command.args(["--package", name]);
        }
        ensure!(
            command.status().context("cannot start cargo")?.success(),
            "cargo cannot build the functions"
        );
        let binaries = FUNCTIONS.map(|(name, _)| (name, target.join("debug").join(name))).into();
        Ok(Self { binaries, folder: folder(purpose)? })
    }

    /// Whether `sam build` can be run here.
    pub fn has_sam() -> bool {
        std::env::var_os("SYNC_BUILD_DIR").is_some() || sam().exists()
    }

    /// A function's binary.
    pub fn of(&self, name: &str) -> Result<&Path> {
        self.binaries.get(name).map(PathBuf::as_path).with_context(|| format!("there is no function {name}"))
    }

    /// The folder for what is written.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn kept(build: &Path, folder: PathBuf) -> Result<Self> {
        let mut binaries = BTreeMap::new();
        let bin = folder.join("bin");
        fs::create_dir_all(&bin)?;
        for (name, logical_id) in FUNCTIONS {
            let built = build.join(logical_id).join("bootstrap");
            if !built.exists() {
                bail!("there is no {}", built.display());
            }
            let kept = bin.join(name);
            fs::hard_link(&built, &kept).or_else(|_| fs::copy(&built, &kept).map(drop))?;
            binaries.insert(name, kept);
        }
        Ok(Self { binaries, folder })
    }
}

/// The cargo that runs this, or the one of the path.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(root());
    command
}

fn sam() -> PathBuf {
    let environment =
        std::env::var_os("SYNC_SAM_VENV").map_or_else(|| root().join(".venv/sam"), PathBuf::from);
    environment.join("bin/sam")
}

/// A new folder under `target/local`, like those of the end-to-end tests.
fn folder(purpose: &str) -> Result<PathBuf> {
    let folder = root().join("target/local").join(format!("{purpose}-{}", std::process::id()));
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}
