//! Keyed hashes: one root per family from the key service, one key per purpose by HKDF-Expand (RFC 5869, SHA-256).

use aws_lc_rs::{hkdf, hmac};

use super::base64url;
use crate::id::{RecordId, push_part};
use crate::ports::KeyBytes;
use crate::version::Version;

/// Expands a root into the key for a purpose; the parts stand in the info field behind their lengths.
pub(super) fn expand(root: &KeyBytes, parts: &[&str]) -> KeyBytes {
    let mut info = Vec::new();
    for part in parts {
        push_part(&mut info, part.as_bytes());
    }
    let mut key = KeyBytes::new([0; 32]);
    let info = [info.as_slice()];
    let prk = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, root.as_slice());
    // 32 bytes are within what SHA-256 can expand to, so neither call fails.
    if let Ok(okm) = prk.expand(&info, hkdf::HKDF_SHA256) {
        let _ = okm.fill(key.as_mut_slice());
    }
    key
}

pub(super) fn hmac_key(root: &KeyBytes, parts: &[&str]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, expand(root, parts).as_slice())
}

/// Makes record ids and subject ids.
#[derive(Debug)]
pub struct IdHasher {
    records: hmac::Key,
    subjects: hmac::Key,
}

impl IdHasher {
    /// From the root of [`crate::ports::HashKey::Id`].
    pub fn new(root: &KeyBytes) -> Self {
        Self { records: hmac_key(root, &["record"]), subjects: hmac_key(root, &["subject"]) }
    }

    /// The record id of (source, model, canonical key): 43 characters.
    pub fn rid(&self, source: &str, model: &str, canonical_key: &[u8]) -> RecordId {
        let mut input = Vec::with_capacity(source.len() + model.len() + canonical_key.len() + 12);
        for part in [source.as_bytes(), model.as_bytes(), canonical_key] {
            push_part(&mut input, part);
        }
        RecordId::from_wire(base64url(hmac::sign(&self.records, &input).as_ref()))
    }

    /// The id of a person, the same in every model: 43 characters.
    pub fn subject_key_id(&self, canonical_value: &[u8]) -> String {
        base64url(hmac::sign(&self.subjects, canonical_value).as_ref())
    }
}

/// Makes the keys and digests of the delivery ledger.
#[derive(Debug)]
pub struct LedgerHasher {
    rows: hmac::Key,
    digests: hmac::Key,
}

impl LedgerHasher {
    /// From the root of [`crate::ports::HashKey::Ledger`].
    pub fn new(root: &KeyBytes) -> Self {
        Self { rows: hmac_key(root, &["row"]), digests: hmac_key(root, &["digest"]) }
    }

    /// The ledger's key of one record at one target.
    pub fn row_key(&self, target: &str, rid: &RecordId) -> String {
        let mut input = Vec::with_capacity(target.len() + rid.as_str().len() + 8);
        push_part(&mut input, target.as_bytes());
        push_part(&mut input, rid.as_str().as_bytes());
        base64url(hmac::sign(&self.rows, &input).as_ref())
    }

    /// The digest over parts of a delivery.
    pub fn digest(&self, parts: &[&[u8]]) -> String {
        let mut context = hmac::Context::with_key(&self.digests);
        for part in parts {
            let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
            context.update(&length.to_be_bytes());
            context.update(part);
        }
        base64url(context.sign().as_ref())
    }
}

/// The event id: `evt_` and the hash of (record id, version, operation).
pub fn event_id(rid: &RecordId, version: &Version, operation: crate::change::Operation) -> crate::id::EventId {
    let mut input = Vec::with_capacity(128);
    for part in [rid.as_str(), version.as_str(), operation.as_str()] {
        push_part(&mut input, part.as_bytes());
    }
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &input);
    crate::id::EventId::from_wire(format!("evt_{}", base64url(hash.as_ref())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Operation;

    #[test]
    fn expansion_follows_rfc_5869() {
        // Expected: HMAC-SHA256(root, info || 0x01), the first block of HKDF-Expand.
        let root = KeyBytes::new([7; 32]);
        let mut input = Vec::new();
        push_part(&mut input, b"record");
        input.push(1);
        let expected = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]), &input);
        assert_eq!(expand(&root, &["record"]).as_slice(), expected.as_ref());
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
