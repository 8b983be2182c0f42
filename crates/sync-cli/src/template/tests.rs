use super::*;

const TARGET: &str = "\
target: loyalty-eu
subscribe: [{ model: customer, when_changed: [email] }]
endpoint: { url: \"https://l.example\", auth: { standard_webhooks: datasync/target/loyalty } }
";

const TEMPLATE: &str = "\
Transform: [AWS::LanguageExtensions, AWS::Serverless-2016-10-31]
Mappings:
  Sources:
    Crm: { Secret: datasync/source/crm }
  Targets:
    LoyaltyEu:
      Name: loyalty-eu
      Secret: datasync/target/loyalty
      Table: n/a
      Models: [customer]
      Operations: [create, update, delete, snapshot]
      Changed: [email, unknown]
      MaxConcurrency: 5
Resources:
  Queue: { Type: AWS::SQS::Queue, Properties: { QueueName: !Sub \"${AWS::StackName}.fifo\" } }
  Fn::ForEach::Sources: [Source, [Crm], { \"${Source}\": { Type: X } }]
  Fn::ForEach::Targets:
    - Target
    - [LoyaltyEu]
    - \"${Target}Queue\": { Type: AWS::SQS::Queue, Condition: !Ref X }
Outputs:
  Fn::ForEach::Outputs: [Target, [LoyaltyEu], { \"${Target}\": { Value: !GetAtt [A, B] } }]
";

fn config() -> SyncConfig {
    config_with(TARGET)
}

fn config_with(target: &str) -> SyncConfig {
    let files = [
        ConfigFile::new(
            "sources/crm.yaml",
            "source: crm\npush: { secret: datasync/source/crm, models: [customer] }\n",
        ),
        ConfigFile::new("targets/loyalty-eu.yaml", target),
    ];
    SyncConfig::parse(&files).unwrap()
}

fn found(template: &str) -> (Vec<String>, Vec<String>) {
    let found = check(&ConfigFile::new("template.yaml", template), &config());
    (print(&found.errors), print(&found.warnings))
}

fn print(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(Finding::to_string).collect()
}

#[track_caller]
fn refuses(from: &str, to: &str, expected: &[&str]) {
    assert_eq!(TEMPLATE.matches(from).count(), 1, "{from}");
    let (errors, _) = found(&TEMPLATE.replacen(from, to, 1));
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
    for (error, expected) in errors.iter().zip(expected) {
        assert!(error.starts_with(expected), "{error}\nshould be\n{expected}");
    }
}

#[test]
fn a_template_that_repeats_the_configuration_is_in_order() {
    assert_eq!(found(TEMPLATE), (vec![], vec![]));
}

#[test]
fn a_name_in_the_template_is_the_targets_in_words() {
    assert_eq!(logical_name("loyalty"), "Loyalty");
    assert_eq!(logical_name("loyalty-eu_2"), "LoyaltyEu2");
}

#[test]
fn what_the_filter_policy_lacks_never_arrives() {
    refuses(
        "Models: [customer]",
        "Models: []",
        &[
            "template.yaml:10:15: Mappings.Targets.LoyaltyEu.Models: lacks customer, so the target would never get that; write [customer]",
        ],
    );
    refuses(
        "update, delete, snapshot",
        "update",
        &["template.yaml:11:19: Mappings.Targets.LoyaltyEu.Operations: lacks delete, snapshot"],
    );
    refuses(
        "[email, unknown]",
        "[email]",
        &["template.yaml:12:16: Mappings.Targets.LoyaltyEu.Changed: lacks unknown"],
    );
}

#[test]
fn what_the_filter_policy_has_too_much_is_a_warning() {
    let (errors, warnings) = found(&TEMPLATE.replace("[email, unknown]", "[any]"));
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(
        warnings,
        [
            "template.yaml:12:16: Mappings.Targets.LoyaltyEu.Changed: lets more through than the target's file asks for; [email, unknown] is enough"
        ]
    );
}

#[test]
fn an_entry_that_makes_a_name_too_long_is_refused() {
    let named = |length: usize| found(&TEMPLATE.replace("LoyaltyEu", &"L".repeat(length))).0;
    assert_eq!(named(40), Vec::<String>::new());
    let errors = named(41);
    let expected =
        format!("template.yaml:6:5: Mappings.Targets.{}: is longer than 40 characters", "L".repeat(41));
    assert!(errors.iter().any(|error| error.starts_with(&expected)), "{errors:#?}");
}

#[test]
fn a_filter_policy_beyond_the_limit_is_refused() {
    let names: Vec<_> = (0..19).map(|n| format!("a{n}")).collect();
    let (errors, _) =
        found(&TEMPLATE.replace("[email, unknown]", &format!("[email, unknown, {}]", names.join(", "))));
    assert!(
        errors[0].starts_with(
            "template.yaml:12:16: Mappings.Targets.LoyaltyEu: Models, Operations and Changed make 168"
        ),
        "{errors:?}"
    );
}

#[test]
fn secrets_are_those_of_the_files() {
    refuses(
        "Secret: datasync/target/loyalty",
        "Secret: datasync/target/other",
        &[
            "template.yaml:8:15: Mappings.Targets.LoyaltyEu.Secret: the target's file names datasync/target/loyalty",
        ],
    );
    refuses(
        "      Secret: datasync/target/loyalty\n",
        "",
        &["template.yaml:7:13: Mappings.Targets.LoyaltyEu: add Secret: datasync/target/loyalty"],
    );
    refuses(
        "Secret: datasync/source/crm",
        "Secret: datasync/source/other",
        &[
            "template.yaml:4:20: Mappings.Sources.Crm.Secret: no source names this secret",
            "template.yaml:4:5: Mappings.Sources: source crm has no entry; add `Crm: { Secret: datasync/source/crm }`",
        ],
    );
}

#[test]
fn a_target_without_authentication_may_read_no_secret() {
    let open = TARGET.replace("{ standard_webhooks: datasync/target/loyalty }", "none");
    let with = |secret: &str| {
        let template = TEMPLATE.replace("      Secret: datasync/target/loyalty\n", secret);
        print(&check(&ConfigFile::new("template.yaml", template), &config_with(&open)).errors)
    };
    assert_eq!(with("      Secret: none\n"), Vec::<String>::new());
    assert_eq!(
        with("      Secret: datasync/target/loyalty\n"),
        [
            "template.yaml:8:15: Mappings.Targets.LoyaltyEu.Secret: the target's file has no authentication: none; write that here"
        ]
    );
    assert_eq!(
        with(""),
        ["template.yaml:7:13: Mappings.Targets.LoyaltyEu: add Secret: none; the function may read no other"]
    );
}

#[test]
fn a_function_may_write_the_table_of_its_target_and_no_other() {
    let profiles = "\
target: loyalty-eu
subscribe: [{ model: customer, when_changed: [email] }]
endpoint: { dynamodb: { table: team.profiles } }
";
    let with = |target: &str, table: &str| {
        let template = TEMPLATE.replace("      Table: n/a\n", table);
        let template = match target {
            TARGET => template,
            _ => template.replace("Secret: datasync/target/loyalty", "Secret: none"),
        };
        print(&check(&ConfigFile::new("template.yaml", template), &config_with(target)).errors)
    };
    assert_eq!(with(profiles, "      Table: team.profiles\n"), Vec::<String>::new());
    let place = "template.yaml:9:14: Mappings.Targets.LoyaltyEu.Table: the target's file names";
    assert_eq!(with(profiles, "      Table: n/a\n"), [format!("{place} team.profiles; write that here")]);
    assert_eq!(
        with(TARGET, "      Table: team.profiles\n"),
        [format!("{place} no table: n/a; write that here")]
    );
    assert_eq!(
        with(profiles, ""),
        [
            "template.yaml:7:13: Mappings.Targets.LoyaltyEu: add Table: team.profiles; the function may write no other"
        ]
    );
}

#[test]
fn a_target_that_is_signed_for_names_what_its_function_may_call() {
    let signed =
        TARGET.replace("https://l.example", "https://a1b2c3.execute-api.eu-central-1.amazonaws.com/x");
    let signed = signed
        .replace("{ standard_webhooks: datasync/target/loyalty }", "{ sigv4: { service: execute-api } }");
    let with = |target: &str, lines: &str| {
        let secret = if target == TARGET { "datasync/target/loyalty" } else { "none" };
        let entry = format!("      Secret: {secret}\n{lines}");
        let template = TEMPLATE.replace("      Secret: datasync/target/loyalty\n", &entry);
        print(&check(&ConfigFile::new("template.yaml", template), &config_with(target)).errors)
    };
    let arn = "      InvokeArn: arn:aws:execute-api:eu-central-1:111122223333:a1b2c3/prod/POST/x\n";
    assert_eq!(with(&signed, arn), Vec::<String>::new());
    assert_eq!(
        with(&signed, ""),
        [
            "template.yaml:7:13: Mappings.Targets.LoyaltyEu: add InvokeArn: arn:aws:execute-api:eu-central-1:<account>:a1b2c3/<stage>/<method>/<path>; without it the function may call nothing"
        ]
    );
    assert_eq!(
        with(&signed, &arn.replace("a1b2c3", "d4e5f6")),
        [
            "template.yaml:9:18: Mappings.Targets.LoyaltyEu.InvokeArn: names the API d4e5f6, and the target's address a1b2c3; write that"
        ]
    );
    assert_eq!(
        with(TARGET, arn),
        [
            "template.yaml:9:18: Mappings.Targets.LoyaltyEu.InvokeArn: the target's file does not sign with sigv4; remove it"
        ]
    );
}

#[test]
fn a_target_whose_resources_the_stack_has_already_needs_another_name() {
    let collides = |name: &str, template: &str| {
        let errors = found(&template.replace("LoyaltyEu", name)).0;
        assert!(errors.len() < 2, "{errors:?}");
        errors.into_iter().next().unwrap_or_default()
    };
    // A resource that stands by itself.
    let alone = TEMPLATE.replace("  Queue: {", "  TicketQueue: {");
    assert_eq!(
        collides("Ticket", &alone),
        "template.yaml:6:5: Mappings.Targets.Ticket: would make TicketQueue, which the template makes already; give the entry another name, here and in the lists"
    );
    assert_eq!(collides("Tickets", &alone), "");
    // One that another loop makes.
    let looped = TEMPLATE.replace(
        "  Fn::ForEach::Sources:",
        "  Fn::ForEach::Queues: [Stage, [Changes, Events], { \"${Stage}Queue\": { Type: X } }]\n  Fn::ForEach::Sources:",
    );
    assert!(collides("Changes", &looped).contains("Targets.Changes: would make ChangesQueue, which"));
    // An output.
    let put_out = TEMPLATE.replace("Outputs:\n", "Outputs:\n  Ticket: { Value: x }\n");
    assert!(collides("Ticket", &put_out).contains("Targets.Ticket: would make Ticket, which"));
}

#[test]
fn two_targets_do_not_make_one_resource() {
    let two = TEMPLATE
        .replace("Resources:\n", "    LoyaltyEuDead: { Name: x, Models: [], Operations: [], Changed: [], MaxConcurrency: 2 }\nResources:\n")
        .replace("[LoyaltyEu]", "[LoyaltyEu, LoyaltyEuDead]")
        .replace("\"${Target}Queue\": {", "\"${Target}DeadQueue\": {}\n      \"${Target}Queue\": {");
    let (errors, _) = found(&two);
    assert!(
        errors.iter().any(|error| error.starts_with(
            "template.yaml:14:5: Mappings.Targets.LoyaltyEuDead: would make LoyaltyEuDeadQueue, which"
        )),
        "{errors:#?}"
    );
}

#[test]
fn every_target_has_one_entry_and_every_entry_a_target() {
    refuses(
        "Name: loyalty-eu",
        "Name: loyalty",
        &[
            "template.yaml:7:13: Mappings.Targets.LoyaltyEu.Name: there is no targets/loyalty.yaml",
            "template.yaml:6:5: Mappings.Targets: target loyalty-eu has no entry; add what `datasync filter-policy loyalty-eu` prints",
        ],
    );
    let again = "    Other: { Name: loyalty-eu, Models: [], Operations: [], Changed: [], MaxConcurrency: 2 }\nResources:\n";
    refuses(
        "Resources:\n",
        again,
        &[
            "template.yaml:14:20: Mappings.Targets.Other.Name: another entry has this name already",
            "template.yaml:20:7: Resources.Fn::ForEach::Targets: Other of Mappings.Targets is missing",
            "template.yaml:23:34: Outputs.Fn::ForEach::Outputs: Other of Mappings.Targets is missing",
        ],
    );
}

#[test]
fn every_loop_runs_over_all_entries() {
    refuses(
        "    - [LoyaltyEu]",
        "    - [Loyalty]",
        &[
            "template.yaml:19:7: Resources.Fn::ForEach::Targets: Loyalty has no entry in Mappings.Targets",
            "template.yaml:19:7: Resources.Fn::ForEach::Targets: LoyaltyEu of Mappings.Targets is missing",
        ],
    );
    refuses(
        "[Target, [LoyaltyEu]",
        "[Target, []",
        &["template.yaml:22:34: Outputs.Fn::ForEach::Outputs: LoyaltyEu of"],
    );
    refuses(
        "[Source, [Crm]",
        "[Source, [Crm, Crm]",
        &["template.yaml:16:34: Resources.Fn::ForEach::Sources: Crm stands twice"],
    );
    refuses("    - Target\n", "    - T\n", &["template.yaml:1:1: Resources: has no Fn::ForEach over Target"]);
}

#[test]
fn an_event_source_takes_two_at_least() {
    refuses(
        "MaxConcurrency: 5",
        "MaxConcurrency: 1",
        &["template.yaml:13:23: Mappings.Targets.LoyaltyEu.MaxConcurrency: must be 2 or more"],
    );
}

#[test]
fn no_more_functions_run_than_requests_may_be_in_flight() {
    let errors = |concurrency: u32| {
        let target = TARGET.replace("endpoint: { ", &format!("endpoint: {{ concurrency: {concurrency}, "));
        print(&check(&ConfigFile::new("template.yaml", TEMPLATE), &config_with(&target)).errors)
    };
    assert_eq!(errors(5), [""; 0]);
    let error = errors(4).remove(0);
    assert!(
        error.starts_with(
            "template.yaml:13:23: Mappings.Targets.LoyaltyEu.MaxConcurrency: so many functions would have more"
        ) && error.contains("write 4 or less here"),
        "{error}"
    );
}

#[test]
fn what_is_no_template_is_said_with_its_place() {
    refuses(
        "      Models: [customer]\n",
        "",
        &["template.yaml:12:7: cannot be read as a template: missing field `Models`"],
    );
    assert_eq!(found("[").0.len(), 1);
}

const STREAMS: &str = "\
Parameters:
  OrdersDbStreamArn: { Type: String }
Mappings:
  Streams:
    OrdersDb: { Name: orders-db, Table: orders, ParallelizationFactor: 2 }
Resources:
  Fn::ForEach::Streams: [Stream, [OrdersDb], { \"CaptureStream${Stream}\": { Type: X } }]
";

#[test]
fn every_table_that_is_read_has_its_entry_its_parameter_and_its_place_in_the_loops() {
    let config = SyncConfig::parse(&[ConfigFile::new(
        "sources/orders-db.yaml",
        "source: orders-db\ndynamodb: { table: orders, model: order }\n",
    )])
    .unwrap();
    let errors = |template: &str| print(&check(&ConfigFile::new("template.yaml", template), &config).errors);
    assert_eq!(errors(STREAMS), Vec::<String>::new());
    for (from, to, expected) in [
        (
            "Name: orders-db",
            "Name: orders",
            "template.yaml:5:23: Mappings.Streams.OrdersDb.Name: no source with `dynamodb` has this name",
        ),
        (
            "Table: orders",
            "Table: order",
            "template.yaml:5:41: Mappings.Streams.OrdersDb.Table: the source's file names orders; write that here",
        ),
        (
            "ParallelizationFactor: 2",
            "ParallelizationFactor: 11",
            "template.yaml:5:72: Mappings.Streams.OrdersDb.ParallelizationFactor: must be 1 to 10",
        ),
        (
            "  OrdersDbStreamArn:",
            "  OrdersStreamArn:",
            "template.yaml:5:5: Mappings.Streams.OrdersDb: has no parameter OrdersDbStreamArn; add one",
        ),
        (
            "Streams: [Stream, [OrdersDb]",
            "Streams: [Stream, [OrdersDb, Other]",
            "template.yaml:7:34: Resources.Fn::ForEach::Streams: Other has no entry in Mappings.Streams",
        ),
        (
            "Fn::ForEach::Streams: [Stream,",
            "Fn::ForEach::Streams: [S,",
            "template.yaml:1:1: Resources: has no Fn::ForEach over Stream",
        ),
        (
            "    OrdersDb: { Name: orders-db, Table: orders, ParallelizationFactor: 2 }\n",
            "    Other: { Name: other, Table: other, ParallelizationFactor: 2 }\n",
            "template.yaml:5:5: Mappings.Streams: source orders-db has no entry; add `OrdersDb: { Name: orders-db, Table: orders, ParallelizationFactor: 2 }`",
        ),
    ] {
        let errors = errors(&STREAMS.replacen(from, to, 1));
        assert!(errors.iter().any(|error| error.starts_with(expected)), "{expected}\n{errors:#?}");
    }
}

const PULLS: &str = "\
Mappings:
  PullSources:
    CrmDb: { Name: crm-db, Secret: datasync/source/crm-db, State: ENABLED, RunSeconds: 54 }
Resources:
  Fn::ForEach::PullSources: [Pull, [CrmDb], { \"CapturePull${Pull}\": { Type: X } }]
";

#[test]
fn every_database_that_is_read_has_its_entry_and_its_place_in_the_loops() {
    let file = ConfigFile::new(
        "sources/crm-db.yaml",
        "source: crm-db\npostgres: { url_secret: datasync/source/crm-db, mode: log, tables: { public.c: customer } }\n",
    );
    let config = SyncConfig::parse(&[file]).unwrap();
    let errors = |text: &str| print(&check(&ConfigFile::new("template.yaml", text), &config).errors);
    assert_eq!(errors(PULLS), Vec::<String>::new());
    for (from, to, expected) in [
        (
            "Name: crm-db",
            "Name: crm",
            "template.yaml:3:20: Mappings.PullSources.CrmDb.Name: no source with `postgres` has this name (or another entry does already); correct or remove the entry",
        ),
        (
            "Secret: datasync/source/crm-db",
            "Secret: datasync/source/crm",
            "template.yaml:3:36: Mappings.PullSources.CrmDb.Secret: the source's file names datasync/source/crm-db; write that here",
        ),
        (
            "State: ENABLED",
            "State: ON",
            "template.yaml:3:67: Mappings.PullSources.CrmDb.State: must be ENABLED, or DISABLED to have the source read only when asked",
        ),
        (
            "RunSeconds: 54",
            "RunSeconds: 60",
            "template.yaml:3:88: Mappings.PullSources.CrmDb.RunSeconds: must be 0 to 54: the function ends after 60 seconds, and needs some for its last page",
        ),
        (
            "[CrmDb]",
            "[]",
            "template.yaml:5:36: Resources.Fn::ForEach::PullSources: CrmDb of Mappings.PullSources is missing; add it to the list",
        ),
        (
            "    CrmDb: { Name: crm-db, Secret: datasync/source/crm-db, State: ENABLED, RunSeconds: 54 }",
            "    {}",
            "template.yaml:1:1: Mappings.PullSources: source crm-db has no entry; add `CrmDb: { Name: crm-db, Secret: datasync/source/crm-db, State: ENABLED, RunSeconds: 54 }`",
        ),
    ] {
        let found = errors(&PULLS.replacen(from, to, 1));
        assert!(found.iter().any(|error| error == expected), "{from} -> {to}\n{found:#?}");
    }
    let without_loop = PULLS.replacen("Pull, [CrmDb]", "Other, [CrmDb]", 1);
    assert!(errors(&without_loop).iter().any(|error| error.contains("has no Fn::ForEach over Pull")));
}
