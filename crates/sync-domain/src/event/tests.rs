use serde_json::{Value as Json, json};

use super::*;
use crate::change::Change;
use crate::config::Model;
use crate::policy::{Captured, CompiledPolicy, PolicyKeys};
use crate::ports::KeyBytes;
use crate::protect::TokenHasher;

struct NoNonces;

impl crate::protect::Nonces for NoNonces {
    fn next(&mut self) -> [u8; 12] {
        panic!("nothing is sealed here")
    }
}

const RECORD_ID: &str = "0123456789012345678901234567890123456789012";

/// The event of an update from `x: 1` to `x: 2`, changed by `with`.
fn event(with: impl FnOnce(&mut Change<'static>)) -> Event {
    event_of(
        "model: customer\nkey: [id]\nschema: 3\nattributes:\n  id: { class: identifier }\n  x: { class: internal, as: \"n.y\" }\n",
        with,
    )
}

fn event_of(yaml: &str, with: impl FnOnce(&mut Change<'static>)) -> Event {
    let mut change = Change {
        id: "chg_1".into(),
        source: "crm-db".into(),
        model: "customer".into(),
        operation: Operation::Update,
        version: Some(Version::from_decimal(0, "7").unwrap()),
        occurred_at: "2026-11-24T20:19:23Z".into(),
        origin: "crm".into(),
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
        subject_key_id: None,
        run: None,
        only: None,
        key: r#"{"id":42}"#,
        before: Some(r#"{"id":42,"x":1}"#),
        after: Some(r#"{"id":42,"x":2}"#),
    };
    with(&mut change);
    let model: Model = serde_saphyr::from_str(yaml).unwrap();
    let policy = CompiledPolicy::compile(&model, "0123456789abcdef").unwrap();
    let mut keys = PolicyKeys::new(&policy, &TokenHasher::new(KeyBytes::new([1; 32])));
    let rid = RecordId::from_wire(RECORD_ID);
    let captured = Captured::of(change, &policy);
    let protected = captured.apply(&rid, &mut keys, &mut NoNonces).unwrap().protected;
    let change = captured.change;
    let envelope = Envelope {
        rid,
        version: change.version.unwrap(),
        source: change.source.parse().unwrap(),
        model: change.model.parse().unwrap(),
        operation: change.operation,
        occurred_at: change.occurred_at,
        origin: change.origin,
        traceparent: change.traceparent,
        subject_key_id: change.subject_key_id,
        run: change.run,
        only: change.only,
    };
    Event::new(&envelope, protected, "m1")
}

/// The names of an object's members, in order.
fn names(object: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut scanner = Scanner::new(object, &EVENT_LIMITS).unwrap();
    scanner
        .object(|scanner, name| -> scan::Result<()> {
            names.push(name.into_owned());
            scanner.value().map(|_| ())
        })
        .unwrap();
    names
}

#[test]
fn the_body_is_a_cloud_event() {
    let event = event(|change| change.subject_key_id = Some("person".into()));
    let id = event.id().as_str().to_owned();
    let body: Json = serde_json::from_str(event.body()).unwrap();
    assert_eq!(
        body,
        json!({
            "specversion": "1.0", "id": id, "source": "/datasync/crm-db", "type": "customer.updated", "subject": RECORD_ID,
            "time": "2026-11-24T20:19:23Z", "datacontenttype": "application/json", "dataschema": "urn:datasync:schema/customer/3",
            "sequence": "00000000-0000000000000000000000000000000000000007", "partitionkey": RECORD_ID,
            "policyversion": "0123456789abcdef", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "origin": "crm", "subjectkeyid": "person",
            "data": {"key": {"id": 42}, "after": {"id": 42, "n": {"y": 2}}, "changed": ["n.y"], "fingerprints": {}}
        })
    );
    assert!(id.starts_with("evt_") && id.len() == 47 && !id.contains('.'));
    // Names of CloudEvents attributes: lower-case letters and digits.
    assert!(
        names(event.body())
            .iter()
            .all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
    );
}

#[test]
fn members_stand_in_one_order() {
    let full = event(|change| {
        change.subject_key_id = Some("s".into());
        change.run = Some("r".into());
        change.only = Some("t".into());
    });
    assert_eq!(
        names(full.body()),
        [
            "specversion",
            "id",
            "source",
            "type",
            "subject",
            "time",
            "datacontenttype",
            "dataschema",
            "sequence",
            "partitionkey",
            "policyversion",
            "traceparent",
            "origin",
            "subjectkeyid",
            "run",
            "only",
            "data"
        ]
    );
    let data = full.body().split_once(",\"data\":").unwrap().1;
    assert_eq!(names(data.strip_suffix('}').unwrap()), ["key", "after", "changed", "fingerprints"]);
}

#[test]
fn the_id_says_which_record_version_and_operation_and_nothing_else() {
    let id = |with: fn(&mut Change<'static>)| event(with).id().clone();
    let first = id(|_| ());
    assert_eq!(first, id(|change| change.after = Some(r#"{"id":42,"x":3}"#)), "not what it holds");
    assert_eq!(first, id(|change| change.traceparent = "other".into()));
    assert_ne!(first, id(|change| change.version = Some(Version::from_decimal(0, "8").unwrap())));
    assert_ne!(first, id(|change| change.operation = Operation::Snapshot));
}

#[test]
fn attributes_are_what_filters_look_at() {
    let text = |text: &str| AttributeValue::Text(text.to_owned());
    let list = |names: &[&str]| AttributeValue::List(names.iter().map(|name| (*name).to_owned()).collect());
    let updated = event(|_| ());
    assert_eq!(
        updated.attributes(),
        [
            ("source", text("crm-db")),
            ("model", text("customer")),
            ("operation", text("update")),
            ("type", text("customer.updated")),
            ("changed", list(&["any", "n.y"]))
        ]
    );
    let same = event(|change| change.before = change.after);
    assert_eq!(same.attributes()[4], ("changed", list(&["any"])));
    for (operation, name) in
        [(Operation::Create, "created"), (Operation::Delete, "deleted"), (Operation::Snapshot, "snapshot")]
    {
        let event = event(|change| {
            change.operation = operation;
            if operation == Operation::Delete {
                change.after = None;
            }
        });
        assert_eq!(event.attributes()[3], ("type", text(&format!("customer.{name}"))));
        assert_eq!(event.attributes()[4], ("changed", list(&["any", "unknown"])));
    }
    let replayed = event(|change| change.only = Some("loyalty".into()));
    assert_eq!(replayed.attributes()[5], ("only", text("loyalty")));
}

/// What SNS counts: the body, and each attribute's name, data type and value.
fn counted(event: &Event) -> usize {
    let attribute = |(name, value): &(&str, AttributeValue)| {
        name.len()
            + match value {
                AttributeValue::Text(text) => "String".len() + text.len(),
                AttributeValue::List(texts) => "String.Array".len() + json!(texts).to_string().len(),
            }
    };
    event.body().len() + event.attributes().iter().map(attribute).sum::<usize>()
}

#[test]
fn the_size_is_at_least_what_sns_counts_and_hardly_more() {
    let long = "l23456789012345678901234567890123456789012345678";
    let many: String = (0..40)
        .map(|n| format!("  attribute_{n}: {{ class: internal, as: \"deep.p\\\"\\u0001ath.é.{n}\" }}\n"))
        .collect();
    let yaml = format!("model: {long}\nkey: [id]\nattributes:\n  id: {{ class: identifier }}\n{many}");
    let members: Vec<String> = (0..40).map(|n| format!("\"attribute_{n}\":{n}")).collect();
    let after: &'static str = Box::leak(format!("{{\"id\":42,{}}}", members.join(",")).into_boxed_str());
    for event in [
        event(|_| ()),
        event(|change| change.operation = Operation::Snapshot),
        event(|change| change.only = Some(long.into())),
        event_of(&yaml, |change| {
            change.model = long.into();
            change.source = long.into();
            change.only = Some(long.into());
            change.after = Some(after);
        }),
    ] {
        let counted = counted(&event);
        assert!(event.size() >= counted && event.size() <= counted + 128, "{} {counted}", event.size());
    }
}

#[test]
fn members_that_are_not_known_yet_are_passed_over() {
    let event = event(|_| ());
    let more = event.body().replacen('{', r#"{"new":{"a":[1]},"#, 1).replacen(
        r#""data":{"#,
        r#""data":{"hints":{"x":1},"#,
        1,
    );
    let [old, new] = [event.body(), more.as_str()].map(|body| ReceivedEvent::read(body).unwrap());
    assert_eq!(new, old);
    // And what an older version does not write yet may be missing.
    let less = event.body().replacen(r#","fingerprints":{}"#, "", 1);
    assert_eq!(ReceivedEvent::read(&less).unwrap(), old);
}

#[test]
fn run_and_only_are_there_when_the_event_has_them() {
    let bare = event(|_| ());
    let received = ReceivedEvent::read(bare.body()).unwrap();
    assert_eq!((received.envelope.run, received.envelope.only), (None, None));
    assert!(!bare.body().contains("\"run\"") && !bare.body().contains("\"only\""));
    let full = event(|change| {
        change.run = Some("run-1".into());
        change.only = Some("loyalty".into());
    });
    let received = ReceivedEvent::read(full.body()).unwrap();
    assert_eq!(
        (received.envelope.run.as_deref(), received.envelope.only.as_deref()),
        (Some("run-1"), Some("loyalty"))
    );
}

#[test]
fn an_event_that_was_not_changed_is_published_as_it_was_received() {
    for with in [
        (|_| ()) as fn(&mut Change<'static>),
        |change| change.operation = Operation::Create,
        |change| (change.before, change.run, change.only) = (None, Some("r".into()), Some("t".into())),
        |change| (change.operation, change.after) = (Operation::Delete, None),
    ] {
        for head in ["", "before: true\n"] {
            let yaml = format!(
                "model: customer\nkey: [id]\n{head}attributes:\n  id: {{ class: identifier }}\n  x: {{ class: internal }}\n"
            );
            let event = event_of(&yaml, with);
            assert_eq!(ReceivedEvent::read(event.body()).unwrap().unchanged("m1"), event_of(&yaml, with));
            assert_eq!(ReceivedEvent::read(event.body()).unwrap().unchanged("m1").body(), event.body());
        }
    }
}

#[test]
fn what_is_no_event_says_which_member() {
    let body = event(|_| ()).body().to_owned();
    for (from, to, member) in [
        ("\"id\":\"evt", "\"id2\":\"evt", "id"),
        ("/datasync/crm-db", "/elsewhere/crm-db", "source"),
        ("/datasync/crm-db", "/datasync/CRM", "source"),
        ("customer.updated", "customer.upserted", "type"),
        ("customer.updated", "customer", "type"),
        ("\"sequence\":\"0", "\"sequence\":\"x", "sequence"),
        ("\"time\":\"2026-11-24T20:19:23Z\"", "\"time\":1", "time"),
        ("\"partitionkey\"", "\"partition\"", "partitionkey"),
        ("\"key\":{\"id\":42}", "\"key\":[]", "data.key"),
        ("\"key\":{\"id\":42}", "\"key\":null", "data.key"),
        ("\"after\":{\"id\":42,\"n\":{\"y\":2}}", "\"after\":7", "data.after"),
        ("\"changed\":[\"n.y\"]", "\"changed\":[1]", "data.changed"),
        ("\"fingerprints\":{}", "\"fingerprints\":{\"a\":1}", "data.fingerprints"),
    ] {
        assert!(body.contains(from), "{from}");
        assert_eq!(ReceivedEvent::read(&body.replacen(from, to, 1)), Err(Error::Member(member)), "{to}");
    }
    for broken in ["", "[]", "{", "{}", &format!("{body} x"), &body.replacen("\"id\"", "\"time\"", 1)] {
        assert!(ReceivedEvent::read(broken).is_err(), "{broken}");
    }
}
