//! Keyed hashes: one root per family from the key service, one key per purpose by HKDF-Expand (RFC 5869, SHA-256).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::base64url;
use crate::id::{RecordId, push_part};
use crate::ports::KeyBytes;
use crate::version::Version;

/// A key for HMAC-SHA-256 with its first block already hashed, so that a short message costs two blocks only (half of
/// what the keyed hash of `aws-lc-rs` costs, which allocates a context each time).
#[derive(Clone)]
pub(super) struct MacKey(Hmac<Sha256>);

impl std::fmt::Debug for MacKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MacKey")
    }
}

impl MacKey {
    fn new(key: &KeyBytes) -> Self {
        // Keys of any length are taken, so this never falls back.
        let zeros = || Hmac::new(&Default::default());
        Self(Hmac::new_from_slice(key.as_slice()).unwrap_or_else(|_| zeros()))
    }

    /// The keyed hash of some bytes.
    pub(super) fn sign(&self, message: &[u8]) -> [u8; 32] {
        self.sign_parts(&[message])
    }

    /// The keyed hash of parts one behind the other.
    pub(super) fn sign_parts(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.0.clone();
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    }
}

/// Expands a root into the key for a purpose; the parts stand in the info field behind their lengths. One block is all
/// that 32 bytes need: T(1) = HMAC(root, info | 0x01).
pub(super) fn expand(root: &KeyBytes, parts: &[&str]) -> KeyBytes {
    let mut info = Vec::new();
    for part in parts {
        push_part(&mut info, part.as_bytes());
    }
    info.push(1);
    KeyBytes::new(MacKey::new(root).sign(&info))
}

pub(super) fn mac_key(root: &KeyBytes, parts: &[&str]) -> MacKey {
    MacKey::new(&expand(root, parts))
}

/// Makes record ids and subject ids.
#[derive(Debug)]
pub struct IdHasher {
    records: MacKey,
    subjects: MacKey,
    contents: MacKey,
}

impl IdHasher {
    /// From the root of [`crate::ports::HashKey::Id`].
    pub fn new(root: &KeyBytes) -> Self {
        let key = |purpose| mac_key(root, &[purpose]);
        Self { records: key("record"), subjects: key("subject"), contents: key("content") }
    }

    /// The record id of (source, model, canonical key): 43 characters.
    pub fn rid(&self, source: &str, model: &str, canonical_key: &[u8]) -> RecordId {
        let mut input = Vec::with_capacity(source.len() + model.len() + canonical_key.len() + 12);
        for part in [source.as_bytes(), model.as_bytes(), canonical_key] {
            push_part(&mut input, part);
        }
        RecordId::from_wire(base64url(&self.records.sign(&input)))
    }

    /// The id of a person, the same in every model: 43 characters.
    pub fn subject_key_id(&self, canonical_value: &[u8]) -> String {
        base64url(&self.subjects.sign(canonical_value))
    }

    /// A hash of the parts of a content, to tell it from another without saying anything of it: 43 characters.
    pub fn content(&self, parts: &[&[u8]]) -> String {
        let mut input = Vec::with_capacity(parts.iter().map(|part| part.len() + 4).sum());
        parts.iter().for_each(|part| push_part(&mut input, part));
        base64url(&self.contents.sign(&input))
    }
}

/// Makes the keys and digests of the delivery ledger.
#[derive(Debug)]
pub struct LedgerHasher {
    rows: MacKey,
    digests: MacKey,
}

impl LedgerHasher {
    /// From the root of [`crate::ports::HashKey::Ledger`].
    pub fn new(root: &KeyBytes) -> Self {
        Self { rows: mac_key(root, &["row"]), digests: mac_key(root, &["digest"]) }
    }

    /// The ledger's key of one record at one target.
    pub fn row_key(&self, target: &str, rid: &RecordId) -> String {
        let mut input = Vec::with_capacity(target.len() + rid.as_str().len() + 8);
        push_part(&mut input, target.as_bytes());
        push_part(&mut input, rid.as_str().as_bytes());
        base64url(&self.rows.sign(&input))
    }

    /// The digest over parts of a delivery.
    pub fn digest(&self, parts: &[&[u8]]) -> String {
        let mut input = Vec::with_capacity(parts.iter().map(|part| part.len() + 4).sum());
        parts.iter().for_each(|part| push_part(&mut input, part));
        base64url(&self.digests.sign(&input))
    }
}

/// The event id: `evt_` and the hash of (record id, version, operation).
pub fn event_id(
    rid: &RecordId,
    version: &Version,
    operation: crate::change::Operation,
) -> crate::id::EventId {
    let mut input = Vec::with_capacity(128);
    for part in [rid.as_str(), version.as_str(), operation.as_str()] {
        push_part(&mut input, part.as_bytes());
    }
    let mut id = String::with_capacity(47);
    id.push_str("evt_");
    URL_SAFE_NO_PAD.encode_string(Sha256::digest(&input), &mut id);
    crate::id::EventId::from_wire(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Operation;

    #[test]
    fn expansion_follows_rfc_5869() {
        // A second implementation: that of aws-lc.
        use aws_lc_rs::hkdf::{HKDF_SHA256, Prk};
        let root = KeyBytes::new([7; 32]);
        let mut info = Vec::new();
        push_part(&mut info, b"record");
        let mut expected = [0; 32];
        Prk::new_less_safe(HKDF_SHA256, &[7; 32])
            .expand(&[&info], HKDF_SHA256)
            .unwrap()
            .fill(&mut expected)
            .unwrap();
        assert_eq!(expand(&root, &["record"]).as_slice(), expected);
        assert_ne!(expand(&root, &["ab", "c"]), expand(&root, &["a", "bc"]));
    }

    #[test]
    fn ids_differ_by_each_of_their_parts() {
        let ids = IdHasher::new(&KeyBytes::new([1; 32]));
        let rid = ids.rid("crm", "customer", b"42");
        assert_eq!(rid.as_str().len(), 43);
        assert_eq!(rid, ids.rid("crm", "customer", b"42"));
        assert_ne!(rid, ids.rid("crm2", "customer", b"42"));
        assert_ne!(rid, ids.rid("crm", "customers", b"42"));
        assert_ne!(rid, ids.rid("crm", "customer", b"43"));
        assert_ne!(rid, IdHasher::new(&KeyBytes::new([2; 32])).rid("crm", "customer", b"42"));
        let other_root = IdHasher::new(&KeyBytes::new([2; 32]));
        assert_ne!(ids.content(&[b"ab", b"c"]), ids.content(&[b"a", b"bc"]));
        assert_ne!(ids.content(&[b"ab"]), other_root.content(&[b"ab"]));
        let version = Version::from_log(0, 1, 1);
        let event = event_id(&rid, &version, Operation::Create);
        assert_eq!(event.as_str().len(), 47);
        assert!(!event.as_str().contains('.'));
        assert_ne!(event, event_id(&rid, &version, Operation::Delete));
        assert_ne!(event, event_id(&rid, &Version::from_log(0, 1, 2), Operation::Create));
    }

    #[test]
    fn ledger_digests_keep_their_parts_apart() {
        let ledger = LedgerHasher::new(&KeyBytes::new([1; 32]));
        assert_ne!(ledger.digest(&[b"ab", b"c"]), ledger.digest(&[b"a", b"bc"]));
        let rid = RecordId::from_wire("r");
        assert_ne!(ledger.row_key("a", &rid), ledger.row_key("b", &rid));
    }
}
