//! Who sent a request: decided over the raw bytes, before anything in them is read.

use std::collections::BTreeMap;

use sync_domain::config::{Push, Source};
use sync_domain::id::SourceId;
use sync_domain::ports;
use sync_domain::webhook::{self, SIGNATURE_HEADER, TIMESTAMP_HEADER, TOLERANCE};

use crate::deps::Deps;
use crate::refusal::Refusal;
use crate::request::{Request, Route};

/// A source that has proven who it is.
#[derive(Debug, Clone, Copy)]
pub struct Authenticated<'a> {
    /// Its name.
    pub source: &'a SourceId,
    /// What it may write and how it counts.
    pub push: &'a Push,
}

/// What an unknown source's signature is checked against, so that it takes the same way to the same answer.
const DECOY: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

const INVALID_TIMESTAMP: &str = "invalid_timestamp";

/// Authenticates a request on the route that it came by; `now` is seconds since 1970.
pub async fn authenticate<'a>(
    request: &Request<'_>,
    deps: &'a Deps,
    now: i64,
) -> Result<Authenticated<'a>, Refusal> {
    let known = find(&deps.sources, request.source);
    match request.route {
        Route::Signed => {
            let headers = SignatureHeaders::read(request)?;
            let secret = known.and_then(|source| source.push.secret.as_deref());
            match (known, secret) {
                (Some(source), Some(secret)) => {
                    signed(&headers, secret, deps, now).await?;
                    Ok(source)
                }
                // Only what is wrong before any secret is looked at may be said.
                _ => match headers.verify(DECOY, now) {
                    Err(refusal) if refusal.code == INVALID_TIMESTAMP => Err(refusal),
                    _ => Err(Refusal::wrong_signature()),
                },
            }
        }
        Route::Iam => {
            let caller = request.gateway.request_context.authorizer.as_ref();
            let caller = caller.and_then(|authorizer| authorizer.iam.as_ref()?.user_arn.as_deref());
            let principal = known.and_then(|source| source.push.principal.as_deref());
            match (known, principal, caller) {
                (Some(source), Some(principal), Some(caller)) if is_principal(principal, caller) => {
                    Ok(source)
                }
                _ => Err(Refusal::wrong_principal()),
            }
        }
    }
}

fn find<'a>(sources: &'a BTreeMap<String, Source>, name: &str) -> Option<Authenticated<'a>> {
    let source = sources.get(name)?;
    Some(Authenticated { source: &source.source, push: source.push.as_ref()? })
}

/// What the signature covers, and the signature.
struct SignatureHeaders<'a> {
    id: &'a str,
    timestamp: &'a str,
    signatures: &'a str,
    body: &'a [u8],
}

impl<'a> SignatureHeaders<'a> {
    fn read(request: &'a Request<'_>) -> Result<Self, Refusal> {
        let missing = |header| {
            Refusal::new(401, "missing_signature", format!("send a {header} header (Standard Webhooks)"))
        };
        let timestamp = request.gateway.header(TIMESTAMP_HEADER).ok_or_else(|| missing(TIMESTAMP_HEADER))?;
        let signatures = request.gateway.header(SIGNATURE_HEADER).ok_or_else(|| missing(SIGNATURE_HEADER))?;
        Ok(Self { id: request.webhook_id, timestamp, signatures, body: &request.body })
    }

    fn verify(&self, secret: &str, now: i64) -> Result<(), Refusal> {
        let secrets = webhook::Secrets::parse(secret).map_err(|error| refusal(&error))?;
        secrets
            .verify(self.id, self.timestamp, self.signatures, self.body, now, TOLERANCE)
            .map_err(|error| refusal(&error))
    }
}

async fn signed(headers: &SignatureHeaders<'_>, name: &str, deps: &Deps, now: i64) -> Result<(), Refusal> {
    let secret = deps.secrets.get(name).await.map_err(|error| away(&error))?;
    let first = headers.verify(&secret, now);
    match first {
        // The source may have taken a new secret into use that this function has not seen yet.
        Err(refusal) if refusal == Refusal::wrong_signature() => match deps.secrets.refresh(name).await {
            Ok(fresh) => headers.verify(&fresh, now),
            Err(error) => {
                away(&error);
                Err(refusal)
            }
        },
        other => other,
    }
}

fn refusal(error: &webhook::Error) -> Refusal {
    match error {
        webhook::Error::NoMatch => Refusal::wrong_signature(),
        webhook::Error::Id => Refusal::new(400, "invalid_webhook_id", error.to_string()),
        webhook::Error::Timestamp => Refusal::new(
            401,
            INVALID_TIMESTAMP,
            "webhook-timestamp is the time of this attempt in seconds since 1970",
        ),
        webhook::Error::TooOld => Refusal::new(
            401,
            "timestamp_too_old",
            "webhook-timestamp is more than 5 minutes old: sign each attempt anew",
        ),
        webhook::Error::TooNew => Refusal::new(
            401,
            "timestamp_too_new",
            "webhook-timestamp is more than 5 minutes ahead: set the sender's clock",
        ),
        webhook::Error::Secret => {
            tracing::error!(error = %error, "the source's secret cannot be used");
            Refusal::unavailable(
                "the signature cannot be checked at the moment: send the request again later",
            )
        }
    }
}

fn away(error: &ports::Error) -> Refusal {
    tracing::error!(
        error.operation = error.operation,
        error.code = error.code,
        "the source's secret cannot be read"
    );
    Refusal::unavailable("the signature cannot be checked at the moment: send the request again later")
}

/// Whether a caller's ARN is the principal that a source names: the same ARN, or a session of that role.
///
/// A session's ARN lacks the role's path; a role's name is unique in its account, so that the name decides.
fn is_principal(principal: &str, caller: &str) -> bool {
    if principal == caller {
        return true;
    }
    let (Some(principal), Some(caller)) = (Arn::read(principal), Arn::read(caller)) else { return false };
    let role = principal.resource.strip_prefix("role/").and_then(|path| path.rsplit('/').next());
    let session = caller.resource.strip_prefix("assumed-role/").and_then(|rest| rest.split_once('/'));
    match (role, session) {
        (Some(role), Some((name, _))) => {
            principal.service == "iam"
                && caller.service == "sts"
                && principal.partition == caller.partition
                && principal.account == caller.account
                && role == name
                && !role.is_empty()
        }
        _ => false,
    }
}

/// The parts of the ARN of a principal; IAM and STS have no region.
struct Arn<'a> {
    partition: &'a str,
    service: &'a str,
    account: &'a str,
    resource: &'a str,
}

impl<'a> Arn<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        let (arn, partition, service) = (parts.next()?, parts.next()?, parts.next()?);
        let (region, account, resource) = (parts.next()?, parts.next()?, parts.next()?);
        (arn == "arn" && region.is_empty()).then_some(Self { partition, service, account, resource })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_matches_its_sessions_and_nobody_else() {
        const ROLE: &str = "arn:aws:iam::123456789012:role/partners/CrmPusher";
        for (principal, caller, expected) in [
            (ROLE, "arn:aws:sts::123456789012:assumed-role/CrmPusher/session-1", true),
            (ROLE, "arn:aws:sts::123456789012:assumed-role/CrmPusherX/session-1", false),
            (ROLE, "arn:aws:sts::123456789013:assumed-role/CrmPusher/session-1", false),
            (ROLE, "arn:aws-cn:sts::123456789012:assumed-role/CrmPusher/session-1", false),
            (ROLE, "arn:aws:sts::123456789012:assumed-role/CrmPusher", false),
            (ROLE, "arn:aws:iam::123456789012:user/CrmPusher", false),
            (ROLE, "arn:aws:sts::123456789012:federated-user/CrmPusher", false),
            (ROLE, "arn:aws:iam::123456789012:root", false),
            (ROLE, "", false),
            ("arn:aws:iam::123456789012:user/crm", "arn:aws:iam::123456789012:user/crm", true),
            ("arn:aws:iam::123456789012:user/crm", "arn:aws:iam::123456789012:user/x/crm", false),
            ("arn:aws:iam::123456789012:role/", "arn:aws:sts::123456789012:assumed-role//s", false),
        ] {
            assert_eq!(is_principal(principal, caller), expected, "{principal} {caller}");
        }
    }
}
