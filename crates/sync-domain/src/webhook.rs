//! Standard Webhooks 1.0.0 over bytes: what a source signs its pushes with, and what deliveries are signed with.
//!
//! A signature is `v1,` and the base64 of HMAC-SHA-256 over `<id>.<timestamp>.<body>`. A header may hold several,
//! separated by spaces, so that both sides can change a secret without a gap.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use zeroize::Zeroizing;

/// The header with the id of the message; the same on every attempt.
pub const ID_HEADER: &str = "webhook-id";
/// The header with the time of the attempt, in seconds since 1970.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// The header with the signatures.
pub const SIGNATURE_HEADER: &str = "webhook-signature";
/// How far the clocks of the two sides may be apart, as the reference libraries have it.
pub const TOLERANCE: Duration = Duration::from_secs(300);

/// More signatures than any rotation needs are not looked at, so that a header cannot buy computing time.
const MAX_SIGNATURES: usize = 8;

/// Why a signature, or what belongs to it, is refused. It never says anything of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not `whsec_` and the base64 of 24 to 64 bytes, or not one or two of them.
    #[error(
        "a secret is `whsec_` and the base64 of 24 to 64 bytes; a secret's text is one, or JSON with `current` and `previous`"
    )]
    Secret,
    /// An id that is empty, holds a dot (it would let the parts be split in another way), a space or a control character.
    #[error("a webhook id is 1 to 256 visible characters without a dot")]
    Id,
    /// Not seconds since 1970 in decimal digits.
    #[error("a webhook timestamp is a whole number of seconds")]
    Timestamp,
    /// Too old.
    #[error("the webhook timestamp is too old")]
    TooOld,
    /// Ahead of the receiver's clock.
    #[error("the webhook timestamp is too far ahead")]
    TooNew,
    /// No signature fits.
    #[error("no signature fits")]
    NoMatch,
}

/// The live secrets of one source or target: one, or two while they are being changed.
pub struct Secrets(Vec<hmac::Key>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

impl Secrets {
    /// Reads the text of a secret as it stands in the secret store; see [`live`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        live(text)?.iter().map(|secret| key(secret)).collect::<Result<_, _>>().map(Self)
    }

    /// Signs a message with every live secret: the value of [`SIGNATURE_HEADER`].
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> Result<String, Error> {
        check_id(id)?;
        let timestamp = timestamp.to_string();
        let mut header = String::new();
        for key in &self.0 {
            if !header.is_empty() {
                header.push(' ');
            }
            header.push_str("v1,");
            STANDARD.encode_string(mac(key, id, &timestamp, body), &mut header);
        }
        Ok(header)
    }

    /// Verifies the three headers over the raw bytes of a body; `now` is seconds since 1970.
    ///
    /// The time is looked at last: who cannot sign learns nothing of this side's clock.
    pub fn verify(
        &self,
        id: &str,
        timestamp: &str,
        signatures: &str,
        body: &[u8],
        now: i64,
        tolerance: Duration,
    ) -> Result<(), Error> {
        check_id(id)?;
        let digits = !timestamp.is_empty() && timestamp.bytes().all(|b| b.is_ascii_digit());
        let sent = timestamp.parse::<i64>().ok().filter(|_| digits).ok_or(Error::Timestamp)?;
        let expected: Vec<_> = self.0.iter().map(|key| mac(key, id, timestamp, body)).collect();
        let fits = signatures
            .split(' ')
            .take(MAX_SIGNATURES)
            .filter_map(|signature| STANDARD.decode(signature.strip_prefix("v1,")?).ok())
            .any(|given| expected.iter().any(|tag| same(tag.as_ref(), &given)));
        if !fits {
            return Err(Error::NoMatch);
        }
        let tolerance = i64::try_from(tolerance.as_secs()).unwrap_or(i64::MAX);
        if sent < now.saturating_sub(tolerance) {
            Err(Error::TooOld)
        } else if sent > now.saturating_add(tolerance) {
            Err(Error::TooNew)
        } else {
            Ok(())
        }
    }
}

/// A part of a secret's JSON, wiped when dropped.
#[derive(Deserialize)]
#[serde(from = "String")]
pub(crate) struct Part(pub(crate) Zeroizing<String>);

impl From<String> for Part {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

/// The live values in a secret's text: the text itself, or `current` and then `previous` of a JSON object.
pub fn live(text: &str) -> Result<Vec<Zeroizing<String>>, Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Pair {
        current: Part,
        #[serde(default)]
        previous: Option<Part>,
    }

    let text = text.trim();
    let values = if text.starts_with('{') {
        let pair: Pair = serde_json::from_str(text).map_err(|_| Error::Secret)?;
        std::iter::once(pair.current).chain(pair.previous).map(|value| value.0).collect()
    } else {
        vec![Zeroizing::new(text.to_owned())]
    };
    if values.iter().any(|value| value.is_empty()) { Err(Error::Secret) } else { Ok(values) }
}

fn key(secret: &str) -> Result<hmac::Key, Error> {
    let encoded = secret.strip_prefix("whsec_").ok_or(Error::Secret)?;
    let bytes = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| Error::Secret)?);
    if !(24..=64).contains(&bytes.len()) {
        return Err(Error::Secret);
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

fn check_id(id: &str) -> Result<(), Error> {
    let fits = id.bytes().all(|b| b.is_ascii_graphic() && b != b'.');
    if fits && (1..=256).contains(&id.len()) { Ok(()) } else { Err(Error::Id) }
}

fn mac(key: &hmac::Key, id: &str, timestamp: &str, body: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        context.update(part);
    }
    context.sign()
}

fn same(expected: &[u8], given: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(expected, given).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    // The vector of the reference libraries (standard-webhooks/standard-webhooks, every language's test of `sign`).
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIMESTAMP: i64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    const OTHER: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn verify(
        secret: &str,
        id: &str,
        timestamp: &str,
        signatures: &str,
        body: &[u8],
        now: i64,
    ) -> Result<(), Error> {
        Secrets::parse(secret).unwrap().verify(id, timestamp, signatures, body, now, TOLERANCE)
    }

    #[test]
    fn signs_as_the_reference_libraries_do() {
        let secrets = Secrets::parse(SECRET).unwrap();
        assert_eq!(secrets.sign(ID, TIMESTAMP, BODY).unwrap(), SIGNATURE);
        assert_eq!(verify(SECRET, ID, "1614265330", SIGNATURE, BODY, TIMESTAMP), Ok(()));
    }

    #[test]
    fn nothing_that_was_signed_can_be_changed() {
        let check = |id: &str, timestamp: &str, body: &[u8]| {
            verify(SECRET, id, timestamp, SIGNATURE, body, TIMESTAMP).unwrap_err()
        };
        assert_eq!(check("msg_other", "1614265330", BODY), Error::NoMatch);
        assert_eq!(check(ID, "1614265331", BODY), Error::NoMatch);
        assert_eq!(check(ID, "01614265330", BODY), Error::NoMatch);
        for at in 0..BODY.len() {
            let mut body = BODY.to_vec();
            body[at] ^= 1;
            assert_eq!(check(ID, "1614265330", &body), Error::NoMatch);
        }
        let mut cut = SIGNATURE.to_owned();
        cut.truncate(20);
        for wrong in [
            "",
            "v1,",
            "v1",
            " ",
            "v1a,g0hM9SsE",
            SIGNATURE.trim_start_matches("v1,"),
            &SIGNATURE.replace("v1", "v2"),
            &cut,
        ] {
            let result = verify(SECRET, ID, "1614265330", wrong, BODY, TIMESTAMP);
            assert_eq!(result, Err(Error::NoMatch), "{wrong}");
        }
        assert_eq!(verify(OTHER, ID, "1614265330", SIGNATURE, BODY, TIMESTAMP), Err(Error::NoMatch));
    }

    #[test]
    fn the_parts_cannot_be_split_in_another_way() {
        let signature = Secrets::parse(SECRET).unwrap().sign("msg", 1, b"2.x").unwrap();
        assert_eq!(verify(SECRET, "msg", "1", &signature, b"2.x", 1), Ok(()));
        assert_eq!(verify(SECRET, "msg.1", "2", &signature, b"x", 1), Err(Error::Id));
        for id in ["", "a b", "a\nb", "ä", &"a".repeat(257)] {
            assert_eq!(verify(SECRET, id, "1", &signature, b"2.x", 1), Err(Error::Id), "{id}");
        }
    }

    #[test]
    fn the_time_must_be_near() {
        let at = |now| verify(SECRET, ID, "1614265330", SIGNATURE, BODY, now);
        assert_eq!(at(TIMESTAMP + 300), Ok(()));
        assert_eq!(at(TIMESTAMP + 301), Err(Error::TooOld));
        assert_eq!(at(TIMESTAMP - 300), Ok(()));
        assert_eq!(at(TIMESTAMP - 301), Err(Error::TooNew));
        for text in ["", "-1", "+1", "1.0", " 1", "1e3", "99999999999999999999"] {
            assert_eq!(verify(SECRET, ID, text, SIGNATURE, BODY, 1), Err(Error::Timestamp), "{text}");
        }
    }

    #[test]
    fn two_secrets_live_side_by_side_while_one_is_changed() {
        let both = format!(r#"{{"current":"{OTHER}","previous":"{SECRET}"}}"#);
        let header = Secrets::parse(&both).unwrap().sign(ID, TIMESTAMP, BODY).unwrap();
        assert_eq!(header.split(' ').count(), 2);
        assert!(header.ends_with(SIGNATURE), "the older secret signs too");
        for receiver in [SECRET, OTHER, both.as_str()] {
            assert_eq!(verify(receiver, ID, "1614265330", &header, BODY, TIMESTAMP), Ok(()));
        }
        assert_eq!(
            verify(&both, ID, "1614265330", SIGNATURE, BODY, TIMESTAMP),
            Ok(()),
            "a sender with the older one"
        );
        let behind_others = format!("v1a,xx v1,AAAA {SIGNATURE}");
        assert_eq!(verify(SECRET, ID, "1614265330", &behind_others, BODY, TIMESTAMP), Ok(()));
        let behind_too_many = format!("{}{SIGNATURE}", "v1,AAAA ".repeat(8));
        assert_eq!(verify(SECRET, ID, "1614265330", &behind_too_many, BODY, TIMESTAMP), Err(Error::NoMatch));
    }

    #[test]
    fn weak_and_malformed_secrets_are_refused() {
        let short = format!("whsec_{}", STANDARD.encode([7; 23]));
        let long = format!("whsec_{}", STANDARD.encode([7; 65]));
        for text in [
            "",
            "whsec_",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_???",
            "{}",
            r#"{"current":""}"#,
            &short,
            &long,
        ] {
            assert_eq!(Secrets::parse(text).unwrap_err(), Error::Secret, "{text}");
        }
        assert_eq!(format!("{:?}", Secrets::parse(SECRET).unwrap()), "Secrets(1)");
    }
}
