//! Sealed values, format 1.
//!
//! `dse1.<key id>.<payload>`, both base64url without padding.
//! - key id: the first 16 bytes of HKDF-Expand-SHA-256(data key, info = part("commit")), 22 characters. GCM alone does
//!   not commit to its key; who opens checks the id against the unwrapped key first.
//! - payload: nonce (12 bytes) | ciphertext | tag (16 bytes) of AES-256-GCM under the data key.
//! - plaintext: the JSON value as it was written, quotes included, so that its type comes back.
//! - associated data: part("dse1") part(key id) part(model) part(attribute) part(record id), where part(x) is the length
//!   of x in 4 bytes, big-endian, and x. A value moved to another record, attribute or model does not open.
//!
//! The data key is wrapped by KMS under the encryption context (model, attribute) and stands under its id in the Keys
//! table. `docs/SEALED-VALUES.md` has the same text for people who write another reader, with test vectors.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::hash::expand;
use super::{Error, base64url};
use crate::id::{RecordId, push_part};
use crate::ports::KeyBytes;

/// What every sealed value begins with.
pub const SEALED_PREFIX: &str = "dse1.";

/// How often one key seals: far below the 2^32 random nonces that NIST SP 800-38D allows.
pub const SEALS_PER_KEY: u32 = 1 << 20;

/// How long one key seals, in seconds.
pub const KEY_LIFETIME_S: i64 = 300;

/// Characters of the payload that hold the nonce: what a sealed value is told apart by.
const NONCE_CHARACTERS: usize = 16;

/// A data key that seals the values of one (model, attribute).
#[derive(Debug)]
pub struct SealingKey {
    key: LessSafeKey,
    prefix: String,
    /// Associated data up to the record id.
    aad: Vec<u8>,
    seals_left: u32,
    expires_at: i64,
}

/// A value that has been sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The sealed value, without quotes: it has only base64url and dots.
    pub text: String,
    /// The 16 characters that tell it apart.
    pub nonce: String,
}

impl SealingKey {
    /// The key's id: under it the wrapped key must stand in the Keys table before the first seal.
    pub fn id_of(plain: &KeyBytes) -> String {
        base64url(expand(plain, &["commit"]).get(..16).unwrap_or_default())
    }

    /// Makes the key ready to seal for (model, attribute) from `now` (seconds since 1970) on.
    pub fn new(plain: &KeyBytes, model: &str, attribute: &str, now: i64) -> Result<Self, Error> {
        let key_id = Self::id_of(plain);
        let key = UnboundKey::new(&AES_256_GCM, plain.as_slice()).map_err(|_| Error::Refused)?;
        Ok(Self {
            key: LessSafeKey::new(key),
            aad: aad_prefix(&key_id, model, attribute),
            prefix: format!("{SEALED_PREFIX}{key_id}."),
            seals_left: SEALS_PER_KEY,
            expires_at: now + KEY_LIFETIME_S,
        })
    }

    /// Whether the key may still seal at `now`.
    pub fn fresh(&self, now: i64) -> bool {
        now < self.expires_at && self.seals_left > 0
    }

    /// Seals a value, given as JSON text, for the record.
    pub fn seal(&mut self, value: &str, rid: &RecordId, nonce: [u8; 12]) -> Result<Sealed, Error> {
        self.seals_left = self.seals_left.checked_sub(1).ok_or(Error::UsedUp)?;
        let mut aad = Vec::with_capacity(self.aad.len() + 4 + rid.as_str().len());
        aad.extend_from_slice(&self.aad);
        push_part(&mut aad, rid.as_str().as_bytes());
        let mut payload = Vec::with_capacity(12 + value.len() + 16);
        payload.extend_from_slice(&nonce);
        payload.extend_from_slice(value.as_bytes());
        let plaintext = payload.get_mut(12..).ok_or(Error::Refused)?;
        let tag = self
            .key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(&aad), plaintext)
            .map_err(|_| Error::Refused)?;
        payload.extend_from_slice(tag.as_ref());
        let mut text = String::with_capacity(self.prefix.len() + payload.len() * 4 / 3 + 4);
        text.push_str(&self.prefix);
        URL_SAFE_NO_PAD.encode_string(&payload, &mut text);
        let nonce =
            text.get(self.prefix.len()..self.prefix.len() + NONCE_CHARACTERS).unwrap_or_default().to_owned();
        Ok(Sealed { text, nonce })
    }
}

/// Why a sealed value does not open. Nothing of the value stands in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not `dse1.<22 characters>.<payload>`.
    #[error("this is no sealed value of format dse1")]
    Format,
    /// The key is another than the one whose id the value bears.
    #[error("the key is not the one that sealed this value")]
    WrongKey,
    /// Changed, or moved from another record, attribute or model.
    #[error("the value was changed, or sealed for another record, attribute or model")]
    Tampered,
}

/// The parts of a sealed value: key id and payload, as text.
pub fn sealed_parts(sealed: &str) -> Option<(&str, &str)> {
    let (key_id, payload) = sealed.strip_prefix(SEALED_PREFIX)?.split_once('.')?;
    (key_id.len() == 22 && payload.len() >= NONCE_CHARACTERS).then_some((key_id, payload))
}

/// A data key as it came out of the key service, its id checked.
#[derive(Debug)]
pub struct UnwrappedKey {
    key: LessSafeKey,
    key_id: String,
}

impl UnwrappedKey {
    /// Checks that the key is the one with this id.
    pub fn new(plain: &KeyBytes, key_id: &str) -> Result<Self, OpenError> {
        let own_id = SealingKey::id_of(plain);
        verify_slices_are_equal(own_id.as_bytes(), key_id.as_bytes()).map_err(|_| OpenError::WrongKey)?;
        let key = UnboundKey::new(&AES_256_GCM, plain.as_slice()).map_err(|_| OpenError::WrongKey)?;
        Ok(Self { key: LessSafeKey::new(key), key_id: own_id })
    }
}

/// Opens a sealed value of (model, attribute, record): the JSON value as it was written.
pub fn open(
    key: &UnwrappedKey,
    sealed: &str,
    model: &str,
    attribute: &str,
    rid: &RecordId,
) -> Result<String, OpenError> {
    let (key_id, payload) = sealed_parts(sealed).ok_or(OpenError::Format)?;
    if key_id != key.key_id {
        return Err(OpenError::WrongKey);
    }
    let mut payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| OpenError::Format)?;
    let (nonce, ciphertext) = payload.split_first_chunk_mut::<12>().ok_or(OpenError::Format)?;
    let mut aad = aad_prefix(key_id, model, attribute);
    push_part(&mut aad, rid.as_str().as_bytes());
    let plaintext = key
        .key
        .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(&aad), ciphertext)
        .map_err(|_| OpenError::Tampered)?;
    std::str::from_utf8(plaintext).map(str::to_owned).map_err(|_| OpenError::Tampered)
}

fn aad_prefix(key_id: &str, model: &str, attribute: &str) -> Vec<u8> {
    let mut aad = Vec::new();
    for part in ["dse1", key_id, model, attribute] {
        push_part(&mut aad, part.as_bytes());
    }
    aad
}

#[cfg(test)]
mod tests;
