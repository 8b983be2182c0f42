//! A source: it signs what it sends, as the push endpoint asks.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use serde_json::{Value, json};

use crate::http::{self, Answer, PlainClient};
use crate::signature;

/// A system that pushes its changes.
#[derive(Debug)]
pub struct Source {
    name: String,
    secret: String,
    push_url: String,
    client: PlainClient,
    sent: AtomicUsize,
}

impl Source {
    /// A source with its secret; `push_url` is the stack's output.
    pub fn new(name: &str, secret: &str, push_url: &str) -> Self {
        Self {
            name: name.to_owned(),
            secret: secret.to_owned(),
            push_url: push_url.trim_end_matches('/').to_owned(),
            client: http::client(),
            sent: AtomicUsize::new(0),
        }
    }

    /// The source's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it pushes to.
    pub fn url(&self) -> String {
        format!("{}/v1/sources/{}/changes", self.push_url, self.name)
    }

    /// A request id that was not used before.
    pub fn next_id(&self) -> String {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        format!("msg_{}_{}_{number}", self.name, std::process::id())
    }

    /// Pushes changes in one signed request.
    pub async fn push(&self, changes: &[Value]) -> Result<Answer> {
        let body = json!({ "changes": changes }).to_string();
        self.send(&self.next_id(), body.as_bytes()).await
    }

    /// Sends a body as it stands, signed, under this request id.
    pub async fn send(&self, id: &str, body: &[u8]) -> Result<Answer> {
        let timestamp = jiff::Timestamp::now().as_second();
        let signature = self.sign(id, timestamp, body)?;
        self.send_signed(id, timestamp, &signature, body).await
    }

    /// The signature of this source.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> Result<String> {
        signature::sign(&self.secret, id, timestamp, body)
    }

    /// Sends a body with whatever signature, for requests that must be refused.
    pub async fn send_signed(
        &self,
        id: &str,
        timestamp: i64,
        signature: &str,
        body: &[u8],
    ) -> Result<Answer> {
        let request = Request::post(self.url())
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(Full::new(Bytes::copy_from_slice(body)))?;
        http::send(&self.client, request).await
    }
}
