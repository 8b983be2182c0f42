//! What capture asks a policy: listed attributes only, whose data it is, how large the event can get.

use proptest::prelude::*;

use super::*;

fn project(policy: &CompiledPolicy, record: &str) -> Result<String, Reason> {
    policy.pick(record)?.project()
}

fn size_bound(policy: &CompiledPolicy, change: &Change<'_>) -> usize {
    let [before, after] =
        [change.before, change.after].map(|record| record.map(|record| policy.pick(record).unwrap()));
    policy.size_bound(change, before.as_ref(), after.as_ref())
}

#[test]
fn a_projection_has_the_listed_attributes_as_they_were_written_in_their_own_places() {
    let policy = Rig::new("  b.c: { class: internal, as: z }\n  d: { class: sensitive, protect: encrypt }\n  j: { class: internal, type: json }\n  \"l[].m[].n\": { class: internal, as: \"q[].r[].s\" }\n  v: { class: internal, compute: { constant: 1 } }\n").policy;
    assert_eq!(
        project(&policy, r#" {"s":1,"b":{"c": 1.10,"x":2},"d":"\u0061","j":{"a" :[1 ]},"l":[{"m":[{"n":1,"o":2},{}],"x":1},{"x":2}],"v":"no","_k":1e2} "#).unwrap(),
        r#"{"_k":1e2,"b":{"c":1.10},"d":"\u0061","j":{"a" :[1 ]},"l":[{"m":[{"n":1},{}]},{}]}"#
    );
    assert_eq!(project(&policy, r#"{"x":1}"#).unwrap(), "{}");
    assert_eq!(project(&policy, r#"{"l":null,"b":null,"d":null}"#).unwrap(), r#"{"d":null,"l":null}"#);
    assert_eq!(project(&policy, r#"{"l":7423901}"#), Err(Reason::new("type_mismatch", "l")));
    assert_eq!(project(&policy, r#"{"l":[{"m":7423901}]}"#), Err(Reason::new("type_mismatch", "l[].m")));
    assert_eq!(project(&policy, r#"{"b":7423901}"#), Err(Reason::new("type_mismatch", "b")));
    assert_eq!(project(&policy, "{").unwrap_err().code, "not_json");
    assert_eq!(project(&policy, "{} {}").unwrap_err().code, "not_json");
}

#[test]
fn a_projection_makes_the_same_event_as_the_whole_record() {
    let mut rig = Rig::new("  b.c: { class: internal, as: z }\n  \"l[].m\": { class: internal }\n");
    let whole = r#""b":{"c":1,"x":2},"l":[{"m":1,"x":2},{}],"s":"S""#;
    let projected = project(&rig.policy, &record(whole)).unwrap();
    let inner = projected.strip_prefix("{\"_k\":1,").and_then(|rest| rest.strip_suffix('}')).unwrap();
    assert_eq!(rig.after(inner), rig.after(whole));
}

#[test]
fn the_subject_is_read_from_after_then_before_then_the_key() {
    let policy = Rig::of_model("model: m\nkey: [id]\nsubject: person.id\nattributes:\n  id: { class: identifier }\n  person.id: { class: personal }\n").policy;
    let of = |id: &str| format!("{{\"person\":{{\"id\":{id}}}}}");
    let (one, two, text) = (of("1"), of("2"), of("\"1\""));
    let subject = |before: Option<&str>, after: Option<&str>| {
        let [before, after] = [before, after].map(|record| record.map(|record| policy.pick(record).unwrap()));
        policy.subject(r#"{"id":9}"#, before.as_ref(), after.as_ref())
    };
    assert_eq!(subject(None, Some(&*one)), subject(Some(&two), Some(&one)));
    assert_eq!(subject(Some(&one), None), subject(None, Some(&one)));
    assert_eq!(subject(Some(&one), Some("{}")), subject(None, Some(&one)), "null or missing is not a person");
    assert_ne!(subject(None, Some(&one)), subject(None, Some(&two)));
    assert_ne!(subject(None, Some(&text)), subject(None, Some(&one)));
    assert_eq!(subject(None, None), None);
    let by_key =
        Rig::of_model("model: m\nkey: [id]\nsubject: id\nattributes:\n  id: { class: identifier }\n").policy;
    let picked = by_key.pick(r#"{"id":1}"#).unwrap();
    assert_eq!(by_key.subject(r#"{"id":1}"#, None, None), by_key.subject("{}", None, Some(&picked)));
    let no_subject = Rig::new("").policy;
    let picked = no_subject.pick(r#"{"_k":1}"#).unwrap();
    assert_eq!(no_subject.subject(r#"{"_k":1}"#, None, Some(&picked)), None);
}

/// A model whose event grows in every way: long names, long `as`, nesting, arrays, computed values that repeat
/// others, every rule.
const GROWING: &str = "
  b0: { class: internal, as: a_very_long_name_in_the_event_that_is_much_longer_than_in_the_record }
  b1: { class: personal, protect: tokenize, as: n.e.s.t.e.d.token }
  b2: { class: personal, protect: { mask: { keep_first: 5000 } } }
  b3: { class: personal, protect: { mask: { text: \"\\\"\\u0001\\uFFFF\\\"\" } } }
  b4: { class: sensitive, protect: encrypt, as: n.e.s.t.e.d.sealed }
  b5: { class: sensitive, protect: redact }
  j: { class: internal, type: json }
  \"l[].p\": { class: sensitive, protect: encrypt, as: \"list_of_things_with_a_long_name[].property_with_a_long_name\" }
  \"l[].q.r\": { class: personal, protect: tokenize, as: \"list_of_things_with_a_long_name[].quality.with.a.deep.name\" }
  \"m[][]\": { class: personal, protect: tokenize }
  v1: { class: personal, protect: none, compute: { concat: [{ attribute: b0 }, { text: \"\\u0001\" }, { attribute: b2 }, { attribute: b2 }] } }
  v2: { class: sensitive, protect: encrypt, compute: { coalesce: [b4, b5, b0] } }
  v3: { class: personal, protect: { mask: { keep_last: 5000 } }, compute: { coalesce: [b2] } }
  v4: { class: internal, compute: { constant: \"a constant\" } }
";

/// Raw JSON strings that grow when they are written anew, and others.
fn raw_text() -> impl Strategy<Value = String> {
    let unit = prop_oneof![
        Just("a".to_owned()),
        Just("\\b".to_owned()),
        Just("\\u0001".to_owned()),
        Just("\\\"".to_owned()),
        Just("\u{FFFF}".to_owned()),
        Just("\\/".to_owned()),
        Just("é".to_owned()),
        Just("😀".to_owned()),
    ];
    (proptest::collection::vec(unit, 1..4), prop_oneof![Just(0_usize), 1..40_usize, 200..2_000_usize])
        .prop_map(|(units, times)| format!("\"{}\"", units.concat().repeat(times)))
}

fn raw_scalar() -> impl Strategy<Value = String> {
    prop_oneof![3 => raw_text(), 1 => Just("null".to_owned()), 1 => Just("1".to_owned()), 1 => Just("false".to_owned())]
}

fn maybe(name: &'static str, raw: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    proptest::option::of(raw)
        .prop_map(move |raw| raw.map_or(String::new(), |raw| format!(",\"{name}\":{raw}")))
}

fn raw_record() -> impl Strategy<Value = String> {
    let element =
        (maybe("p", raw_scalar()), maybe("q", raw_scalar().prop_map(|raw| format!("{{\"r\":{raw}}}"))))
            .prop_map(|(p, q)| format!("{{\"x\":1{p}{q}}}"));
    let list = |element: BoxedStrategy<String>| {
        proptest::collection::vec(element, 0..12).prop_map(|elements| format!("[{}]", elements.join(",")))
    };
    let matrix = list(list(raw_scalar().boxed()).boxed());
    let scalars = (
        maybe("b0", raw_scalar()),
        maybe("b1", raw_scalar()),
        maybe("b2", raw_scalar()),
        maybe("b3", raw_scalar()),
        maybe("b4", raw_scalar()),
        maybe("b5", raw_scalar()),
    );
    let json = raw_scalar().prop_map(|raw| format!("{{\"any\":[{raw}]}}"));
    (scalars, maybe("j", json), maybe("l", list(element.boxed())), maybe("m", matrix)).prop_map(
        |((b0, b1, b2, b3, b4, b5), j, l, m)| format!("{{\"_k\":1{b0}{b1}{b2}{b3}{b4}{b5}{j}{l}{m}}}"),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_size_bound_is_never_below_the_size_of_the_event(
        before in proptest::option::of(raw_record()),
        after in raw_record(),
        with_before in any::<bool>(),
        long in any::<bool>(),
    ) {
        let head = if with_before { BEFORE } else { "" };
        let mut rig = Rig::of_model(&format!("{head}{HEAD}{GROWING}"));
        let name = if long { "s23456789012345678901234567890123456789012345678" } else { "s" };
        let run = "run_0123456789012345678901234567890123456789";
        let change = Change {
            operation: Operation::Update, before: before.as_deref(), after: Some(&after), source: name.into(), origin: name.into(),
            subject_key_id: long.then(|| "0123456789012345678901234567890123456789012".into()),
            only: long.then(|| name.into()), run: long.then(|| run.into()), ..sample()
        };
        let bound = size_bound(&rig.policy, &change);
        rig.rid = RecordId::from_wire("0123456789012345678901234567890123456789012");
        let event = rig.event_of(&change);
        prop_assert!(event.size() <= bound, "size {} bound {bound}", event.size());
        // And it is of use: not far above.
        prop_assert!(bound <= 4 * event.size() + 4 * (after.len() + before.as_ref().map_or(0, String::len)) + 8_192, "size {} bound {bound}", event.size());
    }
}

#[test]
fn the_size_bound_holds_where_names_are_most_of_the_event() {
    let names: String = (0..300)
        .map(|n| format!("  attribute_with_quite_a_long_name_{n}: {{ class: internal }}\n"))
        .collect();
    let mut rig = Rig::of_model(&format!("{BEFORE}{HEAD}{names}"));
    let record = |value: u8| {
        let members: Vec<String> =
            (0..300).map(|n| format!("\"attribute_with_quite_a_long_name_{n}\":{value}")).collect();
        self::record(&members.join(","))
    };
    let (old, new) = (record(1), record(2));
    let change = Change { operation: Operation::Update, before: Some(&old), after: Some(&new), ..sample() };
    let bound = size_bound(&rig.policy, &change);
    let size = rig.event_of(&change).size();
    assert!(size <= bound, "size {size} bound {bound}");
}
