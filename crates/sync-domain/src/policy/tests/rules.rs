//! Each kind of protection, in the record before, the record after and the key.

use super::*;

const MODEL: &str = "
  clear: { class: personal, protect: none }
  gone: { class: sensitive, protect: redact }
  masked: { class: personal, protect: { mask: { keep_first: 1, keep_last: 2 } } }
  fixed: { class: personal, protect: { mask: { text: \"<hidden> \\\"q\\\"\" } } }
  token: { class: personal, protect: tokenize }
  sealed: { class: sensitive, protect: encrypt }
";

fn rig() -> Rig {
    Rig::of_model(&format!("{BEFORE}{HEAD}{MODEL}"))
}

#[test]
fn every_kind_protects_before_and_after_alike() {
    let mut rig = rig();
    let old = record(
        r#""clear":"c","gone":"TOPSECRET","masked":"TOPSECRET","fixed":"TOPSECRET","token":"TOPSECRET","sealed":"TOPSECRET""#,
    );
    let change = Change { operation: Operation::Update, before: Some(&old), after: Some(&old), ..sample() };
    let data = rig.apply_to(&change).unwrap().protected.data().to_owned();
    assert!(!data.contains("TOPSECRET"), "{data}");
    for image in ["before", "after"] {
        let image = member(&data, image).unwrap();
        let of = |name| member(&image, name).unwrap();
        assert_eq!(of("clear"), "\"c\"");
        assert_eq!(of("gone"), "null");
        assert_eq!(of("masked"), "\"T****ET\"");
        assert_eq!(of("fixed"), r#""<hidden> \"q\"""#);
        assert!(of("token").starts_with("\"dst1."));
        assert!(of("sealed").starts_with("\"dse1."));
    }
    let [before, after] = ["before", "after"].map(|image| member(&data, image).unwrap());
    assert_eq!(member(&before, "token"), member(&after, "token"), "equal values have equal tokens");
    assert_ne!(member(&before, "sealed"), member(&after, "sealed"), "no seal is like another");
}

#[test]
fn null_stays_null_under_every_rule() {
    assert_eq!(
        rig().after(r#""clear":null,"gone":null,"masked":null,"fixed":null,"token":null,"sealed":null"#),
        r#"{"clear":null,"fixed":null,"gone":null,"masked":null,"sealed":null,"token":null}"#
    );
}

#[test]
fn numbers_and_booleans_are_protected_too() {
    let mut rig = rig();
    let after = rig.after(r#""masked":123456,"gone":42,"token":42,"sealed":true,"fixed":1"#);
    assert_eq!(member(&after, "masked").unwrap(), "\"1****56\"");
    assert_eq!(member(&after, "gone").unwrap(), "null");
    let [number, text] = ["42", "\"42\""].map(|raw| member(&rig.after(&format!("\"token\":{raw}")), "token"));
    assert_ne!(number, text, "a number is not the text of it");
}

#[test]
fn a_tokenized_key_is_a_token_in_the_key_and_in_the_record() {
    let yaml = "model: m\nkey: [_k, z]\nattributes:\n  _k: { class: personal, protect: tokenize, as: who }\n  z: { class: internal }\n";
    let mut rig = Rig::of_model(yaml);
    let change =
        Change { key: r#"{"z":2,"_k":"TOPSECRET"}"#, after: Some(r#"{"_k":"TOPSECRET","z":2}"#), ..sample() };
    let event = rig.event_of(&change);
    assert!(!event.body().contains("TOPSECRET"));
    let received = ReceivedEvent::read(event.body()).unwrap();
    assert!(
        received.key.starts_with(r#"{"who":"dst1."#) && received.key.ends_with(r#","z":2}"#),
        "{}",
        received.key
    );
    assert_eq!(member(received.key, "who"), member(received.after.unwrap(), "who"), "targets can join on it");
    let shown = rig.policy.protected_key(change.key, &rig.rid, &mut rig.keys, &mut Counter(0)).unwrap();
    assert_eq!(shown, received.key, "a ticket shows the key as the event does");
    assert_eq!(rig.policy.protected_key(r#"{"_k":[]}"#, &rig.rid, &mut rig.keys, &mut Counter(0)), None);
}

#[test]
fn attributes_are_renamed_and_nested_by_as() {
    let mut rig = Rig::new(
        "  first: { class: internal, as: name.first }\n  n.last: { class: internal, as: name.last }\n  n.x: { class: internal, as: \"é\\\"\" }\n",
    );
    assert_eq!(
        rig.after(r#""first":"A","n":{"last":"B","x":1}"#),
        r#"{"name":{"first":"A","last":"B"},"é\"":1}"#
    );
}

#[test]
fn json_is_taken_whole_and_can_be_sealed_or_redacted_whole() {
    let mut rig = Rig::new(
        "  j: { class: internal, type: json }\n  r: { class: sensitive, type: json, protect: redact }\n  s: { class: sensitive, type: json, protect: encrypt }\n",
    );
    let after = rig.after(r#""j":{"a" : [1.10, {"b":null}]},"r":{"x":"S"},"s":["S"]"#);
    assert_eq!(member(&after, "j").unwrap(), r#"{"a" : [1.10, {"b":null}]}"#);
    assert_eq!(member(&after, "r").unwrap(), "null");
    assert!(member(&after, "s").unwrap().starts_with("\"dse1."));
    assert!(!after.contains('S') || !after.contains("\"S\""));
}

#[test]
fn without_its_key_nothing_is_sent_in_clear() {
    let mut rig = rig();
    // Keys of a policy that were never installed.
    rig.keys = PolicyKeys::new(&rig.policy, &TokenHasher::new(KeyBytes::new([1; 32])));
    let failure = rig.try_after(r#""sealed":"x""#).unwrap_err();
    assert_eq!(failure, Failure::Key(crate::protect::Error::UsedUp));
    // And the key of another policy has no token key in that place.
    let other = Rig::new("");
    rig.keys = PolicyKeys::new(&other.policy, &TokenHasher::new(KeyBytes::new([1; 32])));
    assert_eq!(rig.try_after(r#""token":"x""#).unwrap_err(), Failure::Key(crate::protect::Error::Refused));
}
