//! Checks of what leads outside: addresses, headers, secrets' names.

use std::time::Duration;

use sync_domain::config::parse_duration;
use url::{Host, Url};

use super::Check;

/// The longest that a target may take. `deliver` begins a request only if its time and 3 seconds are left, of an
/// invocation of 60: half of it leaves time for what comes before, and for more than one record.
pub(super) const LONGEST_DELIVERY: Duration = Duration::from_secs(30);

/// The longest that a look-up may take. `enrich` begins one only if its time and 5 seconds are left, of an invocation of
/// 30: with more, no record would ever be looked up behind a start that reads keys and secrets first.
pub(super) const LONGEST_LOOKUP: Duration = Duration::from_secs(20);

/// Headers that a request needs for itself.
const OWN_HEADERS: [&str; 11] = [
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "te",
    "trailer",
    "traceparent",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// Checks an address: https, nothing secret in it. `http` passes for loopback, with a warning.
pub(super) fn check_url(url: &Url, path: &[&str], check: &mut Check<'_>) {
    if !url.username().is_empty() || url.password().is_some() {
        check.error(
            path,
            "the address holds a user name or password; put it into a secret and name that in auth",
        );
    }
    if url.fragment().is_some() {
        check.error(path, "the address has a fragment (#…), which no server ever sees; remove it");
    }
    if url.host().is_none() {
        check.error(path, "the address has no host; write https://host/path");
    }
    let credential =
        |name: &str| ["key", "token", "secret", "password", "sig"].iter().any(|word| name.contains(word));
    if url.query_pairs().any(|(name, _)| credential(&name.to_ascii_lowercase())) {
        check.warning(path, "the address seems to hold a secret in its query, where logs and proxies see it; send it as a header with api_key");
    }
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(url) => {
            check.warning(path, "http to loopback works on a laptop alone, where AllowLoopback is true");
        }
        _ => check.error(path, "the address must be https"),
    }
}

/// Whether the address can only be this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Checks a header's name: a token of HTTP, none that the request needs for itself.
pub(super) fn check_header(header: &str, path: &[&str], check: &mut Check<'_>) {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let lower = header.to_ascii_lowercase();
    if header.is_empty() || header.len() > 64 || !header.bytes().all(token) {
        check.error(path, "not a name of an HTTP header; use letters, digits and hyphens: x-api-key");
    } else if OWN_HEADERS.contains(&lower.as_str()) || lower.starts_with("webhook-") {
        check.error(path, "the request sets this header itself; use another: x-api-key, authorization");
    }
}

/// Checks the name of a secret. The name is never shown: somebody may have written the secret itself.
pub(super) fn check_secret(name: &str, path: &[&str], check: &mut Check<'_>) {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"/_+=.@-".contains(&b);
    if name.starts_with("whsec_") || name.starts_with("whsk_") {
        check.error(path, "this looks like a secret itself: replace it (it counts as leaked), store the new one in Secrets Manager and write its name here");
    } else if name.is_empty() || name.len() > 512 || !name.bytes().all(allowed) {
        check.error(path, "not a name of a secret in Secrets Manager; use letters, digits and / _ + = . @ -");
    } else if !name.starts_with("datasync/") {
        check.error(path, "the functions may read only secrets whose name starts with datasync/; rename it");
    }
}

/// Checks the time for one request.
pub(super) fn check_timeout(timeout: Duration, longest: Duration, path: &[&str], check: &mut Check<'_>) {
    if timeout.is_zero() || timeout > longest {
        let longest = longest.as_secs();
        check.error(path, format!("must be above 0s and at most {longest}s: the function waits no longer"));
    }
}

/// Reads a duration that a file gives as text, if it does.
pub(super) fn check_duration(text: Option<&str>, path: &[&str], check: &mut Check<'_>) -> Option<Duration> {
    match parse_duration(text?) {
        Ok(duration) => Some(duration),
        Err(error) => {
            check.error(path, error.to_string());
            None
        }
    }
}
