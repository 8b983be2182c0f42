//! How values are protected: masked, tokenized, sealed. Keys, nonces and time come in as arguments.

mod hash;
mod mask;
mod seal;
mod token;

pub use self::hash::{IdHasher, LedgerHasher, event_id};
pub use self::mask::mask;
pub use self::seal::{
    KEY_LIFETIME_S, OpenError, SEALED_PREFIX, SEALS_PER_KEY, Sealed, SealingKey, UnwrappedKey, open,
    sealed_parts,
};
pub use self::token::{TokenHasher, TokenKey};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Gives nonces: 96 random bits each, never the same twice.
pub trait Nonces {
    /// The next nonce.
    fn next(&mut self) -> [u8; 12];
}

/// A key ran out, or the cryptographic library refused; the record is tried again under a new key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The key has sealed as often as it may.
    #[error("the sealing key is used up")]
    UsedUp,
    /// The library refused.
    #[error("the cryptographic library refused")]
    Refused,
}

fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
