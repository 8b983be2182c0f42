//! The breaker's row, the mapping and the schedule: what is done by whom, and what is left when somebody dies in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sync_domain::delivery::breaker::{Breaker, Failing, INTERVAL_S, SETTLES_S, State};
use sync_domain::id::TargetId;
use sync_domain::outcome::Outcome;
use sync_domain::ports::{Kind, Ledger, LedgerRow, Queue, QueueEntry, Result, Switch};
use sync_lambda::deadline::Deadline;
use sync_testkit::{Fault, Faults, MemoryLedger, MemoryQueue, MemorySwitch};

use crate::world::{NOW, PLAIN, PROBE, Sample, World, advance, ask, batch, delete, now, update};

/// Updates of so many records.
fn records(many: u32) -> Vec<Sample> {
    (1..=many).map(|record| Sample { record, ..update(1) }).collect()
}

/// A world whose target was away for a batch, with its events in a queue.
async fn opened() -> (World, MemoryQueue) {
    let mut world = World::plain().await;
    let queue = MemoryQueue::new("loyalty");
    world.deps.inbox = Arc::new(queue.clone());
    for sample in records(3) {
        let group = format!("rid_{}", sample.record);
        let entry = QueueEntry { body: sample.body(), group, dedup: sample.id(), attributes: Vec::new() };
        queue.send(vec![entry]).await.remove(0).unwrap();
    }
    world.endpoint.always(503);
    let event = queue.receive(10);
    let deadline = Deadline::after(Duration::from_secs(60));
    let report = deliver::handle(event, &world.deps, deadline).await.unwrap();
    queue.answer(Ok(&report.response));
    assert_eq!(report.response.batch_item_failures.len(), 3);
    (world, queue)
}

/// Lets both clocks go on.
fn wait(queue: &MemoryQueue, seconds: i64) {
    advance(seconds);
    queue.advance(Duration::from_secs(seconds.unsigned_abs()));
}

fn is_open(world: &World) -> bool {
    matches!(world.breaker().state, State::Open { .. })
}

#[tokio::test]
async fn a_target_that_is_away_is_not_asked_any_more() {
    let (world, _) = opened().await;
    assert!(is_open(&world) && world.switch.wakes());
    assert_eq!(world.arrived(), 3);
    assert_eq!(world.work(batch(&records(3))).await.len(), 3, "what is still handed out comes again");
    assert_eq!(world.arrived(), 3, "and is not sent");
    assert_eq!((world.reported(), world.dead().len()), (vec!["target_unavailable".to_owned()], 0));
    let standing = world.ask(r#"{"work":"status"}"#).await.unwrap();
    assert_eq!(
        (standing.state, standing.place.as_deref(), standing.applied),
        ("open", Some("status 503"), false)
    );

    assert_eq!(world.probe().await.unwrap().state, "open");
    assert!(!world.switch.feeds(), "the schedule knows the mapping, and stops it");
    assert_eq!(world.switch.mappings(), ["0b8a29"]);
    assert_eq!(world.arrived(), 3, "the first probe is not due yet");
}

#[tokio::test]
async fn a_target_that_works_costs_no_call() {
    let world = World::plain().await;
    assert!(world.work(batch(&records(9))).await.is_empty());
    world.endpoint.then(&[429, 429, 429, 429]);
    let others: Vec<_> = (11..15).map(|record| Sample { record, ..update(1) }).collect();
    assert_eq!(world.work(batch(&others)).await.len(), 4);
    assert_eq!(world.breaker(), Breaker::default(), "a target that asks for time is there");
    let calls = [&world.ledger.breaker_faults, &world.switch.feed_faults, &world.switch.wake_faults];
    assert_eq!(calls.map(Faults::calls), [0, 0, 0]);
    assert_eq!(world.ledger.read_faults.calls(), 2, "the breaker is read with the rows");
}

#[tokio::test]
async fn a_probe_takes_one_message_and_closes_when_it_is_taken() {
    let (world, queue) = opened().await;
    wait(&queue, 60);
    assert_eq!(world.probe().await.unwrap().state, "open");
    assert_eq!((world.arrived(), queue.stored().len()), (4, 3), "one request, and its message is back");
    assert!(!world.switch.feeds() && world.switch.wakes());
    wait(&queue, 60);
    world.endpoint.always(204);
    let standing = world.probe().await.unwrap();
    assert_eq!((standing.state, standing.applied), ("closed", true));
    assert_eq!((world.arrived(), queue.stored().len()), (5, 2), "what it took is done with");
    assert!(world.switch.feeds() && !world.switch.wakes());
    assert!(world.breaker().rests());
    assert_eq!(world.reported().len(), 1, "one outage, one ticket");
}

#[tokio::test]
async fn a_probe_goes_on_until_a_message_leads_to_a_request() {
    let (world, queue) = opened().await;
    // Somebody else has brought the first record.
    let key = {
        let other = World::plain().await;
        assert!(other.one(&update(7)).await);
        let (key, row) = other.ledger.rows().into_iter().next().unwrap();
        world.ledger.set(&key, row);
        key
    };
    world.endpoint.always(204);
    wait(&queue, 60);
    let (standing, outcomes) = ask(&world.deps, PROBE).await.unwrap();
    let outcomes: Vec<_> = outcomes.iter().map(Outcome::as_str).collect();
    assert_eq!((standing.state, outcomes.as_slice()), ("closed", ["stale", "delivered"].as_slice()));
    assert!(world.ledger.rows().contains_key(&key));
    assert_eq!(queue.stored().len(), 1);
}

#[tokio::test]
async fn a_record_that_the_target_chokes_on_does_not_keep_it_away() {
    let (world, queue) = opened().await;
    world.endpoint.then(&[503]);
    wait(&queue, 60);
    assert_eq!(world.probe().await.unwrap().state, "open");
    world.endpoint.always(204);
    wait(&queue, 60);
    assert_eq!(world.probe().await.unwrap().state, "closed");
    let ids = world.endpoint.ids();
    assert_ne!(ids[3], ids[4], "the second probe tries another record");
}

#[tokio::test]
async fn a_long_outage_of_few_records_ends_as_soon_as_a_short_one() {
    let (world, queue) = opened().await;
    for minute in 1..=120 {
        wait(&queue, 60);
        assert_eq!(world.probe().await.unwrap().state, "open");
        assert_eq!(world.arrived(), 3 + minute, "one probe a minute");
    }
    world.endpoint.always(204);
    wait(&queue, 60);
    assert_eq!(world.probe().await.unwrap().state, "closed");
}

#[tokio::test]
async fn a_queue_that_shows_nothing_proves_nothing() {
    let (world, queue) = opened().await;
    wait(&queue, 60);
    let hidden: Vec<String> =
        queue.receive(10).records.into_iter().filter_map(|m| m.receipt_handle).collect();
    assert_eq!(hidden.len(), 3);
    assert_eq!(world.probe().await.unwrap().state, "open");
    assert_eq!(world.arrived(), 3);
    assert!(world.switch.wakes());
}

#[tokio::test]
async fn a_target_that_asks_for_time_is_not_taken_for_back() {
    let (world, queue) = opened().await;
    world.endpoint.always(429);
    wait(&queue, 60);
    assert_eq!(world.probe().await.unwrap().state, "open");
    assert_eq!((world.arrived(), queue.stored().len()), (4, 3));
}

/// A ledger whose reads of the breaker take so long that others read the same row.
struct Slow(MemoryLedger);

#[async_trait]
impl Ledger for Slow {
    async fn read(&self, keys: &[String]) -> Vec<Result<Option<LedgerRow>>> {
        self.0.read(keys).await
    }

    async fn look(
        &self,
        target: &TargetId,
        keys: &[String],
    ) -> (Result<Breaker>, Vec<Result<Option<LedgerRow>>>) {
        self.0.look(target, keys).await
    }

    async fn breaker(&self, target: &TargetId) -> Result<Breaker> {
        let breaker = self.0.breaker(target).await;
        tokio::task::yield_now().await;
        breaker
    }

    async fn set_breaker(&self, target: &TargetId, breaker: &Breaker) -> Result<bool> {
        self.0.set_breaker(target, breaker).await
    }

    async fn mark(&self, key: &str, row: &LedgerRow) -> Result<bool> {
        self.0.mark(key, row).await
    }
}

#[tokio::test]
async fn of_many_that_would_probe_one_does() {
    let (mut world, queue) = opened().await;
    world.deps.ledger = Arc::new(Slow(world.ledger.clone()));
    let others = [world.instance(), world.instance(), world.instance()];
    for round in 1..=4 {
        wait(&queue, INTERVAL_S);
        let probes = others.iter().chain([&world.deps]).map(|deps| ask(deps, PROBE));
        for answer in futures_util::future::join_all(probes).await {
            assert_eq!(answer.unwrap().0.state, "open");
        }
        assert_eq!(world.arrived(), 3 + round, "one probe an interval, whoever comes");
    }
}

#[tokio::test]
async fn whoever_opens_it_may_die_before_anybody_is_told() {
    for dies_at in ["report", "wake"] {
        let world = World::plain().await;
        world.endpoint.always(503);
        match dies_at {
            "report" => world.bus.faults.push(Fault::Call(Kind::Unavailable)),
            _ => world.switch.wake_faults.push(Fault::Call(Kind::Unavailable)),
        }
        assert_eq!(world.work(batch(&records(3))).await.len(), 3);
        assert!(is_open(&world));
        assert_eq!(
            (world.reported().len(), world.switch.wakes()),
            (usize::from(dies_at != "report"), dies_at != "wake")
        );
        // The messages come again, since nobody has stopped them.
        assert_eq!(world.work(batch(&records(3))).await.len(), 3);
        assert_eq!(
            (world.reported().len(), world.switch.wakes(), world.arrived()),
            (1, true, 3),
            "{dies_at}"
        );
    }
}

#[tokio::test]
async fn two_that_report_one_outage_write_one_ticket() {
    let world = World::plain().await;
    world.endpoint.always(503);
    // Whoever opens it reports it, and does not come to say so.
    world.ledger.breaker_faults.push(Fault::Pass);
    world.ledger.breaker_faults.push(Fault::Call(Kind::Unavailable));
    for _ in 0..3 {
        assert_eq!(world.work(batch(&records(3))).await.len(), 3);
        advance(5);
    }
    // The ticket's id is made of the message's.
    let ids: Vec<_> = world.bus.reported().into_iter().map(|failure| failure.message_id).collect();
    assert_eq!(ids, [format!("breaker-{NOW}"), format!("breaker-{NOW}")]);
}

#[tokio::test]
async fn a_running_function_wakes_the_schedule_once_for_many_batches() {
    let world = World::plain().await;
    world.endpoint.always(503);
    for _ in 0..20 {
        assert_eq!(world.work(batch(&records(3))).await.len(), 3);
    }
    assert_eq!(world.switch.wake_faults.calls(), 1);
}

#[tokio::test]
async fn a_mapping_that_cannot_be_switched_is_switched_by_the_next_probe() {
    let (world, queue) = opened().await;
    world.switch.feed_faults.push(Fault::Call(Kind::Refused));
    wait(&queue, 60);
    world.probe().await.unwrap_err();
    assert!(world.switch.feeds() && world.switch.wakes() && is_open(&world));
    world.probe().await.unwrap();
    assert!(!world.switch.feeds() && world.switch.wakes());

    world.endpoint.always(204);
    wait(&queue, 60);
    world.switch.feed_faults.push(Fault::Call(Kind::Refused));
    world.probe().await.unwrap_err();
    assert!(world.breaker().is_fed() && !world.breaker().rests());
    assert!(!world.switch.feeds(), "the target is back and gets nothing yet");
    assert!(world.switch.wakes(), "which is why the schedule goes on");
    let arrived = world.arrived();
    world.probe().await.unwrap();
    assert!(world.switch.feeds() && !world.switch.wakes());
    assert_eq!(world.arrived(), arrived, "nothing is probed any more");
}

#[tokio::test]
async fn a_mapping_that_a_deploy_started_again_is_stopped_again() {
    let (world, queue) = opened().await;
    world.probe().await.unwrap();
    assert!(!world.switch.feeds());
    world.switch.by_hand(true);
    wait(&queue, SETTLES_S + 1);
    assert_eq!(world.work(batch(&records(3))).await.len(), 3);
    assert_eq!(world.arrived(), 3, "nothing is sent meanwhile");
    world.probe().await.unwrap();
    assert!(!world.switch.feeds());
}

#[tokio::test]
async fn a_paused_target_gets_nothing_until_it_is_resumed() {
    let world = World::plain().await;
    assert_eq!(world.ask(r#"{"work":"pause"}"#).await.unwrap().state, "paused");
    assert_eq!(world.work(batch(&records(3))).await.len(), 3);
    assert_eq!((world.arrived(), world.reported().len(), world.dead().len()), (0, 0, 0));
    assert!(world.switch.wakes());
    for _ in 0..2 {
        let standing = world.probe().await.unwrap();
        assert_eq!((standing.state, standing.reason.as_deref()), ("paused", Some("paused_by_operator")));
        assert!(!world.switch.feeds() && !world.switch.wakes(), "nothing runs while it is paused");
        advance(600);
    }
    assert_eq!(world.arrived(), 0);
    let standing = world.ask(r#"{"work":"resume"}"#).await.unwrap();
    assert_eq!((standing.state, standing.applied), ("closed", false));
    assert!(world.switch.wakes());
    world.probe().await.unwrap();
    assert!(world.switch.feeds() && !world.switch.wakes());
    assert!(world.work(batch(&records(3))).await.is_empty());
    assert_eq!(world.arrived(), 3);
}

#[tokio::test]
async fn a_pause_that_was_not_heard_of_is_asked_for_again() {
    let world = World::plain().await;
    world.switch.wake_faults.push(Fault::Call(Kind::Unavailable));
    world.ask(r#"{"work":"pause"}"#).await.unwrap_err();
    assert!(!world.switch.wakes());
    world.ask(r#"{"work":"pause"}"#).await.unwrap();
    assert!(world.switch.wakes());
    world.probe().await.unwrap();
    world.switch.wake_faults.push(Fault::Call(Kind::Unavailable));
    world.ask(r#"{"work":"resume"}"#).await.unwrap_err();
    world.ask(r#"{"work":"resume"}"#).await.unwrap();
    assert!(world.switch.wakes());
}

#[tokio::test]
async fn an_operators_pause_outlasts_the_outage() {
    let (world, queue) = opened().await;
    world.ask(r#"{"work":"pause"}"#).await.unwrap();
    world.endpoint.always(204);
    wait(&queue, 600);
    assert_eq!(world.probe().await.unwrap().state, "paused");
    assert_eq!((world.arrived(), world.switch.feeds(), world.switch.wakes()), (3, false, false));
}

#[tokio::test]
async fn a_target_that_is_gone_is_asked_nothing_any_more() {
    let world = World::plain().await;
    world.endpoint.always(410);
    assert_eq!(world.work(batch(&records(1))).await.len(), 1);
    for _ in 0..3 {
        let standing = world.probe().await.unwrap();
        assert_eq!((standing.state, standing.reason.as_deref()), ("paused", Some("target_paused")));
        advance(60);
    }
    assert_eq!((world.arrived(), world.reported()), (1, vec!["target_paused".to_owned()]));
    assert!(!world.switch.feeds() && !world.switch.wakes());
    // Of a delete it is the best of news.
    let other = World::plain().await;
    other.endpoint.always(410);
    assert!(other.one(&delete(1)).await);
    assert_eq!(other.breaker(), Breaker::default());
}

#[tokio::test]
async fn one_record_that_the_target_chokes_on_closes_nobody_out() {
    let world = World::plain().await;
    world.endpoint.always(500);
    for received in 1..=50 {
        assert!(!world.one(&Sample { received, ..update(1) }).await);
        advance(1);
    }
    assert!(world.breaker().is_fed());
    world.endpoint.always(204);
    assert!(world.one(&Sample { record: 2, ..update(1) }).await);
    assert_eq!(world.breaker().state, State::Closed(Failing::default()));
}

#[tokio::test]
async fn a_record_that_no_request_can_be_made_of_says_nothing_of_the_target() {
    let world = World::of(&PLAIN.replace(
        "timeout: 2s",
        "timeout: 2s, operations: { create: { method: PUT, path: \"/{missing}\", body: key } }",
    ))
    .await;
    assert!(world.one(&update(1)).await);
    assert_eq!((world.dead().len(), world.arrived()), (1, 0));
    let failed = Failing { since: now(), records: ["rid_9".to_owned().into()].into() };
    let failing = Breaker { revision: 1, state: State::Closed(failed), ..Breaker::default() };
    assert!(world.ledger.set_breaker(&world.deps.target.target().target, &failing).await.unwrap());
    assert!(world.one(&update(2)).await);
    assert_eq!(world.breaker(), failing, "nothing was learned");
}

#[tokio::test]
async fn nothing_is_sent_while_the_breaker_cannot_be_read_or_nobody_knows_what_is_asked() {
    let world = World::plain().await;
    world.ask("{}").await.unwrap_err();
    world.ledger.breaker_faults.outage(Kind::Unavailable);
    world.probe().await.unwrap_err();
    world.ask(r#"{"work":"status"}"#).await.unwrap_err();
}

/// A switch that somebody else is faster at: just before the first call of a kind they resume the target.
struct Meddled {
    switch: MemorySwitch,
    ledger: MemoryLedger,
    target: TargetId,
    /// Before the mapping is stopped, and then they start it as well; or before the schedule is.
    before_feed: bool,
    done: AtomicBool,
}

impl Meddled {
    fn of(world: &World, before_feed: bool) -> Arc<Self> {
        let target = world.deps.target.target().target.clone();
        let (switch, ledger) = (world.switch.clone(), world.ledger.clone());
        Arc::new(Self { switch, ledger, target, before_feed, done: AtomicBool::new(false) })
    }

    async fn meddle(&self) -> Result<()> {
        if self.done.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let resumed = self.ledger.standing(&self.target).resume().unwrap();
        assert!(self.ledger.set_breaker(&self.target, &resumed).await?);
        self.switch.wake(true).await?;
        if self.before_feed {
            self.switch.feed("0b8a29", true).await?;
            assert!(self.ledger.set_breaker(&self.target, &resumed.applied(now())).await?);
            self.switch.wake(false).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Switch for Meddled {
    async fn feed(&self, mapping: &str, on: bool) -> Result<()> {
        if self.before_feed && !on {
            self.meddle().await?;
        }
        self.switch.feed(mapping, on).await
    }

    async fn wake(&self, on: bool) -> Result<()> {
        if !self.before_feed && !on {
            self.meddle().await?;
        }
        self.switch.wake(on).await
    }
}

#[tokio::test]
async fn whoever_stops_the_mapping_too_late_starts_it_again() {
    let (mut world, _) = opened().await;
    world.deps.switch = Meddled::of(&world, true);
    assert_eq!(world.probe().await.unwrap().state, "closed");
    assert!(world.switch.feeds(), "the target was resumed, and would get nothing");
    assert!(world.breaker().rests() && !world.switch.wakes());
}

#[tokio::test]
async fn whoever_stops_the_schedule_too_late_wakes_it_again() {
    let mut world = World::plain().await;
    world.ask(r#"{"work":"pause"}"#).await.unwrap();
    world.deps.switch = Meddled::of(&world, false);
    world.probe().await.unwrap();
    assert!(world.breaker().is_fed() && !world.breaker().rests());
    assert!(world.switch.wakes(), "the mapping is still off, and nobody else would start it");
    world.probe().await.unwrap();
    assert!(world.switch.feeds() && !world.switch.wakes());
}
