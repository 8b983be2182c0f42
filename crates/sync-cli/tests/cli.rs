//! The command as people run it: what it prints and how it exits.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The root of the repository, where the command is run.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn datasync(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_datasync")).args(arguments).current_dir(root()).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A copy of the sample configuration that a test may break; removed at the end.
struct Copy(PathBuf);

impl Copy {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("datasync-cli-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        for folder in ["models", "sources", "targets"] {
            std::fs::create_dir_all(dir.join(folder)).unwrap();
            for file in std::fs::read_dir(root().join("infra/layer/sync").join(folder)).unwrap() {
                let file = file.unwrap();
                std::fs::copy(file.path(), dir.join(folder).join(file.file_name())).unwrap();
            }
        }
        Self(dir)
    }

    fn replace(&self, path: &str, from: &str, to: &str) {
        let path = self.0.join(path);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(path, text.replacen(from, to, 1)).unwrap();
    }

    fn validate(&self) -> Output {
        datasync(&["validate", "--config", self.0.to_str().unwrap()])
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_configuration_and_the_template_of_the_project_are_in_order() {
    let output = datasync(&["validate"]);
    assert_eq!(text(&output.stdout), "8 models, 7 sources, 2 targets: in order (0 warnings)\n");
    assert_eq!(output.status.code(), Some(0));
}

/// `validate` bounds what a look-up and a target may take by how long the functions live that wait for them.
#[test]
fn the_functions_live_as_long_as_the_bounds_of_timeouts_count_on() {
    let template = std::fs::read_to_string(root().join("template.yaml")).unwrap();
    for (function, seconds) in [("  Enrich:\n", 30), ("  \"Deliver${Target}\":\n", 60)] {
        let (_, body) = template.split_once(function).unwrap();
        let timeout = body.lines().find_map(|line| line.trim().strip_prefix("Timeout: ")).unwrap();
        assert_eq!(timeout.parse(), Ok(seconds), "{function}");
    }
}

#[test]
fn an_error_is_printed_with_file_line_and_path_and_exits_1() {
    let copy = Copy::new("error");
    copy.replace("models/customer.yaml", "/customers/{customer_id}\"", "/customers/{email}\"");
    let output = copy.validate();
    let printed = text(&output.stdout);
    let file = copy.0.join("models/customer.yaml");
    let line = 1 + std::fs::read_to_string(&file)
        .unwrap()
        .lines()
        .position(|line| line.contains("{email}"))
        .unwrap();
    let expected = format!("error: {}:{line}:5: enrich.http.url: email is protected", file.display());
    assert!(printed.starts_with(&expected), "{printed}\nshould begin with\n{expected}");
    assert!(printed.ends_with("1 errors, 0 warnings\n"), "{printed}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_secret_in_a_file_is_not_printed() {
    let copy = Copy::new("secret");
    copy.replace("targets/loyalty.yaml", "datasync/target/loyalty", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let output = copy.validate();
    let printed = text(&output.stdout);
    assert!(
        printed.contains("endpoint.auth.standard_webhooks: this looks like a secret itself"),
        "{printed}"
    );
    assert!(!printed.contains("MfKQ9r8"), "{printed}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn the_template_is_held_against_the_targets() {
    let copy = Copy::new("template");
    copy.replace("targets/loyalty.yaml", "when_changed: [email, ", "when_changed: [city, email, ");
    let output = copy.validate();
    let printed = text(&output.stdout);
    assert!(printed.contains("error: template.yaml:"), "{printed}");
    assert!(
        printed.contains("Mappings.Targets.Loyalty.Changed: lacks city, so the target would never get that"),
        "{printed}"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_target_is_not_named_like_a_part_of_the_stack() {
    let copy = Copy::new("names");
    let template = std::fs::read_to_string(root().join("template.yaml")).unwrap();
    let path = copy.0.join("template.yaml");
    for (name, taken) in [
        ("Changes", "ChangesQueue"),
        ("Enrichment", "EnrichmentDeadLetterQueue"),
        ("Ticket", "TicketDeadLetterQueue"),
        ("TicketRule", "TicketRuleDeadLetterAlarm"),
    ] {
        let renamed = template
            .replace("    Loyalty:", &format!("    {name}:"))
            .replace("[Loyalty,", &format!("[{name},"));
        std::fs::write(&path, renamed).unwrap();
        let output = datasync(&[
            "validate",
            "--config",
            copy.0.to_str().unwrap(),
            "--template",
            path.to_str().unwrap(),
        ]);
        let printed = text(&output.stdout);
        let expected = format!("Mappings.Targets.{name}: would make ");
        let line = printed.lines().find(|line| line.contains(&expected)).unwrap_or(printed);
        assert!(line.contains(taken) && line.contains("give the entry another name"), "{printed}");
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn an_administrator_gets_what_makes_a_source_readable_and_what_takes_it_away() {
    for (source, made, taken) in [
        ("pos-customers", "pg_create_logical_replication_slot", "pg_drop_replication_slot"),
        ("pos-prices", "CREATE OR REPLACE TRIGGER", "DROP FUNCTION"),
        ("pos-stores", "ADD COLUMN IF NOT EXISTS", "DROP FUNCTION"),
    ] {
        let install = datasync(&["sql", source, "--role", "till reader"]);
        let printed = text(&install.stdout);
        assert!(printed.contains(made) && printed.contains("\"till reader\""), "{printed}");
        let remove = datasync(&["sql", source, "--remove"]);
        let printed = text(&remove.stdout);
        assert!(printed.contains(taken) && !printed.contains(made), "{printed}");
    }
    assert_eq!(datasync(&["sql", "crm"]).status.code(), Some(2), "a source that pushes has none");
}

#[test]
fn a_warning_does_not_fail() {
    let copy = Copy::new("warning");
    copy.replace(
        "models/customer.yaml",
        "name.last: { class: personal, type: string, protect: none }",
        "name.last: { class: personal, type: string }",
    );
    std::fs::write(copy.0.join("targets/old.yml"), "target: old\n").unwrap();
    let output = copy.validate();
    let printed = text(&output.stdout);
    assert!(printed.contains("attributes.name.last: is personal and left clear"), "{printed}");
    assert!(printed.contains("targets/old.yml:1:1: is not read"), "{printed}");
    assert!(printed.ends_with("8 models, 7 sources, 2 targets: in order (2 warnings)\n"), "{printed}");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn what_cannot_be_read_exits_2() {
    let output = datasync(&["validate", "--config", "/nowhere/at/all"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr)
            .starts_with("datasync: the configuration cannot be read: no configuration files in")
    );
    let output = datasync(&["validate", "--template", "/nowhere/template.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("/nowhere/template.yaml"));
}

#[test]
fn a_target_prints_its_entry_for_the_template() {
    let output = datasync(&["filter-policy", "loyalty"]);
    assert_eq!(
        text(&output.stdout),
        "    Loyalty:\n      Name: loyalty\n      Secret: datasync/target/loyalty\n      Table: n/a\n      \
         Models: [customer]\n      Operations: [create, update, delete, snapshot]\n      Changed: [email, full_name, phone, tier, unknown]\n      \
         MaxConcurrency: 5\n"
    );
    let output = datasync(&["filter-policy", "nobody"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("no target nobody"));
}

#[test]
fn a_value_that_is_not_sealed_is_refused_before_aws_is_asked() {
    let output =
        datasync(&["reveal", "dst1.abc.def", "--model", "customer", "--attribute", "email", "--rid", "x"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output.stderr), "datasync: not opened: this is no sealed value of format dse1\n");
    assert!(output.stdout.is_empty());
}

#[test]
fn dead_letters_are_somebodys_and_are_discarded_for_a_reason() {
    let output = datasync(&["dead-letters", "list", "--target", "warehouse"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        text(&output.stderr),
        "datasync: dead letters: say --dead-letter-queue, set DEAD_LETTER_QUEUE_URL, or give --outputs with \
         WarehouseDeadLetterQueueUrl\n"
    );
    let output = datasync(&["dead-letters", "redrive", "--stage", "changes", "--dead-letter-queue", "q"]);
    assert!(
        text(&output.stderr).contains("say --queue, set QUEUE_URL, or give --outputs with ChangesQueueUrl")
    );
    for (lacks, words) in [
        ("--target", vec!["list"]),
        ("--because", vec!["discard", "--target", "warehouse", "--yes"]),
        ("--stage", vec!["list", "--stage", "changes", "--target", "warehouse"]),
    ] {
        let output = datasync(&[&["dead-letters"], words.as_slice()].concat());
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(lacks), "{}", text(&output.stderr));
    }
}
