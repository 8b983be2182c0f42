//! `docs/GUARANTEES.md` names a test of this tree behind each promise: who renames or removes one sees here what was promised.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::fs;
use std::path::Path;

use sync_tests::place;

/// How long the document may be: it is read by those who decide, not looked things up in.
const LINES: usize = 150;

fn document() -> String {
    fs::read_to_string(place::root().join("docs/GUARANTEES.md")).unwrap()
}

/// Each `file.rs::test` of a text.
fn named(text: &str) -> Vec<(&str, &str)> {
    text.split('`').skip(1).step_by(2).filter_map(|code| code.split_once("::")).collect()
}

/// Whether a file of the tree has a test of this name.
fn is_test(root: &Path, file: &str, name: &str) -> bool {
    let text = fs::read_to_string(root.join(file)).unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let declared = |line: &&str| line.contains(&format!("fn {name}("));
    let Some(at) = lines.iter().position(declared) else { return false };
    let above =
        lines.iter().take(at).rev().take_while(|line| line.starts_with('#') || line.starts_with("//"));
    above.filter(|line| line.starts_with('#')).any(|line| line.contains("test]") || line.contains("test("))
}

/// What is wrong with the document.
fn breaches(text: &str) -> Vec<String> {
    let root = place::root();
    let missing = named(text).into_iter().filter(|(file, name)| !is_test(root, file, name));
    let mut breaches: Vec<_> = missing
        .map(|(file, name)| format!("{file} has no test {name}; name the one that shows it now"))
        .collect();
    let promises = text.split("\n## ").find(|part| part.starts_with("Promises")).unwrap_or_default();
    let rows: Vec<_> = promises.lines().filter(|line| line.starts_with("| **")).collect();
    if rows.is_empty() {
        breaches.push("there is no table of promises".to_owned());
    }
    for row in rows.into_iter().filter(|row| named(row).is_empty()) {
        breaches.push(format!("no test shows that {row}"));
    }
    if text.lines().count() > LINES {
        breaches.push(format!("the document has more than {LINES} lines"));
    }
    breaches
}

#[test]
fn every_promise_names_a_test_that_is_there() {
    let text = document();
    assert_eq!(breaches(&text), Vec::<String>::new());
    for page in ["README.md", "docs/ARCHITECTURE.md"] {
        assert!(fs::read_to_string(place::root().join(page)).unwrap().contains("GUARANTEES.md)"), "{page}");
    }

    // What is not a test, or nowhere, is noticed, and so is a promise that nothing shows.
    let name = "what_is_older_never_goes_out";
    let renamed = format!("{text}\n`crates/deliver/tests/it/ledger.rs::{name}_any_more`");
    let helper = format!("{text}\n`crates/deliver/tests/it/ledger.rs::version`");
    let elsewhere = format!("{text}\n`crates/deliver/tests/it/nowhere.rs::{name}`");
    let unshown = text.replacen(
        "| **A pause loses nothing**",
        "| **It costs nothing** | | |\n| **A pause loses nothing**",
        1,
    );
    for wrong in [renamed, helper, elsewhere, unshown, "\n".repeat(LINES) + &text] {
        assert!(!breaches(&wrong).is_empty());
    }
    assert!(is_test(place::root(), "crates/deliver/tests/it/ledger.rs", name));
}
