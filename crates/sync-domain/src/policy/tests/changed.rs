//! `changed`: clear values compared, over listed attributes, under their names in the event.

use super::*;

const MODEL: &str = "
  name: { class: internal }
  email: { class: personal, protect: tokenize, as: contact.email }
  pin: { class: sensitive, protect: redact }
  card: { class: sensitive, protect: encrypt }
  phone: { class: personal, protect: { mask: { keep_last: 1 } } }
  address.city: { class: internal, as: city }
  prefs: { class: internal, type: json }
  \"items[].sku\": { class: internal, as: \"lines[].sku\" }
  full: { class: personal, protect: redact, compute: { concat: [{ attribute: name }, { text: \"!\" }, { attribute: email }] } }
  kind: { class: internal, compute: { code: { of: name, map: { a: x, b: x }, default: y } } }
";

#[test]
fn clear_values_are_compared_and_named_as_in_the_event() {
    let mut rig = Rig::new(MODEL);
    for (before, after, expected) in [
        (r#""name":"a""#, r#""name":"a""#, vec![]),
        (r#""phone":"16""#, r#""phone":"26""#, vec!["phone"]),
        (r#""pin":1"#, r#""pin":2"#, vec!["pin"]),
        (r#""card":"same""#, r#""card":"same""#, vec![]),
        (r#""card":"same""#, r#""card":"other""#, vec!["card"]),
        (r#""address":{"city":"x","street":1}"#, r#""address":{"city":"y","street":1}"#, vec!["city"]),
        (r#""address":{"city":"x","street":1}"#, r#""address":{"street":2,"city":"x"}"#, vec![]),
        (r#""email":"a""#, r#""email":"b""#, vec!["contact.email", "full"]),
        (r#""name":"a""#, r#""name":"b""#, vec!["full", "name"]),
        (r#""name":"a""#, r#""name":"c""#, vec!["full", "kind", "name"]),
        (r#""unlisted":1"#, r#""unlisted":2"#, vec![]),
        (r#""name":"a""#, "", vec!["full", "kind", "name"]),
        (r#""name":null"#, "", vec![]),
        (r#""prefs":{"a":1}"#, r#""prefs":{"a":2}"#, vec!["prefs"]),
        (r#""name":1"#, r#""name":"1""#, vec!["name"]),
        (r#""name":"a""#, r#""name":"\u0061""#, vec![]),
        (r#""name":9007199254740993"#, r#""name":9007199254740992"#, vec!["full", "name"]),
    ] {
        let mut expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
        expected.sort();
        let mut changed = rig.changed(before, after).unwrap();
        changed.sort();
        assert_eq!(changed, expected, "{before} -> {after}");
    }
}

#[test]
fn arrays_are_compared_by_their_listed_attributes_alone() {
    let mut rig = Rig::new(MODEL);
    let same: [(&str, &str); 4] = [
        (r#""items":[{"sku":1,"price":1}]"#, r#""items":[{"price":2,"sku":1}]"#),
        (r#""items":[ { "sku" : 1 } ]"#, r#""items":[{"sku":1}]"#),
        (r#""items":null"#, ""),
        (r#""items":[{"sku":"a"}]"#, r#""items":[{"sku":"\u0061"}]"#),
    ];
    for (before, after) in same {
        assert_eq!(rig.changed(before, after), Some(vec![]), "{before} -> {after}");
    }
    for (before, after) in [
        (r#""items":[{"sku":1}]"#, r#""items":[{"sku":2}]"#),
        (r#""items":[{"sku":1}]"#, r#""items":[{"sku":1},{"sku":1}]"#),
        (r#""items":[{"sku":1},{"sku":2}]"#, r#""items":[{"sku":2},{"sku":1}]"#),
        (r#""items":[]"#, r#""items":null"#),
    ] {
        assert_eq!(rig.changed(before, after), Some(vec!["lines[].sku".to_owned()]), "{before} -> {after}");
    }
}

#[test]
fn of_an_array_only_the_attributes_that_differ_are_named() {
    let mut rig = Rig::new("  \"c[].kind\": { class: internal }\n  \"c[].value\": { class: internal }\n");
    let changed = rig.changed(r#""c":[{"kind":1,"value":1}]"#, r#""c":[{"kind":1,"value":2}]"#).unwrap();
    assert!(changed.contains(&"c[].value".to_owned()));
}

#[test]
fn missing_and_null_differ_only_where_the_event_tells_them_apart() {
    let mut null = Rig::new("  x: { class: internal }\n");
    assert_eq!(null.changed("\"x\":null", ""), Some(vec![]));
    let mut keep = Rig::of_model(&format!("missing: keep\n{HEAD}  x: {{ class: internal }}\n"));
    assert_eq!(keep.changed("\"x\":null", ""), Some(vec!["x".to_owned()]));
    assert_eq!(keep.changed("", ""), Some(vec![]));
}

#[test]
fn where_no_two_records_are_compared_it_is_not_known_what_changed() {
    let mut rig = Rig::new("  x: { class: internal }\n");
    let record = record("\"x\":1");
    let record = record.as_str();
    for (operation, before, after) in [
        (Operation::Create, None, Some(record)),
        (Operation::Snapshot, None, Some(record)),
        (Operation::Update, None, Some(record)),
        (Operation::Delete, Some(record), None),
        (Operation::Create, Some(record), Some(record)),
        (Operation::Snapshot, Some(record), Some(record)),
    ] {
        let change = Change { operation, before, after, ..sample() };
        let protected = rig.apply_to(&change).unwrap().protected;
        assert_eq!(protected.changed(), None, "{operation:?}");
        assert_eq!(member(protected.data(), "changed").unwrap(), "null");
    }
    let change =
        Change { operation: Operation::Update, before: Some(record), after: Some(record), ..sample() };
    assert_eq!(member(rig.apply_to(&change).unwrap().protected.data(), "changed").unwrap(), "[]");
}
