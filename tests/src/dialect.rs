//! What the emulator's permissions cannot read is put in its words, in the copy of the built template that is deployed.
//!
//! With `AUTH=true` MiniStack enforces the roles of the functions, so that a missing permission fails the tests. Four
//! things are otherwise than on AWS (1.5.33):
//! - a batch call asks for a permission of its own (`sqs:SendMessageBatch`), where AWS asks for the single call's;
//! - it speaks no TLS, so a policy that denies everything else would deny all: its condition becomes one that nobody meets;
//! - to whoever switches a rule it puts the default bus into the rule's ARN, where AWS leaves it out;
//! - it knows no condition keys of KMS and denies what depends on one, so they go, and no test here proves them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

/// Calls whose batch form AWS permits under the single call's name.
const BATCHED: &[&str] =
    &["sqs:SendMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sns:Publish"];

/// Calls on a rule.
const OF_RULES: &[&str] = &["events:EnableRule", "events:DisableRule"];

/// Rewrites the template in place.
pub fn translate(template: &Path) -> Result<()> {
    let text = fs::read_to_string(template).context("cannot read the built template")?;
    let mut document: Value =
        serde_saphyr::from_str(&text).context("the built template is not plain YAML")?;
    let statements = walk(&mut document);
    if statements == 0 {
        bail!("no statement of any policy was found in the built template");
    }
    // JSON is YAML too.
    fs::write(template, document.to_string()).context("cannot write the template")
}

/// Translates every statement of every policy below; answers how many there were.
fn walk(value: &mut Value) -> usize {
    match value {
        Value::Object(members) => {
            let own = statement(members);
            own + members.values_mut().map(walk).sum::<usize>()
        }
        Value::Array(elements) => elements.iter_mut().map(walk).sum(),
        _ => 0,
    }
}

fn statement(members: &mut Map<String, Value>) -> usize {
    if members.get("Effect") == Some(&json!("Deny")) && asks_for_tls(members) {
        members.insert("Condition".to_owned(), json!({ "StringEquals": { "aws:PrincipalArn": "nobody" } }));
    }
    let Some(actions) = members.get("Action").filter(|_| members.contains_key("Effect")) else { return 0 };
    let mut actions = match actions {
        Value::Array(actions) => actions.clone(),
        one => vec![one.clone()],
    };
    let batches: Vec<Value> = actions
        .iter()
        .filter_map(Value::as_str)
        .filter(|action| BATCHED.contains(action))
        .map(|action| json!(format!("{action}Batch")))
        .collect();
    actions.extend(batches);
    let all_kms =
        actions.iter().all(|action| action.as_str().is_some_and(|action| action.starts_with("kms:")));
    if all_kms {
        members.remove("Condition");
    }
    let of_rules = actions.iter().all(|action| action.as_str().is_some_and(|one| OF_RULES.contains(&one)));
    if of_rules && let Some(rule) = members.get("Resource").map(|arn| arn["Fn::GetAtt"][0].clone()) {
        let arn = "arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:rule/default/${Rule}";
        members.insert("Resource".to_owned(), json!({ "Fn::Sub": [arn, { "Rule": { "Ref": rule } }] }));
    }
    members.insert("Action".to_owned(), Value::Array(actions));
    1
}

/// Whether a statement applies to callers without TLS.
fn asks_for_tls(members: &Map<String, Value>) -> bool {
    members
        .get("Condition")
        .and_then(|condition| condition.get("Bool"))
        .is_some_and(|bool| bool.get("aws:SecureTransport").is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_named_and_conditions_of_kms_go() {
        let mut template = json!({ "Policies": [
            { "Effect": "Allow", "Action": "sqs:SendMessage", "Condition": { "Bool": {} }, "Resource": "q" },
            { "Effect": "Allow", "Action": ["kms:Decrypt"], "Condition": { "StringEquals": {} }, "Resource": "k" },
            { "Fn::If": ["A", { "Effect": "Allow", "Action": ["dynamodb:GetItem", "sns:Publish"] }, "-"] },
            { "Effect": "Allow", "Action": "events:EnableRule", "Resource": { "Fn::GetAtt": ["R", "Arn"] } },
            { "Effect": "Deny", "Action": "s3:*", "Condition": { "Bool": { "aws:SecureTransport": "false" } } },
            { "Action": "not a statement" },
        ] });
        assert_eq!(walk(&mut template), 5);
        assert_eq!(
            template,
            json!({ "Policies": [
                { "Effect": "Allow", "Action": ["sqs:SendMessage", "sqs:SendMessageBatch"], "Condition": { "Bool": {} }, "Resource": "q" },
                { "Effect": "Allow", "Action": ["kms:Decrypt"], "Resource": "k" },
                { "Fn::If": ["A", { "Effect": "Allow", "Action": ["dynamodb:GetItem", "sns:Publish", "sns:PublishBatch"] }, "-"] },
                { "Effect": "Allow", "Action": ["events:EnableRule"], "Resource": { "Fn::Sub": [
                    "arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:rule/default/${Rule}",
                    { "Rule": { "Ref": "R" } },
                ] } },
                { "Effect": "Deny", "Action": ["s3:*"], "Condition": { "StringEquals": { "aws:PrincipalArn": "nobody" } } },
                { "Action": "not a statement" },
            ] })
        );
    }
}
