//! Tokens: keyed hashes that keep values joinable and hide them.
//!
//! `dst1.<key id>.<HMAC-SHA-256>`, both base64url without padding: 8 and 43 characters. The hash is over a tag of the
//! type (`s`, `n`, `b`) and the value: the text that a string stands for, a number as it is written, `true` or `false`.
//! That normalisation is version 1, the `1` of the prefix.

use std::borrow::Cow;

use super::base64url;
use super::hash::{MacKey, expand, mac_key};
use crate::ports::KeyBytes;
use crate::scan::{Kind, Value};

/// Derives the token keys of attributes from the root of [`crate::ports::HashKey::Token`].
#[derive(Debug)]
pub struct TokenHasher {
    root: KeyBytes,
    key_id: String,
}

impl TokenHasher {
    /// From the root of one key version; the key id in the tokens commits to it.
    pub fn new(root: KeyBytes) -> Self {
        let commitment = expand(&root, &["commit"]);
        let key_id = base64url(commitment.get(..6).unwrap_or_default());
        Self { root, key_id }
    }

    /// The key of one attribute.
    pub fn attribute(&self, model: &str, attribute: &str) -> TokenKey {
        TokenKey {
            prefix: format!("dst1.{}.", self.key_id),
            tokens: mac_key(&self.root, &["token", model, attribute]),
            fingerprints: mac_key(&self.root, &["fingerprint", model, attribute]),
        }
    }
}

/// The keys of one (model, attribute).
#[derive(Debug)]
pub struct TokenKey {
    prefix: String,
    tokens: MacKey,
    fingerprints: MacKey,
}

impl TokenKey {
    /// Appends the token of a value, without quotes: it has only base64url and dots.
    pub fn write_token(&self, value: Value<'_>, out: &mut String) {
        out.push_str(&self.prefix);
        base64::Engine::encode_string(
            &base64::engine::general_purpose::URL_SAFE_NO_PAD,
            sign(&self.tokens, value),
            out,
        );
    }

    /// What a sealed value is recognised by where its ciphertext differs each time: 22 characters.
    pub fn fingerprint(&self, value: Value<'_>) -> String {
        base64url(sign(&self.fingerprints, value).get(..16).unwrap_or_default())
    }
}

fn sign(key: &MacKey, value: Value<'_>) -> [u8; 32] {
    let (tag, content) = match value.kind {
        Kind::String => (b"s", value.text().unwrap_or(Cow::Borrowed(""))),
        Kind::Number => (b"n", Cow::Borrowed(value.raw)),
        Kind::Boolean => (b"b", Cow::Borrowed(value.raw)),
        Kind::Null | Kind::Object | Kind::Array => (b"j", Cow::Borrowed(value.raw)),
    };
    key.sign_parts(&[tag, content.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(hasher: &TokenHasher, attribute: &str, raw: &str, kind: Kind) -> String {
        let mut out = String::new();
        hasher.attribute("customer", attribute).write_token(Value { raw, kind }, &mut out);
        out
    }

    #[test]
    fn equal_values_of_one_attribute_have_equal_tokens_and_nothing_else_has() {
        let hasher = TokenHasher::new(KeyBytes::new([1; 32]));
        let email = token(&hasher, "email", "\"a@example.com\"", Kind::String);
        assert_eq!(email, token(&hasher, "email", "\"\\u0061@example.com\"", Kind::String));
        assert_eq!(email.len(), "dst1.".len() + 8 + 1 + 43);
        assert_ne!(email, token(&hasher, "email2", "\"a@example.com\"", Kind::String));
        assert_ne!(token(&hasher, "x", "42", Kind::Number), token(&hasher, "x", "\"42\"", Kind::String));
        let other = TokenHasher::new(KeyBytes::new([2; 32]));
        assert_ne!(email.get(..13), token(&other, "email", "\"a@example.com\"", Kind::String).get(..13));
    }

    #[test]
    fn the_fingerprint_is_no_part_of_the_token() {
        let key = TokenHasher::new(KeyBytes::new([1; 32])).attribute("customer", "email");
        let value = Value { raw: "\"a\"", kind: Kind::String };
        let mut token = String::new();
        key.write_token(value, &mut token);
        assert!(!token.contains(&key.fingerprint(value)));
    }
}
