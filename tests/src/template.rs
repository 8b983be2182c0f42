//! The rules that `template.yaml` keeps, checked on what CloudFormation gets to see.
//!
//! A rule answers with one line per breach. `tests/tests/template.rs` holds the template against all of them, and each
//! rule against a broken copy of the template that it must catch.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};
use sync_domain::delivery::backoff::LONGEST_STAY_MS;

use crate::place;

/// The template with its loops expanded and its serverless resources translated.
#[derive(Debug, Clone)]
pub struct Template {
    document: Value,
}

/// One rule: its name, and what breaks it.
pub struct Rule {
    /// What holds, as a sentence.
    pub name: &'static str,
    /// The breaches, one line each.
    pub breaches: fn(&Template) -> Vec<String>,
}

/// The services that a key may admit: each for a resource of this stack only.
const SERVICES: [&str; 4] =
    ["sns.amazonaws.com", "cloudwatch.amazonaws.com", "events.amazonaws.com", "logs."];

/// Statements that may name every resource, because the action knows no resource.
const REVIEWED_WILDCARDS: [&str; 1] = ["NetworkInterfaces"];

/// Where a resource names its key.
type Place = fn(&Value) -> &Value;

const DAY: u64 = 86_400;

impl Template {
    /// Expands `template.yaml` with the translator of `.venv/sam`.
    pub fn read() -> Result<Self> {
        let output = std::process::Command::new(place::sam_program("python"))
            .current_dir(place::root())
            .args(["infra/local/expand.py", "template.yaml"])
            .output()
            .context("cannot start Python of .venv/sam; `make .venv/sam/ready` sets it up")?;
        if !output.status.success() {
            bail!("template.yaml does not expand: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(Self {
            document: serde_json::from_slice(&output.stdout).context("the expanded template is not JSON")?,
        })
    }

    /// A copy with one change.
    #[must_use]
    pub fn changed(&self, change: impl FnOnce(&mut Value)) -> Self {
        let mut copy = self.clone();
        change(&mut copy.document);
        copy
    }

    /// The document itself.
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// All resources by logical id.
    pub fn resources(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.document["Resources"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(id, resource)| (id.as_str(), resource))
    }

    /// The resources of one type: logical id and properties.
    pub fn of_type<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.resources()
            .filter(move |(_, resource)| resource["Type"] == kind)
            .map(|(id, resource)| (id, &resource["Properties"]))
    }

    fn properties(&self, id: &str) -> &Value {
        &self.document["Resources"][id]["Properties"]
    }

    /// A value with each look-up in the mappings answered; the first branch of a condition stands for it.
    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["Fn::FindInMap"].as_array().map(Vec::as_slice) {
            Some([map, first, second]) => {
                let (map, first, second) = (text(map), text(first), text(second));
                &self.document["Mappings"][map][first][second]
            }
            _ => value,
        }
    }

    fn number(&self, value: &Value) -> Option<u64> {
        let value = self.resolved(value);
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    }

    /// The queues that a mapping reads: mapping, its properties, function, queue.
    fn mappings(&self) -> impl Iterator<Item = (&str, &Value, &str, &str)> {
        self.event_sources().filter(|(.., queue)| self.document["Resources"][queue].is_object())
    }

    /// The streams that a mapping reads, which all come from outside: mapping, its properties, function, parameter with the
    /// stream's ARN.
    fn streams(&self) -> impl Iterator<Item = (&str, &Value, &str, &str)> {
        self.event_sources().filter(|(.., stream)| self.document["Parameters"][stream].is_object())
    }

    fn event_sources(&self) -> impl Iterator<Item = (&str, &Value, &str, &str)> {
        self.of_type("AWS::Lambda::EventSourceMapping").map(|(id, mapping)| {
            (id, mapping, named(&mapping["FunctionName"]), named(&mapping["EventSourceArn"]))
        })
    }

    /// Each queue that something puts its failures into, and what does so.
    fn dead_letter_queues(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (id, resource) in self.resources() {
            let properties = &resource["Properties"];
            let mut queues = vec![
                &properties["RedrivePolicy"]["deadLetterTargetArn"],
                &properties["DestinationConfig"]["OnFailure"]["Destination"],
                &properties["Target"]["DeadLetterConfig"]["Arn"],
            ];
            queues
                .extend(list(&properties["Targets"]).iter().map(|target| &target["DeadLetterConfig"]["Arn"]));
            for queue in queues {
                let is_bucket = self.document["Resources"][named(queue)]["Type"] == "AWS::S3::Bucket";
                if !queue.is_null() && !is_bucket {
                    found.entry(named(queue)).or_default().push(id);
                }
            }
        }
        found
    }

    /// Every statement of every role, with the place where it stands.
    fn statements(&self) -> Vec<(String, &Value)> {
        let mut found = Vec::new();
        for (id, role) in self.of_type("AWS::IAM::Role") {
            for policy in list(&role["Policies"]) {
                collect_statements(id, &policy["PolicyDocument"], &mut found);
            }
        }
        for (id, policy) in self.of_type("AWS::IAM::Policy") {
            collect_statements(id, &policy["PolicyDocument"], &mut found);
        }
        found
    }

    /// The statements of the role of one function, the policies beside the role among them.
    fn statements_of(&self, function: &str) -> Vec<&Value> {
        let role = named(&self.properties(function)["Role"]);
        let mut found = Vec::new();
        for policy in list(&self.properties(role)["Policies"]) {
            collect_statements(role, &policy["PolicyDocument"], &mut found);
        }
        for (id, policy) in self.of_type("AWS::IAM::Policy") {
            if list(&policy["Roles"]).iter().any(|one| named(one) == role) {
                collect_statements(id, &policy["PolicyDocument"], &mut found);
            }
        }
        found.into_iter().map(|(_, statement)| statement).collect()
    }

    /// The statements of the policies of one queue.
    fn queue_statements(&self, queue: &str) -> Vec<&Value> {
        self.of_type("AWS::SQS::QueuePolicy")
            .filter(|(_, policy)| list(&policy["Queues"]).iter().any(|one| named(one) == queue))
            .flat_map(|(_, policy)| list(&policy["PolicyDocument"]["Statement"]))
            .collect()
    }
}

fn collect_statements<'a>(id: &str, document: &'a Value, found: &mut Vec<(String, &'a Value)>) {
    for statement in list(&document["Statement"]) {
        // Both branches are somebody's stack.
        let branches = statement["Fn::If"].as_array().map(|parts| parts.iter().skip(1).collect());
        for statement in branches.unwrap_or_else(|| vec![statement]) {
            if statement["Effect"].is_string() {
                found.push((format!("{id}.{}", text(&statement["Sid"])), statement));
            }
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// One or many.
fn many(value: &Value) -> Vec<&Value> {
    value
        .as_array()
        .map_or_else(|| if value.is_null() { vec![] } else { vec![value] }, |items| items.iter().collect())
}

/// The logical id that a Ref, a Fn::GetAtt or the list around one of them leads to.
fn named(value: &Value) -> &str {
    if let Some(id) = value["Ref"].as_str() {
        return id;
    }
    match &value["Fn::GetAtt"] {
        Value::Array(parts) => parts.first().map(text).unwrap_or_default(),
        Value::String(path) => path.split('.').next().unwrap_or_default(),
        // The subscription's endpoint: the last of what is joined and split again.
        _ => value["Fn::Select"][1]["Fn::Split"][1]["Fn::Join"][1]
            .as_array()
            .and_then(|parts| parts.last())
            .map(named)
            .unwrap_or_default(),
    }
}

/// Every text in a value.
fn texts<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::String(one) => found.push(one),
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        Value::Object(items) => items.values().for_each(|item| texts(item, found)),
        _ => {}
    }
}

/// Every condition key of a statement.
fn condition_keys(statement: &Value) -> Vec<&str> {
    let operators = statement["Condition"].as_object();
    operators
        .into_iter()
        .flat_map(Map::values)
        .filter_map(Value::as_object)
        .flat_map(Map::keys)
        .map(String::as_str)
        .collect()
}

fn actions(statement: &Value) -> Vec<&str> {
    many(&statement["Action"]).into_iter().map(text).collect()
}

fn allows(statement: &Value, action: &str, resource: &str) -> bool {
    actions(statement).contains(&action)
        && many(&statement["Resource"]).into_iter().any(|one| named(one) == resource)
}

/// All rules, in the order of the flow.
pub fn rules() -> Vec<Rule> {
    vec![
        Rule { name: "a route without an authorizer says why", breaches: routes_are_authorized },
        Rule { name: "each route has a throttle, each stage an access log", breaches: routes_are_throttled },
        Rule {
            name: "an integration waits longer than its function works",
            breaches: integrations_outlast_functions,
        },
        Rule { name: "who invokes a function is named by its ARN", breaches: invocations_name_their_source },
        Rule {
            name: "queues and topics are high-throughput FIFO without content-based deduplication",
            breaches: fifo_is_high_throughput,
        },
        Rule { name: "a mapping reports single failures and has a ceiling", breaches: mappings_are_bounded },
        Rule {
            name: "a schedule tries once, forgets within its minute, and keeps what it could not hand over",
            breaches: schedules_do_not_pile_up,
        },
        Rule { name: "a run ends before the next one of its schedule begins", breaches: runs_end_in_time },
        Rule { name: "a schedule may invoke its function and nothing else", breaches: schedules_may_little },
        Rule {
            name: "a function that reads a database reaches its own secret and checkpoints alone",
            breaches: readers_keep_to_their_source,
        },
        Rule {
            name: "a database that stops, lags, waits or fills its disk has an alarm that tells somebody",
            breaches: sources_are_heard,
        },
        Rule {
            name: "a target's schedule is off until its function wakes it, and tells it its mapping",
            breaches: probes_sleep,
        },
        Rule {
            name: "a function that sends to a target switches its own mapping and schedule alone",
            breaches: switches_are_own,
        },
        Rule {
            name: "a function that sends to a target calls what the target's entry names alone",
            breaches: calls_are_named,
        },
        Rule {
            name: "a stream is read from its oldest record, in halves when need be, and never gives up a record for nothing",
            breaches: streams_lose_nothing,
        },
        Rule {
            name: "a function may read its stream, load its table and keep what is given up",
            breaches: streams_may_be_read,
        },
        Rule {
            name: "what a stream's mapping gives up becomes a ticket",
            breaches: given_up_batches_become_tickets,
        },
        Rule {
            name: "a stream that waits, or loses a record, has an alarm that tells somebody",
            breaches: streams_are_heard,
        },
        Rule {
            name: "a bucket is private, reached over TLS alone, and forgets",
            breaches: buckets_keep_to_themselves,
        },
        Rule {
            name: "a message stays hidden for six times the function's time-out",
            breaches: messages_stay_hidden,
        },
        Rule { name: "a function may read its queue and hide messages in it", breaches: readers_may_read },
        Rule {
            name: "a queue that is read has a dead-letter queue of its kind that outlives it",
            breaches: queues_have_dead_letters,
        },
        Rule { name: "a queue gives up when the design says so", breaches: queues_give_up_in_time },
        Rule {
            name: "clear values stand in Changes for four days at most",
            breaches: clear_values_do_not_linger,
        },
        Rule {
            name: "a subscription delivers raw and has a dead-letter queue",
            breaches: subscriptions_lose_nothing,
        },
        Rule { name: "a queue admits the topic and nobody else", breaches: queues_admit_the_topic },
        Rule {
            name: "a filter policy keeps the limits of SNS and lets snapshots for one target through",
            breaches: filters_are_within_limits,
        },
        Rule { name: "everything at rest is under the customer key", breaches: rest_is_encrypted },
        Rule { name: "tables and keys outlive the stack", breaches: data_is_retained },
        Rule { name: "nothing bills by provisioned capacity", breaches: nothing_is_provisioned },
        Rule {
            name: "each function logs into a group of its own that forgets",
            breaches: logs_are_kept_for_a_while,
        },
        Rule {
            name: "each dead-letter queue and each waiting queue has an alarm that tells somebody",
            breaches: failures_are_heard,
        },
        Rule {
            name: "an outage that may outlast a target's queue, and a backlog beyond what SQS looks at, are told in time",
            breaches: long_outages_are_heard,
        },
        Rule { name: "no role reaches every resource", breaches: resources_are_exact },
        Rule { name: "no role may do everything of a service", breaches: actions_are_exact },
        Rule {
            name: "a key is used through one service or with an encryption context",
            breaches: key_use_is_bound,
        },
        Rule { name: "a key admits services for one resource only", breaches: keys_admit_few },
        Rule {
            name: "each role takes the permissions boundary and trusts Lambda, or its schedule, alone",
            breaches: roles_are_bounded,
        },
        Rule { name: "each function runs a binary of this workspace", breaches: binaries_exist },
        Rule {
            name: "each function has the variables that its settings need, and no others",
            breaches: variables_fit_settings,
        },
        Rule { name: "no variable holds a secret", breaches: variables_hold_no_secrets },
        Rule { name: "the ceilings together stay within the budget", breaches: concurrency_fits },
        Rule { name: "no message comes back to the function that sent it", breaches: flow_has_no_cycle },
        Rule {
            name: "each target, source and stream of the mappings is there",
            breaches: loops_match_mappings,
        },
        Rule {
            name: "what is for a laptop, and what bills by the hour, is off",
            breaches: defaults_are_safe,
        },
    ]
}

fn routes_are_authorized(template: &Template) -> Vec<String> {
    template
        .resources()
        .filter(|(_, resource)| resource["Type"] == "AWS::ApiGatewayV2::Route")
        .filter(|(_, resource)| matches!(text(&resource["Properties"]["AuthorizationType"]), "" | "NONE"))
        .filter(|(_, resource)| text(&resource["Metadata"]["DataSync"]["NoAuthorizerBecause"]).is_empty())
        .map(|(id, _)| format!("{id} lets everybody in and does not say why"))
        .collect()
}

fn routes_are_throttled(template: &Template) -> Vec<String> {
    let limits = ["ThrottlingRateLimit", "ThrottlingBurstLimit"];
    let mut breaches = Vec::new();
    for (stage, properties) in template.of_type("AWS::ApiGatewayV2::Stage") {
        if properties["AccessLogSettings"]["DestinationArn"].is_null() {
            breaches.push(format!("{stage} has no access log"));
        }
        for (route, settings) in template.of_type("AWS::ApiGatewayV2::Route") {
            let throttle = &properties["RouteSettings"][text(&settings["RouteKey"])];
            if settings["ApiId"] == properties["ApiId"]
                && limits.iter().any(|limit| throttle[limit].is_null())
            {
                breaches.push(format!("{route} has no throttle in {stage}"));
            }
        }
        if limits.iter().any(|limit| properties["DefaultRouteSettings"][limit].is_null()) {
            breaches.push(format!("{stage} has no throttle for routes to come"));
        }
    }
    breaches
}

fn integrations_outlast_functions(template: &Template) -> Vec<String> {
    template
        .of_type("AWS::ApiGatewayV2::Integration")
        .filter(|(_, integration)| {
            let function = named(&integration["IntegrationUri"]);
            let works = template.number(&template.properties(function)["Timeout"]).unwrap_or(u64::MAX);
            template.number(&integration["TimeoutInMillis"]).unwrap_or_default() <= works.saturating_mul(1000)
        })
        .map(|(id, _)| format!("{id} gives up before its function does"))
        .collect()
}

fn invocations_name_their_source(template: &Template) -> Vec<String> {
    template
        .of_type("AWS::Lambda::Permission")
        .filter(|(_, permission)| permission["SourceArn"].is_null())
        .map(|(id, _)| format!("{id} lets the service in for every account"))
        .collect()
}

fn fifo_is_high_throughput(template: &Template) -> Vec<String> {
    let mut breaches = Vec::new();
    for (id, queue) in template.of_type("AWS::SQS::Queue").filter(|(_, queue)| queue["FifoQueue"] == true) {
        if queue["DeduplicationScope"] != "messageGroup"
            || queue["FifoThroughputLimit"] != "perMessageGroupId"
        {
            breaches.push(format!("{id} is not high-throughput"));
        }
        if queue["ContentBasedDeduplication"] == true {
            breaches.push(format!("{id} deduplicates by content"));
        }
    }
    for (id, topic) in template.of_type("AWS::SNS::Topic").filter(|(_, topic)| topic["FifoTopic"] == true) {
        if topic["FifoThroughputScope"] != "MessageGroup" {
            breaches.push(format!("{id} is not high-throughput"));
        }
        if topic["ContentBasedDeduplication"] != false {
            breaches.push(format!("{id} may deduplicate by content"));
        }
        let mut name = Vec::new();
        texts(&topic["TopicName"], &mut name);
        if !name.iter().any(|part| part.ends_with("-events.fifo")) {
            breaches.push(format!("{id} has no name that ends in -events.fifo, which key policies rely on"));
        }
    }
    for (id, _, _, queue) in template.mappings() {
        if template.properties(queue)["FifoQueue"] != true {
            breaches.push(format!("{id} reads {queue}, which keeps no order"));
        }
    }
    breaches
}

fn mappings_are_bounded(template: &Template) -> Vec<String> {
    let mut breaches = Vec::new();
    for (id, mapping, _, _) in template.mappings() {
        if list(&mapping["FunctionResponseTypes"]).iter().all(|one| one != "ReportBatchItemFailures") {
            breaches.push(format!("{id} fails whole batches"));
        }
        if template.number(&mapping["ScalingConfig"]["MaximumConcurrency"]).is_none_or(|ceiling| ceiling < 2)
        {
            breaches.push(format!("{id} has no ceiling of 2 or more"));
        }
        if !(1..=10).contains(&template.number(&mapping["BatchSize"]).unwrap_or_default()) {
            breaches.push(format!("{id} asks for more than a FIFO queue gives"));
        }
    }
    for (id, function) in template.of_type("AWS::Lambda::Function") {
        if !function["ReservedConcurrentExecutions"].is_null() {
            breaches.push(format!("{id} reserves concurrency, which makes its mapping drop messages"));
        }
    }
    breaches
}

/// The schedules, their properties and the functions that they invoke.
fn schedules(template: &Template) -> impl Iterator<Item = (&str, &Value, &str)> {
    template
        .of_type("AWS::Scheduler::Schedule")
        .map(|(id, schedule)| (id, schedule, named(&schedule["Target"]["Arn"])))
}

fn schedules_do_not_pile_up(template: &Template) -> Vec<String> {
    let once = |policy: &Value| {
        template.number(&policy["MaximumRetryAttempts"]) == Some(0)
            && template.number(&policy["MaximumEventAgeInSeconds"]).is_some_and(|age| age <= 60)
    };
    let mut breaches = Vec::new();
    for (id, schedule, function) in schedules(template) {
        if !once(&schedule["Target"]["RetryPolicy"]) {
            breaches.push(format!("{id} tries again when the next run is due"));
        }
        if schedule["Target"]["DeadLetterConfig"]["Arn"].is_null() {
            breaches.push(format!("{id} loses what it could not hand over"));
        }
        let mut configs = template.of_type("AWS::Lambda::EventInvokeConfig");
        if !configs.any(|(_, config)| named(&config["FunctionName"]) == function && once(config)) {
            breaches.push(format!("Lambda runs {function} again when the next run is due"));
        }
    }
    breaches
}

fn runs_end_in_time(template: &Template) -> Vec<String> {
    let mut breaches = Vec::new();
    for (id, schedule, function) in schedules(template) {
        let properties = template.properties(function);
        let timeout = template.number(&properties["Timeout"]).unwrap_or(u64::MAX);
        // Text that is one look-up.
        let run = &properties["Environment"]["Variables"]["RUN_SECONDS"]["Fn::Sub"];
        let run = template.number(&run[1]["Seconds"]).filter(|_| run[0] == "${Seconds}");
        if schedule["ScheduleExpression"] != "rate(1 minute)" || timeout > 60 {
            breaches.push(format!("{id} starts a run while the one before may still go on"));
        }
        if run.is_none_or(|run| run.saturating_add(5) > timeout) {
            breaches.push(format!("{function} is ended in the middle of its last poll"));
        }
    }
    breaches
}

fn schedules_may_little(template: &Template) -> Vec<String> {
    let mut breaches = Vec::new();
    for (id, schedule, function) in schedules(template) {
        let role = named(&schedule["Target"]["RoleArn"]);
        let queue = named(&schedule["Target"]["DeadLetterConfig"]["Arn"]);
        let statements: Vec<&Value> = list(&template.properties(role)["Policies"])
            .iter()
            .flat_map(|policy| list(&policy["PolicyDocument"]["Statement"]))
            .collect();
        if !statements.iter().any(|one| allows(one, "lambda:InvokeFunction", function)) {
            breaches.push(format!("{id} may not invoke its function"));
        }
        let only = |statement: &Value, resource: &str| {
            many(&statement["Resource"]).into_iter().all(|one| named(one) == resource)
        };
        for statement in statements {
            let fits = match actions(statement).as_slice() {
                ["lambda:InvokeFunction"] => only(statement, function),
                ["sqs:SendMessage"] => only(statement, queue),
                // The rule on keys looks at these.
                keys => keys.iter().all(|action| action.starts_with("kms:")),
            };
            if !fits {
                breaches.push(format!("{role}.{} is more than {id} needs", text(&statement["Sid"])));
            }
        }
    }
    breaches
}

fn readers_keep_to_their_source(template: &Template) -> Vec<String> {
    let mut breaches = Vec::new();
    for (_, schedule, function) in schedules(template) {
        let mut input = Vec::new();
        texts(&schedule["Target"]["Input"], &mut input);
        // Every name comes from the one entry of the mapping that the schedule's input comes from.
        let entry = input.iter().find(|one| template.document["Mappings"]["PullSources"][**one].is_object());
        let Some(entry) = entry else {
            breaches.push(format!("{function} is told another source than its entry's"));
            continue;
        };
        let source = &template.document["Mappings"]["PullSources"][*entry];
        for statement in template.statements_of(function) {
            let actions = actions(statement);
            let mut places = Vec::new();
            if actions.iter().any(|action| action.starts_with("dynamodb:")) {
                let keys = &statement["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"];
                let [own, live, backfills] = list(keys) else {
                    breaches.push(format!("{function} moves the checkpoints of other sources"));
                    continue;
                };
                let is = |pattern: &Value, text: &str| {
                    let pattern = &pattern["Fn::Sub"];
                    pattern[0] == text && template.resolved(&pattern[1]["Name"]) == &source["Name"]
                };
                let rows = is(live, "${Name}#live") && is(backfills, "${Name}#backfill#*");
                if template.resolved(own) != &source["Name"] || !rows {
                    breaches.push(format!("{function} moves the checkpoints of other sources"));
                }
            } else if actions.contains(&"secretsmanager:GetSecretValue") {
                places.push(&statement["Resource"]);
            }
            for place in places {
                if template.resolved(&place["Fn::Sub"][1]["Secret"]) != &source["Secret"] {
                    breaches.push(format!("{function} opens a secret that is not its source's"));
                }
            }
        }
    }
    breaches
}

fn sources_are_heard(template: &Template) -> Vec<String> {
    let needed = [
        ("Errors", "GreaterThan", 0..=0),
        ("stopped", "GreaterThan", 0..=0),
        ("lag_ms", "GreaterThan", 0..=600_000),
        ("horizon_age_seconds", "GreaterThan", 0..=7_200),
        ("retained_bytes", "GreaterThan", 0..=50_u64 << 30),
        ("safe_wal_percent", "LessThan", 10..=50),
    ];
    let mut breaches = Vec::new();
    for (_, schedule, function) in schedules(template) {
        let mut input = Vec::new();
        texts(&schedule["Target"]["Input"], &mut input);
        let is_own = |dimension: &Value| {
            let mut told = Vec::new();
            texts(&dimension["Value"], &mut told);
            match text(&dimension["Name"]) {
                "FunctionName" => named(&dimension["Value"]) == function,
                "source" => {
                    told.iter().any(|one| *one != "PullSources" && *one != "Name" && input.contains(one))
                }
                "stage" => dimension["Value"] == "capture_pull",
                _ => false,
            }
        };
        for (metric, comparison, thresholds) in &needed {
            let heard = template.of_type("AWS::CloudWatch::Alarm").any(|(_, alarm)| {
                alarm["MetricName"] == *metric
                    && list(&alarm["Dimensions"]).iter().all(is_own)
                    && text(&alarm["ComparisonOperator"]).starts_with(comparison)
                    && template.number(&alarm["Threshold"]).is_some_and(|it| thresholds.contains(&it))
                    && list(&alarm["AlarmActions"]).iter().any(|action| named(action) == "AlertTopic")
            });
            if !heard {
                breaches.push(format!("nobody hears of {metric} of {function}"));
            }
        }
    }
    breaches
}

/// The mappings of what is sent to targets: the mapping, its function, and the rule that wakes it.
fn target_mappings(template: &Template) -> impl Iterator<Item = (&str, &str, String)> {
    template
        .mappings()
        .filter(|(_, _, function, _)| binary(template, function) == "deliver")
        .map(|(id, _, function, _)| (id, function, format!("{function}ProbeRule")))
}

fn probes_sleep(template: &Template) -> Vec<String> {
    let mut breaches = Vec::new();
    for (mapping, function, rule) in target_mappings(template) {
        let properties = template.properties(&rule);
        let told = list(&properties["Targets"]).iter().any(|target| {
            let input = &target["Input"]["Fn::Sub"];
            named(&target["Arn"]) == function
                && input[0] == r#"{"work":{"probe":{"mapping":"${Mapping}"}}}"#
                && named(&input[1]["Mapping"]) == mapping
                && template.number(&target["RetryPolicy"]["MaximumRetryAttempts"]) == Some(0)
        });
        if properties["State"] != "DISABLED" || properties["ScheduleExpression"] != "rate(1 minute)" {
            breaches.push(format!("{rule} costs something although {function} has nothing to look for"));
        }
        if !told {
            breaches.push(format!("{rule} does not tell {function} which mapping is its own"));
        }
        if properties["Name"].is_null()
            || properties["Name"] != template.properties(function)["Environment"]["Variables"]["PROBE_RULE"]
        {
            breaches.push(format!("{function} wakes another rule than {rule}"));
        }
        let admitted = template.of_type("AWS::Lambda::Permission").any(|(_, permission)| {
            named(&permission["FunctionName"]) == function
                && permission["Principal"] == "events.amazonaws.com"
                && named(&permission["SourceArn"]) == rule
        });
        if !admitted {
            breaches.push(format!("{rule} may not invoke {function}"));
        }
    }
    breaches
}

fn switches_are_own(template: &Template) -> Vec<String> {
    let switching = ["lambda:UpdateEventSourceMapping", "events:EnableRule", "events:DisableRule"];
    let mut breaches = Vec::new();
    for (function, _) in template.of_type("AWS::Lambda::Function") {
        let own = target_mappings(template).find(|(_, sender, _)| *sender == function);
        let mut may: BTreeSet<&str> = BTreeSet::new();
        for statement in template.statements_of(function) {
            for action in actions(statement).into_iter().filter(|action| switching.contains(action)) {
                let fits = own.as_ref().is_some_and(|(mapping, _, rule)| match action {
                    "lambda:UpdateEventSourceMapping" => {
                        let arn = &statement["Resource"]["Fn::Sub"];
                        text(&arn[0]).ends_with(":event-source-mapping:${Mapping}")
                            && named(&arn[1]["Mapping"]) == *mapping
                    }
                    _ => many(&statement["Resource"]).into_iter().all(|one| named(one) == rule),
                });
                if fits {
                    may.insert(action);
                } else {
                    breaches.push(format!("{function} may use {action} on what is not its own"));
                }
            }
        }
        if own.is_some() && may.len() != switching.len() {
            breaches.push(format!("{function} may not stop and wake itself"));
        }
    }
    breaches
}

fn calls_are_named(template: &Template) -> Vec<String> {
    let calling: BTreeMap<&str, Value> = [
        ("execute-api:Invoke", Value::Null),
        (
            "lambda:InvokeFunctionUrl",
            serde_json::json!({ "StringEquals": { "lambda:FunctionUrlAuthType": "AWS_IAM" } }),
        ),
        ("lambda:InvokeFunction", serde_json::json!({ "Bool": { "lambda:InvokedViaFunctionUrl": "true" } })),
    ]
    .into();
    let nothing = "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:none";
    let mut breaches = Vec::new();
    for (function, _) in template.of_type("AWS::Lambda::Function") {
        let entry = target_mappings(template)
            .find(|(_, sender, _)| *sender == function)
            .and_then(|_| function.strip_prefix("Deliver"));
        let own = entry.map(|entry| {
            serde_json::json!({
                "Fn::FindInMap": ["Targets", entry, "InvokeArn", { "DefaultValue": { "Fn::Sub": nothing } }]
            })
        });
        let mut may: BTreeSet<&str> = BTreeSet::new();
        for statement in template.statements_of(function) {
            for action in actions(statement) {
                let Some(condition) = calling.get(action) else { continue };
                if own.as_ref() == Some(&statement["Resource"]) && statement["Condition"] == *condition {
                    may.insert(action);
                } else {
                    breaches.push(format!("{function} may use {action} on what its entry does not name"));
                }
            }
        }
        if own.is_some() && may.len() != calling.len() {
            breaches.push(format!("{function} may not call what its entry names"));
        }
    }
    breaches
}

fn streams_lose_nothing(template: &Template) -> Vec<String> {
    let mut breaches = Vec::new();
    for (id, mapping, _, _) in template.streams() {
        if list(&mapping["FunctionResponseTypes"]).iter().all(|one| one != "ReportBatchItemFailures") {
            breaches.push(format!("{id} fails whole batches"));
        }
        if mapping["StartingPosition"] != "TRIM_HORIZON" {
            breaches.push(format!("{id} misses what is written while it starts"));
        }
        if mapping["BisectBatchOnFunctionError"] != true {
            breaches.push(format!("{id} gives up a whole batch for one record"));
        }
        let tries = template.number(&mapping["MaximumRetryAttempts"]);
        if tries.is_none_or(|tries| !(10..=1_000).contains(&tries)) {
            breaches.push(format!("{id} tries for ever, or gives up at the first trouble"));
        }
        // An hour before the stream itself forgets, so that what is given up can still be handed over whole.
        let age = template.number(&mapping["MaximumRecordAgeInSeconds"]);
        if age.is_none_or(|age| !(3_600..=DAY - 3_600).contains(&age)) {
            breaches.push(format!("{id} waits until the stream forgets"));
        }
        let kept = named(&mapping["DestinationConfig"]["OnFailure"]["Destination"]);
        if template.document["Resources"][kept]["Type"] != "AWS::S3::Bucket" {
            breaches.push(format!(
                "{id} keeps no whole records: a queue gets pointers that end with the stream's memory"
            ));
        }
    }
    breaches
}

fn streams_may_be_read(template: &Template) -> Vec<String> {
    let read = [
        "dynamodb:DescribeStream",
        "dynamodb:GetRecords",
        "dynamodb:GetShardIterator",
        "dynamodb:ListStreams",
    ];
    let mut breaches = Vec::new();
    for (_, mapping, function, stream) in template.streams() {
        let statements = template.statements_of(function);
        for action in read {
            if !statements.iter().any(|statement| allows(statement, action, stream)) {
                breaches.push(format!("{function} lacks {action} on {stream}"));
            }
        }
        // The table is whose stream it is; a look at another, or another source's rows, is nobody's need.
        let source = template.resolved(&template.properties(function)["Environment"]["Variables"]["SOURCE"]);
        let (mut loads, mut remembers) = (false, false);
        for statement in
            statements.iter().filter(|one| actions(one).iter().any(|it| it.starts_with("dynamodb:")))
        {
            let table = &statement["Resource"]["Fn::Select"];
            let of_stream = table[0] == 0
                && table[1]["Fn::Split"][0] == "/stream/"
                && named(&table[1]["Fn::Split"][1]) == stream;
            let keys = list(&statement["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"]);
            let own_rows = keys.len() == 1
                && keys.iter().all(|key| {
                    let key = &key["Fn::Sub"];
                    key[0] == "${Name}#backfill#*" && template.resolved(&key[1]["Name"]) == source
                });
            match actions(statement).as_slice() {
                ["dynamodb:DescribeTable", "dynamodb:Scan"] if of_stream => loads = true,
                ["dynamodb:GetItem", "dynamodb:UpdateItem"] if own_rows => remembers = true,
                others if others.iter().all(|action| read.contains(action)) => {}
                _ => breaches.push(format!("{function} reaches more of DynamoDB than it needs")),
            }
        }
        if !loads || !remembers {
            breaches.push(format!("{function} may not load its table"));
        }
        // Lambda puts what it gives up in the function's role.
        let bucket = named(&mapping["DestinationConfig"]["OnFailure"]["Destination"]);
        let may_put = |statement: &&Value| {
            let mut places = Vec::new();
            texts(&statement["Resource"], &mut places);
            actions(statement).contains(&"s3:PutObject")
                && places.contains(&format!("${{{bucket}.Arn}}/aws/lambda/*").as_str())
        };
        if !statements.iter().any(may_put)
            || !statements.iter().any(|statement| allows(statement, "s3:ListBucket", bucket))
        {
            breaches.push(format!("{function} may not keep what its mapping gives up"));
        }
    }
    breaches
}

fn given_up_batches_become_tickets(template: &Template) -> Vec<String> {
    let mut breaches = Vec::new();
    for (id, mapping, function, _) in template.streams() {
        let bucket = named(&mapping["DestinationConfig"]["OnFailure"]["Destination"]);
        let told = &template.properties(bucket)["NotificationConfiguration"]["EventBridgeConfiguration"];
        let source = template.resolved(&template.properties(function)["Environment"]["Variables"]["SOURCE"]);
        let rule = template.of_type("AWS::Events::Rule").find(|(_, rule)| {
            let detail = &rule["EventPattern"]["detail"];
            let prefix = &detail["object"]["key"][0]["prefix"]["Fn::Sub"];
            list(&rule["EventPattern"]["source"]).iter().any(|source| source == "aws.s3")
                && list(&detail["bucket"]["name"]).iter().any(|one| named(one) == bucket)
                && prefix[0] == "aws/lambda/${Mapping}/"
                && named(&prefix[1]["Mapping"]) == id
        });
        let Some((rule, properties)) = rule.filter(|_| told["EventBridgeEnabled"] == true) else {
            breaches.push(format!("nobody hears of what {id} gives up"));
            continue;
        };
        let target = &properties["Targets"][0];
        let input = &target["InputTransformer"]["InputTemplate"]["Fn::Sub"];
        let named_source = template.resolved(&input[1]["Name"]);
        let is_failure = serde_json::from_str::<Value>(text(&input[0])).is_ok_and(|failure| {
            failure["detail-type"] == "record failed" && failure["detail"]["stage"] == "capture_stream"
        });
        if named(&target["Arn"]) != "Ticket" || !is_failure || named_source != source || source.is_null() {
            breaches.push(format!("{rule} makes no ticket of {function}'s source"));
        }
        let admitted = template.of_type("AWS::Lambda::Permission").any(|(_, permission)| {
            named(&permission["FunctionName"]) == "Ticket" && named(&permission["SourceArn"]) == rule
        });
        if !admitted {
            breaches.push(format!("Ticket does not admit {rule}"));
        }
    }
    breaches
}

fn streams_are_heard(template: &Template) -> Vec<String> {
    let mut breaches = Vec::new();
    for (_, _, function, _) in template.streams() {
        // Milliseconds; then counts.
        for (metric, most) in [("IteratorAge", 3_600_000), ("Errors", 0), ("DestinationDeliveryFailures", 0)]
        {
            let heard = template.of_type("AWS::CloudWatch::Alarm").any(|(_, alarm)| {
                let dimension = &alarm["Dimensions"][0];
                alarm["MetricName"] == metric
                    && dimension["Name"] == "FunctionName"
                    && named(&dimension["Value"]) == function
                    && template.number(&alarm["Threshold"]).is_some_and(|threshold| threshold <= most)
                    && list(&alarm["AlarmActions"]).iter().any(|action| named(action) == "AlertTopic")
            });
            if !heard {
                breaches.push(format!("nobody hears of {metric} of {function}"));
            }
        }
    }
    breaches
}

fn buckets_keep_to_themselves(template: &Template) -> Vec<String> {
    let mut breaches = Vec::new();
    for (id, bucket) in template.of_type("AWS::S3::Bucket") {
        let access = &bucket["PublicAccessBlockConfiguration"];
        let closed = ["BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"];
        let owned = &bucket["OwnershipControls"]["Rules"][0]["ObjectOwnership"];
        if closed.iter().any(|one| access[one] != true) || owned != "BucketOwnerEnforced" {
            breaches.push(format!("{id} may be opened to others"));
        }
        let forgets = list(&bucket["LifecycleConfiguration"]["Rules"]).iter().any(|rule| {
            rule["Status"] == "Enabled"
                && rule["Prefix"].is_null()
                && rule["Filter"].is_null()
                && template.number(&rule["ExpirationInDays"]).is_some_and(|days| days <= 14)
        });
        if !forgets {
            breaches.push(format!("{id} keeps clear values for more than 14 days"));
        }
        // The versions behind a deleted document would be clear values that nobody sees.
        if !bucket["VersioningConfiguration"].is_null() {
            breaches.push(format!("{id} keeps what was deleted"));
        }
        let over_tls_only = |statement: &Value| {
            statement["Effect"] == "Deny"
                && statement["Principal"] == "*"
                && statement["Action"] == "s3:*"
                && statement["Condition"]["Bool"]["aws:SecureTransport"] == "false"
                && list(&statement["Resource"]).len() == 2
        };
        let policy =
            template.of_type("AWS::S3::BucketPolicy").find(|(_, policy)| named(&policy["Bucket"]) == id);
        let statements =
            policy.map(|(_, policy)| list(&policy["PolicyDocument"]["Statement"])).unwrap_or_default();
        if !statements.iter().any(over_tls_only) {
            breaches.push(format!("{id} answers without TLS"));
        }
    }
    breaches
}

fn messages_stay_hidden(template: &Template) -> Vec<String> {
    template
        .mappings()
        .filter(|(_, _, function, queue)| {
            let works = template.number(&template.properties(function)["Timeout"]).unwrap_or(u64::MAX);
            let hidden = template.number(&template.properties(queue)["VisibilityTimeout"]).unwrap_or(30);
            hidden < works.saturating_mul(6)
        })
        .map(|(id, _, function, queue)| {
            format!("{id}: {queue} shows a message again while {function} works on it")
        })
        .collect()
}

fn readers_may_read(template: &Template) -> Vec<String> {
    let needed =
        ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes"];
    let mut breaches = Vec::new();
    for (_, _, function, queue) in template.mappings() {
        let statements = template.statements_of(function);
        for action in needed {
            if !statements.iter().any(|statement| allows(statement, action, queue)) {
                breaches.push(format!("{function} lacks {action} on {queue}"));
            }
        }
    }
    breaches
}

fn queues_have_dead_letters(template: &Template) -> Vec<String> {
    let mut breaches = Vec::new();
    for (_, _, _, queue) in template.mappings() {
        if template.properties(queue)["RedrivePolicy"].is_null() {
            breaches.push(format!("{queue} has no dead-letter queue"));
        }
    }
    let fourteen_days = 14 * DAY;
    for (queue, users) in template.dead_letter_queues() {
        let properties = template.properties(queue);
        if template.number(&properties["MessageRetentionPeriod"]) != Some(fourteen_days) {
            breaches.push(format!("{queue} does not keep dead letters for 14 days"));
        }
        for user in users {
            let resource = &template.document["Resources"][user];
            // A FIFO queue and a FIFO topic's subscription take a FIFO queue; a rule and an invocation a standard one.
            let fifo = match text(&resource["Type"]) {
                "AWS::SQS::Queue" => resource["Properties"]["FifoQueue"] == true,
                "AWS::SNS::Subscription" => true,
                _ => false,
            };
            if (properties["FifoQueue"] == true) != fifo {
                breaches.push(format!("{queue} is of the wrong kind for {user}"));
            }
        }
    }
    breaches
}

fn queues_give_up_in_time(template: &Template) -> Vec<String> {
    template
        .mappings()
        .filter_map(|(_, _, _, queue)| {
            let tries = template
                .number(&template.properties(queue)["RedrivePolicy"]["maxReceiveCount"])
                .unwrap_or_default();
            // Targets may be away for long: their queue's count is a guard against crashes only.
            let allowed =
                if matches!(queue, "ChangesQueue" | "EnrichmentQueue") { 5..=10 } else { 1000..=1000 };
            (!allowed.contains(&tries)).then(|| format!("{queue} gives up after {tries} receives"))
        })
        .chain(template.mappings().filter_map(|(_, _, function, queue)| {
            let told = &template.properties(function)["Environment"]["Variables"]["MAX_RECEIVES"];
            let tries = &template.properties(queue)["RedrivePolicy"]["maxReceiveCount"];
            let (told, tries) = (template.number(told), template.number(tries));
            // A function parks what is at its end; a few receives more give a parking that fails another chance.
            let room = if tries == Some(1000) { told == tries } else { told < tries && told >= Some(5) };
            (!room).then(|| format!("{function} is told another count than {queue} leaves room for"))
        }))
        .collect()
}

fn clear_values_do_not_linger(template: &Template) -> Vec<String> {
    let mut breaches = Vec::new();
    if template.number(&template.properties("ChangesQueue")["MessageRetentionPeriod"]) != Some(4 * DAY) {
        breaches.push("ChangesQueue does not forget after four days".to_owned());
    }
    for (_, _, function, queue) in template.mappings() {
        if queue == "ChangesQueue" && function != "Transform" {
            breaches.push(format!("{function} reads clear values"));
        }
    }
    let readers = template
        .statements()
        .into_iter()
        .filter(|(_, statement)| allows(statement, "sqs:ReceiveMessage", "ChangesQueue"));
    breaches.extend(
        readers
            .filter(|(place, _)| !place.starts_with("TransformRole"))
            .map(|(place, _)| format!("{place} may read clear values")),
    );
    breaches
}

fn subscriptions_lose_nothing(template: &Template) -> Vec<String> {
    template
        .of_type("AWS::SNS::Subscription")
        .filter(|(_, subscription)| subscription["Protocol"] == "sqs")
        .filter(|(_, subscription)| {
            subscription["RawMessageDelivery"] != true
                || subscription["RedrivePolicy"]["deadLetterTargetArn"].is_null()
        })
        .map(|(id, _)| format!("{id} wraps its messages or loses what it cannot deliver"))
        .collect()
}

fn queues_admit_the_topic(template: &Template) -> Vec<String> {
    let mut breaches = Vec::new();
    for (id, subscription) in
        template.of_type("AWS::SNS::Subscription").filter(|(_, one)| one["Protocol"] == "sqs")
    {
        let topic = named(&subscription["TopicArn"]);
        for queue in [&subscription["Endpoint"], &subscription["RedrivePolicy"]["deadLetterTargetArn"]] {
            let queue = named(queue);
            let admitted = template.queue_statements(queue).into_iter().any(|statement| {
                statement["Principal"]["Service"] == "sns.amazonaws.com"
                    && allows(statement, "sqs:SendMessage", queue)
                    && named(&statement["Condition"]["ArnEquals"]["aws:SourceArn"]) == topic
            });
            if !admitted {
                breaches.push(format!("{queue} does not admit {topic} for {id}"));
            }
        }
    }
    for (id, policy) in template.of_type("AWS::SQS::QueuePolicy") {
        for statement in list(&policy["PolicyDocument"]["Statement"]) {
            if !condition_keys(statement).contains(&"aws:SourceArn")
                || !statement["Principal"]["Service"].is_string()
            {
                breaches.push(format!("{id} admits more than one resource of ours"));
            }
        }
    }
    breaches
}

fn filters_are_within_limits(template: &Template) -> Vec<String> {
    let mut breaches = Vec::new();
    for (id, subscription) in
        template.of_type("AWS::SNS::Subscription").filter(|(_, one)| one["Protocol"] == "sqs")
    {
        let policy = subscription["FilterPolicy"].as_object().cloned().unwrap_or_default();
        let values: Vec<Vec<&Value>> =
            policy.values().map(|one| many(template.resolved(one)).into_iter().collect()).collect();
        let combinations: usize = values.iter().map(Vec::len).product();
        if policy.len() > 5 || combinations > 150 {
            breaches.push(format!("{id}: {} keys, {combinations} combinations", policy.len()));
        }
        let keys: BTreeSet<&str> = policy.keys().map(String::as_str).collect();
        if keys != BTreeSet::from(["changed", "model", "only", "operation"]) {
            breaches.push(format!("{id} filters by other attributes than events have"));
        }
        if values.iter().flatten().any(|one| one.is_number()) {
            breaches.push(format!("{id} compares numbers"));
        }
        let only = policy.get("only").map(list).unwrap_or_default();
        let name = only.get(1).map(|one| text(template.resolved(one))).unwrap_or_default();
        let function = template
            .mappings()
            .find(|(_, _, _, queue)| *queue == named(&subscription["Endpoint"]))
            .map(|(_, _, function, _)| function);
        let target = template.resolved(
            &template.properties(function.unwrap_or_default())["Environment"]["Variables"]["TARGET"],
        );
        if only.len() != 2
            || only.first().is_none_or(|one| one["exists"] != false)
            || name.is_empty()
            || name != text(target)
        {
            breaches.push(format!("{id} takes what is for another target only, or not what is for it"));
        }
    }
    breaches
}

fn rest_is_encrypted(template: &Template) -> Vec<String> {
    let places: [(&str, Place); 6] = [
        ("AWS::SQS::Queue", |queue| &queue["KmsMasterKeyId"]),
        ("AWS::SNS::Topic", |topic| &topic["KmsMasterKeyId"]),
        ("AWS::DynamoDB::Table", |table| &table["SSESpecification"]["KMSMasterKeyId"]),
        ("AWS::Logs::LogGroup", |group| &group["KmsKeyId"]),
        ("AWS::Events::EventBus", |bus| &bus["KmsKeyIdentifier"]),
        ("AWS::S3::Bucket", |bucket| {
            let rule = &bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"][0];
            &rule["ServerSideEncryptionByDefault"]["KMSMasterKeyID"]
        }),
    ];
    let mut breaches = Vec::new();
    for (kind, key) in places {
        for (id, properties) in template.of_type(kind) {
            let parts = list(&key(properties)["Fn::If"]);
            let own = parts.first().is_some_and(|condition| condition == "HasCustomerKey");
            if !own || parts.iter().skip(1).map(named).ne(["CustomerKeyArn", "StoreKey"]) {
                breaches.push(format!("{id} is not under the customer key"));
            }
        }
    }
    breaches
}

fn data_is_retained(template: &Template) -> Vec<String> {
    let mut breaches = Vec::new();
    for (id, resource) in template.resources() {
        let (table, key) = (resource["Type"] == "AWS::DynamoDB::Table", resource["Type"] == "AWS::KMS::Key");
        if (table || key)
            && (resource["DeletionPolicy"] != "Retain" || resource["UpdateReplacePolicy"] != "Retain")
        {
            breaches.push(format!("{id} goes with the stack"));
        }
        let properties = &resource["Properties"];
        if table && properties["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] != true {
            breaches.push(format!("{id} cannot be restored to a point in time"));
        }
        if table && named(&properties["DeletionProtectionEnabled"]) != "DeletionProtection" {
            breaches.push(format!("{id} can be deleted"));
        }
        if key && properties["KeySpec"].is_null() && properties["EnableKeyRotation"] != true {
            breaches.push(format!("{id} does not rotate"));
        }
    }
    breaches
}

fn nothing_is_provisioned(template: &Template) -> Vec<String> {
    let mut breaches = Vec::new();
    for (id, table) in template.of_type("AWS::DynamoDB::Table") {
        if table["BillingMode"] != "PAY_PER_REQUEST" {
            breaches.push(format!("{id} bills by capacity"));
        }
    }
    for (id, resource) in template.resources() {
        let by_the_hour = ["AWS::EC2::NatGateway", "AWS::EC2::EIP", "AWS::EC2::VPCEndpoint"];
        if by_the_hour.contains(&text(&resource["Type"])) && resource["Condition"] != "MakesEgress" {
            breaches.push(format!("{id} bills by the hour and nobody asked for it"));
        }
        if !resource["Properties"]["ProvisionedConcurrencyConfig"].is_null() {
            breaches.push(format!("{id} bills for waiting functions"));
        }
    }
    breaches
}

fn logs_are_kept_for_a_while(template: &Template) -> Vec<String> {
    let mut breaches = Vec::new();
    for (id, group) in template.of_type("AWS::Logs::LogGroup") {
        if group["RetentionInDays"].is_null() {
            breaches.push(format!("{id} keeps logs for ever"));
        }
    }
    let mut groups = BTreeSet::new();
    for (id, function) in template.of_type("AWS::Lambda::Function") {
        let group = named(&function["LoggingConfig"]["LogGroup"]);
        if template.properties(group)["LogGroupName"].is_null() || !groups.insert(group) {
            breaches.push(format!("{id} has no log group of its own in the template"));
        }
        if function["LoggingConfig"]["LogFormat"] != "JSON" {
            breaches.push(format!("{id} does not log JSON"));
        }
    }
    breaches
}

/// Whether an alarm tells somebody when a queue's metric comes to a value among these, or above it.
fn is_heard(template: &Template, queue: &str, metric: &str, thresholds: RangeInclusive<u64>) -> bool {
    template.of_type("AWS::CloudWatch::Alarm").any(|(_, alarm)| {
        let dimension = &alarm["Dimensions"][0];
        alarm["MetricName"] == metric
            && alarm["Statistic"] == "Maximum"
            && text(&alarm["ComparisonOperator"]).starts_with("GreaterThan")
            && dimension["Name"] == "QueueName"
            && named(&dimension["Value"]) == queue
            && template.number(&alarm["Threshold"]).is_some_and(|threshold| thresholds.contains(&threshold))
            && list(&alarm["AlarmActions"]).iter().any(|action| named(action) == "AlertTopic")
    })
}

fn failures_are_heard(template: &Template) -> Vec<String> {
    let mut breaches = Vec::new();
    for queue in template.dead_letter_queues().into_keys() {
        if !is_heard(template, queue, "ApproximateNumberOfMessagesVisible", 0..=0) {
            breaches.push(format!("nobody hears of dead letters in {queue}"));
        }
    }
    for (_, _, _, queue) in template.mappings() {
        if !is_heard(template, queue, "ApproximateAgeOfOldestMessage", 0..=3600) {
            breaches.push(format!("nobody hears of messages that wait in {queue}"));
        }
    }
    breaches
}

/// Messages of a FIFO queue among which SQS looks for groups that are free.
const LOOKED_AT: u64 = 120_000;

fn long_outages_are_heard(template: &Template) -> Vec<String> {
    let mut breaches = Vec::new();
    for (_, _, function, queue) in template.mappings() {
        if !function.starts_with("Deliver") {
            continue;
        }
        let Some(kept) = template.number(&template.properties(queue)["MessageRetentionPeriod"]) else {
            breaches.push(format!("{queue} does not say how long it keeps events"));
            continue;
        };
        // Deliver parks what has waited for 13 days.
        if kept.saturating_mul(1_000) < LONGEST_STAY_MS.unsigned_abs() + 86_400_000 {
            breaches.push(format!("{queue} forgets events before they are parked"));
        }
        // One with most of the time left, one that leaves days and not hours.
        for (least, most) in [(kept / 7, kept / 3), (kept / 2, kept / 4 * 3)] {
            if !is_heard(template, queue, "ApproximateAgeOfOldestMessage", least..=most) {
                breaches.push(format!(
                    "nobody hears between {least} and {most} seconds that {queue} will forget"
                ));
            }
        }
        let early = LOOKED_AT / 2..=LOOKED_AT / 10 * 9;
        if !is_heard(template, queue, "ApproximateNumberOfMessagesVisible", early) {
            breaches.push(format!("nobody hears that {queue} holds more than SQS looks at"));
        }
    }
    breaches
}

fn resources_are_exact(template: &Template) -> Vec<String> {
    template
        .statements()
        .into_iter()
        .filter(|(place, _)| !REVIEWED_WILDCARDS.iter().any(|sid| place.ends_with(&format!(".{sid}"))))
        .filter(|(_, statement)| {
            let mut named = Vec::new();
            texts(&statement["Resource"], &mut named);
            // Secrets Manager ends each ARN with six characters, and a bucket's documents have names of their own below a
            // folder; nothing else does a policy leave open.
            let fixed = named.iter().map(|one| below_a_folder(template, one).unwrap_or(one));
            fixed.into_iter().any(|one| one.contains('*') || one.replace("-??????", "").contains('?'))
        })
        .map(|(place, _)| format!("{place} reaches resources that it does not name"))
        .collect()
}

/// What stands in front of the name of a document in a folder of one of our buckets.
fn below_a_folder<'a>(template: &Template, arn: &'a str) -> Option<&'a str> {
    let (bucket, folder) = arn.strip_prefix("${")?.strip_suffix("/*")?.split_once(".Arn}/")?;
    let ours = template.document["Resources"][bucket]["Type"] == "AWS::S3::Bucket";
    ours.then_some(folder)
}

fn actions_are_exact(template: &Template) -> Vec<String> {
    template
        .statements()
        .into_iter()
        .filter(|(_, statement)| {
            actions(statement).iter().any(|action| action.contains('*')) || statement["NotAction"].is_array()
        })
        .map(|(place, _)| format!("{place} may do more than it names"))
        .collect()
}

fn key_use_is_bound(template: &Template) -> Vec<String> {
    template
        .statements()
        .into_iter()
        .filter(|(_, statement)| {
            actions(statement).iter().any(|action| matches!(*action, "kms:Decrypt" | "kms:GenerateDataKey"))
        })
        .filter(|(_, statement)| {
            let keys = condition_keys(statement);
            let bound = keys.iter().any(|key| key.starts_with("kms:EncryptionContext:"));
            // The value key is used directly; every other key on behalf of one service.
            let value = many(&statement["Resource"]).into_iter().any(|one| named(one) == "ValueKey");
            !bound || (!value && !keys.contains(&"kms:ViaService"))
        })
        .map(|(place, _)| format!("{place} decrypts without saying what for"))
        .collect()
}

fn keys_admit_few(template: &Template) -> Vec<String> {
    let mut breaches = Vec::new();
    for (id, key) in template.of_type("AWS::KMS::Key") {
        for statement in list(&key["KeyPolicy"]["Statement"]) {
            let place = format!("{id}.{}", text(&statement["Sid"]));
            let mut principal = Vec::new();
            texts(&statement["Principal"], &mut principal);
            let account = principal.iter().all(|one| one.ends_with(":root"))
                && statement["Principal"]["AWS"].is_object();
            if account {
                continue;
            }
            let known = principal.iter().all(|one| SERVICES.iter().any(|service| one.starts_with(service)));
            let bound = condition_keys(statement)
                .iter()
                .any(|key| *key == "aws:SourceArn" || key.starts_with("kms:EncryptionContext:"));
            if !known || !bound || actions(statement).contains(&"kms:*") {
                breaches.push(format!("{place} admits more than one resource of this stack"));
            }
        }
    }
    breaches
}

fn roles_are_bounded(template: &Template) -> Vec<String> {
    let mut breaches = Vec::new();
    for (id, role) in template.of_type("AWS::IAM::Role") {
        if role["PermissionsBoundary"]["Fn::If"][0] != "HasBoundary" {
            breaches.push(format!("{id} takes no permissions boundary"));
        }
        for statement in list(&role["AssumeRolePolicyDocument"]["Statement"]) {
            // A schedule has a role of its own; other accounts' schedules must not take it.
            let trusted = match schedules(template).any(|(_, one, _)| named(&one["Target"]["RoleArn"]) == id)
            {
                true => {
                    statement["Principal"]["Service"] == "scheduler.amazonaws.com"
                        && condition_keys(statement).contains(&"aws:SourceAccount")
                        && condition_keys(statement).contains(&"aws:SourceArn")
                }
                false => statement["Principal"] == serde_json::json!({ "Service": "lambda.amazonaws.com" }),
            };
            if !trusted {
                breaches.push(format!("{id} trusts more than it must"));
            }
        }
    }
    for (id, function) in template.of_type("AWS::Lambda::Function") {
        let role = named(&function["Role"]);
        if role != format!("{id}Role") {
            breaches.push(format!("{id} has no role of its own"));
        }
    }
    breaches
}

fn binary(template: &Template, function: &str) -> String {
    text(&template.document["Resources"][function]["Metadata"]["BuildProperties"]["Binary"]).to_owned()
}

fn binaries_exist(template: &Template) -> Vec<String> {
    template
        .of_type("AWS::Lambda::Function")
        .filter(|(id, _)| {
            let binary = binary(template, id);
            binary.is_empty() || !place::root().join("crates").join(binary).join("src/main.rs").is_file()
        })
        .map(|(id, _)| format!("{id} runs a binary that the workspace does not build"))
        .collect()
}

/// The variables that a crate's settings name, and those without a default among them.
fn named_variables(binary: &str) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    let file = place::root().join("crates").join(binary).join("src/settings.rs");
    let source = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    let (mut all, mut required) = (BTreeSet::new(), BTreeSet::new());
    let mut before = "";
    for (index, part) in code.split('"').enumerate() {
        let is_name = part.len() > 2 && part.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        if index % 2 == 1 && is_name {
            all.insert(part.to_owned());
            let call = before.rsplit([';', '{']).next().unwrap_or_default();
            if call.contains("required") {
                required.insert(part.to_owned());
            }
        }
        before = part;
    }
    Ok((all, required))
}

fn variables_fit_settings(template: &Template) -> Vec<String> {
    // What the shell (sync-lambda) and the SDK read in every function.
    let shared = ["SYNC_CONFIG_DIR", "LOG_LEVEL", "AWS_ENDPOINT_URL"];
    // What the shell reads where a function has it.
    let optional = ["AWS_USE_DUALSTACK_ENDPOINT"];
    let mut breaches = Vec::new();
    for (id, function) in template.of_type("AWS::Lambda::Function") {
        let set = function["Environment"]["Variables"].as_object().cloned().unwrap_or_default();
        let (all, required) = match named_variables(&binary(template, id)) {
            Ok(names) => names,
            Err(error) => {
                breaches.push(format!("{id}: {error}"));
                continue;
            }
        };
        for name in required.iter().filter(|name| !set.contains_key(*name)) {
            breaches.push(format!("{id} lacks {name}"));
        }
        let read = |name: &str| {
            shared.contains(&name) || optional.contains(&name) || all.iter().any(|one| one == name)
        };
        for name in set.keys().filter(|name| !read(name)) {
            breaches.push(format!("{id} sets {name}, which nothing reads"));
        }
        for name in shared.iter().filter(|name| !set.contains_key(**name)) {
            breaches.push(format!("{id} lacks {name}"));
        }
    }
    breaches
}

fn variables_hold_no_secrets(template: &Template) -> Vec<String> {
    let mut breaches = Vec::new();
    for (id, function) in template.of_type("AWS::Lambda::Function") {
        let variables = function["Environment"]["Variables"].as_object();
        for (name, value) in variables.into_iter().flatten() {
            let mut written = Vec::new();
            texts(value, &mut written);
            let secret_name =
                ["SECRET", "PASSWORD", "API_KEY", "CREDENTIAL"].iter().any(|word| name.contains(word));
            let secret_value = written.iter().any(|one| {
                one.contains("whsec_") || one.contains("resolve:secretsmanager") || one.len() > 120
            });
            if secret_name || secret_value {
                breaches.push(format!("{id}.{name} looks like a secret"));
            }
        }
    }
    breaches
}

fn concurrency_fits(template: &Template) -> Vec<String> {
    let budget = template
        .number(&template.document["Mappings"]["Concurrency"]["Account"]["Budget"])
        .unwrap_or_default();
    let of_queues = template
        .mappings()
        .filter_map(|(_, mapping, _, _)| template.number(&mapping["ScalingConfig"]["MaximumConcurrency"]));
    // A stream has no ceiling but its shards: a table that is billed by request begins with four.
    let of_streams = template
        .streams()
        .map(|(_, mapping, _, _)| 4 * template.number(&mapping["ParallelizationFactor"]).unwrap_or(10));
    let sum: u64 = of_queues.chain(of_streams).sum();
    if sum > budget {
        vec![format!("the mappings may run {sum} functions at once, the budget is {budget}")]
    } else {
        vec![]
    }
}

/// The functions that a message of this function can reach next.
fn next<'a>(template: &'a Template, function: &str) -> BTreeSet<&'a str> {
    let mut queues = BTreeSet::new();
    for statement in template.statements_of(function) {
        for (id, _) in template.resources() {
            if allows(statement, "sqs:SendMessage", id) {
                queues.insert(id);
            }
            if allows(statement, "sns:Publish", id) {
                let subscribed = template
                    .of_type("AWS::SNS::Subscription")
                    .filter(|(_, one)| named(&one["TopicArn"]) == id);
                queues.extend(subscribed.map(|(_, one)| named(&one["Endpoint"])));
            }
        }
    }
    template
        .mappings()
        .filter(|(_, _, _, queue)| queues.contains(queue))
        .map(|(_, _, function, _)| function)
        .collect()
}

fn flow_has_no_cycle(template: &Template) -> Vec<String> {
    let mut breaches = Vec::new();
    for (start, function) in template.of_type("AWS::Lambda::Function") {
        let mut seen = BTreeSet::new();
        let mut open: Vec<&str> = next(template, start).into_iter().collect();
        while let Some(one) = open.pop() {
            if seen.insert(one) {
                open.extend(next(template, one));
            }
        }
        if seen.contains(start) {
            breaches.push(format!("{start} can send to itself"));
        }
        if function["RecursiveLoop"] == "Allow" {
            breaches.push(format!("{start} switches the loop detection off"));
        }
    }
    breaches
}

fn loops_match_mappings(template: &Template) -> Vec<String> {
    let names = |map: &str| template.document["Mappings"][map].as_object().cloned().unwrap_or_default();
    let outputs = template.document["Outputs"].as_object().cloned().unwrap_or_default();
    let targets = names("Targets");
    let mut breaches = Vec::new();
    for target in targets.keys() {
        if template.properties(&format!("Deliver{target}")).is_null() {
            breaches.push(format!("{target} is not in the loop of the resources"));
        }
        let named = [format!("{target}QueueUrl"), format!("Deliver{target}Name")];
        if named.iter().any(|output| !outputs.contains_key(output)) {
            breaches.push(format!("{target} is not in the loop of the outputs"));
        }
    }
    for pull in names("PullSources").keys() {
        let made = schedules(template).any(|(id, ..)| id == format!("CapturePull{pull}Schedule"));
        if !made {
            breaches.push(format!("{pull} is not in the loop of the resources"));
        }
        if !outputs.contains_key(&format!("CapturePull{pull}Name")) {
            breaches.push(format!("{pull} is not in the loop of the outputs"));
        }
    }
    for stream in names("Streams").keys() {
        let read = template.streams().any(|(id, ..)| id == format!("CaptureStream{stream}Mapping"));
        let condition = template.document["Conditions"]["ReadsStreams"].to_string();
        if !read || !condition.contains(&format!("\"{stream}StreamArn\"")) {
            breaches.push(format!("{stream} is not in the loop of the resources, or not in ReadsStreams"));
        }
        if !outputs.contains_key(&format!("CaptureStream{stream}Name")) {
            breaches.push(format!("{stream} is not in the loop of the outputs"));
        }
    }
    for source in names("Sources").keys() {
        if template.properties(&format!("CapturePushSecret{source}")).is_null() {
            breaches.push(format!("{source} is not in the loop of the sources"));
        }
    }
    breaches
}

fn defaults_are_safe(template: &Template) -> Vec<String> {
    let safe = [
        ("AwsEndpointUrl", ""),
        ("SyncConfigDir", "/opt/sync"),
        ("AllowLoopback", "false"),
        ("FixedEgress", "false"),
        ("DeletionProtection", "true"),
        // Nobody else has the databases of the examples.
        ("PullSchedule", "NONE"),
    ];
    safe.iter()
        .filter(|(name, value)| template.document["Parameters"][name]["Default"] != *value)
        .map(|(name, value)| format!("{name} should be {value:?} unless somebody says otherwise"))
        .collect()
}
