//! What a secret becomes in the header `authorization`: user name and password, or a token.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::webhook::{self, Part};

/// Why a secret cannot be sent. It never says anything of the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not the JSON that Basic authentication takes, or a name or password that it cannot carry.
    #[error(
        "the secret of Basic authentication is JSON with `username` (without a colon) and `password`, without control characters"
    )]
    User,
    /// Not a token.
    #[error("a bearer token is letters, digits and - . _ ~ + /, perhaps with = at its end")]
    Token,
}

/// User name and password as RFC 7617 writes them, in UTF-8, out of `{"username":"…","password":"…"}`. A colon in the
/// name would move the border between the two, so it is refused.
pub fn basic(secret: &str) -> Result<Zeroizing<String>, Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct User {
        username: Part,
        password: Part,
    }

    let user: User = serde_json::from_str(secret).map_err(|_| Error::User)?;
    let (name, password) = (user.username.0, user.password.0);
    let control = |text: &str| text.chars().any(char::is_control);
    if name.contains(':') || control(&name) || control(&password) || (name.is_empty() && password.is_empty())
    {
        return Err(Error::User);
    }
    let pair = Zeroizing::new([name.as_str(), ":", password.as_str()].concat());
    let encoded = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
    Ok(Zeroizing::new(["Basic ", encoded.as_str()].concat()))
}

/// A token as RFC 6750 writes it, out of a secret's text as [`webhook::live`] reads it: the current one is sent.
pub fn bearer(secret: &str) -> Result<Zeroizing<String>, Error> {
    let live = webhook::live(secret).map_err(|_| Error::Token)?;
    bearer_token(live.first().ok_or(Error::Token)?)
}

/// The header for a token as it is.
pub fn bearer_token(token: &str) -> Result<Zeroizing<String>, Error> {
    let signs = token.trim_end_matches('=');
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b);
    if signs.is_empty() || !signs.bytes().all(fits) {
        return Err(Error::Token);
    }
    Ok(Zeroizing::new(["Bearer ", token].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_go_as_the_rfc_shows_them() {
        // The two examples of RFC 7617, sections 2 and 2.1.
        let text = |secret| basic(secret).unwrap().to_string();
        assert_eq!(
            text(r#"{"username":"Aladdin","password":"open sesame"}"#),
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        );
        assert_eq!(text(r#"{"username":"test","password":"123£"}"#), "Basic dGVzdDoxMjPCow==");
        // Only the first colon divides: the password may hold more.
        assert_eq!(text(r#"{"password":"a:\"b","username":"u"}"#), "Basic dTphOiJi");
    }

    #[test]
    fn what_would_be_read_in_another_way_is_no_user() {
        for wrong in [
            "",
            "u:p",
            r#"{"username":"u"}"#,
            r#"{"username":"u:v","password":"p"}"#,
            r#"{"username":"u","password":"p\n"}"#,
            r#"{"username":"u\u0000","password":"p"}"#,
            r#"{"username":"","password":""}"#,
            r#"{"username":"u","password":"p","pasword":"q"}"#,
        ] {
            assert_eq!(basic(wrong), Err(Error::User), "{wrong}");
        }
    }

    #[test]
    fn a_token_is_a_token_and_nothing_else() {
        assert_eq!(bearer(" aZ9-._~+/==\n").unwrap().as_str(), "Bearer aZ9-._~+/==");
        assert_eq!(bearer(r#"{"current":"new","previous":"old"}"#).unwrap().as_str(), "Bearer new");
        for wrong in ["", "=", "a b", "a=b", "a,b", "é", "a\r\nx: y", r#"{"token":"a"}"#] {
            assert_eq!(bearer(wrong), Err(Error::Token), "{wrong}");
        }
    }
}
