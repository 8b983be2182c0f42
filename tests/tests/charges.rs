//! The README's table of standing charges counts what the template makes: who adds a key, an alarm or a queue that is
//! polled sees here that somebody pays for it every month.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at what it did not expect")]

use serde_json::{Value, json};
use sync_tests::place;
use sync_tests::template::Template;

/// What the README's letters stand for.
struct Counts {
    targets: usize,
    databases: usize,
    streams: usize,
}

impl Counts {
    fn of(template: &Template) -> Self {
        let named = |prefix: &str| {
            template.of_type("AWS::Lambda::Function").filter(|(id, _)| id.starts_with(prefix)).count()
        };
        Self { targets: named("Deliver"), databases: named("CapturePull"), streams: named("CaptureStream") }
    }

    /// `10 + 3 n`, with n targets, d databases and s streams; whatever stands behind the formula is a remark.
    fn evaluate(&self, formula: &str) -> usize {
        let formula = formula.split(['(', ';', ':']).next().unwrap();
        let term = |term: &str| {
            let term = term.trim();
            let (factor, letter) = term.split_at(term.trim_end_matches(['n', 'd', 's']).len());
            let factor = match factor.trim() {
                "" => 1,
                digits => digits.parse().unwrap_or_else(|_| panic!("not a term: {term:?}")),
            };
            factor
                * match letter {
                    "" => 1,
                    "n" => self.targets,
                    "d" => self.databases,
                    "s" => self.streams,
                    other => panic!("no letter of the table: {other:?}"),
                }
        };
        formula.split('+').map(term).sum()
    }
}

/// The rows of the README's table whose number the template decides, and the resources that they count.
const ROWS: [(&str, &[&str]); 6] = [
    ("KMS keys", &["AWS::KMS::Key"]),
    ("CloudWatch alarms", &["AWS::CloudWatch::Alarm"]),
    ("Empty polls", &["AWS::Lambda::EventSourceMapping"]),
    ("Schedules", &["AWS::Scheduler::Schedule"]),
    ("Rules that sleep", &[SLEEPING_RULE]),
    ("DynamoDB tables", &["AWS::DynamoDB::Table"]),
];

/// A rule with a schedule of its own that is off. One that is on costs an invocation a minute, and has no row.
const SLEEPING_RULE: &str = "AWS::Events::Rule, asleep";

fn is_asleep(rule: &Value) -> bool {
    rule["ScheduleExpression"].is_string() && rule["State"] == "DISABLED"
}

fn count(template: &Template, kind: &str) -> usize {
    match kind.strip_suffix(", asleep") {
        Some(rule) => template.of_type(rule).filter(|(_, rule)| is_asleep(rule)).count(),
        None => template.of_type(kind).count(),
    }
}

/// Rules that are awake from the deploy on.
fn awake(template: &Template) -> Vec<&str> {
    let rules = template.of_type("AWS::Events::Rule");
    let scheduled = rules.filter(|(_, rule)| rule["ScheduleExpression"].is_string() && !is_asleep(rule));
    scheduled.map(|(id, _)| id).collect()
}

/// The rows that do not fit: as the README counts, as the template does.
fn differences(readme: &str, template: &Template) -> Vec<String> {
    let counts = Counts::of(template);
    let mut wrong = Vec::new();
    for (row, kinds) in ROWS {
        let start = format!("| {row} | ");
        let line = readme.lines().find_map(|line| line.strip_prefix(&start));
        let line = line.unwrap_or_else(|| panic!("the README has no row {row}"));
        let formula = line.split('|').next().unwrap();
        let made: usize = kinds.iter().map(|kind| count(template, kind)).sum();
        if counts.evaluate(formula) != made {
            wrong.push(format!("{row}: the README says {formula}, the template makes {made}"));
        }
    }
    wrong
}

#[test]
fn the_readme_counts_every_standing_charge() {
    let template = Template::read().unwrap();
    let readme = std::fs::read_to_string(place::root().join("README.md")).unwrap();
    assert_eq!(differences(&readme, &template), Vec::<String>::new());

    assert_eq!(awake(&template), Vec::<&str>::new(), "a schedule that nobody switches off has no row");
    let enabled = template.changed(|document| {
        document["Resources"]["DeliverLoyaltyProbeRule"]["Properties"]["State"] = json!("ENABLED");
    });
    assert_eq!(awake(&enabled), ["DeliverLoyaltyProbeRule"]);

    // One more of each is noticed.
    for (row, kinds) in ROWS {
        let kind = kinds[0].trim_end_matches(", asleep");
        let properties = json!({ "ScheduleExpression": "rate(1 minute)", "State": "DISABLED" });
        let more = template.changed(|document| {
            document["Resources"]["OneMore"] = json!({ "Type": kind, "Properties": properties });
        });
        assert!(differences(&readme, &more).iter().any(|wrong| wrong.starts_with(row)), "{row}");
    }
}
