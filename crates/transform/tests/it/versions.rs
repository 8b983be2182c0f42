//! Where a version comes from, and that it stays with its record.

use sync_testkit::Record;

use crate::world::{World, attribute, body, change, customer, setting};

fn sequences(world: &World) -> Vec<String> {
    world
        .topic
        .published()
        .iter()
        .map(|event| body(event.body())["sequence"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_change_keeps_the_version_that_it_carries() {
    let world = World::new();
    // Neither the place in the queue nor an attribute overrides it.
    let record = customer("m1", "r1", 42)
        .sequence("18870000000000000099")
        .attribute("version", "00000009-0000000000000000000000000000000000000001");
    assert!(world.work([record]).await.is_empty());
    assert_eq!(sequences(&world), [format!("00000000-{:040}", 42)]);
}

#[tokio::test]
async fn without_a_version_the_place_in_the_queue_is_it_under_the_epoch_of_the_source() {
    let world = World::new();
    let batch = [
        setting("m1", "r1").sequence("18870000000000000001"),
        setting("m2", "r2").sequence("18870000000000000002"),
    ];
    assert!(world.work(batch).await.is_empty());
    assert_eq!(
        sequences(&world),
        [
            "00000003-0000000000000000000018870000000000000001",
            "00000003-0000000000000000000018870000000000000002"
        ]
    );
}

#[tokio::test]
async fn a_record_that_is_parked_and_redriven_keeps_the_version_of_its_first_place() {
    let world = World::new();
    world.key_service.faults.outage(sync_domain::ports::Kind::Unavailable);
    let record = setting("m1", "r1").sequence("18870000000000000001").received(crate::world::MAX_RECEIVES);
    assert!(world.work([record]).await.is_empty());
    let [parked] = world.dead_letters.entries().try_into().unwrap();
    let version = attribute(&parked.attributes, "version").unwrap().to_owned();
    assert_eq!(version, "00000003-0000000000000000000018870000000000000001");
    world.key_service.faults.recover();
    let mut redriven = Record::new("m2", &parked.body).group(&parked.group).sequence("18870000000000000777");
    for (name, value) in &parked.attributes {
        redriven = redriven.attribute(name, value);
    }
    assert!(world.work([redriven]).await.is_empty());
    assert_eq!(sequences(&world), [version]);
}

#[tokio::test]
async fn what_is_no_version_is_refused() {
    for (record, place) in [
        (setting("m1", "r1").attribute("version", "latest"), "attribute version"),
        (setting("m1", "r1").sequence(""), "SequenceNumber"),
        (setting("m1", "r1").sequence("1.5"), "SequenceNumber"),
    ] {
        let world = World::new();
        assert!(world.work([record]).await.is_empty());
        assert_eq!(world.parked(), [("bad_version".to_owned(), place.to_owned())]);
        assert!(world.topic.published().is_empty());
    }
}

#[tokio::test]
async fn a_change_without_a_version_of_a_source_that_gives_versions_is_refused() {
    let world = World::new();
    let change = change("crm", "customer", None, r#"{"customer_id":1}"#, Some("{}"));
    assert!(world.work([Record::new("m1", &change.write())]).await.is_empty());
    assert_eq!(world.parked(), [("bad_version".to_owned(), "version".to_owned())]);
}
