//! Keys: what may be one, and the form from which the record id is made.

use super::*;

fn rig() -> Rig {
    Rig::of_model(
        "model: m\nkey: [id, region]\nattributes:\n  id: { class: identifier }\n  region: { class: internal, type: string }\n  x: { class: internal }\n",
    )
}

#[test]
fn equal_keys_have_one_canonical_form_and_others_have_another() {
    let policy = rig().policy;
    let of = |key: &str| policy.canonical_key(key).unwrap();
    let form = of(r#"{"id":42,"region":"eu"}"#);
    for same in [
        r#"{"region":"eu","id":42}"#,
        r#" { "id" : 42 , "region" : "\u0065u" } "#,
        r#"{"\u0069d":42,"region":"eu"}"#,
    ] {
        assert_eq!(of(same), form, "{same}");
    }
    for other in [
        r#"{"id":"42","region":"eu"}"#,
        r#"{"id":43,"region":"eu"}"#,
        r#"{"id":42,"region":"eu "}"#,
        r#"{"id":42,"region":"EU"}"#,
        r#"{"id":true,"region":"eu"}"#,
        r#"{"id":"true","region":"eu"}"#,
        r#"{"id":"","region":""}"#,
        r#"{"id":-42,"region":"eu"}"#,
    ] {
        assert_ne!(of(other), form, "{other}");
    }
    assert_ne!(of(r#"{"id":true,"region":"eu"}"#), of(r#"{"id":"true","region":"eu"}"#));
    // No two keys run together.
    assert_ne!(of(r#"{"id":"a","region":"bc"}"#), of(r#"{"id":"ab","region":"c"}"#));
    // Integers are compared digit by digit, whatever their size.
    assert_ne!(of(r#"{"id":9007199254740993,"region":""}"#), of(r#"{"id":9007199254740992,"region":""}"#));
}

#[test]
fn a_key_has_exactly_the_key_attributes_each_with_a_scalar_value() {
    let mut rig = rig();
    for (key, code, place) in [
        ("{}", "key_attributes", "id"),
        (r#"{"id":1}"#, "key_attributes", "region"),
        (r#"{"id":1,"region":"eu","x":1}"#, "key_attributes", "key"),
        (r#"{"id":1,"region":"eu","unlisted":1}"#, "key_attributes", "key"),
        (r#"{"id":null,"region":"eu"}"#, "key_value", "id"),
        (r#"{"id":1.5,"region":"eu"}"#, "key_value", "id"),
        (r#"{"id":1e3,"region":"eu"}"#, "key_value", "id"),
        (r#"{"id":-0,"region":"eu"}"#, "key_value", "id"),
        (r#"{"id":[1],"region":"eu"}"#, "key_value", "id"),
        (r#"{"id":{"a":1},"region":"eu"}"#, "key_value", "id"),
        (r#"{"id":1,"region":7423901}"#, "key_value", "region"),
        (r#"{"id":1,"id":2,"region":"eu"}"#, "key_not_object", "key"),
        (r#"[1,"eu"]"#, "key_not_object", "key"),
        (r#"{"id":1,"region":"eu"} x"#, "key_not_object", "key"),
    ] {
        assert_eq!(rig.policy.canonical_key(key), Err(Reason::new(code, place)), "{key}");
    }
    // The transform checks it again.
    let change = Change { key: r#"{"id":1.5,"region":"eu"}"#, after: Some("{}"), ..sample() };
    assert_eq!(rig.apply_to(&change).unwrap_err(), Failure::Rejected(Reason::new("key_value", "id")));
}

#[test]
fn the_key_of_a_record_is_its_key_attributes() {
    let policy = rig().policy;
    assert_eq!(policy.key_of(r#"{"x":1,"region":"eu","id":42}"#).unwrap(), r#"{"id":42,"region":"eu"}"#);
    assert_eq!(policy.key_of(r#"{"region":"eu"}"#), Err(Reason::new("key_missing_in_record", "id")));
}
