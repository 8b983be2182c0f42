use super::*;

const PLAIN: [u8; 32] = [9; 32];

/// Data key 32 x 09, nonce 12 x 03, model `customer`, attribute `national_id`, record `record-1`, value `"AB-123"`.
const VECTOR: &str = "dse1.drOIFj0vE7qcfzJH10MoYw.AwMDAwMDAwMDAwMD89WpX2SOWI75GSwHhQ5B9YFDWuT5iW-F";

fn rid(text: &str) -> RecordId {
    RecordId::from_wire(text)
}

fn sealing(model: &str, attribute: &str) -> SealingKey {
    SealingKey::new(&KeyBytes::new(PLAIN), model, attribute, 0).unwrap()
}

fn unwrapped() -> UnwrappedKey {
    let plain = KeyBytes::new(PLAIN);
    UnwrappedKey::new(&plain, &SealingKey::id_of(&plain)).unwrap()
}

#[test]
fn what_is_sealed_opens_as_it_was_written() {
    for value in ["\"AB-123\"", "42", "1.10", "{\"a\": [1, 2]}", "\"\"", "\"é漢\""] {
        let sealed = sealing("customer", "national_id").seal(value, &rid("r"), [3; 12]).unwrap();
        assert!(sealed.text.starts_with(SEALED_PREFIX));
        assert_eq!(sealed_parts(&sealed.text).unwrap().1.get(..16), Some(sealed.nonce.as_str()));
        assert_eq!(
            open(&unwrapped(), &sealed.text, "customer", "national_id", &rid("r")).as_deref(),
            Ok(value)
        );
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let sealed = sealing("customer", "national_id").seal("\"AB-123\"", &rid("r"), [3; 12]).unwrap().text;
    for at in 0..sealed.len() {
        for bit in 0..8 {
            let mut bytes = sealed.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            let Ok(tampered) = String::from_utf8(bytes) else { continue };
            let opened = open(&unwrapped(), &tampered, "customer", "national_id", &rid("r"));
            assert!(opened.is_err(), "byte {at}, bit {bit}");
        }
    }
    for length in 0..sealed.len() {
        assert!(
            open(&unwrapped(), sealed.get(..length).unwrap(), "customer", "national_id", &rid("r")).is_err(),
            "{length}"
        );
    }
}

#[test]
fn a_value_moved_to_another_place_is_refused() {
    let places =
        [("customer", "a", "r1"), ("customer", "b", "r1"), ("partner", "a", "r1"), ("customer", "a", "r2")];
    for (model, attribute, record) in places {
        let sealed = sealing(model, attribute).seal("1", &rid(record), [3; 12]).unwrap().text;
        for (other_model, other_attribute, other_record) in places {
            let same = (model, attribute, record) == (other_model, other_attribute, other_record);
            let opened = open(&unwrapped(), &sealed, other_model, other_attribute, &rid(other_record));
            assert_eq!(opened.is_ok(), same);
        }
    }
}

#[test]
fn a_key_that_is_not_the_sealing_one_is_refused_before_it_is_used() {
    let key_id = SealingKey::id_of(&KeyBytes::new(PLAIN));
    assert_eq!(UnwrappedKey::new(&KeyBytes::new([8; 32]), &key_id).unwrap_err(), OpenError::WrongKey);
    let other =
        UnwrappedKey::new(&KeyBytes::new([8; 32]), &SealingKey::id_of(&KeyBytes::new([8; 32]))).unwrap();
    let sealed = sealing("m", "a").seal("1", &rid("r"), [3; 12]).unwrap().text;
    assert_eq!(open(&other, &sealed, "m", "a", &rid("r")), Err(OpenError::WrongKey));
}

#[test]
fn a_key_ends_by_time_and_by_count() {
    let mut key = sealing("m", "a");
    assert!(key.fresh(KEY_LIFETIME_S - 1));
    assert!(!key.fresh(KEY_LIFETIME_S));
    key.seals_left = 1;
    key.seal("1", &rid("r"), [0; 12]).unwrap();
    assert!(!key.fresh(0));
    assert_eq!(key.seal("1", &rid("r"), [1; 12]), Err(Error::UsedUp));
}

#[test]
fn the_format_stays_what_it_is() {
    // The test vector of docs/SEALED-VALUES.md, which an independent implementation opens.
    let sealed = sealing("customer", "national_id").seal("\"AB-123\"", &rid("record-1"), [3; 12]).unwrap();
    assert_eq!(sealed.text, VECTOR);
}
