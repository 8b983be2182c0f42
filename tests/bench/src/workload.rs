//! What is sent: pushes of customers, and invocations as Lambda makes them of what a queue holds.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use sync_domain::webhook::Secrets;

use crate::RECORD;
use crate::stub::Entry;

/// The secret that the source and the target sign with.
pub const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

const FAILURE: &str = include_str!("../../../events/ticket/transform-failed.json");

/// One signed request with `count` changes of different customers, the first of them number `first`.
pub fn push(first: u64, count: u64) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let hour_ago = u64::try_from(now.as_micros())? - 3_600_000_000;
    let change = |number: u64| {
        let record =
            RECORD.replacen("4711", &number.to_string(), 1).replacen("erika", &format!("erika.{number}"), 1);
        let version = hour_ago + number;
        format!(
            r#"{{"model":"customer","operation":"create","key":{{"customer_id":{number}}},"version":{version},"occurred_at":"2024-11-24T20:19:23Z","before":null,"after":{record}}}"#
        )
    };
    let changes: Vec<String> = (first..first + count).map(change).collect();
    let body = format!(r#"{{"changes":[{}]}}"#, changes.join(","));
    let (id, seconds) = (format!("msg_{first}"), i64::try_from(now.as_secs())?);
    let signature = Secrets::parse(SECRET)?.sign(&id, seconds, body.as_bytes())?;
    let route = "POST /v1/sources/{source}/changes";
    let request = json!({
        "version": "2.0",
        "routeKey": route,
        "rawPath": "/v1/sources/crm/changes",
        "rawQueryString": "",
        "headers": {
            "accept": "*/*",
            "content-length": body.len().to_string(),
            "content-type": "application/json",
            "host": "a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "user-agent": "crm-connector/4.2",
            "webhook-id": id,
            "webhook-signature": signature,
            "webhook-timestamp": seconds.to_string(),
            "x-forwarded-for": "192.0.2.7",
        },
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "a1b2c3d4e5",
            "http": { "method": "POST", "path": "/v1/sources/crm/changes", "protocol": "HTTP/1.1", "sourceIp": "192.0.2.7" },
            "requestId": "UqZ2ziUIFiAEJxw=",
            "routeKey": route,
            "stage": "$default",
        },
        "pathParameters": { "source": "crm" },
        "body": body,
        "isBase64Encoded": false,
    });
    Ok(request.to_string())
}

/// The invocation that Lambda makes of messages of a queue.
pub fn batch(entries: &[Entry], queue: &str) -> String {
    let record = |(at, entry): (usize, &Entry)| {
        let attribute = |(name, data_type, value): &(String, String, String)| {
            let value = json!({ "stringValue": value, "stringListValues": [], "binaryListValues": [], "dataType": data_type });
            (name.clone(), value)
        };
        let attributes: Map<String, Value> = entry.attributes.iter().map(attribute).collect();
        json!({
            "messageId": format!("42f600d3-7162-5203-909d-{at:012}"),
            "receiptHandle": format!("AQEB1MIGfyyGMo2AxRm98xKYjMLYFn{at}"),
            "body": entry.body,
            "attributes": {
                "ApproximateReceiveCount": "1",
                "SentTimestamp": "1795551563000",
                "SequenceNumber": format!("188700000000000{at:05}"),
                "MessageGroupId": entry.group,
                "SenderId": "AROAEXAMPLE:bench",
                "MessageDeduplicationId": entry.dedup,
                "ApproximateFirstReceiveTimestamp": "1795551563123",
            },
            "messageAttributes": attributes,
            "md5OfBody": "00000000000000000000000000000000",
            "eventSource": "aws:sqs",
            "eventSourceARN": format!("arn:aws:sqs:eu-central-1:123456789012:datasync-{queue}.fifo"),
            "awsRegion": "eu-central-1",
        })
    };
    json!({ "Records": entries.iter().enumerate().map(record).collect::<Vec<_>>() }).to_string()
}

/// The invocation that Lambda makes of a reported failure: the shipped example, with a number of its own.
pub fn failure(number: u64) -> Result<String> {
    let mut event: Value = serde_json::from_str(FAILURE)?;
    let id = format!("5fea7756-0ea4-451a-a703-{number:012}");
    *event.pointer_mut("/id").context("an event has an id")? = id.clone().into();
    *event.pointer_mut("/detail/message_id").context("a failure has a message")? = id.into();
    Ok(event.to_string())
}
