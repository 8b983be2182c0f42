//! A model that cannot be run says where and why.

use super::*;

fn errors(yaml: &str) -> Vec<Error> {
    compile(yaml).map(|_| ()).expect_err(yaml)
}

/// The model has exactly this error: its path and how its message begins.
fn assert_error(yaml: &str, path: &str, message: &str) {
    let errors = errors(yaml);
    assert_eq!(errors.len(), 1, "{yaml}\n{errors:?}");
    assert_eq!(errors[0].path, path, "{yaml}");
    assert!(errors[0].message.contains(message), "{yaml}\n{}", errors[0].message);
}

#[test]
fn attributes_that_cannot_be_run_are_refused_with_their_path() {
    for (attributes, path, message) in [
        ("x: { class: sensitive }", "attributes.x.protect", "a sensitive attribute must say how"),
        (
            "x: { class: internal, type: json, protect: tokenize }",
            "attributes.x.protect",
            "only be encrypted or redacted",
        ),
        (
            "x: { class: internal, type: json, protect: { mask: {} } }",
            "attributes.x.protect",
            "only be encrypted or redacted",
        ),
        (
            "x: { class: internal, protect: { mask: { keep_last: 1, text: z } } }",
            "attributes.x.protect",
            "not both",
        ),
        (
            "x: { class: internal }\n  y: { class: internal, compute: { constant: 1, when: { not: { x: { changed: true } } } } }",
            "attributes.y.compute",
            "cannot ask for `changed`",
        ),
        ("x..y: { class: internal }", "attributes.x..y", "a path is dotted names"),
        ("\"x[0]\": { class: internal }", "attributes.x[0]", "a path is dotted names"),
        ("x: { class: internal, as: \"y.\" }", "attributes.x.as", "a path is dotted names"),
        (
            "x: { class: internal }\n  x.y: { class: internal }",
            "attributes.x.y",
            "another one inside it are both listed",
        ),
        (
            "\"x[]\": { class: internal }\n  \"x[].y\": { class: internal }",
            "attributes.x[].y",
            "another one inside it are both listed",
        ),
        (
            "x: { class: internal }\n  \"x[].y\": { class: internal }",
            "attributes.x",
            "another one inside it are both listed",
        ),
        (
            "x: { class: internal }\n  y: { class: internal, as: x }",
            "attributes.y",
            "the same place in the event",
        ),
        (
            "x: { class: internal }\n  y: { class: internal, as: x.z }",
            "attributes.y",
            "the same place in the event",
        ),
        (
            "x.z: { class: internal }\n  y: { class: internal, as: x }",
            "attributes.y",
            "the same place in the event",
        ),
        ("x: { class: internal, as: _k }", "attributes.x", "the same place in the event"),
        (
            "\"x[].y\": { class: internal, as: \"z[].y\" }\n  \"x[].w\": { class: internal, as: \"v[].w\" }",
            "attributes.x[].y",
            "must stay in one array",
        ),
        ("\"x[].y\": { class: internal, as: y }", "attributes.x[].y", "`as` must have `[]`"),
        ("x: { class: internal, as: \"y[]\" }", "attributes.x", "`as` must have `[]`"),
        (
            "\"x[].y\": { class: internal, compute: { constant: 1 } }",
            "attributes.x[].y",
            "stands outside arrays",
        ),
        (
            "x: { class: internal, as: _k, compute: { constant: 1 } }",
            "attributes.x",
            "the same place in the event",
        ),
        ("x: { class: internal, compute: {} }", "attributes.x.compute", "say exactly one"),
        (
            "x: { class: internal, compute: { constant: 1, coalesce: [_k] } }",
            "attributes.x.compute",
            "say exactly one",
        ),
        (
            "x: { class: internal, compute: { coalesce: [nope] } }",
            "attributes.x.compute",
            "no attribute nope is listed",
        ),
        (
            "x: { class: internal, compute: { concat: [{ attribute: nope }] } }",
            "attributes.x.compute",
            "no attribute nope is listed",
        ),
        (
            "x: { class: internal, compute: { code: { of: nope, map: {} } } }",
            "attributes.x.compute",
            "no attribute nope is listed",
        ),
        (
            "x: { class: internal, compute: { coalesce: [y] } }\n  y: { class: internal, compute: { constant: 1 } }",
            "attributes.x.compute",
            "y is computed, looked up or inside an array",
        ),
        (
            "x: { class: internal, compute: { coalesce: [\"y[]\"] } }\n  \"y[]\": { class: internal }",
            "attributes.x.compute",
            "y[] is computed, looked up or inside an array",
        ),
        (
            "x: { class: internal, compute: { when: { nope: { is: 1 } }, constant: 1 } }",
            "attributes.x.compute",
            "when, nope: no attribute nope is listed",
        ),
        (
            "x: { class: personal, compute: { coalesce: [y] } }\n  y: { class: personal }",
            "attributes.x.compute",
            "it reads a personal or sensitive attribute",
        ),
        (
            "x: { class: personal, compute: { constant: 1, when: { y: { exists: true } } } }\n  y: { class: personal }",
            "attributes.x.compute",
            "it reads a personal or sensitive attribute",
        ),
    ] {
        assert_error(&format!("{HEAD}  {attributes}\n"), path, message);
    }
}

#[test]
fn keys_subjects_and_look_ups_that_cannot_be_run_are_refused_with_their_path() {
    let of = |rest: &str, attributes: &str| {
        format!("model: m\n{rest}\nattributes:\n  id: {{ class: identifier }}\n{attributes}")
    };
    for (rest, attributes, path, message) in [
        ("key: []", "", "key", "name at least one attribute"),
        ("key: [nope]", "", "key.nope", "must be listed"),
        ("key: [x.y]", "  x.y: { class: internal }", "key.x.y", "a plain attribute at the top"),
        ("key: [x]", "  x: { class: internal, as: y.z }", "key.x", "a plain attribute at the top"),
        ("key: [\"x[]\"]", "  \"x[]\": { class: internal }", "key.x[]", "a plain attribute at the top"),
        (
            "key: [x]",
            "  x: { class: internal, compute: { constant: 1 } }",
            "key.x",
            "a plain attribute at the top",
        ),
        ("key: [x]", "  x: { class: internal, protect: encrypt }", "key.x", "can be clear or tokenized"),
        ("key: [x]", "  x: { class: internal, protect: redact }", "key.x", "can be clear or tokenized"),
        (
            "key: [x]",
            "  x: { class: internal, protect: { mask: { keep_first: 1 } } }",
            "key.x",
            "can be clear or tokenized",
        ),
        ("key: [x]", "  x: { class: internal, type: json }", "key.x", "a string, an integer or a boolean"),
        ("key: [x]", "  x: { class: internal, type: decimal }", "key.x", "a string, an integer or a boolean"),
        ("key: [id]\nsubject: nope", "", "subject", "must be a listed attribute of the record"),
        (
            "key: [id]\nsubject: \"x[]\"",
            "  \"x[]\": { class: internal }",
            "subject",
            "must be a listed attribute of the record",
        ),
        ("key: [id]\nenrich: { http: { url: u, set: { nope: a } } }", "", "enrich.set", "nope is not listed"),
        (
            "key: [id]\nenrich: { when: { nope: { is: 1 } }, http: { url: u, set: {} } }",
            "",
            "enrich.when.nope",
            "no attribute nope is listed",
        ),
        (
            "key: [id]\nenrich: { when: { s: { is: 1 } }, http: { url: u, set: { s: a } } }",
            "  s: { class: internal }",
            "enrich.when.s",
            "s is computed, looked up",
        ),
        (
            "key: [id]\nenrich: { http: { url: u, set: { \"s[].t\": a } } }",
            "  \"s[].t\": { class: internal }",
            "attributes.s[].t",
            "stands outside arrays",
        ),
    ] {
        assert_error(&of(rest, attributes), path, message);
    }
}

#[test]
fn all_that_is_wrong_with_a_model_is_told_at_once() {
    let found = errors(
        "model: m\nkey: [nope]\nsubject: gone\nattributes:\n  x: { class: sensitive }\n  y: { class: sensitive }\n",
    );
    let paths: Vec<&str> = found.iter().map(|error| error.path.as_str()).collect();
    assert_eq!(paths, ["attributes.x.protect", "attributes.y.protect", "key.nope", "subject"]);
}

#[test]
fn what_was_decided_on_purpose_compiles() {
    for attributes in [
        "x: { class: sensitive, protect: none }",
        "x: { class: sensitive, type: json, protect: encrypt }",
        "x: { class: personal, protect: none, compute: { coalesce: [y] } }\n  y: { class: personal }",
    ] {
        compile(&format!("{HEAD}  {attributes}\n")).unwrap();
    }
    let policy = compile(&format!("{HEAD}  x: {{ class: internal, as: y }}\n")).unwrap();
    assert_eq!(policy.outputs().collect::<Vec<_>>(), ["_k", "y"]);
    assert!(!policy.enriches());
}
