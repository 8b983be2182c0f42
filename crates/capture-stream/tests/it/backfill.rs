//! The load of a table beside its stream.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use capture_stream::{Answer, invoke};
use serde_json::{Value, json};
use sync_domain::delivery::ledger::{Arrival, Decision, accepted, decide};
use sync_domain::ports::{self, Checkpoints, ItemTable, Items, Kind, TableShape, Taken};
use sync_domain::version::Version;
use sync_lambda::backfill::{Progress, State};
use sync_lambda::deadline::Deadline;
use sync_testkit::{Fault, MemoryItems};

use crate::world::{PAGE, World, n, of_item, record};

const ITEMS: u64 = 10;
/// The lowest sequence number that a stream has.
const FIRST: u128 = 100_000_000_000_000_000_000;

/// A world whose table holds items 1 to 10, all of them older than its stream.
fn world() -> World {
    let mut world = World::new();
    world.deps.table.epoch = 0;
    for id in 1..=ITEMS {
        put(&world.items, id, &n(0));
    }
    world
}

fn key(id: u64) -> String {
    format!(r#"{{"id":{{"N":"{id:04}"}}}}"#)
}

fn put(items: &MemoryItems, id: u64, v: &str) {
    items.put(&key(id), &format!(r#"{{"v":{v},"id":{{"N":"{id}"}}}}"#));
}

async fn asked(world: &World, work: Value) -> Result<Progress, String> {
    let payload = json!({ "source": "table", "work": work }).to_string();
    let deadline = Deadline::after(Duration::from_secs(60));
    match invoke(&payload, &world.deps, "request", deadline).await {
        Ok(Answer::Backfill(progress)) => Ok(progress),
        Ok(other) => panic!("no backfill: {other:?}"),
        Err(failed) => Err(failed.to_string()),
    }
}

async fn backfill(world: &World, run: &str) -> Result<Progress, String> {
    asked(world, json!({ "backfill": { "model": "item", "run": run } })).await
}

fn version(change: &Value) -> &str {
    change["version"].as_str().unwrap()
}

#[tokio::test]
async fn every_item_comes_as_a_snapshot_of_its_run_and_for_its_target_alone() {
    let world = world();
    let work = json!({ "backfill": { "model": "item", "run": "r1", "target": "crm" } });
    let progress = asked(&world, work).await.unwrap();
    assert_eq!(progress, Progress { state: State::Done, rows: ITEMS, refused: 0, chunks: 3 });
    let changes = world.changes();
    assert_eq!(changes.len(), usize::try_from(ITEMS).unwrap());
    for (change, id) in changes.iter().zip(1..) {
        assert_eq!(
            (&change["operation"], &change["run"], &change["only"]),
            (&json!("snapshot"), &json!("r1"), &json!("crm"))
        );
        assert_eq!((&change["before"], &change["after"]), (&json!(null), &json!({ "id": id, "v": 0 })));
    }
    assert_eq!(backfill(&world, "r1").await.unwrap().state, State::Done);
    assert_eq!(world.items.faults.calls(), 3, "a run that is done reads nothing");
}

#[tokio::test]
async fn an_item_of_any_type_is_what_its_stream_would_have_made_of_it() {
    let digits = "98765432109876543210987654321098765432";
    let values = [
        r#"{"S":"Grüße, \"Ada\" \\ \uD83D\uDE00 ﷽"}"#.to_owned(),
        r#"{"S":""}"#.to_owned(),
        n(digits),
        n(format!("-0.{digits}")),
        n("9.9999999999999999999999999999999999999E+125"),
        r#"{"BOOL":false}"#.to_owned(),
        r#"{"NULL":true}"#.to_owned(),
        r#"{"B":"AAECAwQF+/8="}"#.to_owned(),
        r#"{"SS":["b","a","ä"]}"#.to_owned(),
        r#"{"NS":["10","9","1E+2","-0.5"]}"#.to_owned(),
        r#"{"BS":["/w==","AA=="]}"#.to_owned(),
        format!(r#"{{"L":[{},{{"L":[]}},{{"M":{{"b":{{"NULL":true}},"a":{}}}}}]}}"#, n(digits), n(1)),
    ];
    let after = |body: &str| body.split_once(r#""after":"#).unwrap().1.to_owned();
    for value in &values {
        let world = world();
        world.work(&[record(1, &n(1), value)]).await;
        put(&world.items, 1, value);
        backfill(&world, "r1").await.unwrap();
        let bodies = world.queued();
        // As text: a parser would lose digits.
        assert_eq!(after(&bodies[1]), after(&bodies[0]), "{value}");
    }
}

/// A table in which somebody writes between the reading of a page and what is done with it.
struct Busy {
    items: MemoryItems,
    /// What the stream tells of it.
    records: Arc<Mutex<Vec<String>>>,
}

impl Busy {
    fn write(&self, event: &str, id: u64, v: Option<&str>) {
        match v {
            Some(v) => put(&self.items, id, v),
            None => self.items.delete(&key(id)),
        }
        let mut records = self.records.lock().unwrap();
        let number = u64::try_from(records.len()).unwrap();
        let record = of_item(number, event, &format!(r#"{{"id":{{"N":"{id}"}}}}"#), v);
        let sequence = |number: &dyn std::fmt::Display| format!(r#""SequenceNumber":"{number}""#);
        records.push(record.replace(&sequence(&number), &sequence(&(FIRST + u128::from(number)))));
    }
}

#[async_trait]
impl ItemTable for Busy {
    async fn shape(&self) -> ports::Result<TableShape> {
        self.items.shape().await
    }

    async fn page(&self, from: Option<&str>) -> ports::Result<Items> {
        let page = self.items.page(from).await?;
        // Of what is in this page, what was in one before, and what comes in one behind.
        let pages = self.items.faults.calls();
        self.write("MODIFY", 1, Some(&n(100 + pages)));
        self.write("REMOVE", 2, None);
        self.write("INSERT", 5, Some(&n(500 + pages)));
        self.write("REMOVE", 10, None);
        self.write("INSERT", 76 + pages as u64, Some(&n(7)));
        Ok(page)
    }
}

/// What a target has in the end, by the ledger's own rule.
fn delivered(changes: &[Value]) -> BTreeMap<u64, Value> {
    let (mut ledger, mut target) = (BTreeMap::new(), BTreeMap::new());
    for change in changes {
        let id = change["key"]["id"].as_u64().unwrap();
        let digest = (!change["after"].is_null()).then(|| change["after"].to_string());
        let version = Version::parse(change["version"].as_str().unwrap()).unwrap();
        let arrival = Arrival { version, digest: digest.as_deref(), force: !change["run"].is_null() };
        match decide(ledger.get(&id), &arrival) {
            Decision::Stale => continue,
            Decision::Conflict => panic!("two contents under one version: {change}"),
            Decision::Unchanged => {}
            Decision::Send(_) => {
                target.insert(id, change["after"].clone());
            }
        }
        ledger.insert(id, accepted(&arrival, "{}", 1, 0));
    }
    target.retain(|_, after| !after.is_null());
    target
}

/// What stands in the table.
async fn standing(items: &MemoryItems) -> BTreeMap<u64, Value> {
    let (mut from, mut rows) = (None, BTreeMap::new());
    loop {
        let page = items.page(from.as_deref()).await.unwrap();
        for item in page.items {
            let item: Value = serde_json::from_str(&item).unwrap();
            let number = |name: &str| item[name]["N"].as_str().unwrap().parse::<u64>().unwrap();
            rows.insert(number("id"), json!({ "id": number("id"), "v": number("v") }));
        }
        from = page.next;
        if from.is_none() {
            return rows;
        }
    }
}

#[tokio::test]
async fn a_live_change_wins_over_every_snapshot_whether_it_comes_before_or_behind() {
    let mut world = world();
    let records = Arc::new(Mutex::new(Vec::new()));
    world.deps.items = Arc::new(Busy { items: world.items.clone(), records: Arc::clone(&records) });
    assert_eq!(backfill(&world, "r1").await.unwrap().state, State::Done);
    let snapshots = world.changes();
    let records = records.lock().unwrap().clone();
    assert!(snapshots.len() >= 8 && records.len() >= 15, "{} {}", snapshots.len(), records.len());
    assert_eq!(world.work(&records).await, None);
    let live = world.changes().split_off(snapshots.len());

    let table = standing(&world.items).await;
    assert_eq!(delivered(&[snapshots.clone(), live.clone()].concat()), table);
    assert_eq!(delivered(&[live.clone(), snapshots.clone()].concat()), table);
    // And in turn, while the stream is behind: a step back, and on to the end.
    let mut in_turn = live.clone();
    for (at, snapshot) in snapshots.into_iter().enumerate() {
        in_turn.insert(in_turn.len().min(2 * at), snapshot);
    }
    assert_eq!(delivered(&in_turn), table);
}

#[tokio::test]
async fn a_second_backfill_is_news_where_the_stream_told_nothing_since() {
    let world = world();
    backfill(&world, "r1").await.unwrap();
    assert_eq!(
        world
            .work(&[record(1, &n(1), &n(5))
                .replace(r#""SequenceNumber":"1""#, &format!(r#""SequenceNumber":"{FIRST}""#))])
            .await,
        None
    );
    put(&world.items, 1, &n(5));
    backfill(&world, "r2").await.unwrap();
    let changes = world.changes();
    let of = |id: u64| changes.iter().filter(move |change| change["key"]["id"] == id).collect::<Vec<_>>();
    let (told, quiet) = (of(1), of(2));
    assert!(version(told[1]) > version(told[2]), "a target that has the change has the newer one");
    assert!(version(quiet[1]) > version(quiet[0]) && quiet[1]["id"] != quiet[0]["id"], "sent again");
}

#[tokio::test]
async fn a_backfill_that_is_broken_off_reads_no_finished_page_again() {
    let away = Fault::Call(Kind::Unavailable);
    for (step, repeated) in [("read", 1), ("send", 1), ("save", 1), ("answer of the save", 0)] {
        let world = world();
        // The first save is the beginning of the run.
        match step {
            "read" => {
                [Fault::Pass, away.clone()].into_iter().for_each(|fault| world.items.faults.push(fault));
            }
            "send" => {
                [Fault::Pass, away.clone()].into_iter().for_each(|fault| world.queue.faults.push(fault));
            }
            "save" => {
                [Fault::Pass, Fault::Pass, away.clone()]
                    .into_iter()
                    .for_each(|fault| world.checkpoints.save_faults.push(fault));
            }
            _ => {
                [Fault::Pass, Fault::Pass, Fault::Lost]
                    .into_iter()
                    .for_each(|fault| world.checkpoints.save_faults.push(fault));
            }
        }
        backfill(&world, "r1").await.unwrap_err();
        let progress = backfill(&world, "r1").await.unwrap();
        assert_eq!((progress.state, progress.rows), (State::Done, ITEMS), "{step}");
        assert_eq!(world.items.faults.calls(), 3 + repeated, "{step}");
        assert_eq!(delivered(&world.changes()), standing(&world.items).await, "{step}");
    }
}

#[tokio::test]
async fn a_backfill_rests_and_goes_on_when_it_is_told_to() {
    let world = world();
    let run = json!({ "model": "item", "run": "r1" });
    for work in ["pause_backfill", "resume_backfill", "backfill_status"] {
        let refused = asked(&world, json!({ work: run })).await.unwrap_err();
        assert_eq!(refused, "the backfill cannot go on: there is no such run");
    }
    world.queue.faults.push(Fault::Pass);
    world.queue.faults.push(Fault::Call(Kind::Unavailable));
    backfill(&world, "r1").await.unwrap_err();
    let page = u64::try_from(PAGE).unwrap();
    let paused = Progress { state: State::Paused, rows: page, refused: 0, chunks: 1 };
    assert_eq!(asked(&world, json!({ "pause_backfill": run })).await.unwrap(), paused);
    assert_eq!(backfill(&world, "r1").await.unwrap(), paused, "whoever still drives it");
    assert_eq!(asked(&world, json!({ "backfill_status": run })).await.unwrap(), paused);
    assert_eq!(asked(&world, json!({ "resume_backfill": run })).await.unwrap().state, State::Running);
    assert_eq!(backfill(&world, "r1").await.unwrap().rows, ITEMS);
    assert_eq!(asked(&world, json!({ "backfill_status": run })).await.unwrap().state, State::Done);
}

#[tokio::test]
async fn two_that_drive_one_backfill_do_not_both_work() {
    let world = world();
    let lasts = Duration::from_secs(60);
    let Taken::Held(..) = world.checkpoints.take("table#backfill#item#r1", "another", lasts).await.unwrap()
    else {
        panic!("somebody holds it")
    };
    assert_eq!(backfill(&world, "r1").await.unwrap().state, State::Busy);
    assert_eq!(world.items.faults.calls(), 0);
    world.checkpoints.advance(lasts + Duration::from_secs(1));
    assert_eq!(backfill(&world, "r1").await.unwrap().state, State::Done);
}

#[tokio::test]
async fn under_a_raised_epoch_a_backfill_waits_for_what_the_function_was_before() {
    let mut world = world();
    backfill(&world, "r1").await.unwrap();
    let before = version(&world.changes()[0]).to_owned();
    world.deps.table.epoch = 1;
    for _ in 0..3 {
        assert_eq!(backfill(&world, "r2").await.unwrap().state, State::Waiting);
    }
    assert_eq!(world.items.faults.calls(), 3, "nothing was read");
    world.clock.fetch_add(120, Ordering::Relaxed);
    assert_eq!(backfill(&world, "r2").await.unwrap().state, State::Done);
    let changes = world.changes();
    let last = version(changes.last().unwrap()).to_owned();
    assert!(last.starts_with("00000001-") && last > before, "{last}");

    // A run that was begun before does not go on under it.
    world.queue.faults.push(Fault::Call(Kind::Unavailable));
    backfill(&world, "r3").await.ok();
    world.clock.fetch_add(120, Ordering::Relaxed);
    world.deps.table.epoch = 2;
    let refused = backfill(&world, "r3").await.unwrap_err();
    assert!(refused.contains("the source's epoch was raised"), "{refused}");
}

#[tokio::test]
async fn an_item_that_cannot_go_on_has_a_ticket_without_its_values_and_the_rest_goes_on() {
    let world = world();
    world.items.put(&key(3), r#"{"id":{"N":"3.5"},"v":{"S":"confidential"}}"#);
    world.items.put(&key(4), r#"{"id":{"N":"4"},"v":{"X":"confidential"}}"#);
    let progress = backfill(&world, "r1").await.unwrap();
    assert_eq!((progress.state, progress.rows, progress.refused), (State::Done, ITEMS - 2, 2));
    let reported = world.bus.reported();
    let reasons: Vec<_> = reported.iter().map(|failure| failure.reason.to_string()).collect();
    assert_eq!(reasons, ["key_value at id", "unknown_type at item (byte 25)"]);
    assert!(reported.iter().all(|failure| failure.dead_letter_queue.is_none()), "they stand in the table");
    assert!(!format!("{reported:?}").contains("confidential"));
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_anything_is_read() {
    let world = world();
    let of = |model: &str, run: &str| json!({ "model": model, "run": run });
    let with = |name: &str, value: &str| {
        let mut asked = of("item", "r1");
        asked[name] = json!(value);
        json!({ "backfill": asked })
    };
    for (work, why) in [
        (json!({ "backfill": of("price", "r1") }), "source table does not write model price"),
        (json!({ "backfill": of("item", "A b") }), "the name of a run has"),
        (with("where", "v > 1"), "--where is SQL"),
        (with("wehre", "v > 1"), "asks for no work that is known"),
        (json!("resync"), "asks for no work that is known"),
    ] {
        let refused = asked(&world, work).await.unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
    let payload = json!({ "source": "other", "work": { "backfill": of("item", "r1") } }).to_string();
    let refused = invoke(&payload, &world.deps, "request", Deadline::after(Duration::from_secs(60))).await;
    assert!(refused.unwrap_err().to_string().contains("this function reads table, not other"));

    let first = json!({ "backfill": { "model": "item", "run": "r9", "target": "crm" } });
    asked(&world, first).await.unwrap();
    let pages = world.items.faults.calls();
    let other = json!({ "backfill": { "model": "item", "run": "r9", "target": "shop" } });
    assert!(asked(&world, other).await.unwrap_err().contains("for another target"));
    world.items.reshape(|shape| shape.key.push("range".to_owned()));
    assert!(backfill(&world, "r2").await.unwrap_err().contains("the model's key is not the table's"));
    world.items.reshape(|shape| *shape = TableShape { key: vec!["id".to_owned()], streams: false });
    assert!(backfill(&world, "r2").await.unwrap_err().contains("the table's stream is off"));
    assert_eq!(world.items.faults.calls(), pages);
}

/// The payloads of `events/capture-stream` that `datasync` sends.
#[tokio::test]
async fn each_sample_of_a_backfill_is_done_under_the_shipped_configuration() {
    let world = World::shipped();
    world.items.reshape(|shape| shape.key = ["customer_id", "topic"].map(str::to_owned).to_vec());
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events/capture-stream");
    for (name, state) in [
        ("backfill.json", State::Done),
        ("backfill-pause.json", State::Done),
        ("backfill-resume.json", State::Done),
        ("backfill-status.json", State::Done),
    ] {
        let payload = std::fs::read_to_string(dir.join(name)).unwrap();
        let deadline = Deadline::after(Duration::from_secs(60));
        match invoke(&payload, &world.deps, "request", deadline).await.unwrap() {
            Answer::Backfill(progress) => assert_eq!(progress.state, state, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}
