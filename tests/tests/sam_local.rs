//! Events under `events/` through `sam local invoke`: the function in a container as Lambda would run it, the emulator
//! as its AWS. Where no Docker engine runs, this says so and proves nothing.
//!
//! A container takes seconds, so each function gets a few of its events, spread over the names; `SYNC_EVENTS=all` runs
//! all of them. (That every single one is read and answered as it should be, the tests of each crate show without one.)

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at what it did not expect, and a skipped one says so"
)]

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::{Map, Value, json};
use sync_tests::docker::Engine;
use sync_tests::ink::Ink;
use sync_tests::place;
use sync_tests::rig::{Rig, Silent};
use tokio::net::{TcpListener, TcpStream};

/// The folder under `events/` and the functions that take what is in it.
const FUNCTIONS: [(&str, &[&str]); 5] = [
    ("capture-push", &["CapturePush"]),
    ("transform", &["Transform"]),
    ("enrich", &["Enrich"]),
    ("deliver", &["DeliverLoyalty", "DeliverWarehouse"]),
    ("ticket", &["Ticket"]),
];
/// How many containers run side by side.
const SIDE_BY_SIDE: usize = 4;

/// How many events of a folder are enough without `SYNC_EVENTS=all`.
const SAMPLE: usize = 3;

/// One invocation: the function, the file of its event.
type Case = (&'static str, &'static str, PathBuf);

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (folder, functions) in FUNCTIONS {
        let mut files: Vec<PathBuf> = std::fs::read_dir(place::root().join("events").join(folder))
            .unwrap_or_else(|error| panic!("events/{folder}: {error}"))
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
            .collect();
        files.sort();
        assert!(!files.is_empty(), "events/{folder} has no event");
        let all = std::env::var("SYNC_EVENTS").is_ok_and(|which| which == "all");
        let step = if all { 1 } else { files.len().div_ceil(SAMPLE) };
        for (index, file) in files.into_iter().step_by(step).enumerate() {
            // Functions of one binary share its events.
            cases.push((folder, functions[index % functions.len()], file));
        }
    }
    cases
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_answered_in_a_container() {
    let Some(engine) = Engine::find().unwrap() else {
        // Past the capture of the test's output: who reads it must see that nothing was tried.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: no Docker engine runs here, so no event went through `sam local invoke`"
        );
        return;
    };
    let rig = Rig::start("sam-local", &Ink::Life, &Silent).await.unwrap();
    let base = engine.base_image(&rig.run).unwrap();
    eprintln!("the Lambda base image is {base}");

    let gateway = engine.gateway().unwrap();
    let endpoint = format!("http://{}", open_to_containers(gateway, rig.emulator().endpoint()).await);
    let template = rig.run.path().join("aws-sam/build/template.yaml");
    let variables = rig.run.path().join("variables.json");
    let mut all = Map::new();
    for functions in FUNCTIONS.iter().map(|(_, functions)| functions) {
        for function in *functions {
            all.insert((*function).to_owned(), variables_of(&rig, function, &endpoint).await);
        }
    }
    std::fs::write(&variables, Value::Object(all).to_string()).unwrap();

    // The first builds the image that all others share.
    let mut cases = cases();
    let first = cases.remove(0);
    let mut problems: Vec<String> = Vec::new();
    problems.extend(invoke(&template, &variables, &endpoint, &first).await.err());
    let waiting = Arc::new(Mutex::new(cases));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..SIDE_BY_SIDE {
        let (waiting, template, variables, endpoint) =
            (waiting.clone(), template.clone(), variables.clone(), endpoint.clone());
        workers.spawn(async move {
            let mut problems = Vec::new();
            loop {
                let next = waiting.lock().unwrap().pop();
                let Some(case) = next else { return problems };
                problems.extend(invoke(&template, &variables, &endpoint, &case).await.err());
            }
        });
    }
    while let Some(found) = workers.join_next().await {
        problems.extend(found.unwrap());
    }
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

/// Runs one event and says what was wrong with the answer.
async fn invoke(template: &Path, variables: &Path, endpoint: &str, case: &Case) -> Result<(), String> {
    let (folder, function, event) = case;
    let asked: Value = serde_json::from_str(&std::fs::read_to_string(event).unwrap()).unwrap_or_default();
    let mut command = place::sam().unwrap();
    command
        .env("SAM_CLI_ENABLE_LANGUAGE_EXTENSIONS", "1")
        .args(["local", "invoke", function, "--skip-pull-image", "--template-file"])
        .arg(template)
        .arg("--event")
        .arg(event)
        .arg("--env-vars")
        .arg(variables)
        .args(["--parameter-overrides", &sync_tests::artifacts::architecture_override().unwrap()])
        // Without it the template would not declare the variable, and --env-vars sets declared ones only.
        .args([&format!("AwsEndpointUrl={endpoint}"), "AllowLoopback=true"]);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    let complain = |what: &str| Err(format!("{function} with {}: {what}\n{answer}\n{told}", event.display()));
    if !output.status.success() {
        return complain("sam local invoke failed");
    }
    let last = answer.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    let Ok(answered) = serde_json::from_str::<Value>(last) else { return complain("the answer is not JSON") };
    let fits = match *folder {
        // Any 5xx would mean that it did not reach its secret, its table or its queue.
        "capture-push" => answered["statusCode"].as_u64().is_some_and(|status| (200..500).contains(&status)),
        // What it cannot publish it sets aside: with everything in reach no message comes back.
        "transform" => answered["batchItemFailures"] == json!([]),
        // The one event that no ticket can be made of: an error hands it to the dead-letter queue.
        "ticket" => answered["errorType"].is_string() == event.ends_with("malformed.json"),
        // Somebody asks how the target stands, or changes it.
        "deliver" if !asked["work"].is_null() => answered["state"].is_string(),
        // The hosts of the sample configuration do not exist: a lookup and a delivery may fail, the function may not.
        _ => answered["batchItemFailures"].is_array(),
    };
    if fits { Ok(()) } else { complain("that is no answer of this function") }
}

/// The variables of a deployed function, with the emulator's address as a container sees it and the layer's place.
async fn variables_of(rig: &Rig, function: &str, endpoint: &str) -> Value {
    let name = rig.stack.resource(function).unwrap();
    let path = format!("/2015-03-31/functions/{name}/configuration");
    let configuration = rig.aws().lambda("GET", &path, &json!({})).await.unwrap();
    let mut variables = configuration["Environment"]["Variables"].clone();
    assert!(variables.is_object(), "{function} has no variables: {configuration}");
    variables["AWS_ENDPOINT_URL"] = json!(endpoint);
    variables["SYNC_CONFIG_DIR"] = json!("/opt/sync");
    variables
}

/// The emulator listens on loopback, which a container does not share: passes connections on from the address that it
/// does see.
async fn open_to_containers(gateway: Ipv4Addr, emulator: &str) -> SocketAddr {
    let emulator: SocketAddr = emulator.trim_start_matches("http://").parse().unwrap();
    let listener = TcpListener::bind((gateway, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut container, _)) = listener.accept().await {
            tokio::spawn(async move {
                if let Ok(mut emulator) = TcpStream::connect(emulator).await {
                    let _ = tokio::io::copy_bidirectional(&mut container, &mut emulator).await;
                }
            });
        }
    });
    address
}
