//! What the services answer when they take nothing: each in its own shape, by which the SDKs tell a throttle from an outage.

use http::{HeaderName, HeaderValue, Response, header};
use http_body_util::Full;
use hyper::body::Bytes;
use serde_json::json;

use crate::http::answer;

/// Why a service takes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Too many calls.
    Throttled,
    /// It does not work.
    Down,
}

/// The answer of a service.
pub(super) fn none_taken(service: &str, why: Why) -> Response<Full<Bytes>> {
    let throttled = why == Why::Throttled;
    let either = |busy: &'static str, down: &'static str| if throttled { busy } else { down };
    match service {
        "sqs" => {
            let code = either("RequestThrottled", "ServiceUnavailable");
            let fault = either("Sender", "Receiver");
            let mut answer = typed(if throttled { 400 } else { 503 }, &format!("com.amazonaws.sqs#{code}"));
            put(&mut answer, "x-amzn-query-error", &format!("{code};{fault}"));
            answer
        }
        "sns" => xml(
            if throttled { 400 } else { 500 },
            &format!(
                "<ErrorResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><Error><Type>{}</Type><Code>{}</Code>\
                 <Message>injected</Message></Error><RequestId>injected</RequestId></ErrorResponse>",
                either("Sender", "Receiver"),
                either("Throttling", "InternalFailure"),
            ),
        ),
        "dynamodb" | "dynamodbstreams" => {
            let code = either("ProvisionedThroughputExceededException", "InternalServerError");
            typed(status(throttled), &format!("com.amazonaws.dynamodb.v20120810#{code}"))
        }
        "kms" => typed(status(throttled), either("ThrottlingException", "KMSInternalException")),
        "events" => typed(status(throttled), either("ThrottlingException", "InternalException")),
        "secretsmanager" => typed(status(throttled), either("ThrottlingException", "InternalServiceError")),
        "lambda" => {
            let body = match throttled {
                true => {
                    json!({ "Reason": "CallerRateLimitExceeded", "Type": "User", "message": "Rate Exceeded." })
                }
                false => json!({ "Type": "Service", "Message": "injected" }),
            };
            let mut answer = answer(if throttled { 429 } else { 500 }, "application/json", body.to_string());
            put(&mut answer, "x-amzn-errortype", either("TooManyRequestsException", "ServiceException"));
            answer
        }
        "s3" => xml(
            if throttled { 503 } else { 500 },
            &format!(
                "<Error><Code>{}</Code><Message>injected</Message></Error>",
                either("SlowDown", "InternalError")
            ),
        ),
        _ if throttled => {
            let mut answer = answer(429, "text/plain", "too many requests");
            put(&mut answer, "retry-after", "1");
            answer
        }
        _ => answer(503, "text/plain", "out of order"),
    }
}

fn status(throttled: bool) -> u16 {
    if throttled { 400 } else { 500 }
}

fn typed(status: u16, code: &str) -> Response<Full<Bytes>> {
    let body = json!({ "__type": code, "message": "injected" });
    answer(status, "application/x-amz-json-1.0", body.to_string())
}

fn xml(status: u16, body: &str) -> Response<Full<Bytes>> {
    answer(status, "text/xml", body)
}

fn put(answer: &mut Response<Full<Bytes>>, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(HeaderName::from_static(name), value);
    }
}

/// Replaces the body of an answer, and drops what describes the old one.
pub(super) fn with_body(mut answer: Response<Full<Bytes>>, body: Vec<u8>) -> Response<Full<Bytes>> {
    answer.headers_mut().remove(header::CONTENT_LENGTH);
    answer.headers_mut().remove("x-amz-crc32");
    *answer.body_mut() = Full::new(Bytes::from(body));
    answer
}
