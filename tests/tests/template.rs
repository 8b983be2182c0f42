//! The template keeps the rules of `sync_tests::template`, and each rule catches the template that breaks it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::semicolon_if_nothing_returned,
    reason = "a test stops at what it did not expect, and a mutant is one expression"
)]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sync_tests::place;
use sync_tests::template::{Template, rules};

fn template() -> Template {
    Template::read().unwrap()
}

#[test]
fn the_template_keeps_every_rule() {
    let template = template();
    let breaches: Vec<String> = rules()
        .iter()
        .flat_map(|rule| {
            (rule.breaches)(&template).into_iter().map(|breach| format!("{}: {breach}", rule.name))
        })
        .collect();
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

/// The place of one statement in the policies of a role.
fn statement<'a>(document: &'a mut Value, role: &str, sid: &str) -> &'a mut Value {
    let policy = &mut properties(document, role)["Policies"][0]["PolicyDocument"];
    let statements = policy["Statement"].as_array_mut().unwrap();
    statements
        .iter_mut()
        .find(|one| one["Sid"] == sid)
        .unwrap_or_else(|| panic!("{role} has no statement {sid}"))
}

/// A statement of the policy by which a target's function switches itself.
fn switch<'a>(document: &'a mut Value, target: &str, number: usize) -> &'a mut Value {
    let policy = properties(document, &format!("Deliver{target}SwitchPolicy"));
    &mut policy["PolicyDocument"]["Statement"][number]
}

fn properties<'a>(document: &'a mut Value, id: &str) -> &'a mut Value {
    let resource = &mut document["Resources"][id];
    assert!(resource.is_object(), "the template has no {id}");
    &mut resource["Properties"]
}

fn remove(place: &mut Value, name: &str) {
    assert!(place.as_object_mut().unwrap().remove(name).is_some(), "there is no {name} to remove");
}

/// Changes that each break the template, and the rule that must catch it.
type Mutants = Vec<(&'static str, Vec<fn(&mut Value)>)>;

fn mutants() -> Mutants {
    vec![
        (
            "a route without an authorizer says why",
            vec![|d| properties(d, "IamPushRoute")["AuthorizationType"] = json!("NONE"), |d| {
                remove(properties(d, "IamPushRoute"), "AuthorizationType")
            }],
        ),
        (
            "each route has a throttle, each stage an access log",
            vec![
                |d| {
                    remove(
                        &mut properties(d, "PushStage")["RouteSettings"],
                        "POST /v1/sources/{source}/changes",
                    )
                },
                |d| remove(properties(d, "PushStage"), "DefaultRouteSettings"),
                |d| remove(properties(d, "PushStage"), "AccessLogSettings"),
            ],
        ),
        (
            "an integration waits longer than its function works",
            vec![|d| properties(d, "CapturePush")["Timeout"] = json!(30)],
        ),
        (
            "who invokes a function is named by its ARN",
            vec![|d| remove(properties(d, "CapturePushPermission"), "SourceArn")],
        ),
        (
            "queues and topics are high-throughput FIFO without content-based deduplication",
            vec![
                |d| properties(d, "EventsTopic")["ContentBasedDeduplication"] = json!(true),
                |d| remove(properties(d, "EventsTopic"), "FifoThroughputScope"),
                |d| remove(properties(d, "LoyaltyQueue"), "FifoThroughputLimit"),
                |d| remove(properties(d, "WarehouseQueue"), "FifoQueue"),
            ],
        ),
        (
            "a mapping reports single failures and has a ceiling",
            vec![
                |d| remove(properties(d, "DeliverLoyaltyMapping"), "FunctionResponseTypes"),
                |d| d["Mappings"]["Targets"]["Loyalty"]["MaxConcurrency"] = json!(1),
                |d| remove(properties(d, "TransformMapping"), "ScalingConfig"),
                |d| properties(d, "EnrichMapping")["BatchSize"] = json!(100),
                |d| properties(d, "Transform")["ReservedConcurrentExecutions"] = json!(5),
            ],
        ),
        (
            "a schedule tries once, forgets within its minute, and keeps what it could not hand over",
            vec![
                |d| remove(&mut properties(d, "CapturePullPosCustomersSchedule")["Target"], "RetryPolicy"),
                |d| {
                    let target = &mut properties(d, "CapturePullPosCustomersSchedule")["Target"];
                    target["RetryPolicy"]["MaximumEventAgeInSeconds"] = json!(86_400);
                },
                |d| remove(&mut properties(d, "CapturePullPosPricesSchedule")["Target"], "DeadLetterConfig"),
                |d| remove(&mut d["Resources"], "CapturePullPosStoresRetries"),
                |d| properties(d, "CapturePullPosStoresRetries")["MaximumRetryAttempts"] = json!(2),
            ],
        ),
        (
            "a run ends before the next one of its schedule begins",
            vec![
                |d| properties(d, "CapturePullPosCustomers")["Timeout"] = json!(120),
                |d| d["Mappings"]["PullSources"]["PosPrices"]["RunSeconds"] = json!(59),
                |d| {
                    let rate = json!("rate(5 minutes)");
                    properties(d, "CapturePullPosStoresSchedule")["ScheduleExpression"] = rate;
                },
            ],
        ),
        (
            "a schedule may invoke its function and nothing else",
            vec![
                |d| {
                    let other = json!({ "Fn::GetAtt": ["Transform", "Arn"] });
                    statement(d, "CapturePullPosCustomersScheduleRole", "Invoke")["Resource"] = other;
                },
                |d| {
                    let both = json!([{ "Fn::GetAtt": ["CapturePullPosPrices", "Arn"] }, { "Fn::GetAtt": ["Ticket", "Arn"] }]);
                    statement(d, "CapturePullPosPricesScheduleRole", "Invoke")["Resource"] = both;
                },
                |d| {
                    let more = json!(["lambda:InvokeFunction", "lambda:UpdateFunctionCode"]);
                    statement(d, "CapturePullPosStoresScheduleRole", "Invoke")["Action"] = more;
                },
            ],
        ),
        (
            "a function that reads a database reaches its own secret and checkpoints alone",
            vec![
                |d| remove(statement(d, "CapturePullPosCustomersRole", "Checkpoints"), "Condition"),
                |d| {
                    let checkpoints = statement(d, "CapturePullPosCustomersRole", "Checkpoints");
                    checkpoints["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"][0] =
                        json!("*");
                },
                |d| {
                    let other = json!({ "Fn::FindInMap": ["Targets", "Loyalty", "Secret"] });
                    let secret = statement(d, "CapturePullPosPricesRole", "LogIn");
                    secret["Resource"]["Fn::Sub"][1]["Secret"] = other;
                },
                |d| {
                    let other = json!({ "Fn::FindInMap": ["PullSources", "PosStores", "Name"] });
                    let checkpoints = statement(d, "CapturePullPosPricesRole", "Checkpoints");
                    checkpoints["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"][1]["Fn::Sub"]
                        [1]["Name"] = other;
                },
            ],
        ),
        (
            "a database that stops, lags, waits or fills its disk has an alarm that tells somebody",
            vec![
                |d| remove(&mut d["Resources"], "CapturePullPosCustomersErrorAlarm"),
                |d| remove(properties(d, "CapturePullPosCustomersStoppedAlarm"), "AlarmActions"),
                |d| properties(d, "CapturePullPosPricesLagAlarm")["Threshold"] = json!(86_400_000),
                |d| properties(d, "CapturePullPosStoresHorizonAlarm")["MetricName"] = json!("horizon_age"),
                |d| {
                    let other = json!({ "Fn::FindInMap": ["PullSources", "PosStores", "Name"] });
                    properties(d, "CapturePullPosCustomersRetainedAlarm")["Dimensions"][1]["Value"] = other;
                },
                |d| remove(&mut d["Resources"], "CapturePullPosStoresSlotAlarm"),
                |d| properties(d, "CapturePullPosCustomersSlotAlarm")["Threshold"] = json!(1),
                |d| {
                    let more = json!("GreaterThanThreshold");
                    properties(d, "CapturePullPosPricesSlotAlarm")["ComparisonOperator"] = more;
                },
            ],
        ),
        (
            "a target's schedule is off until its function wakes it, and tells it its mapping",
            vec![
                |d| properties(d, "DeliverLoyaltyProbeRule")["State"] = json!("ENABLED"),
                |d| properties(d, "DeliverLoyaltyProbeRule")["ScheduleExpression"] = json!("rate(1 hour)"),
                |d| remove(&mut properties(d, "DeliverWarehouseProbeRule")["Targets"][0], "Input"),
                |d| {
                    let target = &mut properties(d, "DeliverWarehouseProbeRule")["Targets"][0];
                    target["Input"]["Fn::Sub"][1]["Mapping"] = json!({ "Ref": "DeliverLoyaltyMapping" });
                },
                |d| remove(properties(d, "DeliverLoyaltyProbeRule"), "Name"),
                |d| {
                    properties(d, "DeliverLoyalty")["Environment"]["Variables"]["PROBE_RULE"] = json!("other")
                },
                |d| remove(&mut d["Resources"], "DeliverLoyaltyProbePermission"),
            ],
        ),
        (
            "a function that sends to a target switches its own mapping and schedule alone",
            vec![
                |d| {
                    let other = json!({ "Fn::GetAtt": ["DeliverWarehouseProbeRule", "Arn"] });
                    switch(d, "Loyalty", 0)["Resource"] = other;
                },
                |d| {
                    let other = json!({ "Ref": "DeliverWarehouseMapping" });
                    switch(d, "Loyalty", 1)["Resource"]["Fn::Sub"][1]["Mapping"] = other;
                },
                |d| switch(d, "Warehouse", 0)["Action"] = json!("events:EnableRule"),
                |d| remove(&mut d["Resources"], "DeliverLoyaltySwitchPolicy"),
                |d| {
                    statement(d, "TransformRole", "Read")["Action"] = json!("lambda:UpdateEventSourceMapping")
                },
            ],
        ),
        (
            "a function that sends to a target calls what the target's entry names alone",
            vec![
                |d| {
                    statement(d, "DeliverLoyaltyRole", "InvokeApi")["Resource"]["Fn::FindInMap"][1] =
                        json!("Warehouse")
                },
                |d| {
                    let all = json!("arn:aws:execute-api:*:*:*");
                    statement(d, "DeliverLoyaltyRole", "InvokeApi")["Resource"]["Fn::FindInMap"][3]["DefaultValue"] =
                        all;
                },
                |d| remove(statement(d, "DeliverWarehouseRole", "InvokeUrl"), "Condition"),
                |d| remove(statement(d, "DeliverWarehouseRole", "InvokeByUrl"), "Condition"),
                |d| statement(d, "DeliverLoyaltyRole", "InvokeByUrl")["Action"] = json!("lambda:GetFunction"),
                |d| statement(d, "TransformRole", "Read")["Action"] = json!("execute-api:Invoke"),
            ],
        ),
        (
            "a stream is read from its oldest record, in halves when need be, and never gives up a record for nothing",
            vec![
                |d| remove(properties(d, "CaptureStreamPreferencesMapping"), "FunctionResponseTypes"),
                |d| properties(d, "CaptureStreamPreferencesMapping")["StartingPosition"] = json!("LATEST"),
                |d| remove(properties(d, "CaptureStreamPreferencesMapping"), "BisectBatchOnFunctionError"),
                |d| properties(d, "CaptureStreamPreferencesMapping")["MaximumRetryAttempts"] = json!(-1),
                |d| properties(d, "CaptureStreamPreferencesMapping")["MaximumRetryAttempts"] = json!(0),
                |d| {
                    properties(d, "CaptureStreamPreferencesMapping")["MaximumRecordAgeInSeconds"] =
                        json!(86_400)
                },
                |d| remove(properties(d, "CaptureStreamPreferencesMapping"), "DestinationConfig"),
                |d| {
                    let queue = json!({ "Fn::GetAtt": ["TicketDeadLetterQueue", "Arn"] });
                    properties(d, "CaptureStreamPreferencesMapping")["DestinationConfig"]["OnFailure"]["Destination"] =
                        queue;
                },
            ],
        ),
        (
            "a function may read its stream, load its table and keep what is given up",
            vec![
                |d| {
                    statement(d, "CaptureStreamPreferencesRole", "Read")["Action"] =
                        json!("dynamodb:GetRecords")
                },
                |d| {
                    let own =
                        json!({ "Fn::Sub": "${StreamDeadLetterBucket.Arn}/capture-stream/preferences/*" });
                    statement(d, "CaptureStreamPreferencesRole", "SetAside")["Resource"] = own;
                },
                |d| {
                    statement(d, "CaptureStreamPreferencesRole", "SetAsideByLambda")["Action"] =
                        json!("s3:GetObject")
                },
                |d| {
                    statement(d, "CaptureStreamPreferencesRole", "Load")["Action"] = json!("dynamodb:Scan");
                },
                |d| {
                    let other = json!({ "Fn::GetAtt": ["LedgerTable", "Arn"] });
                    statement(d, "CaptureStreamPreferencesRole", "Load")["Resource"] = other;
                },
                |d| remove(statement(d, "CaptureStreamPreferencesRole", "Checkpoints"), "Condition"),
                |d| {
                    let other = json!({ "Fn::FindInMap": ["PullSources", "PosStores", "Name"] });
                    let rows = statement(d, "CaptureStreamPreferencesRole", "Checkpoints");
                    rows["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"][0]["Fn::Sub"][1]["Name"] =
                        other;
                },
            ],
        ),
        (
            "what a stream's mapping gives up becomes a ticket",
            vec![
                |d| remove(&mut d["Resources"], "CaptureStreamPreferencesRule"),
                |d| remove(&mut d["Resources"], "CaptureStreamPreferencesTicketPermission"),
                |d| remove(properties(d, "StreamDeadLetterBucket"), "NotificationConfiguration"),
                |d| {
                    remove(
                        &mut properties(d, "CaptureStreamPreferencesRule")["Targets"][0],
                        "InputTransformer",
                    )
                },
                |d| {
                    let key = &mut properties(d, "CaptureStreamPreferencesRule")["EventPattern"]["detail"]["object"]
                        ["key"];
                    *key = json!([{ "prefix": "aws/lambda/" }]);
                },
            ],
        ),
        (
            "a stream that waits, or loses a record, has an alarm that tells somebody",
            vec![
                |d| remove(&mut d["Resources"], "CaptureStreamPreferencesAgeAlarm"),
                |d| properties(d, "CaptureStreamPreferencesAgeAlarm")["Threshold"] = json!(80_000_000),
                |d| remove(properties(d, "CaptureStreamPreferencesErrorAlarm"), "AlarmActions"),
                |d| remove(&mut d["Resources"], "CaptureStreamPreferencesLossAlarm"),
            ],
        ),
        (
            "a bucket is private, reached over TLS alone, and forgets",
            vec![
                |d| {
                    let access =
                        &mut properties(d, "StreamDeadLetterBucket")["PublicAccessBlockConfiguration"];
                    access["BlockPublicPolicy"] = json!(false);
                },
                |d| remove(properties(d, "StreamDeadLetterBucket"), "OwnershipControls"),
                |d| remove(properties(d, "StreamDeadLetterBucket"), "LifecycleConfiguration"),
                |d| {
                    properties(d, "StreamDeadLetterBucket")["VersioningConfiguration"] =
                        json!({ "Status": "Enabled" })
                },
                |d| remove(&mut d["Resources"], "StreamDeadLetterBucketPolicy"),
            ],
        ),
        (
            "a message stays hidden for six times the function's time-out",
            vec![|d| properties(d, "ChangesQueue")["VisibilityTimeout"] = json!(179), |d| {
                remove(properties(d, "WarehouseQueue"), "VisibilityTimeout")
            }],
        ),
        (
            "a function may read its queue and hide messages in it",
            vec![|d| {
                let without = json!(["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]);
                statement(d, "DeliverLoyaltyRole", "Read")["Action"] = without;
            }],
        ),
        (
            "a queue that is read has a dead-letter queue of its kind that outlives it",
            vec![
                |d| remove(properties(d, "EnrichmentQueue"), "RedrivePolicy"),
                |d| properties(d, "ChangesDeadLetterQueue")["MessageRetentionPeriod"] = json!(345_600),
                |d| remove(properties(d, "LoyaltySubscriptionDeadLetterQueue"), "FifoQueue"),
                |d| properties(d, "TicketRuleDeadLetterQueue")["FifoQueue"] = json!(true),
                |d| properties(d, "PullScheduleDeadLetterQueue")["FifoQueue"] = json!(true),
            ],
        ),
        (
            "a queue gives up when the design says so",
            vec![
                |d| properties(d, "ChangesQueue")["RedrivePolicy"]["maxReceiveCount"] = json!(1),
                |d| properties(d, "LoyaltyQueue")["RedrivePolicy"]["maxReceiveCount"] = json!(5),
                |d| properties(d, "Transform")["Environment"]["Variables"]["MAX_RECEIVES"] = json!("10"),
                |d| properties(d, "Enrich")["Environment"]["Variables"]["MAX_RECEIVES"] = json!("4"),
            ],
        ),
        (
            "clear values stand in Changes for four days at most",
            vec![|d| properties(d, "ChangesQueue")["MessageRetentionPeriod"] = json!(1_209_600), |d| {
                let both = json!([{ "Fn::GetAtt": ["EnrichmentQueue", "Arn"] }, { "Fn::GetAtt": ["ChangesQueue", "Arn"] }]);
                statement(d, "EnrichRole", "Read")["Resource"] = both;
            }],
        ),
        (
            "a subscription delivers raw and has a dead-letter queue",
            vec![|d| remove(properties(d, "LoyaltySubscription"), "RedrivePolicy"), |d| {
                properties(d, "WarehouseSubscription")["RawMessageDelivery"] = json!(false)
            }],
        ),
        (
            "a queue admits the topic and nobody else",
            vec![
                |d| {
                    remove(
                        &mut properties(d, "LoyaltyQueuePolicy")["PolicyDocument"]["Statement"][0],
                        "Condition",
                    )
                },
                |d| remove(&mut d["Resources"], "WarehouseSubscriptionDeadLetterQueuePolicy"),
            ],
        ),
        (
            "a filter policy keeps the limits of SNS and lets snapshots for one target through",
            vec![
                |d| {
                    let names: Vec<String> = (0..20).map(|number| format!("attribute_{number}")).collect();
                    d["Mappings"]["Targets"]["Loyalty"]["Changed"] = json!(names);
                },
                |d| d["Mappings"]["Targets"]["Loyalty"]["Models"] = json!([1]),
                |d| properties(d, "LoyaltySubscription")["FilterPolicy"]["only"][1] = json!("warehouse"),
                |d| remove(&mut properties(d, "WarehouseSubscription")["FilterPolicy"], "only"),
            ],
        ),
        (
            "everything at rest is under the customer key",
            vec![
                |d| remove(properties(d, "ChangesDeadLetterQueue"), "KmsMasterKeyId"),
                |d| properties(d, "AlertTopic")["KmsMasterKeyId"] = json!("alias/aws/sns"),
                |d| remove(properties(d, "LedgerTable"), "SSESpecification"),
                |d| remove(properties(d, "TransformLog"), "KmsKeyId"),
                |d| remove(properties(d, "FailureBus"), "KmsKeyIdentifier"),
                |d| remove(properties(d, "StreamDeadLetterBucket"), "BucketEncryption"),
            ],
        ),
        (
            "tables and keys outlive the stack",
            vec![
                |d| remove(&mut d["Resources"]["ValueKey"], "DeletionPolicy"),
                |d| remove(properties(d, "TicketTable"), "PointInTimeRecoverySpecification"),
                |d| remove(properties(d, "KeysTable"), "DeletionProtectionEnabled"),
                |d| properties(d, "StoreKey")["EnableKeyRotation"] = json!(false),
            ],
        ),
        (
            "nothing bills by provisioned capacity",
            vec![|d| properties(d, "LedgerTable")["BillingMode"] = json!("PROVISIONED"), |d| {
                remove(&mut d["Resources"]["EgressNatGateway"], "Condition")
            }],
        ),
        (
            "each function logs into a group of its own that forgets",
            vec![|d| remove(properties(d, "TransformLog"), "RetentionInDays"), |d| {
                remove(properties(d, "DeliverWarehouse"), "LoggingConfig")
            }],
        ),
        (
            "each dead-letter queue and each waiting queue has an alarm that tells somebody",
            vec![
                |d| remove(&mut d["Resources"], "LoyaltySubscriptionDeadLetterAlarm"),
                |d| remove(properties(d, "ChangesAgeAlarm"), "AlarmActions"),
                |d| properties(d, "TicketDeadLetterAlarm")["Threshold"] = json!(10),
            ],
        ),
        (
            "an outage that may outlast a target's queue, and a backlog beyond what SQS looks at, are told in time",
            vec![
                |d| remove(&mut d["Resources"], "WarehouseLongOutageAlarm"),
                |d| properties(d, "LoyaltyExpiryAlarm")["Threshold"] = json!(1_200_000),
                |d| remove(properties(d, "LoyaltyExpiryAlarm"), "AlarmActions"),
                |d| properties(d, "WarehouseBacklogAlarm")["Threshold"] = json!(120_000),
                |d| properties(d, "LoyaltyBacklogAlarm")["MetricName"] = json!("NumberOfMessagesSent"),
                // The alarms of a queue that forgets earlier come too late.
                |d| properties(d, "LoyaltyQueue")["MessageRetentionPeriod"] = json!(345_600),
            ],
        ),
        (
            "no role reaches every resource",
            vec![
                |d| statement(d, "TransformRole", "Read")["Resource"] = json!("*"),
                |d| {
                    let all = json!({ "Fn::Sub": "arn:aws:secretsmanager:${AWS::Region}:${AWS::AccountId}:secret:datasync/*" });
                    properties(d, "CapturePushSecretCrm")["PolicyDocument"]["Statement"][0]["Resource"] = all;
                },
                |d| {
                    let streams =
                        json!({ "Fn::Sub": "arn:aws:dynamodb:${AWS::Region}:${AWS::AccountId}:table/*" });
                    statement(d, "CaptureStreamPreferencesRole", "Read")["Resource"] = streams;
                },
                |d| {
                    let all = json!({ "Fn::Sub": "${StreamDeadLetterBucket.Arn}/*/*" });
                    statement(d, "CaptureStreamPreferencesRole", "SetAside")["Resource"] = all;
                },
            ],
        ),
        (
            "no role may do everything of a service",
            vec![|d| statement(d, "TicketRole", "Tickets")["Action"] = json!("dynamodb:*")],
        ),
        (
            "a key is used through one service or with an encryption context",
            vec![|d| remove(statement(d, "TransformRole", "SealValues"), "Condition"), |d| {
                remove(
                    &mut statement(d, "TicketRole", "EncryptedTopic")["Condition"]["StringEquals"],
                    "kms:ViaService",
                )
            }],
        ),
        (
            "a key admits services for one resource only",
            vec![
                |d| {
                    let statements = &mut properties(d, "StoreKey")["KeyPolicy"]["Statement"];
                    remove(&mut statements[1]["Condition"], "ArnEquals");
                },
                |d| properties(d, "TokenKey")["KeyPolicy"]["Statement"][0]["Principal"] = json!("*"),
            ],
        ),
        (
            "each role takes the permissions boundary and trusts Lambda, or its schedule, alone",
            vec![
                |d| {
                    let trust =
                        &mut properties(d, "CapturePullPosPricesScheduleRole")["AssumeRolePolicyDocument"];
                    remove(&mut trust["Statement"][0]["Condition"]["StringEquals"], "aws:SourceAccount");
                },
                |d| {
                    let trust =
                        &mut properties(d, "TransformRole")["AssumeRolePolicyDocument"]["Statement"][0];
                    trust["Principal"] = json!({ "Service": "scheduler.amazonaws.com" });
                },
                |d| remove(properties(d, "DeliverLoyaltyRole"), "PermissionsBoundary"),
                |d| properties(d, "Enrich")["Role"] = json!({ "Fn::GetAtt": ["TransformRole", "Arn"] }),
                |d| {
                    let trust = &mut properties(d, "TicketRole")["AssumeRolePolicyDocument"]["Statement"][0];
                    trust["Principal"] = json!({ "AWS": "*" });
                },
            ],
        ),
        (
            "each function runs a binary of this workspace",
            vec![|d| d["Resources"]["Enrich"]["Metadata"]["BuildProperties"]["Binary"] = json!("enricher")],
        ),
        (
            "each function has the variables that its settings need, and no others",
            vec![
                |d| remove(&mut properties(d, "DeliverLoyalty")["Environment"]["Variables"], "LEDGER_TABLE"),
                |d| remove(&mut properties(d, "Enrich")["Environment"]["Variables"], "AWS_ENDPOINT_URL"),
                |d| properties(d, "Ticket")["Environment"]["Variables"]["TICKET_DAY"] = json!("90"),
            ],
        ),
        (
            "no variable holds a secret",
            vec![|d| {
                let secret = json!("{{resolve:secretsmanager:datasync/source/crm}}");
                properties(d, "CapturePush")["Environment"]["Variables"]["ID_KEY_ARN"] = secret;
            }],
        ),
        (
            "the ceilings together stay within the budget",
            vec![|d| d["Mappings"]["Targets"]["Warehouse"]["MaxConcurrency"] = json!(40), |d| {
                d["Mappings"]["Streams"]["Preferences"]["ParallelizationFactor"] = json!(10)
            }],
        ),
        (
            "no message comes back to the function that sent it",
            vec![
                |d| {
                    let back = json!({ "Fn::GetAtt": ["ChangesQueue", "Arn"] });
                    statement(d, "EnrichRole", "SetAside")["Resource"] = back;
                },
                |d| properties(d, "DeliverLoyalty")["RecursiveLoop"] = json!("Allow"),
            ],
        ),
        (
            "each target, source and stream of the mappings is there",
            vec![
                |d| d["Mappings"]["PullSources"]["Erp"] = d["Mappings"]["PullSources"]["PosStores"].clone(),
                |d| d["Mappings"]["Streams"]["Orders"] = d["Mappings"]["Streams"]["Preferences"].clone(),
                |d| d["Mappings"]["Targets"]["Desk"] = d["Mappings"]["Targets"]["Loyalty"].clone(),
                |d| d["Mappings"]["Sources"]["Erp"] = json!({ "Secret": "datasync/source/erp" }),
            ],
        ),
        (
            "what is for a laptop, and what bills by the hour, is off",
            vec![
                |d| d["Parameters"]["PullSchedule"]["Default"] = json!("ENABLED"),
                |d| d["Parameters"]["AllowLoopback"]["Default"] = json!("true"),
                |d| d["Parameters"]["FixedEgress"]["Default"] = json!("true"),
            ],
        ),
    ]
}

#[test]
fn each_rule_catches_the_template_that_breaks_it() {
    let template = template();
    let rules = rules();
    let mut missed = Vec::new();
    let mut proven = BTreeSet::new();
    for (name, changes) in mutants() {
        let rule = rules
            .iter()
            .find(|rule| rule.name == name)
            .unwrap_or_else(|| panic!("there is no rule {name:?}"));
        proven.insert(name);
        for (number, change) in changes.into_iter().enumerate() {
            if (rule.breaches)(&template.changed(change)).is_empty() {
                missed.push(format!("mutant {number} of {name:?}"));
            }
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:#?}");
    let unproven: Vec<&str> =
        rules.iter().map(|rule| rule.name).filter(|name| !proven.contains(name)).collect();
    assert!(unproven.is_empty(), "no mutant shows that these can fail: {unproven:?}");
}

/// cfn-lint on the expanded template, informational findings included. A finding that has to stay gets an
/// `--ignore-checks` here and the reason beside it; there is none.
#[test]
fn the_expanded_template_has_no_finding() {
    let template = template();
    let mut lint = Command::new(place::sam_program("cfn-lint"))
        .args(["--include-checks", "I", "--regions", "eu-central-1", "--format", "parseable"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    lint.stdin.take().unwrap().write_all(template.document().to_string().as_bytes()).unwrap();
    let output = lint.wait_with_output().unwrap();
    let findings =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && findings.trim().is_empty(), "{findings}");
}

/// The template as written, as `sam deploy` would check it.
#[test]
fn the_template_as_written_is_valid() {
    let output = place::sam().unwrap().args(["validate", "--lint"]).output().unwrap();
    let told =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
}
