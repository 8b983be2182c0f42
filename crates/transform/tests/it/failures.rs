//! The services around the function fail: records come again, in order, and none goes out in clear.

use async_trait::async_trait;
use sync_domain::event::Event;
use sync_domain::ports::{self, Kind, Queue, QueueEntry, Topic};
use sync_testkit::{Fault, MemoryQueue, MemoryTopic};

use crate::world::{MAX_RECEIVES, NOW, World, customer, setting};

#[tokio::test]
async fn while_the_keys_cannot_be_had_records_come_again_and_nothing_is_sent() {
    for kind in [Kind::Unavailable, Kind::Refused] {
        let world = World::new();
        world.key_service.faults.outage(kind);
        let batch = || [customer("m1", "r1", 1), customer("m2", "r2", 1), setting("m3", "r3")];
        assert_eq!(world.work(batch()).await, ["m1", "m2", "m3"]);
        assert!(world.topic.published().is_empty(), "never in clear");
        assert!(world.enrichment.entries().is_empty() && world.dead_letters.entries().is_empty());
        world.key_service.faults.recover();
        assert!(world.work(batch()).await.is_empty());
        assert_eq!(world.topic.published().len(), 3);
    }
}

#[tokio::test]
async fn a_key_that_could_not_be_written_down_is_not_used() {
    let world = World::new();
    world.key_table.faults.outage(Kind::Unavailable);
    // The model that seals waits; the other needs no data key and goes on.
    assert_eq!(world.work([customer("m1", "r1", 1), setting("m2", "r2")]).await, ["m1"]);
    assert_eq!(world.topic.published().len(), 1);
    world.key_table.faults.recover();
    assert!(world.work([customer("m1", "r1", 1)]).await.is_empty());
    assert_eq!(world.key_table.rows().len(), 1);
}

#[tokio::test]
async fn what_runs_out_of_receives_without_keys_is_parked_and_reported() {
    let world = World::new();
    world.key_service.faults.outage(Kind::Unavailable);
    let batch =
        [customer("m1", "r1", 1).received(MAX_RECEIVES), customer("m2", "r2", 1).received(MAX_RECEIVES - 1)];
    assert_eq!(world.work(batch).await, ["m2"]);
    assert_eq!(world.parked(), [("retries_exhausted".to_owned(), "keys_unavailable".to_owned())]);
    let [failure] = world.bus.reported().try_into().unwrap();
    assert_eq!((failure.rid.unwrap().as_str(), failure.tries), ("r1", MAX_RECEIVES));
    assert!(world.topic.published().is_empty());
}

#[tokio::test]
async fn what_runs_out_of_receives_because_nobody_takes_it_is_parked_and_reported() {
    let world = World::new();
    world.topic.faults.outage(Kind::Refused);
    let batch = [
        customer("m1", "r1", 1).received(MAX_RECEIVES),
        customer("m2", "r1", 2).received(MAX_RECEIVES),
        customer("m3", "r2", 1).received(MAX_RECEIVES - 1),
        customer("m4", "r2", 2).received(MAX_RECEIVES),
    ];
    assert_eq!(world.work(batch).await, ["m3", "m4"], "nothing overtakes what comes again");
    assert_eq!(
        world.parked(),
        [
            ("retries_exhausted".to_owned(), "publish_failed".to_owned()),
            ("retries_exhausted".to_owned(), "publish_failed".to_owned())
        ]
    );
    let [first, second] = world.bus.reported().try_into().unwrap();
    assert_eq!((first.message_id.as_str(), second.message_id.as_str()), ("m1", "m2"));
    assert_eq!(first.model.unwrap().as_str(), "customer");
    assert!(first.event_id.is_some() && first.rid.unwrap().as_str() == "r1");
}

#[tokio::test]
async fn a_topic_that_takes_some_fails_only_the_groups_of_the_others() {
    let world = World::new();
    world.topic.fault(Fault::Entries(vec![(1, Kind::Unavailable)]));
    let batch = [
        customer("m1", "r1", 1),
        customer("m2", "r2", 1),
        customer("m3", "r1", 2),
        customer("m4", "r2", 2),
        customer("m5", "r3", 1),
    ];
    assert_eq!(world.work(batch).await, ["m2", "m4"]);
    let expected = [("r1", 1), ("r1", 2), ("r3", 1)].map(|(group, version)| (group.to_owned(), version));
    assert_eq!(world.order(), expected);
}

#[tokio::test]
async fn whatever_fails_each_group_goes_out_complete_and_in_order() {
    let world = World::new();
    let changes = MemoryQueue::new("changes");
    for version in 1..=6 {
        for group in ["r1", "r2", "r3", "r4"] {
            let record = customer("x", group, version).build();
            let dedup = format!("{group}-{version}");
            let entry = QueueEntry {
                body: record.body.unwrap(),
                group: group.to_owned(),
                dedup,
                attributes: Vec::new(),
            };
            changes.send(vec![entry]).await.into_iter().for_each(Result::unwrap);
        }
    }
    world.topic.fault(Fault::Entries(vec![(0, Kind::Unavailable), (3, Kind::Unavailable)]));
    world.topic.fault(Fault::Call(Kind::Unavailable));
    world.topic.fault(Fault::Lost);
    world.topic.fault(Fault::Entries(vec![(2, Kind::Unavailable)]));
    for _ in 0..40 {
        let event = changes.receive(10);
        let report = transform::handle(event, &world.deps, NOW).await.unwrap();
        changes.answer(Ok(&report.response));
    }
    assert!(changes.stored().is_empty(), "{} left", changes.stored().len());
    for group in ["r1", "r2", "r3", "r4"] {
        let versions: Vec<u64> =
            world.order().into_iter().filter(|(rid, _)| rid == group).map(|(_, version)| version).collect();
        assert_eq!(versions, [1, 2, 3, 4, 5, 6], "{group}");
    }
    assert!(world.dead_letters.entries().is_empty());
}

#[tokio::test]
async fn an_answer_that_was_lost_makes_no_second_event() {
    let world = World::new();
    world.topic.fault(Fault::Lost);
    assert_eq!(world.work([customer("m1", "r1", 1)]).await, ["m1"]);
    assert!(world.work([customer("m1", "r1", 1).received(2)]).await.is_empty());
    assert_eq!(world.topic.published().len(), 1);
}

#[tokio::test]
async fn an_enrichment_queue_that_is_away_fails_its_records_only() {
    let world = World::new();
    world.enrichment.faults.outage(Kind::Unavailable);
    let lead = crate::world::change("crm", "lead", Some(1), r#"{"id":1}"#, Some(r#"{"id":1,"tier":"gold"}"#))
        .write();
    let lead = sync_testkit::Record::new("m1", &lead).group("r1");
    assert_eq!(world.work([lead, customer("m2", "r2", 1)]).await, ["m1"]);
    assert_eq!(world.topic.published().len(), 1);
}

/// A topic whose client panics over one record.
struct Poisoned(MemoryTopic);

#[async_trait]
impl Topic for Poisoned {
    async fn publish(&self, events: &[Event]) -> Vec<ports::Result<()>> {
        assert!(events.iter().all(|event| event.rid().as_str() != "poison"), "a bug");
        self.0.publish(events).await
    }
}

#[tokio::test]
async fn a_record_that_makes_the_function_panic_takes_no_other_along() {
    let topic = MemoryTopic::new();
    let world = World::new().publishing_to(Poisoned(topic.clone()));
    let batch = |received| {
        [("m1", "r1"), ("m2", "poison"), ("m3", "r2")]
            .map(|(id, group)| customer(id, group, 1).received(received))
    };
    assert_eq!(world.work(batch(1)).await, ["m1", "m2", "m3"], "nobody knows yet which one it was");
    assert_eq!(world.work(batch(4)).await, ["m1", "m2", "m3"], "more likely a service that is away");
    assert_eq!(world.work(batch(5)).await, ["m2"], "each one alone");
    assert_eq!(topic.published().len(), 2);
}
