use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueOutput;
use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};

use super::*;

fn secrets(rule: &Rule, kept: Duration, refresh_gap: Duration) -> SecretsManager {
    let client = mock_client!(aws_sdk_secretsmanager, RuleMode::MatchAny, [rule], |conf| conf
        .retry_config(crate::error::quick()));
    SecretsManager { kept, refresh_gap, ..SecretsManager::new(client) }
}

fn numbered() -> Rule {
    mock!(Client::get_secret_value)
        .match_requests(|input| input.secret_id() == Some("datasync/source/crm"))
        .sequence()
        .output(|| GetSecretValueOutput::builder().secret_string("one").build())
        .output(|| GetSecretValueOutput::builder().secret_string("two").build())
        .build()
}

const NAME: &str = "datasync/source/crm";
const LONG: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn a_secret_is_read_once_while_it_is_kept() {
    let rule = numbered();
    let secrets = secrets(&rule, LONG, LONG);
    for _ in 0..3 {
        assert_eq!(*secrets.get(NAME).await.unwrap(), "one");
    }
    assert_eq!(rule.num_calls(), 1);
}

#[tokio::test]
async fn a_secret_is_read_again_when_its_time_is_over() {
    let secrets = secrets(&numbered(), Duration::ZERO, LONG);
    assert_eq!(*secrets.get(NAME).await.unwrap(), "one");
    assert_eq!(*secrets.get(NAME).await.unwrap(), "two");
}

#[tokio::test]
async fn a_refresh_reads_past_the_cache() {
    let secrets = secrets(&numbered(), LONG, Duration::ZERO);
    assert_eq!(*secrets.get(NAME).await.unwrap(), "one");
    assert_eq!(*secrets.refresh(NAME).await.unwrap(), "two");
    assert_eq!(*secrets.get(NAME).await.unwrap(), "two");
}

#[tokio::test]
async fn a_burst_of_refreshes_reads_once() {
    let rule = numbered();
    let secrets = secrets(&rule, LONG, LONG);
    for _ in 0..5 {
        assert_eq!(*secrets.refresh(NAME).await.unwrap(), "one");
    }
    assert_eq!(rule.num_calls(), 1);
}

#[tokio::test]
async fn who_needs_a_secret_at_the_same_time_waits_for_one_read() {
    let rule = numbered();
    let secrets = secrets(&rule, LONG, LONG);
    for text in futures_util::future::join_all((0..10).map(|_| secrets.get(NAME))).await {
        assert_eq!(*text.unwrap(), "one");
    }
    assert_eq!(rule.num_calls(), 1);
}

#[tokio::test]
async fn a_binary_secret_is_refused_and_a_missing_one_too() {
    let binary = mock!(Client::get_secret_value).then_output(|| GetSecretValueOutput::builder().build());
    assert_eq!(secrets(&binary, LONG, LONG).get(NAME).await.unwrap_err().code, "NotText");
    let body = r#"{"__type":"ResourceNotFoundException","message":"datasync/source/crm"}"#.to_owned();
    let missing = mock!(Client::get_secret_value).sequence().http_status(400, Some(body)).build();
    let error = secrets(&missing, LONG, LONG).get(NAME).await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (Kind::Refused, "ResourceNotFoundException"));
}

#[tokio::test]
async fn nothing_of_a_secret_is_in_its_debug_form() {
    let secrets = secrets(&numbered(), LONG, LONG);
    secrets.get(NAME).await.unwrap();
    assert_eq!(format!("{secrets:?}"), "SecretsManager { .. }");
}
