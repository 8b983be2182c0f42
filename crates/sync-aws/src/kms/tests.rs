use aws_sdk_kms::operation::decrypt::{DecryptError, DecryptOutput};
use aws_sdk_kms::operation::generate_data_key::GenerateDataKeyOutput;
use aws_sdk_kms::operation::generate_mac::GenerateMacOutput;
use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};

use super::*;

fn keys(rule: &Rule) -> KmsKeys {
    let client = mock_client!(aws_sdk_kms, RuleMode::MatchAny, [rule], |conf| conf
        .retry_config(crate::error::quick()));
    KmsKeys::new(client).with_hash_key(HashKey::Token, "arn:token").with_value_key("arn:value")
}

#[tokio::test]
async fn a_root_is_the_mac_over_family_and_version() {
    let rule = mock!(Client::generate_mac)
        .match_requests(|input| {
            input.key_id() == Some("arn:token")
                && input.mac_algorithm() == Some(&MacAlgorithmSpec::HmacSha256)
                && input.message().map(AsRef::as_ref) == Some(b"datasync/token/7".as_slice())
        })
        .then_output(|| GenerateMacOutput::builder().mac(Blob::new([9; 32])).build());
    assert_eq!(*keys(&rule).hash_root(HashKey::Token, 7).await.unwrap(), [9; 32]);
}

#[test]
fn the_messages_of_the_roots_stay_as_they_are() {
    assert_eq!(root_message(HashKey::Id, 1), "datasync/id/1");
    assert_eq!(root_message(HashKey::Token, 1), "datasync/token/1");
    assert_eq!(root_message(HashKey::Ledger, 12), "datasync/ledger/12");
}

#[tokio::test]
async fn a_key_that_the_function_was_not_given_is_refused_without_a_call() {
    let rule = mock!(Client::generate_mac).then_output(|| GenerateMacOutput::builder().build());
    assert_eq!(keys(&rule).hash_root(HashKey::Ledger, 1).await.unwrap_err().kind, Kind::Refused);
    let bare = KmsKeys::new(mock_client!(aws_sdk_kms, [&rule]));
    assert_eq!(bare.new_data_key("m", "a").await.unwrap_err().kind, Kind::Refused);
    assert_eq!(bare.unwrap_data_key("m", "a", b"w").await.unwrap_err().kind, Kind::Refused);
    assert_eq!(rule.num_calls(), 0);
}

#[tokio::test]
async fn a_mac_of_another_length_is_no_key() {
    for length in [0, 31, 33] {
        let rule = mock!(Client::generate_mac)
            .then_output(move || GenerateMacOutput::builder().mac(Blob::new(vec![9; length])).build());
        assert_eq!(keys(&rule).hash_root(HashKey::Token, 1).await.unwrap_err().code, "KeyLength", "{length}");
    }
}

#[tokio::test]
async fn a_data_key_is_bound_to_model_and_attribute() {
    let rule = mock!(Client::generate_data_key)
        .match_requests(|input| {
            input.key_id() == Some("arn:value")
                && input.key_spec() == Some(&DataKeySpec::Aes256)
                && input.encryption_context() == Some(&context("customer", "national_id"))
        })
        .then_output(|| {
            GenerateDataKeyOutput::builder()
                .plaintext(Blob::new([1; 32]))
                .ciphertext_blob(Blob::new([2; 60]))
                .build()
        });
    let key = keys(&rule).new_data_key("customer", "national_id").await.unwrap();
    assert_eq!((*key.plain, key.wrapped), ([1; 32], vec![2; 60]));
    let names: Vec<String> = {
        let mut names: Vec<String> = context("a", "b").into_keys().collect();
        names.sort();
        names
    };
    assert_eq!(names, ["attribute", "model"], "the key policy's conditions name these");
}

#[tokio::test]
async fn a_wrapped_key_is_opened_under_its_context_and_our_key_only() {
    let rule = mock!(Client::decrypt)
        .match_requests(|input| {
            input.key_id() == Some("arn:value")
                && input.encryption_context() == Some(&context("customer", "national_id"))
                && input.ciphertext_blob().map(AsRef::as_ref) == Some(b"wrapped".as_slice())
        })
        .then_output(|| DecryptOutput::builder().plaintext(Blob::new([3; 32])).build());
    let key = keys(&rule).unwrap_data_key("customer", "national_id", b"wrapped").await.unwrap();
    assert_eq!(*key, [3; 32]);
}

#[tokio::test]
async fn a_wrong_context_is_refused_and_a_throttled_call_is_not() {
    let wrong = mock!(Client::decrypt).then_error(|| {
        DecryptError::InvalidCiphertextException(
            aws_sdk_kms::types::error::InvalidCiphertextException::builder()
                .meta(aws_sdk_kms::error::ErrorMetadata::builder().code("InvalidCiphertextException").build())
                .build(),
        )
    });
    let error = keys(&wrong).unwrap_data_key("m", "a", b"w").await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (Kind::Refused, "InvalidCiphertextException"));
    for (status, code, kind) in [
        (400, "ThrottlingException", Kind::Unavailable),
        (500, "KMSInternalException", Kind::Unavailable),
        (400, "DisabledException", Kind::Refused),
        (400, "AccessDeniedException", Kind::Refused),
    ] {
        let body = format!(r#"{{"__type":"{code}"}}"#);
        let rule = mock!(Client::decrypt).sequence().http_status(status, Some(body)).repeatedly().build();
        assert_eq!(keys(&rule).unwrap_data_key("m", "a", b"w").await.unwrap_err().kind, kind, "{code}");
    }
}
