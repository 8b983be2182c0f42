//! Builds requests as a sender and the gateway would, and bends them.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use capture_push::gateway::GatewayRequest;
use serde_json::{Value, json};
use sync_domain::webhook::Secrets;

use crate::bench::{NOW, secret_of};

/// A request in the making.
#[derive(Clone)]
pub(crate) struct Push {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
    pub(crate) base64: bool,
    /// Text that stands instead of the base64 of the body.
    pub(crate) wrong_base64: Option<String>,
    pub(crate) authorizer: Option<Value>,
}

impl Push {
    /// A request on the signed route, signed with the source's secret now.
    pub(crate) fn signed(source: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::signed_with(source, body, secret_of(source), "msg_1", NOW)
    }

    /// The same with all that a signature depends on.
    pub(crate) fn signed_with(
        source: &str,
        body: impl Into<Vec<u8>>,
        secret: &str,
        id: &str,
        at: i64,
    ) -> Self {
        let body = body.into();
        let signature = Secrets::parse(secret).unwrap().sign(id, at, &body).unwrap();
        Self {
            method: "POST".into(),
            path: format!("/v1/sources/{source}/changes"),
            headers: [
                ("content-type", "application/json".to_owned()),
                ("webhook-id", id.to_owned()),
                ("webhook-timestamp", at.to_string()),
                ("webhook-signature", signature),
            ]
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
            // The gateway hands over as base64 what is no text.
            base64: std::str::from_utf8(&body).is_err(),
            body,
            wrong_base64: None,
            authorizer: None,
        }
    }

    /// A request on the route with IAM, made by the principal.
    pub(crate) fn iam(source: &str, body: impl Into<Vec<u8>>, user_arn: &str) -> Self {
        let mut push = Self::signed(source, body);
        push.path = format!("/v1/iam/sources/{source}/changes");
        push.headers.remove("webhook-timestamp");
        push.headers.remove("webhook-signature");
        push.authorizer = Some(json!({"iam": {
            "accessKey": "ASIAEXAMPLE", "accountId": "123456789012", "callerId": "AROAEXAMPLE:session",
            "cognitoIdentity": null, "principalOrgId": "o-example", "userArn": user_arn, "userId": "AROAEXAMPLE:session"}}));
        push
    }

    pub(crate) fn with(mut self, header: &str, value: impl Into<String>) -> Self {
        self.headers.insert(header.to_owned(), value.into());
        self
    }

    pub(crate) fn without(mut self, header: &str) -> Self {
        self.headers.remove(header);
        self
    }

    pub(crate) fn method(mut self, method: &str) -> Self {
        self.method = method.into();
        self
    }

    pub(crate) fn path(mut self, path: &str) -> Self {
        self.path = path.into();
        self
    }

    pub(crate) fn in_base64(mut self) -> Self {
        self.base64 = true;
        self
    }

    /// Changes the body behind the back of the signature.
    pub(crate) fn tampered(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// The payload as the gateway sends it.
    pub(crate) fn payload(&self) -> Value {
        let body = match &self.wrong_base64 {
            Some(text) => text.clone(),
            None if self.base64 => STANDARD.encode(&self.body),
            None => String::from_utf8(self.body.clone()).unwrap(),
        };
        json!({
            "version": "2.0",
            "routeKey": "POST /v1/sources/{source}/changes",
            "rawPath": self.path,
            "rawQueryString": "",
            "headers": self.headers,
            "requestContext": {
                "accountId": "123456789012", "apiId": "a1b2c3d4e5", "authorizer": self.authorizer,
                "domainName": "a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com", "domainPrefix": "a1b2c3d4e5",
                "http": {"method": self.method, "path": self.path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.7", "userAgent": "t"},
                "requestId": "Xyz=", "routeKey": "POST /v1/sources/{source}/changes", "stage": "$default",
                "time": "24/Nov/2026:20:19:23 +0000", "timeEpoch": NOW * 1000
            },
            "body": body,
            "isBase64Encoded": self.base64
        })
    }

    pub(crate) fn event(&self) -> GatewayRequest {
        serde_json::from_value(self.payload()).unwrap()
    }
}
