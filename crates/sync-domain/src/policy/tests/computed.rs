//! Computed attributes: constant, concatenation, first that is there, code list, and where they hold.

use super::*;

#[test]
fn each_method_computes_its_value() {
    let mut rig = Rig::new(
        "  a: { class: internal }\n  b: { class: internal }\n  v1: { class: internal, compute: { constant: \"x\\\"y\" } }\n  v2: { class: internal, compute: { concat: [{ attribute: a }, { text: \" \\\\ \" }, { attribute: b }] } }\n  v3: { class: internal, compute: { coalesce: [a, b] } }\n  v4: { class: internal, as: code.text, compute: { code: { of: a, map: { S: small, \"1\": one, \"true\": 7 }, default: false } } }\n",
    );
    for (a, b, v2, v3, v4) in [
        ("\"S\"", "2.50", r#""S \\ 2.50""#, "\"S\"", "\"small\""),
        ("1", "\"x\\ny\"", r#""1 \\ x\ny""#, "1", "\"one\""),
        ("true", "null", r#""true \\ ""#, "true", "7"),
        ("null", "1e400", r#"" \\ 1e400""#, "1e400", "false"),
        ("null", "null", "null", "null", "false"),
        ("\"null\"", "null", r#""null \\ ""#, "\"null\"", "false"),
    ] {
        let after = rig.after(&format!("\"a\":{a},\"b\":{b}"));
        let of = |name| member(&after, name).unwrap();
        assert_eq!((of("v1"), of("v2"), of("v3")), (r#""x\"y""#.into(), v2.into(), v3.into()), "{a} {b}");
        assert_eq!(of("code"), format!("{{\"text\":{v4}}}"), "{a} {b}");
    }
}

#[test]
fn a_condition_decides_where_a_value_is_computed() {
    let mut rig = Rig::new(
        "  tier: { class: internal }\n  n: { class: internal, type: integer }\n  vip: { class: internal, compute: { constant: true, when: { tier: { in: [gold] }, n: { \">\": 9007199254740992 } } } }\n",
    );
    for (tier, n, vip) in [
        ("\"gold\"", "9007199254740993", "true"),
        ("\"g\\u006fld\"", "9007199254740993", "true"),
        ("\"gold\"", "9007199254740992", "null"),
        ("\"basic\"", "9007199254740993", "null"),
        ("null", "null", "null"),
    ] {
        let after = rig.after(&format!("\"tier\":{tier},\"n\":{n}"));
        assert_eq!(member(&after, "vip").unwrap(), vip, "{tier} {n}");
    }
}

#[test]
fn a_computed_value_goes_under_its_own_rule_and_type() {
    let base = "  a: { class: personal, protect: tokenize }\n  b: { class: personal, protect: redact }\n";
    for (protect, begins) in [
        ("{ mask: { keep_first: 1 } }", "\"T****\""),
        ("tokenize", "\"dst1."),
        ("encrypt", "\"dse1."),
        ("redact", "null"),
    ] {
        let mut rig = Rig::new(&format!(
            "{base}  v: {{ class: personal, protect: {protect}, compute: {{ concat: [{{ attribute: a }}, {{ attribute: b }}] }} }}\n"
        ));
        let after = rig.after("\"a\":\"TOPSECRET\",\"b\":\"HUSH\"");
        assert!(member(&after, "v").unwrap().starts_with(begins), "{after}");
        assert!(!after.contains("TOPSECRET") && !after.contains("HUSH"), "{after}");
    }
    let mut rig = Rig::new(
        "  a: { class: internal }\n  v: { class: internal, type: integer, compute: { coalesce: [a] } }\n",
    );
    assert_eq!(rig.reason("\"a\":\"7423901\""), ("type_mismatch".into(), "v".into()));
}
