//! Tries wrong designs out: in a copy of the tree, one at a time.
//!
//! **Invariant.** The tree itself is never changed, whatever ends the trial, and its `target` holds nothing that was built
//! of a wrong design: the copy builds into a folder of its own. The copy is brought back to the tree when a trial begins,
//! file by file, so that only what differs is compiled again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Mutant, Test};
use crate::group::Group;

/// A single test that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(300);
/// What is not of the tree: what was built, and what is set up once.
const LEFT_OUT: [&str; 4] = ["target", ".git", ".venv", ".aws-sam"];

/// How a trial ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Its test fails.
    Caught,
    /// Its test passes.
    Missed,
    /// It is no program, so that nothing is proven.
    DoesNotCompile,
    /// Its test neither passes nor fails: it hangs, or takes the process along.
    NoResult,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Caught => "caught",
            Self::Missed => "NOT CAUGHT",
            Self::DoesNotCompile => "DOES NOT COMPILE",
            Self::NoResult => "NO RESULT",
        })
    }
}

/// A copy of the tree, and where it is built.
#[derive(Debug)]
pub struct Trial {
    root: PathBuf,
    folder: PathBuf,
    /// What is added to manifests: a target of its own for each list of tests, so that it can be built alone and yet with
    /// the features of the whole workspace, as `make test` has them. An example, since tests have the programs of their
    /// package built with them.
    targets: BTreeMap<PathBuf, String>,
    // Held as long as the copy is used.
    _lock: File,
}

impl Trial {
    /// Makes or refreshes the copy under `target/mutants`.
    pub fn begin(root: &Path, mutants: &[Mutant]) -> Result<Self> {
        let folder = root.join("target/mutants");
        fs::create_dir_all(folder.join("logs")).context("cannot make target/mutants")?;
        let lock = File::create(folder.join("lock")).context("cannot open the lock of target/mutants")?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("somebody else tries mutants out in {}", folder.display())
            }
            Err(TryLockError::Error(error)) => return Err(error).context("cannot lock target/mutants"),
        }
        let mut targets: BTreeMap<PathBuf, String> = BTreeMap::new();
        for mutant in mutants {
            let test = &mutant.caught_by;
            let manifest = Path::new(&test.folder()).join("Cargo.toml");
            let source = test.source(root)?;
            let target =
                format!("\n[[example]]\nname = \"{}\"\npath = \"{source}\"\ntest = true\n", target(test));
            let added = targets.entry(manifest).or_default();
            if !added.contains(&target) {
                added.push_str(&target);
            }
        }
        let trial = Self { root: root.to_owned(), folder, targets, _lock: lock };
        trial.refresh()?;
        trial.seed()?;
        Ok(trial)
    }

    fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    fn log(&self, name: &str) -> Result<PathBuf> {
        let log = self.folder.join("logs").join(format!("{name}.log"));
        File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        Ok(log)
    }

    /// Makes the copy what the tree is; what is the same already keeps its time, so that it is not compiled again.
    fn refresh(&self) -> Result<()> {
        let (mut wanted, mut there) = (BTreeSet::new(), BTreeSet::new());
        list(&self.root, &self.root, &mut wanted)?;
        fs::create_dir_all(self.tree())?;
        list(&self.tree(), &self.tree(), &mut there)?;
        for file in there.difference(&wanted) {
            fs::remove_file(self.tree().join(file))?;
        }
        for file in &wanted {
            self.restore(file)?;
        }
        // What the tests of the template start.
        let (environments, link) = (self.root.join(".venv"), self.tree().join(".venv"));
        if environments.exists() && !link.exists() {
            std::os::unix::fs::symlink(environments, link)?;
        }
        Ok(())
    }

    /// Takes over what was compiled of other people's crates, at the first time: cargo sees by itself what of it is good.
    fn seed(&self) -> Result<()> {
        let (from, to) = (self.root.join("target/debug"), self.folder.join("target/debug"));
        if to.exists() || !from.join("deps").is_dir() {
            return Ok(());
        }
        fs::create_dir_all(to.join("deps"))?;
        let libraries = fs::read_dir(from.join("deps"))?.filter_map(|entry| Some(entry.ok()?.path()));
        let libraries: Vec<PathBuf> = libraries
            .filter(|path| {
                path.extension()
                    .is_some_and(|ending| ["d", "rlib", "rmeta", "so"].iter().any(|one| ending == *one))
            })
            .collect();
        let copy = |from: &[PathBuf], to: &Path| -> Result<()> {
            // Times are kept: cargo compares them.
            let copied =
                Command::new("cp").arg("-a").args(from).arg(to).status().context("cannot start cp")?;
            if copied.success() {
                Ok(())
            } else {
                bail!("cannot copy what is built; delete {}", to.display())
            }
        };
        copy(&libraries, &to.join("deps"))?;
        // What says that the others are there comes last.
        copy(&[from.join("build"), from.join(".fingerprint")], &to)
    }

    fn restore(&self, file: &Path) -> Result<()> {
        let (from, to) = (self.root.join(file), self.tree().join(file));
        let mut text = fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
        text.extend_from_slice(self.targets.get(file).map(String::as_bytes).unwrap_or_default());
        if fs::read(&to).is_ok_and(|there| there == text) {
            return Ok(());
        }
        fs::create_dir_all(to.parent().unwrap_or(&to))?;
        fs::write(&to, text).with_context(|| format!("cannot write {}", to.display()))?;
        fs::set_permissions(&to, fs::metadata(&from)?.permissions())?;
        Ok(())
    }

    /// Builds what all trials need of the tree as it is, and runs each of their tests, which must pass there.
    pub async fn check(&self, mutants: &[Mutant]) -> Result<()> {
        let tests: BTreeSet<&Test> = mutants.iter().map(|mutant| &mutant.caught_by).collect();
        let log = self.log("as-it-is")?;
        let mut build = self.cargo();
        let targets: BTreeSet<String> = tests.iter().map(|test| target(test)).collect();
        for target in &targets {
            build.args(["--example", target]);
        }
        build.arg("--no-run");
        if !Group::start(&build, &log)?.end().await?.success() {
            bail!("the tree as it is does not compile, see {}", log.display());
        }
        for test in tests {
            let log = self.log("as-it-is")?;
            if self.run(test, &log).await? != Verdict::Missed {
                let Test { package, name, .. } = test;
                bail!("the test {name} of {package} must pass on the tree as it is, see {}", log.display());
            }
        }
        Ok(())
    }

    /// Tries one out. Its log stands under its name in `target/mutants/logs`.
    pub async fn try_out(&self, mutant: &Mutant) -> Result<Verdict> {
        let tree = self.tree();
        let files = mutant.applied(&tree)?;
        let mut before = Vec::new();
        for (file, text) in &files {
            let path = tree.join(file);
            before.push((fs::read(&path)?, path.clone()));
            fs::write(path, text)?;
        }
        let verdict = self.built_and_run(mutant).await;
        for (text, path) in before {
            fs::write(path, text)?;
        }
        verdict
    }

    async fn built_and_run(&self, mutant: &Mutant) -> Result<Verdict> {
        let log = self.log(&mutant.name)?;
        let test = &mutant.caught_by;
        let mut build = self.cargo();
        build.args(["--example", &target(test), "--no-run"]);
        if !Group::start(&build, &log)?.end().await?.success() {
            return Ok(Verdict::DoesNotCompile);
        }
        self.run(test, &log).await
    }

    /// Runs one test that is built.
    async fn run(&self, test: &Test, log: &Path) -> Result<Verdict> {
        let mut run = self.cargo();
        run.args(["--example", &target(test), "--", "--exact", &test.name]);
        let group = Group::start(&run, log)?;
        let Ok(status) = tokio::time::timeout(PATIENCE, group.end()).await else {
            return Ok(Verdict::NoResult);
        };
        Ok(verdict(status?, &fs::read_to_string(log)?))
    }

    fn cargo(&self) -> Command {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(self.tree()).args(["test", "--workspace"]);
        // What cargo told of the package whose test this may be.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|prefix| name.starts_with(prefix)) {
                cargo.env_remove(name);
            }
        }
        cargo.env("CARGO_TARGET_DIR", self.folder.join("target"));
        cargo
    }
}

/// What a run of one test says of it.
fn verdict(status: ExitStatus, log: &str) -> Verdict {
    let results: Vec<&str> = log.lines().filter(|line| line.starts_with("test result: ")).collect();
    match results.as_slice() {
        [one] if one.contains(" 1 passed; 0 failed;") && status.success() => Verdict::Missed,
        [one] if one.contains(" 0 passed; 1 failed;") && !status.success() => Verdict::Caught,
        _ => Verdict::NoResult,
    }
}

/// The name under which a list of tests is built.
fn target(test: &Test) -> String {
    format!("mutants-{}-{}", test.package, test.tests)
}

/// The files of a tree, from its root.
fn list(root: &Path, folder: &Path, files: &mut BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        let left_out = folder == root && LEFT_OUT.iter().any(|name| entry.file_name() == *name);
        if left_out || kind.is_symlink() {
            continue;
        }
        if kind.is_dir() {
            list(root, &path, files)?;
        } else if let Ok(file) = path.strip_prefix(root) {
            files.insert(file.to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    const PASSES: &str = "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out\n";
    const FAILS: &str = "test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 9 filtered out\n";
    const NONE: &str = "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 10 filtered out\n";

    #[test]
    fn only_a_test_that_ran_and_failed_has_caught_anything() {
        let of = |code: i32, log: &str| verdict(ExitStatus::from_raw(code << 8), log);
        assert_eq!(of(101, &format!("running 1 test\n{FAILS}")), Verdict::Caught);
        assert_eq!(of(0, PASSES), Verdict::Missed);
        for (code, log) in [(0, NONE), (101, ""), (101, PASSES), (0, FAILS), (0, &format!("{PASSES}{NONE}"))]
        {
            assert_eq!(of(code, log), Verdict::NoResult, "{log}");
        }
        assert_eq!(verdict(ExitStatus::from_raw(9), ""), Verdict::NoResult, "killed");
    }
}
