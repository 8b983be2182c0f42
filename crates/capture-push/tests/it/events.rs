//! Every sample in `events/capture-push` is a payload of the gateway as it comes, and is answered as its name says.

use std::path::Path;

use capture_push::gateway::GatewayRequest;

use crate::bench::Bench;

/// File, status, what the answer says in short, messages in the queue.
const EXPECTED: [(&str, u16, &str, usize); 19] = [
    ("all-refused", 422, "unknown_operation", 0),
    ("bad-signature", 401, "wrong_signature", 0),
    ("debezium-batch", 202, "heartbeat", 3),
    ("debezium-mysql-with-schema", 202, "evt_", 1),
    ("debezium-postgres", 202, "evt_", 1),
    ("debezium-truncated", 422, "truncated", 1),
    ("duplicate-name", 400, "duplicate_name", 0),
    ("forbidden-model", 403, "forbidden_model", 0),
    ("iam", 202, "chg_", 1),
    ("iam-other-principal", 401, "wrong_principal", 0),
    ("integer-version", 202, "evt_", 1),
    ("malformed", 400, "unexpected_end", 0),
    ("queue-version", 202, "chg_", 1),
    ("replayed", 401, "timestamp_too_old", 0),
    ("signed-array", 202, "evt_", 4),
    ("signed-base64", 202, "evt_", 1),
    ("signed-one", 202, "evt_", 1),
    ("some-refused", 202, "unknown_model", 2),
    ("unknown-source", 401, "wrong_signature", 0),
];

#[test]
fn every_sample_event_is_answered_as_its_name_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events/capture-push");
    let mut found: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    found.sort();
    assert_eq!(found, EXPECTED.map(|(name, ..)| name), "each sample stands in this table");
    for (name, status, says, queued) in EXPECTED {
        let text = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
        let event: GatewayRequest = serde_json::from_str(&text).unwrap();
        let bench = Bench::new();
        let answer = bench.handle(&event);
        assert_eq!(answer.status, status, "{name}: {}", answer.text);
        assert!(answer.text.contains(says), "{name}: {}", answer.text);
        assert_eq!(bench.queued().len(), queued, "{name}");
    }
}
