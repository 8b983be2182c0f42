//! Records that cannot go on: in the dead-letter queue with their reason, reported, and out of the way.

use sync_domain::id::{Hop, dedup_id};
use sync_domain::outcome::Stage;
use sync_domain::ports::{Kind, Queue};
use sync_testkit::{Fault, Record};

use crate::world::{World, attribute, change, customer, misfit};

#[tokio::test]
async fn what_cannot_be_read_or_may_not_be_written_is_parked_with_its_reason() {
    let of = |source, model| change(source, model, Some(1), r#"{"customer_id":1}"#, Some("{}")).write();
    let after = of("crm", "customer");
    for (body, code, place, source, model) in [
        (String::new(), "not_a_change", "byte 0", None, None),
        ("{\"canary\": canary}".to_owned(), "not_a_change", "byte 11", None, None),
        (after.replacen("\"id\"", "\"ID\"", 1), "not_a_change", "(another)", None, None),
        (after.replacen("\"update\"", "\"canary\"", 1), "not_a_change", "operation", None, None),
        (after.replacen("{\"id\"", "{\"after\":{},\"id\"", 1), "not_a_change", "byte", None, None),
        (of("crm", "canary"), "unknown_model", "model", Some("crm"), Some("canary")),
        (of("nobody", "customer"), "unknown_source", "source", Some("nobody"), Some("customer")),
        (of("No Such Source", "customer"), "unknown_source", "source", None, Some("customer")),
        (of("shop", "customer"), "forbidden_model", "model", Some("shop"), Some("customer")),
        (of("backoffice", "customer"), "forbidden_model", "model", Some("backoffice"), Some("customer")),
    ] {
        let world = World::new();
        assert!(world.work([Record::new("m1", &body).group("r1").received(2)]).await.is_empty(), "{body}");
        let [(found, at)] = world.parked().try_into().unwrap();
        assert_eq!(found, code, "{body}");
        assert!(at.starts_with(place), "{at}");
        let [entry] = world.dead_letters.entries().try_into().unwrap();
        assert_eq!((entry.body.as_str(), entry.group.as_str()), (body.as_str(), "r1"));
        for (name, value) in [("message_id", "m1"), ("tries", "2 since 1795559963123")] {
            assert_eq!(attribute(&entry.attributes, name), Some(value));
        }
        let [failure] = world.bus.reported().try_into().unwrap();
        assert_eq!((failure.stage, failure.tries, failure.message_id.as_str()), (Stage::Transform, 2, "m1"));
        assert_eq!(failure.dead_letter_queue.as_deref(), Some(world.dead_letters.url()));
        assert_eq!(failure.source.as_ref().map(|source| source.as_str()), source);
        assert_eq!(failure.model.as_ref().map(|model| model.as_str()), model);
        assert_eq!(failure.key, None);
        assert!(world.topic.published().is_empty() && world.enrichment.entries().is_empty());
    }
}

#[tokio::test]
async fn a_record_of_the_wrong_type_is_parked_with_its_key_protected_and_the_next_one_goes_on() {
    let world = World::new();
    let batch =
        [customer("m1", "r1", 1), misfit("m2", "r1", 2), customer("m3", "r1", 3), customer("m4", "r2", 1)];
    assert!(world.work(batch).await.is_empty());
    assert_eq!(world.parked(), [("type_mismatch".to_owned(), "email".to_owned())]);
    assert_eq!(world.order(), [("r1".to_owned(), 1), ("r1".to_owned(), 3), ("r2".to_owned(), 1)]);
    let [failure] = world.bus.reported().try_into().unwrap();
    let key = failure.key.unwrap();
    assert!(key.starts_with("{\"customer_id\":\"dst1."), "{key}");
    assert_eq!(failure.rid.unwrap().as_str(), "r1");
    assert!(failure.event_id.unwrap().as_str().starts_with("evt_"));
    let [entry] = world.dead_letters.entries().try_into().unwrap();
    assert_eq!(entry.dedup, dedup_id("chg_customer_2", Hop::Moved("m2")));
    let seen = world.visible().to_lowercase();
    assert!(!seen.contains("canary") && !seen.contains("4711"), "{seen}");
}

#[tokio::test]
async fn an_event_that_sns_would_not_take_is_parked() {
    let world = World::new();
    for (id, length, parked) in [("m1", 255 << 10, 0), ("m2", 256 << 10, 1)] {
        let after = format!("{{\"customer_id\":1,\"tier\":\"{}\"}}", "x".repeat(length));
        let change = change("crm", "customer", Some(1), r#"{"customer_id":1}"#, Some(&after));
        assert!(world.work([Record::new(id, &change.write()).group(id)]).await.is_empty());
        assert_eq!(world.parked().len(), parked, "{length}");
    }
    let [(code, place)] = world.parked().try_into().unwrap();
    assert_eq!(code, "too_large");
    assert!(place.ends_with(" bytes") && place.len() < 16, "{place}");
    assert_eq!(world.topic.published().len(), 1);
}

#[tokio::test]
async fn a_record_that_cannot_be_parked_comes_again_and_holds_its_group() {
    let world = World::new();
    world.dead_letters.fault(Fault::Call(Kind::Unavailable));
    let batch = [misfit("m1", "r1", 1), customer("m2", "r1", 2), customer("m3", "r2", 1)];
    assert_eq!(world.work(batch).await, ["m1", "m2"]);
    assert!(world.bus.reported().is_empty(), "nothing is reported that does not stand in the queue");
    assert_eq!(world.order(), [("r2".to_owned(), 1)]);
}

#[tokio::test]
async fn a_failure_that_cannot_be_reported_comes_again_and_is_parked_once() {
    let world = World::new();
    world.bus.faults.push(Fault::Call(Kind::Unavailable));
    assert_eq!(world.work([misfit("m1", "r1", 1)]).await, ["m1"]);
    assert!(world.work([misfit("m1", "r1", 1).received(2)]).await.is_empty());
    assert_eq!(world.dead_letters.entries().len(), 1);
    assert_eq!(world.bus.reported().len(), 1);
}
