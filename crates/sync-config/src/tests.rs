use std::time::Duration;

use sync_domain::change::Operation;
use sync_domain::config::{
    Array, Auth, Body, Endpoint, HttpEndpoint, Literal, Method, Missing, Rate, StatusClass, Target,
    VersionKind,
};

use super::*;

const MODEL: &str = "\
model: customer
key: [id]
attributes:
  id: { class: identifier, type: integer }
  email: { class: personal, protect: tokenize }
";

const TARGET: &str = "\
target: loyalty
subscribe:
  - model: customer
endpoint:
  url: https://loyalty.example.com/hooks
  auth: { standard_webhooks: datasync/target/loyalty }
";

fn parse(path: &str, text: &str) -> Result<SyncConfig, Vec<Error>> {
    SyncConfig::parse(&[ConfigFile::new(path, text)])
}

/// The one error of a file, as it prints.
fn error(path: &str, text: &str) -> String {
    let errors = parse(path, text).unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors[0].to_string()
}

#[test]
fn a_target_says_little_and_gets_the_defaults() {
    let config = parse("targets/loyalty.yaml", TARGET).unwrap();
    let target = config.target(&"loyalty".parse().unwrap()).unwrap();
    let entry = &target.subscribe[0];
    assert_eq!(entry.operations, [Operation::Create, Operation::Update, Operation::Delete]);
    assert!(entry.snapshot);
    assert!(entry.when_changed.is_empty());
    assert_eq!(target.attributes_of(entry), None);
    let endpoint = http(target);
    assert_eq!(endpoint.timeout, Duration::from_secs(10));
    assert_eq!(endpoint.rate, None);
    assert_eq!(endpoint.ports, [443]);
    assert_eq!(endpoint.auth, Auth::StandardWebhooks("datasync/target/loyalty".to_owned()));
}

fn http(target: &Target) -> &HttpEndpoint {
    match &target.endpoint {
        Endpoint::Http(endpoint) => endpoint,
        other @ Endpoint::DynamoDb(_) => panic!("{other:?}"),
    }
}

const TABLE: &str = "\
target: profiles
subscribe:
  - model: customer
endpoint:
  dynamodb:
    table: team.profiles-1
    key: [{ customer_id: id }]
    rate: 200/s
";

#[test]
fn a_table_is_another_kind_of_endpoint() {
    let config = parse("targets/profiles.yaml", TABLE).unwrap();
    let target = config.targets().next().unwrap();
    let Endpoint::DynamoDb(table) = &target.endpoint else { panic!("{:?}", target.endpoint) };
    assert_eq!(table.table, "team.profiles-1");
    let key = &table.key.as_deref().unwrap()[0];
    assert_eq!((key.name.as_str(), key.output()), ("customer_id", "id"));
    assert_eq!(target.endpoint.limits().rate, Some(Rate { requests: 200, per: Duration::from_secs(1) }));
    assert_eq!(target.endpoint.secret(), None);
}

#[test]
fn whatever_kind_an_endpoint_is_of_its_errors_name_their_place() {
    let flow = "target: profiles\nsubscribe: [{ model: customer }]\nendpoint: ";
    for (text, expected) in [
        (
            TABLE.replace("    table: team.profiles-1\n", ""),
            "7:5: endpoint.dynamodb: \"table\" is missing; add it",
        ),
        (
            TABLE.replace("    rate", "    url"),
            "8:5: endpoint.dynamodb.url: \"url\" is unknown here; known are table",
        ),
        (TABLE.replace("200/s", "fast"), "8:11: endpoint.dynamodb.rate: a rate is"),
        (
            format!("{TABLE}  auth: none\n"),
            "9:3: endpoint.auth: \"auth\" is unknown here; known are dynamodb",
        ),
        (
            TARGET.replace("  auth:", "  dynamodb: { table: abc }\n  auth:"),
            "6:3: endpoint.dynamodb: \"dynamodb\" is unknown here; known are url, auth",
        ),
        (
            TARGET.replace("  url:", "  retries: 3\n  url:"),
            "5:3: endpoint.retries: \"retries\" is unknown here",
        ),
        (format!("{flow}{{ retries: 3, url: x }}"), "3:13: endpoint.retries: \"retries\" is unknown here"),
        (format!("{flow}{{}}"), "3:11: endpoint: \"url\" is missing; add it"),
    ] {
        let name = if text.contains("loyalty") { "loyalty" } else { "profiles" };
        let printed = error(&format!("targets/{name}.yaml"), &text);
        let printed = printed.strip_prefix(&format!("targets/{name}.yaml:")).unwrap();
        assert!(printed.starts_with(expected), "{printed}\nshould have {expected}");
    }
    let printed = error("targets/profiles.yaml", &format!("{flow}dynamodb"));
    assert!(printed.contains("endpoint: must be { url: …, auth: …, … }, or { dynamodb: {"), "{printed}");
}

#[test]
fn a_target_may_say_all() {
    let text = "\
target: t
subscribe:
  - { model: customer, operations: [update], when_changed: [email], snapshot: false, attributes: [{ email: mail.hash }] }
attributes: [id, { email: mail }]
endpoint:
  url: https://10.20.1.2:8443/in
  auth: { api_key: { header: x-api-key, secret: datasync/target/t } }
  timeout: 1500ms
  rate: 50/s
  operations:
    delete: { method: DELETE, path: '/customers/{id}', body: none }
    update: { method: PUT, body: attributes }
  statuses: { 404: accepted, 460: reject, 461: stale, 462: misconfigured, 463: retry }
  allow_networks: [10.20.0.0/16, fd00::/8]
  array: { items: 5, wait: 100ms }
  ports: [443, 8443]
";
    let config = parse("targets/t.yaml", text).unwrap();
    let target = config.targets().next().unwrap();
    let entry = &target.subscribe[0];
    assert!(!entry.snapshot);
    assert_eq!(target.attributes_of(entry).unwrap()[0].output(), "mail.hash");
    let choices = target.attributes.as_ref().unwrap();
    assert_eq!((choices[0].name.as_str(), choices[0].output()), ("id", "id"));
    assert_eq!((choices[1].name.as_str(), choices[1].output()), ("email", "mail"));
    let endpoint = http(target);
    assert_eq!(endpoint.timeout, Duration::from_millis(1500));
    assert_eq!(endpoint.rate, Some(Rate { requests: 50, per: Duration::from_secs(1) }));
    let delete = &endpoint.operations[&Operation::Delete];
    assert_eq!(
        (delete.method, delete.path.as_deref(), delete.body),
        (Method::Delete, Some("/customers/{id}"), Body::None)
    );
    assert_eq!(endpoint.operations[&Operation::Update].body, Body::Attributes);
    assert_eq!(endpoint.statuses[&404], StatusClass::Accepted);
    assert_eq!(endpoint.statuses[&462], StatusClass::Misconfigured);
    assert_eq!(endpoint.allow_networks.len(), 2);
    let array = Array { items: 5, bytes: 256 << 10, wait: Duration::from_millis(100) };
    assert_eq!(endpoint.array, Some(array));
    assert_eq!(endpoint.ports, [443, 8443]);
}

#[test]
fn a_push_source_counts_by_the_queue_unless_it_says_otherwise() {
    let text = "source: crm\npush: { secret: datasync/source/crm, models: [customer] }\n";
    let config = parse("sources/crm.yaml", text).unwrap();
    let push = config.source(&"crm".parse().unwrap()).unwrap().push.clone().unwrap();
    assert_eq!((push.version, push.epoch, push.principal), (VersionKind::Queue, 0, None));
    assert_eq!(config.source_of(&"customer".parse().unwrap()).unwrap().source.as_str(), "crm");
    assert!(config.source_of(&"price".parse().unwrap()).is_none());
}

#[test]
fn the_policy_version_follows_the_files_bytes() {
    let version = |text: &str| {
        let config = parse("models/customer.yaml", text).unwrap();
        config.policy_version(&"customer".parse().unwrap()).unwrap().to_owned()
    };
    assert_eq!(version(MODEL), version(MODEL));
    assert_eq!(version(MODEL).len(), 16);
    assert_ne!(version(MODEL), version(&MODEL.replace("tokenize", "redact")));
}

#[test]
fn null_is_a_choice_like_the_others() {
    for (word, expected) in
        [("null", Missing::Null), ("\"null\"", Missing::Null), ("refuse", Missing::Refuse)]
    {
        let config = parse("models/customer.yaml", &format!("missing: {word}\n{MODEL}")).unwrap();
        assert_eq!(config.models().next().unwrap().missing, expected, "{word}");
    }
}

#[test]
fn no_stays_a_text() {
    let text = format!("{MODEL}  no: {{ class: internal, compute: {{ constant: no }} }}\n");
    let config = parse("models/customer.yaml", &text).unwrap();
    let compute = config.models().next().unwrap().attributes["no"].compute.clone().unwrap();
    assert_eq!(compute.constant, Some(Literal::Text("no".to_owned())));
}

#[test]
fn an_unknown_field_is_an_error_with_file_line_and_path() {
    let text = TARGET.replace("  auth:", "  retries: 3\n  auth:");
    assert_eq!(
        error("infra/targets/loyalty.yaml", &text),
        "infra/targets/loyalty.yaml:6:3: endpoint.retries: \"retries\" is unknown here; known are \
         url, auth, timeout, rate, concurrency, quota, operations, statuses, array, allow_networks, ports"
    );
    assert_eq!(
        error("sources/db.yaml", "source: db\nmysql: { mode: log }\n"),
        "sources/db.yaml:2:1: mysql: \"mysql\" is unknown here; known are source, push, postgres, dynamodb"
    );
}

#[test]
fn every_break_of_form_says_where_and_what_instead() {
    for (from, to, expected) in [
        ("auth: {", "auth2: {", "targets/loyalty.yaml:6:3: endpoint.auth2: \"auth2\" is unknown here"),
        (
            "  auth: { standard_webhooks: datasync/target/loyalty }\n",
            "",
            "targets/loyalty.yaml:5:3: endpoint: \"auth\" is missing; add it",
        ),
        (
            "url: https",
            "timeout: soon\n  url: https",
            "targets/loyalty.yaml:5:12: endpoint.timeout: a duration is",
        ),
        (
            "url: https",
            "timeout: 10\n  url: https",
            "targets/loyalty.yaml:5:12: endpoint.timeout: a duration is",
        ),
        ("url: https", "rate: fast\n  url: https", "targets/loyalty.yaml:5:9: endpoint.rate: a rate is"),
        ("url: https", "quota: 9/h\n  url: https", "targets/loyalty.yaml:5:10: endpoint.quota: a quota is"),
        (
            "url: https",
            "array: { bytes: 256kB }\n  url: https",
            "targets/loyalty.yaml:5:19: endpoint.array.bytes: a size is",
        ),
        (
            "url: https",
            "array: { size: 10 }\n  url: https",
            "targets/loyalty.yaml:5:12: endpoint.array.size: \"size\" is unknown here; known are items, bytes, wait",
        ),
        (
            "url: https",
            "ports: [99999]\n  url: https",
            "targets/loyalty.yaml:5:11: endpoint.ports.0: must be",
        ),
        (
            "url: https",
            "allow_networks: [10.0.0.0/8, here]\n  url: https",
            "5:32: endpoint.allow_networks.1: must be a network",
        ),
        (
            "url: https",
            "statuses: { 404: fine }\n  url: https",
            "endpoint.statuses.404: must be one of accepted, retry",
        ),
        (
            "url: https",
            "operations: { upsert: {} }\n  url: https",
            "endpoint.operations.upsert: must be one of create, update",
        ),
        (
            "https://loyalty.example.com/hooks",
            "loyalty",
            "targets/loyalty.yaml:5:8: endpoint.url: not an address",
        ),
        (
            "- model: customer",
            "- model: Customer",
            "targets/loyalty.yaml:3:12: subscribe.0.model: a name has 1 to 48",
        ),
        (
            "- model: customer",
            "- model: customer\n    model: price",
            "subscribe.0.model: stands here twice; keep one",
        ),
        (
            "- model: customer",
            "- model: customer\n    attributes: [{ a: b, c: d }]",
            "subscribe.0.attributes.0",
        ),
    ] {
        assert!(TARGET.contains(from), "{from}");
        let printed = error("targets/loyalty.yaml", &TARGET.replacen(from, to, 1));
        assert!(printed.contains(expected), "{printed}\nshould have {expected}");
        assert!(printed.starts_with("targets/loyalty.yaml:"), "{printed}");
    }
}

#[test]
fn what_is_no_yaml_says_where_it_stops() {
    let printed = error("targets/loyalty.yaml", "target: loyalty\nsubscribe: [\n");
    assert!(printed.starts_with("targets/loyalty.yaml:"), "{printed}");
    assert!(error("targets/loyalty.yaml", "").starts_with("targets/loyalty.yaml:1:1: "));
}

#[test]
fn a_file_is_named_after_what_it_holds() {
    assert_eq!(
        error("targets/bonus.yaml", TARGET),
        "targets/bonus.yaml:1:1: target: the file is named bonus.yaml; call the target bonus or rename the file"
    );
    assert!(error("other/loyalty.yaml", TARGET).contains("put it into models/, sources/ or targets/"));
    assert!(error("targets/loyalty.json", TARGET).contains("put it into models/, sources/ or targets/"));
}

#[test]
fn two_files_for_one_name_are_refused() {
    let files = [
        ConfigFile::new("a/targets/loyalty.yaml", TARGET),
        ConfigFile::new("b/targets/loyalty.yaml", TARGET),
    ];
    let errors = SyncConfig::parse(&files).unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "b/targets/loyalty.yaml:1:1: a second file for the target loyalty; keep one"
    );
}

#[test]
fn all_files_are_read_before_the_errors_are_told() {
    let files = [ConfigFile::new("targets/a.yaml", "x: 1"), ConfigFile::new("models/b.yaml", "y: 1")];
    assert_eq!(SyncConfig::parse(&files).unwrap_err().len(), 2);
}

#[test]
fn whoever_knows_no_target_is_not_stopped_by_the_file_of_one() {
    let mut files = samples();
    files.push(ConfigFile::new("targets/broken.yaml", "target: ["));
    assert!(SyncConfig::parse(&files).is_err());
    let config = SyncConfig::parse_without_targets(&files).unwrap();
    assert_eq!(config.targets().count(), 0);
    assert!(config.models().count() > 0 && config.sources().count() > 0);
    files.push(ConfigFile::new("models/broken.yaml", "model: ["));
    let errors = SyncConfig::parse_without_targets(&files).unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
}

#[test]
fn a_value_in_the_wrong_place_is_never_shown() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    for (path, text, from) in [
        ("targets/loyalty.yaml", TARGET, "{ standard_webhooks: datasync/target/loyalty }"),
        ("targets/loyalty.yaml", TARGET, "https://loyalty.example.com/hooks"),
        ("targets/loyalty.yaml", TARGET, "customer"),
        ("targets/loyalty.yaml", TARGET, "standard_webhooks"),
        ("targets/loyalty.yaml", TARGET, "loyalty\n"),
        ("models/customer.yaml", MODEL, "tokenize"),
        ("models/customer.yaml", MODEL, "integer"),
        ("models/customer.yaml", MODEL, "[id]"),
        ("models/customer.yaml", MODEL, "protect"),
    ] {
        let printed = error(path, &text.replacen(from, secret, 1));
        assert!(!printed.contains("MfKQ9r8"), "{printed}");
    }
}

#[test]
fn the_sample_files_parse() {
    let files = samples();
    let config = SyncConfig::parse(&files).unwrap_or_else(|errors| panic!("{errors:#?}"));
    assert_eq!(config.models().count(), 8);
    assert_eq!(config.sources().count(), 7);
    assert_eq!(config.targets().count(), 2);
}

/// The files that ship with the project.
pub(crate) fn samples() -> Vec<ConfigFile> {
    macro_rules! sample {
        ($($path:literal),* $(,)?) => {
            vec![$(ConfigFile::new($path, include_str!(concat!("../../../infra/layer/sync/", $path)))),*]
        };
    }
    sample![
        "models/customer.yaml",
        "models/pos_customer.yaml",
        "models/pos_price.yaml",
        "models/pos_store.yaml",
        "models/preference.yaml",
        "models/price.yaml",
        "models/setting.yaml",
        "models/store.yaml",
        "sources/backoffice.yaml",
        "sources/crm.yaml",
        "sources/pos-customers.yaml",
        "sources/pos-prices.yaml",
        "sources/pos-stores.yaml",
        "sources/preferences.yaml",
        "sources/shop.yaml",
        "targets/loyalty.yaml",
        "targets/warehouse.yaml",
    ]
}
