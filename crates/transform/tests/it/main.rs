//! The transform function as a whole: messages of the Changes queue in, events and dead letters out.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test stops at what it did not expect"
)]

mod failures;
mod parking;
mod samples;
mod versions;
mod world;

use sync_domain::event::AttributeValue;
use sync_domain::id::{Hop, dedup_id};
use sync_testkit::Record;

use crate::world::{World, attribute, body, change, customer};

#[tokio::test]
async fn a_change_becomes_one_protected_event() {
    let world = World::new();
    assert!(world.work([customer("m1", "r1", 7)]).await.is_empty());
    let [event] = world.topic.published().try_into().unwrap();
    let body = body(event.body());
    assert_eq!(body["type"], "customer.updated");
    assert_eq!((&body["subject"], &body["partitionkey"]), (&"r1".into(), &"r1".into()));
    assert_eq!(body["sequence"], format!("00000000-{:040}", 7));
    let after = &body["data"]["after"];
    assert_eq!(after["tier"], "gold");
    assert!(after["email"].as_str().unwrap().starts_with("dst1."));
    assert!(body["data"]["key"]["customer_id"].as_str().unwrap().starts_with("dst1."));
    let sealed = after["national_id"].as_str().unwrap();
    // Whoever may open it finds the key by its id.
    let rows = world.key_table.rows();
    let (model, path, _) = &rows[sealed.split('.').nth(1).unwrap()];
    assert_eq!((model.as_str(), path.as_str()), ("customer", "national_id"));
    assert!(event.attributes().contains(&("model", AttributeValue::Text("customer".to_owned()))));
    let seen = world.visible().to_lowercase();
    assert!(!seen.contains("canary") && !seen.contains("4711"), "{seen}");
}

#[tokio::test]
async fn records_of_a_model_with_a_look_up_all_pass_the_enrichment_queue() {
    let world = World::new();
    let message = |id: &str, group: &str, version, after: Option<&str>| {
        Record::new(id, &change("crm", "lead", Some(version), r#"{"id":1}"#, after).write()).group(group)
    };
    let batch = [
        message("m1", "r1", 1, Some(r#"{"id":1,"tier":"gold"}"#)),
        message("m2", "r1", 2, Some(r#"{"id":1,"tier":"basic"}"#)),
        message("m3", "r1", 3, None),
        customer("m4", "r2", 1),
    ];
    assert!(world.work(batch).await.is_empty());
    assert_eq!(world.order(), [("r2".to_owned(), 1)]);
    let entries = world.enrichment.entries();
    let marks: Vec<_> = entries.iter().map(|entry| attribute(&entry.attributes, "enrich").unwrap()).collect();
    assert_eq!(marks, ["yes", "no", "no"], "in their order");
    for (entry, message) in entries.iter().zip(["m1", "m2", "m3"]) {
        let id = body(&entry.body)["id"].as_str().unwrap().to_owned();
        assert_eq!((entry.group.as_str(), &entry.dedup), ("r1", &dedup_id(&id, Hop::Moved(message))));
        assert_eq!(entry.attributes.len(), 1);
    }
}

#[tokio::test]
async fn a_message_that_comes_twice_is_published_once_and_each_run_once_more() {
    let world = World::new();
    let message = |id: &str, model: &str, run: Option<&'static str>| {
        let key = if model == "lead" { r#"{"id":1}"# } else { r#"{"customer_id":1}"# };
        let mut change = change("crm", model, Some(1), key, Some("{}"));
        (change.operation, change.run) = (sync_domain::change::Operation::Snapshot, run.map(Into::into));
        change.only = run.map(|_| "loyalty".into());
        Record::new(id, &change.write()).group(&format!("r-{model}"))
    };
    for (id, run) in
        [("m1", None), ("m1", None), ("m2", Some("run-1")), ("m2", Some("run-1")), ("m3", Some("run-2"))]
    {
        let batch = ["customer", "lead"].map(|model| message(&format!("{id}-{model}"), model, run));
        assert!(world.work(batch).await.is_empty());
    }
    let published = world.topic.published();
    assert_eq!(published.len(), 3, "first pass and two runs");
    assert!(published[1].attributes().contains(&("only", AttributeValue::Text("loyalty".to_owned()))));
    assert_eq!(world.enrichment.entries().len(), 3);
    assert_eq!(published[0].id(), published[2].id());
}

#[tokio::test]
async fn another_message_of_the_same_change_is_published_again_for_the_ledger_to_judge() {
    let world = World::new();
    let message = |id: &str, model: &str, tier: &str| {
        let after = format!(r#"{{"id":1,"customer_id":1,"tier":"{tier}"}}"#);
        let key = if model == "lead" { r#"{"id":1}"# } else { r#"{"customer_id":1}"# };
        let change = change("crm", model, Some(7), key, Some(&after));
        Record::new(id, &change.write()).group(&format!("r-{model}"))
    };
    // The second is another content under the first's version; the third is the first, redriven.
    for (id, tier) in [("m1", "basic"), ("m2", "gold"), ("m3", "basic")] {
        assert!(world.work(["customer", "lead"].map(|model| message(id, model, tier))).await.is_empty());
    }
    let published = world.topic.published();
    let tiers: Vec<_> =
        published.iter().map(|event| body(event.body())["data"]["after"]["tier"].clone()).collect();
    assert_eq!(tiers, ["basic", "gold", "basic"]);
    assert!(published.iter().all(|event| event.id() == published[0].id()), "and all are one event");
    assert_eq!(world.enrichment.entries().len(), 3);
}

#[tokio::test]
async fn keys_are_fetched_once_and_renewed_when_they_end() {
    let world = World::new();
    for n in 1..=20 {
        assert!(world.work([customer(&format!("m{n}"), &format!("r{n}"), n)]).await.is_empty());
    }
    assert_eq!(world.key_service.faults.calls(), 2, "the root of the tokens, one data key");
    let later = sync_testkit::event_of([customer("m21", "r21", 1).build()]);
    assert!(world.invoke(later, world::NOW + 300).await.is_empty());
    assert_eq!((world.key_service.faults.calls(), world.key_table.rows().len()), (3, 2));
}
