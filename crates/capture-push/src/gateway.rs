//! The payload of an API Gateway HTTP API (format 2.0), as far as the push endpoint reads it, and its answer.
//!
//! These are types of our own and not those of `aws_lambda_events`: those refuse the whole invocation when one header
//! is odd, and the sender would get a 500 for its own mistake.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A request as the gateway hands it over. It has no `Debug`: the body must not come into a log by accident.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayRequest {
    /// The path behind the host, with the stage in front unless that is `$default`.
    #[serde(default)]
    pub raw_path: String,
    /// Names in lower case; values of repeated headers joined by commas.
    #[serde(default)]
    pub headers: Option<BTreeMap<String, String>>,
    /// What the gateway found out itself.
    pub request_context: RequestContext,
    /// The body as text, or in base64.
    #[serde(default)]
    pub body: Option<String>,
    /// Whether the body is in base64.
    #[serde(default)]
    pub is_base64_encoded: bool,
}

/// What the gateway found out itself: a sender cannot write it.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestContext {
    /// The request line.
    pub http: Http,
    /// Who signed the request, on the route with IAM.
    #[serde(default)]
    pub authorizer: Option<Authorizer>,
}

/// The request line.
#[derive(Clone, Deserialize)]
pub struct Http {
    /// `POST`
    pub method: String,
}

/// The authorizer's finding.
#[derive(Clone, Deserialize)]
pub struct Authorizer {
    /// Only on routes with `AWS_IAM`.
    #[serde(default)]
    pub iam: Option<Iam>,
}

/// The principal of a request that was signed with SigV4.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Iam {
    /// `arn:aws:iam::<account>:user/<name>` or `arn:aws:sts::<account>:assumed-role/<role>/<session>`.
    #[serde(default)]
    pub user_arn: Option<String>,
}

impl GatewayRequest {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let headers = self.headers.as_ref()?;
        headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// The answer, in format 2.0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayResponse {
    /// The HTTP status.
    pub status_code: u16,
    /// Names in lower case.
    pub headers: BTreeMap<&'static str, String>,
    /// JSON text.
    pub body: String,
    /// Never: the body is text.
    pub is_base64_encoded: bool,
}
