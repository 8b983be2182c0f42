//! Records that cannot go on, and services that are away.

use serde_json::{Value, json};
use sync_domain::outcome::Outcome;
use sync_domain::ports::Kind;
use sync_testkit::Fault;

use crate::world::{World, batch, n, of_item, record};

/// Its key has another type than the model says, and a value that must not be told.
fn poison(number: u64) -> String {
    of_item(number, "MODIFY", r#"{"id":{"BOOL":true},"secret":{"S":"Erika"}}"#, Some(r#"{"S":"Mustermann"}"#))
}

fn versions(world: &World) -> Vec<u64> {
    world.changes().iter().map(|change| change["version"].as_str().unwrap()[9..].parse().unwrap()).collect()
}

#[tokio::test]
async fn a_record_that_can_never_go_is_parked_whole_and_holds_up_nobody() {
    let world = World::new();
    let records = [record(1, &n(1), &n(1)), poison(2), record(3, &n(1), &n(3)), record(4, &n(2), &n(4))];
    assert_eq!(world.work(&records).await, None);
    assert_eq!(versions(&world), [1, 3, 4]);
    assert_eq!(world.parked(), ["key_attributes"]);
    let [failure] = world.bus.reported().try_into().unwrap();
    assert_eq!(failure.source.unwrap().as_str(), "table");
    assert_eq!(failure.model.unwrap().as_str(), "item");
    assert_eq!((failure.message_id.as_str(), failure.key), ("2", None));
    let documents = world.dead_letters.documents();
    assert_eq!(documents.keys().collect::<Vec<_>>(), ["capture-stream/table/2-e2.json"]);
    let document: Value = serde_json::from_str(&documents["capture-stream/table/2-e2.json"]).unwrap();
    let whole: Value = serde_json::from_str(&poison(2)).unwrap();
    assert_eq!(document["payload"], json!({ "Records": [whole] }));
    assert!(documents["capture-stream/table/2-e2.json"].contains(&poison(2)), "byte for byte");
}

#[tokio::test]
async fn no_report_names_a_value() {
    let world = World::new();
    world.work(&[poison(1), record(2, &n("1.5"), r#"{"S":"Mustermann"}"#)]).await;
    let told = format!("{:?}", world.bus.reported());
    assert_eq!(world.parked().len(), 2);
    assert!(!told.contains("Erika") && !told.contains("Mustermann") && !told.contains("1.5"), "{told}");
}

#[tokio::test]
async fn a_document_of_the_bucket_goes_once_its_cause_is_gone() {
    let world = World::new();
    let two = r#"{"id":{"N":"7"},"range":{"S":"r"}}"#;
    world.work(&[of_item(1, "INSERT", two, Some(&n(1)))]).await;
    assert_eq!(world.parked(), ["key_attributes"]);
    let document = world.dead_letters.documents().into_values().next().unwrap();
    let (response, outcomes) = world.handle(&document).await.unwrap();
    assert!(matches!(outcomes.as_slice(), [Outcome::DeadLettered(_)]));
    assert_eq!(
        response.batch_item_failures.len(),
        1,
        "refused again, it says so: who would remove the document otherwise"
    );
    let corrected = "model: item\nkey: [id, range]\nattributes:\n  id: { class: identifier }\n  range: { class: identifier }\n";
    let later = World::with(corrected, "source: table\ndynamodb: { table: items, model: item }\n");
    let (response, outcomes) = later.handle(&document).await.unwrap();
    assert_eq!((response.batch_item_failures.len(), outcomes), (0, vec![Outcome::Published]));
    assert_eq!(later.changes()[0]["key"], json!({ "id": 7, "range": "r" }));
}

#[tokio::test]
async fn every_way_to_be_no_record_has_its_code() {
    let good = record(1, &n(1), &n(1));
    for (from, to, code) in [
        (r#""MODIFY""#, r#""UPSERT""#, "not_a_stream_record"),
        (r#""eventName":"MODIFY","#, "", "not_a_stream_record"),
        ("1795551563", r#""noon""#, "not_a_stream_record"),
        (r#""Keys""#, r#""Kees""#, "not_a_stream_record"),
        (r#""NewImage""#, r#""Image""#, "not_a_stream_record"),
        (r#""OldImage""#, r#""Image""#, "not_a_stream_record"),
        (r#""SequenceNumber":"1""#, r#""SequenceNumber":"x""#, "not_a_stream_record"),
        (
            r#""SequenceNumber":"1""#,
            r#""SequenceNumber":"99999999999999999999999999999999999999999""#,
            "not_a_stream_record",
        ),
        (r#""v":{"N":"1"}"#, r#""v":{"N":"one"}"#, "bad_number"),
        (r#""v":{"N":"1"}"#, r#""v":{"Z":"1"}"#, "unknown_type"),
        (r#""Keys":{"id":{"N":"1"}}"#, r#""Keys":{"id":{"N":"2"}}"#, "key_mismatch"),
    ] {
        let world = World::new();
        assert!(good.contains(from), "{from}");
        assert_eq!(world.work(&[good.replacen(from, to, 1)]).await, None, "{to}");
        assert_eq!((world.parked(), world.queued().len()), (vec![code.to_owned()], 0), "{to}");
    }
}

#[tokio::test]
async fn what_could_not_fit_the_topic_or_the_queue_is_parked() {
    let world = World::new();
    let text = |length: usize| format!(r#"{{"S":"{}"}}"#, "x".repeat(length));
    world.work(&[record(1, &n(1), &text(200 << 10)), record(2, &n(1), &text(300 << 10))]).await;
    assert_eq!((versions(&world), world.parked()), (vec![1], vec!["change_too_large".to_owned()]));
    // A redacted value takes no room in the event, but the message still has it.
    let model = "model: item\nkey: [id]\nattributes:\n  id: { class: identifier }\n  v: { class: sensitive, protect: redact }\n";
    let world = World::with(model, "source: table\ndynamodb: { table: items, model: item }\n");
    let both = record(2, &n(1), &text(600 << 10)).replacen(r#"{"S":"before"}"#, &text(600 << 10), 1);
    world.work(&[record(1, &n(1), &text(900 << 10)), both]).await;
    assert_eq!((versions(&world), world.parked()), (vec![1], vec!["change_too_large".to_owned()]));
    assert_eq!(world.bus.reported()[0].reason.place, "message");
}

#[tokio::test]
async fn the_first_record_that_the_queue_did_not_take_is_where_the_batch_begins_again() {
    let world = World::new();
    let records: Vec<_> = (1..=6).map(|number| record(number, &n(number % 3), &n(number))).collect();
    world.queue.fault(Fault::Entries(vec![(2, Kind::Unavailable)]));
    assert_eq!(world.work(&records).await.as_deref(), Some("3"));
    // Record 6 has the group of record 3 and waits for it; the others are there.
    assert_eq!(versions(&world), [1, 2, 4, 5]);
    assert_eq!(world.work(&records[2..]).await, None);
    assert_eq!(versions(&world), [1, 2, 4, 5, 3, 6], "in order for each item, and none twice");
}

#[tokio::test]
async fn a_lost_answer_sends_nothing_twice() {
    let world = World::new();
    let records: Vec<_> = (1..=3).map(|number| record(number, &n(1), &n(number))).collect();
    world.queue.fault(Fault::Lost);
    assert_eq!(world.work(&records).await.as_deref(), Some("1"));
    assert_eq!(world.work(&records).await, None);
    assert_eq!(versions(&world), [1, 2, 3]);
}

#[tokio::test]
async fn without_the_key_of_record_ids_nothing_is_sent_and_nothing_parked() {
    let world = World::new();
    world.keys.faults.outage(Kind::Unavailable);
    let records = [poison(1), record(2, &n(1), &n(2))];
    assert_eq!(world.work(&records).await.as_deref(), Some("1"));
    assert_eq!((world.queued().len(), world.parked().len()), (0, 0));
    world.keys.faults.recover();
    assert_eq!(world.work(&records).await, None);
    world.work(&[record(3, &n(1), &n(3))]).await;
    assert_eq!(world.keys.faults.calls(), 2, "once it is there it is kept");
}

#[tokio::test]
async fn a_record_that_cannot_be_parked_or_reported_comes_again() {
    for bucket_fails in [true, false] {
        let world = World::new();
        let faults = if bucket_fails { &world.dead_letters.faults } else { &world.bus.faults };
        faults.push(Fault::Call(Kind::Unavailable));
        let records = [record(1, &n(1), &n(1)), poison(2), poison(3), record(4, &n(1), &n(4))];
        assert_eq!(world.work(&records).await.as_deref(), Some("2"));
        assert!(world.bus.reported().is_empty(), "what stands behind waits");
        assert_eq!(world.work(&records[1..]).await, None);
        assert_eq!(world.parked().len(), 2);
        assert_eq!(world.dead_letters.documents().len(), 2, "the same name again");
        assert_eq!(versions(&world), [1, 4]);
    }
}

#[tokio::test]
async fn a_batch_that_cannot_be_answered_fails_as_a_whole_before_anything_is_sent() {
    let world = World::new();
    let nameless = record(2, &n(1), &n(2)).replace(r#""SequenceNumber":"2","#, "");
    let other = record(2, &n(1), &n(2)).replace("table/items/", "table/orders/");
    for odd in [nameless, other, r#""text""#.to_owned()] {
        assert!(world.handle(&batch(&[record(1, &n(1), &n(1)), odd])).await.is_err());
    }
    assert_eq!(world.queued().len(), 0);
}
