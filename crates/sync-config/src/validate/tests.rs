use super::*;
use crate::tests::samples;

const MODEL: &str = "\
model: customer
key: [id]
subject: id
attributes:
  id: { class: identifier, type: integer }
  email: { class: personal, type: string, protect: tokenize }
  name: { class: personal, type: string, protect: none }
  tier: { class: internal, type: string, as: level }
  since: { class: internal, type: time }
  contacts[].kind: { class: internal }
  prefs: { class: internal, type: json }
  segment: { class: internal }
  label:
    class: personal
    protect: redact
    compute: { concat: [{ attribute: name }, { text: x }] }
enrich:
  when: { tier: { in: [gold] } }
  http:
    url: \"https://profiles.example.com/c/{id}\"
    set: { segment: segment }
";

const SOURCE: &str = "\
source: crm
push:
  secret: datasync/source/crm
  models: [customer]
";

const TARGET: &str = "\
target: loyalty
subscribe:
  - model: customer
    when_changed: [email]
attributes: [id, level]
endpoint:
  url: https://loyalty.example.com/hooks
  auth: { standard_webhooks: datasync/target/loyalty }
";

fn files(model: &str, source: &str, target: &str) -> Vec<ConfigFile> {
    vec![
        ConfigFile::new("models/customer.yaml", model),
        ConfigFile::new("sources/crm.yaml", source),
        ConfigFile::new("targets/loyalty.yaml", target),
    ]
}

fn print(findings: &[Error]) -> Vec<String> {
    findings.iter().map(Error::to_string).collect()
}

/// One line of one file changed; the first finding must print so, and no second one elsewhere may hide it.
#[track_caller]
fn refuses(text: &'static str, from: &str, to: &str, expected: &str) {
    assert_eq!(text.matches(from).count(), 1, "{from}");
    let changed = text.replacen(from, to, 1);
    let pick = |own: &'static str| if own == text { changed.as_str() } else { own };
    let errors = print(&validate(&files(pick(MODEL), pick(SOURCE), pick(TARGET))).errors);
    assert!(
        errors.iter().any(|error| error.starts_with(expected)),
        "{from} -> {to}\n{errors:#?}\nshould have\n{expected}"
    );
}

#[track_caller]
fn accepts(text: &'static str, from: &str, to: &str) {
    assert_eq!(text.matches(from).count(), 1, "{from}");
    let changed = text.replacen(from, to, 1);
    let pick = |own: &'static str| if own == text { changed.as_str() } else { own };
    let errors = print(&validate(&files(pick(MODEL), pick(SOURCE), pick(TARGET))).errors);
    assert_eq!(errors, Vec::<String>::new(), "{from} -> {to}");
}

#[test]
fn a_sound_configuration_has_neither_errors_nor_warnings() {
    let report = validate(&files(MODEL, SOURCE, TARGET));
    assert_eq!(print(&report.errors), Vec::<String>::new());
    assert_eq!(print(&report.warnings), Vec::<String>::new());
    assert!(report.config.is_some());
}

#[test]
fn the_sample_configuration_has_neither_errors_nor_warnings() {
    let report = validate(&samples());
    assert_eq!(print(&report.errors), Vec::<String>::new());
    assert_eq!(print(&report.warnings), Vec::<String>::new());
}

#[test]
fn a_break_of_form_is_reported_before_anything_else() {
    let report = validate(&files(MODEL, SOURCE, "target: loyalty\n"));
    assert_eq!(print(&report.errors), ["targets/loyalty.yaml:1:1: \"subscribe\" is missing; add it"]);
    assert!(report.config.is_none());
}

#[test]
fn a_model_has_exactly_one_source() {
    refuses(SOURCE, "[customer]", "[]", "models/customer.yaml:1:1: model: no source writes it");
    refuses(
        SOURCE,
        "[customer]",
        "[customer, price]",
        "sources/crm.yaml:4:22: push.models.1: there is no model price",
    );
    refuses(
        SOURCE,
        "[customer]",
        "[customer, customer]",
        "sources/crm.yaml:4:22: push.models.1: customer is listed twice",
    );
    let mut all = files(MODEL, SOURCE, TARGET);
    all.push(ConfigFile::new("sources/shop.yaml", SOURCE.replace("source: crm", "source: shop")));
    assert_eq!(
        print(&validate(&all).errors),
        [
            "sources/shop.yaml:4:12: push.models.0: source crm writes customer already; a model has exactly one source"
        ]
    );
}

#[test]
fn a_source_says_who_it_is() {
    refuses(SOURCE, "  secret: datasync/source/crm\n", "", "sources/crm.yaml:2:1: push: nobody could push");
    refuses(
        SOURCE,
        "  secret: datasync/source/crm",
        "  principal: '*'",
        "sources/crm.yaml:3:3: push.principal: not the ARN",
    );
    for wrong in [
        "arn:aws:iam::1:role/x",
        "arn:aws:iam::111122223333:role/*",
        "arn:aws:iam::111122223333:root",
        "arn:aws:sts::111122223333:role/x",
    ] {
        refuses(
            SOURCE,
            "  secret: datasync/source/crm",
            &format!("  principal: '{wrong}'"),
            "sources/crm.yaml:3:3: push.principal: not the ARN",
        );
    }
    accepts(SOURCE, "  secret: datasync/source/crm", "  principal: arn:aws:iam::111122223333:role/teams/crm");
    let mut all = files(MODEL, SOURCE, TARGET);
    all.push(ConfigFile::new("sources/db.yaml", "source: db\n"));
    assert_eq!(
        print(&validate(&all).errors),
        ["sources/db.yaml:1:1: source: no way in; add push, postgres or dynamodb"]
    );
}

/// [`SOURCE`] with Debezium behind it.
const DEBEZIUM: &str = "\
source: crm
push:
  secret: datasync/source/crm
  format: debezium
  tables:
    public.customers: customer
    public.debezium_signal: null
";

#[test]
fn a_source_of_debezium_gives_tables_their_models_and_nothing_else() {
    assert_eq!(print(&validate(&files(MODEL, DEBEZIUM, TARGET)).errors), Vec::<String>::new());
    for (from, to, expected) in [
        ("  format: debezium\n", "", "sources/crm.yaml:4:3: push.tables: tables belong to format: debezium"),
        (
            "  tables:",
            "  models: [customer]\n  tables:",
            "sources/crm.yaml:5:3: push.models: with format: debezium",
        ),
        (
            "  tables:",
            "  version: time\n  tables:",
            "sources/crm.yaml:5:3: push.version: with format: debezium",
        ),
        (
            "public.customers: customer",
            "customers: customer",
            "sources/crm.yaml:6:5: push.tables.customers: not the",
        ),
        (
            "public.customers: customer",
            "crm.public.customers: customer",
            "sources/crm.yaml:6:5: push.tables.crm",
        ),
        (
            "public.customers: customer",
            "public.customers: price",
            "sources/crm.yaml:6:5: push.tables.public.customers",
        ),
        (
            "public.debezium_signal: null",
            "public.people: customer",
            "sources/crm.yaml:7:5: push.tables.public.people: customer is listed twice",
        ),
    ] {
        let text = DEBEZIUM.replace(from, to);
        assert_ne!(text, DEBEZIUM, "{from}");
        let errors = print(&validate(&files(MODEL, &text, TARGET)).errors);
        assert!(errors.iter().any(|error| error.starts_with(expected)), "{expected}: {errors:?}");
    }
    let nothing = DEBEZIUM.replace("public.customers: customer", "public.customers: null");
    let errors = print(&validate(&files(MODEL, &nothing, TARGET)).errors);
    let expected = "sources/crm.yaml:5:3: push.tables: the source may write nothing; give a table its model";
    assert!(errors.iter().any(|error| error == expected), "{errors:?}");
}

#[test]
fn a_secret_is_named_and_never_shown() {
    for (wrong, expected) in [
        (
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "sources/crm.yaml:3:3: push.secret: this looks like a secret itself",
        ),
        ("hunter2 is my password", "sources/crm.yaml:3:3: push.secret: not a name of a secret"),
        ("other/crm", "sources/crm.yaml:3:3: push.secret: the functions may read only secrets"),
    ] {
        refuses(SOURCE, "datasync/source/crm", wrong, expected);
        let errors = validate(&files(MODEL, &SOURCE.replace("datasync/source/crm", wrong), TARGET)).errors;
        assert!(!print(&errors).concat().contains(wrong), "{wrong}");
    }
}

#[test]
fn a_key_is_made_of_clear_or_tokenized_scalars_at_the_top() {
    refuses(MODEL, "key: [id]", "key: []", "models/customer.yaml:2:1: key: names no attribute");
    refuses(MODEL, "key: [id]", "key: [id, uid]", "models/customer.yaml:2:11: key.1: uid is not listed");
    refuses(MODEL, "key: [id]", "key: [id, id]", "models/customer.yaml:2:11: key.1: id is named twice");
    refuses(
        MODEL,
        "key: [id]",
        "key: [label]",
        "models/customer.yaml:2:7: key.0: label is computed or set by enrich",
    );
    refuses(
        MODEL,
        "key: [id]",
        "key: [segment]",
        "models/customer.yaml:2:7: key.0: segment is computed or set by enrich",
    );
    refuses(
        MODEL,
        "key: [id]",
        "key: ['contacts[].kind']",
        "models/customer.yaml:2:7: key.0: contacts[].kind is not at the top level",
    );
    let key = "class: identifier, type: integer }";
    refuses(
        MODEL,
        key,
        "class: identifier, as: ids.id }",
        "models/customer.yaml:2:7: key.0: id is not at the top level",
    );
    for protect in ["encrypt", "redact", "{ mask: { keep_last: 1 } }"] {
        let expected = "models/customer.yaml:5:28: attributes.id.protect: of a key";
        refuses(MODEL, key, &format!("class: identifier, protect: {protect} }}"), expected);
    }
    for kind in ["decimal", "json"] {
        let expected = "models/customer.yaml:5:28: attributes.id.type: of a key";
        refuses(MODEL, key, &format!("class: identifier, type: {kind} }}"), expected);
    }
}

#[test]
fn a_subject_is_one_listed_scalar() {
    refuses(MODEL, "subject: id", "subject: uid", "models/customer.yaml:3:1: subject: uid is not listed");
    refuses(
        MODEL,
        "subject: id",
        "subject: label",
        "models/customer.yaml:3:1: subject: label must come with the record",
    );
    refuses(
        MODEL,
        "subject: id",
        "subject: contacts[].kind",
        "models/customer.yaml:3:1: subject: contacts[].kind must",
    );
    refuses(
        MODEL,
        "subject: id",
        "subject: prefs",
        "models/customer.yaml:3:1: subject: prefs is of type json",
    );
}

#[test]
fn personal_data_without_a_subject_is_a_warning() {
    let report = validate(&files(&MODEL.replace("subject: id\n", ""), SOURCE, TARGET));
    assert!(report.errors.is_empty());
    let expected = "models/customer.yaml:3:1: attributes: hold personal data, but nothing says whose";
    assert!(print(&report.warnings)[0].starts_with(expected), "{:?}", report.warnings);
}

#[test]
fn what_is_sensitive_says_how_it_is_protected() {
    let rule = "class: personal, type: string, protect: tokenize";
    refuses(
        MODEL,
        rule,
        "class: sensitive",
        "models/customer.yaml:6:3: attributes.email: is sensitive; say how",
    );
    let report = validate(&files(&MODEL.replace(rule, "class: sensitive, protect: none"), SOURCE, TARGET));
    assert!(report.errors.is_empty());
    assert_eq!(
        print(&report.warnings),
        [
            "models/customer.yaml:6:30: attributes.email.protect: is sensitive and left clear; protect it unless somebody decided so"
        ]
    );
    accepts(MODEL, rule, "class: sensitive, protect: encrypt");
}

#[test]
fn a_personal_attribute_left_clear_by_silence_is_a_warning() {
    let model =
        MODEL.replace("class: personal, type: string, protect: none", "class: personal, type: string");
    let report = validate(&files(&model, SOURCE, TARGET));
    assert_eq!(print(&report.errors), Vec::<String>::new());
    assert_eq!(
        print(&report.warnings),
        [
            "models/customer.yaml:7:3: attributes.name: is personal and left clear; say protect: none if somebody decided so"
        ]
    );
}

#[test]
fn protection_fits_the_type() {
    let prefs = "prefs: { class: internal, type: json }";
    for protect in ["tokenize", "{ mask: { text: x } }"] {
        let to = format!("prefs: {{ class: internal, type: json, protect: {protect} }}");
        refuses(
            MODEL,
            prefs,
            &to,
            "models/customer.yaml:11:41: attributes.prefs.protect: does not fit type json",
        );
    }
    for protect in ["none", "encrypt", "redact"] {
        accepts(MODEL, prefs, &format!("prefs: {{ class: internal, type: json, protect: {protect} }}"));
    }
    refuses(
        MODEL,
        prefs,
        "prefs: { class: internal, protect: { mask: { text: x, keep_last: 2 } } }",
        "models/customer.yaml:11:40: attributes.prefs.protect.mask: has a text and keeps a part",
    );
}

#[test]
fn a_computed_attribute_is_made_of_listed_single_ones() {
    let concat = "compute: { concat: [{ attribute: name }, { text: x }] }";
    let at = "models/customer.yaml:16:5: attributes.label.compute: ";
    for (to, expected) in [
        ("compute: {}", "needs exactly one of"),
        ("compute: { constant: 1, coalesce: [name] }", "needs exactly one of"),
        ("compute: { coalesce: [nick] }", "reads nick, which is not listed"),
        ("compute: { coalesce: [segment] }", "reads segment, which enrich sets"),
        ("compute: { coalesce: ['contacts[].kind'] }", "reads contacts[].kind, which is in an array"),
        ("compute: { concat: [{ attribute: prefs }] }", "reads prefs of type json"),
        ("compute: { code: { of: nick, map: {} } }", "reads nick, which is not listed"),
        ("compute: { coalesce: [label] }", "reads label, which is computed itself"),
    ] {
        refuses(MODEL, concat, to, &format!("{at}{expected}"));
    }
    refuses(
        MODEL,
        "  label:\n",
        "  labels[].x:\n",
        "models/customer.yaml:13:3: attributes.labels[].x: is computed, so it cannot be in an array",
    );
}

#[test]
fn a_computed_attribute_is_guarded_as_what_decides_whether_it_is_there() {
    let constant = "    class: internal\n    protect: redact\n    compute: { constant: x, when: { any: [{ tier: { is: a } }, { not: { email: { exists: true } } }] } }";
    let label = "    class: personal\n    protect: redact\n    compute: { concat: [{ attribute: name }, { text: x }] }";
    refuses(
        MODEL,
        label,
        constant,
        "models/customer.yaml:14:5: attributes.label.class: is lower than what it reads; make it personal",
    );
    refuses(
        MODEL,
        label,
        &constant.replace("internal\n    protect: redact", "personal"),
        "models/customer.yaml:13:3: attributes.label: is made of personal attributes; say how to protect it",
    );
    accepts(MODEL, label, &constant.replace("internal", "personal"));
    accepts(MODEL, label, &constant.replace(", { not: { email: { exists: true } } }", ""));
}

#[test]
fn a_computed_attribute_is_guarded_as_what_it_reads() {
    refuses(
        MODEL,
        "    class: personal\n",
        "    class: internal\n",
        "models/customer.yaml:14:5: attributes.label.class: is lower than what it reads; make it personal",
    );
    refuses(
        MODEL,
        "    protect: redact\n",
        "",
        "models/customer.yaml:13:3: attributes.label: is made of personal attributes; say how to protect it",
    );
}

#[test]
fn two_attributes_never_meet_in_the_event() {
    refuses(
        MODEL,
        "as: level",
        "as: email",
        "models/customer.yaml:8:42: attributes.tier.as: meets email in the event",
    );
    refuses(
        MODEL,
        "as: level",
        "as: email.tier",
        "models/customer.yaml:8:42: attributes.tier.as: meets email in the event",
    );
    refuses(
        MODEL,
        "as: level",
        "as: contacts",
        "models/customer.yaml:8:42: attributes.tier.as: meets contacts[].kind",
    );
    refuses(
        MODEL,
        "as: level",
        "as: contacts.tier",
        "models/customer.yaml:8:42: attributes.tier.as: meets contacts[].kind",
    );
    refuses(
        MODEL,
        "as: level",
        "as: 'levels[].x'",
        "models/customer.yaml:8:42: attributes.tier.as: must have [] as often",
    );
    refuses(MODEL, "as: level", "as: 'a..b'", "models/customer.yaml:8:42: attributes.tier.as: not a path");
    refuses(MODEL, "  prefs:", "  'prefs[0]':", "models/customer.yaml:11:3: attributes.prefs[0]: not a path");
    let kind = "contacts[].kind: { class: internal }";
    refuses(
        MODEL,
        kind,
        "contacts[].kind: { class: internal, as: kind }",
        "models/customer.yaml:10:39: attributes.contacts[].kind.as: must have [] as often",
    );
    accepts(MODEL, kind, "contacts[].kind: { class: internal, as: 'reach.ways[].kind' }");
    refuses(
        MODEL,
        kind,
        "contacts[].kind: { class: internal }\n  others[].x: { class: internal, as: 'contacts[].x' }",
        "models/customer.yaml:11:34: attributes.others[].x.as: would put the items of two arrays into one",
    );
}

#[test]
fn what_only_the_compiled_policy_refuses_has_its_place_too() {
    refuses(
        MODEL,
        "  segment: { class: internal }\n",
        "  segment: { class: internal }\n  prefs.colour: { class: internal, as: colour }\n",
        "models/customer.yaml:13:3: attributes.prefs.colour: an attribute and another one inside it are both listed",
    );
}

#[test]
fn conditions_read_single_attributes_of_a_fitting_type() {
    let when = "when: { tier: { in: [gold] } }";
    let at = "models/customer.yaml:18:11: enrich.when.";
    for (to, expected) in [
        ("when: { rank: { is: 1 } }", "rank: is not listed"),
        ("when: { tier: { '<': 5 } }", "tier: `<` and `>` need"),
        ("when: { since: { '>': soon } }", "since: "),
        ("when: { prefs: { is: x } }", "prefs: "),
        ("when: { label: { exists: true } }", "label: is computed or set by enrich"),
        ("when: { segment: { exists: true } }", "segment: is computed or set by enrich"),
        ("when: { 'contacts[].kind': { is: x } }", "contacts[].kind: is in an array"),
    ] {
        refuses(MODEL, when, to, &format!("{at}{expected}"));
    }
    accepts(MODEL, when, "when: { since: { '>': 2026-01-01T00:00:00Z } }");
    refuses(
        MODEL,
        when,
        "when: { any: [{ rank: { is: 1 } }] }",
        "models/customer.yaml:18:3: enrich.when.rank: is not listed",
    );
    refuses(
        MODEL,
        "compute: { concat",
        "compute: { when: { rank: { is: 1 } }, concat",
        "models/customer.yaml:16:24: attributes.label.compute.when.rank: is not listed",
    );
}

#[test]
fn a_lookup_by_a_protected_attribute_is_refused() {
    refuses(MODEL, "/c/{id}", "/c/{email}", "models/customer.yaml:20:5: enrich.http.url: email is protected");
    refuses(MODEL, "/c/{id}", "/c/{label}", "models/customer.yaml:20:5: enrich.http.url: label is protected");
    refuses(
        MODEL,
        "/c/{id}",
        "/c/{tier}",
        "models/customer.yaml:20:5: enrich.http.url: tier is no attribute of the event",
    );
    refuses(
        MODEL,
        "/c/{id}",
        "/c/{segment}",
        "models/customer.yaml:20:5: enrich.http.url: segment is what the look-up sets",
    );
    refuses(
        MODEL,
        "/c/{id}",
        "/c/{prefs}",
        "models/customer.yaml:20:5: enrich.http.url: prefs is no single scalar",
    );
    accepts(MODEL, "/c/{id}", "/c/{id}?level={level}");
    let http = "http:\n    url: \"https://profiles.example.com/c/{id}\"";
    let table = |key: &str| format!("dynamodb:\n    table: profiles\n    key: {key}");
    accepts(MODEL, http, &table("{ pk: id }"));
    refuses(
        MODEL,
        http,
        &table("{ pk: email }"),
        "models/customer.yaml:21:12: enrich.dynamodb.key.pk: email is protected",
    );
    refuses(MODEL, http, &table("{}"), "models/customer.yaml:21:5: enrich.dynamodb.key: must name");
    refuses(
        MODEL,
        http,
        &table("{ pk: id }").replace("profiles", "p r"),
        "models/customer.yaml:20:5: enrich.dynamodb.table: not a name",
    );
}

#[test]
fn a_lookup_goes_to_one_fixed_host_by_https() {
    let url = "https://profiles.example.com/c/{id}";
    let at = "models/customer.yaml:20:5: enrich.http.url: ";
    for (to, expected) in [
        ("http://profiles.example.com/c/{id}", "the address must be https"),
        ("ftp://profiles.example.com/c/{id}", "the address must be https"),
        ("https://{id}.example.com/c", "must start with https://host/"),
        ("https://user:hunter2@profiles.example.com/c/{id}", "the address holds a user name or password"),
        ("/c/{id}", "must start with https://host/"),
        ("https://profiles.example.com/c/{id", "has a brace without its partner"),
        ("https://profiles.example.com/c", "asks the same for every record"),
    ] {
        refuses(MODEL, url, to, &format!("{at}{expected}"));
        let errors = validate(&files(&MODEL.replace(url, to), SOURCE, TARGET)).errors;
        assert!(!print(&errors).concat().contains("hunter2"));
    }
    let report = validate(&files(&MODEL.replace(url, "http://127.0.0.1:8080/c/{id}"), SOURCE, TARGET));
    assert!(report.errors.is_empty());
    assert_eq!(report.warnings.len(), 1, "{:?}", report.warnings);
}

#[test]
fn a_lookup_sets_attributes_of_its_own() {
    let set = "set: { segment: segment }";
    let at = "models/customer.yaml:21:12: enrich.http.set.";
    refuses(MODEL, set, "set: { rank: rank }", &format!("{at}rank: is not listed"));
    refuses(MODEL, set, "set: { label: label }", &format!("{at}label: is computed"));
    refuses(MODEL, set, "set: { 'contacts[].kind': kind }", &format!("{at}contacts[].kind: is in an array"));
    refuses(MODEL, set, "set: { segment: 'a[].b' }", &format!("{at}segment: must say where"));
    refuses(MODEL, set, "set: {}", "models/customer.yaml:21:5: enrich.http.set: sets nothing");
    refuses(
        MODEL,
        set,
        "set: { segment: segment }\n  dynamodb: { table: ttt, key: { pk: id }, set: {} }",
        "models/customer.yaml:17:1: enrich: needs exactly one of",
    );
}

#[test]
fn the_rest_of_a_lookup_is_checked_too() {
    let set = "    set: { segment: segment }";
    let at = "models/customer.yaml:21:";
    let with = |line: &str| format!("    {line}\n{set}");
    refuses(MODEL, set, &with("timeout: soon"), &format!("{at}5: enrich.http.timeout: a duration is"));
    refuses(MODEL, set, &with("timeout: 1h"), &format!("{at}5: enrich.http.timeout: must be above 0s"));
    refuses(
        MODEL,
        set,
        &with("timeout: 21s"),
        &format!("{at}5: enrich.http.timeout: must be above 0s and at most 20s"),
    );
    accepts(MODEL, set, &with("timeout: 20s"));
    refuses(MODEL, set, &with("cache: 1 day"), &format!("{at}5: enrich.http.cache: a duration is"));
    refuses(
        MODEL,
        set,
        &with("allow_networks: [here]"),
        &format!("{at}22: enrich.http.allow_networks.0: must be a network"),
    );
    refuses(
        MODEL,
        set,
        &with("api_key: { header: x y, secret: datasync/x }"),
        &format!("{at}16: enrich.http.api_key.header: not a name"),
    );
    refuses(
        MODEL,
        set,
        &with("api_key: { header: x-y, secret: whsec_x }"),
        &format!("{at}29: enrich.http.api_key.secret: this looks like"),
    );
    accepts(MODEL, set, &with("api_key: { header: x-y, secret: datasync/x }"));
}

#[test]
fn a_target_asks_for_what_is_there() {
    refuses(
        TARGET,
        "model: customer",
        "model: price",
        "targets/loyalty.yaml:3:5: subscribe.0.model: there is no model price",
    );
    refuses(
        TARGET,
        "[email]",
        "[mail]",
        "targets/loyalty.yaml:4:20: subscribe.0.when_changed.0: mail is no attribute of the event; there are contacts[].kind, email",
    );
    refuses(
        TARGET,
        "[email]",
        "[tier]",
        "targets/loyalty.yaml:4:20: subscribe.0.when_changed.0: tier is no attribute",
    );
    refuses(
        TARGET,
        "[email]",
        "[segment]",
        "targets/loyalty.yaml:4:20: subscribe.0.when_changed.0: enrich sets segment",
    );
    refuses(
        TARGET,
        "[id, level]",
        "[id, tier]",
        "targets/loyalty.yaml:5:18: attributes.1: tier is no attribute",
    );
    refuses(
        TARGET,
        "[id, level]",
        "[id, { tier: x }]",
        "targets/loyalty.yaml:5:18: attributes.1: tier is no attribute",
    );
    refuses(
        TARGET,
        "[id, level]",
        "[id, { level: id }]",
        "targets/loyalty.yaml:5:18: attributes.1: meets id at the target",
    );
    refuses(
        TARGET,
        "[id, level]",
        "[id, { level: id.x }]",
        "targets/loyalty.yaml:5:18: attributes.1: meets id at the target",
    );
    refuses(
        TARGET,
        "[id, level]",
        "['contacts[].kind', { 'contacts[].kind': kind }]",
        "targets/loyalty.yaml:5:33: attributes.1: the new name must have []",
    );
    accepts(TARGET, "[id, level]", "[contacts, { prefs.colour: colour }]");
    refuses(
        TARGET,
        "    when_changed: [email]\n",
        "    attributes: [tier]\n",
        "targets/loyalty.yaml:4:18: subscribe.0.attributes.0: tier is no attribute",
    );
}

#[test]
fn a_target_takes_a_request_of_each_running_function() {
    let timeout = "  url: https://loyalty.example.com/hooks\n";
    for most in [0, 1] {
        refuses(
            TARGET,
            timeout,
            &format!("{timeout}  rate: 5/s\n  quota: 100/d\n  concurrency: {most}\n"),
            "targets/loyalty.yaml:10:3: endpoint.concurrency: must be 2 or more",
        );
    }
    accepts(TARGET, timeout, &format!("{timeout}  concurrency: 2\n"));
}

#[test]
fn a_subscription_can_match_something() {
    let when = "    when_changed: [email]\n";
    refuses(
        TARGET,
        when,
        "    operations: []\n    snapshot: false\n",
        "targets/loyalty.yaml:4:5: subscribe.0.operations: the entry matches nothing",
    );
    refuses(
        TARGET,
        when,
        "    operations: [snapshot]\n",
        "targets/loyalty.yaml:4:18: subscribe.0.operations.0: snapshots are not named here",
    );
    refuses(
        TARGET,
        when,
        "    operations: [create]\n    when_changed: [email]\n",
        "targets/loyalty.yaml:5:5: subscribe.0.when_changed: is about updates",
    );
    refuses(
        TARGET,
        "  - model: customer\n    when_changed: [email]",
        "  []",
        "targets/loyalty.yaml:2:1: subscribe: the target would get nothing",
    );
}

#[test]
fn an_endpoint_is_reached_by_https_without_secrets_in_its_address() {
    let url = "https://loyalty.example.com/hooks";
    let at = "targets/loyalty.yaml:7:3: endpoint.url: ";
    for (to, expected) in [
        ("http://loyalty.example.com/hooks", "the address must be https"),
        ("http://10.0.0.1/hooks", "the address must be https"),
        ("https://user:hunter2@loyalty.example.com/hooks", "the address holds a user name or password"),
        ("https://hunter2@loyalty.example.com/hooks", "the address holds a user name or password"),
        ("https://loyalty.example.com/hooks#hunter2", "the address has a fragment"),
        ("https://loyalty.example.com:8443/hooks", "its port is not allowed"),
        ("data:hunter2", "the address has no host"),
    ] {
        refuses(TARGET, url, to, &format!("{at}{expected}"));
        let errors = validate(&files(MODEL, SOURCE, &TARGET.replace(url, to))).errors;
        assert!(!print(&errors).concat().contains("hunter2"));
    }
    accepts(TARGET, url, "https://loyalty.example.com:8443/hooks\n  ports: [8443]");
    let report = validate(&files(
        MODEL,
        SOURCE,
        &TARGET.replace(url, "https://loyalty.example.com/in?api_key=hunter2"),
    ));
    assert!(report.errors.is_empty());
    let warnings = print(&report.warnings).concat();
    assert!(
        warnings.starts_with("targets/loyalty.yaml:7:3: endpoint.url: the address seems to hold a secret")
    );
    assert!(!warnings.contains("hunter2"));
    for local in ["http://127.0.0.1:9000/", "http://localhost:9000/", "\"http://[::1]:9000/\""] {
        let report = validate(&files(MODEL, SOURCE, &TARGET.replace(url, local)));
        assert!(report.errors.is_empty(), "{:?}", report.errors);
        assert!(
            print(&report.warnings)[0]
                .starts_with("targets/loyalty.yaml:7:3: endpoint.url: http to loopback")
        );
    }
}

#[test]
fn an_endpoint_proves_who_sends() {
    let auth = "auth: { standard_webhooks: datasync/target/loyalty }";
    let header =
        |name: &str| format!("auth: {{ api_key: {{ header: '{name}', secret: datasync/target/loyalty }} }}");
    for wrong in ["", "x api", "x-api:", "schlüssel"] {
        refuses(
            TARGET,
            auth,
            &header(wrong),
            "targets/loyalty.yaml:8:22: endpoint.auth.api_key.header: not a name",
        );
    }
    for own in ["Host", "content-type", "webhook-id", "Transfer-Encoding"] {
        refuses(
            TARGET,
            auth,
            &header(own),
            "targets/loyalty.yaml:8:22: endpoint.auth.api_key.header: the request sets",
        );
    }
    accepts(TARGET, auth, &header("X-Api-Key"));
    accepts(TARGET, auth, &header("authorization"));
    refuses(
        TARGET,
        auth,
        "auth: { standard_webhooks: whsec_x }",
        "targets/loyalty.yaml:8:11: endpoint.auth.standard_webhooks: this looks like",
    );
    for kind in ["basic", "bearer"] {
        accepts(TARGET, auth, &format!("auth: {{ {kind}: datasync/target/loyalty }}"));
        refuses(
            TARGET,
            auth,
            &format!("auth: {{ {kind}: 'loyalty:hunter2' }}"),
            &format!("targets/loyalty.yaml:8:11: endpoint.auth.{kind}: not a name of a secret"),
        );
    }
    let report = validate(&files(MODEL, SOURCE, &TARGET.replace(auth, "auth: none")));
    assert!(report.errors.is_empty());
    assert_eq!(
        print(&report.warnings),
        [
            "targets/loyalty.yaml:8:3: endpoint.auth: is none: the target cannot tell our deliveries from others'"
        ]
    );
}

/// One member of `auth` is wrong, and the finding stands where it does.
#[track_caller]
fn refuses_auth(line: &str, member: &str, expected: &str) {
    let column = line.find(member).unwrap() + 3;
    let expected = format!("targets/loyalty.yaml:8:{column}: endpoint.auth.{expected}");
    refuses(TARGET, "auth: { standard_webhooks: datasync/target/loyalty }", line, &expected);
}

#[test]
fn a_token_endpoint_is_checked_as_the_target_is() {
    let auth = "auth: { standard_webhooks: datasync/target/loyalty }";
    let with = |more: &str| {
        format!(
            "auth: {{ oauth2: {{ token_url: 'https://login.example/token', secret: datasync/x{more} }} }}"
        )
    };
    accepts(
        TARGET,
        auth,
        &with(", scope: 'events:write a', audience: 'https://a.example', client_auth: body"),
    );
    accepts(TARGET, auth, &with(", ports: [8443]").replace("example/", "example:8443/"));
    for (more, member, expected) in [
        (", scope: 'a  b'", "scope", "scope: is words"),
        (", scope: ''", "scope", "scope: is words"),
        (", audience: ' '", "audience", "audience: is empty"),
    ] {
        refuses_auth(&with(more), member, &format!("oauth2.{expected}"));
    }
    for (from, to, member, expected) in [
        ("https://login", "http://login", "token_url", "the address must be https"),
        ("https://login", "https://u:hunter2@login", "token_url", "the address holds a user name"),
        ("example/", "example:8443/", "token_url", "its port is not allowed; add it to oauth2.ports"),
        ("datasync/x", "whsec_x", "secret", "this looks like"),
    ] {
        refuses_auth(&with("").replace(from, to), member, &format!("oauth2.{member}: {expected}"));
    }
}

#[test]
fn a_signature_is_for_the_service_and_region_of_the_address() {
    let auth = "auth: { standard_webhooks: datasync/target/loyalty }";
    let with = |more: &str| format!("auth: {{ sigv4: {{ {more} }} }}");
    accepts(TARGET, auth, &with("service: execute-api"));
    accepts(TARGET, auth, &with("service: execute-api, region: eu-central-1"));
    refuses_auth(&with("service: execute-api, region: EU"), "region", "sigv4.region: is no region");
    let changed = |auth: &str| {
        let url = "https://x.lambda-url.eu-west-1.on.aws/";
        let target = TARGET.replace("https://loyalty.example.com/hooks", url);
        let target = target.replace("{ standard_webhooks: datasync/target/loyalty }", auth);
        print(&validate(&files(MODEL, SOURCE, &target)).errors).concat()
    };
    assert_eq!(changed("{ sigv4: { service: lambda, region: eu-west-1 } }"), "");
    for (auth, expected) in [
        ("{ sigv4: { service: execute-api } }", "sigv4.service: the address is one of lambda"),
        ("{ sigv4: { service: lambda, region: eu-central-1 } }", "sigv4.region: the address is in eu-west-1"),
        ("{ sigv4: { service: s3 } }", "sigv4.service: "),
    ] {
        let found = changed(auth);
        assert!(found.contains(&format!("endpoint.auth.{expected}")), "{auth}: {found}");
    }
}

#[test]
fn the_rest_of_an_endpoint_is_checked_too() {
    let auth = "  auth:";
    let with = |line: &str| format!("  {line}\n{auth}");
    refuses(
        TARGET,
        auth,
        &with("timeout: 31s"),
        "targets/loyalty.yaml:8:3: endpoint.timeout: must be above 0s and at most 30s",
    );
    accepts(TARGET, auth, &with("timeout: 30s"));
    refuses(
        TARGET,
        auth,
        &with("timeout: 0s"),
        "targets/loyalty.yaml:8:3: endpoint.timeout: must be above 0s",
    );
    refuses(
        TARGET,
        auth,
        &with("statuses: { 100: accepted }"),
        "targets/loyalty.yaml:8:15: endpoint.statuses.100: is no final",
    );
    let path = |path: &str| with(&format!("operations: {{ delete: {{ path: '{path}' }} }}"));
    let at = "targets/loyalty.yaml:8:27: endpoint.operations.delete.path: ";
    refuses(TARGET, auth, &path("customers"), &format!("{at}must start with /"));
    refuses(TARGET, auth, &path("/c?x"), &format!("{at}must start with / and have no ?"));
    refuses(TARGET, auth, &path("/c/{id"), &format!("{at}has a brace without its partner"));
    refuses(TARGET, auth, &path("/c/{email}"), &format!("{at}email is not in the key of customer"));
    accepts(TARGET, auth, &path("/c/{id}"));
}

#[test]
fn what_cannot_go_in_an_array_is_told() {
    let auth = "  auth:";
    let with = |line: &str| format!("  array: {{ {line} }}\n{auth}");
    let at = "targets/loyalty.yaml:8:12: endpoint.array";
    for (line, expected) in [
        ("items: 0", ".items: must be 1 to 10"),
        ("items: 11", ".items: must be 1 to 10"),
        ("bytes: 1023B", ".bytes: must be 1KiB to 10MiB"),
        ("bytes: 11MiB", ".bytes: must be 1KiB to 10MiB"),
        ("wait: 1001ms", ".wait: must be at most 1s"),
    ] {
        refuses(TARGET, auth, &with(line), &format!("{at}{expected}"));
    }
    for line in ["", "items: 1", "items: 10, bytes: 1KiB, wait: 1s", "bytes: 10MiB, wait: 0s"] {
        accepts(TARGET, auth, &with(line));
    }
    let operations = |create: &str, update: &str, delete: &str| {
        let of = |name: &str, text: &str| format!("    {name}: {{ {text} }}\n");
        let all = of("create", create) + &of("update", update) + &of("delete", delete);
        format!("  array: {{}}\n  operations:\n{all}{auth}")
    };
    let alone = "targets/loyalty.yaml:8:3: endpoint.array: no operation could go in one";
    refuses(TARGET, auth, &operations("body: key", "path: '/{id}'", "body: attributes"), alone);
    let mixed = operations("path: /bulk, body: attributes", "path: '/{id}'", "body: none");
    let text = TARGET.replacen(auth, &mixed, 1);
    let report = validate(&files(MODEL, SOURCE, &text));
    assert_eq!(print(&report.errors), Vec::<String>::new());
    let warned: Vec<_> = report
        .warnings
        .iter()
        .map(|warning| warning.to_string().chars().take(69).collect::<String>())
        .collect();
    assert_eq!(
        warned,
        [
            "targets/loyalty.yaml:11:5: endpoint.operations.update: goes alone and",
            "targets/loyalty.yaml:12:5: endpoint.operations.delete: goes alone and",
        ]
    );
}

#[test]
fn a_filter_policy_beyond_the_limits_of_sns_is_told() {
    let models: Vec<_> = (0..20).map(|n| format!("m{n}")).collect();
    let mut all = vec![
        ConfigFile::new(
            "sources/crm.yaml",
            SOURCE.replace("[customer]", &format!("[{}]", models.join(", "))),
        ),
        ConfigFile::new(
            "targets/loyalty.yaml",
            TARGET.replace(
                "  - model: customer\n    when_changed: [email]\nattributes: [id, level]\n",
                &models.iter().map(|name| format!("  - model: {name}\n")).collect::<String>(),
            ),
        ),
    ];
    all.extend(models.iter().map(|name| {
        let text = format!("model: {name}\nkey: [id]\nattributes: {{ id: {{ class: identifier }} }}\n");
        ConfigFile::new(format!("models/{name}.yaml"), text)
    }));
    let errors = print(&validate(&all).errors);
    assert_eq!(
        errors,
        [
            "targets/loyalty.yaml:2:1: subscribe: makes a filter policy of 160 combinations; SNS takes 150: split the target in two"
        ]
    );

    let attributes: String = (0..20).map(|n| format!("  a{n}: {{ class: internal }}\n")).collect();
    let names: Vec<_> = (0..20).map(|n| format!("a{n}")).collect();
    let model = MODEL.replace("enrich:", &format!("{attributes}enrich:"));
    let target = TARGET.replace("[email]", &format!("[{}]", names.join(", ")));
    let report = validate(&files(&model, SOURCE, &target));
    assert_eq!(print(&report.errors), Vec::<String>::new());
    assert!(
        print(&report.warnings)[0]
            .starts_with("targets/loyalty.yaml:2:1: subscribe: names too many attributes")
    );
}

#[test]
fn a_model_that_nobody_gets_is_a_warning() {
    let mut all = files(MODEL, &SOURCE.replace("[customer]", "[customer, price]"), TARGET);
    all.push(ConfigFile::new(
        "models/price.yaml",
        "model: price\nkey: [id]\nattributes: { id: { class: identifier } }\n",
    ));
    let report = validate(&all);
    assert!(report.errors.is_empty());
    assert_eq!(print(&report.warnings), ["models/price.yaml:1:1: model: no target subscribes to it"]);
}

const POSTGRES: &str = "\
source: crm
postgres:
  url_secret: datasync/source/crm-db
  mode: timestamp
  tables:
    public.customer: { model: customer, cursor: { xid8: changed_xid }, soft_delete: closed_at, compare_keys: 1h }
  poll: 500ms
";

/// One line of the database source changed: what is found, errors before warnings.
#[track_caller]
fn finds(from: &str, to: &str, expected: &str) {
    assert_eq!(POSTGRES.matches(from).count(), 1, "{from}");
    let report = validate(&files(MODEL, &POSTGRES.replacen(from, to, 1), TARGET));
    let found = [print(&report.errors), print(&report.warnings)].concat();
    let own: Vec<_> = found.iter().filter(|finding| finding.starts_with("sources/")).collect();
    assert!(
        own.iter().any(|finding| finding.starts_with(expected)),
        "{from} -> {to}\n{own:#?}\nshould have\n{expected}"
    );
}

#[test]
fn a_database_in_order_is_in_order() {
    let report = validate(&files(MODEL, POSTGRES, TARGET));
    assert_eq!(print(&report.errors), Vec::<String>::new());
    assert!(!print(&report.warnings).iter().any(|warning| warning.starts_with("sources/")));
}

#[test]
fn a_database_is_reached_by_the_name_of_a_secret() {
    finds(
        "datasync/source/crm-db",
        "postgresql://reader:pw@db:5432/crm",
        "sources/crm.yaml:3:3: postgres.url_secret: this looks like the URL itself",
    );
    finds(
        "datasync/source/crm-db",
        "crm-db",
        "sources/crm.yaml:3:3: postgres.url_secret: the functions may read only",
    );
    for file in ["/etc/rds.pem", "../rds.pem", "certificates//rds.pem"] {
        let line = format!("  poll: 1s\n  root_certificates: {file}\n");
        finds("  poll: 500ms\n", &line, "sources/crm.yaml:8:3: postgres.root_certificates: not a file below");
    }
}

#[test]
fn a_table_has_a_name_with_its_schema_and_a_model_of_its_own() {
    for name in ["customer", "db.public.customer", ".customer"] {
        let expected = format!("sources/crm.yaml:6:5: postgres.tables.{name}: not the name of a table");
        finds("public.customer", name, &expected);
    }
    finds(
        "model: customer",
        "model: client",
        "sources/crm.yaml:6:5: postgres.tables.public.customer: there is no model client",
    );
    finds(
        "  poll: 500ms\n",
        "    public.old_customer: customer\n  poll: 500ms\n",
        "sources/crm.yaml:7:5: postgres.tables.public.old_customer: public.customer gives model customer already",
    );
}

#[test]
fn what_is_wrong_with_a_table_is_said_at_its_place() {
    for (from, to, expected) in [
        (
            "{ model: customer, cursor",
            "{ modell: customer, cursor",
            "postgres.tables.public.customer.modell: \"modell\" is unknown here",
        ),
        ("xid8: changed_xid", "xid: changed_xid", "postgres.tables.public.customer.cursor"),
        (
            "soft_delete: closed_at",
            "soft_delete: closed_at, drift: stop",
            "postgres.tables.public.customer.drift: must be one of",
        ),
    ] {
        finds(from, to, &format!("sources/crm.yaml:6:{}", expected_at(from, to, expected)));
    }
}

/// The column is that of the part that is wrong; the path says the rest.
fn expected_at(from: &str, to: &str, expected: &str) -> String {
    let report = validate(&files(MODEL, &POSTGRES.replacen(from, to, 1), TARGET));
    format!("{}: {expected}", report.errors[0].column)
}

#[test]
fn each_mode_takes_what_it_needs_and_nothing_else() {
    for mode in ["log", "trigger"] {
        let mode = format!("mode: {mode}");
        for name in ["cursor", "soft_delete", "compare_keys"] {
            let report = validate(&files(MODEL, &POSTGRES.replacen("mode: timestamp", &mode, 1), TARGET));
            let path = format!("postgres.tables.public.customer.{name}");
            assert!(
                report.errors.iter().any(|error| error.path == path),
                "{mode} {name}: {:#?}",
                report.errors
            );
        }
    }
    finds(
        "  mode: timestamp\n",
        "  mode: timestamp\n  slot: crm\n",
        "sources/crm.yaml:5:3: postgres.slot: a slot belongs to mode: log",
    );
    finds(
        "{ model: customer, cursor: { xid8: changed_xid }, soft_delete: closed_at, compare_keys: 1h }",
        "customer",
        "sources/crm.yaml:6:5: postgres.tables.public.customer: mode: timestamp needs the column",
    );
    let log = POSTGRES.replacen("mode: timestamp", "mode: log", 1).replacen(
        "{ model: customer, cursor: { xid8: changed_xid }, soft_delete: closed_at, compare_keys: 1h }",
        "{ model: customer, drift: fail }",
        1,
    );
    assert_eq!(print(&validate(&files(MODEL, &log, TARGET)).errors), Vec::<String>::new());
    let named = log.replacen("  mode: log\n", "  mode: log\n  slot: Crm-Slot\n", 1);
    let errors = print(&validate(&files(MODEL, &named, TARGET)).errors);
    assert!(errors[0].starts_with("sources/crm.yaml:5:3: postgres.slot: a name here has"), "{errors:#?}");
}

#[test]
fn what_a_mode_cannot_see_is_a_warning() {
    finds(
        "xid8: changed_xid",
        "timestamp: updated_at",
        "sources/crm.yaml:6:41: postgres.tables.public.customer.cursor: a time misses",
    );
    finds(
        ", soft_delete: closed_at, compare_keys: 1h",
        "",
        "sources/crm.yaml:6:5: postgres.tables.public.customer: a row that is deleted is never noticed",
    );
    finds(
        ", compare_keys: 1h",
        "",
        "sources/crm.yaml:6:5: postgres.tables.public.customer: a row that is really deleted",
    );
}

#[test]
fn a_slot_and_a_publication_are_read_by_one_source() {
    let source = |name: &str, slot: &str, model: &str| {
        format!(
            "source: {name}\npostgres: {{ url_secret: datasync/crm-db, mode: log,{slot} tables: {{ public.{model}: {model} }} }}\n"
        )
    };
    let both = |first: (&str, &str), second: (&str, &str)| {
        let mut all = vec![
            ConfigFile::new("models/customer.yaml", MODEL),
            ConfigFile::new(
                "models/price.yaml",
                "model: price\nkey: [sku]\nattributes: { sku: { class: public } }\n",
            ),
        ];
        for ((name, slot), model) in [(first, "customer"), (second, "price")] {
            all.push(ConfigFile::new(format!("sources/{name}.yaml"), source(name, slot, model)));
        }
        print(&validate(&all).errors)
    };
    let told = |errors: &[String], text: &str| errors.iter().filter(|error| error.contains(text)).count();
    let same = both(("crm", " slot: one,"), ("shop", " slot: one,"));
    assert_eq!(told(&same, "postgres.slot: source shop reads the slot one too"), 1, "{same:#?}");
    assert_eq!(told(&same, "postgres.slot: source crm reads the slot one too"), 1, "{same:#?}");
    let default = both(("till-a", ""), ("till_a", ""));
    assert_eq!(told(&default, "reads the slot datasync_till_a too"), 2, "{default:#?}");
    let named = both(("till-a", ""), ("shop", " slot: datasync_till_a,"));
    assert_eq!(told(&named, "reads the slot datasync_till_a too"), 2, "{named:#?}");
    assert_eq!(told(&both(("till-a", ""), ("shop", "")), "reads the "), 0);

    // A slot of its own, and the publication of the other by default.
    let slots = both(("till-a", ""), ("till_a", " slot: own,"));
    assert_eq!(told(&slots, "reads the slot"), 0, "{slots:#?}");
    assert_eq!(told(&slots, "reads the publication datasync_till_a too"), 2, "{slots:#?}");
    let named = both(("till-a", ""), ("shop", " publication: datasync_till_a,"));
    assert_eq!(told(&named, "postgres.publication: source till-a reads the publication"), 1, "{named:#?}");
    let own = both(("till-a", ""), ("till_a", " slot: own, publication: own,"));
    assert_eq!(told(&own, "reads the "), 0, "{own:#?}");
}

#[test]
fn pauses_are_durations_within_bounds() {
    for (from, to, expected) in [
        ("poll: 500ms", "poll: soon", "sources/crm.yaml:7:3: postgres.poll: a duration is"),
        ("poll: 500ms", "poll: 10ms", "sources/crm.yaml:7:3: postgres.poll: must be 50ms to 30s"),
        ("poll: 500ms", "poll: 5m", "sources/crm.yaml:7:3: postgres.poll: must be 50ms to 30s"),
    ] {
        finds(from, to, expected);
    }
    finds(
        "compare_keys: 1h",
        "compare_keys: 5s",
        "sources/crm.yaml:6:96: postgres.tables.public.customer.compare_keys: must be 1m",
    );
}

#[test]
fn the_key_of_a_table_is_columns() {
    let model = MODEL.replacen("key: [id]", "key: [prefs.id]", 1).replacen(
        "  prefs: {",
        "  prefs.id: { class: identifier }\n  prefs: {",
        1,
    );
    let errors = print(&validate(&files(&model, POSTGRES, TARGET)).errors);
    assert!(
        errors.iter().any(|error| error.contains("names prefs.id, which lies inside a column")),
        "{errors:#?}"
    );
}
