//! What each event of a stream means.

use serde_json::json;

use crate::world::{World, batch, n, of_item, record};

const ID: &str = r#"{"id":{"N":"7"}}"#;

#[tokio::test]
async fn insert_modify_and_remove_are_create_update_and_delete() {
    let world = World::new();
    let records = [
        of_item(1, "INSERT", ID, Some(&n(1))),
        of_item(2, "MODIFY", ID, Some(&n(2))),
        of_item(3, "REMOVE", ID, None),
    ];
    assert_eq!(world.work(&records).await, None);
    let changes = world.changes();
    let short: Vec<_> = changes
        .iter()
        .map(|c| (c["operation"].as_str().unwrap(), c["before"].clone(), c["after"].clone()))
        .collect();
    let before = json!({ "id": 7, "v": "before" });
    assert_eq!(
        short,
        [
            ("create", json!(null), json!({ "id": 7, "v": 1 })),
            ("update", before.clone(), json!({ "id": 7, "v": 2 })),
            ("delete", before, json!(null)),
        ]
    );
    let groups: std::collections::BTreeSet<_> =
        world.queue.entries().into_iter().map(|entry| entry.group).collect();
    assert_eq!(groups.len(), 1, "one record, one group");
}

#[tokio::test]
async fn a_delete_by_time_to_live_says_so_in_its_origin_or_is_left_out() {
    let by_ttl = of_item(1, "REMOVE", ID, None).replacen(
        r#""eventName""#,
        r#""userIdentity":{"type":"Service","principalId":"dynamodb.amazonaws.com"},"eventName""#,
        1,
    );
    let by_somebody = of_item(2, "REMOVE", ID, None);
    let world = World::new();
    world.work(&[by_ttl.clone(), by_somebody.clone()]).await;
    let origins: Vec<_> = world.changes().iter().map(|change| change["origin"].clone()).collect();
    assert_eq!(origins, ["table.ttl", "table"]);

    let source = "source: table\ndynamodb: { table: items, model: item, ttl_deletes: ignore }\n";
    let world = World::with("model: item\nkey: [id]\nattributes:\n  id: { class: identifier }\n", source);
    assert_eq!(world.work(&[by_ttl, by_somebody]).await, None);
    assert_eq!(world.changes().len(), 1, "only what somebody deleted");
}

#[tokio::test]
async fn versions_are_the_epoch_and_the_sequence_number_and_grow_as_numbers() {
    let world = World::new();
    let numbers =
        ["9", "10", "111", "4421584500000000017450439091", "9999999999999999999999999999999999999999"];
    for number in numbers {
        let one = record(1, &n(7), &n(1))
            .replace(r#""SequenceNumber":"1""#, &format!(r#""SequenceNumber":"{number}""#));
        assert_eq!(world.work(&[one]).await, None);
    }
    let versions: Vec<_> =
        world.changes().iter().map(|change| change["version"].as_str().unwrap().to_owned()).collect();
    assert!(versions.is_sorted(), "{versions:?}");
    assert_eq!(versions[0], format!("00000002-{:040}", 9));
    assert_eq!(versions[4], "00000002-9999999999999999999999999999999999999999");
}

#[tokio::test]
async fn a_key_is_a_text_a_whole_number_or_bytes() {
    for (id, key) in [
        (r#"{"S":"a"}"#, json!({ "id": "a" })),
        (r#"{"N":"12345678901234567890"}"#, json!({ "id": 12_345_678_901_234_567_890_u64 })),
        (r#"{"B":"AP+/"}"#, json!({ "id": "AP+/" })),
    ] {
        let world = World::new();
        assert_eq!(world.work(&[record(1, id, &n(1))]).await, None);
        assert_eq!(world.changes()[0]["key"], key);
    }
    for id in [r#"{"N":"1.5"}"#, r#"{"N":"1E+3"}"#] {
        let world = World::new();
        assert_eq!(world.work(&[record(1, id, &n(1))]).await, None);
        assert_eq!(world.parked(), ["key_value"], "{id}");
    }
}

#[tokio::test]
async fn the_model_has_the_tables_whole_key() {
    let world = World::new();
    let two = r#"{"id":{"N":"7"},"range":{"S":"r"}}"#;
    assert_eq!(world.work(&[of_item(1, "INSERT", two, Some(&n(1)))]).await, None);
    assert_eq!(world.parked(), ["key_attributes"]);
}

#[tokio::test]
async fn an_empty_batch_asks_nobody() {
    let world = World::new();
    let (response, outcomes) = world.handle(&batch(&[])).await.unwrap();
    assert!(response.batch_item_failures.is_empty() && outcomes.is_empty());
    assert_eq!(world.queue.faults.calls(), 0);
}
