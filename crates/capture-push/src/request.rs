//! From the gateway's payload to a request of ours: route, headers, bytes. Nothing of the body is looked at here.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::gateway::GatewayRequest;
use crate::refusal::Refusal;

/// How a request says who it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// `/v1/sources/{source}/changes`: Standard Webhooks headers over the raw bytes.
    Signed,
    /// `/v1/iam/sources/{source}/changes`: SigV4, checked by the gateway.
    Iam,
}

/// A request whose outside is in order.
pub struct Request<'a> {
    /// Which of the two ways in.
    pub route: Route,
    /// The source's name as the path has it.
    pub source: &'a str,
    /// The sender's id of this request, the same on every retry.
    pub webhook_id: &'a str,
    /// A valid W3C trace context, if the sender sent one.
    pub traceparent: Option<&'a str>,
    /// The raw bytes.
    pub body: Cow<'a, [u8]>,
    /// The payload that it came in.
    pub gateway: &'a GatewayRequest,
}

impl<'a> Request<'a> {
    /// Checks path, method, media type, size and the request id, in this order.
    pub fn read(gateway: &'a GatewayRequest, max_bytes: usize) -> Result<Self, Refusal> {
        let (route, source) = route(&gateway.raw_path).ok_or_else(|| {
            Refusal::new(404, "unknown_path", "send changes to /v1/sources/{source}/changes")
        })?;
        if gateway.request_context.http.method != "POST" {
            return Err(Refusal::new(405, "method_not_allowed", "send changes with POST"));
        }
        media_type(gateway)?;
        let body = raw_body(gateway, max_bytes)?;
        let webhook_id = webhook_id(gateway)?;
        let traceparent = gateway.header("traceparent").filter(|text| is_traceparent(text));
        Ok(Self { route, source, webhook_id, traceparent, body, gateway })
    }
}

/// The end of the path decides: a stage or a custom domain's mapping may stand in front.
fn route(path: &str) -> Option<(Route, &str)> {
    let mut segments = path.rsplit('/');
    let (changes, source, sources, third) =
        (segments.next()?, segments.next()?, segments.next()?, segments.next()?);
    match (changes, sources, third) {
        ("changes", "sources", "v1") => Some((Route::Signed, source)),
        ("changes", "sources", "iam") if segments.next() == Some("v1") => Some((Route::Iam, source)),
        _ => None,
    }
}

fn media_type(gateway: &GatewayRequest) -> Result<(), Refusal> {
    if let Some(encoding) = gateway.header("content-encoding")
        && !encoding.trim().eq_ignore_ascii_case("identity")
    {
        return Err(Refusal::new(
            415,
            "unsupported_content_encoding",
            "send the body uncompressed, without content-encoding",
        ));
    }
    match gateway.header("content-type") {
        Some(content_type) if !is_json(content_type) => Err(Refusal::new(
            415,
            "unsupported_media_type",
            "send content-type: application/json (UTF-8), or none",
        )),
        _ => Ok(()),
    }
}

fn is_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let json = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"));
    json && parts.all(|parameter| {
        ["charset=utf-8", "charset=\"utf-8\""].iter().any(|allowed| parameter.eq_ignore_ascii_case(allowed))
    })
}

fn raw_body(gateway: &GatewayRequest, max_bytes: usize) -> Result<Cow<'_, [u8]>, Refusal> {
    let text = gateway.body.as_deref().unwrap_or_default();
    let too_large = || {
        Refusal::new(
            413,
            "body_too_large",
            format!("the body has more than {max_bytes} bytes: send fewer changes in one request"),
        )
    };
    if !gateway.is_base64_encoded {
        return if text.len() > max_bytes { Err(too_large()) } else { Ok(Cow::Borrowed(text.as_bytes())) };
    }
    // Before decoding: four characters stand for at most three bytes.
    if text.len() / 4 > max_bytes / 3 + 1 {
        return Err(too_large());
    }
    let bytes = STANDARD
        .decode(text)
        .map_err(|_| Refusal::new(400, "invalid_base64", "the body is marked as base64 and is not"))?;
    if bytes.len() > max_bytes { Err(too_large()) } else { Ok(Cow::Owned(bytes)) }
}

fn webhook_id(gateway: &GatewayRequest) -> Result<&str, Refusal> {
    let id = gateway.header("webhook-id").ok_or_else(|| {
        Refusal::new(
            400,
            "missing_webhook_id",
            "send a webhook-id header: one id per request, the same on every retry of it",
        )
    })?;
    let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'.';
    if (1..=128).contains(&id.len()) && id.bytes().all(allowed) {
        Ok(id)
    } else {
        Err(Refusal::new(
            400,
            "invalid_webhook_id",
            "a webhook-id has 1 to 128 printable ASCII characters, no space and no full stop",
        ))
    }
}

/// Whether the text is a W3C `traceparent` of version 00 with ids that are not zero.
fn is_traceparent(text: &str) -> bool {
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'))
    };
    let not_zero = |part: &str| part.bytes().any(|b| b != b'0');
    let mut parts = text.split('-');
    let (version, trace, parent, flags) = (parts.next(), parts.next(), parts.next(), parts.next());
    parts.next().is_none()
        && version == Some("00")
        && trace.is_some_and(|part| hex(part, 32) && not_zero(part))
        && parent.is_some_and(|part| hex(part, 16) && not_zero(part))
        && flags.is_some_and(|part| hex(part, 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_routes_are_found_behind_a_stage_and_nothing_else_is() {
        for (path, expected) in [
            ("/v1/sources/crm/changes", Some((Route::Signed, "crm"))),
            ("/v1/iam/sources/crm/changes", Some((Route::Iam, "crm"))),
            ("/prod/v1/sources/crm/changes", Some((Route::Signed, "crm"))),
            ("/prod/v1/iam/sources/crm/changes", Some((Route::Iam, "crm"))),
            ("/v1/sources//changes", Some((Route::Signed, ""))),
            ("/v1/sources/crm/changes/", None),
            ("/v1/sources/crm", None),
            ("/v2/sources/crm/changes", None),
            ("/iam/sources/crm/changes", None),
            ("/v1/iam/x/sources/crm/changes", None),
            ("", None),
        ] {
            assert_eq!(route(path), expected, "{path}");
        }
    }

    #[test]
    fn only_whole_trace_contexts_are_taken_over() {
        assert!(is_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0g",
        ] {
            assert!(!is_traceparent(bad), "{bad}");
        }
    }

    #[test]
    fn json_is_the_only_media_type() {
        for good in
            ["application/json", "Application/JSON; charset=UTF-8", "application/json;charset=\"utf-8\""]
        {
            assert!(is_json(good), "{good}");
        }
        for bad in
            ["", "text/json", "application/json; charset=utf-16", "application/xml", "application/json5"]
        {
            assert!(!is_json(bad), "{bad}");
        }
    }
}
