//! The sample invocations in `events/capture-stream`: each one ends as its name says, under the shipped configuration.

use std::fs;
use std::path::Path;

use capture_stream::payload::Error;

use crate::world::World;

/// How a file ends: the messages in the queue, and the reasons of what is parked.
type End = Result<(usize, &'static [&'static str]), Error>;

const EXPECTED: [(&str, End); 12] = [
    ("batch.json", Ok((4, &[]))),
    ("insert.json", Ok((1, &[]))),
    ("keys-only.json", Err(Error::OtherView)),
    ("malformed.json", Err(Error::NotABatch)),
    ("modify.json", Ok((1, &[]))),
    ("other-table.json", Err(Error::OtherTable)),
    ("poison-in-the-middle.json", Ok((2, &["key_value"]))),
    ("redriven-from-lambda.json", Ok((2, &[]))),
    ("redriven.json", Ok((1, &[]))),
    ("remove.json", Ok((1, &[]))),
    ("ttl-remove.json", Ok((1, &[]))),
    ("wrong-key-type.json", Ok((0, &["key_value"]))),
];

fn sample(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events/capture-stream").join(name))
        .unwrap()
}

#[tokio::test]
async fn every_sample_ends_as_its_name_says() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events/capture-stream");
    let mut names: Vec<_> =
        fs::read_dir(&dir).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    // What is asked of the function is no batch.
    names.retain(|name| !name.starts_with("backfill"));
    names.sort();
    assert_eq!(names, EXPECTED.map(|(name, _)| name), "every sample is expected to end somehow");
    for (name, expected) in EXPECTED {
        let world = World::shipped();
        let ended = world.handle(&sample(name)).await;
        assert_eq!(ended.as_ref().err(), expected.as_ref().err(), "{name}");
        let (queued, parked) = expected.unwrap_or_default();
        assert!(ended.is_err() || ended.unwrap().0.batch_item_failures.is_empty(), "{name}");
        assert_eq!(
            (world.queued().len(), world.parked()),
            (queued, parked.iter().map(|code| (*code).to_owned()).collect()),
            "{name}"
        );
        let told = format!("{:?}", world.bus.reported());
        assert!(!told.contains("Erika") && !told.contains("news"), "{name}: a report holds a value");
    }
}

#[tokio::test]
async fn an_item_of_many_types_arrives_as_it_is_and_without_what_the_model_does_not_list() {
    let world = World::shipped();
    world.handle(&sample("insert.json")).await.unwrap();
    let after = r#"{"affinity":0.12345678901234567890123456789012345678,"allowed":true,"changed_at":"2026-11-24T20:19:23Z","channels":["email","post","sms"],"customer_id":4711,"note":"never on Sundays, Ada ❤️","quiet_hours":{"from":22,"to":7},"signature":"3q2+7w==","topic":"news"}"#;
    let [body] = world.queued().try_into().unwrap();
    let (_, written) = body.split_once(r#""after":"#).unwrap();
    // As text: through a JSON parser the digits would be lost.
    assert_eq!(written, format!("{after}}}"));
    let [change] = world.changes().try_into().unwrap();
    assert_eq!(change["operation"], "create");
    assert_eq!(change["source"], "preferences");
    assert_eq!(change["origin"], "preferences");
    assert_eq!(change["version"], "00000000-0000000000004421584500000000017450439092");
    assert_eq!(change["occurred_at"], "2026-11-24T20:19:23Z");
    assert_eq!(change["key"], serde_json::json!({ "customer_id": 4711, "topic": "news" }));
    assert!(change["before"].is_null());
    assert!(change["subjectkeyid"].is_string());
}

#[tokio::test]
async fn what_lambda_put_into_the_bucket_is_the_same_change_again() {
    let world = World::shipped();
    world.handle(&sample("insert.json")).await.unwrap();
    world.handle(&sample("modify.json")).await.unwrap();
    let first = world.queued();
    world.handle(&sample("redriven-from-lambda.json")).await.unwrap();
    assert_eq!(world.queued(), first, "within five minutes the queue drops it");
    let later = World::shipped();
    later.handle(&sample("redriven-from-lambda.json")).await.unwrap();
    assert_eq!(later.queued(), first, "and later it is byte for byte the same");
}
