use std::sync::{Arc, Mutex};

use aws_sdk_sns::operation::publish::PublishOutput;
use aws_sdk_sns::operation::publish_batch::{PublishBatchInput, PublishBatchOutput};
use aws_sdk_sns::types::{BatchResultErrorEntry, PublishBatchResultEntry};
use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};

use sync_domain::id::{Hop, dedup_id};

use super::*;

fn text(text: &str) -> AttributeValue {
    AttributeValue::Text(text.to_owned())
}

fn entry<'a>(group: &'a str, body: &'a str, attributes: &'a [(&'static str, AttributeValue)]) -> Entry<'a> {
    Entry { body, group, dedup: format!("dedup-{body}"), attributes }
}

fn service(
    refusal: impl Fn(usize, &str) -> Option<(&'static str, bool)> + Send + Sync + 'static,
) -> (Rule, Arc<Mutex<Vec<PublishBatchInput>>>) {
    let calls: Arc<Mutex<Vec<PublishBatchInput>>> = Arc::default();
    let seen = Arc::clone(&calls);
    let rule = mock!(Client::publish_batch).then_compute_output(move |input| {
        let number = seen.lock().unwrap().len();
        seen.lock().unwrap().push(input.clone());
        let mut output = PublishBatchOutput::builder();
        for entry in input.publish_batch_request_entries() {
            output = match refusal(number, entry.message()) {
                None => output
                    .successful(PublishBatchResultEntry::builder().id(entry.id()).message_id("m").build()),
                Some((code, fault)) => {
                    let failed =
                        BatchResultErrorEntry::builder().id(entry.id()).code(code).sender_fault(fault);
                    output.failed(failed.build().unwrap())
                }
            };
        }
        output.build()
    });
    (rule, calls)
}

fn topic(rule: &Rule) -> SnsTopic {
    let client = mock_client!(aws_sdk_sns, RuleMode::MatchAny, [rule], |conf| conf
        .retry_config(crate::error::quick()));
    SnsTopic { patience: Patience::IMPATIENT, ..SnsTopic::new(client, "arn:topic") }
}

fn kinds(results: &[Result<()>]) -> Vec<Option<Kind>> {
    results.iter().map(|result| result.as_ref().err().map(|error| error.kind)).collect()
}

#[tokio::test]
async fn an_event_is_published_with_its_group_and_its_attributes_to_filter_on() {
    let (rule, calls) = service(|_, _| None);
    let changed = AttributeValue::List(vec!["any".to_owned(), "e-mail\"".to_owned()]);
    let attributes = [("model", text("customer")), ("changed", changed)];
    topic(&rule).publish_entries(&[entry("rid", "{}", &attributes)]).await.remove(0).unwrap();
    let calls = calls.lock().unwrap();
    assert_eq!(calls[0].topic_arn(), Some("arn:topic"));
    let sent = &calls[0].publish_batch_request_entries()[0];
    assert_eq!((sent.message(), sent.message_group_id()), ("{}", Some("rid")));
    assert_eq!(sent.message_deduplication_id(), Some("dedup-{}"));
    let attributes = sent.message_attributes().unwrap();
    let of = |name: &str| (attributes[name].data_type(), attributes[name].string_value().unwrap());
    assert_eq!(of("model"), ("String", "customer"));
    assert_eq!(of("changed"), ("String.Array", r#"["any","e-mail\""]"#));
}

#[tokio::test]
async fn an_event_goes_out_under_its_record_and_the_hash_of_its_id_and_message() {
    let body = concat!(
        r#"{"specversion":"1.0","id":"evt_1","source":"/datasync/crm","type":"customer.updated","subject":"rid-1","#,
        r#""time":"2026-11-24T20:19:23Z","datacontenttype":"application/json","dataschema":"urn:datasync:schema/customer/1","#,
        r#""sequence":"00000000-0000000000000000000000000000000000000042","partitionkey":"rid-1","policyversion":"1","#,
        r#""traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","origin":"crm","#,
        r#""data":{"key":{"customer_id":1},"before":null,"after":{"customer_id":1},"changed":["email"],"fingerprints":{}}}"#,
    );
    let event = sync_domain::event::ReceivedEvent::read(body).unwrap().unchanged("m1");
    let sent = Entry::of(&event);
    assert_eq!((sent.group, sent.body), (event.rid().as_str(), event.body()));
    assert_eq!(sent.dedup, dedup_id(event.id().as_str(), Hop::Moved("m1")));
    assert!(sent.item().size <= event.size(), "an event that says it fits must fit");
}

#[tokio::test]
async fn a_failed_event_holds_back_its_record_and_no_other() {
    let (rule, _) = service(|_, body| (body == "1").then_some(("InvalidParameter", true)));
    let entries = [entry("a", "1", &[]), entry("a", "2", &[]), entry("b", "3", &[])];
    let results = topic(&rule).publish_entries(&entries).await;
    assert_eq!(kinds(&results), [Some(Kind::Refused), Some(Kind::Behind), None]);
}

#[tokio::test]
async fn a_throttled_event_is_published_again_before_its_successor() {
    let (rule, calls) = service(|call, body| (body == "1" && call < 2).then_some(("Throttled", true)));
    let entries = [entry("a", "1", &[]), entry("a", "2", &[])];
    assert_eq!(kinds(&topic(&rule).publish_entries(&entries).await), [None, None]);
    let calls = calls.lock().unwrap();
    let sent =
        calls.iter().flat_map(|call| call.publish_batch_request_entries()).map(|entry| entry.message());
    assert_eq!(sent.collect::<Vec<_>>(), ["1", "1", "1", "2"]);
}

#[tokio::test]
async fn a_call_keeps_within_256_kib() {
    let (rule, calls) = service(|_, _| None);
    let big = "x".repeat(100 * 1024);
    let entries = [entry("a", &big, &[]), entry("b", &big, &[]), entry("c", &big, &[])];
    assert_eq!(kinds(&topic(&rule).publish_entries(&entries).await), [None, None, None]);
    let calls = calls.lock().unwrap();
    assert_eq!(
        calls.iter().map(|call| call.publish_batch_request_entries().len()).collect::<Vec<_>>(),
        [2, 1]
    );
}

#[tokio::test]
async fn an_answer_of_sns_in_xml_is_understood() {
    for (status, code, kind) in [
        (403, "AuthorizationError", Kind::Refused),
        (404, "NotFound", Kind::Refused),
        (400, "KMSThrottling", Kind::Unavailable),
        (400, "Throttled", Kind::Unavailable),
        (400, "KMSAccessDenied", Kind::Refused),
    ] {
        let body = format!(
            "<ErrorResponse><Error><Code>{code}</Code><Message>a@example.com</Message></Error></ErrorResponse>"
        );
        let rule =
            mock!(Client::publish_batch).sequence().http_status(status, Some(body)).repeatedly().build();
        let results = topic(&rule).publish_entries(&[entry("a", "1", &[])]).await;
        let error = results[0].as_ref().unwrap_err();
        assert_eq!((error.kind, error.code.as_str()), (kind, code));
        assert!(!format!("{error:?}").contains("example.com"));
    }
}

#[tokio::test]
async fn an_alert_has_a_subject_that_sns_takes() {
    let seen: Arc<Mutex<Vec<Option<String>>>> = Arc::default();
    let subjects = Arc::clone(&seen);
    let rule = mock!(Client::publish).then_compute_output(move |input| {
        subjects.lock().unwrap().push(input.subject().map(str::to_owned));
        PublishOutput::builder().build()
    });
    let alerts = SnsAlerts::new(
        mock_client!(aws_sdk_sns, RuleMode::MatchAny, [&rule], |conf| conf
            .retry_config(crate::error::quick())),
        "arn:alerts",
    );
    alerts.send(&format!("Über\n{}", "x".repeat(200)), "text").await.unwrap();
    alerts.send("", "text").await.unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0], Some(format!("ber{}", "x".repeat(96))));
    assert_eq!(seen[1], None);
}
