//! Sealed values taken out of whole events: each opens in its own place, and in no other.

use std::collections::BTreeMap;

use super::*;
use crate::protect::{OpenError, UnwrappedKey, open, sealed_parts};

const MODEL: &str = "
  a: { class: sensitive, protect: encrypt }
  b: { class: sensitive, protect: encrypt, as: nested.b }
  \"l[].c\": { class: sensitive, protect: encrypt }
  j: { class: sensitive, type: json, protect: encrypt }
";

/// A sealed value where it was found: attribute, record id, and what it opens to.
struct Found {
    attribute: &'static str,
    rid: String,
    sealed: String,
    clear: String,
}

fn unwrapped(rig: &Rig, attribute: &str) -> UnwrappedKey {
    let index = rig.policy.attributes.iter().position(|known| known.path == attribute).unwrap();
    UnwrappedKey::new(&data_key(index), &SealingKey::id_of(&data_key(index))).unwrap()
}

/// The sealed values of two records, out of the bodies of their events.
fn found(rig: &mut Rig) -> Vec<Found> {
    let mut found = Vec::new();
    for (rid, n) in [("r1", 1), ("r2", 2)] {
        rig.rid = RecordId::from_wire(rid);
        let record = record(&format!(
            r#""a":"a{n}","b":{n}.10,"l":[{{"c":"c{n}"}},{{"c":"d{n}"}}],"j":{{"k" : [{n}]}}"#
        ));
        let event = rig.event_of(&Change { after: Some(&record), ..sample() });
        let body: serde_json::Value = serde_json::from_str(event.body()).unwrap();
        let after = &body["data"]["after"];
        for (attribute, value, clear) in [
            ("a", &after["a"], format!("\"a{n}\"")),
            ("b", &after["nested"]["b"], format!("{n}.10")),
            ("l[].c", &after["l"][0]["c"], format!("\"c{n}\"")),
            ("l[].c", &after["l"][1]["c"], format!("\"d{n}\"")),
            ("j", &after["j"], format!("{{\"k\" : [{n}]}}")),
        ] {
            found.push(Found {
                attribute,
                rid: rid.to_owned(),
                sealed: value.as_str().unwrap().to_owned(),
                clear,
            });
        }
    }
    found
}

#[test]
fn each_sealed_value_opens_in_its_own_place_as_it_was_written() {
    let mut rig = Rig::new(MODEL);
    for Found { attribute, rid, sealed, clear } in found(&mut rig) {
        let opened = open(&unwrapped(&rig, attribute), &sealed, "m", attribute, &RecordId::from_wire(rid));
        assert_eq!(opened, Ok(clear));
    }
}

#[test]
fn values_swapped_between_two_records_or_two_attributes_do_not_open() {
    let mut rig = Rig::new(MODEL);
    let all = found(&mut rig);
    let mut refused = 0;
    for value in &all {
        for place in &all {
            let same = value.rid == place.rid && value.attribute == place.attribute;
            // The reader believes the place where the value stands, with that place's key...
            let rid = RecordId::from_wire(place.rid.as_str());
            let by_place = open(&unwrapped(&rig, place.attribute), &value.sealed, "m", place.attribute, &rid);
            // ... or fetches the key that the value names, as `reveal` does.
            let by_value = open(&unwrapped(&rig, value.attribute), &value.sealed, "m", place.attribute, &rid);
            assert_eq!(
                (by_place.is_ok(), by_value.is_ok()),
                (same, same),
                "{} {} at {} {}",
                value.attribute,
                value.rid,
                place.attribute,
                place.rid
            );
            refused += usize::from(!same);
        }
        let other_model = open(
            &unwrapped(&rig, value.attribute),
            &value.sealed,
            "n",
            value.attribute,
            &RecordId::from_wire(value.rid.as_str()),
        );
        assert_eq!(other_model, Err(OpenError::Tampered));
    }
    // 10 values in 10 places, less those in their own, where the two elements of one array count as one place.
    assert_eq!(refused, 100 - (6 + 8));
}

#[test]
fn a_value_out_of_an_event_with_any_byte_changed_does_not_open() {
    let mut rig = Rig::new(MODEL);
    let all = found(&mut rig);
    let Found { attribute, rid, sealed, .. } = &all[4];
    let (key, rid) = (unwrapped(&rig, attribute), RecordId::from_wire(rid.as_str()));
    for at in 0..sealed.len() {
        for byte in 0..=0x7F_u8 {
            let mut bytes = sealed.clone().into_bytes();
            if bytes[at] == byte {
                continue;
            }
            bytes[at] = byte;
            let changed = String::from_utf8(bytes).unwrap();
            assert!(open(&key, &changed, "m", attribute, &rid).is_err(), "byte {at} as {byte:#x}");
        }
    }
    // Parts of two seals put together: the payload of one behind the key id of the other.
    let (own, _) = sealed_parts(sealed).unwrap();
    for other in all.iter().filter(|other| other.sealed != *sealed) {
        let (_, payload) = sealed_parts(&other.sealed).unwrap();
        assert!(open(&key, &format!("dse1.{own}.{payload}"), "m", attribute, &rid).is_err());
    }
}

#[test]
fn fingerprints_tell_equal_sealed_values_and_say_nothing_else() {
    let mut rig = Rig::of_model(&format!("{BEFORE}{HEAD}{MODEL}"));
    let (old, new) = (record(r#""a":"x","b":"x""#), record(r#""a":"\u0078","b":"y""#));
    let change = Change { operation: Operation::Update, before: Some(&old), after: Some(&new), ..sample() };
    let event = rig.event_of(&change);
    let received = ReceivedEvent::read(event.body()).unwrap();
    let print = |image: Option<&str>, path: &[&str]| {
        let value =
            path.iter().fold(image.unwrap().to_owned(), |object, name| member(&object, name).unwrap());
        received.fingerprint(value.trim_matches('"')).unwrap().to_owned()
    };
    let prints: BTreeMap<&str, String> = [
        ("old a", print(received.before, &["a"])),
        ("new a", print(received.after, &["a"])),
        ("old b", print(received.before, &["nested", "b"])),
        ("new b", print(received.after, &["nested", "b"])),
    ]
    .into();
    assert_eq!(prints["old a"], prints["new a"], "the same text");
    assert_ne!(prints["old b"], prints["new b"], "another text");
    assert_ne!(prints["old a"], prints["old b"], "equal texts of two attributes are not joined");
    assert_eq!(received.fingerprint("dse1.AAAAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAA"), None);
    assert_eq!(received.fingerprint("dst1.x"), None);
}
