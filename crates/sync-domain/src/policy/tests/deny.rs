//! Deny by default: what the model does not list does not leave, wherever it stands.

use super::*;

const MODEL: &str = "
  name: { class: internal }
  address.city: { class: internal, as: city }
  address.geo.lat: { class: internal }
  \"contacts[].value\": { class: internal }
  \"orders[].lines[].sku\": { class: internal }
  prefs: { class: internal, type: json }
";

const RECORD: &str = r#""secret":"S","name":"n","address":{"street":"S","city":"c","geo":{"lat":1,"lon":"S","x":{"lat":"S"}},"name":"S"},"contacts":[{"value":"v","note":"S","contacts":[{"value":"S"}]},{"other":"S"}],"orders":[{"id":"S","lines":[{"sku":"k","price":"S"},{"S":"S"}],"sku":"S"}],"prefs":{"a":[1]},"nested":{"name":"S","contacts":[{"value":"S"}]},"NAME":"S","name ":"S","S":null"#;

#[test]
fn what_is_not_listed_never_appears_at_any_depth() {
    let mut rig = Rig::new(MODEL);
    assert_eq!(
        rig.after(RECORD),
        r#"{"city":"c","address":{"geo":{"lat":1}},"name":"n","prefs":{"a":[1]},"contacts":[{"value":"v"},{"value":null}],"orders":[{"lines":[{"sku":"k"},{"sku":null}]}]}"#
    );
}

#[test]
fn the_record_before_is_governed_like_the_one_after() {
    let mut rig = Rig::of_model(&format!("{BEFORE}{HEAD}{MODEL}"));
    let record = record(RECORD);
    let change =
        Change { operation: Operation::Update, before: Some(&record), after: Some(&record), ..sample() };
    let data = rig.apply_to(&change).unwrap().protected.data().to_owned();
    assert_eq!(member(&data, "before"), member(&data, "after"));
    assert!(!data.contains('S'), "{data}");
}

#[test]
fn the_record_before_travels_only_where_the_model_says_so() {
    let (old, new) = (record(r#""name":"old""#), record(r#""name":"new""#));
    let change = Change { operation: Operation::Update, before: Some(&old), after: Some(&new), ..sample() };
    let data = Rig::new(MODEL).apply_to(&change).unwrap().protected.data().to_owned();
    assert_eq!(member(&data, "before"), None);
    assert!(!data.contains("old"));
    let mut rig = Rig::of_model(&format!("{BEFORE}{HEAD}{MODEL}"));
    assert!(rig.apply_to(&change).unwrap().protected.data().contains("old"));
}

#[test]
fn a_key_with_more_than_the_key_is_refused() {
    let mut rig = Rig::new(MODEL);
    let change = Change { key: r#"{"_k":1,"secret":"S"}"#, ..sample() };
    let failure = rig.apply_to(&change).unwrap_err();
    assert_eq!(failure, Failure::Rejected(Reason::new("key_attributes", "key")));
}

#[test]
fn a_listed_object_does_not_list_its_children() {
    let mut rig = Rig::new("  address: { class: internal }\n");
    assert_eq!(rig.reason(r#""address":{"city":"S"}"#), ("type_mismatch".into(), "address".into()));
    assert_eq!(rig.reason(r#""address":["S"]"#), ("type_mismatch".into(), "address".into()));
}

#[test]
fn names_are_told_apart_after_unescaping_and_to_the_last_letter() {
    let mut rig = Rig::new("  listed_name: { class: internal }\n");
    assert_eq!(rig.after(r#""\u006cisted_name":1"#), r#"{"listed_name":1}"#);
    for other in ["Listed_name", "listed_nam", "listed_name2", "listed_name ", "listed-name", "listed.name"] {
        assert_eq!(rig.after(&format!(r#""{other}":"S""#)), r#"{"listed_name":null}"#, "{other}");
    }
    // A name with a dot in it is no path.
    let mut rig = Rig::new("  a.b: { class: internal }\n");
    assert_eq!(rig.after(r#""a.b":"S""#), r#"{"a":{"b":null}}"#);
}

#[test]
fn a_name_that_stands_twice_is_refused_even_where_nothing_is_listed() {
    let rig = Rig::new("  x: { class: internal }\n");
    for members in
        [r#""x":1,"x":2"#, r#""x":1,"\u0078":2"#, r#""other":{"b":1,"b":2}"#, r#""o":[{"b":1,"b":2}]"#]
    {
        let record = record(members);
        let body = Change { after: Some(&record), ..sample() }.write();
        let read = Captured::read(&body, &LIMITS, |_| Some(&rig.policy));
        assert!(matches!(
            read,
            Err(crate::change::Error::Scan(crate::scan::Error {
                kind: crate::scan::ErrorKind::DuplicateName,
                ..
            }))
        ));
        assert_eq!(rig.policy.pick(&record).err().unwrap().code, "not_json");
    }
}

#[test]
fn a_change_of_another_model_comes_back_unread() {
    let rig = Rig::new("");
    let body = sample().write();
    let read = Captured::read(&body, &LIMITS, |_| None);
    assert_eq!(read.unwrap().unwrap_err(), sample());
    // The model may stand behind the records.
    let behind = body.replacen(r#""model":"m","#, "", 1);
    let behind = format!("{},\"model\":\"m\"}}", behind.strip_suffix('}').unwrap());
    let captured =
        Captured::read(&behind, &LIMITS, |name| (name == "m").then_some(&rig.policy)).unwrap().unwrap();
    assert_eq!(captured.change, sample());
}

#[test]
fn a_change_whose_model_comes_last_is_governed_all_the_same() {
    let mut rig = Rig::new("  x: { class: internal }\n");
    let record = record(r#""x":1,"secret":"S""#);
    let change = Change { after: Some(&record), ..sample() };
    let body = change.write().replacen(r#""model":"m","#, "", 1);
    let body = format!("{},\"model\":\"m\"}}", body.strip_suffix('}').unwrap());
    let policy = rig.policy.clone();
    let captured = Captured::read(&body, &LIMITS, |name| (name == "m").then_some(&policy)).unwrap().unwrap();
    let applied = captured.apply(&rig.rid, &mut rig.keys, &mut Counter(0)).unwrap();
    assert_eq!(member(applied.protected.data(), "after").unwrap(), r#"{"_k":1,"x":1}"#);
}
