//! The AWS requests of 1,000 pushed changes do not grow.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::collections::BTreeMap;

use sync_bench::artifacts::Binaries;
use sync_bench::pipeline;
use sync_bench::world::World;

/// Service, action, the most that is allowed, and why there are so many.
type Allowed = [(&'static str, &'static str, u64, &'static str)];

/// 1,000 changes of different records in 10 requests of 100, one process per stage, one target.
const PUBLISHED: &Allowed = &[
    ("sqs", "SendMessageBatch", 100, "capture-push: 10 entries per call are the most that SQS takes"),
    (
        "secretsmanager",
        "GetSecretValue",
        2,
        "capture-push and deliver: one secret each, once in five minutes",
    ),
    (
        "kms",
        "GenerateMac",
        3,
        "capture-push, transform and deliver: the root of their hashes, once per process",
    ),
    ("kms", "GenerateDataKey", 1, "transform: one sealed attribute; again after 5 minutes or 2^20 seals"),
    ("dynamodb", "PutItem", 1_001, "deliver: one mark per delivered record; transform: one wrapped data key"),
    ("dynamodb", "BatchGetItem", 100, "deliver: the ledger's rows of a batch in one call"),
    ("sns", "PublishBatch", 100, "transform: 10 entries per call are the most that SNS takes"),
];

/// The same where every record is looked up.
const ENRICHED: &Allowed = &[
    (
        "sqs",
        "SendMessageBatch",
        200,
        "capture-push and transform: 10 entries per call are the most that SQS takes",
    ),
    (
        "secretsmanager",
        "GetSecretValue",
        2,
        "capture-push and deliver: one secret each, once in five minutes",
    ),
    ("kms", "GenerateMac", 4, "every stage: the root of its hashes, once per process"),
    ("kms", "GenerateDataKey", 1, "transform: one sealed attribute; what enrich adds is not sealed"),
    ("dynamodb", "PutItem", 1_001, "deliver: one mark per delivered record; transform: one wrapped data key"),
    ("dynamodb", "BatchGetItem", 100, "deliver: the ledger's rows of a batch in one call"),
    ("sns", "PublishBatch", 100, "enrich: 10 entries per call are the most that SNS takes"),
];

/// The binaries that the end-to-end tests deploy; without `sam`, those that cargo builds.
fn binaries() -> Binaries {
    if Binaries::has_sam() {
        return Binaries::of_sam("requests").unwrap();
    }
    // target/debug/deps/requests-…
    let own = std::env::current_exe().unwrap();
    Binaries::of_cargo("requests", own.ancestors().nth(3).unwrap()).unwrap()
}

/// What is more than allowed.
fn excess(binaries: &Binaries, enriched: bool, allowed: &Allowed) -> Vec<String> {
    let name = if enriched { "enriched" } else { "published" };
    let world = World::new(binaries, name, enriched).unwrap();
    let stages = pipeline::run(&world, 10, 100).unwrap();
    let allowed: BTreeMap<_, _> =
        allowed.iter().map(|(service, action, most, why)| ((*service, *action), (*most, *why))).collect();
    let mut more = Vec::new();
    for ((service, action), count) in pipeline::requests(&stages) {
        match allowed.get(&(service.as_str(), action.as_str())) {
            None => more.push(format!("{service} {action}: {count}, which nothing needed so far")),
            Some((most, why)) if count > *most => {
                more.push(format!("{service} {action}: {count} > {most} ({why})"));
            }
            Some(_) => {}
        }
    }
    more
}

#[test]
fn a_thousand_changes_take_no_more_requests() {
    let binaries = binaries();
    for (enriched, allowed) in [(false, PUBLISHED), (true, ENRICHED)] {
        let more = excess(&binaries, enriched, allowed);
        let which = if enriched { "enriched" } else { "published" };
        assert!(more.is_empty(), "1,000 {which} changes take more than they did:\n{}", more.join("\n"));
    }
    std::fs::remove_dir_all(binaries.folder()).unwrap();
}
