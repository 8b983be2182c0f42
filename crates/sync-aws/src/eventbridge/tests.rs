use aws_sdk_eventbridge::operation::put_events::PutEventsOutput;
use aws_sdk_eventbridge::types::PutEventsResultEntry;
use aws_smithy_mocks::{RuleMode, mock, mock_client};
use sync_domain::outcome::{Reason, Stage};

use super::*;

fn failure(message_id: &str) -> FailureEvent {
    FailureEvent {
        stage: Stage::Transform,
        reason: Reason::new("unknown_model", "$.model"),
        source: None,
        model: None,
        rid: None,
        key: None,
        event_id: None,
        target: None,
        message_id: message_id.to_owned(),
        tries: 1,
        dead_letter_queue: None,
    }
}

fn bus(rule: &aws_smithy_mocks::Rule) -> EventBridgeBus {
    let client = mock_client!(aws_sdk_eventbridge, RuleMode::MatchAny, [rule], |conf| conf
        .retry_config(crate::error::quick()));
    EventBridgeBus { patience: Patience::IMPATIENT, ..EventBridgeBus::new(client, "failures") }
}

fn kinds(results: &[Result<()>]) -> Vec<Option<Kind>> {
    results.iter().map(|result| result.as_ref().err().map(|error| error.kind)).collect()
}

#[tokio::test]
async fn a_failure_is_put_as_the_rule_of_the_ticket_function_expects_it() {
    let rule = mock!(aws_sdk_eventbridge::Client::put_events)
        .match_requests(|input| {
            let [entry] = input.entries() else { return false };
            let detail: FailureEvent = serde_json::from_str(entry.detail().unwrap()).unwrap();
            entry.source() == Some("datasync")
                && entry.detail_type() == Some("record failed")
                && entry.event_bus_name() == Some("failures")
                && detail == failure("m-1")
        })
        .then_output(|| {
            PutEventsOutput::builder().entries(PutEventsResultEntry::builder().event_id("e").build()).build()
        });
    assert_eq!(kinds(&bus(&rule).report(&[failure("m-1")]).await), [None]);
    assert_eq!(rule.num_calls(), 1);
}

#[tokio::test]
async fn a_failed_entry_in_a_call_that_succeeded_is_put_again() {
    let rule = mock!(aws_sdk_eventbridge::Client::put_events)
        .sequence()
        .output(|| {
            let failed =
                PutEventsResultEntry::builder().error_code("ThrottlingException").error_message("x").build();
            let taken = PutEventsResultEntry::builder().event_id("e").build();
            PutEventsOutput::builder().failed_entry_count(1).entries(failed).entries(taken).build()
        })
        .output(|| {
            PutEventsOutput::builder().entries(PutEventsResultEntry::builder().event_id("e").build()).build()
        })
        .build();
    assert_eq!(kinds(&bus(&rule).report(&[failure("m-1"), failure("m-2")]).await), [None, None]);
    assert_eq!(rule.num_calls(), 2);
}

#[tokio::test]
async fn an_entry_that_stays_failed_is_not_reported() {
    let rule = mock!(aws_sdk_eventbridge::Client::put_events).then_compute_output(|input| {
        let failed =
            |_: &PutEventsRequestEntry| PutEventsResultEntry::builder().error_code("InternalFailure").build();
        let entries = input.entries().iter().map(failed).collect();
        PutEventsOutput::builder().failed_entry_count(1).set_entries(Some(entries)).build()
    });
    assert_eq!(kinds(&bus(&rule).report(&[failure("m-1")]).await), [Some(Kind::Unavailable)]);
}
