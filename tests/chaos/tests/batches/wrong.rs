//! Wrong ways to make batch calls. Each is what somebody would write who trusts a status of 200.

use serde_json::{Value, json};
use sync_domain::ports::LedgerRow;
use sync_domain::version::Version;

use crate::bed::Bed;
use crate::judge::{Entry, event, failure, message};

fn entry_of(id: usize, entry: &Entry, dedup: &str) -> Value {
    json!({ "Id": id.to_string(), "MessageBody": entry.body(), "MessageGroupId": entry.group, "MessageDeduplicationId": dedup })
}

/// Sends a call of up to ten; answers with the ids that failed, or none if there was no answer.
async fn call(bed: &Bed, url: &str, entries: Vec<Value>) -> Option<Vec<usize>> {
    let answer =
        bed.plain().sqs("SendMessageBatch", &json!({ "QueueUrl": url, "Entries": entries })).await.ok()?;
    let failed = answer["Failed"].as_array().cloned().unwrap_or_default();
    Some(failed.iter().map(|failed| failed["Id"].as_str().unwrap().parse().unwrap()).collect())
}

/// A call that is answered has been taken.
pub(crate) async fn ignores_failed(bed: &Bed, url: &str, all: Vec<Entry>) -> Vec<bool> {
    let mut taken = Vec::new();
    for some in all.chunks(10) {
        let entries = some.iter().enumerate().map(|(id, entry)| entry_of(id, entry, &message(entry).dedup));
        let answered = call(bed, url, entries.collect()).await.is_some();
        taken.extend(some.iter().map(|_| answered));
    }
    taken
}

/// Whatever happens, it has been taken.
pub(crate) async fn takes_errors_for_success(bed: &Bed, url: &str, all: Vec<Entry>) -> Vec<bool> {
    let taken = ignores_failed(bed, url, all).await;
    taken.iter().map(|_| true).collect()
}

/// What failed is sent again behind everything else, and several of a group go in one call.
pub(crate) async fn sends_failed_last(bed: &Bed, url: &str, all: Vec<Entry>) -> Vec<bool> {
    let mut left = all.clone();
    for _ in 0..5 {
        let mut failed = Vec::new();
        for some in left.chunks(10) {
            let entries =
                some.iter().enumerate().map(|(id, entry)| entry_of(id, entry, &message(entry).dedup));
            let out = call(bed, url, entries.collect()).await.unwrap_or_else(|| (0..some.len()).collect());
            failed.extend(out.into_iter().map(|at| some[at].clone()));
        }
        left = failed;
    }
    all.iter().map(|entry| !left.contains(entry)).collect()
}

/// Each try has ids of its own.
pub(crate) async fn makes_new_ids(bed: &Bed, url: &str, all: Vec<Entry>) -> Vec<bool> {
    let mut taken = Vec::new();
    for entry in &all {
        let entries = vec![entry_of(0, entry, &format!("try-{}", bed.next()))];
        taken.push(call(bed, url, entries).await.is_some_and(|failed| failed.is_empty()));
    }
    taken
}

/// A call to the topic that is answered has been taken.
pub(crate) async fn publishes_and_ignores_failed(bed: &Bed, arn: &str, all: Vec<Entry>) -> Vec<bool> {
    let mut taken = Vec::new();
    for some in all.chunks(10) {
        let mut fields: Vec<(String, String)> =
            [("Action", "PublishBatch"), ("Version", "2010-03-31"), ("TopicArn", arn)]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into();
        for (at, entry) in some.iter().map(event).enumerate() {
            let member = format!("PublishBatchRequestEntries.member.{}", at + 1);
            for (name, value) in [
                ("Id", at.to_string()),
                ("Message", entry.body().to_owned()),
                ("MessageGroupId", entry.rid().as_str().to_owned()),
                ("MessageDeduplicationId", entry.dedup_id()),
            ] {
                fields.push((format!("{member}.{name}"), value));
            }
        }
        let fields: Vec<(&str, &str)> =
            fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let answered = bed.plain().query("sns", &fields).await.is_ok();
        taken.extend(some.iter().map(|_| answered));
    }
    taken
}

/// A call to the bus that is answered has been taken.
pub(crate) async fn reports_and_ignores_failed(bed: &Bed, bus: &str, all: Vec<Entry>) -> Vec<bool> {
    let mut taken = Vec::new();
    for some in all.chunks(10) {
        let detail = |entry: &Entry| serde_json::to_string(&failure(entry)).unwrap();
        let entries = some.iter().map(|entry| {
            json!({ "Source": "datasync", "DetailType": "record failed", "Detail": detail(entry), "EventBusName": bus })
        });
        let call = json!({ "Entries": entries.collect::<Vec<_>>() });
        let answered = bed.plain().events("PutEvents", &call).await.is_ok();
        taken.extend(some.iter().map(|_| answered));
    }
    taken
}

/// A row that is not in the answer is not there.
pub(crate) async fn ignores_unprocessed(
    bed: &Bed,
    table: &str,
    keys: Vec<String>,
) -> Vec<Option<Option<LedgerRow>>> {
    let mut found = Vec::new();
    for some in keys.chunks(100) {
        let asked: Vec<Value> = some.iter().map(|key| json!({ "pk": { "S": key } })).collect();
        let call = json!({ "RequestItems": { table: { "Keys": asked, "ConsistentRead": true } } });
        let Ok(answer) = bed.plain().dynamodb("BatchGetItem", &call).await else {
            found.extend(some.iter().map(|_| None));
            continue;
        };
        let rows = answer["Responses"][table].as_array().cloned().unwrap_or_default();
        found.extend(
            some.iter().map(|key| Some(rows.iter().find(|row| row["pk"]["S"] == key.as_str()).map(row))),
        );
    }
    found
}

fn row(item: &Value) -> LedgerRow {
    LedgerRow {
        version: Version::parse(item["version"]["S"].as_str().unwrap()).unwrap(),
        digest: item["digest"]["S"].as_str().map(str::to_owned),
        deleted: false,
        key: item["key"]["S"].as_str().unwrap().to_owned(),
        tries: 1,
        expires_at: None,
        whose: None,
    }
}
