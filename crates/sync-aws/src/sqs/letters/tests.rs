use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use aws_sdk_sqs::operation::change_message_visibility_batch::ChangeMessageVisibilityBatchOutput;
use aws_sdk_sqs::operation::delete_message_batch::DeleteMessageBatchOutput;
use aws_sdk_sqs::operation::get_queue_attributes::GetQueueAttributesOutput;
use aws_sdk_sqs::operation::receive_message::ReceiveMessageOutput;
use aws_sdk_sqs::types::{BatchResultErrorEntry, DeleteMessageBatchResultEntry, MessageAttributeValue};
use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};

use super::*;

fn client(rule: &Rule) -> Client {
    mock_client!(aws_sdk_sqs, RuleMode::MatchAny, [rule], |conf| conf.retry_config(crate::error::quick()))
}

fn letters(rule: &Rule) -> SqsLetters {
    SqsLetters { patience: Patience::IMPATIENT, ..SqsLetters::new(client(rule), "https://sqs/dead.fifo") }
}

fn receipts(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("r{n}")).collect()
}

fn failed(id: &str, code: &str) -> BatchResultErrorEntry {
    BatchResultErrorEntry::builder().id(id).code(code).sender_fault(true).build().unwrap()
}

fn message() -> aws_sdk_sqs::types::builders::MessageBuilder {
    let text = MessageAttributeValue::builder().data_type("String").string_value("bad_version");
    Message::builder()
        .message_id("m1")
        .receipt_handle("r1")
        .body("{}")
        .attributes(MessageSystemAttributeName::MessageGroupId, "rid")
        .attributes(MessageSystemAttributeName::SentTimestamp, "1795551563456")
        .message_attributes("reason", text.build().unwrap())
}

#[tokio::test]
async fn a_letter_is_received_with_all_that_goes_back_with_it() {
    let rule = mock!(Client::receive_message)
        .match_requests(|input| {
            input.max_number_of_messages() == Some(10)
                && input.visibility_timeout() == Some(30)
                && input.message_attribute_names() == ["All"]
        })
        .then_output(|| ReceiveMessageOutput::builder().messages(message().build()).build());
    let got = letters(&rule).receive(Duration::from_secs(30)).await.unwrap();
    let expected = Letter {
        id: "m1".to_owned(),
        receipt: "r1".to_owned(),
        group: "rid".to_owned(),
        sent_ms: 1_795_551_563_456,
        attributes: BTreeMap::from([("reason".to_owned(), "bad_version".to_owned())]),
        body: "{}".to_owned(),
    };
    assert!(got == [expected]);
}

#[tokio::test]
async fn a_letter_without_a_group_is_refused_by_name() {
    let rule = mock!(Client::receive_message).then_output(|| {
        let bare = message().set_attributes(Some(HashMap::new())).build();
        ReceiveMessageOutput::builder().messages(bare).build()
    });
    let error = letters(&rule).receive(Duration::from_secs(30)).await.err().unwrap();
    assert_eq!((error.kind, error.code.as_str()), (Kind::Refused, "NoMessageGroupId"));
}

#[tokio::test]
async fn a_letter_that_was_not_deleted_is_told_from_those_that_were() {
    let calls: Arc<Mutex<Vec<usize>>> = Arc::default();
    let seen = Arc::clone(&calls);
    let rule = mock!(Client::delete_message_batch).then_compute_output(move |input| {
        seen.lock().unwrap().push(input.entries().len());
        let mut output =
            DeleteMessageBatchOutput::builder().set_successful(Some(vec![])).set_failed(Some(vec![]));
        for entry in input.entries() {
            output = match entry.receipt_handle() {
                "r1" => output.failed(failed(entry.id(), "ReceiptHandleIsInvalid")),
                _ => output
                    .successful(DeleteMessageBatchResultEntry::builder().id(entry.id()).build().unwrap()),
            };
        }
        output.build().unwrap()
    });
    let results = letters(&rule).delete(&receipts(12)).await;
    assert_eq!(results.iter().map(Result::is_ok).filter(|done| *done).count(), 11);
    assert_eq!(results[1].as_ref().unwrap_err().code, "ReceiptHandleIsInvalid");
    assert_eq!(*calls.lock().unwrap(), [10, 2]);
}

#[tokio::test]
async fn what_is_visible_again_is_let_go_and_what_stays_hidden_is_a_failure() {
    for (code, fine) in [
        ("AWS.SimpleQueueService.MessageNotInflight", true),
        ("ReceiptHandleIsInvalid", true),
        ("InvalidParameterValue", true),
        ("AccessDenied", false),
    ] {
        let rule = mock!(Client::change_message_visibility_batch)
            .match_requests(|input| input.entries().iter().all(|entry| entry.visibility_timeout() == Some(0)))
            .then_compute_output(move |input| {
                let output = ChangeMessageVisibilityBatchOutput::builder().set_successful(Some(vec![]));
                output.failed(failed(input.entries()[0].id(), code)).build().unwrap()
            });
        assert_eq!(letters(&rule).release(&receipts(1)).await.is_ok(), fine, "{code}");
    }
}

fn attributes(of: &'static [(QueueAttributeName, &'static str)]) -> Rule {
    mock!(Client::get_queue_attributes).then_output(move || {
        let map: HashMap<_, _> = of.iter().map(|(name, value)| (name.clone(), (*value).to_owned())).collect();
        GetQueueAttributesOutput::builder().set_attributes(Some(map)).build()
    })
}

#[tokio::test]
async fn a_queue_says_which_it_is_and_how_full() {
    let rule = attributes(&[
        (QueueAttributeName::QueueArn, "arn:dead"),
        (QueueAttributeName::ApproximateNumberOfMessages, "7"),
        (QueueAttributeName::ApproximateNumberOfMessagesNotVisible, "2"),
    ]);
    let expected = Standing { arn: "arn:dead".to_owned(), visible: 7, hidden: 2 };
    assert_eq!(letters(&rule).standing().await.unwrap(), expected);
    let rule = attributes(&[(QueueAttributeName::QueueArn, "arn:dead")]);
    assert_eq!(letters(&rule).standing().await.unwrap_err().code, "AttributesMissing");
}

#[tokio::test]
async fn a_queue_names_its_dead_letter_queue() {
    const POLICY: &str = r#"{"deadLetterTargetArn":"arn:dead","maxReceiveCount":1000}"#;
    let named = attributes(&[(QueueAttributeName::RedrivePolicy, POLICY)]);
    assert_eq!(dead_letters_of(&client(&named), "q").await.unwrap().as_deref(), Some("arn:dead"));
    assert_eq!(dead_letters_of(&client(&attributes(&[])), "q").await.unwrap(), None);
    let wrong = attributes(&[(QueueAttributeName::RedrivePolicy, "[]")]);
    assert_eq!(dead_letters_of(&client(&wrong), "q").await.unwrap_err().code, "PolicyUnreadable");
}
