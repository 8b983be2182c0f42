//! The clients of the AWS services: one configuration, one connection pool, no work before the first call.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sqs::config::{Credentials, SharedCredentialsProvider};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;

use crate::sigv4::SigV4;

/// The time for a connection to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The time for one attempt of a call.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// The time for a call with all its attempts.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// Attempts of a call, the first included.
const ATTEMPTS: u32 = 3;

/// Makes the clients of the services. They share their connections.
#[derive(Debug, Clone)]
pub struct Clients {
    config: SdkConfig,
}

impl Clients {
    /// The clients of a Lambda function: region, credentials, `AWS_ENDPOINT_URL` and `AWS_USE_DUALSTACK_ENDPOINT` (for
    /// subnets that reach AWS by IPv6 alone) from the environment, nothing else is asked (no profile, no instance metadata) and no root certificate is read before the first call.
    pub fn from_env(setting: impl Fn(&str) -> Option<String>) -> Self {
        let region = setting("AWS_REGION").or_else(|| setting("AWS_DEFAULT_REGION"));
        let mut config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(region.map(Region::new))
            .http_client(http_client())
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .timeout_config(timeouts())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        config.set_credentials_provider(credentials(&setting));
        config.set_use_dual_stack(setting("AWS_USE_DUALSTACK_ENDPOINT").map(|value| value == "true"));
        config.set_endpoint_url(setting("AWS_ENDPOINT_URL").filter(|url| !url.is_empty()));
        Self { config: config.build() }
    }

    /// The clients of the command line: the whole chain of credentials, profiles included.
    pub async fn from_profile() -> Self {
        let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(http_client())
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .timeout_config(timeouts())
            .load()
            .await;
        Self { config }
    }

    /// A client for SQS.
    pub fn sqs(&self) -> aws_sdk_sqs::Client {
        aws_sdk_sqs::Client::new(&self.config)
    }

    /// A client for SNS.
    pub fn sns(&self) -> aws_sdk_sns::Client {
        aws_sdk_sns::Client::new(&self.config)
    }

    /// A client for DynamoDB.
    pub fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        aws_sdk_dynamodb::Client::new(&self.config)
    }

    /// The same, which tries a call once: for whoever counts calls, or tries again by itself.
    pub fn dynamodb_once(&self) -> aws_sdk_dynamodb::Client {
        let config =
            aws_sdk_dynamodb::config::Builder::from(&self.config).retry_config(RetryConfig::disabled());
        aws_sdk_dynamodb::Client::from_conf(config.build())
    }

    /// A client for KMS.
    pub fn kms(&self) -> aws_sdk_kms::Client {
        aws_sdk_kms::Client::new(&self.config)
    }

    /// A client for EventBridge.
    pub fn eventbridge(&self) -> aws_sdk_eventbridge::Client {
        aws_sdk_eventbridge::Client::new(&self.config)
    }

    /// A client for S3.
    pub fn s3(&self) -> aws_sdk_s3::Client {
        aws_sdk_s3::Client::new(&self.config)
    }

    /// A client for Lambda, which waits for as long as a function may take. A call whose answer is late is not repeated:
    /// its function still works.
    #[cfg(feature = "lambda")]
    pub fn lambda(&self) -> aws_sdk_lambda::Client {
        let patient = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build();
        let config = aws_sdk_lambda::config::Builder::from(&self.config)
            .timeout_config(patient)
            .retry_config(RetryConfig::disabled());
        aws_sdk_lambda::Client::from_conf(config.build())
    }

    /// A client for Lambda's event source mappings.
    #[cfg(feature = "lambda")]
    pub fn mappings(&self) -> aws_sdk_lambda::Client {
        aws_sdk_lambda::Client::new(&self.config)
    }

    /// Signs requests to targets as the clients sign their own.
    pub fn signer(&self) -> SigV4 {
        SigV4::new(self.config.credentials_provider(), self.config.region().map(ToString::to_string))
    }

    /// A client for Secrets Manager.
    pub fn secrets_manager(&self) -> aws_sdk_secretsmanager::Client {
        aws_sdk_secretsmanager::Client::new(&self.config)
    }
}

/// The credentials of the function's role: they stay the same for as long as its process lives.
fn credentials(setting: impl Fn(&str) -> Option<String>) -> Option<SharedCredentialsProvider> {
    let (id, secret) = (setting("AWS_ACCESS_KEY_ID")?, setting("AWS_SECRET_ACCESS_KEY")?);
    let token = setting("AWS_SESSION_TOKEN").filter(|token| !token.is_empty());
    Some(SharedCredentialsProvider::new(Credentials::new(id, secret, token, None, "environment")))
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(CALL_TIMEOUT)
        .build()
}

fn http_client() -> SharedHttpClient {
    let tls = Provider::Rustls(CryptoMode::AwsLc);
    SharedHttpClient::new(Lazy(aws_smithy_http_client::Builder::new().tls_provider(tls).build_https()))
}

/// An HTTP client that is not warmed up. The SDK's own reads and parses the root certificates when a service client is
/// made, which is before the first poll of the runtime API; this one does when the first connection is.
#[derive(Debug)]
struct Lazy(SharedHttpClient);

impl HttpClient for Lazy {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        self.0.http_connector(settings, components)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_lean_and_bounded() {
        let settings = |name: &str| match name {
            "AWS_REGION" => Some("eu-central-1".to_owned()),
            "AWS_ENDPOINT_URL" => Some("http://127.0.0.1:4566".to_owned()),
            _ => None,
        };
        let config = Clients::from_env(settings).config;
        let timeouts = config.timeout_config().unwrap();
        assert_eq!(timeouts.connect_timeout(), Some(CONNECT_TIMEOUT));
        assert_eq!(timeouts.operation_attempt_timeout(), Some(ATTEMPT_TIMEOUT));
        assert_eq!(config.retry_config().unwrap().max_attempts(), ATTEMPTS);
        assert_eq!(config.endpoint_url(), Some("http://127.0.0.1:4566"));
        assert_eq!(config.region().unwrap().as_ref(), "eu-central-1");
    }

    #[test]
    fn a_subnet_without_ipv4_reaches_the_services_by_ipv6() {
        let dual = |name: &str| (name == "AWS_USE_DUALSTACK_ENDPOINT").then(|| "true".to_owned());
        assert_eq!(Clients::from_env(dual).config.use_dual_stack(), Some(true));
        assert_eq!(Clients::from_env(|_| None).config.use_dual_stack(), None);
    }

    #[test]
    fn an_empty_endpoint_is_no_endpoint() {
        let config = Clients::from_env(|_| Some(String::new())).config;
        assert_eq!(config.endpoint_url(), None);
    }
}
