//! Processes of their own group that never outlive whoever started them.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

/// Runs a command and waits for its end, or for the end of its own input, a pipe that the starter holds. However the
/// starter ends, by Ctrl-C, a panic or a kill, the pipe closes, and the whole group goes.
const WATCH: &str = r#"
exec 3<&0
trap stopping=1 TERM
"$@" </dev/null 3<&- &
child=$!
{
    trap : TERM
    cat <&3 >/dev/null
    kill -TERM 0
    for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 $child 2>/dev/null || break; sleep 0.1; done
    kill -KILL 0
} &
watcher=$!
wait $child
status=$?
[ -n "$stopping" ] && wait $watcher
exit $status
"#;

/// A running command with everything that it started.
#[derive(Debug)]
pub struct Group {
    watch: Child,
    // While it is open the group lives.
    pipe: Option<ChildStdin>,
}

impl Group {
    /// Starts the command. Its folder and environment are kept; it has no input, and its output goes behind what
    /// stands in `log`.
    pub fn start(command: &Command, log: &Path) -> Result<Self> {
        let output = File::options().create(true).append(true).open(log).context("cannot open the log")?;
        let mut watched = Command::new("/bin/sh");
        watched.arg("-c").arg(WATCH).arg("watch").arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => watched.env(name, value),
                None => watched.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            watched.current_dir(folder);
        }
        watched.stdin(Stdio::piped()).stdout(output.try_clone()?).stderr(output).process_group(0);
        let mut watch = watched.spawn().context("cannot start /bin/sh")?;
        let pipe = watch.stdin.take();
        Ok(Self { watch, pipe })
    }

    /// How the command ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.watch.try_wait()?)
    }

    /// Waits for the command's end. Whoever stops waiting ends the group.
    pub async fn end(mut self) -> Result<ExitStatus> {
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Closing the pipe ends the group; the wait makes sure that nothing is left when the starter goes on.
        drop(self.pipe.take());
        let _ = self.watch.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulator::free_port;

    fn log(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("group-{name}-{}-{}", std::process::id(), free_port().unwrap()))
    }

    /// A process that has ended may still be listed, as a zombie.
    fn alive(process: &str) -> bool {
        let status = std::fs::read_to_string(Path::new("/proc").join(process.trim()).join("status"));
        status.is_ok_and(|status| !status.contains("State:\tZ"))
    }

    #[tokio::test]
    async fn the_status_of_a_command_is_told() {
        let log = log("status");
        let mut command = Command::new("sh");
        command.args(["-c", "echo $WORD; exit 3"]).env("WORD", "heard");
        let status = Group::start(&command, &log).unwrap().end().await.unwrap();
        assert_eq!(status.code(), Some(3));
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "heard\n");
        std::fs::remove_file(log).unwrap();
    }

    #[tokio::test]
    async fn what_a_command_started_ends_with_it() {
        let log = log("end");
        let mut command = Command::new("sh");
        // The second one does not listen to a polite request.
        command.args(["-c", "trap '' TERM; sleep 600 & echo $!; wait"]);
        let group = Group::start(&command, &log).unwrap();
        let started = loop {
            let text = std::fs::read_to_string(&log).unwrap();
            if text.ends_with('\n') {
                break text;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        assert!(alive(&started));
        drop(group);
        // The kernel takes a moment to bury what was killed.
        for _ in 0..100 {
            if !alive(&started) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(!alive(&started));
        std::fs::remove_file(log).unwrap();
    }
}
