//! The sample invocations in `events/deliver`: each one reads and ends as its name says.

use std::fs;
use std::path::Path;

use aws_lambda_events::sqs::SqsEvent;

use crate::world::World;

const LOYALTY: &str = "
target: loyalty
subscribe: [{ model: customer, when_changed: [email, phone, full_name, tier] }]
attributes: [customer_id, email, phone, { full_name: display_name }, tier, segment]
endpoint: { url: \"URL\", auth: { standard_webhooks: datasync/target/loyalty } }
";

/// What is no batch, and how the target stands then.
const WORK: [(&str, &str); 4] = [
    ("pause.json", "paused"),
    ("probe.json", "closed"),
    ("resume.json", "closed"),
    ("status.json", "closed"),
];

/// Of each batch: how many requests arrive, how many records are dead-lettered and how many rows stand.
const EXPECTED: [(&str, usize, usize, usize); 10] = [
    ("conflict.json", 1, 1, 1),
    ("create.json", 1, 0, 1),
    ("delete.json", 1, 0, 1),
    ("filtered.json", 0, 0, 0),
    ("many.json", 5, 0, 3),
    ("snapshot.json", 1, 0, 1),
    ("stale.json", 1, 0, 1),
    ("unchanged.json", 1, 0, 1),
    ("unreadable.json", 0, 1, 0),
    ("update.json", 1, 0, 1),
];

#[tokio::test]
async fn every_sample_ends_as_its_name_says() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events/deliver");
    let mut names: Vec<_> =
        fs::read_dir(&dir).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let mut expected: Vec<_> =
        EXPECTED.iter().map(|(name, ..)| *name).chain(WORK.map(|(name, _)| name)).collect();
    expected.sort_unstable();
    assert_eq!(names, expected, "every sample is expected to end somehow");
    for (name, state) in WORK {
        let payload = fs::read_to_string(dir.join(name)).unwrap();
        let world = World::of(LOYALTY).await;
        assert_eq!(world.ask(&payload).await.unwrap().state, state, "{name}");
    }
    for (name, arrived, dead, rows) in EXPECTED {
        let event: SqsEvent = serde_json::from_slice(&fs::read(dir.join(name)).unwrap()).unwrap();
        let world = World::of(LOYALTY).await;
        assert!(world.work(event).await.is_empty(), "{name}");
        assert_eq!(
            (world.arrived(), world.dead().len(), world.ledger.rows().len()),
            (arrived, dead, rows),
            "{name}"
        );
        let sealed = world
            .endpoint
            .got()
            .iter()
            .any(|got| got.body.contains("dse1.") || got.body.contains("fingerprint"));
        assert!(!sealed, "{name}: the target gets its subset only");
    }
}
