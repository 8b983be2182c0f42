//! S3: the bucket of dead letters that no queue holds.

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use sync_domain::ports::{DeadLetterStore, Result};

use crate::error::from_sdk;

const PUT: &str = "s3:PutObject";

/// The bucket. Its own settings encrypt what is put and end it after its time.
#[derive(Debug, Clone)]
pub struct S3DeadLetters {
    client: Client,
    bucket: String,
}

impl S3DeadLetters {
    /// The bucket of a name.
    pub fn new(client: Client, bucket: impl Into<String>) -> Self {
        Self { client, bucket: bucket.into() }
    }
}

#[async_trait]
impl DeadLetterStore for S3DeadLetters {
    async fn put(&self, name: &str, document: String) -> Result<()> {
        let call = self.client.put_object().bucket(&self.bucket).key(name).content_type("application/json");
        let put = call.body(ByteStream::from(document.into_bytes())).send().await;
        put.map(drop).map_err(|failed| from_sdk(PUT, &failed))
    }

    fn place(&self, name: &str) -> String {
        format!("s3://{}/{name}", self.bucket)
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::error::ErrorMetadata;
    use aws_sdk_s3::operation::put_object::{PutObjectError, PutObjectOutput};
    use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};
    use sync_domain::ports::Kind;

    use super::*;

    fn store(rule: &Rule) -> S3DeadLetters {
        let client = mock_client!(aws_sdk_s3, RuleMode::MatchAny, [rule], |conf| conf
            .retry_config(crate::error::quick()));
        S3DeadLetters::new(client, "dead-letters")
    }

    #[tokio::test]
    async fn a_document_is_put_whole_under_its_name() {
        let rule = mock!(aws_sdk_s3::Client::put_object)
            .match_requests(|input| {
                input.bucket() == Some("dead-letters")
                    && input.key() == Some("a/1.json")
                    && input.body().bytes() == Some(b"{\"a\":1}")
            })
            .then_output(|| PutObjectOutput::builder().build());
        store(&rule).put("a/1.json", "{\"a\":1}".to_owned()).await.unwrap();
        assert_eq!(rule.num_calls(), 1);
        assert_eq!(store(&rule).place("a/1.json"), "s3://dead-letters/a/1.json");
    }

    #[tokio::test]
    async fn a_busy_bucket_is_asked_again_and_a_no_is_a_no() {
        for (code, kind) in [("SlowDown", Kind::Unavailable), ("AccessDenied", Kind::Refused)] {
            let rule = mock!(aws_sdk_s3::Client::put_object)
                .then_error(move || PutObjectError::generic(ErrorMetadata::builder().code(code).build()));
            let error = store(&rule).put("a", String::new()).await.unwrap_err();
            assert_eq!((error.kind, error.code.as_str(), error.operation), (kind, code, PUT));
        }
    }
}
