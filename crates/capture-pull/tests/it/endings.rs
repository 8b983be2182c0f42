use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use capture_pull::payload::Work;
use capture_pull::{Answer, Ended, Error, Status};
use sync_domain::outcome::Stage;
use sync_domain::ports::{Checkpoints, Kind as Away, Queue, QueueEntry};
use sync_sources::Kind;
use sync_testkit::{Fault, MemoryQueue};
use tokio::time::Instant;

use crate::table::PAGE;
use crate::world::{SOURCE, World};

async fn status(world: &World) -> Status {
    match world.ask(Work::Status).await.unwrap() {
        Answer::Status(status) => status,
        other => panic!("no status: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_polls_until_its_time_is_over() {
    let world = World::new();
    let write = async {
        for _ in 0..10 {
            world.table.write(3, 2);
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    };
    let (report, ()) = tokio::join!(world.run_for(Duration::from_secs(54)), write);
    let report = report.unwrap();
    assert_eq!((report.ended, report.changes, report.polls), (Ended::Done, 30, 54));
    assert_eq!(world.table.forgotten(), 30);
    assert_eq!(report.lag_ms, 250);
    assert!(!status(&world).await.held);
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_time_ends_in_the_middle_of_a_poll_goes_on_in_the_next() {
    let world = World::new();
    world.table.write(5 * PAGE, 3);
    let mut invocation = world.invocation(Duration::ZERO);
    invocation.no_page_after = tokio::time::Instant::now();
    let Answer::Run(report) = world.ask_in(Work::Poll, &invocation).await.unwrap() else { panic!() };
    assert_eq!((report.changes, report.polls), (PAGE as u64, 0));
    assert_eq!(report.gauges, [("lag_bytes", 0.0)], "how the source stands is told all the same");
    assert_eq!(world.run().await.unwrap().changes, 4 * PAGE as u64);
    assert_eq!(world.lost(), 0);
}

/// A queue that takes a while for each message.
struct Slow(MemoryQueue);

#[async_trait]
impl Queue for Slow {
    async fn send(&self, entries: Vec<QueueEntry>) -> Vec<Result<(), sync_domain::ports::Error>> {
        let mut results = Vec::new();
        for entry in entries {
            tokio::time::sleep(Duration::from_secs(2)).await;
            results.extend(self.0.send(vec![entry]).await);
        }
        results
    }

    fn url(&self) -> &str {
        self.0.url()
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_that_takes_longer_than_the_run_has_left_is_sent_by_the_next_one() {
    let mut world = World::new();
    world.deps.queue = Arc::new(Slow(world.queue.clone()));
    // One record, so that its changes go one behind the other: a page takes 14 s.
    world.table.write(3 * PAGE, 1);
    let mut invocation = world.invocation(Duration::ZERO);
    let begun = Instant::now();
    invocation.no_page_after = begun + Duration::from_secs(20);
    let Answer::Run(report) = world.ask_in(Work::Poll, &invocation).await.unwrap() else { panic!() };
    assert_eq!((report.ended, report.changes, report.polls), (Ended::Done, PAGE as u64, 0));
    assert!(begun.elapsed() <= Duration::from_secs(24), "ended by itself: {:?}", begun.elapsed());
    assert_eq!(world.cursor().await, Some(PAGE.to_string()));
    assert!(!status(&world).await.held, "the lease was given back");
    // What was sent of the second page is sent again, and dropped.
    assert_eq!(world.run().await.unwrap().changes, 2 * PAGE as u64);
    assert_eq!((world.lost(), world.queue.stored().len()), (0, 3 * PAGE));
}

#[tokio::test(start_paused = true)]
async fn a_source_at_rest_costs_a_write_now_and_then_and_no_more() {
    let world = World::new();
    world.table.write(1, 1);
    world.run_for(Duration::from_secs(54)).await.unwrap();
    assert_eq!(world.table.polls(), 54);
    let saves = world.written.lock().unwrap().len();
    assert!(saves <= 5, "{saves} saves of one change");
}

#[tokio::test(start_paused = true)]
async fn a_second_run_ends_at_once_without_an_error() {
    let world = World::new();
    world.table.write(3, 1);
    let late = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        world.run().await.unwrap()
    };
    let (first, second) = tokio::join!(world.run_for(Duration::from_secs(5)), late);
    assert_eq!((first.unwrap().ended, second.ended), (Ended::Done, Ended::Busy));
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_away_fails_a_run_that_read_nothing() {
    let world = World::new();
    world.table.fail(Kind::Unavailable, "connection");
    assert!(matches!(world.run().await, Err(Error::Source(error)) if error.code == "connection"));
    assert!(world.bus.reported().is_empty(), "an outage is no ticket: the alarm on errors tells of it");
    world.table.write(3, 1);
    assert_eq!(world.run().await.unwrap().changes, 3, "the lease was given back");
}

#[tokio::test(start_paused = true)]
async fn a_database_that_goes_away_in_the_middle_ends_the_run() {
    let world = World::new();
    world.table.write(3, 1);
    let fail = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        world.table.fail_page(Kind::Unavailable, "connection");
    };
    let (report, ()) = tokio::join!(world.run_for(Duration::from_secs(10)), fail);
    let report = report.unwrap();
    assert_eq!((report.ended, report.changes), (Ended::Unavailable, 3));
}

#[tokio::test(start_paused = true)]
async fn another_session_at_the_slot_is_no_error() {
    let world = World::new();
    world.table.fail_page(Kind::Busy, "busy");
    assert_eq!(world.run().await.unwrap().ended, Ended::Busy);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_configuration_is_one_ticket_and_an_error_each_time() {
    let world = World::new();
    for _ in 0..3 {
        world.table.fail(Kind::Misconfigured, "no_permission");
        assert!(matches!(world.run().await, Err(Error::Source(_))));
    }
    let reported = world.bus.reported();
    assert_eq!((reported[0].stage, reported[0].reason.code.as_str()), (Stage::CapturePull, "no_permission"));
    assert!(reported.iter().all(|failure| *failure == reported[0]), "the ticket's id comes from the failure");
    assert_eq!(status(&world).await.stopped, None, "it reads on as soon as it can");
}

#[tokio::test(start_paused = true)]
async fn a_source_whose_changes_are_lost_stops_until_somebody_resyncs() {
    let world = World::new();
    world.table.write(3, 1);
    world.run().await.unwrap();
    world.table.fail_page(Kind::Lost, "slot_lost");
    world.table.write(3, 1);
    assert_eq!(world.run().await.unwrap().ended, Ended::Stopped);
    let polls = world.table.polls();
    for _ in 0..2 {
        assert_eq!(world.run().await.unwrap().ended, Ended::Stopped);
    }
    assert_eq!(world.table.polls(), polls, "nothing is read silently");
    let reported = world.bus.reported();
    assert_eq!(reported.len(), 3, "each run tells, in case the first was not heard");
    assert!(reported.iter().all(|failure| failure.reason.code == "slot_lost"
        && failure.message_id == reported[0].message_id));
    let before = status(&world).await;
    assert_eq!((before.stopped.as_deref(), before.read, before.epoch), (Some("slot_lost"), true, 0));

    let Answer::Status(after) = world.ask(Work::Resync).await.unwrap() else { panic!() };
    assert_eq!((after.stopped, after.read, after.epoch), (None, false, 1));
    assert_eq!(world.run().await.unwrap().ended, Ended::Stopped, "the twin has forgotten what lies before");
}

#[tokio::test(start_paused = true)]
async fn versions_behind_a_resync_are_above_all_before() {
    let world = World::new();
    world.table.write(2, 1);
    world.checkpoints.restart(SOURCE, 6).await.unwrap();
    world.run().await.unwrap();
    let bodies = world.bodies();
    assert!(crate::world::read(&bodies[0]).version.unwrap().as_str().starts_with("00000007-"));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_resumed_goes_on_where_it_was() {
    let world = World::new();
    world.table.write(3, 1);
    world.run().await.unwrap();
    world.table.fail_page(Kind::Lost, "other_timeline");
    world.run().await.unwrap();
    world.table.write(2, 1);
    world.ask(Work::Resume).await.unwrap();
    assert_eq!(world.run().await.unwrap().changes, 2);
    assert_eq!(world.lost(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_is_away_is_tried_again_and_then_fails_the_run_with_nothing_saved() {
    let world = World::new();
    world.table.write(3, 1);
    world.queue.fault(Fault::Call(Away::Unavailable));
    assert_eq!(world.run().await.unwrap().changes, 3, "the second try is taken");
    world.table.write(3, 1);
    world.queue.faults.outage(Away::Unavailable);
    assert!(matches!(world.run().await, Err(Error::Port(_))));
    assert_eq!(world.cursor().await.as_deref(), Some("3"));
    world.queue.faults.recover();
    world.run().await.unwrap();
    assert_eq!(world.lost(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_refuses_everything_loses_no_row() {
    let world = World::new();
    world.table.write(3, 1);
    world.queue.faults.outage(Away::Refused);
    assert!(matches!(world.run().await, Err(Error::Port(_))));
    assert!(world.bus.reported().is_empty(), "this is not about the rows");
    assert_eq!(world.cursor().await, None);
}

#[tokio::test(start_paused = true)]
async fn what_the_queue_took_in_part_is_sent_on_in_order() {
    let world = World::new();
    world.table.write(6, 2);
    world.queue.fault(Fault::Entries(vec![(1, Away::Unavailable)]));
    world.run().await.unwrap();
    for key in [0, 1] {
        let values: Vec<i64> = world
            .bodies()
            .iter()
            .filter_map(|body| crate::table::value(crate::world::read(body).after.unwrap()))
            .filter_map(|(own, value)| (own == key).then_some(value))
            .collect();
        assert!(values.is_sorted() && values.len() == 3, "record {key}: {values:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_table_that_is_away_fails_the_run_before_anything_is_read() {
    let world = World::new();
    world.table.write(3, 1);
    world.checkpoints.take_faults.outage(Away::Unavailable);
    assert!(matches!(world.run().await, Err(Error::Port(_))));
    assert_eq!(world.table.polls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_save_whose_answer_was_lost_loses_no_row() {
    let world = World::new();
    world.table.write(2 * PAGE, 3);
    world.checkpoints.save_faults.push(Fault::Lost);
    assert!(matches!(world.run().await, Err(Error::Port(_))));
    world.read_to_the_end().await;
    assert_eq!(world.lost(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_source_is_an_error() {
    let world = World::new();
    let payload = serde_json::from_str(r#"{"source":"nobody"}"#).unwrap();
    let answer = capture_pull::handle(&payload, &world.deps, &world.invocation(Duration::ZERO)).await;
    assert!(matches!(answer, Err(Error::UnknownSource(name)) if name == "nobody"));
}
