//! The wrong designs of `tests/mutants`: each applies to the tree as it is, and names a test that stands. `make mutants` sees that each is caught.

use sync_tests::mutants::read;
use sync_tests::place::root;

/// So many wrong designs of delivery and its queues there are at least.
const LEAST: usize = 25;

#[test]
fn every_wrong_design_applies_and_names_a_test_that_stands() {
    let mutants = read(root()).unwrap();
    let problems: Vec<String> = mutants
        .iter()
        .flat_map(|mutant| {
            let applied = mutant.applied(root()).map(drop);
            let test = mutant.caught_by.file(root()).map(drop);
            let name = &mutant.name;
            [applied.err(), test.err()].into_iter().flatten().map(move |error| format!("{name}: {error:#}"))
        })
        .collect();
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    assert!(mutants.len() >= LEAST, "only {} are left", mutants.len());
}
