//! Arrays: each element is governed, whatever the array is made of.

use super::*;

#[test]
fn arrays_of_objects_and_of_scalars_are_governed_element_by_element() {
    let mut rig = Rig::new(
        "  \"contacts[].value\": { class: personal, protect: { mask: { keep_last: 2 } } }\n  \"tags[]\": { class: internal }\n",
    );
    assert_eq!(
        rig.after(r#""contacts":[{"value":"0123456"},{"value":null},{},{"value":7654321}],"tags":["a",1,true,null,1.10]"#),
        r#"{"contacts":[{"value":"****56"},{"value":null},{"value":null},{"value":"****21"}],"tags":["a",1,true,null,1.10]}"#
    );
    assert_eq!(rig.after(r#""contacts":[],"tags":[]"#), r#"{"contacts":[],"tags":[]}"#);
}

#[test]
fn arrays_inside_arrays_are_governed_to_the_bottom() {
    let mut rig = Rig::new(
        "  \"m[][]\": { class: internal }\n  \"o[].l[].s\": { class: internal, as: \"orders[].lines[].sku\" }\n  \"o[].n\": { class: internal, as: \"orders[].number\" }\n",
    );
    assert_eq!(
        rig.after(
            r#""m":[[1,2],[],[3]],"o":[{"n":1,"l":[{"s":"a","p":9},{"s":"b"}]},{"n":2,"l":null},{"n":3}]"#
        ),
        r#"{"m":[[1,2],[],[3]],"orders":[{"number":1,"lines":[{"sku":"a"},{"sku":"b"}]},{"number":2,"lines":null},{"number":3,"lines":null}]}"#
    );
    assert_eq!(rig.reason(r#""m":[[1,[2]]]"#), ("type_mismatch".into(), "m[][]".into()));
    assert_eq!(rig.reason(r#""m":[1]"#), ("type_mismatch".into(), "m[]".into()));
    assert_eq!(rig.reason(r#""o":[{"l":{"s":1}}]"#), ("type_mismatch".into(), "o[].l".into()));
}

#[test]
fn an_array_that_is_none_is_refused_and_null_stays_null() {
    let mut rig = Rig::new("  \"c[].v\": { class: internal }\n");
    for other in [r#"{"v":1}"#, r#""x""#, "1", "true"] {
        assert_eq!(rig.reason(&format!("\"c\":{other}")), ("type_mismatch".into(), "c".into()), "{other}");
    }
    assert_eq!(rig.after(r#""c":null"#), r#"{"c":null}"#);
    assert_eq!(rig.after(""), r#"{"c":null}"#);
    for element in ["1", r#""x""#, "[]"] {
        assert_eq!(
            rig.reason(&format!("\"c\":[{element}]")),
            ("type_mismatch".into(), "c[]".into()),
            "{element}"
        );
    }
}

#[test]
fn a_missing_array_or_member_follows_the_rule_for_missing_attributes() {
    let attributes = "  \"c[].v\": { class: internal }\n  \"c[].w\": { class: internal }\n";
    let mut keep = Rig::of_model(&format!("missing: keep\n{HEAD}{attributes}"));
    assert_eq!(keep.after(""), "{}");
    assert_eq!(keep.after(r#""c":null"#), r#"{"c":null}"#);
    assert_eq!(keep.after(r#""c":[{"v":1},{"x":2},{"w":null}]"#), r#"{"c":[{"v":1},{},{"w":null}]}"#);
    let mut refuse = Rig::of_model(&format!("missing: refuse\n{HEAD}{attributes}"));
    assert_eq!(refuse.reason(""), ("missing_attribute".into(), "c".into()));
    assert_eq!(refuse.reason(r#""c":[{"v":1}]"#), ("missing_attribute".into(), "c[].w".into()));
    assert_eq!(refuse.after(r#""c":[]"#), r#"{"c":[]}"#);
}

#[test]
fn arrays_and_their_members_are_renamed_and_nested_by_as() {
    let mut rig = Rig::new(
        "  \"c[].v\": { class: internal, as: \"person.contacts[].data.value\" }\n  \"c[].k\": { class: internal, as: \"person.contacts[].kind\" }\n  n: { class: internal, as: person.name.full }\n",
    );
    assert_eq!(
        rig.after(r#""c":[{"v":1,"k":2}],"n":"x""#),
        r#"{"person":{"name":{"full":"x"},"contacts":[{"kind":2,"data":{"value":1}}]}}"#
    );
}
