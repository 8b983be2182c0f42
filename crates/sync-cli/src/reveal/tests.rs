use async_trait::async_trait;
use sync_domain::ports::{DataKey, HashKey, KeyBytes};
use sync_domain::protect::SealingKey;

use super::*;

const KEY: [u8; 32] = [7; 32];
const VALUE: &str = "\"AB123456C\"";

/// A Keys table with one key, and a key service that unwraps it for its own context alone.
struct Keys {
    id: String,
}

#[async_trait]
impl KeyTable for Keys {
    async fn put(&self, _: &str, _: &str, _: &str, _: &[u8]) -> ports::Result<()> {
        Err(refused())
    }

    async fn get(&self, key_id: &str) -> ports::Result<Option<(String, String, Vec<u8>)>> {
        let known = key_id == self.id;
        Ok(known.then(|| ("customer".to_owned(), "national_id".to_owned(), b"wrapped".to_vec())))
    }
}

#[async_trait]
impl KeyService for Keys {
    async fn hash_root(&self, _: HashKey, _: u32) -> ports::Result<KeyBytes> {
        Err(refused())
    }

    async fn new_data_key(&self, _: &str, _: &str) -> ports::Result<DataKey> {
        Err(refused())
    }

    async fn unwrap_data_key(&self, model: &str, attribute: &str, wrapped: &[u8]) -> ports::Result<KeyBytes> {
        let granted = (model, attribute, wrapped) == ("customer", "national_id", b"wrapped".as_slice());
        granted.then(|| KeyBytes::new(KEY)).ok_or_else(refused)
    }
}

fn refused() -> ports::Error {
    ports::Error {
        kind: ports::Kind::Refused,
        operation: "kms:Decrypt",
        code: "AccessDenied".to_owned(),
        source: None,
    }
}

fn sealed() -> (Keys, String) {
    let plain = KeyBytes::new(KEY);
    let mut key = SealingKey::new(&plain, "customer", "national_id", 0).unwrap();
    let sealed = key.seal(VALUE, &RecordId::from_wire("rid-1"), [1; 12]).unwrap();
    (Keys { id: SealingKey::id_of(&plain) }, sealed.text)
}

fn command(model: &str, attribute: &str, rid: &str) -> Reveal {
    Reveal {
        sealed: None,
        model: model.parse().unwrap(),
        attribute: attribute.to_owned(),
        rid: rid.to_owned(),
        keys_table: None,
        value_key: None,
        outputs: None,
    }
}

async fn opened(keys: &Keys, sealed: &str, command: &Reveal) -> Result<String, String> {
    let value = reveal(sealed, command, keys, keys).await;
    value.map(|value| value.to_string()).map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_sealed_value_comes_back_as_it_was_written() {
    let (keys, sealed) = sealed();
    let own = command("customer", "national_id", "rid-1");
    assert_eq!(opened(&keys, &sealed, &own).await.as_deref(), Ok(VALUE));
}

#[tokio::test]
async fn what_does_not_fit_does_not_open_and_says_why() {
    let (keys, sealed) = sealed();
    let own = command("customer", "national_id", "rid-1");
    let other = command("customer", "email", "rid-1");
    let error = opened(&keys, &sealed, &other).await.unwrap_err();
    assert_eq!(error, "this value is of customer, attribute national_id; say --model and --attribute so");
    let moved = command("customer", "national_id", "rid-2");
    assert!(opened(&keys, &sealed, &moved).await.unwrap_err().contains("sealed for another record"));
    let stranger = Keys { id: "another".to_owned() };
    assert!(opened(&stranger, &sealed, &own).await.unwrap_err().contains("the Keys table has no key"));
    let mut flipped = sealed.clone();
    let last = flipped.pop();
    flipped.push(if last == Some('A') { 'Q' } else { 'A' });
    for error in [opened(&keys, &flipped, &own).await, opened(&keys, "dse1.x", &own).await] {
        assert!(!error.unwrap_err().contains("AB123456C"));
    }
}

#[test]
fn nothing_is_asked_of_aws_without_a_sealed_value_and_a_place_to_look() {
    let mut out = Vec::new();
    let own = command("customer", "national_id", "rid-1");
    let none: [(&str, &str); 0] = [];
    let error = run(&own, &none, &mut "tok".as_bytes(), &mut out).unwrap_err();
    assert_eq!(error.to_string(), "this is no sealed value of format dse1");
    let (_, sealed) = sealed();
    let error = run(&own, &none, &mut format!("\"{sealed}\"\n").as_bytes(), &mut out).unwrap_err();
    assert_eq!(error.to_string(), "say --keys-table, set KEYS_TABLE, or give --outputs with KeysTableName");
    let table = [("KEYS_TABLE", "t"), ("VALUE_KEY_ARN", "")];
    let error = run(&own, &table, &mut sealed.as_bytes(), &mut out).unwrap_err();
    assert_eq!(error.to_string(), "say --value-key, set VALUE_KEY_ARN, or give --outputs with ValueKeyArn");
    assert!(out.is_empty());
}
