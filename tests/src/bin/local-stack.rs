//! `make up` and `make down`: the same stack as in the demo, kept running, to push to and to look at.

#![expect(clippy::print_stdout, reason = "it talks to whoever runs it")]
#![expect(
    clippy::indexing_slicing,
    reason = "a JSON value answers a name that it lacks with null, it does not panic"
)]

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sync_tests::aws::Aws;
use sync_tests::ink::Ink;
use sync_tests::place;
use sync_tests::rig::{Lines, Rig};
use sync_tests::source::Source;
use sync_tests::target::Target;
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "local-stack up | down | status | push <source> <file with the body>";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["up"] => up().await,
        ["down"] => down().await,
        ["status"] => status().map(|state| print!("{}", text(&state))),
        ["push", source, file] => push(source, file).await,
        ["serve"] => serve().await,
        _ => Err(anyhow::anyhow!(USAGE)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Where the running stack says what it is.
fn state_file() -> PathBuf {
    place::local().join("stack.json")
}

/// The state of the stack that runs, if one does.
fn running() -> Option<Value> {
    let state: Value = serde_json::from_slice(&fs::read(state_file()).ok()?).ok()?;
    alive(&state).then_some(state)
}

/// Whether the process that wrote the state is still that process: its number may be another's by now.
fn alive(state: &Value) -> bool {
    let command = fs::read(format!("/proc/{}/cmdline", state["pid"])).unwrap_or_default();
    String::from_utf8_lossy(&command).contains("local-stack")
}

fn status() -> Result<Value> {
    running().context("no local stack runs; `make up` starts one")
}

async fn up() -> Result<()> {
    if let Some(state) = running() {
        print!("It runs already.\n\n{}", text(&state));
        return Ok(());
    }
    fs::create_dir_all(place::local())?;
    let log = place::local().join("stack.log");
    let output = File::create(&log)?;
    // A process of its own that stays when this one ends.
    let mut server = Command::new(std::env::current_exe()?)
        .arg("serve")
        .current_dir(place::root())
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0)
        .spawn()
        .context("cannot start the stack")?;
    println!("Starting; the first time it builds the functions, which takes minutes ({}).", log.display());
    let mut shown = 0;
    loop {
        let written = fs::read_to_string(&log).unwrap_or_default();
        print!("{}", written.get(shown..).unwrap_or_default());
        std::io::stdout().flush()?;
        shown = written.len();
        if let Some(state) = running().filter(|state| state["pid"] == server.id()) {
            print!("\n{}", text(&state));
            return Ok(());
        }
        if server.try_wait()?.is_some() {
            bail!("the stack did not start");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn down() -> Result<()> {
    let Some(state) = running() else {
        println!("No local stack runs.");
        return Ok(());
    };
    let stopped = Command::new("kill").arg(state["pid"].to_string()).status()?;
    if !stopped.success() {
        bail!("process {} does not take a signal", state["pid"]);
    }
    for _ in 0..100 {
        if !alive(&state) {
            println!("Stopped.");
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("process {} does not end", state["pid"])
}

/// The stack itself, until it is told to stop.
async fn serve() -> Result<()> {
    let (mut stop, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let serving = async {
        let rig = Rig::start("stack", &Ink::Life, &Lines).await?;
        let state = json!({
            "pid": std::process::id(),
            "emulator": rig.aws().endpoint(),
            "push_url": rig.stack.push_url()?,
            "folder": rig.run.path(),
        });
        fs::write(state_file(), state.to_string())?;
        loop {
            for target in [&rig.loyalty, &rig.warehouse] {
                write_received(target, &rig)?;
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    let result = tokio::select! {
        result = serving => result,
        _ = stop.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    if running().is_some_and(|state| state["pid"] == std::process::id()) {
        fs::remove_file(state_file())?;
    }
    result
}

/// What a target took, one event a line.
fn write_received(target: &Target, rig: &Rig) -> Result<()> {
    let received = target.deliveries();
    let lines =
        received.iter().filter(|delivery| delivery.accepted()).map(|delivery| format!("{}\n", delivery.raw));
    let path = rig.run.path().join(format!("{}.jsonl", target.name()));
    fs::write(path, lines.collect::<String>()).context("cannot write down what arrived")
}

/// Signs a body as a source does and sends it.
async fn push(source: &str, file: &str) -> Result<()> {
    let state = status()?;
    let text = |name: &str| {
        state[name].as_str().map(str::to_owned).with_context(|| format!("the state has no {name}"))
    };
    let aws = Aws::new(&text("emulator")?);
    let secret =
        aws.secrets("GetSecretValue", &json!({ "SecretId": format!("datasync/source/{source}") })).await?;
    let secret = secret["SecretString"].as_str().context("the secret has no text")?;
    let body = fs::read(file).with_context(|| format!("cannot read {file}"))?;
    let source = Source::new(source, &live(secret), &text("push_url")?);
    let id = format!("msg_{}", jiff::Timestamp::now().as_microsecond());
    let answer = source.send(&id, &body).await?;
    println!("{} {}", answer.status, answer.text());
    if answer.status == 202 { Ok(()) } else { bail!("not accepted") }
}

/// The secret to sign with: alone, or the current one of two.
fn live(text: &str) -> String {
    let pair: Option<Value> = serde_json::from_str(text).ok();
    pair.and_then(|pair| pair["current"].as_str().map(str::to_owned)).unwrap_or_else(|| text.to_owned())
}

fn text(state: &Value) -> String {
    let text = |name: &str| state[name].as_str().unwrap_or_default().to_owned();
    let folder = text("folder");
    format!(
        "AWS       AWS_ENDPOINT_URL={}  (region {}, any credentials)\n\
         push      POST {}/v1/sources/{{source}}/changes\n\
         or        cargo run -q -p sync-tests --bin local-stack -- push crm <file>\n\
         received  {folder}/loyalty.jsonl\n\
         {:10}{folder}/warehouse.jsonl\n\
         logs      {folder}/emulator.log\n\
         stop      make down\n",
        text("emulator"),
        sync_tests::aws::REGION,
        text("push_url"),
        ""
    )
}
