//! Batch calls: some of their entries are taken out before they are forwarded, and put into the answer as failed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::operation::Operation;

/// How the entries fail that are taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failing {
    /// Not now: an error of the service's own.
    Now,
    /// Never: the service does not like the entry.
    Ever,
}

/// A batch call without the entries that were taken out of it.
#[derive(Debug)]
pub(super) struct Split {
    /// What is forwarded; none if no entry is left.
    pub(super) rest: Option<Vec<u8>>,
    /// How many entries were taken out.
    pub(super) out: u64,
    failures: Failures,
}

/// What the answer says of the entries that were taken out.
#[derive(Debug)]
enum Failures {
    /// SQS: entries of `Failed`.
    Listed(Vec<Value>),
    /// SNS: the same in XML.
    Xml { action: String, members: String },
    /// EventBridge: the places of the entries that were taken out, of so many.
    Placed { out: BTreeSet<usize>, all: usize, entry: Value },
    /// DynamoDB: what is left unprocessed, and under which name.
    Unprocessed(&'static str, Value),
}

/// Takes the entries at the places that `pick` chooses, of so many, out of a call. None if it is no batch call, or nothing
/// was chosen.
pub(super) fn split(
    operation: &Operation,
    body: &[u8],
    failing: Failing,
    pick: impl FnOnce(usize) -> BTreeSet<usize>,
) -> Option<Split> {
    let made = match (operation.service.as_str(), operation.action.as_str()) {
        ("sqs", "SendMessageBatch" | "DeleteMessageBatch" | "ChangeMessageVisibilityBatch") => {
            sqs(body, failing, pick)?
        }
        ("sns", "PublishBatch") => sns(body, failing, pick)?,
        ("events", "PutEvents") => events(body, failing, pick)?,
        ("dynamodb", "BatchGetItem") => tables(body, "UnprocessedKeys", pick)?,
        ("dynamodb", "BatchWriteItem") => tables(body, "UnprocessedItems", pick)?,
        _ => return None,
    };
    (made.out > 0).then_some(made)
}

impl Split {
    /// The answer's body: what the service said of the entries that it got, and the failures of the others. `None` stands
    /// for a service that got none of them. An answer that cannot be read stays as it is.
    pub(super) fn answer(&self, said: Option<&[u8]>) -> Option<Vec<u8>> {
        if let Failures::Xml { action, members } = &self.failures {
            let said = std::str::from_utf8(said.unwrap_or_default()).ok()?;
            return Some(xml_answer(action, members, said).into_bytes());
        }
        let mut answer: Map<String, Value> = match said {
            Some(said) => serde_json::from_slice(said).ok()?,
            None => Map::new(),
        };
        match &self.failures {
            Failures::Xml { .. } => return None,
            Failures::Listed(failed) => {
                answer.entry("Successful").or_insert_with(|| json!([]));
                let all = answer.entry("Failed").or_insert_with(|| json!([]));
                all.as_array_mut()?.extend(failed.iter().cloned());
            }
            Failures::Placed { out, all, entry } => {
                let mut said =
                    answer.get("Entries").and_then(Value::as_array).cloned().unwrap_or_default().into_iter();
                let entry = |at: usize| if out.contains(&at) { Some(entry.clone()) } else { said.next() };
                let entries: Vec<Value> = (0..*all).map_while(entry).collect();
                let before = answer.get("FailedEntryCount").and_then(Value::as_u64).unwrap_or_default();
                answer.insert("FailedEntryCount".to_owned(), json!(before.saturating_add(self.out)));
                answer.insert("Entries".to_owned(), entries.into());
            }
            Failures::Unprocessed(name, left) => {
                answer.entry("Responses").or_insert_with(|| json!({}));
                // The emulator leaves nothing unprocessed by itself.
                answer.insert((*name).to_owned(), left.clone());
            }
        }
        serde_json::to_vec(&answer).ok()
    }
}

fn sqs(body: &[u8], failing: Failing, pick: impl FnOnce(usize) -> BTreeSet<usize>) -> Option<Split> {
    let mut call: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let (kept, out) = parted(call.get("Entries")?.as_array()?, pick);
    let (code, sender) = match failing {
        Failing::Now => ("InternalError", false),
        Failing::Ever => ("InvalidMessageContents", true),
    };
    let failure = |entry: &Value| json!({ "Id": entry.get("Id"), "Code": code, "SenderFault": sender, "Message": "injected" });
    let failures = Failures::Listed(out.iter().map(|(_, entry)| failure(entry)).collect());
    let left = !kept.is_empty();
    call.insert("Entries".to_owned(), kept.into());
    Some(Split { rest: left.then(|| serde_json::to_vec(&call).ok()).flatten(), out: count(&out), failures })
}

fn events(body: &[u8], failing: Failing, pick: impl FnOnce(usize) -> BTreeSet<usize>) -> Option<Split> {
    let mut call: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let entries = call.get("Entries")?.as_array()?;
    let all = entries.len();
    let (kept, out) = parted(entries, pick);
    let code = match failing {
        Failing::Now => "InternalException",
        Failing::Ever => "InvalidArgument",
    };
    let entry = json!({ "ErrorCode": code, "ErrorMessage": "injected" });
    let places = out.iter().map(|(at, _)| *at).collect();
    let left = !kept.is_empty();
    call.insert("Entries".to_owned(), kept.into());
    Some(Split {
        rest: left.then(|| serde_json::to_vec(&call).ok()).flatten(),
        out: count(&out),
        failures: Failures::Placed { out: places, all, entry },
    })
}

/// The keys or requests of all tables, counted through in the order of the tables' names.
fn tables(body: &[u8], name: &'static str, pick: impl FnOnce(usize) -> BTreeSet<usize>) -> Option<Split> {
    let mut call: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let items = call.get("RequestItems")?.as_object()?;
    let entries = |table: &Value| table.get("Keys").unwrap_or(table).as_array().map_or(0, Vec::len);
    let out = pick(items.values().map(entries).sum());
    let (mut rest, mut left) = (Map::new(), Map::new());
    let mut at = 0;
    for (table, asked) in items {
        let places: BTreeSet<usize> = out.iter().filter_map(|place| place.checked_sub(at)).collect();
        at += entries(asked);
        let (kept, out) = parted(asked.get("Keys").unwrap_or(asked).as_array()?, |_| places);
        let out: Vec<Value> = out.into_iter().map(|(_, entry)| entry).collect();
        for (whole, some) in [(&mut rest, kept), (&mut left, out)] {
            if !some.is_empty() {
                whole.insert(table.clone(), same_with(asked, some));
            }
        }
    }
    let some_left = !rest.is_empty();
    call.insert("RequestItems".to_owned(), rest.into());
    Some(Split {
        rest: some_left.then(|| serde_json::to_vec(&call).ok()).flatten(),
        out: u64::try_from(out.len()).unwrap_or(u64::MAX),
        failures: Failures::Unprocessed(name, left.into()),
    })
}

/// A table's part of a call with other entries: reads have settings beside their keys.
fn same_with(asked: &Value, entries: Vec<Value>) -> Value {
    match asked.as_object() {
        Some(settings) => {
            let mut settings = settings.clone();
            settings.insert("Keys".to_owned(), entries.into());
            settings.into()
        }
        None => entries.into(),
    }
}

fn parted(
    entries: &[Value],
    pick: impl FnOnce(usize) -> BTreeSet<usize>,
) -> (Vec<Value>, Vec<(usize, Value)>) {
    let picked = pick(entries.len());
    let (out, kept): (Vec<_>, Vec<_>) =
        entries.iter().cloned().enumerate().partition(|(at, _)| picked.contains(at));
    (kept.into_iter().map(|(_, entry)| entry).collect(), out)
}

fn count(out: &[(usize, Value)]) -> u64 {
    u64::try_from(out.len()).unwrap_or(u64::MAX)
}

/// The entries of the query protocol: fields of the form `PublishBatchRequestEntries.member.3.Message=…`, counted from 1.
const MEMBER: &str = "PublishBatchRequestEntries.member.";

fn sns(body: &[u8], failing: Failing, pick: impl FnOnce(usize) -> BTreeSet<usize>) -> Option<Split> {
    let form = std::str::from_utf8(body).ok()?;
    let mut others: Vec<String> = Vec::new();
    let mut members: BTreeMap<usize, Vec<(&str, &str)>> = BTreeMap::new();
    for field in form.split('&') {
        let member = field.strip_prefix(MEMBER).and_then(|field| field.split_once('.'));
        match member.and_then(|(number, field)| Some((number.parse().ok()?, field.split_once('=')?))) {
            Some((number, field)) => members.entry(number).or_default().push(field),
            None => others.push(field.to_owned()),
        }
    }
    let picked = pick(members.len());
    let (code, sender) = match failing {
        Failing::Now => ("InternalError", false),
        Failing::Ever => ("InvalidParameter", true),
    };
    let (mut kept, mut failed) = (0_usize, String::new());
    for (at, fields) in members.values().enumerate() {
        if picked.contains(&at) {
            let id = fields.iter().find(|(name, _)| *name == "Id").map_or("", |(_, value)| value);
            failed.push_str(&format!(
                "<member><Id>{id}</Id><Code>{code}</Code><Message>injected</Message><SenderFault>{sender}</SenderFault></member>"
            ));
        } else {
            kept += 1;
            others.extend(fields.iter().map(|(name, value)| format!("{MEMBER}{kept}.{name}={value}")));
        }
    }
    let out = members.len().saturating_sub(kept);
    Some(Split {
        rest: (kept > 0).then(|| others.join("&").into_bytes()),
        out: u64::try_from(out).unwrap_or(u64::MAX),
        failures: Failures::Xml { action: "PublishBatch".to_owned(), members: failed },
    })
}

fn xml_answer(action: &str, failed: &str, said: &str) -> String {
    let whole = format!("<Failed>{failed}</Failed>");
    if said.is_empty() {
        return format!(
            "<{action}Response xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><{action}Result>{whole}<Successful/>\
             </{action}Result><ResponseMetadata><RequestId>injected</RequestId></ResponseMetadata></{action}Response>"
        );
    }
    if said.contains("<Failed>") {
        return said.replacen("<Failed>", &format!("<Failed>{failed}"), 1);
    }
    let without = said.replacen("<Failed/>", "", 1);
    let end = format!("</{action}Result>");
    without.replacen(&end, &format!("{whole}{end}"), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(service: &str, action: &str) -> Operation {
        Operation { service: service.to_owned(), action: action.to_owned() }
    }

    fn taken_out(service: &str, action: &str, body: &str, places: &[usize]) -> Split {
        let places = places.iter().copied().collect();
        split(&operation(service, action), body.as_bytes(), Failing::Now, |_| places).unwrap()
    }

    fn json_of(bytes: Option<Vec<u8>>) -> Value {
        serde_json::from_slice(&bytes.unwrap()).unwrap()
    }

    #[test]
    fn entries_of_a_queue_are_not_forwarded_and_come_back_as_failed() {
        let call =
            json!({ "QueueUrl": "u", "Entries": [{ "Id": "0" }, { "Id": "1" }, { "Id": "2" }] }).to_string();
        let some = taken_out("sqs", "SendMessageBatch", &call, &[0, 2]);
        assert_eq!(some.out, 2);
        assert_eq!(json_of(some.rest.clone()), json!({ "QueueUrl": "u", "Entries": [{ "Id": "1" }] }));
        let answer = json_of(some.answer(Some(br#"{"Successful":[{"Id":"1"}]}"#)));
        assert_eq!(answer["Successful"], json!([{ "Id": "1" }]));
        let ids: Vec<_> =
            answer["Failed"].as_array().unwrap().iter().map(|failed| failed["Id"].clone()).collect();
        assert_eq!(ids, ["0", "2"]);
        assert_eq!(answer["Failed"][0]["SenderFault"], false);

        let all = taken_out("sqs", "SendMessageBatch", &call, &[0, 1, 2]);
        assert_eq!(all.rest, None);
        let answer = json_of(all.answer(None));
        assert_eq!(
            (answer["Successful"].as_array().unwrap().len(), answer["Failed"].as_array().unwrap().len()),
            (0, 3)
        );
    }

    #[test]
    fn entries_of_the_topic_are_numbered_anew() {
        let call = "Action=PublishBatch&PublishBatchRequestEntries.member.1.Id=0&PublishBatchRequestEntries.member.1.Message=a%3Db\
                    &PublishBatchRequestEntries.member.2.Id=1&PublishBatchRequestEntries.member.2.Message=c&TopicArn=t";
        let split = taken_out("sns", "PublishBatch", call, &[0]);
        let rest = String::from_utf8(split.rest.clone().unwrap()).unwrap();
        assert_eq!(
            rest,
            "Action=PublishBatch&TopicArn=t&PublishBatchRequestEntries.member.1.Id=1&PublishBatchRequestEntries.member.1.Message=c"
        );
        for said in [
            "<PublishBatchResult><Failed/></PublishBatchResult>",
            "<PublishBatchResult><Failed></Failed></PublishBatchResult>",
            "<PublishBatchResult></PublishBatchResult>",
        ] {
            let answer = String::from_utf8(split.answer(Some(said.as_bytes())).unwrap()).unwrap();
            let failed = "<Failed><member><Id>0</Id><Code>InternalError</Code><Message>injected</Message>\
                          <SenderFault>false</SenderFault></member></Failed>";
            assert_eq!(answer, format!("<PublishBatchResult>{failed}</PublishBatchResult>"));
        }
    }

    #[test]
    fn events_keep_their_places() {
        let call =
            json!({ "Entries": [{ "Detail": "a" }, { "Detail": "b" }, { "Detail": "c" }] }).to_string();
        let split = taken_out("events", "PutEvents", &call, &[1]);
        let answer = json_of(
            split.answer(Some(br#"{"FailedEntryCount":0,"Entries":[{"EventId":"a"},{"EventId":"c"}]}"#)),
        );
        assert_eq!(answer["FailedEntryCount"], 1);
        assert_eq!(answer["Entries"][0]["EventId"], "a");
        assert_eq!(answer["Entries"][1]["ErrorCode"], "InternalException");
        assert_eq!(answer["Entries"][2]["EventId"], "c");
    }

    #[test]
    fn keys_are_left_unprocessed_with_the_settings_of_their_table() {
        let call = json!({ "RequestItems": {
            "a": { "ConsistentRead": true, "Keys": [{ "pk": { "S": "1" } }, { "pk": { "S": "2" } }] },
            "b": { "Keys": [{ "pk": { "S": "3" } }] },
        } });
        let split = taken_out("dynamodb", "BatchGetItem", &call.to_string(), &[1, 2]);
        let rest = json_of(split.rest.clone());
        assert_eq!(
            rest["RequestItems"],
            json!({ "a": { "ConsistentRead": true, "Keys": [{ "pk": { "S": "1" } }] } })
        );
        let answer = json_of(split.answer(Some(br#"{"Responses":{"a":[]},"UnprocessedKeys":{}}"#)));
        let left = json!({
            "a": { "ConsistentRead": true, "Keys": [{ "pk": { "S": "2" } }] },
            "b": { "Keys": [{ "pk": { "S": "3" } }] },
        });
        assert_eq!(answer["UnprocessedKeys"], left);
        let write =
            json!({ "RequestItems": { "a": [{ "PutRequest": 1 }, { "PutRequest": 2 }] } }).to_string();
        let split = taken_out("dynamodb", "BatchWriteItem", &write, &[0]);
        assert_eq!(json_of(split.rest.clone())["RequestItems"], json!({ "a": [{ "PutRequest": 2 }] }));
        assert_eq!(
            json_of(split.answer(Some(b"{}")))["UnprocessedItems"],
            json!({ "a": [{ "PutRequest": 1 }] })
        );
    }

    #[test]
    fn what_is_no_batch_is_left_alone() {
        let nothing = split(&operation("sqs", "ReceiveMessage"), b"{}", Failing::Now, |_| BTreeSet::new());
        assert!(nothing.is_none());
    }
}
