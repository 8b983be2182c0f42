//! No value that the policy protects or does not list is seen anywhere: each carries a token of its own through a whole
//! day, errors included, and afterwards everything that was written anywhere is searched for all of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sync_tests::aws::Aws;
use sync_tests::canary::{Canary, Sieve};
use sync_tests::ink::Ink;
use sync_tests::judge::{at_rest, judge};
use sync_tests::rig::{Rig, Silent};
use sync_tests::run;
use sync_tests::sinks::{self, Sink, Spies};
use sync_tests::workload::{Size, workload};
use sync_tests::{pos, preferences};

/// The attributes that no model lists: they must not even reach the Changes queue.
const UNLISTED: &[&str] = &[
    "notes",
    "password_hint",
    "address.street",
    "name.maiden",
    "contacts[].label",
    "margin",
    "rent",
    "changed_by",
    "pos_customer.internal_note",
    "pos_price.internal_note",
    "pos_store.internal_note",
    "preference.internal_note",
];

/// The attributes that the policy protects.
const PROTECTED: &[&str] = &[
    "email",
    "phone",
    "national_id",
    "birth_date",
    "contacts[].value",
    "pos_customer.email",
    "pos_customer.phone",
    "pos_customer.profile",
    "pos_store.manager_email",
    "preference.note",
    "preference.signature",
];

/// Findings, one line each, without what was found.
fn sweep(sieve: &Sieve, sinks: &[Sink]) -> BTreeSet<String> {
    let found = |sink: &Sink| {
        let place = sink.place.clone();
        sieve.find(&sink.bytes).into_iter().map(move |finding| format!("{place}: {finding}"))
    };
    sinks.iter().flat_map(found).collect()
}

async fn set_mapping(aws: &Aws, uuid: &str, enabled: bool) {
    aws.lambda("PUT", &format!("/2015-03-31/event-source-mappings/{uuid}"), &json!({ "Enabled": enabled }))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_protected_or_unlisted_value_is_seen_anywhere() {
    let ink = Ink::canary("q7");
    let rig = Rig::start("canary", &ink, &Silent).await.unwrap();
    let spies = Spies::listen(&rig).await.unwrap();
    let day = workload(Size::default(), &ink).unwrap();

    // Messages wait in the Enrichment queue until the watcher has seen them.
    let mapping = rig.stack.resource("EnrichMapping").unwrap();
    set_mapping(rig.aws(), mapping, false).await;
    let opening = day.opening.clone();
    let (mut pushed, mut oracle) = (run::Pushed::default(), sync_tests::oracle::Oracle::new());
    pushed.push(&rig, &opening, &mut oracle).await.unwrap();
    let enrichment = rig.stack.queue_name("EnrichmentQueue").unwrap();
    let customers = opening
        .iter()
        .flat_map(|request| &request.changes)
        .filter(|change| change.model == "customer")
        .count();
    run::wait(Duration::from_secs(60), "the customers do not reach the Enrichment queue", || {
        let seen = spies.messages().iter().filter(|held| held.queue == enrichment).count();
        async move { Ok(seen >= customers) }
    })
    .await
    .unwrap();
    set_mapping(rig.aws(), mapping, true).await;

    let rest = sync_tests::workload::Workload { opening: Vec::new(), ..day };
    run::day_after(&rig, &rest, &Silent, &mut pushed, &mut oracle).await.unwrap();
    pos::day(&rig, &ink, &Silent).await.unwrap();
    preferences::day(&rig, &ink, &Silent).await.unwrap();
    let mut wrong = pushed.differences.clone();
    wrong.extend(judge(&rig, &oracle).await.unwrap());
    wrong.extend(at_rest(&rig, &rig.pos).await.unwrap());
    wrong.extend(preferences::differences(&rig).await.unwrap());
    assert!(wrong.is_empty(), "the day went wrong, so the sweep proves nothing: {wrong:#?}");

    let canaries = ink.canaries();
    let sieve = Sieve::new(&canaries).unwrap();
    let names: BTreeSet<&str> = canaries.iter().map(|canary| canary.name.as_str()).collect();
    for name in PROTECTED.iter().chain(UNLISTED) {
        assert!(names.contains(name), "nothing was written with {name}");
    }

    // What is held back clear on purpose: the encrypted Changes queue before the transform, and its dead letters.
    let clear = ["ChangesQueue", "ChangesDeadLetterQueue"].map(|id| rig.stack.queue_name(id).unwrap());
    let mut all = sinks::all(&rig, &spies, &clear).await.unwrap();
    all.extend(
        pushed
            .answers
            .iter()
            .map(|answer| Sink { place: "an answer".to_owned(), bytes: answer.clone().into_bytes() }),
    );
    let findings = sweep(&sieve, &all);
    assert!(findings.is_empty(), "{findings:#?}");

    // The spies have seen what they were put up for.
    for queue in ["spy-events.fifo", "spy-failures", "spy-alerts", enrichment] {
        assert!(
            all.iter().any(|sink| sink.place.starts_with(&format!("queue {queue} "))),
            "nothing was seen in {queue}"
        );
    }
    for place in ["table ", "log ", "delivery ", "the emulator's log"] {
        assert!(all.iter().any(|sink| sink.place.starts_with(place)), "no {place}was read");
    }

    // The tokens were there: the Changes queue has the listed ones, and not one that is not listed.
    let messages = spies.messages();
    let changes: Vec<Sink> =
        messages.iter().filter(|held| clear.contains(&held.queue.as_str())).map(sinks::message).collect();
    assert!(!sweep(&sieve, &changes).is_empty(), "the tokens never went in");
    let unlisted: Vec<Canary> =
        canaries.into_iter().filter(|canary| UNLISTED.contains(&canary.name.as_str())).collect();
    let findings = sweep(&Sieve::new(&unlisted).unwrap(), &changes);
    assert!(findings.is_empty(), "unlisted attributes were captured: {findings:#?}");

    leaks_are_found(&rig, &spies, &sieve, &clear, &unlisted[0]).await;
}

/// The sweep can fail: a leak in each kind of place is found.
async fn leaks_are_found(rig: &Rig, spies: &Spies, sieve: &Sieve, clear: &[&str], canary: &Canary) {
    let aws = rig.aws();
    let token = &canary.token;
    let ticket_table = rig.stack.output("TicketTableName").unwrap();
    let item =
        json!({ "pk": { "S": "leak" }, "note": { "S": STANDARD.encode(format!("it was {token} again")) } });
    aws.dynamodb("PutItem", &json!({ "TableName": ticket_table, "Item": item })).await.unwrap();
    let queue = aws.sqs("GetQueueUrl", &json!({ "QueueName": "spy-alerts" })).await.unwrap();
    let attribute = json!({ "leak": { "DataType": "String", "StringValue": token } });
    let body =
        json!({ "QueueUrl": queue["QueueUrl"], "MessageBody": "fine", "MessageAttributes": attribute });
    aws.sqs("SendMessage", &body).await.unwrap();
    let group = format!("{}Transform", rig.stack.output("LogGroupPrefix").unwrap());
    aws.logs("CreateLogStream", &json!({ "logGroupName": group, "logStreamName": "leak" })).await.unwrap();
    let hex: String = token.bytes().map(|byte| format!("{byte:02x}")).collect();
    let now = jiff::Timestamp::now().as_millisecond();
    let event = json!([{ "timestamp": now, "message": format!("failed for {hex}") }]);
    aws.logs("PutLogEvents", &json!({ "logGroupName": group, "logStreamName": "leak", "logEvents": event }))
        .await
        .unwrap();

    let findings = sweep(sieve, &sinks::all(rig, spies, clear).await.unwrap());
    for (place, form) in [("table ", "base64"), ("queue spy-alerts", "plain"), ("log ", "hex")] {
        let found = findings
            .iter()
            .any(|finding| finding.starts_with(place) && finding.contains(&format!("in {form}")));
        assert!(found, "the leak in {place} was not found: {findings:#?}");
    }
    let _: Value = aws
        .dynamodb("DeleteItem", &json!({ "TableName": ticket_table, "Key": { "pk": { "S": "leak" } } }))
        .await
        .unwrap();
}
