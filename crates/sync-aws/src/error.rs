//! From a service's error to the kind that decides whether trying again can help.

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::http::StatusCode;
use sync_domain::ports::{Error, Kind};

/// The codes by which the services say "not now". Every other code of a service is a no, unless the HTTP status is 429 or 5xx.
const NOT_NOW: [&str; 27] = [
    "DependencyTimeoutException",
    "ExpiredToken",
    "ExpiredTokenException",
    "InternalError",
    "InternalErrorException",
    "InternalException",
    "InternalFailure",
    "InternalServerError",
    "InternalServiceError",
    "InternalServiceErrorException",
    "KMSInternalException",
    "KMSThrottling",
    "KMSThrottlingException",
    "KeyUnavailableException",
    "KmsThrottled",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "SlowDown",
    "Throttled",
    "TransactionConflictException",
];

/// The kind of a service's error code.
pub(crate) fn kind_of(code: &str) -> Kind {
    // Some services prefix their codes ("AWS.SimpleQueueService.X", "KMS.ThrottlingException").
    let last = code.rsplit(['.', '#']).next().unwrap_or_default();
    if NOT_NOW.contains(&last) || last.starts_with("Throttl") || last.starts_with("TooManyRequests") {
        Kind::Unavailable
    } else {
        Kind::Refused
    }
}

/// An error of an operation. The code is cut down to what a code is made of, whatever the service sent.
pub(crate) fn error(operation: &'static str, kind: Kind, code: &str) -> Error {
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    Error { kind, operation, code: code.chars().filter(plain).take(64).collect(), source: None }
}

/// The port's error for a call that failed as a whole. What the service wrote beyond its code is left behind.
pub(crate) fn from_sdk<E>(operation: &'static str, failed: &SdkError<E, HttpResponse>) -> Error
where
    E: aws_sdk_sqs::error::ProvideErrorMetadata,
{
    let (kind, code) = match failed {
        SdkError::ConstructionFailure(_) => (Kind::Refused, "RequestNotMade"),
        SdkError::TimeoutError(_) => (Kind::Unavailable, "Timeout"),
        SdkError::DispatchFailure(_) => (Kind::Unavailable, "Connection"),
        SdkError::ResponseError(_) => (Kind::Unavailable, "BadResponse"),
        SdkError::ServiceError(answer) => {
            let code = answer.err().code().unwrap_or("NoCode");
            let kind = if may_change(answer.raw().status()) { Kind::Unavailable } else { kind_of(code) };
            (kind, code)
        }
        _ => (Kind::Unavailable, "Unknown"),
    };
    error(operation, kind, code)
}

/// True for a status that says "not now", and for a success whose body could not be read: that answer is lost.
fn may_change(status: StatusCode) -> bool {
    status.as_u16() == 429 || status.is_server_error() || status.is_success()
}

/// The SDK's retries without their pauses, for tests.
#[cfg(test)]
pub(crate) fn quick() -> aws_config::retry::RetryConfig {
    aws_config::retry::RetryConfig::standard().with_initial_backoff(std::time::Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttling_and_outages_are_worth_another_try() {
        for code in [
            "ThrottlingException",
            "Throttling",
            "Throttled",
            "RequestThrottled",
            "KMS.ThrottlingException",
            "KmsThrottled",
            "ProvisionedThroughputExceededException",
            "InternalError",
            "TooManyRequestsException",
        ] {
            assert_eq!(kind_of(code), Kind::Unavailable, "{code}");
        }
    }

    #[test]
    fn a_no_stays_a_no() {
        for code in [
            "AccessDenied",
            "AccessDeniedException",
            "AWS.SimpleQueueService.NonExistentQueue",
            "InvalidMessageContents",
            "KmsAccessDenied",
            "DisabledException",
            "ValidationException",
            "SomethingNew",
        ] {
            assert_eq!(kind_of(code), Kind::Refused, "{code}");
        }
    }

    #[test]
    fn a_code_holds_no_text_of_the_service() {
        let error = error("sqs:SendMessageBatch", Kind::Refused, "Bad value \"a@example.com\"\n");
        assert_eq!(error.code, "Badvalueaexample.com");
        assert_eq!(super::error("x", Kind::Refused, &"A".repeat(200)).code.len(), 64);
    }
}
