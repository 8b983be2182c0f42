//! Standard Webhooks signatures, written a second time with other cryptography than the product's.

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// How far a timestamp may be away.
const TOLERANCE_SECONDS: i64 = 300;

/// Makes a secret out of bytes: `whsec_…`.
pub fn secret(bytes: &[u8]) -> String {
    format!("whsec_{}", STANDARD.encode(bytes))
}

fn mac(secret: &str, id: &str, timestamp: i64, body: &[u8]) -> Result<Hmac<Sha256>> {
    let encoded = secret.strip_prefix("whsec_").context("a secret starts with whsec_")?;
    let key = STANDARD.decode(encoded).context("a secret is base64")?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).context("the key does not fit")?;
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    Ok(mac)
}

/// The value of `webhook-signature`.
pub fn sign(secret: &str, id: &str, timestamp: i64, body: &[u8]) -> Result<String> {
    let signature = mac(secret, id, timestamp, body)?.finalize().into_bytes();
    Ok(format!("v1,{}", STANDARD.encode(signature)))
}

/// Checks the three headers over the raw bytes; the error says what is wrong.
pub fn verify(secret: &str, headers: &http::HeaderMap, body: &[u8], now: i64) -> Result<(), &'static str> {
    let header = |name| {
        headers
            .get(name)
            .and_then(|value: &http::HeaderValue| value.to_str().ok())
            .ok_or("a header is missing")
    };
    let id = header("webhook-id")?;
    let timestamp: i64 = header("webhook-timestamp")?.parse().map_err(|_| "the timestamp is not a number")?;
    if (now - timestamp).abs() > TOLERANCE_SECONDS {
        return Err("the timestamp is too far away");
    }
    for signature in header("webhook-signature")?.split(' ') {
        let Some(encoded) = signature.strip_prefix("v1,") else { continue };
        let Ok(signature) = STANDARD.decode(encoded) else { continue };
        if mac(secret, id, timestamp, body).is_ok_and(|mac| mac.verify_slice(&signature).is_ok()) {
            return Ok(());
        }
    }
    Err("no signature fits")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks specification.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIMESTAMP: i64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;

    fn headers(signature: &str) -> http::HeaderMap {
        let mut headers = http::HeaderMap::new();
        headers.insert("webhook-id", ID.parse().unwrap());
        headers.insert("webhook-timestamp", TIMESTAMP.to_string().parse().unwrap());
        headers.insert("webhook-signature", signature.parse().unwrap());
        headers
    }

    #[test]
    fn the_specifications_example_is_met() {
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(sign(SECRET, ID, TIMESTAMP, BODY).unwrap(), expected);
        assert_eq!(verify(SECRET, &headers(expected), BODY, TIMESTAMP), Ok(()));
    }

    #[test]
    fn another_body_or_time_is_refused() {
        let signature = sign(SECRET, ID, TIMESTAMP, BODY).unwrap();
        assert!(verify(SECRET, &headers(&signature), b"{}", TIMESTAMP).is_err());
        assert!(verify(SECRET, &headers(&signature), BODY, TIMESTAMP + 301).is_err());
        assert!(verify(SECRET, &headers("v1,AAAA v2,x"), BODY, TIMESTAMP).is_err());
    }
}
