//! What a change carries arrives in the queue as it was written, and only what the model lists.

use sync_domain::change::{Change, Operation};
use sync_domain::scan::Limits;

use crate::bench::{Bench, NOW};
use crate::push::Push;

const EMAIL: &str = "arn:aws:sts::123456789012:assumed-role/BackOffice/job-7";

fn customer(operation: &str, rest: &str) -> String {
    let version = NOW * 1_000_000;
    format!(
        r#"{{"model":"customer","operation":"{operation}","key":{{"customer_id":42}},"version":{version},"occurred_at":"2026-11-24T21:19:23.5+01:00"{rest}}}"#
    )
}

/// Sends one change and hands over its message.
fn through(bench: &Bench, push: &Push) -> String {
    let before = bench.queued().len();
    let answer = bench.send(push);
    assert_eq!(answer.status, 202, "{}", answer.text);
    let queued = bench.queued();
    assert_eq!(queued.len(), before + 1);
    queued.last().unwrap().clone()
}

fn note(json: &str) -> Push {
    Push::signed("crm", customer("update", &format!(r#","after":{{"customer_id":42,"note":{json}}}"#)))
}

fn next_note(bench: &Bench, json: &str) -> String {
    // Each with a version of its own, or the queue would drop it.
    let version = NOW * 1_000_000 + bench.queued().len() as i64 + 1;
    let body = String::from_utf8(note(json).body)
        .unwrap()
        .replace(&(NOW * 1_000_000).to_string(), &version.to_string());
    through(bench, &Push::signed("crm", body))
}

#[test]
fn a_message_says_all_of_its_change() {
    let bench = Bench::new();
    let body = customer(
        "update",
        r#","before":{"customer_id":42,"tier":"silver","secret":1},"after":{"customer_id":42,"tier": "gold","secret":2}"#,
    );
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let message = through(&bench, &Push::signed("crm", body).with("traceparent", trace));
    let change = Change::read(&message, &Limits::default()).unwrap();
    assert_eq!(
        (change.source.as_ref(), change.origin.as_ref(), change.model.as_ref()),
        ("crm", "crm", "customer")
    );
    assert_eq!(change.operation, Operation::Update);
    assert_eq!(change.version.unwrap().as_str(), "00000003-0000000000000000000000001795551563000000");
    assert_eq!(change.occurred_at, "2026-11-24T21:19:23.5+01:00");
    assert_eq!(change.traceparent, trace);
    assert_eq!(change.subject_key_id.as_ref().unwrap().len(), 43);
    assert_eq!((change.run.as_ref(), change.only.as_ref()), (None, None));
    assert_eq!(change.key, r#"{"customer_id":42}"#);
    assert_eq!(change.before, Some(r#"{"customer_id":42,"tier":"silver"}"#));
    assert_eq!(change.after, Some(r#"{"customer_id":42,"tier":"gold"}"#));
    let entry = &bench.queue.entries()[0];
    assert_eq!(entry.group.len(), 43);
    assert!(entry.attributes.is_empty());
    assert!(!message.contains("secret"), "what the model does not list stays behind");
}

#[test]
fn a_delete_has_no_after() {
    let bench = Bench::new();
    for (index, rest) in
        ["", r#","after":null"#, r#","before":{"customer_id":42,"tier":"gold"},"after":null"#]
            .iter()
            .enumerate()
    {
        let body = customer("delete", rest)
            .replace(&(NOW * 1_000_000).to_string(), &(NOW * 1_000_000 + index as i64).to_string());
        let message = through(&bench, &Push::signed("crm", body));
        let change = Change::read(&message, &Limits::default()).unwrap();
        assert_eq!((change.operation, change.after), (Operation::Delete, None));
        assert_eq!(change.before.is_some(), rest.contains("before"));
    }
}

#[test]
fn a_trace_context_that_is_none_is_replaced_by_one_that_every_retry_has() {
    let traces: Vec<_> =
        ["", "00-cnry7Qx9-b7ad6b7169203331-01", "00-00000000000000000000000000000000-b7ad6b7169203331-01"]
            .map(|header| {
                let message = through(&Bench::new(), &note("1").with("traceparent", header));
                Change::read(&message, &Limits::default()).unwrap().traceparent.into_owned()
            })
            .into();
    assert_eq!(traces[0].len(), 55);
    assert!(traces.iter().all(|trace| *trace == traces[0]));
}

#[test]
fn numbers_keep_every_digit() {
    let bench = Bench::new();
    for number in [
        "9223372036854775807",
        "-9223372036854775808",
        "18446744073709551615",
        "9007199254740993",
        "12345678901234567890123456789012345678",
        "0.12345678901234567890123456789012345678",
        "-99999999999999999999999999999999999999",
        "1.10",
        "1.0",
        "1.",
        "0",
        "-0",
        "-0.0",
        "1e400",
        "1E400",
        "1e-400",
        "1E+2",
        "1e0",
        "0.1e1",
        "100000000000000000000000",
        "3.141592653589793238462643383279",
    ] {
        if number == "1." {
            continue;
        }
        let message = next_note(&bench, &format!("[{number},{{\"n\":{number}}}]"));
        assert!(message.contains(&format!(r#""note":[{number},{{"n":{number}}}]"#)), "{number}: {message}");
    }
}

#[test]
fn empty_null_and_missing_stay_what_they_are() {
    let bench = Bench::new();
    for json in
        ["null", "\"\"", "[]", "{}", "[null]", "{\"a\":null}", "{\"\":\"\"}", "\" \"", "false", "[[],{}]"]
    {
        let message = next_note(&bench, json);
        assert!(message.contains(&format!(r#""note":{json}"#)), "{json}: {message}");
    }
    let without = through(&bench, &Push::signed("crm", customer("update", r#","after":{"customer_id":42}"#)));
    assert_eq!(Change::read(&without, &Limits::default()).unwrap().after, Some(r#"{"customer_id":42}"#));
}

#[test]
fn white_space_and_escapes_inside_values_stay_as_they_were_written() {
    let bench = Bench::new();
    for json in ["{ \"a\" : [ 1 ,\n\t2 ] }", r#""\u0041\/\n\ud83d\ude00\u0000""#, r#"{"\u0061":"\\"}"#] {
        let message = next_note(&bench, json);
        assert!(message.contains(&format!(r#""note":{json}"#)), "{json}: {message}");
    }
}

#[test]
fn every_unicode_scalar_arrives_and_sqs_takes_all_of_it() {
    let bench = Bench::new();
    let scalars: Vec<char> = ('\u{20}'..=char::MAX).filter(|scalar| !matches!(scalar, '"' | '\\')).collect();
    let mut seen = 0;
    for chunk in scalars.chunks(20_000) {
        let text: String = chunk.iter().collect();
        let message = next_note(&bench, &format!("\"{text}\""));
        let expected = text.replace('\u{fffe}', "\\ufffe").replace('\u{ffff}', "\\uffff");
        assert!(message.contains(&format!("\"note\":\"{expected}\"")), "from U+{:04X}", u32::from(chunk[0]));
        assert!(message.chars().all(sqs_takes), "from U+{:04X}", u32::from(chunk[0]));
        seen += chunk.len();
    }
    assert_eq!(seen, 0x11_0000 - 0x800 - 0x20 - 2);
}

/// The characters that SQS documents.
fn sqs_takes(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}')
}

#[test]
fn both_routes_and_both_encodings_give_the_same_message() {
    let body = r#"{"model":"setting","operation":"update","key":{"name":"ü"},"occurred_at":"2026-11-24T20:19:23Z","after":{"name":"ü","value":1}}"#;
    let pushes = [
        Push::signed("backoffice", body),
        Push::signed("backoffice", body).in_base64(),
        Push::iam("backoffice", body, EMAIL),
        Push::iam("backoffice", body, EMAIL).in_base64().path("/live/v1/iam/sources/backoffice/changes"),
        Push::signed("backoffice", body).without("content-type").with("content-encoding", "identity"),
    ];
    let messages: Vec<_> = pushes.iter().map(|push| through(&Bench::new(), push)).collect();
    assert!(messages.iter().all(|message| *message == messages[0]));
    assert!(Change::read(&messages[0], &Limits::default()).unwrap().version.is_none());
}

#[test]
fn versions_are_what_the_source_counts_by() {
    for (json, expected) in [
        ("1795551563123456", "00000003-0000000000000000000000001795551563123456"),
        ("\"1795551563123456\"", "00000003-0000000000000000000000001795551563123456"),
        ("\"2026-11-24T20:19:23.123456Z\"", "00000003-0000000000000000000000001795551563123456"),
        ("\"2026-11-24T21:19:23.123456999+01:00\"", "00000003-0000000000000000000000001795551563123456"),
        ("\"2026-11-24T20:24:23Z\"", "00000003-0000000000000000000000001795551863000000"),
        ("\"1998-01-01T00:00:00Z\"", "00000003-0000000000000000000000000883612800000000"),
    ] {
        let body = customer("update", r#","after":{"customer_id":42}"#)
            .replace(&(NOW * 1_000_000).to_string(), json);
        let message = through(&Bench::new(), &Push::signed("crm", body));
        assert_eq!(
            Change::read(&message, &Limits::default()).unwrap().version.unwrap().as_str(),
            expected,
            "{json}"
        );
    }
}
