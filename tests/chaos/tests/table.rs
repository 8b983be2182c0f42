//! A DynamoDB table whose items are older than its stream is loaded while somebody writes into it.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at what it did not expect")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use sync_chaos::{Bed, Dice, build, failpoints};
use sync_tests::aws::Aws;
use sync_tests::preferences::{TABLE, key, table};

/// More than two pages.
const ITEMS: u64 = 1_200;

/// How often each failpoint is the end.
fn kills() -> u64 {
    std::env::var("CHAOS_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

fn item(customer: u64, note: &str) -> Value {
    let mut item = key(customer, "news");
    item["note"] = json!({ "S": note });
    item
}

/// The table with its items, and then its stream: the ARN.
async fn standing(aws: &Aws) -> String {
    aws.dynamodb("CreateTable", &table()).await.unwrap();
    let customers: Vec<u64> = (1..=ITEMS).collect();
    for some in customers.chunks(25) {
        let puts: Vec<Value> =
            some.iter().map(|one| json!({ "PutRequest": { "Item": item(*one, "standing") } })).collect();
        aws.dynamodb("BatchWriteItem", &json!({ "RequestItems": { TABLE: puts } })).await.unwrap();
    }
    let stream = json!({ "StreamEnabled": true, "StreamViewType": "NEW_AND_OLD_IMAGES" });
    let on = json!({ "TableName": TABLE, "StreamSpecification": stream });
    let answer = aws.dynamodb("UpdateTable", &on).await.unwrap();
    answer["TableDescription"]["LatestStreamArn"].as_str().unwrap().to_owned()
}

/// Changes, removes and adds items until it is told to stop. Gives the number of writes.
async fn write(aws: Aws, mut dice: Dice, stop: Arc<AtomicBool>) -> usize {
    let mut writes = 0;
    while !stop.load(Ordering::Relaxed) {
        let customer = 1 + dice.below(ITEMS + 100);
        if dice.below(4) == 0 {
            let gone = json!({ "TableName": TABLE, "Key": key(customer, "news") });
            aws.dynamodb("DeleteItem", &gone).await.unwrap();
        } else {
            let written = json!({ "TableName": TABLE, "Item": item(customer, &format!("write {writes}")) });
            aws.dynamodb("PutItem", &written).await.unwrap();
        }
        writes += 1;
    }
    writes
}

/// What the stream tells, as Lambda hands it over.
async fn told(aws: &Aws, arn: &str) -> Vec<Value> {
    let stream = aws.streams("DescribeStream", &json!({ "StreamArn": arn })).await.unwrap();
    let mut records = Vec::new();
    for shard in stream["StreamDescription"]["Shards"].as_array().unwrap() {
        let from =
            json!({ "StreamArn": arn, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON" });
        let mut at = aws.streams("GetShardIterator", &from).await.unwrap()["ShardIterator"].clone();
        while !at.is_null() {
            let page = aws.streams("GetRecords", &json!({ "ShardIterator": at })).await.unwrap();
            let some = page["Records"].as_array().unwrap();
            if some.is_empty() {
                break;
            }
            records.extend(some.iter().cloned().map(|mut record| {
                record["eventSourceARN"] = json!(arn);
                record
            }));
            at = page["NextShardIterator"].clone();
        }
    }
    records
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_loaded_beside_its_stream_by_a_function_that_is_killed_at_every_step() {
    let binary = build("capture-stream").unwrap();
    let places: Vec<String> =
        failpoints("capture-stream").unwrap().into_iter().filter(|place| place.contains("page")).collect();
    assert!(places.len() >= 3, "the failpoints are gone: {places:?}");
    let bed = Bed::make("table", "there is no database").await.unwrap();
    let arn = standing(bed.aws()).await;
    let dice = Dice::from_env();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(write(bed.aws().clone(), dice, Arc::clone(&stop)));

    for place in &places {
        let run = place.replace('.', "-");
        let event = || {
            let backfill = json!({ "model": "preference", "run": run });
            json!({ "source": "preferences", "work": { "backfill": backfill } }).to_string()
        };
        let mut died = 0;
        while died < kills() {
            let mut function = bed.start("capture-stream", binary.clone(), Some(place)).unwrap();
            if function.invoke_or_die(event()).unwrap().is_some() {
                break;
            }
            died += 1;
            bed.end_lease(&format!("preferences#backfill#preference#{run}")).await.unwrap();
        }
        // Behind the last page there is nothing left to die of.
        assert!(died >= 2, "{place} was passed {died} times");
        let function = bed.start("capture-stream", binary.clone(), None).unwrap();
        let mut invocations = 0;
        loop {
            let answer = function.invoke(event()).unwrap().answer;
            let answer: Value = serde_json::from_str(&answer).unwrap();
            invocations += 1;
            match answer["state"].as_str() {
                Some("done") => break,
                Some("running") if invocations < 20 => {}
                _ => panic!("{answer}"),
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    let writes = writer.await.unwrap();
    assert!(writes > 100, "{writes} writes while it was loaded");

    let function = bed.start("capture-stream", binary, None).unwrap();
    let records = told(bed.aws(), &arn).await;
    for some in records.chunks(100) {
        let answer = function.invoke(json!({ "Records": some }).to_string()).unwrap().answer;
        assert_eq!(answer, r#"{"batchItemFailures":[]}"#);
    }

    // What a target that takes by version has in the end.
    let (mut newest, mut snapshots, mut stale) = (BTreeMap::new(), 0, 0);
    let mut changes: Vec<Value> =
        bed.changes().await.unwrap().iter().map(|body| serde_json::from_str(body).unwrap()).collect();
    changes.sort_by_key(|change| change["version"].as_str().unwrap().to_owned());
    for change in &changes {
        let customer = change["key"]["customer_id"].as_u64().unwrap();
        let before = newest.insert(customer, change["after"]["note"].clone());
        snapshots += usize::from(change["operation"] == "snapshot");
        stale += usize::from(change["operation"] != "snapshot" && before.is_some());
    }
    newest.retain(|_, note| !note.is_null());
    let table: BTreeMap<u64, Value> = bed
        .aws()
        .scan(TABLE)
        .await
        .unwrap()
        .into_iter()
        .map(|item| (item["customer_id"]["N"].as_str().unwrap().parse().unwrap(), item["note"]["S"].clone()))
        .collect();
    println!(
        "{writes} writes, {} records of the stream, {snapshots} snapshots, {stale} of them behind a change",
        records.len()
    );
    assert!(table.len() > 800 && stale > 50, "the two never met: {} {stale}", table.len());
    assert_eq!(newest.len(), table.len());
    for (customer, note) in table {
        assert_eq!(newest.get(&customer), Some(&note), "customer {customer}");
    }
    // Whole runs, and the one page in which it happened once more for each time.
    let (runs, kills) = (places.len(), usize::try_from(kills()).unwrap());
    let most = runs * (usize::try_from(ITEMS).unwrap() + 100 + 500 * kills);
    assert!(snapshots >= runs * 800 && snapshots <= most, "{snapshots} snapshots of {runs} runs");
}
