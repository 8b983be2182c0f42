//! Look-ups: which records are looked up, and that what they add goes under the same rules.

use super::*;
use crate::event::AttributeValue;
use crate::protect::{UnwrappedKey, open};

const ATTRIBUTES: &str = "
  tier: { class: internal }
  old_secret: { class: sensitive, protect: encrypt }
  segment: { class: internal, type: string }
  risk: { class: sensitive, type: integer, protect: encrypt }
  advisor: { class: personal, protect: tokenize, as: contact.advisor.id }
  extra: { class: internal, type: json, as: contact.extra }
  phone: { class: personal, protect: { mask: { keep_last: 2 } } }
";

const SET: &str = "set: { segment: a, risk: b, advisor: c, extra: d, phone: e }";

fn rig(when: &str) -> Rig {
    Rig::of_model(&format!("enrich: {{ {when} http: {{ url: u, {SET} }} }}\n{HEAD}{ATTRIBUTES}"))
}

fn event(rig: &mut Rig, members: &str) -> Event {
    let record = record(members);
    rig.event_of(&Change { after: Some(&record), ..sample() })
}

#[test]
fn the_condition_decides_who_is_looked_up_and_everybody_else_passes() {
    let decision = |rig: &mut Rig, change: &Change<'_>| rig.apply_to(change).unwrap().enrichment;
    let mut some = rig("when: { tier: { in: [gold] } },");
    let [gold, basic] = ["\"tier\":\"gold\"", "\"tier\":\"basic\""].map(record);
    assert_eq!(decision(&mut some, &Change { after: Some(&gold), ..sample() }), Enrichment::LookUp);
    assert_eq!(decision(&mut some, &Change { after: Some(&basic), ..sample() }), Enrichment::Pass);
    let delete = Change { operation: Operation::Delete, before: Some(&gold), after: None, ..sample() };
    assert_eq!(decision(&mut some, &delete), Enrichment::Pass);
    assert_eq!(decision(&mut rig(""), &Change { after: Some(&basic), ..sample() }), Enrichment::LookUp);
    assert_eq!(decision(&mut Rig::new("  tier: { class: internal }\n"), &sample()), Enrichment::None);
    let mut moved = rig("when: { tier: { changed: true } },");
    let same = Change { operation: Operation::Update, before: Some(&gold), after: Some(&gold), ..sample() };
    assert_eq!(decision(&mut moved, &same), Enrichment::Pass);
    assert_eq!(decision(&mut moved, &Change { before: Some(&basic), ..same }), Enrichment::LookUp);
}

#[test]
fn until_it_is_looked_up_an_attribute_is_null_whatever_the_source_says_of_it() {
    let mut rig = rig("");
    let after =
        rig.after(r#""tier":"gold","segment":"S","risk":"S","contact":{"advisor":{"id":"S"}},"phone":"S""#);
    assert_eq!(
        after,
        r#"{"old_secret":null,"tier":"gold","contact":{"advisor":{"id":null},"extra":null},"phone":null,"risk":null,"segment":null}"#
    );
    assert_eq!(rig.policy.looked_up().collect::<Vec<_>>(), ["advisor", "extra", "phone", "risk", "segment"]);
}

#[test]
fn what_is_found_is_protected_and_the_rest_of_the_event_stays_as_it_is() {
    let mut rig = rig("");
    let before = event(&mut rig, r#""tier":"gold","old_secret":"x""#);
    let found = [
        ("segment", "\"vip\""),
        ("risk", "42"),
        ("advisor", "\"TOPSECRET\""),
        ("extra", r#"{"a" : 1.10}"#),
        ("phone", "\"TOPSECRET\""),
    ];
    let after = rig.enrich(before.body(), &found).unwrap();
    assert!(!after.body().contains("TOPSECRET"));
    assert!(!after.body().contains("42,") && !after.body().contains(":42"));
    let [old, new] = [&before, &after].map(|event| ReceivedEvent::read(event.body()).unwrap());
    let of = |name| member(new.after.unwrap(), name);
    assert_eq!(of("segment").unwrap(), "\"vip\"");
    assert_eq!(of("phone").unwrap(), "\"****ET\"");
    assert_eq!(of("tier"), member(old.after.unwrap(), "tier"));
    assert_eq!(of("old_secret"), member(old.after.unwrap(), "old_secret"), "it is not sealed again");
    let contact = of("contact").unwrap();
    assert_eq!(member(&contact, "extra").unwrap(), r#"{"a" : 1.10}"#);
    assert!(member(&member(&contact, "advisor").unwrap(), "id").unwrap().starts_with("\"dst1."));
    // The new seal opens, its fingerprint stands beside the old one.
    let risk = of("risk").unwrap();
    let sealed = risk.trim_matches('"');
    let index = rig.policy.attributes.iter().position(|attribute| attribute.path == "risk").unwrap();
    let key = data_key(index);
    let key = UnwrappedKey::new(&key, &SealingKey::id_of(&key)).unwrap();
    assert_eq!(open(&key, sealed, "m", "risk", &rig.rid).unwrap(), "42");
    let old_secret = of("old_secret").unwrap();
    assert!(new.fingerprint(sealed).is_some());
    assert_eq!(new.fingerprint(old_secret.trim_matches('"')), old.fingerprint(old_secret.trim_matches('"')));
    assert_eq!((old.fingerprints.len(), new.fingerprints.len()), (1, 2));
    // The envelope is the same, and what changed is not known any more.
    assert_eq!((&new.envelope, &new.id, new.key), (&old.envelope, &old.id, old.key));
    assert_eq!(new.changed, None);
    let (_, names) = after.attributes().iter().find(|(name, _)| *name == "changed").unwrap();
    assert_eq!(*names, AttributeValue::List(vec!["any".to_owned(), "unknown".to_owned()]));
}

#[test]
fn what_is_not_found_is_null() {
    let mut rig = rig("");
    let before = event(&mut rig, r#""tier":"gold""#);
    let after = rig.enrich(before.body(), &[("segment", "null")]).unwrap();
    let [old, new] = [&before, &after].map(|event| ReceivedEvent::read(event.body()).unwrap());
    assert_eq!(new.after, old.after);
    // A value left over from an earlier pass does not survive.
    let vip = rig.enrich(before.body(), &[("segment", "\"vip\"")]).unwrap();
    let again = rig.enrich(vip.body(), &[]).unwrap();
    assert_eq!(ReceivedEvent::read(again.body()).unwrap().after, old.after);
}

#[test]
fn what_does_not_fit_is_refused_by_its_place() {
    let mut rig = rig("");
    let before = event(&mut rig, "");
    for (path, json, code) in [
        ("segment", "7423901", "lookup_type_mismatch"),
        ("risk", "\"7423901\"", "lookup_type_mismatch"),
        ("advisor", "{\"a\":7423901}", "lookup_type_mismatch"),
        ("segment", "\"7423901", "lookup_not_json"),
        ("segment", "\"a\" 7423901", "lookup_not_json"),
        ("extra", "{\"a\":1,\"a\":7423901}", "lookup_not_json"),
    ] {
        let failure = rig.enrich(before.body(), &[(path, json)]).unwrap_err();
        assert_eq!(failure, Failure::Rejected(Reason::new(code, path)), "{json}");
    }
}

#[test]
fn a_look_up_adds_no_attribute_that_it_is_not_named_for() {
    let mut rig = rig("");
    let before = event(&mut rig, r#""tier":"gold""#);
    let after = rig.enrich(before.body(), &[("tier", "\"S\""), ("secret", "\"S\""), ("_k", "2")]).unwrap();
    let [old, new] = [&before, &after].map(|event| ReceivedEvent::read(event.body()).unwrap());
    assert_eq!((new.after, new.key), (old.after, old.key));
}

#[test]
fn an_event_of_an_older_policy_gets_the_attributes_that_it_lacks() {
    let mut old = Rig::new("  tier: { class: internal }\n  contact: { class: internal, type: json }\n");
    for (members, expected) in [
        (
            r#""tier":"x","contact":{"mail":1}"#,
            r#"{"_k":1,"contact":{"mail":1,"advisor":{"id":null},"extra":7},"tier":"x","phone":null,"risk":null,"segment":null}"#,
        ),
        (
            r#""tier":"x","contact":5"#,
            r#"{"_k":1,"contact":{"advisor":{"id":null},"extra":7},"tier":"x","phone":null,"risk":null,"segment":null}"#,
        ),
    ] {
        let before = event(&mut old, members);
        let after = rig("").enrich(before.body(), &[("extra", "7")]).unwrap();
        assert_eq!(ReceivedEvent::read(after.body()).unwrap().after.unwrap(), expected);
    }
}

#[test]
fn a_record_that_is_gone_cannot_be_looked_up() {
    let mut rig = rig("");
    let change = Change { operation: Operation::Delete, after: None, ..sample() };
    let event = rig.event_of(&change);
    let failure = rig.enrich(event.body(), &[]).unwrap_err();
    assert_eq!(failure, Failure::Rejected(Reason::new("no_record", "data.after")));
}

#[test]
fn the_keys_of_looked_up_attributes_are_asked_for_apart() {
    let rig = rig("");
    let keys = PolicyKeys::new(&rig.policy, &TokenHasher::new(KeyBytes::new([1; 32])));
    let due = |later| keys.due(&rig.policy, later, 0).into_iter().map(|(_, path)| path).collect::<Vec<_>>();
    assert_eq!((due(false), due(true)), (vec!["old_secret"], vec!["risk"]));
    assert!(rig.keys.due(&rig.policy, false, crate::protect::KEY_LIFETIME_S - 1).is_empty());
    assert_eq!(rig.keys.due(&rig.policy, false, crate::protect::KEY_LIFETIME_S).len(), 1, "keys end");
}
