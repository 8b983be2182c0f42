//! What a model has, listed part by part for a sweep. An id that is passed over is a record that would be deleted.

use std::collections::BTreeSet;
use std::time::Duration;

use capture_pull::payload::{Backfill, RecordIds, Work};
use capture_pull::{Answer, Error, LEASE, Listed, State};
use sync_domain::ports::Checkpoints;
use sync_sources::Kind;
use tokio::time::Instant;

use crate::table::{PAGE, ROWS};
use crate::world::{SOURCE, World};

fn part(number: u64) -> Work {
    part_of("r1", number)
}

fn part_of(run: &str, part: u64) -> Work {
    Work::RecordIds(RecordIds { model: "customer".parse().unwrap(), run: run.parse().unwrap(), part })
}

/// Asks for a part that ends with its first chunk.
async fn ask(world: &World, work: Work) -> Result<Listed, Error> {
    let mut invocation = world.invocation(Duration::ZERO);
    invocation.no_page_after = Instant::now();
    match world.ask_in(work, &invocation).await? {
        Answer::RecordIds(listed) => Ok(listed),
        other => panic!("no list: {other:?}"),
    }
}

/// A world whose source has been read once, and the ids by which its rows are sent.
async fn read_once() -> (World, BTreeSet<String>) {
    let world = World::new();
    world.table.write(1, 1);
    world.run().await.unwrap();
    let (model, run) = ("customer".parse().unwrap(), "r0".parse().unwrap());
    world.ask(Work::Backfill(Backfill { model, run, condition: None, target: None })).await.unwrap();
    let sent = world.queue.entries().into_iter().skip(1).map(|entry| entry.group).collect();
    (world, sent)
}

/// The parts of a list from one on to its end.
async fn from_part(world: &World, mut number: u64) -> Vec<String> {
    let mut rids = Vec::new();
    loop {
        let listed = ask(world, part(number)).await.unwrap();
        rids.extend(listed.rids);
        match listed.state {
            State::Running => number += 1,
            State::Done => return rids,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_parts_of_a_list_are_the_record_ids_of_every_row() {
    let (world, sent) = read_once().await;
    let rids = from_part(&world, 0).await;
    assert_eq!((rids.len(), sent.len()), (ROWS as usize, ROWS as usize));
    assert_eq!(rids.into_iter().collect::<BTreeSet<_>>(), sent);
}

#[tokio::test(start_paused = true)]
async fn with_time_left_a_part_goes_on() {
    let (world, sent) = read_once().await;
    let Answer::RecordIds(listed) = world.ask(part(0)).await.unwrap() else { panic!() };
    assert_eq!((listed.state, listed.rids.len()), (State::Done, sent.len()));
}

#[tokio::test(start_paused = true)]
async fn a_part_whose_answer_was_lost_is_given_again_and_the_next_one_follows_on_it() {
    let (world, sent) = read_once().await;
    let first = ask(&world, part(0)).await.unwrap();
    assert_eq!(ask(&world, part(0)).await.unwrap(), first);
    let mut rids: BTreeSet<String> = first.rids.into_iter().collect();
    // The second is longer when it is read again: the third begins where that has ended.
    assert_eq!(ask(&world, part(1)).await.unwrap().rids.len(), PAGE);
    let Answer::RecordIds(longer) = world.ask(part(1)).await.unwrap() else { panic!() };
    rids.extend(longer.rids);
    assert_eq!((longer.state, rids), (State::Done, sent));
}

#[tokio::test(start_paused = true)]
async fn a_part_that_does_not_follow_is_refused() {
    let (world, _) = read_once().await;
    assert!(matches!(ask(&world, part(1)).await, Err(Error::RecordIds)), "the first is part 0");
    ask(&world, part(0)).await.unwrap();
    ask(&world, part(1)).await.unwrap();
    for passed in [0, 3] {
        assert!(matches!(ask(&world, part(passed)).await, Err(Error::RecordIds)), "{passed} behind 1");
    }
    assert_eq!(ask(&world, part_of("r2", 0)).await.unwrap().rids.len(), PAGE, "another run is another list");
    let end = from_part(&world, 2).await.len().div_ceil(PAGE) as u64 + 2;
    assert!(matches!(ask(&world, part(end + 1)).await, Err(Error::RecordIds)), "nothing follows the end");
}

#[tokio::test(start_paused = true)]
async fn a_part_that_is_killed_passes_no_row_over() {
    for step in ["keys", "before save", "after save"] {
        let (world, sent) = read_once().await;
        let mut rids: BTreeSet<String> = ask(&world, part(0)).await.unwrap().rids.into_iter().collect();
        world.steps.arm(step, 1);
        assert!(world.steps.kill(ask(&world, part(1))).await.is_none(), "{step}");
        assert_eq!(ask(&world, part(1)).await.unwrap().state, State::Busy, "{step}: the lease stands");
        tokio::time::advance(LEASE).await;
        rids.extend(from_part(&world, 1).await);
        assert_eq!(rids, sent, "{step}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_listed_before_live_capture_has_begun_nor_of_a_stopped_source() {
    let world = World::new();
    let listed = ask(&world, part(0)).await.unwrap();
    assert_eq!((listed.state, listed.rids.len()), (State::Waiting, 0));
    let (world, _) = read_once().await;
    world.table.fail(Kind::Unavailable, "held");
    assert_eq!(ask(&world, part(0)).await.unwrap().state, State::Waiting);
    world.checkpoints.halt(SOURCE, "slot_lost").await.unwrap();
    assert!(matches!(ask(&world, part(0)).await, Err(Error::Backfill(_))));
}

#[tokio::test(start_paused = true)]
async fn a_row_that_has_no_record_id_is_not_passed_over() {
    let (world, _) = read_once().await;
    world.table.lose_a_key();
    assert!(
        matches!(ask(&world, part(0)).await, Err(Error::NoRecordId(reason)) if reason.place.contains("id"))
    );
}
