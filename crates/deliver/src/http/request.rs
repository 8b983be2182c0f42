//! The request that a delivery becomes, as the target's mapping says.

use sync_domain::config::Body;
use sync_domain::delivery::request::Request as Mapped;
use sync_domain::outcome::Reason;
use sync_domain::scan;
use sync_http::{Bytes, HeaderMap, HeaderName, HeaderValue, Method, Request, header};

use super::Http;
use crate::send::Delivery;

/// What is kept of a target's answer body: nothing. It is read so far so that the connection can be used again.
const MAX_ANSWER: usize = 64 << 10;
/// Who asks.
pub(super) const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("datasync/", env!("CARGO_PKG_VERSION")));

/// The request for a delivery, without what proves where it comes from.
pub(super) fn request(http: Http<'_>, delivery: &Delivery<'_>) -> Result<Request, Reason> {
    let Http { endpoint, requests, .. } = http;
    let mapped = requests.request(delivery.event.envelope.operation, delivery.effect);
    let url = requests.address(mapped, delivery.event.key)?;
    let method = Method::from_bytes(mapped.method().as_str().as_bytes()).unwrap_or(Method::POST);
    let mut headers = HeaderMap::new();
    headers.insert(header::USER_AGENT, USER_AGENT);
    set(&mut headers, "traceparent", &delivery.event.envelope.traceparent);
    let body = body(delivery, mapped, &mut headers)
        .map_err(|error| Reason::new("unreadable_event", format!("byte {}", error.offset)))?;
    Ok(Request {
        method,
        url,
        headers,
        body: Bytes::from(body),
        timeout: endpoint.timeout,
        max_body: MAX_ANSWER,
    })
}

/// What the request carries. Without the event in it, its context goes along as headers (CloudEvents, binary mode), so
/// that a target always has the version to compare.
fn body(delivery: &Delivery<'_>, mapped: &Mapped, headers: &mut HeaderMap) -> scan::Result<String> {
    let event = delivery.event;
    let (body, content_type) = match (mapped.body(), event.after) {
        (Body::Event, _) => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/cloudevents+json"));
            return delivery.mapping.event(delivery.body);
        }
        (Body::Attributes, Some(record)) => {
            (delivery.mapping.record(record)?.into_owned(), "application/json")
        }
        // What is deleted has no attributes left but its key.
        (Body::Attributes, None) | (Body::Key, _) => (event.key.to_owned(), "application/json"),
        (Body::None, _) => (String::new(), ""),
    };
    if !content_type.is_empty() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    let envelope = &event.envelope;
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", event.id.as_str()),
        ("ce-source", &format!("/datasync/{}", envelope.source)),
        ("ce-type", &format!("{}.{}", envelope.model, envelope.operation.past())),
        ("ce-subject", envelope.rid.as_str()),
        ("ce-time", &envelope.occurred_at),
        ("ce-sequence", envelope.version.as_str()),
    ] {
        set(headers, name, value);
    }
    Ok(body)
}

/// Sets a header unless its value cannot stand in one.
pub(super) fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}
