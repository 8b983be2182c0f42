//! Checks of `endpoint.auth`.

use sync_domain::config::{Auth, AwsService, OAuth2, SigV4};
use url::Url;

use super::Check;
use super::network::{check_header, check_secret, check_url, is_loopback};

/// Checks how a delivery to `url` proves where it comes from.
pub(super) fn check_auth(auth: &Auth, url: &Url, check: &mut Check<'_>) {
    match auth {
        Auth::None => check
            .warning(&["endpoint", "auth"], "is none: the target cannot tell our deliveries from others'"),
        Auth::StandardWebhooks(secret) => {
            check_secret(secret, &["endpoint", "auth", "standard_webhooks"], check);
        }
        Auth::Basic(secret) => check_secret(secret, &["endpoint", "auth", "basic"], check),
        Auth::Bearer(secret) => check_secret(secret, &["endpoint", "auth", "bearer"], check),
        Auth::ApiKey { header, secret } => {
            check_header(header, &["endpoint", "auth", "api_key", "header"], check);
            check_secret(secret, &["endpoint", "auth", "api_key", "secret"], check);
        }
        Auth::OAuth2(oauth2) => check_oauth2(oauth2, check),
        Auth::SigV4(sigv4) => check_sigv4(sigv4, url, check),
    }
}

fn check_oauth2(oauth2: &OAuth2, check: &mut Check<'_>) {
    let url = &oauth2.token_url;
    check_url(url, &["endpoint", "auth", "oauth2", "token_url"], check);
    let port = url.port_or_known_default();
    if !is_loopback(url) && port.is_some_and(|port| !oauth2.ports.contains(&port)) {
        check.error(
            &["endpoint", "auth", "oauth2", "token_url"],
            "its port is not allowed; add it to oauth2.ports",
        );
    }
    check_secret(&oauth2.secret, &["endpoint", "auth", "oauth2", "secret"], check);
    // RFC 6749, section 3.3.
    let word =
        |word: &str| !word.is_empty() && word.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5B | 0x5D..=0x7E));
    if oauth2.scope.as_ref().is_some_and(|scope| !scope.split(' ').all(word)) {
        check.error(
            &["endpoint", "auth", "oauth2", "scope"],
            "is words of visible characters without \" and \\, one space between two; correct or remove it",
        );
    }
    if oauth2
        .audience
        .as_ref()
        .is_some_and(|text| text.trim().is_empty() || text.chars().any(char::is_control))
    {
        check.error(
            &["endpoint", "auth", "oauth2", "audience"],
            "is empty or holds a control character; correct or remove it",
        );
    }
}

fn check_sigv4(sigv4: &SigV4, url: &Url, check: &mut Check<'_>) {
    if let Some((service, region)) = AwsService::of(url) {
        if service != sigv4.service {
            let service = service.as_str();
            let message = format!("the address is one of {service}; write service: {service}");
            check.error(&["endpoint", "auth", "sigv4", "service"], message);
        }
        if sigv4.region.as_ref().is_some_and(|own| *own != region) {
            let message = format!("the address is in {region}; write that or remove the region");
            check.error(&["endpoint", "auth", "sigv4", "region"], message);
        }
    }
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if sigv4.region.as_ref().is_some_and(|region| region.is_empty() || !region.bytes().all(fits)) {
        check.error(&["endpoint", "auth", "sigv4", "region"], "is no region; write one like eu-central-1");
    }
}
