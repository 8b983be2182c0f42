//! What proves to a target where a request comes from.

use std::time::Duration;

use sync_domain::config::{Auth, SigV4};
use sync_domain::outcome::Reason;
use sync_domain::ports::{self, Kind, ToSign};
use sync_domain::{credentials, webhook};
use sync_http::{HeaderName, HeaderValue, Request, header};
use sync_lambda::deadline::Deadline;
use zeroize::Zeroizing;

use super::Http;
use super::access_tokens::Shown;
use super::request::set;
use crate::send::{Sent, patience};

/// What a request is authenticated with.
pub(super) enum Credential {
    /// Nothing, or nothing that could be another one: the function's role.
    Fixed,
    /// The text of a secret.
    Secret(Zeroizing<String>),
    /// An access token.
    AccessToken(Shown),
}

/// What the target's next request is authenticated with.
pub(super) async fn credential(http: Http<'_>, deadline: Deadline) -> Result<Credential, Sent> {
    match (&http.endpoint.auth, http.endpoint.auth.secret()) {
        (Auth::OAuth2(_), _) => access_token(http, deadline, None).await,
        (_, None) => Ok(Credential::Fixed),
        (_, Some(name)) => {
            let secret = http.deps.secrets.get(name).await.map_err(|error| no_secret(&error))?;
            Ok(Credential::Secret(secret))
        }
    }
}

/// Another credential behind an answer that may be about this one; none if there is none, so that the same request would get
/// the same answer. A secret may be behind every answer that is about the target, an access token behind 401 alone.
pub(super) async fn another(
    http: Http<'_>,
    deadline: Deadline,
    credential: &Credential,
    sent: &Sent,
    status: Option<u16>,
) -> Option<Result<Credential, Sent>> {
    match credential {
        Credential::Secret(secret) if matches!(sent, Sent::Trouble(_) | Sent::Gone(_)) => {
            match http.deps.secrets.refresh(http.endpoint.auth.secret()?).await {
                Ok(fresh) if fresh == *secret => None,
                Ok(fresh) => Some(Ok(Credential::Secret(fresh))),
                Err(error) => Some(Err(no_secret(&error))),
            }
        }
        Credential::AccessToken(shown)
            if status == Some(401) && !matches!(sent, Sent::Accepted | Sent::Outrun) =>
        {
            match access_token(http, deadline, Some(shown)).await {
                Ok(Credential::AccessToken(fresh)) if fresh.header == shown.header => None,
                fresh => Some(fresh),
            }
        }
        Credential::Fixed | Credential::Secret(_) | Credential::AccessToken(_) => None,
    }
}

/// An access token, if there is one before it is too late to send.
async fn access_token(
    http: Http<'_>,
    deadline: Deadline,
    refused: Option<&Shown>,
) -> Result<Credential, Sent> {
    let Auth::OAuth2(oauth2) = &http.endpoint.auth else { return Ok(Credential::Fixed) };
    let no_time = || Sent::Later(Reason::new("no_time_left", ""), Some(Duration::ZERO));
    let patience = patience(deadline, http.endpoint.timeout).ok_or_else(no_time)?;
    let asking = Box::pin(http.deps.access_tokens.get(http, oauth2, refused));
    let shown = tokio::time::timeout(patience, asking).await.map_err(|_| no_time())?;
    shown.map(Credential::AccessToken)
}

/// What it means that a secret cannot be read.
pub(super) fn no_secret(error: &ports::Error) -> Sent {
    tracing::warn!(
        error.operation = error.operation,
        error.code = error.code,
        "the target's secret cannot be read"
    );
    without("secret_unavailable", error.kind)
}

fn without(code: &'static str, kind: Kind) -> Sent {
    match kind {
        Kind::Refused => misshapen(),
        Kind::Unavailable | Kind::Behind => Sent::Later(Reason::new(code, "endpoint.auth"), None),
    }
}

fn misshapen() -> Sent {
    Sent::Trouble(Reason::new("target_misconfigured", "endpoint.auth"))
}

/// Adds the message's id and what proves where the request comes from.
pub(super) async fn authenticate(
    http: Http<'_>,
    id: &str,
    credential: &Credential,
    now: i64,
    request: &mut Request,
) -> Result<(), Sent> {
    set(&mut request.headers, webhook::ID_HEADER, id);
    set(&mut request.headers, webhook::TIMESTAMP_HEADER, &now.to_string());
    if let Auth::SigV4(sigv4) = &http.endpoint.auth {
        return sign(http, sigv4, now, request).await;
    }
    show_credential(&http.endpoint.auth, id, credential, now, request).ok_or_else(misshapen)
}

/// None if the secret is not of the right form.
fn show_credential(
    auth: &Auth,
    id: &str,
    credential: &Credential,
    now: i64,
    request: &mut Request,
) -> Option<()> {
    let secret = match credential {
        Credential::Fixed => return matches!(auth, Auth::None).then_some(()),
        Credential::AccessToken(shown) => return show(request, header::AUTHORIZATION, &shown.header),
        Credential::Secret(secret) => secret,
    };
    match auth {
        Auth::StandardWebhooks(_) => {
            let secrets = webhook::Secrets::parse(secret).ok()?;
            let signatures = secrets.sign(id, now, &request.body).ok()?;
            let value = HeaderValue::from_str(&signatures).ok()?;
            request.headers.insert(HeaderName::from_static(webhook::SIGNATURE_HEADER), value);
            Some(())
        }
        Auth::Basic(_) => show(request, header::AUTHORIZATION, &credentials::basic(secret).ok()?),
        Auth::Bearer(_) => show(request, header::AUTHORIZATION, &credentials::bearer(secret).ok()?),
        Auth::ApiKey { header, .. } => {
            let live = webhook::live(secret).ok()?;
            show(request, HeaderName::from_bytes(header.as_bytes()).ok()?, live.first()?)
        }
        Auth::None | Auth::OAuth2(_) | Auth::SigV4(_) => None,
    }
}

/// Signs the request as a service of AWS checks it: its time, host, content type and body.
async fn sign(http: Http<'_>, sigv4: &SigV4, now: i64, request: &mut Request) -> Result<(), Sent> {
    let region = sigv4.region(&request.url);
    let content_type = request.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let headers: Vec<_> =
        content_type.map(|value| (header::CONTENT_TYPE.as_str(), value)).into_iter().collect();
    let to_sign = ToSign {
        service: sigv4.service.as_str(),
        region: region.as_deref(),
        method: request.method.as_str(),
        url: request.url.as_str(),
        headers: &headers,
        body: &request.body,
        now,
    };
    let proofs = http.deps.signer.sign(&to_sign).await.map_err(|error| {
        tracing::warn!(
            error.operation = error.operation,
            error.code = error.code,
            "the request cannot be signed"
        );
        without("credentials_unavailable", error.kind)
    })?;
    for (name, value) in proofs {
        show(request, HeaderName::from_static(name), &value).ok_or_else(misshapen)?;
    }
    Ok(())
}

/// Sends a secret as a header, marked as one.
fn show(request: &mut Request, name: HeaderName, secret: &str) -> Option<()> {
    let mut value = HeaderValue::from_str(secret).ok()?;
    value.set_sensitive(true);
    request.headers.insert(name, value);
    Some(())
}
