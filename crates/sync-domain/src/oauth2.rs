//! OAuth 2.0, client credentials (RFC 6749, section 4.4): what a token endpoint is asked, and what its answer means.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::config::{ClientAuth, OAuth2};
use crate::credentials::bearer_token;
use crate::webhook::Part;

/// How long a token is good whose answer does not say it.
const UNSAID: Duration = Duration::from_secs(300);
/// No token is kept for longer, whatever its answer says.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);
/// The most of a token's life that is left unused, so that none ends on its way to the target.
const SPARE: Duration = Duration::from_secs(60);

/// The secret of a client that is none. It never says anything of the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the secret of OAuth 2.0 is JSON with `client_id` and `client_secret`, without control characters, or two of them as `current` and `previous`"
)]
pub struct Malformed;

/// A client as the token endpoint knows it.
pub struct Client {
    id: Zeroizing<String>,
    secret: Zeroizing<String>,
}

impl fmt::Debug for Client {
    /// Shows nothing of the two.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// What a token endpoint is sent by `POST`, as `application/x-www-form-urlencoded`.
pub struct Question {
    /// The header `authorization`; none where the body holds the client.
    pub authorization: Option<Zeroizing<String>>,
    /// The body.
    pub body: Zeroizing<String>,
}

impl fmt::Debug for Question {
    /// Shows nothing: both may hold the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question").finish_non_exhaustive()
    }
}

/// The live clients in a secret's text, the current one first: `{"client_id":"…","client_secret":"…"}`, or while the
/// secret changes `{"current":{…},"previous":{…}}`.
pub fn clients(text: &str) -> Result<Vec<Client>, Malformed> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct One {
        client_id: Part,
        client_secret: Part,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Two {
        current: One,
        #[serde(default)]
        previous: Option<One>,
    }

    let written: Vec<One> = match serde_json::from_str(text) {
        Ok(one) => vec![one],
        Err(_) => {
            let two: Two = serde_json::from_str(text).map_err(|_| Malformed)?;
            std::iter::once(two.current).chain(two.previous).collect()
        }
    };
    let fits = |text: &str| !text.is_empty() && !text.chars().any(char::is_control);
    let clients = written.into_iter().map(|one| {
        let client = Client { id: one.client_id.0, secret: one.client_secret.0 };
        if fits(&client.id) && fits(&client.secret) { Ok(client) } else { Err(Malformed) }
    });
    clients.collect()
}

impl Client {
    /// The question for a token. With Basic both halves are form-encoded first, as RFC 6749 has it (section 2.3.1): there
    /// is no other way for a colon or a letter beyond ASCII.
    pub fn question(&self, oauth2: &OAuth2) -> Question {
        // With room for all of it: a text that grows leaves copies of the secret behind.
        let mut body = Zeroizing::new(String::with_capacity(
            256 + 3 * (self.id.len() + self.secret.len() + length(&oauth2.scope) + length(&oauth2.audience)),
        ));
        pair("grant_type", "client_credentials", &mut body);
        if let Some(scope) = &oauth2.scope {
            pair("scope", scope, &mut body);
        }
        if let Some(audience) = &oauth2.audience {
            pair("audience", audience, &mut body);
        }
        match oauth2.client_auth {
            ClientAuth::Body => {
                pair("client_id", &self.id, &mut body);
                pair("client_secret", &self.secret, &mut body);
                Question { authorization: None, body }
            }
            ClientAuth::Basic => {
                let mut both =
                    Zeroizing::new(String::with_capacity(1 + 3 * (self.id.len() + self.secret.len())));
                both.extend(form_urlencoded::byte_serialize(self.id.as_bytes()));
                both.push(':');
                both.extend(form_urlencoded::byte_serialize(self.secret.as_bytes()));
                let encoded = Zeroizing::new(STANDARD.encode(both.as_bytes()));
                let authorization = Zeroizing::new(["Basic ", encoded.as_str()].concat());
                Question { authorization: Some(authorization), body }
            }
        }
    }
}

fn length(text: &Option<String>) -> usize {
    text.as_deref().map_or(0, str::len)
}

fn pair(name: &str, value: &str, out: &mut String) {
    if !out.is_empty() {
        out.push('&');
    }
    out.push_str(name);
    out.push('=');
    out.extend(form_urlencoded::byte_serialize(value.as_bytes()));
}

/// An access token.
#[derive(Clone)]
pub struct Token {
    /// The header `authorization` that shows it.
    pub header: Zeroizing<String>,
    /// How long it is good from its answer on.
    pub lasts: Duration,
}

impl fmt::Debug for Token {
    /// Shows nothing of the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("lasts", &self.lasts).finish_non_exhaustive()
    }
}

impl Token {
    /// How long the token is used from its answer on, between eight and nine tenths of its life: a spare end, so that it is
    /// still good when it arrives, and a part by chance (`random` is an evenly distributed number), so that instances
    /// that began together do not all ask for the next one together.
    pub fn kept(&self, random: u64) -> Duration {
        let tenth = self.lasts / 10;
        let by_chance = random.checked_rem(millis(tenth)).unwrap_or_default();
        self.lasts.saturating_sub(tenth.min(SPARE)).saturating_sub(Duration::from_millis(by_chance))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What a token endpoint's answer means.
#[derive(Debug)]
pub enum Answer {
    /// A token.
    Token(Token),
    /// It does not take the client: another one may do. With the error's name where it is one of the RFC's.
    Refused(&'static str),
    /// It may work later.
    Later,
    /// Nothing that a token endpoint answers: somebody has to look at the configuration.
    Wrong,
}

/// The errors of RFC 6749, section 5.2. Any other text is the endpoint's own and may repeat what it was sent.
const ERRORS: [&str; 6] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
];

/// Reads a token endpoint's answer; the body is none if it was too long.
///
/// Servers do not agree on how they refuse a client: 401 and 400 with several errors, 403 too.
pub fn answer(status: u16, body: Option<&[u8]>) -> Answer {
    match status {
        200..=299 => body.and_then(token).map_or(Answer::Wrong, Answer::Token),
        400 | 401 | 403 => Answer::Refused(body.and_then(error).unwrap_or_default()),
        408 | 425 | 429 | 500..=599 => Answer::Later,
        _ => Answer::Wrong,
    }
}

fn token(body: &[u8]) -> Option<Token> {
    #[derive(Deserialize)]
    struct Written {
        access_token: Part,
        token_type: String,
        #[serde(default)]
        expires_in: Option<Seconds>,
    }

    // Seconds as a number; some servers write them as a text.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Seconds {
        Number(f64),
        Text(String),
    }

    let written: Written = serde_json::from_slice(body).ok()?;
    if !written.token_type.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let seconds = match written.expires_in {
        None => None,
        Some(Seconds::Number(seconds)) => Some(seconds),
        Some(Seconds::Text(text)) => Some(text.trim().parse().ok()?),
    };
    let lasts = match seconds {
        None => UNSAID,
        // What is beyond any duration is beyond the longest too.
        Some(seconds) => {
            Duration::try_from_secs_f64(seconds.max(0.0)).map_or(LONGEST, |lasts| lasts.min(LONGEST))
        }
    };
    Some(Token { header: bearer_token(&written.access_token.0).ok()?, lasts })
}

fn error(body: &[u8]) -> Option<&'static str> {
    #[derive(Deserialize)]
    struct Written {
        error: String,
    }

    let written: Written = serde_json::from_slice(body).ok()?;
    ERRORS.into_iter().find(|error| *error == written.error)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn oauth2(more: &str) -> OAuth2 {
        let text = format!(r#"{{"token_url":"https://login.example/token","secret":"datasync/x"{more}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    fn one(text: &str) -> Client {
        clients(text).unwrap().remove(0)
    }

    #[test]
    fn a_client_shows_itself_as_the_rfc_says() {
        // The example of RFC 6749, section 2.3.1.
        let client = one(r#"{"client_id":"s6BhdRkqt3","client_secret":"7Fjfp0ZBr1KtDRbnfVdmIw"}"#);
        let question = client.question(&oauth2(""));
        assert_eq!(question.body.as_str(), "grant_type=client_credentials");
        assert_eq!(
            question.authorization.unwrap().as_str(),
            "Basic czZCaGRSa3F0Mzo3RmpmcDBaQnIxS3REUmJuZlZkbUl3"
        );
        let question = client.question(&oauth2(
            r#","client_auth":"body","scope":"events:write a","audience":"https://api.example/?x=1&y""#,
        ));
        assert!(question.authorization.is_none());
        assert_eq!(
            question.body.as_str(),
            "grant_type=client_credentials&scope=events%3Awrite+a&audience=https%3A%2F%2Fapi.example%2F%3Fx%3D1%26y&client_id=s6BhdRkqt3&client_secret=7Fjfp0ZBr1KtDRbnfVdmIw"
        );
    }

    #[test]
    fn a_colon_or_an_umlaut_moves_no_border() {
        let client = one(r#"{"client_id":"a:b","client_secret":"p+q ü&x=1"}"#);
        let shown = client.question(&oauth2("")).authorization.unwrap();
        let decoded = STANDARD.decode(shown.strip_prefix("Basic ").unwrap()).unwrap();
        assert_eq!(String::from_utf8(decoded).unwrap(), "a%3Ab:p%2Bq+%C3%BC%26x%3D1");
        let body = client.question(&oauth2(r#","client_auth":"body""#)).body;
        assert!(body.ends_with("&client_id=a%3Ab&client_secret=p%2Bq+%C3%BC%26x%3D1"));
    }

    #[test]
    fn a_secret_holds_one_client_or_two() {
        let ids = |text: &str| {
            clients(text).map(|all| all.iter().map(|one| one.id.to_string()).collect::<Vec<_>>())
        };
        assert_eq!(ids(r#" {"client_secret":"s","client_id":"a"} "#).unwrap(), ["a"]);
        let a = r#"{"client_id":"a","client_secret":"s"}"#;
        let b = r#"{"client_id":"b","client_secret":"s"}"#;
        assert_eq!(ids(&format!(r#"{{"previous":{a},"current":{b}}}"#)).unwrap(), ["b", "a"]);
        assert_eq!(ids(&format!(r#"{{"current":{b}}}"#)).unwrap(), ["b"]);
        for wrong in [
            "",
            "a:s",
            r#"{"client_id":"a"}"#,
            r#"{"client_id":"","client_secret":"s"}"#,
            r#"{"client_id":"a","client_secret":""}"#,
            r#"{"client_id":"a","client_secret":"s\n"}"#,
            r#"{"client_id":"a","client_secret":"s","scope":"x"}"#,
            r#"{"username":"a","password":"s"}"#,
            r#"{"current":{"client_id":"a","client_secret":"s"},"previous":{}}"#,
            r#"{"previous":{"client_id":"a","client_secret":"s"}}"#,
        ] {
            assert_eq!(ids(wrong), Err(Malformed), "{wrong}");
        }
    }

    #[track_caller]
    fn lasts(expires_in: &str) -> Option<u64> {
        let body = format!(r#"{{"access_token":"t","token_type":"Bearer"{expires_in}}}"#);
        match answer(200, Some(body.as_bytes())) {
            Answer::Token(token) => Some(token.lasts.as_secs()),
            _ => None,
        }
    }

    #[test]
    fn a_token_lasts_as_long_as_its_answer_says() {
        assert_eq!(lasts(r#","expires_in":3600"#), Some(3_600));
        assert_eq!(lasts(r#","expires_in":"3599","scope":"x""#), Some(3_599));
        assert_eq!(lasts(r#","expires_in":59.9"#), Some(59));
        assert_eq!(lasts(""), Some(300));
        assert_eq!(lasts(r#","expires_in":null"#), Some(300));
        assert_eq!(lasts(r#","expires_in":0"#), Some(0));
        assert_eq!(lasts(r#","expires_in":-5"#), Some(0));
        assert_eq!(lasts(r#","expires_in":1e300"#), Some(86_400));
        assert_eq!(lasts(r#","expires_in":"soon""#), None);
        assert_eq!(lasts(r#","expires_in":[1]"#), None);
    }

    #[test]
    fn only_a_bearer_token_is_a_token() {
        for wrong in [
            "",
            "<html>",
            r#"{"access_token":"t"}"#,
            r#"{"token_type":"bearer"}"#,
            r#"{"access_token":"t","token_type":"mac"}"#,
            r#"{"access_token":"","token_type":"bearer"}"#,
            r#"{"access_token":"a b","token_type":"bearer"}"#,
            r#"{"access_token":"t\r\nx: y","token_type":"bearer"}"#,
        ] {
            assert!(matches!(answer(200, Some(wrong.as_bytes())), Answer::Wrong), "{wrong}");
        }
        assert!(matches!(answer(200, None), Answer::Wrong), "an answer without an end");
        let right = br#"{"access_token":"eyJ.a-b_c~+/==","token_type":"BEARER"}"#;
        let Answer::Token(token) = answer(200, Some(right)) else { panic!("it is one") };
        assert_eq!(token.header.as_str(), "Bearer eyJ.a-b_c~+/==");
        assert_eq!(format!("{token:?}"), "Token { lasts: 300s, .. }");
    }

    #[test]
    fn a_refusal_is_told_from_an_outage() {
        let refused = |status, body: &str| match answer(status, Some(body.as_bytes())) {
            Answer::Refused(error) => Some(error),
            _ => None,
        };
        assert_eq!(refused(401, r#"{"error":"invalid_client"}"#), Some("invalid_client"));
        let described = r#"{"error":"invalid_scope","error_description":"hunter2"}"#;
        assert_eq!(refused(400, described), Some("invalid_scope"));
        // What is not the RFC's may repeat what it was sent.
        assert_eq!(refused(403, r#"{"error":"hunter2"}"#), Some(""));
        assert_eq!(refused(401, "no JSON"), Some(""));
        for status in [408, 425, 429, 500, 502, 503, 504] {
            assert!(matches!(answer(status, Some(b"{}")), Answer::Later), "{status}");
        }
        for status in [301, 302, 307, 404, 405, 415] {
            assert!(matches!(answer(status, Some(b"{}")), Answer::Wrong), "{status}");
        }
    }

    proptest! {
        #[test]
        fn a_token_is_renewed_shortly_before_its_end_at_a_time_by_chance(
            seconds in 0_u64..100_000, random: u64
        ) {
            let token = Token { header: Zeroizing::default(), lasts: Duration::from_secs(seconds) };
            let kept = token.kept(random);
            prop_assert!(kept >= token.lasts / 10 * 8);
            prop_assert!(token.lasts.saturating_sub(kept) >= (token.lasts / 10).min(SPARE));
        }
    }

    #[test]
    fn instances_that_begin_together_ask_at_different_times() {
        let token = Token { header: Zeroizing::default(), lasts: Duration::from_secs(3_600) };
        let mut times: Vec<_> =
            (0..20_u64).map(|number| token.kept(number.wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect();
        times.sort_unstable();
        times.dedup();
        assert_eq!(times.len(), 20);
        assert!(times[19] - times[0] > Duration::from_secs(180), "{times:?}");
    }
}
