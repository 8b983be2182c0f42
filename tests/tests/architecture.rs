//! The arrows between the crates: who may depend on whom, and what the pure crates can never reach.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at what it did not expect")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;
use sync_tests::place;

/// The crates that are deployed; they never depend on each other: stages meet at the wire format.
const STAGES: [&str; 7] =
    ["capture-push", "capture-pull", "capture-stream", "transform", "enrich", "deliver", "ticket"];
/// What a stage may use, the shell and the adapters, and what these may use in turn.
const LIBRARIES: [(&str, &[&str]); 7] = [
    ("sync-domain", &[]),
    ("sync-config", &["sync-domain"]),
    ("sync-aws", &["sync-domain"]),
    ("sync-http", &["sync-domain"]),
    ("sync-sources", &["sync-domain"]),
    ("sync-lambda", &["sync-domain", "sync-config", "sync-aws"]),
    ("sync-testkit", &["sync-domain"]),
];
/// Only for tests: never among the dependencies of what is deployed.
const TEST_ONLY: [&str; 4] = ["sync-testkit", "sync-bench", "sync-chaos", "sync-tests"];
/// Give the same for the same arguments, whenever and wherever they run.
const PURE: [&str; 2] = ["sync-domain", "sync-config"];
/// Neither runtime, nor SDK, nor network, nor randomness, nor a source of time zones.
const OUT_OF_THE_PURE: [&str; 12] = [
    "aws-config",
    "aws-sdk-",
    "aws-smithy-",
    "lambda_",
    "tokio",
    "hyper",
    "reqwest",
    "http",
    "rand",
    "getrandom",
    "mio",
    "socket2",
];

/// What is linked elsewhere does not count.
const LAMBDA: &str = "x86_64-unknown-linux-gnu";

/// The dependencies of each member: name of the member, name of the dependency, and whether only its tests need it.
struct Workspace {
    metadata: Value,
}

impl Workspace {
    fn read() -> Self {
        let output = Command::new(env!("CARGO"))
            .current_dir(place::root())
            .args(["metadata", "--format-version", "1", "--filter-platform", LAMBDA])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self { metadata: serde_json::from_slice(&output.stdout).unwrap() }
    }

    fn members(&self) -> BTreeMap<&str, &Value> {
        let ids: BTreeSet<&str> = self.metadata["workspace_members"]
            .as_array()
            .unwrap()
            .iter()
            .map(|id| id.as_str().unwrap())
            .collect();
        let packages = self.metadata["packages"].as_array().unwrap().iter();
        packages
            .filter(|package| ids.contains(package["id"].as_str().unwrap()))
            .map(|package| (package["name"].as_str().unwrap(), package))
            .collect()
    }

    /// The other members that a member depends on; with `tests`, those that only its tests need as well.
    fn arrows(&self, member: &str, tests: bool) -> BTreeSet<&str> {
        let members = self.members();
        let dependencies = members[member]["dependencies"].as_array().unwrap().iter();
        dependencies
            .filter(|dependency| tests || dependency["kind"] != "dev")
            .map(|dependency| dependency["name"].as_str().unwrap())
            .filter(|name| members.contains_key(name))
            .filter(|name| *name != member)
            .collect()
    }
}

/// Every crate that a member's code is linked with, however far away, with the features that it alone asks for.
fn reaches(member: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .current_dir(place::root())
        .args([
            "tree",
            "--package",
            member,
            "--edges",
            "normal",
            "--target",
            LAMBDA,
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| *name != member)
        .map(str::to_owned)
        .collect()
}

#[test]
fn stages_depend_on_libraries_and_never_on_each_other() {
    let workspace = Workspace::read();
    let allowed: BTreeSet<&str> =
        ["sync-domain", "sync-config", "sync-aws", "sync-http", "sync-sources", "sync-lambda"].into();
    for stage in STAGES {
        let arrows = workspace.arrows(stage, false);
        let wrong: Vec<_> = arrows.difference(&allowed).collect();
        assert!(wrong.is_empty(), "{stage} must not depend on {wrong:?}");
    }
}

#[test]
fn the_tests_of_a_stage_do_not_need_another_stage() {
    let workspace = Workspace::read();
    for stage in STAGES {
        let others: Vec<_> =
            workspace.arrows(stage, true).into_iter().filter(|name| STAGES.contains(name)).collect();
        assert!(others.is_empty(), "the tests of {stage} must not depend on {others:?}");
    }
}

#[test]
fn libraries_depend_downwards_only() {
    let workspace = Workspace::read();
    for (library, allowed) in LIBRARIES {
        let allowed: BTreeSet<&str> = allowed.iter().copied().collect();
        let arrows = workspace.arrows(library, false);
        let wrong: Vec<_> = arrows.difference(&allowed).collect();
        assert!(wrong.is_empty(), "{library} must not depend on {wrong:?}");
    }
}

#[test]
fn what_is_deployed_holds_nothing_for_tests() {
    let libraries = LIBRARIES.iter().map(|(name, _)| name).filter(|name| !TEST_ONLY.contains(name));
    for member in STAGES.iter().chain(libraries).chain(&["sync-cli"]) {
        for name in TEST_ONLY {
            assert!(!reaches(member).contains(name), "{member} is linked with {name}");
        }
    }
}

#[test]
fn every_member_has_a_place_in_the_picture() {
    let workspace = Workspace::read();
    let mut known: BTreeSet<&str> = STAGES.into();
    known.extend(LIBRARIES.iter().map(|(name, _)| *name));
    known.extend(TEST_ONLY);
    known.insert("sync-cli");
    let members: BTreeSet<&str> = workspace.members().into_keys().collect();
    assert_eq!(members, known, "a new crate needs its arrows here");
}

#[test]
fn the_pure_crates_are_linked_with_nothing_that_reaches_the_outside() {
    for pure in PURE {
        let reached = reaches(pure);
        assert!(reached.contains("serde"), "the walk over the dependencies found nothing: {reached:?}");
        let outside = |name: &&String| OUT_OF_THE_PURE.iter().any(|prefix| name.starts_with(prefix));
        let wrong: Vec<_> = reached.iter().filter(outside).collect();
        assert!(wrong.is_empty(), "{pure} is linked with {wrong:?}");
    }
}

/// What is compiled along with the domain is compiled for speed; a configuration is read once.
#[test]
fn the_domain_reads_no_yaml() {
    assert!(!reaches("sync-domain").contains("serde-saphyr"), "sync-config reads it");
    assert!(reaches("sync-config").contains("serde-saphyr"), "or what else does?");
}

/// Clippy holds the rest: what of std and of their own dependencies would reach clock, environment or network.
#[test]
fn clippy_keeps_clock_environment_randomness_and_network_out_of_the_pure_crates() {
    for pure in PURE {
        let bans = place::root().join("crates").join(pure).join("clippy.toml");
        let bans = std::fs::read_to_string(bans).unwrap();
        for path in [
            "std::time::SystemTime::now",
            "std::time::Instant::now",
            "std::env::var",
            "std::env::vars",
            "aws_lc_rs::rand::fill",
            "aws_lc_rs::rand::SystemRandom",
            "std::net::TcpStream",
            "std::net::UdpSocket",
            "std::fs::File",
        ] {
            assert!(
                bans.contains(&format!("path = \"{path}\"")),
                "clippy.toml of {pure} does not ban {path}"
            );
        }
    }
}

#[test]
fn the_binaries_of_the_default_members_are_the_stages() {
    let workspace = Workspace::read();
    let defaults = workspace.metadata["workspace_default_members"].as_array().unwrap().len();
    assert_eq!(defaults, STAGES.len(), "`sam build` builds the default members");
    for stage in STAGES {
        let targets = workspace.members()[stage]["targets"].as_array().unwrap().clone();
        let binaries: Vec<_> = targets
            .iter()
            .filter(|target| target["kind"][0] == "bin")
            .map(|target| target["name"].clone())
            .collect();
        assert_eq!(binaries, [stage], "one name everywhere: folder, package, binary");
    }
}
