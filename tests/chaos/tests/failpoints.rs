//! Where functions can be killed, and that nothing of it is deployed.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use memchr::memmem;
use sync_chaos::{build, failpoints};
use sync_tests::artifacts;
use sync_tests::place::RunFolder;

const FUNCTIONS: [&str; 7] =
    ["capture-push", "capture-pull", "capture-stream", "transform", "enrich", "deliver", "ticket"];
/// The crate with what the functions share, and how its failpoints begin.
const SHELL: (&str, [&str; 2]) = ("sync-lambda", ["park.", "keys."]);

/// Every failpoint with the beginning that it has from its crate.
fn all() -> Vec<(String, String)> {
    let of_functions = FUNCTIONS.into_iter().flat_map(|name| {
        let begins = format!("{name}.");
        failpoints(name).unwrap().into_iter().map(move |place| (begins.clone(), place))
    });
    let of_shell = failpoints(SHELL.0).unwrap().into_iter().map(|place| {
        let begins = SHELL.1.into_iter().find(|begins| place.starts_with(begins));
        (begins.unwrap_or("park. or keys.").to_owned(), place)
    });
    of_functions.chain(of_shell).collect()
}

#[test]
fn every_function_can_be_killed_at_places_of_its_own_forty_and_more_in_all() {
    let all = all();
    let foreign: Vec<_> = all.iter().filter(|(begins, place)| !place.starts_with(begins.as_str())).collect();
    assert!(foreign.is_empty(), "a failpoint is named by its crate: {foreign:?}");
    let distinct: BTreeSet<_> = all.iter().map(|(_, place)| place).collect();
    assert_eq!(distinct.len(), all.len(), "a failpoint stands in one place: {all:?}");
    assert!(distinct.len() >= 40, "{} failpoints", distinct.len());
    for name in FUNCTIONS {
        let own = distinct.iter().filter(|place| place.starts_with(&format!("{name}."))).count();
        assert!(own >= 5, "{name} has {own} failpoints");
    }
}

/// What of the failpoints stands in a binary.
fn found_in(binary: &Path, all: &[(String, String)]) -> BTreeSet<String> {
    let bytes = fs::read(binary).unwrap();
    let mut found = BTreeSet::new();
    if memmem::find(&bytes, b"FAILPOINT").is_some() {
        found.insert("FAILPOINT".to_owned());
    }
    // One walk for each beginning: there are few of them.
    for begins in all.iter().map(|(begins, _)| begins).collect::<BTreeSet<_>>() {
        for at in memmem::find_iter(&bytes, begins.as_bytes()) {
            let here = bytes.get(at..).unwrap_or_default();
            let places = all.iter().map(|(_, place)| place);
            found.extend(places.filter(|place| here.starts_with(place.as_bytes())).cloned());
        }
    }
    found
}

#[tokio::test]
async fn no_bootstrap_that_is_deployed_holds_a_failpoint() {
    let all = all();
    let run = RunFolder::new("failpoints").unwrap();
    let template = artifacts::build(&run).await.unwrap();
    let mut bootstraps = 0;
    for entry in fs::read_dir(template.parent().unwrap()).unwrap() {
        let bootstrap = entry.unwrap().path().join("bootstrap");
        if bootstrap.exists() {
            bootstraps += 1;
            let found = found_in(&bootstrap, &all);
            assert!(found.is_empty(), "{} holds {found:?}", bootstrap.display());
        }
    }
    assert!(bootstraps >= FUNCTIONS.len(), "{bootstraps} bootstraps");
}

#[test]
fn where_failpoints_are_they_are_found() {
    let found = found_in(&build("ticket").unwrap(), &all());
    let own: BTreeSet<String> =
        failpoints("ticket").unwrap().into_iter().chain(["FAILPOINT".to_owned()]).collect();
    assert!(found.is_superset(&own), "{own:?} should be found, and {found:?} is");
}
