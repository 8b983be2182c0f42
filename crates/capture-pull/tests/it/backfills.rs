use std::time::Duration;

use capture_pull::payload::{Backfill, BackfillRun, Work};
use capture_pull::{Answer, Error, LEASE, Progress, State};
use sync_domain::change::Operation;
use sync_domain::ports::{Checkpoints, Taken};
use sync_sources::Kind;

use crate::table::{PAGE, ROWS};
use crate::world::{SOURCE, World, read};

fn asked(run: &str) -> Backfill {
    let (model, run) = ("customer".parse().unwrap(), run.parse().unwrap());
    Backfill { model, run, condition: None, target: None }
}

fn named(run: &str) -> BackfillRun {
    BackfillRun { model: "customer".parse().unwrap(), run: run.parse().unwrap() }
}

async fn ask(world: &World, work: Work) -> Result<Progress, Error> {
    match world.ask(work).await? {
        Answer::Backfill(progress) => Ok(progress),
        other => panic!("no backfill: {other:?}"),
    }
}

/// A world whose source has been read once.
async fn read_once() -> World {
    let world = World::new();
    world.table.write(1, 1);
    world.run().await.unwrap();
    world
}

async fn to_the_end(world: &World, backfill: &Backfill) -> Progress {
    for _ in 0..20 {
        let progress = ask(world, Work::Backfill(backfill.clone())).await.unwrap();
        if progress.state == State::Done {
            return progress;
        }
        tokio::time::advance(LEASE).await;
    }
    panic!("the backfill does not end");
}

#[tokio::test(start_paused = true)]
async fn a_backfill_sends_every_row_as_a_snapshot_of_its_run() {
    let world = read_once().await;
    let backfill = Backfill { target: Some("loyalty".parse().unwrap()), ..asked("r1") };
    let progress = to_the_end(&world, &backfill).await;
    assert_eq!((progress.rows, progress.refused, progress.chunks), (ROWS as u64, 0, 5));
    let bodies = world.bodies();
    let snapshots: Vec<_> = bodies
        .iter()
        .map(|body| read(body))
        .filter(|change| change.operation == Operation::Snapshot)
        .collect();
    assert_eq!(snapshots.len(), usize::try_from(ROWS).unwrap());
    assert!(snapshots.iter().all(|change| change.run.as_deref() == Some("r1")));
    assert!(snapshots.iter().all(|change| change.only.as_deref() == Some("loyalty")));
}

#[tokio::test(start_paused = true)]
async fn a_second_backfill_of_the_same_rows_passes_the_queue() {
    let world = read_once().await;
    to_the_end(&world, &asked("r1")).await;
    to_the_end(&world, &asked("r2")).await;
    assert_eq!(world.queue.stored().len(), 1 + 2 * usize::try_from(ROWS).unwrap());
    to_the_end(&world, &asked("r2")).await;
    assert_eq!(world.table.chunks_read().len(), 10, "a run that is done reads nothing");
}

#[tokio::test(start_paused = true)]
async fn a_backfill_that_is_killed_reads_no_finished_chunk_again() {
    for step in ["chunk", "before send", "after send", "before save", "after save"] {
        let world = read_once().await;
        for pass in 1..=3 {
            world.steps.arm(step, pass);
            let work = Work::Backfill(asked("r1"));
            if world.steps.kill(world.ask(work)).await.is_some() {
                break;
            }
            tokio::time::advance(LEASE).await;
        }
        to_the_end(&world, &asked("r1")).await;
        assert_eq!(world.queue.stored().len(), 1 + usize::try_from(ROWS).unwrap(), "{step}");
        let chunks = world.table.chunks_read();
        assert!(chunks.is_sorted(), "{step}: {chunks:?}");
        let again = chunks.windows(2).filter(|pair| pair[0] == pair[1]).count();
        assert!(again <= 3, "{step}: only the chunk in which it died comes again, {chunks:?}");
        if step == "after save" {
            assert_eq!(again, 0, "{chunks:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_backfill_waits_until_live_capture_has_begun() {
    let world = World::new();
    assert_eq!(ask(&world, Work::Backfill(asked("r1"))).await.unwrap().state, State::Waiting);
    assert!(world.table.chunks_read().is_empty());
    world.table.write(1, 1);
    world.run().await.unwrap();
    assert_eq!(ask(&world, Work::Backfill(asked("r1"))).await.unwrap().state, State::Done);
}

#[tokio::test(start_paused = true)]
async fn a_backfill_waits_until_a_run_has_read_the_table_under_the_epoch() {
    for before in [r#"{"epoch":0,"tables":[]}"#, r#"{"epoch":7,"tables":["public.customer=customer"]}"#] {
        let world = read_once().await;
        // As a run leaves it that began before the table was added, or before the epoch was raised.
        let row = format!("{SOURCE}#live");
        let Taken::Held(mut lease, noted) = world.checkpoints.take(&row, "before", LEASE).await.unwrap()
        else {
            panic!("somebody holds it")
        };
        assert!(noted.cursor.unwrap().contains("=customer"), "what the run has read");
        assert!(world.checkpoints.save(&mut lease, before, LEASE).await.unwrap());
        world.checkpoints.release(&lease).await.unwrap();
        assert_eq!(ask(&world, Work::Backfill(asked("r1"))).await.unwrap().state, State::Waiting);
        world.run().await.unwrap();
        assert_eq!(ask(&world, Work::Backfill(asked("r1"))).await.unwrap().state, State::Done);
    }
}

#[tokio::test(start_paused = true)]
async fn a_backfill_goes_on_beside_a_run() {
    let world = World::new();
    let backfill = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        to_the_end(&world, &asked("r1")).await
    };
    world.table.write(1, 1);
    let (run, progress) = tokio::join!(world.run_for(Duration::from_secs(600)), backfill);
    assert_eq!((run.unwrap().changes, progress.rows), (1, ROWS as u64));
}

#[tokio::test(start_paused = true)]
async fn a_paused_backfill_rests_until_it_is_resumed() {
    let world = read_once().await;
    world.steps.arm("before save", 3);
    assert!(world.steps.kill(world.ask(Work::Backfill(asked("r1")))).await.is_none());
    let paused = ask(&world, Work::PauseBackfill(named("r1"))).await.unwrap();
    assert_eq!((paused.state, paused.rows), (State::Paused, 2 * PAGE as u64));
    tokio::time::advance(LEASE).await;
    assert_eq!(ask(&world, Work::Backfill(asked("r1"))).await.unwrap().state, State::Paused);
    assert_eq!(ask(&world, Work::BackfillStatus(named("r1"))).await.unwrap().state, State::Paused);
    ask(&world, Work::ResumeBackfill(named("r1"))).await.unwrap();
    assert_eq!(to_the_end(&world, &asked("r1")).await.rows, ROWS as u64);
}

#[tokio::test(start_paused = true)]
async fn a_run_keeps_the_condition_that_it_was_begun_with() {
    let world = read_once().await;
    let gold = Backfill { condition: Some("tier = 'gold'".to_owned()), ..asked("r1") };
    to_the_end(&world, &gold).await;
    to_the_end(&world, &asked("r1")).await;
    let silver = Backfill { condition: Some("tier = 'silver'".to_owned()), ..asked("r1") };
    assert!(matches!(ask(&world, Work::Backfill(silver)).await, Err(Error::Backfill(_))));
}

#[tokio::test(start_paused = true)]
async fn a_stopped_source_is_not_backfilled() {
    let world = read_once().await;
    world.checkpoints.halt(SOURCE, "slot_lost").await.unwrap();
    assert!(matches!(ask(&world, Work::Backfill(asked("r1"))).await, Err(Error::Backfill(_))));
}

#[tokio::test(start_paused = true)]
async fn a_chunk_that_must_wait_is_asked_for_again() {
    let world = read_once().await;
    world.table.fail(Kind::Unavailable, "held");
    assert_eq!(ask(&world, Work::Backfill(asked("r1"))).await.unwrap().state, State::Waiting);
    assert_eq!(to_the_end(&world, &asked("r1")).await.rows, ROWS as u64);
}

#[tokio::test(start_paused = true)]
async fn a_chunk_of_another_history_ends_the_backfill_behind_what_was_sent() {
    let world = read_once().await;
    let behind = PAGE as i64;
    world.table.fail_chunk(behind, Kind::Lost, "other_timeline");
    let ended = ask(&world, Work::Backfill(asked("r1"))).await;
    assert!(matches!(ended, Err(Error::Source(error)) if error.code == "other_timeline"));
    assert_eq!(world.queue.stored().len(), 1 + PAGE);
    assert_eq!(world.table.chunks_read(), [0, behind]);
    // What was sent stays sent; nobody waits for the lease.
    assert_eq!(to_the_end(&world, &asked("r1")).await.rows, ROWS as u64);
    assert_eq!(world.table.chunks_read()[..3], [0, behind, behind]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_said() {
    let world = read_once().await;
    let other = Backfill { model: "price".parse().unwrap(), ..asked("r1") };
    assert!(matches!(ask(&world, Work::Backfill(other)).await, Err(Error::UnknownModel { .. })));
    assert!(matches!(ask(&world, Work::BackfillStatus(named("r9"))).await, Err(Error::Backfill(_))));
    assert!(matches!(ask(&world, Work::PauseBackfill(named("r9"))).await, Err(Error::Backfill(_))));
}
