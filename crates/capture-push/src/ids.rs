//! Identifiers that only the push endpoint makes.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sync_domain::id::push_part;

/// The change id where the source sends no version: the place of the change among all that the source ever sent.
pub fn queued_change(source: &str, webhook_id: &str, index: usize) -> String {
    let index = u32::try_from(index).unwrap_or(u32::MAX).to_be_bytes();
    format!("chg_{}", URL_SAFE_NO_PAD.encode(hash(&[source.as_bytes(), webhook_id.as_bytes(), &index])))
}

/// The id under which a request is remembered.
pub fn request(source: &str, webhook_id: &str) -> String {
    URL_SAFE_NO_PAD.encode(hash(&[b"request", source.as_bytes(), webhook_id.as_bytes()]))
}

fn hash(parts: &[&[u8]]) -> Vec<u8> {
    let mut input = Vec::new();
    for part in parts {
        push_part(&mut input, part);
    }
    digest(&SHA256, &input).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn change_ids_differ_by_source_request_and_index() {
        let id = queued_change("shop", "msg_1", 0);
        assert_eq!(id.len(), 47);
        assert_eq!(id, queued_change("shop", "msg_1", 0));
        for other in [
            queued_change("shop2", "msg_1", 0),
            queued_change("shop", "msg_2", 0),
            queued_change("shop", "msg_1", 1),
        ] {
            assert_ne!(id, other);
        }
    }
}
