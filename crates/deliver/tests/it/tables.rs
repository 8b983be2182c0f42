//! A target that is a DynamoDB table: whatever comes, and however late, no item goes back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use deliver::payload::Payload;
use sync_domain::delivery::item::{EXPIRES_AT, VERSION, Value};
use sync_domain::delivery::ledger::TOMBSTONE_S;
use sync_domain::outcome::Outcome;
use sync_domain::ports::{Kind, Queue, QueueEntry};
use sync_lambda::deadline::Deadline;
use sync_testkit::{Fault, MemoryLedger, MemoryQueue};

use crate::world::{NOW, PROBE, Sample, World, advance, ask, batch, delete, update};

const PROFILES: &str = "
target: loyalty
subscribe: [{ model: customer }]
attributes: [customer_id, email, { balance: account.balance }]
endpoint: { dynamodb: { table: profiles, key: [customer_id] } }
";

type Item = BTreeMap<String, Value>;

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

fn number(value: &str) -> Value {
    Value::Number(value.to_owned())
}

fn version(item: &Item) -> u32 {
    let Some(Value::Text(version)) = item.get(VERSION) else { panic!("no version: {item:?}") };
    version.rsplit('-').next().unwrap().parse().unwrap()
}

fn at(event: Sample, email: &'static str) -> Sample {
    Sample { email, ..event }
}

impl World {
    /// The one item of the table.
    fn item(&self) -> Item {
        let mut items = self.tables.items("profiles");
        assert_eq!(items.len(), 1, "{items:?}");
        items.remove(0)
    }

    /// Makes the function forget what the table has, as a restore of the ledger would.
    fn forget(&mut self) {
        self.ledger = MemoryLedger::new();
        self.deps.ledger = Arc::new(self.ledger.clone());
    }
}

#[tokio::test]
async fn a_record_is_an_item_under_its_key_with_its_version() {
    let world = World::of(PROFILES).await;
    assert!(world.one(&update(7)).await);
    let expected = Item::from([
        ("customer_id".to_owned(), number("1")),
        ("email".to_owned(), text("a@example.com")),
        ("account".to_owned(), Value::Map(vec![("balance".to_owned(), number("1.10"))])),
        (VERSION.to_owned(), text("00000000-0000000000000000000000000000000000000007")),
    ]);
    assert_eq!(world.item(), expected);
    assert_eq!(world.arrived(), 0, "nothing goes out by HTTP");
    let row = world.row().unwrap();
    assert!(row.digest.is_some() && !row.deleted, "{row:?}");
}

#[tokio::test]
async fn without_a_key_the_items_of_all_models_stand_side_by_side() {
    let yaml = "
target: loyalty
subscribe: [{ model: customer }, { model: price }]
attributes: [email]
endpoint: { dynamodb: { table: everything } }
";
    let world = World::of(yaml).await;
    let price = Sample { model: "price", record: 1, email: "b@example.com", ..update(3) };
    // One record id, since the samples have but one: what tells the items apart is the model in the key.
    assert!(world.one(&update(2)).await);
    assert!(world.one(&price).await);
    let keys: Vec<_> = world.tables.items("everything").iter().map(|item| item["pk"].clone()).collect();
    assert_eq!(keys, [text(r#"customer#{"customer_id":1}"#), text(r#"price#{"customer_id":1}"#)]);
}

#[tokio::test]
async fn an_older_event_never_overwrites_a_newer_item_even_if_the_ledger_knows_of_none() {
    let mut world = World::of(PROFILES).await;
    assert!(world.one(&at(update(5), "new@example.com")).await);
    let newest = world.item();
    world.forget();
    assert!(world.one(&at(update(4), "old@example.com")).await, "it is done with");
    assert_eq!(world.item(), newest);
    assert_eq!(world.dead(), Vec::<String>::new());
    assert!(world.one(&at(update(6), "newer@example.com")).await);
    assert_eq!(version(&world.item()), 6, "what is newer is written all the same");
}

#[tokio::test]
async fn what_a_table_knows_to_be_stale_is_an_outcome_of_its_own() {
    let mut world = World::of(PROFILES).await;
    assert!(world.one(&update(5)).await);
    world.forget();
    let mut outcomes = Vec::new();
    let payload = Payload { records: Some(batch([&update(4)]).records), work: None };
    let deadline = Deadline::after(Duration::from_secs(60));
    deliver::invoke(payload, &world.deps, deadline, &mut outcomes).await.unwrap();
    assert_eq!(outcomes, [Outcome::Stale]);
}

#[tokio::test]
async fn a_delete_leaves_a_tombstone_that_a_late_update_does_not_pass() {
    let mut world = World::of(PROFILES).await;
    assert!(world.one(&update(1)).await);
    assert!(world.one(&delete(3)).await);
    let tombstone = Item::from([
        ("customer_id".to_owned(), number("1")),
        (EXPIRES_AT.to_owned(), number(&(NOW + TOMBSTONE_S).to_string())),
        (VERSION.to_owned(), text("00000000-0000000000000000000000000000000000000003")),
    ]);
    assert_eq!(world.item(), tombstone);
    world.forget();
    assert!(world.one(&update(2)).await);
    assert_eq!(world.item(), tombstone, "the record stays deleted");
    assert!(world.one(&update(4)).await);
    assert!(!world.item().contains_key(EXPIRES_AT), "a record that is there again does not expire");
}

#[tokio::test]
async fn a_delete_of_what_the_table_never_had_leaves_a_tombstone_too() {
    let mut world = World::of(PROFILES).await;
    assert!(world.one(&delete(3)).await);
    world.forget();
    assert!(world.one(&update(2)).await);
    assert_eq!(version(&world.item()), 3);
}

#[tokio::test]
async fn an_old_dead_letter_that_comes_back_changes_nothing() {
    let world = World::of(PROFILES).await;
    for event in [at(update(1), "one@example.com"), at(update(2), "two@example.com")] {
        assert!(world.one(&event).await);
    }
    let before = world.item();
    let calls = world.tables.faults.calls();
    assert!(world.one(&at(update(1), "one@example.com")).await);
    assert_eq!(world.item(), before);
    assert_eq!(world.tables.faults.calls(), calls, "the ledger stands in front");
}

#[tokio::test]
async fn unchanged_content_is_not_written_again() {
    let world = World::of(PROFILES).await;
    assert!(world.one(&update(1)).await);
    assert!(world.one(&update(2)).await);
    assert_eq!(world.tables.faults.calls(), 1);
    assert_eq!(version(&world.item()), 1);
}

#[tokio::test]
async fn a_put_whose_answer_was_lost_is_put_again_and_counts_as_delivered() {
    let world = World::of(PROFILES).await;
    world.tables.faults.push(Fault::Lost);
    assert!(!world.one(&update(2)).await, "it comes again");
    assert_eq!(version(&world.item()), 2, "it was taken");
    assert_eq!(world.row(), None, "nobody knows");
    assert!(world.one(&update(2)).await);
    let row = world.row().unwrap();
    assert!(row.digest.is_some(), "equal is not newer: what the table has is known");
}

#[tokio::test]
async fn a_run_writes_an_equal_version_again() {
    let world = World::of(PROFILES).await;
    assert!(world.one(&update(2)).await);
    let whole = world.item();
    // Somebody has broken the item.
    let broken = whole.iter().filter(|(name, _)| *name != "email").map(|(n, v)| (n.clone(), v.clone()));
    world.tables.set("profiles", broken.collect());
    assert!(world.one(&Sample { extra: r#","run":"r1""#, ..update(2) }).await);
    assert_eq!(world.item(), whole);
}

#[tokio::test]
async fn an_item_that_was_not_written_from_here_is_taken_over() {
    let world = World::of(PROFILES).await;
    world.tables.set("profiles", Item::from([("customer_id".to_owned(), number("1"))]));
    assert!(world.one(&update(1)).await);
    assert_eq!(version(&world.item()), 1);
}

#[tokio::test]
async fn a_table_that_is_throttled_waits_and_opens_no_breaker() {
    let world = World::of(PROFILES).await;
    world.tables.throttle(9);
    for record in 0..9 {
        assert!(!world.one(&Sample { record, ..update(1) }).await);
    }
    assert_eq!(world.breaker().halt(), None);
    assert_eq!(world.dead(), Vec::<String>::new());
    assert!(world.one(&update(1)).await);
}

#[tokio::test]
async fn a_table_that_gives_no_answer_opens_the_breaker_and_a_probe_that_it_takes_closes_it() {
    let mut world = World::of(PROFILES).await;
    let queue = MemoryQueue::new("loyalty");
    world.deps.inbox = Arc::new(queue.clone());
    let events: Vec<_> = (1..=3).map(|record| Sample { record, ..update(1) }).collect();
    for event in &events {
        let group = format!("rid_{}", event.record);
        let entry = QueueEntry { body: event.body(), group, dedup: event.id(), attributes: Vec::new() };
        queue.send(vec![entry]).await.remove(0).unwrap();
    }
    world.tables.faults.outage(Kind::Unavailable);
    let deadline = Deadline::after(Duration::from_secs(60));
    let report = deliver::handle(queue.receive(10), &world.deps, deadline).await.unwrap();
    queue.answer(Ok(&report.response));
    assert_eq!((world.breaker().halt().is_some(), world.tables.faults.calls()), (true, 3));
    assert_eq!(world.work(batch(&events)).await.len(), 3);
    assert_eq!(world.tables.faults.calls(), 3, "nothing is sent to a table that is away");
    world.tables.faults.recover();
    advance(60);
    queue.advance(Duration::from_secs(60));
    let (standing, outcomes) = ask(&world.deps, PROBE).await.unwrap();
    assert_eq!((standing.state, outcomes), ("closed", vec![Outcome::Delivered]));
}

#[tokio::test]
async fn a_table_that_refuses_is_about_the_target_and_no_record_is_given_up() {
    // It is not there; it has another key.
    for (table, records) in [("elsewhere", 1), ("everything", 3)] {
        let world = World::of(&PROFILES.replace("table: profiles", &format!("table: {table}"))).await;
        for record in 1..=records {
            assert_eq!(world.breaker().halt(), None);
            assert!(!world.one(&Sample { record, ..update(1) }).await);
        }
        let halt = world.breaker().halt().cloned().unwrap();
        assert_eq!(halt.reason.code, "target_misconfigured");
        assert_eq!(world.dead(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_value_that_an_index_cannot_take_holds_up_its_own_record_and_no_other() {
    let world = World::of(PROFILES).await;
    world.tables.index("profiles", "email");
    for version in 1..=5 {
        let empty = at(Sample { record: 1, ..update(version) }, "");
        let others = (2..=9).map(|record| Sample { record, ..update(version) });
        let events: Vec<_> = std::iter::once(empty).chain(others).collect();
        assert_eq!(world.work(batch(&events)).await, [empty.id()]);
    }
    assert_eq!((world.breaker().halt(), world.dead()), (None, Vec::new()));
    assert_eq!(world.tables.items("profiles").len(), 8);
}

#[tokio::test]
async fn what_no_table_can_hold_is_dead_lettered_and_later_events_of_its_record_go_on() {
    let world = World::of(
        &PROFILES.replace("attributes: [customer_id, email", "attributes: [customer_id, note, email"),
    )
    .await;
    let mut event = batch([&update(1)]);
    let body = event.records[0].body.take().unwrap();
    let beyond = "1234567890123456789012345678901234567890";
    event.records[0].body = Some(body.replace(r#""balance": 1.10"#, &format!(r#""note":{beyond}"#)));
    assert!(world.work(event).await.is_empty());
    assert_eq!(world.dead(), ["number_not_fit_for_table"]);
    assert_eq!(world.tables.faults.calls(), 0);
    assert_eq!(world.breaker().halt(), None);
    assert!(world.one(&update(2)).await);
    assert_eq!(version(&world.item()), 2);
}

#[tokio::test]
async fn what_is_given_up_is_in_doubt_and_the_next_event_goes_out_whatever_it_holds() {
    let mut world = World::of(PROFILES).await;
    // The first receive is the last: what makes the doubt is this answer alone.
    world.deps.max_receives = 1;
    assert!(world.one(&at(update(1), "a@example.com")).await);
    world.tables.faults.push(Fault::Lost);
    assert!(world.one(&at(update(2), "b@example.com")).await, "it is parked");
    assert_eq!((world.dead().len(), version(&world.item())), (1, 2));
    assert!(world.one(&at(update(3), "a@example.com")).await);
    assert_eq!(world.item()["email"], text("a@example.com"), "version 1 had that, the table does not");
}
