//! What a request asks for: which service, which action.

use http::request::Parts;

/// The names by which `X-Amz-Target` calls the services.
const JSON_SERVICES: [(&str, &str); 6] = [
    ("AmazonSQS", "sqs"),
    ("AWSEvents", "events"),
    ("DynamoDBStreams_20120810", "dynamodbstreams"),
    ("DynamoDB_20120810", "dynamodb"),
    ("TrentService", "kms"),
    ("secretsmanager", "secretsmanager"),
];
/// What every request is that no service of AWS is asked for: one to a target, one to a service that is looked up in.
const ELSEWHERE: &str = "http";

/// A service and one of its actions. What goes elsewhere is `http` with the method as its action.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Operation {
    pub(super) service: String,
    pub(super) action: String,
}

impl Operation {
    /// Reads it from `X-Amz-Target`, from the form's `Action`, or from the service that the request is signed for with its
    /// method and path.
    pub(super) fn of(head: &Parts, body: &[u8]) -> Self {
        let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        let made =
            |service: &str, action: &str| Self { service: service.to_owned(), action: action.to_owned() };
        if let Some((prefix, action)) = header("x-amz-target").and_then(|target| target.split_once('.')) {
            let known = JSON_SERVICES.iter().find(|(name, _)| *name == prefix);
            return made(known.map_or(prefix, |(_, service)| service), action);
        }
        let method = head.method.as_str();
        let Some(service) = header("authorization").and_then(signed_for) else {
            return made(ELSEWHERE, method);
        };
        let path = head.uri.path();
        match service {
            "lambda" => made(service, lambda(method, path)),
            "s3" => made(service, s3(method, path)),
            _ => made(service, form_action(body).unwrap_or(method)),
        }
    }
}

/// The service in the scope of a signature: `Credential=<key>/<day>/<region>/<service>/aws4_request`.
fn signed_for(authorization: &str) -> Option<&str> {
    let (_, scope) = authorization.strip_prefix("AWS4-HMAC-SHA256 ")?.split_once("Credential=")?;
    scope.split('/').nth(3)
}

fn form_action(body: &[u8]) -> Option<&str> {
    let body = std::str::from_utf8(body).ok()?;
    body.split('&').find_map(|field| field.strip_prefix("Action="))
}

fn lambda<'a>(method: &'a str, path: &str) -> &'a str {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match (method, parts.as_slice()) {
        ("POST", [_, "functions", _, "invocations"]) => "Invoke",
        ("GET", [_, "event-source-mappings"]) => "ListEventSourceMappings",
        ("GET", [_, "event-source-mappings", _]) => "GetEventSourceMapping",
        ("PUT", [_, "event-source-mappings", _]) => "UpdateEventSourceMapping",
        _ => method,
    }
}

fn s3<'a>(method: &'a str, path: &str) -> &'a str {
    let in_bucket = path.trim_matches('/').contains('/');
    match (method, in_bucket) {
        ("PUT", true) => "PutObject",
        ("GET", true) => "GetObject",
        ("DELETE", true) => "DeleteObject",
        ("GET", false) => "ListObjects",
        _ => method,
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn check(request: http::request::Builder, body: &str, service: &str, action: &str) {
        let (head, ()) = request.body(()).unwrap().into_parts();
        let expected = Operation { service: service.to_owned(), action: action.to_owned() };
        assert_eq!(Operation::of(&head, body.as_bytes()), expected);
    }

    fn signed(method: &str, path: &str, service: &str) -> http::request::Builder {
        let scope = format!(
            "AWS4-HMAC-SHA256 Credential=test/20261130/eu-central-1/{service}/aws4_request, SignedHeaders=host"
        );
        Request::builder().method(method).uri(path).header("authorization", scope)
    }

    #[test]
    fn a_call_is_known_by_its_protocol() {
        let json = |target: &str| Request::post("/").header("x-amz-target", target);
        check(json("AmazonSQS.SendMessageBatch"), "{}", "sqs", "SendMessageBatch");
        check(json("DynamoDB_20120810.BatchGetItem"), "{}", "dynamodb", "BatchGetItem");
        check(json("AWSEvents.PutEvents"), "{}", "events", "PutEvents");
        check(json("TrentService.GenerateDataKey"), "{}", "kms", "GenerateDataKey");
        check(json("secretsmanager.GetSecretValue"), "{}", "secretsmanager", "GetSecretValue");
        check(signed("POST", "/", "sns"), "Action=PublishBatch&Version=2010-03-31", "sns", "PublishBatch");
        check(signed("POST", "/", "sns"), "Version=2010-03-31&Action=Publish", "sns", "Publish");
        let invoke = "/2015-03-31/functions/deliver/invocations";
        check(signed("POST", invoke, "lambda"), "{}", "lambda", "Invoke");
        let mapping = "/2015-03-31/event-source-mappings/1234";
        check(signed("PUT", mapping, "lambda"), "{}", "lambda", "UpdateEventSourceMapping");
        check(signed("PUT", "/bucket/name/of/it.json", "s3"), "{}", "s3", "PutObject");
        check(Request::post("/ingest").header("x-api-key", "k"), "{}", "http", "POST");
        check(Request::get("/"), "", "http", "GET");
    }
}
