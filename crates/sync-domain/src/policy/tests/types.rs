//! Declared types, and what a record lacks.

use super::*;

#[test]
fn each_type_takes_its_values_and_refuses_others_by_place_alone() {
    for (kind, good, bad) in [
        ("string", vec!["\"\"", "\"a\"", "null"], vec!["7423901", "true", "[]", "{}", "[\"a\"]"]),
        (
            "integer",
            vec!["0", "-5", "9223372036854775807", "99999999999999999999999999999999999999", "null"],
            vec!["1.0", "1e3", "1E3", "\"7423901\"", "true", "[7423901]"],
        ),
        (
            "decimal",
            vec!["0", "1.10", "1e400", "-0.5E-7", "null"],
            vec!["\"7423901\"", "false", "{\"a\":7423901}"],
        ),
        ("boolean", vec!["true", "false", "null"], vec!["\"true\"", "7423901", "[]"]),
        (
            "time",
            vec!["\"2026-11-24T20:19:23Z\"", "\"2026-11-24T20:19:23.123456+01:00\"", "null"],
            vec!["\"7423901\"", "\"2026-11-24\"", "\"2026-11-24T20:19:23\"", "7423901", "true"],
        ),
        ("json", vec!["1", "\"a\"", "[1,{}]", "{\"a\":[]}", "null"], vec![]),
    ] {
        let mut rig = Rig::new(&format!("  deep.x: {{ class: internal, type: {kind} }}\n"));
        for value in good {
            assert_eq!(
                rig.after(&format!("\"deep\":{{\"x\":{value}}}")),
                format!("{{\"deep\":{{\"x\":{value}}}}}"),
                "{kind}"
            );
        }
        for value in bad {
            let reason = rig.reason(&format!("\"deep\":{{\"x\":{value}}}"));
            assert_eq!(reason, ("type_mismatch".to_owned(), "deep.x".to_owned()), "{kind} {value}");
        }
    }
}

#[test]
fn without_a_type_every_scalar_will_do_and_nothing_else() {
    let mut rig = Rig::new("  x: { class: internal }\n");
    for value in ["1", "1.5", "\"a\"", "true", "null"] {
        assert_eq!(rig.after(&format!("\"x\":{value}")), format!("{{\"x\":{value}}}"));
    }
    for value in ["{}", "[]", "[1]", "{\"x\":1}"] {
        assert_eq!(rig.reason(&format!("\"x\":{value}")), ("type_mismatch".into(), "x".into()));
    }
}

#[test]
fn the_type_is_checked_under_every_rule() {
    for protect in ["none", "redact", "tokenize", "encrypt", "{ mask: { text: x } }"] {
        let mut rig = Rig::new(&format!("  x: {{ class: internal, type: integer, protect: {protect} }}\n"));
        assert_eq!(rig.reason("\"x\":\"7423901\""), ("type_mismatch".into(), "x".into()), "{protect}");
    }
}

#[test]
fn something_else_than_an_object_on_the_way_is_refused_by_its_path() {
    let mut rig = Rig::new("  a.b.c: { class: internal }\n");
    for (members, place) in
        [("\"a\":7423901", "a"), ("\"a\":{\"b\":\"7423901\"}", "a.b"), ("\"a\":{\"b\":[]}", "a.b")]
    {
        assert_eq!(rig.reason(members), ("type_mismatch".to_owned(), place.to_owned()));
    }
    assert_eq!(rig.after("\"a\":null"), r#"{"a":{"b":{"c":null}}}"#);
    assert_eq!(rig.after("\"a\":{\"b\":null}"), r#"{"a":{"b":{"c":null}}}"#);
}

#[test]
fn the_record_before_must_have_its_shape_too() {
    let mut rig = Rig::new("  a.b: { class: internal }\n");
    let (old, new) = (record("\"a\":7423901"), record("\"a\":{}"));
    let change = Change { operation: Operation::Update, before: Some(&old), after: Some(&new), ..sample() };
    assert_eq!(rig.apply_to(&change).unwrap_err(), Failure::Rejected(Reason::new("type_mismatch", "a")));
}

#[test]
fn a_missing_attribute_is_null_kept_missing_or_refused() {
    let attributes =
        "  a.x: { class: internal }\n  y: { class: internal, protect: encrypt }\n  z: { class: internal }\n";
    let mut null = Rig::new(attributes);
    assert_eq!(null.after("\"z\":1"), r#"{"a":{"x":null},"y":null,"z":1}"#);
    let mut keep = Rig::of_model(&format!("missing: keep\n{HEAD}{attributes}"));
    assert_eq!(keep.after("\"z\":1"), r#"{"z":1}"#);
    assert_eq!(keep.after("\"a\":{}"), "{}");
    assert_eq!(keep.after("\"a\":{\"x\":null}"), r#"{"a":{"x":null}}"#, "null is not missing");
    let mut refuse = Rig::of_model(&format!("missing: refuse\n{HEAD}{attributes}"));
    assert_eq!(refuse.reason("\"y\":1,\"z\":1"), ("missing_attribute".into(), "a.x".into()));
    assert_eq!(refuse.reason("\"a\":{\"x\":1},\"z\":1"), ("missing_attribute".into(), "y".into()));
    assert_eq!(
        refuse.after("\"a\":{\"x\":null},\"y\":null,\"z\":null"),
        r#"{"a":{"x":null},"y":null,"z":null}"#
    );
}
