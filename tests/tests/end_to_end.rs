//! The whole flow, end to end: the real template on the emulator, real HTTP in and out. One deployment and one working
//! day serve all tests here; each asserts one promise of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use sync_tests::change::{Change, RecordName, Request};
use sync_tests::ink::Ink;
use sync_tests::judge::{at_rest, judge};
use sync_tests::oracle::{Held, Oracle};
use sync_tests::rig::{Rig, Silent};
use sync_tests::run::{self, Pushed};
use sync_tests::source::Source;
use sync_tests::target::{Delivery, Target};
use sync_tests::workload::{REFUSED_SETTING, Size, Workload, workload};
use sync_tests::{pos, preferences};
use tokio::runtime::Runtime;

/// The deployment, what was sent through it and what came of it.
struct Day {
    runtime: Runtime,
    rig: Rig,
    workload: Workload,
    pushed: Pushed,
    oracle: Oracle,
    wrong: Vec<String>,
    loyalty: Vec<Delivery>,
    warehouse: Vec<Delivery>,
    tickets: Vec<Value>,
    /// Tests that send more take turns.
    turn: Mutex<()>,
}

fn day() -> &'static Day {
    static DAY: OnceLock<Day> = OnceLock::new();
    DAY.get_or_init(|| {
        let runtime = Runtime::new().unwrap();
        let (rig, workload, pushed, oracle, wrong, tickets) = runtime.block_on(async {
            let rig = Rig::start("end-to-end", &Ink::Life, &Silent).await.unwrap();
            let workload = workload(Size::default(), &Ink::Life).unwrap();
            let (pushed, oracle) = run::day(&rig, &workload, &Silent).await.unwrap();
            pos::day(&rig, &Ink::Life, &Silent).await.unwrap();
            preferences::day(&rig, &Ink::Life, &Silent).await.unwrap();
            let wrong = judge(&rig, &oracle).await.unwrap();
            let tickets = run::tickets(&rig).await.unwrap();
            (rig, workload, pushed, oracle, wrong, tickets)
        });
        let (loyalty, warehouse) = (rig.loyalty.deliveries(), rig.warehouse.deliveries());
        Day {
            runtime,
            rig,
            workload,
            pushed,
            oracle,
            wrong,
            loyalty,
            warehouse,
            tickets,
            turn: Mutex::new(()),
        }
    })
}

fn accepted(deliveries: &[Delivery]) -> impl Iterator<Item = &Delivery> {
    deliveries.iter().filter(|delivery| delivery.accepted())
}

/// Sends more through the same deployment; one test at a time.
fn then<F: Future<Output = ()>>(work: impl FnOnce(&'static Day) -> F) {
    let day = day();
    let _turn = day.turn.lock().unwrap_or_else(PoisonError::into_inner);
    day.runtime.block_on(work(day));
}

async fn push(source: &Source, change: &str) -> String {
    let body = format!("{{\"changes\":[{change}]}}");
    let answer = source.send(&source.next_id(), body.as_bytes()).await.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.json().unwrap()["accepted"][0]["id"].as_str().unwrap().to_owned()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    run::wait(Duration::from_secs(90), what, || {
        let holds = condition();
        async move { Ok(holds) }
    })
    .await
    .unwrap();
}

async fn quiet(rig: &Rig) {
    run::settle(rig, &Oracle::new()).await.unwrap();
}

fn of_record(target: &Target, record: &RecordName) -> Vec<Delivery> {
    let mut deliveries = target.deliveries();
    deliveries.retain(|delivery| delivery.accepted() && delivery.record() == *record);
    deliveries
}

#[test]
fn every_target_has_exactly_what_it_must_have() {
    let day = day();
    assert!(day.wrong.is_empty(), "{:#?}", day.wrong);
    assert!(day.oracle.loyalty.count() > 80 && day.oracle.warehouse.count() > 150, "the day is no day");
}

#[test]
fn the_warehouse_holds_what_stands_in_the_database() {
    then(async |day| {
        let rig = &day.rig;
        let rows = rig.pos.rows().await.unwrap();
        assert!(rows.len() > 120, "the database is no database");
        assert_eq!(at_rest(rig, &rig.pos).await.unwrap(), Vec::<String>::new());
    });
}

#[test]
fn the_warehouse_holds_what_stands_in_the_table() {
    then(async |day| {
        let rig = &day.rig;
        assert!(rig.preferences.rows().await.unwrap().len() > 35, "the table is no table");
        assert_eq!(preferences::differences(rig).await.unwrap(), Vec::<String>::new());
    });
}

/// The first ticket of the streams' stage whose message id `picks` takes, once it is there.
async fn stream_ticket(rig: &Rig, picks: impl Fn(&str) -> bool) -> Value {
    let found = Mutex::new(Value::Null);
    run::wait(Duration::from_secs(60), "there is no ticket", || async {
        let tickets = run::tickets(rig).await?;
        let mut own = tickets.into_iter().filter(|ticket| {
            ticket["stage"]["S"] == "capture_stream" && ticket["message_id"]["S"].as_str().is_some_and(&picks)
        });
        let ticket = own.next();
        Ok(ticket.map(|ticket| *found.lock().unwrap() = ticket).is_some())
    })
    .await
    .unwrap();
    found.into_inner().unwrap()
}

#[test]
fn an_item_that_cannot_go_on_stands_whole_in_the_bucket_with_a_ticket_and_holds_up_nobody() {
    then(async |day| {
        let rig = &day.rig;
        // The model says that a customer's number is whole.
        let poison =
            json!({ "customer_id": { "N": "1.5" }, "topic": { "S": "poison" }, "note": { "S": "keep me" } });
        rig.preferences.put(poison).await.unwrap();
        let mut behind = preferences::key(900_001, "behind");
        behind["allowed"] = json!({ "BOOL": true });
        rig.preferences.put(behind).await.unwrap();
        let record = RecordName {
            model: "preference".to_owned(),
            key: r#"{"customer_id":900001,"topic":"behind"}"#.to_owned(),
        };
        until("what stands behind does not arrive", || of_record(&rig.warehouse, &record).len() == 1).await;
        let ticket = stream_ticket(rig, |message| !message.starts_with("aws/lambda/")).await;
        for (name, value) in [
            ("reason", "key_value"),
            ("place", "customer_id"),
            ("source", "preferences"),
            ("model", "preference"),
        ] {
            assert_eq!(ticket[name]["S"], value, "{name}");
        }
        let place = ticket["dead_letter_queue"]["S"].as_str().unwrap();
        let document = rig.aws().object(&place.replacen("s3:/", "", 1)).await.unwrap();
        let document: Value = serde_json::from_str(&document).unwrap();
        let image = &document["payload"]["Records"][0]["dynamodb"]["NewImage"];
        assert_eq!(image["note"]["S"], "keep me", "the whole record");
        rig.aws()
            .dynamodb("DeleteItem", &json!({ "TableName": preferences::TABLE, "Key": { "customer_id": { "N": "1.5" }, "topic": { "S": "poison" } } }))
            .await
            .unwrap();
        quiet(rig).await;
    });
}

#[test]
fn a_batch_that_the_mapping_gives_up_becomes_a_ticket_and_goes_once_it_is_handed_in_again() {
    then(async |day| {
        let rig = &day.rig;
        // The emulator never gives a batch up: the document is put as Lambda puts it.
        let mapping = rig.stack.resource("CaptureStreamPreferencesMapping").unwrap();
        let record = json!({
            "eventID": "e-given-up",
            "eventName": "INSERT",
            "eventSource": "aws:dynamodb",
            "dynamodb": {
                "ApproximateCreationDateTime": 1_795_551_563,
                "Keys": preferences::key(900_002, "given-up"),
                "NewImage": preferences::key(900_002, "given-up"),
                "SequenceNumber": "100000000000000000001",
                "StreamViewType": "NEW_AND_OLD_IMAGES",
            },
            "eventSourceARN": rig.preferences.stream_arn(),
        });
        let payload = json!({ "Records": [record] }).to_string();
        let document =
            json!({ "version": "1.0", "DDBStreamBatchInfo": { "batchSize": 1 }, "payload": payload });
        let name = format!("aws/lambda/{mapping}/shardId-1/2026-11-24T20.19.23-1");
        let bucket = rig.stack.output("StreamDeadLetterBucketName").unwrap();
        rig.aws().put_object(&format!("/{bucket}/{name}"), document.to_string()).await.unwrap();

        let ticket = stream_ticket(rig, |message| message == name).await;
        assert_eq!(ticket["reason"]["S"], "retries_exhausted");
        assert_eq!(ticket["source"]["S"], "preferences");
        assert_eq!(ticket["dead_letter_queue"]["S"], format!("s3://{bucket}/{name}"));

        let function = rig.stack.output("CaptureStreamPreferencesName").unwrap();
        let path = format!("/2015-03-31/functions/{function}/invocations");
        let answer = rig.aws().lambda("POST", &path, &document).await.unwrap();
        assert_eq!(answer, json!({ "batchItemFailures": [] }));
        let record = RecordName {
            model: "preference".to_owned(),
            key: r#"{"customer_id":900002,"topic":"given-up"}"#.to_owned(),
        };
        until("it does not arrive", || of_record(&rig.warehouse, &record).len() == 1).await;
        // The table does not hold it, so that it goes from the warehouse as well; written there as it is, it is unchanged.
        rig.preferences.put(preferences::key(900_002, "given-up")).await.unwrap();
        rig.preferences.delete(900_002, "given-up").await.unwrap();
        until("it does not go", || of_record(&rig.warehouse, &record).len() == 2).await;
        quiet(rig).await;
    });
}

#[test]
fn every_change_has_its_answer() {
    let day = day();
    assert!(day.pushed.differences.is_empty(), "{:#?}", day.pushed.differences);
    let sent: usize = day.workload.requests().map(|request| request.changes.len()).sum();
    let refused: usize = day.pushed.refused.values().sum();
    assert_eq!(sent, day.pushed.accepted + refused);
    assert!(refused >= 10 && day.pushed.turned_away.len() >= 5);
}

#[test]
fn the_versions_of_a_record_arrive_in_their_order() {
    for deliveries in [&day().loyalty, &day().warehouse] {
        let mut last: std::collections::BTreeMap<RecordName, String> = std::collections::BTreeMap::new();
        for delivery in accepted(deliveries) {
            let version = delivery.envelope("sequence").to_owned();
            if let Some(before) = last.insert(delivery.record(), version.clone()) {
                assert!(before <= version, "{:?} steps back", delivery.record());
            }
        }
        assert!(last.len() > 20);
    }
    let hot =
        RecordName { model: "price".to_owned(), key: r#"{"sku":"SKU-0001","currency":"EUR"}"#.to_owned() };
    let got = accepted(&day().warehouse).filter(|delivery| delivery.record() == hot).count();
    assert_eq!(got, 21, "one record, written 21 times");
}

#[test]
fn an_outage_loses_nothing_and_is_retried_until_it_is_over() {
    let day = day();
    let failed = day.loyalty.iter().filter(|delivery| delivery.status == 503).count();
    assert!(failed > 0, "loyalty was never down");
    for delivery in day.loyalty.iter().filter(|delivery| delivery.status == 503) {
        let then = accepted(&day.loyalty)
            .find(|later| later.webhook_id == delivery.webhook_id)
            .expect("it came again");
        assert!(then.place > delivery.place);
        assert_eq!(then.raw, delivery.raw, "a retry is the same under the same id");
    }
    // That nothing is lost is in `every_target_has_exactly_what_it_must_have`; that the warehouse went on meanwhile is
    // what the day waits for before loyalty comes back.
    let parked = day.tickets.iter().filter(|ticket| ticket["target"]["S"] == "loyalty").count();
    assert_eq!(parked, 0, "an outage is no fault of a record");
}

#[test]
fn a_poison_record_gets_its_ticket_and_blocks_nobody() {
    let day = day();
    let refused: Vec<_> = day.warehouse.iter().filter(|delivery| delivery.status == 422).collect();
    assert_eq!(refused.len(), 1, "a refused record is not tried again");
    let poison =
        RecordName { model: "setting".to_owned(), key: format!(r#"{{"name":"{REFUSED_SETTING}"}}"#) };
    let behind = accepted(&day.warehouse).filter(|delivery| delivery.record() == poison).last().unwrap();
    assert!(behind.place > refused[0].place, "what came behind the poison was delivered");
}

#[test]
fn what_is_unchanged_or_older_is_not_sent_again() {
    let oracle = &day().oracle;
    for (target, unchanged) in [(&oracle.loyalty, 3), (&oracle.warehouse, 4)] {
        assert!(target.held[&Held::Unchanged] >= unchanged, "{:?}", target.held);
        assert_eq!(target.held[&Held::Stale], 2);
    }
}

#[test]
fn a_ticket_names_the_record_by_hash_and_holds_no_values() {
    let day = day();
    assert!(!day.tickets.is_empty());
    let allowed = [
        "pk",
        "id",
        "failed_at",
        "expires_at",
        "stage",
        "reason",
        "place",
        "message_id",
        "tries",
        "source",
        "model",
        "rid",
        "key",
        "event_id",
        "target",
        "dead_letter_queue",
    ];
    for ticket in &day.tickets {
        for name in ticket.as_object().unwrap().keys() {
            assert!(allowed.contains(&name.as_str()), "a ticket has {name}");
        }
        assert_eq!(ticket["rid"]["S"].as_str().map(str::len), Some(43));
    }
}

#[test]
fn the_topic_refuses_a_publish_without_a_group() {
    let day = day();
    day.runtime.block_on(day.rig.stack.check_topic_is_fifo()).unwrap();
}

#[test]
fn the_functions_work_with_no_more_than_their_roles() {
    // The whole day ran under them. Here: they are held against each call, and one cannot do the work of another.
    let day = day();
    day.runtime.block_on(async {
        let transform = day.rig.stack.as_role("TransformRole").await.unwrap();
        let send = |queue: &str| {
            json!({
                "QueueUrl": day.rig.stack.resource(queue).unwrap(),
                "MessageBody": "{}",
                "MessageGroupId": "roles",
                "MessageDeduplicationId": "roles",
            })
        };
        transform
            .sqs("SendMessage", &send("ChangesDeadLetterQueue"))
            .await
            .expect("its own dead-letter queue");
        let denied = transform.sqs("SendMessage", &send("WarehouseQueue")).await.unwrap_err();
        assert!(denied.to_string().contains("403"), "{denied}");
        let denied = transform.scan(day.rig.stack.output("LedgerTableName").unwrap()).await.unwrap_err();
        assert!(denied.to_string().contains("AccessDenied"), "{denied}");
    });
}

#[test]
fn a_dead_letter_that_comes_back_late_never_overwrites() {
    then(async |day| {
        let (rig, aws) = (&day.rig, day.rig.aws());
        let dead = rig.stack.queue_name("WarehouseDeadLetterQueue").unwrap();
        let letters = aws.held().await.unwrap();
        let letter = letters
            .iter()
            .find(|held| held.queue == dead && held.attribute("reason") == Some("refused_by_target"));
        let letter = letter.expect("the poison stands in the dead-letter queue");
        // The warehouse has learnt to take it, but it has something newer by now.
        rig.warehouse.refuse(Box::new(|_| None));
        let before = rig.warehouse.accepted();
        let body = json!({
            "QueueUrl": rig.stack.resource("WarehouseQueue").unwrap(),
            "MessageBody": letter.body(),
            "MessageGroupId": letter.message["MessageGroupId"],
            "MessageDeduplicationId": format!("redrive-{}", letter.message["MessageId"].as_str().unwrap()),
        });
        aws.sqs("SendMessage", &body).await.unwrap();
        quiet(rig).await;
        assert_eq!(rig.warehouse.accepted(), before, "the older version went out");
        assert!(rig.warehouse.faults().is_empty());
        run::refuse_the_poison(rig);
    });
}

#[test]
fn a_replay_sends_what_the_target_has_and_never_what_is_older() {
    then(async |day| {
        let (rig, aws) = (&day.rig, day.rig.aws());
        let key = r#"{"sku":"SKU-0001","currency":"EUR"}"#;
        let record = RecordName { model: "price".to_owned(), key: key.to_owned() };
        let sent = of_record(&rig.warehouse, &record);
        let (newest, older) = (sent.last().unwrap(), &sent[sent.len() - 2]);
        let send = async |event: &str, run: &str| {
            let event = event.replacen('{', &format!(r#"{{"run":"{run}","only":"warehouse","#), 1);
            let body = json!({
                "QueueUrl": rig.stack.resource("WarehouseQueue").unwrap(),
                "MessageBody": event,
                "MessageGroupId": newest.envelope("subject"),
                "MessageDeduplicationId": run,
            });
            aws.sqs("SendMessage", &body).await.unwrap();
            quiet(rig).await;
        };
        send(&newest.raw, "run-1").await;
        let again = of_record(&rig.warehouse, &record);
        assert_eq!(again.len(), sent.len() + 1, "what is equal goes out on demand");
        assert_eq!(again.last().unwrap().webhook_id, newest.webhook_id);
        send(&older.raw, "run-2").await;
        assert_eq!(of_record(&rig.warehouse, &record).len(), again.len(), "what is older never does");
    });
}

#[test]
fn a_delivery_whose_answer_was_lost_comes_again_under_its_id() {
    then(async |day| {
        let rig = &day.rig;
        let lost = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let losing = lost.clone();
        rig.warehouse.refuse(Box::new(move |delivery| {
            let first = delivery.record().key.contains("lost-answer")
                && losing.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
            first.then_some(504)
        }));
        push(&rig.backoffice, r#"{"model":"setting","operation":"create","key":{"name":"lost-answer"},"occurred_at":"2026-11-24T10:00:00Z","after":{"name":"lost-answer","value":1}}"#).await;
        let all = || {
            let mut deliveries = rig.warehouse.deliveries();
            deliveries.retain(|delivery| delivery.record().key.contains("lost-answer"));
            deliveries
        };
        until("it does not come again", || all().len() == 2).await;
        assert_eq!(all()[0].webhook_id, all()[1].webhook_id);
        assert_eq!(all()[0].raw, all()[1].raw);
        quiet(rig).await;
        run::refuse_the_poison(rig);
    });
}

/// How the schedule of a target's function stands, and its event source mapping.
async fn switches(rig: &Rig, target: &str) -> (String, String) {
    let rule = rig.stack.resource(&format!("Deliver{target}ProbeRule")).unwrap();
    let rule = rig.aws().events("DescribeRule", &json!({ "Name": rule })).await.unwrap();
    let mapping = rig.stack.resource(&format!("Deliver{target}Mapping")).unwrap();
    let path = format!("/2015-03-31/event-source-mappings/{mapping}");
    let mapping = rig.aws().lambda("GET", &path, &json!({})).await.unwrap();
    (rule["State"].as_str().unwrap().to_owned(), mapping["State"].as_str().unwrap().to_owned())
}

/// Invokes a target's function with what its schedule is told to send, without waiting for its minute.
async fn wake(rig: &Rig, target: &str) -> Value {
    let rule = rig.stack.resource(&format!("Deliver{target}ProbeRule")).unwrap();
    let targets = rig.aws().events("ListTargetsByRule", &json!({ "Rule": rule })).await.unwrap();
    let input: Value = serde_json::from_str(targets["Targets"][0]["Input"].as_str().unwrap()).unwrap();
    rig.ask(target, &input["work"]).await.unwrap()
}

fn settings(rig: &Rig, name: &str) -> Vec<Delivery> {
    let mut deliveries = rig.warehouse.deliveries();
    deliveries.retain(|delivery| delivery.accepted() && delivery.record().key.contains(name));
    deliveries
}

async fn push_setting(rig: &Rig, name: &str) {
    let change = format!(
        r#"{{"model":"setting","operation":"create","key":{{"name":"{name}"}},"occurred_at":"2026-11-24T10:00:00Z","after":{{"name":"{name}","value":1}}}}"#
    );
    push(&rig.backoffice, &change).await;
}

fn on(rule: &str, mapping: &str) -> (String, String) {
    (rule.to_owned(), mapping.to_owned())
}

#[test]
fn a_paused_target_gets_nothing_and_loses_nothing() {
    then(async |day| {
        let rig = &day.rig;
        assert_eq!(switches(rig, "Warehouse").await, on("DISABLED", "Enabled"));
        let standing = rig.ask("Warehouse", &json!("pause")).await.unwrap();
        assert_eq!(standing["state"], "paused", "{standing}");
        assert_eq!(switches(rig, "Warehouse").await, on("ENABLED", "Enabled"));
        assert_eq!(wake(rig, "Warehouse").await["applied"], true);
        assert_eq!(switches(rig, "Warehouse").await, on("DISABLED", "Disabled"), "nothing runs for it");
        for number in 0..3 {
            push_setting(rig, &format!("while-paused-{number}")).await;
        }
        let waits = || async { Ok(run::in_flight(rig).await?.get("WarehouseQueue") == Some(&3)) };
        run::wait(Duration::from_secs(60), "they do not wait in the queue", waits).await.unwrap();
        // Nothing else moves: whatever would read the queue has had its time.
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(settings(rig, "while-paused").is_empty());

        let standing = rig.ask("Warehouse", &json!("resume")).await.unwrap();
        assert_eq!(standing["state"], "closed", "{standing}");
        wake(rig, "Warehouse").await;
        assert_eq!(switches(rig, "Warehouse").await, on("DISABLED", "Enabled"));
        until("they do not come", || settings(rig, "while-paused").len() == 3).await;
        quiet(rig).await;
    });
}

#[test]
fn a_target_that_is_away_is_found_by_its_probe() {
    then(async |day| {
        let rig = &day.rig;
        rig.warehouse.fail_with(503);
        for number in 0..4 {
            push_setting(rig, &format!("while-away-{number}")).await;
        }
        let opens = || async { Ok(rig.ask("Warehouse", &json!("status")).await?["state"] == "open") };
        run::wait(Duration::from_secs(60), "the breaker stays closed", opens).await.unwrap();
        assert_eq!(wake(rig, "Warehouse").await["state"], "open");
        assert_eq!(switches(rig, "Warehouse").await, on("ENABLED", "Disabled"));
        let tried = rig.warehouse.deliveries().len();
        push_setting(rig, "while-away-4").await;
        let waits = || async { Ok(run::in_flight(rig).await?.get("WarehouseQueue") == Some(&5)) };
        run::wait(Duration::from_secs(60), "they do not wait in the queue", waits).await.unwrap();
        assert_eq!(rig.warehouse.deliveries().len(), tried, "nobody asks it before the probe is due");

        rig.warehouse.bring_back();
        let closes = || async {
            // A probe is due 45 seconds after the last one, however often somebody comes.
            tokio::time::sleep(Duration::from_secs(3)).await;
            Ok(wake(rig, "Warehouse").await["state"] == "closed")
        };
        run::wait(Duration::from_secs(120), "the breaker stays open", closes).await.unwrap();
        assert_eq!(switches(rig, "Warehouse").await, on("DISABLED", "Enabled"));
        until("they do not come", || settings(rig, "while-away").len() == 5).await;
        let away = |ticket: &Value| ticket["target"]["S"] == "warehouse";
        assert_eq!(run::outages(rig).await.unwrap().iter().filter(|ticket| away(ticket)).count(), 1);
        run::refuse_the_poison(rig);
        quiet(rig).await;
    });
}

#[test]
fn a_lookup_that_is_away_holds_records_back_in_order() {
    then(async |day| {
        let rig = &day.rig;
        let record = RecordName { model: "customer".to_owned(), key: r#"{"customer_id":700001}"#.to_owned() };
        let now = jiff::Timestamp::now().as_microsecond();
        let customer = |version: i64, operation: &str, tier: &str| {
            format!(
                r#"{{"model":"customer","operation":"{operation}","key":{{"customer_id":700001}},"version":{version},"occurred_at":"2026-11-24T10:00:00Z","after":{{"customer_id":700001,"name":{{"first":"A","last":"B"}},"tier":"{tier}"}}}}"#
            )
        };
        rig.lookup.fail(true);
        let asked = rig.lookup.asked();
        push(&rig.crm, &customer(now, "create", "gold")).await;
        // Not looked up, but behind one that is.
        push(&rig.crm, &customer(now + 1, "update", "bronze")).await;
        until("nobody asks", || rig.lookup.asked() > asked).await;
        assert!(of_record(&rig.warehouse, &record).is_empty(), "nothing overtakes");
        rig.lookup.fail(false);
        until("the records do not come", || of_record(&rig.warehouse, &record).len() == 2).await;
        let got = of_record(&rig.warehouse, &record);
        let segment = sync_tests::raw::at(got[0].image("after").unwrap(), "segment").unwrap();
        assert_eq!(segment, Some(format!("\"{}\"", sync_tests::lookup::segment(700_001)).as_str()));
        assert_eq!(sync_tests::raw::at(got[1].image("after").unwrap(), "segment").unwrap(), Some("null"));
        quiet(rig).await;
    });
}

#[test]
fn a_request_that_is_sent_again_arrives_once() {
    then(async |day| {
        let rig = &day.rig;
        let change = Change {
            source: "backoffice",
            model: "setting",
            operation: "create",
            key: r#"{"name":"sent-again"}"#.to_owned(),
            counter: sync_tests::change::Counter::Arrival,
            occurred_at: "2026-11-24T10:00:00Z".to_owned(),
            before: None,
            after: Some(r#"{"name":"sent-again","value":1}"#.to_owned()),
            fate: sync_tests::change::Fate::Flows,
        };
        let request = Request { source: "backoffice", changes: vec![change.clone()] };
        let body = request.body().unwrap();
        let id = rig.backoffice.next_id();
        let first = rig.backoffice.send(&id, body.as_bytes()).await.unwrap();
        assert_eq!(first.status, 202, "{}", first.text());
        // Meanwhile somebody sets it to something else.
        push(&rig.backoffice, r#"{"model":"setting","operation":"update","key":{"name":"sent-again"},"occurred_at":"2026-11-24T10:00:01Z","after":{"name":"sent-again","value":2}}"#).await;
        let second = rig.backoffice.send(&id, body.as_bytes()).await.unwrap();
        assert_eq!((second.status, second.text()), (202, first.text()), "the retry gets the same answer");
        quiet(rig).await;
        let got = of_record(&rig.warehouse, &change.record());
        assert_eq!(got.len(), 2);
        assert_eq!(sync_tests::raw::at(got[1].image("after").unwrap(), "value").unwrap(), Some("2"));

        let other = rig.backoffice.send(&id, body.replace(":1}", ":3}").as_bytes()).await.unwrap();
        assert!((400..500).contains(&other.status), "an id that is used for another body is refused");
    });
}

#[test]
fn a_caller_inside_aws_pushes_as_its_role_and_as_nobody_else() {
    then(async |day| {
        let rig = &day.rig;
        let api = rig.stack.output("PushApiId").unwrap();
        let body = r#"{"model":"setting","operation":"create","key":{"name":"by-role"},"occurred_at":"2026-11-24T10:00:00Z","after":{"name":"by-role","value":1}}"#;
        let push = async |caller: &sync_tests::aws::Aws, source: &str| {
            let headers = [("content-type", "application/json"), ("webhook-id", "msg_by_role")];
            let path = format!("/v1/iam/sources/{source}/changes");
            caller.execute_api(api, &path, &headers, body).await.unwrap()
        };
        let role = rig.stack.as_caller(sync_tests::stack::BACKOFFICE_ROLE).await.unwrap();
        let (status, answer) = push(&role, "backoffice").await;
        assert_eq!(status, 202, "{answer}");
        let record = RecordName { model: "setting".to_owned(), key: r#"{"name":"by-role"}"#.to_owned() };
        until("it does not arrive", || of_record(&rig.warehouse, &record).len() == 1).await;

        // A source that names no principal, a role that no source names, and a caller without any right to the API.
        let (status, answer) = push(&role, "shop").await;
        assert_eq!(status, 401, "{answer}");
        let stranger = rig.stack.as_caller("stranger").await.unwrap();
        let (status, answer) = push(&stranger, "backoffice").await;
        assert_eq!(status, 401, "{answer}");
        let transform = rig.stack.as_role("TransformRole").await.unwrap();
        let (status, answer) = push(&transform, "backoffice").await;
        assert_eq!(status, 403, "{answer}");
        quiet(rig).await;
        assert_eq!(of_record(&rig.warehouse, &record).len(), 1);
    });
}

#[test]
fn both_secrets_of_a_source_are_good_while_it_changes_them() {
    // The shop signs with the previous one of two all day (see `rig`).
    let day = day();
    let from_shop = accepted(&day.warehouse).filter(|delivery| delivery.envelope("origin") == "shop").count();
    assert!(from_shop > 30);
}
