//! The sample invocations in `events/transform`: each one reads, under the shipped configuration, and ends as its name says.

use std::fs;
use std::path::Path;

use aws_lambda_events::sqs::SqsEvent;

use crate::world::{NOW, World};

/// Of each file: how many events go to the topic, how many to the Enrichment queue, and the reasons of what is parked.
const EXPECTED: [(&str, usize, usize, &[&str]); 15] = [
    ("batch.json", 2, 3, &["unknown_model"]),
    ("before.json", 1, 0, &[]),
    ("create.json", 0, 1, &[]),
    ("delete.json", 0, 1, &[]),
    ("digits.json", 1, 0, &[]),
    ("forbidden-model.json", 0, 0, &["forbidden_model"]),
    ("last-receive.json", 0, 1, &[]),
    ("queue-version.json", 1, 0, &[]),
    ("redriven.json", 1, 0, &[]),
    ("snapshot.json", 0, 1, &[]),
    ("type-mismatch.json", 0, 0, &["type_mismatch"]),
    ("unknown-model.json", 0, 0, &["unknown_model"]),
    ("unknown-source.json", 0, 0, &["unknown_source"]),
    ("unreadable.json", 0, 0, &["not_a_change"]),
    ("update.json", 0, 1, &[]),
];

#[tokio::test]
async fn every_sample_ends_as_its_name_says() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events/transform");
    let mut names: Vec<_> =
        fs::read_dir(&dir).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, EXPECTED.map(|(name, ..)| name), "every sample is expected to end somehow");
    for (name, published, queued, parked) in EXPECTED {
        let event: SqsEvent = serde_json::from_slice(&fs::read(dir.join(name)).unwrap()).unwrap();
        let world = World::shipped();
        assert!(world.invoke(event, NOW).await.is_empty(), "{name}");
        let reasons: Vec<String> = world.parked().into_iter().map(|(code, _)| code).collect();
        assert_eq!(
            (world.topic.published().len(), world.enrichment.entries().len(), reasons.as_slice()),
            (published, queued, parked.iter().map(|code| (*code).to_owned()).collect::<Vec<_>>().as_slice()),
            "{name}"
        );
        // What the shipped models protect or do not list.
        for hidden in [
            "ada@example",
            "+4930123456",
            "1990-02-03",
            "erika@",
            "1985-",
            "AB-4711-X",
            "+49 170 1234567",
            "Hauptstr",
            "internal_note",
        ] {
            assert!(!world.visible().contains(hidden), "{name}: {hidden}");
        }
    }
}
