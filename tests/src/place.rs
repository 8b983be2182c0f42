//! Where things are: the repository, the Python environments, the folder of one run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// The root of the repository.
pub fn root() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

/// A program of a Python environment that `make` sets up; a variable can name another environment.
fn program(variable: &str, environment: &str, name: &str) -> PathBuf {
    let environment = std::env::var_os(variable).map_or_else(|| root().join(environment), PathBuf::from);
    environment.join("bin").join(name)
}

/// A program of `.venv/emulator` (or of `SYNC_EMULATOR_VENV`).
pub fn emulator_program(name: &str) -> PathBuf {
    program("SYNC_EMULATOR_VENV", ".venv/emulator", name)
}

/// A program of `.venv/debezium` (or of `SYNC_DEBEZIUM_VENV`).
pub fn debezium_program(name: &str) -> PathBuf {
    program("SYNC_DEBEZIUM_VENV", ".venv/debezium", name)
}

/// A program of `.venv/sam` (or of `SYNC_SAM_VENV`).
pub fn sam_program(name: &str) -> PathBuf {
    program("SYNC_SAM_VENV", ".venv/sam", name)
}

/// The `sam` command with its own environment first on the path (it calls cargo-lambda, which calls zig), and without
/// the AWS settings of whoever runs it: nothing here may reach a real account.
pub fn sam() -> Result<Command> {
    let sam = sam_program("sam");
    let bin = sam.parent().context("the sam program has no folder")?.to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(bin).chain(std::env::split_paths(&path)))
        .context("the search path holds a separator")?;
    let mut command = Command::new(&sam);
    command
        .current_dir(root())
        .env("PATH", path)
        .env("SAM_CLI_TELEMETRY", "0")
        .stdin(std::process::Stdio::null());
    local_credentials(&mut command);
    Ok(command)
}

/// Replaces every AWS setting of the environment by those of the emulator.
pub fn local_credentials(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") {
            command.env_remove(name);
        }
    }
    command
        .env("AWS_ACCESS_KEY_ID", crate::aws::ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", crate::aws::SECRET_KEY)
        .env("AWS_DEFAULT_REGION", crate::aws::REGION)
        .env("AWS_REGION", crate::aws::REGION)
        .env("AWS_EC2_METADATA_DISABLED", "true");
}

/// The folder of one run under `target/local`: logs, configuration, build.
#[derive(Debug, Clone)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Makes a new folder; the name says what for and which process. Those that processes of the same purpose left
    /// behind go, so that the logs of the last run stay and no more.
    pub fn new(purpose: &str) -> Result<Self> {
        fs::create_dir_all(local()).context("cannot make target/local")?;
        for entry in fs::read_dir(local())? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let process =
                name.strip_prefix(purpose).and_then(|rest| rest.strip_prefix('-')?.parse::<u32>().ok());
            let ended = |process| !Path::new(&format!("/proc/{process}")).exists();
            if process.is_some_and(ended) {
                // Another run may clear it away at the same time.
                let _ = fs::remove_dir_all(&path);
            }
        }
        let path = local().join(format!("{purpose}-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A new folder in it.
    pub fn make(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }
}

/// `target/local`.
pub fn local() -> PathBuf {
    root().join("target/local")
}
