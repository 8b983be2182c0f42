//! The access token of a target with OAuth 2.0: one for all requests of this process, until shortly before its end.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use sync_domain::config::OAuth2;
use sync_domain::delivery::backoff::retry_after;
use sync_domain::oauth2::{self, Answer, Question, Token};
use sync_domain::outcome::Reason;
use sync_http::{Bytes, Client, HeaderMap, HeaderValue, Method, Request, Response, header};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::Http;
use super::auth::no_secret;
use super::request::USER_AGENT;
use crate::send::Sent;

/// More than any token's answer has.
const MAX_ANSWER: usize = 64 << 10;

/// Asks a token endpoint for tokens and keeps the last one.
pub struct AccessTokens {
    http: Client,
    /// How many times the token endpoint's answer was waited for to its end.
    ended: AtomicU64,
    /// Held while it is asked: who needs a token at the same time waits, and takes what comes of it.
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    token: Option<Kept>,
    failed: Option<(u64, Sent)>,
}

/// A token, and which time of asking it came of.
#[derive(Clone)]
struct Kept {
    header: Zeroizing<String>,
    until: i64,
    round: u64,
}

/// A token that is shown to the target.
#[derive(Clone)]
pub(crate) struct Shown {
    /// The value of the header `authorization`.
    pub(crate) header: Zeroizing<String>,
    round: u64,
}

/// Why there is no token.
enum No {
    /// The endpoint does not take this client, or the secret holds none: another secret may do.
    Client(Sent),
    /// Another secret would change nothing.
    Token(Sent),
}

impl fmt::Debug for AccessTokens {
    /// Shows nothing of a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessTokens").finish_non_exhaustive()
    }
}

impl AccessTokens {
    /// Without any token. The client has a guard of its own: the token endpoint is another address than the target.
    pub fn new(http: Client) -> Self {
        Self { http, ended: AtomicU64::new(0), held: Mutex::default() }
    }

    /// A token to show. The target has refused that of `refused`, so it is a younger one then.
    pub(crate) async fn get(
        &self,
        http: Http<'_>,
        oauth2: &OAuth2,
        refused: Option<&Shown>,
    ) -> Result<Shown, Sent> {
        let deps = http.deps;
        let asked = self.ended.load(Ordering::SeqCst);
        let mut held = self.held.lock().await;
        let good = |kept: &&Kept| {
            refused.is_none_or(|shown| kept.round > shown.round)
                // What came of an asking that ended while this one waited is as good as one's own.
                && ((deps.now)() < kept.until || kept.round > asked)
        };
        if let Some(kept) = held.token.as_ref().filter(good) {
            return Ok(Shown { header: kept.header.clone(), round: kept.round });
        }
        if let Some((_, failed)) = held.failed.as_ref().filter(|(round, _)| *round > asked) {
            return Err(failed.clone());
        }
        held.token = None;
        let answer = self.ask(http, oauth2).await;
        let round = self.ended.fetch_add(1, Ordering::SeqCst).saturating_add(1);
        match answer {
            Ok(token) => {
                let kept = i64::try_from(token.kept((deps.random)()).as_secs()).unwrap_or_default();
                let header = token.header;
                let until = (deps.now)().saturating_add(kept);
                held.token = Some(Kept { header: header.clone(), until, round });
                Ok(Shown { header, round })
            }
            Err(failed) => {
                held.failed = Some((round, failed.clone()));
                Err(failed)
            }
        }
    }

    /// A new token, for the secret as it is known; where that does not do, for the secret as it stands now.
    async fn ask(&self, http: Http<'_>, oauth2: &OAuth2) -> Result<Token, Sent> {
        let secret = http.deps.secrets.get(&oauth2.secret).await.map_err(|error| no_secret(&error))?;
        let refused = match self.for_secret(http, oauth2, &secret).await {
            Ok(token) => return Ok(token),
            Err(No::Token(sent)) => return Err(sent),
            Err(No::Client(sent)) => sent,
        };
        let fresh = http.deps.secrets.refresh(&oauth2.secret).await.map_err(|error| no_secret(&error))?;
        if fresh == secret {
            return Err(refused);
        }
        self.for_secret(http, oauth2, &fresh).await.map_err(|no| match no {
            No::Client(sent) | No::Token(sent) => sent,
        })
    }

    /// A token for the first of a secret's live clients that the endpoint takes.
    async fn for_secret(&self, http: Http<'_>, oauth2: &OAuth2, secret: &str) -> Result<Token, No> {
        let mut refused = misconfigured("endpoint.auth");
        for client in oauth2::clients(secret).unwrap_or_default() {
            match self.for_client(http, oauth2, client.question(oauth2)).await {
                Err(No::Client(sent)) => refused = sent,
                other => return other,
            }
        }
        Err(No::Client(refused))
    }

    async fn for_client(&self, http: Http<'_>, oauth2: &OAuth2, question: Question) -> Result<Token, No> {
        let malformed = || No::Client(misconfigured("endpoint.auth"));
        let request = request(http, oauth2, &question).ok_or_else(malformed)?;
        let response = self.http.send(request).await.map_err(|error| No::Token(unanswered(error)))?;
        let status = response.status;
        match oauth2::answer(status, response.body.as_deref()) {
            Answer::Token(token) => Ok(token),
            Answer::Refused(error) => {
                let place = format!("token endpoint, status {status} {error}");
                Err(No::Client(misconfigured(place.trim_end())))
            }
            Answer::Wrong => {
                Err(No::Token(misconfigured(&format!("token endpoint, no token in status {status}"))))
            }
            Answer::Later => Err(No::Token(later(&response, (http.deps.now)()))),
        }
    }
}

fn misconfigured(place: &str) -> Sent {
    Sent::Trouble(Reason::new("target_misconfigured", place))
}

/// A target whose tokens nobody gives out is away itself, unless the endpoint asks for time.
fn later(response: &Response, now: i64) -> Sent {
    let reason =
        Reason::new("access_token_unavailable", format!("token endpoint, status {}", response.status));
    let asked = response.header("retry-after").and_then(|text| retry_after(text, now));
    if response.status >= 500 && asked.is_none() { Sent::Away(reason) } else { Sent::Later(reason, asked) }
}

fn unanswered(error: sync_http::Error) -> Sent {
    let place = format!("token endpoint, {}", error.code());
    match error {
        sync_http::Error::Malformed | sync_http::Error::Refused(_) => misconfigured(&place),
        sync_http::Error::Name
        | sync_http::Error::Connect
        | sync_http::Error::Broken
        | sync_http::Error::Timeout => Sent::Away(Reason::new("access_token_unavailable", place)),
    }
}

fn request(http: Http<'_>, oauth2: &OAuth2, question: &Question) -> Option<Request> {
    let mut headers = HeaderMap::new();
    headers.insert(header::USER_AGENT, USER_AGENT);
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    if let Some(authorization) = &question.authorization {
        let mut value = HeaderValue::from_str(authorization).ok()?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    Some(Request {
        method: Method::POST,
        url: oauth2.token_url.clone(),
        headers,
        body: Bytes::copy_from_slice(question.body.as_bytes()),
        timeout: http.endpoint.timeout,
        max_body: MAX_ANSWER,
    })
}
