use std::collections::BTreeMap;

use sync_domain::ports::Kind;
use sync_testkit::{Fault, MemoryFailureBus, MemoryQueue};

use super::*;

struct Stage1 {
    parker: Parker,
    queue: MemoryQueue,
    bus: MemoryFailureBus,
}

fn stage() -> Stage1 {
    let queue = MemoryQueue::new("changes-dead-letters");
    let bus = MemoryFailureBus::new();
    let parker = Parker::new(Stage::Transform, Arc::new(queue.clone()), Arc::new(bus.clone()));
    Stage1 { parker, queue, bus }
}

fn message() -> Message {
    Message {
        id: "m-1".to_owned(),
        receipt: "r-1".to_owned(),
        group: "rid-1".to_owned(),
        body: "{\"a\":1}".to_owned(),
        sequence: Some("42".to_owned()),
        received: 3,
        sent: Some(1_795_559_963_000),
        first_received: Some("1795559963123".to_owned()),
        attributes: BTreeMap::from([("enrich".to_owned(), "yes".to_owned())]),
    }
}

fn about() -> About {
    About { id: Some("chg_1".to_owned()), version: Some("v".to_owned()), ..About::default() }
}

#[tokio::test]
async fn a_parked_record_stands_in_the_dead_letter_queue_as_it_came_with_its_reason() {
    let stage = stage();
    let outcome = stage.parker.park(&message(), Reason::new("unknown_model", "$.model"), &about()).await;
    assert_eq!(outcome, Outcome::DeadLettered(Reason::new("unknown_model", "$.model")));
    let [entry] = stage.queue.entries().try_into().unwrap();
    assert_eq!((entry.body.as_str(), entry.group.as_str()), ("{\"a\":1}", "rid-1"));
    assert_eq!(entry.dedup, dedup_id("chg_1", Hop::Moved("m-1")));
    let attributes: BTreeMap<String, String> = entry.attributes.into_iter().collect();
    let expected = [
        ("reason", "unknown_model"),
        ("place", "$.model"),
        ("message_id", "m-1"),
        ("tries", "3 since 1795559963123"),
        ("version", "v"),
        ("enrich", "yes"),
    ];
    assert_eq!(attributes, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
}

#[tokio::test]
async fn the_failure_is_reported_after_the_record_stands_in_the_dead_letter_queue() {
    let stage = stage();
    let target = TargetId::try_from("loyalty".to_owned()).unwrap();
    let parker = stage.parker.with_target(target.clone());
    parker.park(&message(), Reason::new("x", ""), &about()).await;
    let [failure] = stage.bus.reported().try_into().unwrap();
    assert_eq!(failure.dead_letter_queue.as_deref(), Some(stage.queue.url()));
    assert_eq!((failure.stage, failure.tries, failure.message_id.as_str()), (Stage::Transform, 3, "m-1"));
    assert_eq!(failure.target, Some(target));
}

#[tokio::test]
async fn a_record_that_the_dead_letter_queue_does_not_take_comes_again_and_has_no_ticket() {
    let stage = stage();
    stage.queue.fault(Fault::Call(Kind::Unavailable));
    let outcome = stage.parker.park(&message(), Reason::new("x", ""), &about()).await;
    assert_eq!(outcome, Outcome::Retry(Reason::new("dead_letter_failed", "x")));
    assert!(stage.bus.reported().is_empty());
}

#[tokio::test]
async fn a_record_whose_failure_is_not_reported_comes_again_and_is_kept_once() {
    let stage = stage();
    stage.bus.faults.push(Fault::Call(Kind::Unavailable));
    let outcome = stage.parker.park(&message(), Reason::new("x", ""), &about()).await;
    assert_eq!(outcome, Outcome::Retry(Reason::new("failure_report_failed", "x")));
    let outcome = stage.parker.park(&message(), Reason::new("x", ""), &about()).await;
    assert_eq!(outcome, Outcome::DeadLettered(Reason::new("x", "")));
    assert_eq!(stage.queue.entries().len(), 1);
    assert_eq!(stage.bus.reported().len(), 1);
}

#[tokio::test]
async fn two_messages_of_one_event_are_two_dead_letters() {
    let stage = stage();
    // A redrive within five minutes that fails again is another message of the same event: its letter is the newer one.
    for id in ["m-1", "m-2", "m-2"] {
        let message = Message { id: id.to_owned(), ..message() };
        stage.parker.park(&message, Reason::new("x", ""), &about()).await;
    }
    let of = |entry: QueueEntry| entry.attributes.into_iter().find(|(name, _)| name == "message_id");
    let ids: Vec<_> = stage.queue.entries().into_iter().filter_map(of).map(|(_, id)| id).collect();
    assert_eq!(ids, ["m-1", "m-2"]);
}

#[tokio::test]
async fn a_record_that_was_parked_before_gets_its_new_reason() {
    let stage = stage();
    let mut again = message();
    for (name, value) in [("reason", "old"), ("message_id", "m-0"), ("version", "v0")] {
        again.attributes.insert(name.to_owned(), value.to_owned());
    }
    stage.parker.park(&again, Reason::new("new", ""), &About { id: None, ..About::default() }).await;
    let attributes = stage.queue.entries().remove(0).attributes;
    let of = |name: &str| {
        attributes.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect::<Vec<_>>()
    };
    assert_eq!((of("reason"), of("message_id")), (vec!["new"], vec!["m-1"]));
    assert_eq!(of("version"), ["v0"], "the version of the first pass goes along");
    assert_eq!(of("place"), Vec::<&str>::new(), "SQS refuses an empty attribute");
}

#[tokio::test]
async fn never_more_than_ten_attributes() {
    let stage = stage();
    let mut crowded = message();
    crowded.attributes = (0..12).map(|n| (format!("a{n:02}"), "x".to_owned())).collect();
    stage.parker.park(&crowded, Reason::new("x", "y"), &about()).await;
    let attributes = stage.queue.entries().remove(0).attributes;
    assert_eq!(attributes.len(), 10);
    assert!(attributes.iter().any(|(name, _)| name == "version"));
}

#[tokio::test]
async fn a_record_is_parked_on_its_last_receive_only() {
    let stage = stage();
    let reason = || Reason::new("unavailable", "kms");
    let early = stage.parker.retry_or_park(&message(), 4, reason(), &about()).await;
    assert_eq!(early, Outcome::Retry(reason()));
    let last = stage.parker.retry_or_park(&message(), 3, reason(), &about()).await;
    assert_eq!(last, Outcome::DeadLettered(Reason::new("retries_exhausted", "unavailable")));
}

#[tokio::test]
async fn what_is_wrong_with_a_target_is_reported_without_a_record() {
    let stage = stage();
    assert!(stage.parker.report_target(Reason::new("target_misconfigured", "401"), "breaker-7").await);
    let failure = stage.bus.reported().remove(0);
    assert_eq!((failure.dead_letter_queue, failure.rid, failure.event_id), (None, None, None));
    assert_eq!((failure.message_id.as_str(), failure.reason.place.as_str()), ("breaker-7", "401"));
    assert!(stage.queue.entries().is_empty());
    stage.bus.faults.outage(Kind::Unavailable);
    assert!(!stage.parker.report_target(Reason::new("x", ""), "breaker-8").await);
}
