//! A plain client for the emulator. It speaks the services' wire format itself, so that what the tests see does not
//! pass through the code under test.

use anyhow::{Context, Result, bail};
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::http::{self, Answer, PlainClient};

/// The region of the local stack.
pub const REGION: &str = "eu-central-1";
/// The account of the local stack.
pub const ACCOUNT: &str = "000000000000";
/// The access key that the emulator expects.
pub const ACCESS_KEY: &str = "test";
/// The secret key that goes with it.
pub const SECRET_KEY: &str = "test";

/// A client for one emulator.
#[derive(Debug, Clone)]
pub struct Aws {
    endpoint: String,
    client: PlainClient,
    credentials: Credentials,
}

/// Who calls.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The access key.
    pub access_key: String,
    /// The secret key.
    pub secret_key: String,
    /// The session, of somebody who has taken a role.
    pub session_token: Option<String>,
}

/// An error that a service answered with.
#[derive(Debug, thiserror::Error)]
#[error("{service} answered {status}: {body}")]
pub struct Refused {
    /// The service.
    pub service: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// The answer.
    pub body: String,
}

/// A message as the emulator holds it.
#[derive(Debug, Clone)]
pub struct Held {
    /// The queue's name.
    pub queue: String,
    /// The message as the emulator describes it: `Body`, `MessageAttributes`, `MessageGroupId`, ….
    pub message: Value,
}

impl Held {
    /// The body.
    pub fn body(&self) -> &str {
        self.message.get("Body").and_then(Value::as_str).unwrap_or_default()
    }

    /// The text of a message attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.message.get("MessageAttributes")?.get(name)?.get("StringValue")?.as_str()
    }
}

impl Aws {
    /// A client for the emulator at this address.
    pub fn new(endpoint: &str) -> Self {
        let (access_key, secret_key) = (ACCESS_KEY.to_owned(), SECRET_KEY.to_owned());
        let credentials = Credentials { access_key, secret_key, session_token: None };
        Self { endpoint: endpoint.to_owned(), client: http::client(), credentials }
    }

    /// The same as somebody else.
    pub fn with_credentials(&self, credentials: Credentials) -> Self {
        Self { credentials, ..self.clone() }
    }

    /// A call, signed with Signature Version 4; paths need no escaping and have no query.
    async fn call(
        &self,
        service: &'static str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<Answer> {
        let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let day = now.get(..8).unwrap_or_default();
        let host = self.endpoint.trim_start_matches("http://");
        let token = self.credentials.session_token.as_deref();
        let hash = hex(&Sha256::digest(&body));
        let mut signed = vec![("host", host)];
        if service == "s3" {
            signed.push(("x-amz-content-sha256", hash.as_str()));
        }
        signed.push(("x-amz-date", now.as_str()));
        signed.extend(token.map(|token| ("x-amz-security-token", token)));
        let names = signed.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let lines: String = signed.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let canonical = format!("{method}\n{path}\n\n{lines}\n{names}\n{hash}");
        let scope = format!("{day}/{REGION}/{service}/aws4_request");
        let text = format!("AWS4-HMAC-SHA256\n{now}\n{scope}\n{}", hex(&Sha256::digest(&canonical)));
        let mut key = format!("AWS4{}", self.credentials.secret_key).into_bytes();
        for part in [day, REGION, service, "aws4_request"] {
            key = mac(&key, part.as_bytes())?;
        }
        let credential = format!("{}/{scope}", self.credentials.access_key);
        let signature = hex(&mac(&key, text.as_bytes())?);
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.endpoint)).header(
            "authorization",
            format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"),
        );
        // The client itself names the host.
        for (name, value) in signed.iter().skip(1).chain(headers) {
            request = request.header(*name, *value);
        }
        let answer = http::send(&self.client, request.body(Full::new(Bytes::from(body)))?).await;
        let answer = answer.with_context(|| format!("{service} {path}"))?;
        if (200..300).contains(&answer.status) {
            Ok(answer)
        } else {
            Err(Refused { service, status: answer.status, body: answer.text() }.into())
        }
    }

    /// The emulator's address.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// A call of a service that speaks JSON: `prefix` is the service's name in `X-Amz-Target`.
    async fn json(
        &self,
        service: &'static str,
        version: &str,
        prefix: &str,
        action: &str,
        body: &Value,
    ) -> Result<Value> {
        let (content_type, target) =
            (format!("application/x-amz-json-{version}"), format!("{prefix}.{action}"));
        let headers = [("content-type", content_type.as_str()), ("x-amz-target", target.as_str())];
        let answer = self.call(service, "POST", "/", &headers, body.to_string()).await?;
        if answer.body.is_empty() { Ok(Value::Null) } else { answer.json() }
    }

    /// A call of a service that speaks the query protocol; the answer is XML.
    pub async fn query(&self, service: &'static str, parameters: &[(&str, &str)]) -> Result<String> {
        let mut form = String::new();
        for (name, value) in parameters {
            if !form.is_empty() {
                form.push('&');
            }
            form.push_str(&percent_encode(name));
            form.push('=');
            form.push_str(&percent_encode(value));
        }
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let answer = self.call(service, "POST", "/", &headers, form).await?;
        Ok(answer.text())
    }

    /// A plain GET at the emulator, for what it tells of itself.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        let request = Request::get(format!("{}{path}", self.endpoint)).body(Full::default())?;
        http::send(&self.client, request).await
    }

    /// A call of SQS.
    pub async fn sqs(&self, action: &str, body: &Value) -> Result<Value> {
        self.json("sqs", "1.0", "AmazonSQS", action, body).await
    }

    /// A call of DynamoDB.
    pub async fn dynamodb(&self, action: &str, body: &Value) -> Result<Value> {
        self.json("dynamodb", "1.0", "DynamoDB_20120810", action, body).await
    }

    /// A call of a DynamoDB table's stream.
    pub async fn streams(&self, action: &str, body: &Value) -> Result<Value> {
        self.json("dynamodb", "1.0", "DynamoDBStreams_20120810", action, body).await
    }

    /// A call of KMS.
    pub async fn kms(&self, action: &str, body: &Value) -> Result<Value> {
        self.json("kms", "1.1", "TrentService", action, body).await
    }

    /// A call of Secrets Manager.
    pub async fn secrets(&self, action: &str, body: &Value) -> Result<Value> {
        self.json("secretsmanager", "1.1", "secretsmanager", action, body).await
    }

    /// A call of EventBridge.
    pub async fn events(&self, action: &str, body: &Value) -> Result<Value> {
        self.json("events", "1.1", "AWSEvents", action, body).await
    }

    /// A call of CloudWatch Logs.
    pub async fn logs(&self, action: &str, body: &Value) -> Result<Value> {
        self.json("logs", "1.1", "Logs_20140328", action, body).await
    }

    /// A call of Lambda, which speaks REST.
    pub async fn lambda(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let headers = [("content-type", "application/json")];
        self.call("lambda", method, path, &headers, body.to_string()).await?.json()
    }

    /// An object of a bucket: `/bucket/key`.
    pub async fn object(&self, path: &str) -> Result<String> {
        Ok(self.call("s3", "GET", path, &[], String::new()).await?.text())
    }

    /// Puts an object into a bucket.
    pub async fn put_object(&self, path: &str, body: String) -> Result<()> {
        self.call("s3", "PUT", path, &[], body).await.map(drop)
    }

    /// A POST to an HTTP API behind the gateway, signed with Signature Version 4; whatever it answers.
    pub async fn execute_api(
        &self,
        api: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<(u16, String)> {
        // Without the stage: a path with its `$` is escaped by some and not by others.
        let path = format!("/_aws/execute-api/{api}{path}");
        match self.call("execute-api", "POST", &path, headers, body.to_owned()).await {
            Ok(answer) => Ok((answer.status, answer.text())),
            Err(error) => match error.downcast::<Refused>() {
                Ok(refused) => Ok((refused.status, refused.body)),
                Err(error) => Err(error),
            },
        }
    }

    /// Every message in every queue, visible or not, without receiving any.
    pub async fn held(&self) -> Result<Vec<Held>> {
        let answer = self.get("/_ministack/sqs/messages").await?;
        if answer.status != 200 {
            bail!("the emulator does not show its queues: {}", answer.text());
        }
        let mut held = Vec::new();
        let all = answer.json()?;
        let objects = |value: &Value| value.as_object().cloned().unwrap_or_default().into_iter();
        for (_, regions) in objects(&all["messages"]) {
            for (_, queues) in objects(&regions) {
                for (url, messages) in objects(&queues) {
                    let queue = url.rsplit('/').next().unwrap_or_default().to_owned();
                    for message in messages.as_array().cloned().unwrap_or_default() {
                        held.push(Held { queue: queue.clone(), message });
                    }
                }
            }
        }
        Ok(held)
    }

    /// Every item of a table.
    pub async fn scan(&self, table: &str) -> Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut start = Value::Null;
        loop {
            let mut body = json!({ "TableName": table, "ConsistentRead": true });
            if !start.is_null() {
                body["ExclusiveStartKey"] = start;
            }
            let page = self.dynamodb("Scan", &body).await?;
            items.extend(page["Items"].as_array().cloned().unwrap_or_default());
            start = page["LastEvaluatedKey"].clone();
            if start.is_null() {
                return Ok(items);
            }
        }
    }

    /// Creates a secret, or gives it a new text.
    pub async fn put_secret(&self, name: &str, text: &str) -> Result<()> {
        let body = json!({ "Name": name, "SecretString": text, "ClientRequestToken": name.len().to_string().repeat(20) });
        match self.secrets("CreateSecret", &body).await {
            Ok(_) => Ok(()),
            Err(error) if error.to_string().contains("ResourceExists") => {
                self.secrets("PutSecretValue", &json!({ "SecretId": name, "SecretString": text })).await?;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mac(key: &[u8], text: &[u8]) -> Result<Vec<u8>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).context("the key does not fit")?;
    mac.update(text);
    Ok(mac.finalize().into_bytes().to_vec())
}

/// Percent-encodes everything but letters, digits and `-._~`.
pub fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The texts of an element in an XML answer, in order; enough for the flat answers of the query protocol.
pub fn xml_texts(xml: &str, element: &str) -> Vec<String> {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let mut texts = Vec::new();
    let mut rest = xml;
    while let Some((_, behind)) = rest.split_once(&open) {
        let Some((text, behind)) = behind.split_once(&close) else { break };
        texts.push(
            text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&"),
        );
        rest = behind;
    }
    texts
}
