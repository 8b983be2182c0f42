//! What proves to a target where a request comes from.

use sync_domain::config::{Auth, HttpEndpoint};
use sync_domain::{credentials, webhook};
use sync_http::{HeaderName, HeaderValue, Request, header};
use zeroize::Zeroizing;

use super::request::set;

/// Adds the message's id and what proves where the request comes from; none if the secret is not of the right form.
pub(super) fn authenticate(
    endpoint: &HttpEndpoint,
    id: &str,
    secret: Option<&Zeroizing<String>>,
    now: i64,
    request: &mut Request,
) -> Option<()> {
    set(&mut request.headers, webhook::ID_HEADER, id);
    set(&mut request.headers, webhook::TIMESTAMP_HEADER, &now.to_string());
    match &endpoint.auth {
        Auth::None => Some(()),
        Auth::StandardWebhooks(_) => {
            let secrets = webhook::Secrets::parse(secret?).ok()?;
            let signatures = secrets.sign(id, now, &request.body).ok()?;
            let value = HeaderValue::from_str(&signatures).ok()?;
            request.headers.insert(HeaderName::from_static(webhook::SIGNATURE_HEADER), value);
            Some(())
        }
        Auth::Basic(_) => show(request, header::AUTHORIZATION, &credentials::basic(secret?).ok()?),
        Auth::Bearer(_) => show(request, header::AUTHORIZATION, &credentials::bearer(secret?).ok()?),
        Auth::ApiKey { header, .. } => {
            let live = webhook::live(secret?).ok()?;
            show(request, HeaderName::from_bytes(header.as_bytes()).ok()?, live.first()?)
        }
    }
}

/// Sends a secret as a header, marked as one.
fn show(request: &mut Request, name: HeaderName, secret: &str) -> Option<()> {
    let mut value = HeaderValue::from_str(secret).ok()?;
    value.set_sensitive(true);
    request.headers.insert(name, value);
    Some(())
}
