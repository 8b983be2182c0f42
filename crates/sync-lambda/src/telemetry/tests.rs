use std::sync::Mutex;

use serde_json::Value;
use sync_domain::outcome::Reason;

use super::*;

/// The lines of one test: the logger's writer is a plain function, so each test has its own list by thread.
fn log(level: LevelFilter, work: impl FnOnce()) -> Vec<Value> {
    thread_local!(static LINES: Mutex<Vec<String>> = const { Mutex::new(Vec::new()) });
    let write = |line: &str| LINES.with(|lines| lines.lock().unwrap().push(line.to_owned()));
    tracing::subscriber::with_default(JsonLines { function: "test", level, write }, work);
    let lines = LINES.with(|lines| std::mem::take(&mut *lines.lock().unwrap()));
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_line_holds_allow_listed_fields_only() {
    let [line] = log(LevelFilter::INFO, || {
        tracing::info!(record.id = "r", failed_count = 3, email = "a@example.com", body = "secret", "worked");
    })
    .try_into()
    .unwrap();
    assert_eq!(line["message"], "worked");
    assert_eq!(line["record.id"], "r");
    assert_eq!(line["failed_count"], 3);
    assert_eq!(line["function"], "test");
    let text = line.to_string();
    assert!(!text.contains("a@example.com") && !text.contains("secret") && !text.contains("email"), "{text}");
}

#[test]
fn other_crates_do_not_write() {
    let lines = log(LevelFilter::TRACE, || {
        tracing::error!(target: "aws_smithy_runtime::client", "request body");
        tracing::error!(target: "lambda_runtime", "payload");
        tracing::error!(target: "sync_aws_x", "looks like ours");
        tracing::error!(target: "sync_aws::sqs", "ours");
    });
    assert_eq!(lines.iter().map(|line| line["message"].as_str().unwrap()).collect::<Vec<_>>(), ["ours"]);
}

#[test]
fn the_level_holds_back_what_is_below_it() {
    let lines = log(LevelFilter::WARN, || {
        tracing::info!("quiet");
        tracing::warn!("loud");
    });
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["level"], "WARN");
}

#[test]
fn a_line_is_one_line_of_json_whatever_a_field_holds() {
    let nasty = "a\"b\\c\r\n\u{1b}[31m\u{0}\u{2028}\u{85}";
    let lines = log(LevelFilter::INFO, || tracing::info!(reason = nasty, place = ?nasty, "x"));
    assert_eq!(lines[0]["reason"], nasty);
}

#[test]
fn a_long_field_is_cut() {
    let lines = log(LevelFilter::INFO, || tracing::info!(error = "ü".repeat(5_000), "x"));
    assert_eq!(lines[0]["error"].as_str().unwrap().len(), MAX_FIELD);
}

#[test]
fn an_error_is_written_by_its_text() {
    let error = crate::settings::Error::Missing("QUEUE_URL");
    let lines = log(LevelFilter::INFO, || tracing::error!(error = %error, "the setup failed"));
    assert_eq!(lines[0]["error"], "the environment variable QUEUE_URL is not set");
}

#[test]
fn the_allow_list_is_sorted_and_has_no_field_twice() {
    let mut sorted = FIELDS.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted, FIELDS);
}

#[test]
fn a_batch_is_counted_by_outcome() {
    let outcomes = [
        Outcome::Published,
        Outcome::Published,
        Outcome::Retry(Reason::new("a", "")),
        Outcome::Filtered("operation"),
    ];
    let target = TargetId::try_from("loyalty".to_owned()).unwrap();
    let took = Duration::from_millis(12);
    let line = metrics_line(
        Stage::Deliver,
        Some(&target),
        &outcomes,
        took,
        Duration::from_millis(1_795_559_963_000),
    );
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["_aws"]["Timestamp"], 1_795_559_963_000_u64);
    assert_eq!((&line["records"], &line["published"], &line["retry"]), (&4.into(), &2.into(), &1.into()));
    assert_eq!((&line["filtered"], &line["duration_ms"]), (&1.into(), &12.into()));
    assert_eq!((&line["stage"], &line["target"]), (&"deliver".into(), &"loyalty".into()));
    let directive = &line["_aws"]["CloudWatchMetrics"][0];
    assert_eq!(directive["Dimensions"], serde_json::json!([["stage", "target"]]));
    for metric in directive["Metrics"].as_array().unwrap() {
        assert!(line[metric["Name"].as_str().unwrap()].is_number(), "{metric}");
    }
}

#[test]
fn a_stage_without_a_target_has_one_dimension() {
    let line = metrics_line(Stage::Transform, None, &[], Duration::ZERO, Duration::ZERO);
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["_aws"]["CloudWatchMetrics"][0]["Dimensions"], serde_json::json!([["stage"]]));
    assert_eq!(line.get("target"), None);
}
