//! A target's limits, from its file to its endpoint: two running functions share them, and what has to wait waits without
//! being a failure of the target.

use std::sync::Arc;
use std::time::Duration;

use deliver::pace::Turn;
use deliver::{Deps, handle};
use sync_domain::delivery::breaker::{Breaker, State};
use sync_domain::outcome::Outcome;
use sync_domain::ports::{Queue, QueueEntry};
use sync_lambda::deadline::Deadline;
use sync_testkit::MemoryQueue;

use crate::world::{NOW, PLAIN, Sample, World, advance, batch, now, update};

async fn limited(limits: &str) -> World {
    World::of(&PLAIN.replace("timeout: 2s", &format!("timeout: 2s, {limits}"))).await
}

fn record(record: u32) -> Sample {
    Sample { record, ..update(1) }
}

/// Works one event at an instance; the reason why it waits, if it does.
async fn one(deps: &Deps, event: &Sample) -> Option<String> {
    let report = handle(batch([event]), deps, Deadline::after(Duration::from_secs(60))).await.unwrap();
    match report.outcomes.into_iter().next() {
        Some(Outcome::Delivered) => None,
        Some(Outcome::Retry(reason)) => Some(format!("{} {}", reason.code, reason.place)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn two_functions_share_a_targets_rate_and_who_has_no_slot_comes_back_for_the_next() {
    let world = limited("rate: 1/h").await;
    let other = world.instance();
    assert_eq!(one(&world.deps, &record(1)).await, None);
    for number in 2..10 {
        let waits = one(if number % 2 == 0 { &other } else { &world.deps }, &record(number)).await;
        assert_eq!(waits.as_deref(), Some("rate_limited endpoint.rate"));
    }
    assert_eq!(world.arrived(), 1);
    let hour = Duration::from_secs(3_000)..=Duration::from_secs(3_600);
    assert!(world.inbox.delays().iter().all(|(_, delay)| hour.contains(delay)));
    assert_eq!(world.breaker(), Breaker::default(), "the target is not away");
    advance(3_600);
    assert_eq!(one(&other, &record(2)).await, None);
    assert_eq!(world.arrived(), 2);
}

#[tokio::test]
async fn a_batch_claims_its_slots_together() {
    let world = limited("rate: 1000000/s").await;
    let events: Vec<_> = (1..=10).map(record).collect();
    assert_eq!(world.work(batch(&events)).await, [""; 0]);
    assert_eq!((world.arrived(), world.meters.faults.calls()), (10, 1));
}

#[tokio::test]
async fn what_need_not_be_sent_takes_no_slot() {
    let world = limited("rate: 1/h").await;
    assert_eq!(one(&world.deps, &record(1)).await, None);
    let again = Sample { version: 2, ..record(1) };
    assert!(world.one(&again).await, "unchanged");
    assert_eq!((world.arrived(), world.meters.faults.calls()), (1, 1));
}

#[tokio::test]
async fn a_used_up_quota_stops_the_queue_until_midnight_and_takes_no_receives() {
    let mut world = limited("quota: 2/d").await;
    let queue = MemoryQueue::new("loyalty");
    world.deps.inbox = Arc::new(queue.clone());
    let sent = [one(&world.deps, &record(1)).await, one(&world.instance(), &record(2)).await];
    assert_eq!(sent, [None, None]);
    let waits = one(&world.deps, &record(3)).await;
    assert_eq!(waits.as_deref(), Some("quota_spent endpoint.quota"));
    assert!(matches!(world.breaker().state, State::Open { .. }) && world.switch.wakes());

    // The schedule stops the queue, and leaves alone what waits in it.
    let event = record(4);
    let entry =
        QueueEntry { body: event.body(), group: "rid_4".to_owned(), dedup: event.id(), attributes: vec![] };
    queue.send(vec![entry]).await.remove(0).unwrap();
    for _ in 0..3 {
        advance(60);
        assert_eq!(world.probe().await.unwrap().state, "open");
        assert!(!world.switch.feeds());
    }
    assert_eq!((queue.stored()[0].received, world.arrived()), (0, 2));
    assert_eq!(world.reported(), ["quota_spent"], "once");

    advance((NOW / 86_400 + 1) * 86_400 - now());
    assert_eq!(world.probe().await.unwrap().state, "closed");
    assert!(world.switch.feeds());
    assert_eq!((queue.stored().len(), world.arrived()), (0, 3));
    assert_eq!(one(&world.deps, &record(5)).await, None);
    assert_eq!(one(&world.deps, &record(6)).await.as_deref(), Some("quota_spent endpoint.quota"));
    assert_eq!(world.dead(), [""; 0]);
}

#[tokio::test]
async fn a_function_has_its_share_of_what_may_be_in_flight() {
    for (concurrency, share) in [(5, 2), (2, 1), (1, 1)] {
        // Two run at once.
        let world = limited(&format!("concurrency: {concurrency}")).await;
        let mut flying = Vec::new();
        while let Turn::Now(place) = world.deps.pace.turn(Duration::from_millis(1)).await {
            flying.push(place);
            assert!(flying.len() <= share, "{concurrency}");
        }
        assert_eq!(flying.len(), share, "{concurrency}");
        flying.pop();
        assert_eq!(one(&world.deps, &record(1)).await, None, "the place of one that has ended is free");
    }
}

#[tokio::test]
async fn a_delivery_keeps_its_place_until_its_answer() {
    let world = limited("concurrency: 2").await;
    // No answer comes before all have arrived, and a second one cannot arrive before the first was answered.
    world.endpoint.wait_for(2);
    let failed = world.work(batch(&[record(1), record(2)])).await;
    assert_eq!((failed.len(), world.arrived()), (1, 2), "the first has timed out");
}
