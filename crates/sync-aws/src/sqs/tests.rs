use std::sync::{Arc, Mutex};

use aws_sdk_sqs::operation::change_message_visibility_batch::ChangeMessageVisibilityBatchOutput;
use aws_sdk_sqs::operation::delete_message::DeleteMessageOutput;
use aws_sdk_sqs::operation::receive_message::ReceiveMessageOutput;
use aws_sdk_sqs::operation::send_message_batch::{SendMessageBatchInput, SendMessageBatchOutput};
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchResultEntry, SendMessageBatchResultEntry,
};
use aws_smithy_mocks::{MockResponse, Rule, RuleMode, mock, mock_client};

use super::*;

fn entry(group: &str, body: &str) -> QueueEntry {
    QueueEntry {
        body: body.to_owned(),
        group: group.to_owned(),
        dedup: format!("dedup-{body}"),
        attributes: vec![("enrich".to_owned(), "yes".to_owned())],
    }
}

fn taken(id: &str) -> SendMessageBatchResultEntry {
    let entry = SendMessageBatchResultEntry::builder().id(id).message_id("m").md5_of_message_body("x");
    entry.build().unwrap()
}

fn failed(id: &str, code: &str, sender_fault: bool) -> BatchResultErrorEntry {
    let message = "the body a@example.com is not allowed";
    let entry =
        BatchResultErrorEntry::builder().id(id).code(code).sender_fault(sender_fault).message(message);
    entry.build().unwrap()
}

/// Takes every entry but those whose body the function gives a code for; keeps the calls.
fn service(
    refusal: impl Fn(usize, &str) -> Option<(&'static str, bool)> + Send + Sync + 'static,
) -> (Rule, Arc<Mutex<Vec<SendMessageBatchInput>>>) {
    let calls: Arc<Mutex<Vec<SendMessageBatchInput>>> = Arc::default();
    let seen = Arc::clone(&calls);
    let rule = mock!(Client::send_message_batch).then_compute_output(move |input| {
        let number = seen.lock().unwrap().len();
        seen.lock().unwrap().push(input.clone());
        let mut output =
            SendMessageBatchOutput::builder().set_successful(Some(vec![])).set_failed(Some(vec![]));
        for entry in input.entries() {
            output = match refusal(number, entry.message_body()) {
                None => output.successful(taken(entry.id())),
                Some((code, fault)) => output.failed(failed(entry.id(), code, fault)),
            };
        }
        output.build().unwrap()
    });
    (rule, calls)
}

fn queue(rule: &Rule) -> SqsQueue {
    let client = mock_client!(aws_sdk_sqs, RuleMode::MatchAny, [rule], |conf| conf
        .retry_config(crate::error::quick()));
    SqsQueue { patience: Patience::IMPATIENT, ..SqsQueue::new(client, "https://sqs/q.fifo") }
}

fn kinds(results: &[Result<()>]) -> Vec<Option<Kind>> {
    results.iter().map(|result| result.as_ref().err().map(|error| error.kind)).collect()
}

#[tokio::test]
async fn an_entry_is_sent_with_its_group_its_deduplication_id_and_its_attributes() {
    let (rule, calls) = service(|_, _| None);
    let results = queue(&rule).send(vec![entry("a", "1")]).await;
    assert_eq!(kinds(&results), [None]);
    let calls = calls.lock().unwrap();
    assert_eq!(calls[0].queue_url(), Some("https://sqs/q.fifo"));
    let sent = &calls[0].entries()[0];
    assert_eq!((sent.message_body(), sent.message_group_id()), ("1", Some("a")));
    assert_eq!(sent.message_deduplication_id(), Some("dedup-1"));
    let attribute = &sent.message_attributes().unwrap()["enrich"];
    assert_eq!((attribute.data_type(), attribute.string_value()), ("String", Some("yes")));
}

#[tokio::test]
async fn a_failed_entry_in_a_call_that_succeeded_is_a_failure() {
    let (rule, _) = service(|_, body| (body == "1").then_some(("InvalidMessageContents", true)));
    let results = queue(&rule).send(vec![entry("a", "1"), entry("a", "2"), entry("b", "3")]).await;
    assert_eq!(kinds(&results), [Some(Kind::Refused), Some(Kind::Behind), None]);
    let text = format!("{:?}", results[0]);
    assert!(text.contains("InvalidMessageContents") && !text.contains("example.com"), "{text}");
}

#[tokio::test]
async fn a_failure_of_the_service_is_tried_again_and_the_group_keeps_its_order() {
    let (rule, calls) = service(|call, body| (body == "1" && call == 0).then_some(("InternalError", false)));
    let results = queue(&rule).send(vec![entry("a", "1"), entry("a", "2"), entry("b", "3")]).await;
    assert_eq!(kinds(&results), [None, None, None]);
    let calls = calls.lock().unwrap();
    let bodies =
        |call: &SendMessageBatchInput| call.entries().iter().map(|e| e.message_body().to_owned()).collect();
    let sent: Vec<Vec<String>> = calls.iter().map(bodies).collect();
    assert_eq!(sent, [vec!["1", "3"], vec!["1"], vec!["2"]]);
}

#[tokio::test]
async fn an_entry_that_the_answer_does_not_name_was_not_taken() {
    let rule = mock!(Client::send_message_batch).then_output(|| {
        let output = SendMessageBatchOutput::builder().set_successful(Some(vec![])).set_failed(Some(vec![]));
        output.build().unwrap()
    });
    let results = queue(&rule).send(vec![entry("a", "1")]).await;
    assert_eq!(results[0].as_ref().unwrap_err().code, "NoAnswer");
}

#[tokio::test]
async fn an_error_of_the_whole_call_has_its_kind_and_no_text_of_the_service() {
    for (status, code, kind) in [
        (400, "AWS.SimpleQueueService.NonExistentQueue", Kind::Refused),
        (403, "AccessDeniedException", Kind::Refused),
        (400, "RequestThrottled", Kind::Unavailable),
        (400, "KMS.ThrottlingException", Kind::Unavailable),
        (500, "Whatever", Kind::Unavailable),
        (503, "ServiceUnavailable", Kind::Unavailable),
        (429, "Whatever", Kind::Unavailable),
    ] {
        let body = format!(r#"{{"__type":"{code}","message":"about a@example.com"}}"#);
        let rule =
            mock!(Client::send_message_batch).sequence().http_status(status, Some(body)).repeatedly().build();
        let results = queue(&rule).send(vec![entry("a", "1"), entry("b", "2")]).await;
        assert_eq!(kinds(&results), [Some(kind), Some(kind)], "{status} {code}");
        let error = results[0].as_ref().unwrap_err();
        assert_eq!((error.operation, error.code.as_str()), (SEND, code));
        assert!(error.source.is_none() && !format!("{error:?} {error}").contains("example.com"));
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_worth_another_try() {
    let rule = mock!(Client::send_message_batch).then_compute_response(|_| {
        MockResponse::Http(aws_smithy_runtime_api::client::orchestrator::HttpResponse::new(
            200.try_into().unwrap(),
            "half an ans".into(),
        ))
    });
    let results = queue(&rule).send(vec![entry("a", "1")]).await;
    assert_eq!(kinds(&results), [Some(Kind::Unavailable)]);
}

#[tokio::test]
async fn attributes_count_for_the_size() {
    let (rule, calls) = service(|_, _| None);
    let overhead = "enrich".len() + "String".len() + "yes".len();
    let fits = "x".repeat(LIMITS.bytes - overhead);
    let results = queue(&rule).send(vec![entry("a", &fits), entry("b", &format!("{fits}x"))]).await;
    assert_eq!(kinds(&results), [None, Some(Kind::Refused)]);
    assert_eq!(calls.lock().unwrap().len(), 1);
}

fn inbox(rule: &Rule) -> SqsInbox {
    let client = mock_client!(aws_sdk_sqs, RuleMode::MatchAny, [rule], |conf| conf
        .retry_config(crate::error::quick()));
    SqsInbox { patience: Patience::IMPATIENT, ..SqsInbox::new(client, "https://sqs/q.fifo") }
}

#[tokio::test]
async fn a_delay_goes_to_every_receipt_in_calls_of_ten_and_in_whole_seconds() {
    type Calls = Arc<Mutex<Vec<Vec<(String, i32)>>>>;
    let calls = Calls::default();
    let seen = Arc::clone(&calls);
    let rule = mock!(Client::change_message_visibility_batch).then_compute_output(move |input| {
        let mut output = ChangeMessageVisibilityBatchOutput::builder().set_failed(Some(vec![]));
        let mut call = vec![];
        for entry in input.entries() {
            call.push((entry.receipt_handle().to_owned(), entry.visibility_timeout().unwrap()));
            let done = ChangeMessageVisibilityBatchResultEntry::builder().id(entry.id());
            output = output.successful(done.build().unwrap());
        }
        seen.lock().unwrap().push(call);
        output.build().unwrap()
    });
    let receipts: Vec<String> = (0..12).map(|n| format!("r{n}")).collect();
    inbox(&rule).delay(&receipts, Duration::from_millis(2_100)).await.unwrap();
    inbox(&rule).delay(&receipts[..1], Duration::from_secs(90_000)).await.unwrap();
    let calls = calls.lock().unwrap();
    assert_eq!(calls.iter().map(Vec::len).collect::<Vec<_>>(), [10, 2, 1]);
    assert!(calls[0].iter().all(|(_, seconds)| *seconds == 3));
    assert_eq!(calls[2][0].1, 43_200, "SQS hides a message for twelve hours at most");
}

#[tokio::test]
async fn a_delay_that_one_receipt_did_not_get_is_a_failure() {
    let rule = mock!(Client::change_message_visibility_batch).then_compute_output(|input| {
        let output = ChangeMessageVisibilityBatchOutput::builder().set_successful(Some(vec![]));
        let code = "ReceiptHandleIsInvalid";
        output.failed(failed(input.entries()[0].id(), code, true)).build().unwrap()
    });
    let error = inbox(&rule).delay(&["r".to_owned()], Duration::ZERO).await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (Kind::Refused, "ReceiptHandleIsInvalid"));
}

#[tokio::test]
async fn one_message_is_taken_as_lambda_would_hand_it_over() {
    let rule = mock!(Client::receive_message)
        .match_requests(|input| {
            input.max_number_of_messages() == Some(1)
                && input.message_system_attribute_names() == [MessageSystemAttributeName::All]
                && input.message_attribute_names() == ["All"]
        })
        .then_output(|| {
            let attribute = MessageAttributeValue::builder().data_type("String").string_value("run-1");
            let message = aws_sdk_sqs::types::Message::builder()
                .message_id("m")
                .receipt_handle("r")
                .body("{}")
                .attributes(MessageSystemAttributeName::MessageGroupId, "rid")
                .attributes(MessageSystemAttributeName::ApproximateReceiveCount, "3")
                .message_attributes("only", attribute.build().unwrap());
            ReceiveMessageOutput::builder().messages(message.build()).build()
        });
    let inbox = SqsInbox::new(mock_client!(aws_sdk_sqs, RuleMode::MatchAny, [&rule]), "q");
    let mut taken = inbox.take().await.unwrap().unwrap();
    taken.system.sort();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let expected = Received {
        id: "m".to_owned(),
        receipt: "r".to_owned(),
        body: "{}".to_owned(),
        system: vec![pair("ApproximateReceiveCount", "3"), pair("MessageGroupId", "rid")],
        attributes: vec![pair("only", "run-1")],
    };
    assert_eq!(taken, expected);

    let none = mock!(Client::receive_message).then_output(|| ReceiveMessageOutput::builder().build());
    let inbox = SqsInbox::new(mock_client!(aws_sdk_sqs, RuleMode::MatchAny, [&none]), "q");
    assert_eq!(inbox.take().await.unwrap(), None);
}

#[tokio::test]
async fn what_was_taken_is_removed_by_its_receipt() {
    let rule = mock!(Client::delete_message)
        .match_requests(|input| input.receipt_handle() == Some("r") && input.queue_url() == Some("q"))
        .then_output(|| DeleteMessageOutput::builder().build());
    let inbox = SqsInbox::new(mock_client!(aws_sdk_sqs, RuleMode::MatchAny, [&rule]), "q");
    inbox.remove("r").await.unwrap();
    assert_eq!(rule.num_calls(), 1);
}
