//! Wrong designs of delivery and its queues that look right (`tests/mutants/*.yaml`): each a change to the tree, with the
//! test that must fail under it. A test that a wrong design passes proves nothing.
//!
//! `tests/tests/mutants.rs` holds that every one still applies and names a test that stands; `make mutants` tries each
//! out ([`trial`]).

pub mod trial;

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// Where the wrong designs stand, from the root of the repository.
pub const FOLDER: &str = "tests/mutants";

/// A wrong design.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutant {
    /// The name of its file, without the ending.
    #[serde(skip)]
    pub name: String,
    /// What is wrong.
    pub wrong: String,
    /// Why somebody would do it all the same.
    pub tempting: String,
    /// What makes it of the tree.
    pub change: Vec<Change>,
    /// What must fail under it.
    pub caught_by: Test,
}

/// A replacement of text in one file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The file, from the root of the repository.
    #[serde(rename = "in")]
    pub file: String,
    /// What goes. It stands exactly once in the file; how its words are spaced and broken into lines makes no difference, so
    /// that `cargo fmt` does not touch it.
    pub find: String,
    /// What comes instead.
    pub put: String,
}

/// One test.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// The package.
    pub package: String,
    /// `lib` for its unit tests, or the name of a target in its folder `tests`.
    pub tests: String,
    /// The test's name in that target, modules included.
    pub name: String,
}

/// All of them, by name.
pub fn read(root: &Path) -> Result<Vec<Mutant>> {
    let folder = root.join(FOLDER);
    let mut mutants = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "yaml") {
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            mutants.push(Mutant::parse(&name, &text)?);
        }
    }
    mutants.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(mutants)
}

impl Mutant {
    fn parse(name: &str, text: &str) -> Result<Self> {
        let mutant: Self = serde_saphyr::from_str(text).with_context(|| place(name))?;
        ensure!(!mutant.change.is_empty(), "{}: it changes nothing", place(name));
        Ok(Self { name: name.to_owned(), ..mutant })
    }

    /// The files that it changes, as they are then.
    pub fn applied(&self, root: &Path) -> Result<BTreeMap<&str, String>> {
        let mut files = BTreeMap::new();
        for change in &self.change {
            let text = match files.remove(change.file.as_str()) {
                Some(text) => text,
                None => fs::read_to_string(root.join(&change.file))
                    .with_context(|| format!("{}: cannot read {}", place(&self.name), change.file))?,
            };
            let changed = change.apply(&text).with_context(|| place(&self.name))?;
            files.insert(change.file.as_str(), changed);
        }
        Ok(files)
    }
}

/// How a file of this folder is named in an error.
fn place(name: &str) -> String {
    format!("{FOLDER}/{name}.yaml")
}

impl Change {
    fn apply(&self, text: &str) -> Result<String> {
        let places = places(text, &self.find);
        let [place] = places.as_slice() else {
            bail!(
                "its `find` stands {} times in {}, not once: write down what stands there now, or delete the mutant if the \
                 design that it breaks is gone; looked for\n{}",
                places.len(),
                self.file,
                self.find
            );
        };
        let (before, after) = (text.get(..place.start), text.get(place.end..));
        let changed = format!("{}{}{}", before.unwrap_or_default(), self.put, after.unwrap_or_default());
        ensure!(changed != text, "its `put` is what stands in {} already", self.file);
        Ok(changed)
    }
}

/// Where the words of `pattern` stand one behind the other, with any white space between two of them.
fn places(text: &str, pattern: &str) -> Vec<Range<usize>> {
    let words: Vec<&str> = pattern.split_whitespace().collect();
    let Some((first, rest)) = words.split_first() else { return Vec::new() };
    let end_of = |start: usize| {
        let mut end = start.checked_add(first.len())?;
        for word in rest {
            let behind = text.get(end..)?;
            let trimmed = behind.trim_start();
            if trimmed.len() == behind.len() || !trimmed.starts_with(word) {
                return None;
            }
            end = text.len().checked_sub(trimmed.len())?.checked_add(word.len())?;
        }
        Some(end)
    };
    let starts = text.match_indices(first).map(|(start, _)| start);
    starts.filter_map(|start| Some(start..end_of(start)?)).collect()
}

impl Test {
    /// The folder of its package, from the root of the repository.
    fn folder(&self) -> String {
        match self.package.as_str() {
            "sync-tests" => "tests".to_owned(),
            "sync-bench" => "tests/bench".to_owned(),
            "sync-chaos" => "tests/chaos".to_owned(),
            package => format!("crates/{package}"),
        }
    }

    /// The root of its target, from the folder of its package.
    fn source(&self, root: &Path) -> Result<String> {
        let folder = root.join(self.folder());
        let sources = match self.tests.as_str() {
            "lib" => vec!["src/lib.rs".to_owned()],
            target => vec![format!("tests/{target}.rs"), format!("tests/{target}/main.rs")],
        };
        let source = sources.into_iter().find(|source| folder.join(source).is_file());
        source.with_context(|| format!("there is no target {} in {}", self.tests, folder.display()))
    }

    /// The file in which it stands.
    pub fn file(&self, root: &Path) -> Result<PathBuf> {
        let source = root.join(self.folder()).join(self.source(root)?);
        let mut files = vec![source.clone()];
        let mut base = source.as_path();
        // A single file in `tests` is a crate by itself; its neighbours are others.
        if source.ends_with("lib.rs") || source.ends_with("main.rs") {
            base = source.parent().unwrap_or(root);
            files.clear();
            collect(base, &mut files)?;
        }
        for file in files {
            let modules = modules(file.strip_prefix(base).unwrap_or(&file));
            let inside = match modules.as_str() {
                "" => Some(self.name.as_str()),
                modules => self.name.strip_prefix(modules).and_then(|rest| rest.strip_prefix("::")),
            };
            let Some(inside) = inside else { continue };
            let name = inside.strip_prefix("tests::").unwrap_or(inside);
            if !name.contains("::") && holds_test(&fs::read_to_string(&file)?, name) {
                return Ok(file);
            }
        }
        bail!(
            "{} has no test {} in {}: name the one that catches it now, or write it",
            self.package,
            self.name,
            self.tests
        )
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// The module that a file is, by its path from the root of its crate.
fn modules(file: &Path) -> String {
    let bare = file.with_extension("");
    let names = bare.components().filter_map(|component| match component {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    let names: Vec<&str> = names.filter(|name| !matches!(*name, "lib" | "main" | "mod")).collect();
    names.join("::")
}

/// Whether a text holds a test of this name that runs by itself.
fn holds_test(text: &str, name: &str) -> bool {
    let (plain, asynchronous) = (format!("fn {name}("), format!("async fn {name}("));
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    let at = lines.iter().position(|line| line.starts_with(&plain) || line.starts_with(&asynchronous));
    let above = lines.iter().take(at.unwrap_or_default()).rev();
    let attributes: Vec<&&str> =
        above.take_while(|line| line.starts_with("#[") || line.starts_with("//")).collect();
    attributes.iter().any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
        && !attributes.iter().any(|line| line.starts_with("#[ignore"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(find: &str, put: &str) -> Change {
        Change { file: "a.rs".to_owned(), find: find.to_owned(), put: put.to_owned() }
    }

    #[test]
    fn the_words_are_found_however_they_are_spaced_and_only_once() {
        let text = "fn a() {\n    if x {\n        y();\n    }\n}\n";
        assert_eq!(
            change("if x {\n  y();\n}", "z();").apply(text).unwrap(),
            "fn a() {\n    z();\n}\n",
            "the rest stays byte for byte"
        );
        assert_eq!(change("x", "w").apply("ab x").unwrap(), "ab w");
        assert!(change("i f", "w").apply(text).is_err(), "a word is a word");
        assert!(change("if x { z();", "w").apply(text).is_err());
        assert!(change("", "w").apply(text).is_err());
    }

    #[test]
    fn what_is_stale_says_where_and_what_to_do() {
        for (find, text, count) in [("gone", "fn a() {}", "0 times"), ("a", "a a", "2 times")] {
            let error = change(find, "x").apply(text).unwrap_err().to_string();
            assert!(
                error.contains(count) && error.contains("a.rs") && error.contains("write down"),
                "{error}"
            );
        }
        let error = change("fn a()", "fn a()").apply("fn a() {}").unwrap_err().to_string();
        assert!(error.contains("already"), "{error}");
    }

    #[test]
    fn a_file_that_says_less_or_more_is_refused_by_name() {
        for text in
            ["wrong: x", "wrong: x\ntempting: y\nchange: []\ncaught_by: { package: p, tests: lib, name: n }"]
        {
            let error = format!("{:#}", Mutant::parse("m", text).unwrap_err());
            assert!(error.contains("tests/mutants/m.yaml"), "{error}");
        }
    }

    #[test]
    fn only_what_runs_as_a_test_is_one() {
        let text = "#[test]\nfn a() {}\n\n#[tokio::test(start_paused = true)]\n/// Why.\nasync fn b() {}\n\nfn c() {}\n\
                    #[test]\n#[ignore = \"long\"]\nfn d() {}\n";
        let held: Vec<_> =
            ["a", "b", "c", "d", "e"].into_iter().filter(|name| holds_test(text, name)).collect();
        assert_eq!(held, ["a", "b"]);
    }

    #[test]
    fn a_test_is_found_in_its_own_module_alone() {
        let root = crate::place::root();
        let test = |package: &str, tests: &str, name: &str| Test {
            package: package.to_owned(),
            tests: tests.to_owned(),
            name: name.to_owned(),
        };
        let own = "only_what_runs_as_a_test_is_one";
        let found = test("sync-tests", "lib", &format!("mutants::tests::{own}")).file(root).unwrap();
        assert!(found.ends_with("tests/src/mutants.rs"));
        for elsewhere in [own.to_owned(), format!("place::tests::{own}"), "mutants::tests::gone".to_owned()] {
            assert!(test("sync-tests", "lib", &elsewhere).file(root).is_err(), "{elsewhere}");
        }
        assert!(test("sync-tests", "gone", own).file(root).is_err());
        assert!(test("gone", "lib", own).file(root).is_err());
    }
}
