//! A Docker engine, where one runs, and a stand-in for the Lambda base image, where that cannot be pulled.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

use crate::artifacts;
use crate::place::RunFolder;

/// Marks what this crate made in the engine, so that it can go again.
const LABEL: &str = "datasync.stand-in";
/// What the SAM CLI's own build of an image and a person looking into a container need.
const TOOLS: [&str; 8] = ["sh", "cat", "chmod", "cp", "mkdir", "mv", "rm", "ls"];
/// What a function is linked with, and what glibc loads by itself to resolve names.
const LIBRARIES: [&str; 9] = [
    "libc.so.6",
    "libm.so.6",
    "libpthread.so.0",
    "libdl.so.2",
    "librt.so.1",
    "libresolv.so.2",
    "libgcc_s.so.1",
    "libnss_dns.so.2",
    "libnss_files.so.2",
];

/// An engine that answers.
#[derive(Debug)]
pub struct Engine {
    image: String,
}

impl Engine {
    /// The engine of this machine, if one runs.
    pub fn find() -> Result<Option<Self>> {
        let answer = Command::new("docker")
            .args(["version", "--format", "{{.Server.Version}}"])
            .stdin(Stdio::null())
            .output();
        let runs = answer.is_ok_and(|output| output.status.success());
        // The tag under which `sam local invoke` looks for it.
        let image = format!("public.ecr.aws/lambda/provided:al2023-{}", artifacts::architecture()?);
        Ok(runs.then_some(Self { image }))
    }

    /// Has the base image there: as it is, pulled, or made. Answers which of the three.
    pub fn base_image(&self, run: &RunFolder) -> Result<&'static str> {
        if docker(&["image", "inspect", &self.image]).is_ok() {
            return Ok("there already");
        }
        if docker(&["pull", "--quiet", &self.image]).is_ok() {
            return Ok("pulled");
        }
        self.import_stand_in(run)?;
        Ok("a stand-in made of this machine's own files")
    }

    /// A root with a shell, a few tools and glibc. The SAM CLI adds the runtime interface emulator itself.
    fn import_stand_in(&self, run: &RunFolder) -> Result<()> {
        let root = run.make("base-image")?;
        for folder in ["etc", "tmp", "opt", "var/task", "var/runtime"] {
            std::fs::create_dir_all(root.join(folder))?;
        }
        std::fs::write(root.join("etc/nsswitch.conf"), "hosts: files dns\n")?;
        std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n")?;
        let mut files = BTreeSet::new();
        for tool in TOOLS {
            let program = on_path(tool).with_context(|| format!("there is no {tool} on the path"))?;
            files.extend(linked_with(&program)?);
            copy(&program, &root.join("bin").join(tool))?;
        }
        let folders: BTreeSet<PathBuf> =
            files.iter().filter_map(|file| file.parent()).map(Path::to_owned).collect();
        let more = folders.iter().flat_map(|folder| LIBRARIES.iter().map(|name| folder.join(name)));
        files.extend(more.filter(|file| file.is_file()));
        for file in files {
            copy(&file, &root.join(file.strip_prefix("/").unwrap_or(&file)))?;
        }

        let mut pack =
            Command::new("tar").arg("-C").arg(&root).args(["-c", "."]).stdout(Stdio::piped()).spawn()?;
        let archive = pack.stdout.take().context("tar has no output")?;
        let label = format!("LABEL {LABEL}=yes");
        let import = ["import", "--change", "ENV PATH=/bin", "--change", &label, "-", &self.image];
        let made = Command::new("docker").args(import).stdin(archive).output()?;
        if !pack.wait()?.success() || !made.status.success() {
            bail!("the stand-in cannot be made: {}", String::from_utf8_lossy(&made.stderr));
        }
        Ok(())
    }

    /// The address that this machine has for a container: its gateway.
    pub fn gateway(&self) -> Result<Ipv4Addr> {
        let routes = docker(&["run", "--rm", "--entrypoint", "cat", &self.image, "/proc/net/route"])?;
        let routes = String::from_utf8_lossy(&routes.stdout).into_owned();
        let gateway = routes.lines().find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            match fields.as_slice() {
                [_, "00000000", gateway, ..] => u32::from_str_radix(gateway, 16).ok(),
                _ => None,
            }
        });
        // The kernel prints the address as a number in the byte order of the machine.
        Ok(Ipv4Addr::from(gateway.context("a container has no gateway")?.to_ne_bytes()))
    }
}

impl Drop for Engine {
    /// A stand-in under an official name must not stay for other projects to find; what was built on it goes first.
    fn drop(&mut self) {
        let filter = format!("label={LABEL}");
        // An image goes when nothing is built on it any more: the next round takes it.
        for _ in 0..4 {
            let Ok(images) = docker(&["images", "--all", "--quiet", "--filter", &filter]) else { return };
            let images = String::from_utf8_lossy(&images.stdout).into_owned();
            let ids: BTreeSet<&str> = images.lines().collect();
            for id in ids {
                let _ = docker(&["rmi", "--force", id]);
            }
        }
    }
}

fn docker(arguments: &[&str]) -> Result<Output> {
    let output = Command::new("docker")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("cannot start docker")?;
    if !output.status.success() {
        bail!("docker {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(output)
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// The files that a program is linked with.
fn linked_with(program: &Path) -> Result<BTreeSet<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("cannot start ldd")?;
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(lines.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // Links are followed: the file itself is wanted.
    std::fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}
