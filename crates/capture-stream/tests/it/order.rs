//! A whole shard under the mapping that reads it, with faults on the way.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;
use sync_domain::ports::Kind;
use sync_testkit::Fault;

use crate::mapping::Mapping;
use crate::world::{World, n, of_item, record};

/// Records 1 to `count` of seven items; every record whose number `poisoned` picks cannot go on.
fn shard(count: u64, poisoned: impl Fn(u64) -> bool) -> Vec<(String, String)> {
    let one = |number: u64| {
        let text = if poisoned(number) {
            of_item(number, "MODIFY", r#"{"id":{"NULL":true}}"#, Some(&n(number)))
        } else {
            record(number, &n(number % 7), &n(number))
        };
        (number.to_string(), text)
    };
    (1..=count).map(one).collect()
}

/// The numbers in the queue, by item.
fn arrived(world: &World) -> BTreeMap<String, Vec<u64>> {
    let mut arrived: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for change in world.changes() {
        let number = change["version"].as_str().unwrap()[9..].parse().unwrap();
        arrived.entry(change["key"].to_string()).or_default().push(number);
    }
    arrived
}

async fn read(world: &World, mapping: &mut Mapping, shard: &[(String, String)]) {
    mapping
        .read(shard, async |event| world.handle(event).await.map(|(response, _)| response).map_err(drop))
        .await;
}

#[tokio::test]
async fn one_poisoned_record_in_a_thousand_costs_no_invocation_more() {
    let world = World::new();
    let mut mapping = Mapping::new(100, 30);
    read(&world, &mut mapping, &shard(1_000, |number| number == 555)).await;
    assert_eq!((mapping.invocations, mapping.given_up.len()), (10, 0));
    assert_eq!((world.queued().len(), world.parked().len()), (999, 1));
    assert!(arrived(&world).values().all(|numbers| numbers.is_sorted()));
}

#[tokio::test]
async fn a_record_that_kills_the_process_is_found_by_halving_and_kept_whole() {
    let world = World::new();
    let mut mapping = Mapping::new(100, 3);
    let records = shard(300, |_| false);
    mapping
        .read(&records, async |event| {
            if event.contains(r#""eventID":"e123""#) {
                return Err(());
            }
            world.handle(event).await.map(|(response, _)| response).map_err(drop)
        })
        .await;
    let [given_up] = mapping.given_up.clone().try_into().unwrap();
    let document: Value = serde_json::from_str(&given_up).unwrap();
    assert_eq!(document["Records"].as_array().unwrap().len(), 1, "its neighbours went on");
    assert_eq!(world.queued().len(), 299);
    // Handed to the function again by hand, later, as Lambda writes it into the bucket.
    let kept = serde_json::json!({ "DDBStreamBatchInfo": {}, "payload": given_up }).to_string();
    world.handle(&kept).await.unwrap();
    assert_eq!(world.queued().len(), 300);
}

#[tokio::test]
async fn an_outage_that_outlasts_the_tries_leaves_whole_batches_that_can_be_handed_in_again() {
    let world = World::new();
    world.queue.faults.outage(Kind::Unavailable);
    let mut mapping = Mapping::new(100, 2);
    read(&world, &mut mapping, &shard(150, |_| false)).await;
    assert_eq!((world.queued().len(), mapping.given_up.len(), mapping.invocations), (0, 2, 6));
    world.queue.faults.recover();
    for batch in &mapping.given_up {
        world.handle(batch).await.unwrap();
    }
    assert_eq!(world.queued().len(), 150);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whatever fails for a while and wherever poison stands: each record arrives once, in the order of its item, or stands in
    /// the bucket with a report.
    #[test]
    fn every_record_ends_once_and_in_order(
        size in 1_usize..40,
        poison in prop::collection::btree_set(1_u64..120, 0..6),
        faults in prop::collection::vec(prop_oneof![
            Just(Fault::Pass),
            Just(Fault::Call(Kind::Unavailable)),
            Just(Fault::Lost),
            prop::collection::vec((0_usize..40, Just(Kind::Unavailable)), 1..4).prop_map(Fault::Entries),
        ], 0..12),
        bucket in prop::collection::vec(prop_oneof![Just(Fault::Pass), Just(Fault::Lost), Just(Fault::Call(Kind::Unavailable))], 0..4),
    ) {
        let world = World::new();
        faults.into_iter().for_each(|fault| world.queue.fault(fault));
        bucket.into_iter().for_each(|fault| world.dead_letters.faults.push(fault));
        let records = shard(120, |number| poison.contains(&number));
        let mut mapping = Mapping::new(size, 30);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(read(&world, &mut mapping, &records));
        prop_assert_eq!(mapping.given_up.len(), 0);
        let arrived = arrived(&world);
        for numbers in arrived.values() {
            prop_assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", numbers);
        }
        prop_assert_eq!(arrived.values().map(Vec::len).sum::<usize>(), 120 - poison.len());
        prop_assert_eq!(world.dead_letters.documents().len(), poison.len());
        prop_assert_eq!(world.parked().len(), poison.len());
    }
}
