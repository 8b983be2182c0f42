//! Tables with the one key attribute `pk`, as far as the product uses them.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::{list, text};

/// Rows by table and key.
#[derive(Default)]
pub(super) struct Tables(HashMap<(String, String), Value>);

const CONDITION_FAILED: &str = "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException";

impl Tables {
    pub(super) fn answer(&mut self, action: &str, input: &Value) -> Result<Value, &'static str> {
        let table = text(input, "TableName");
        match action {
            "PutItem" => {
                let item = input.get("Item").cloned().unwrap_or_default();
                let row = (table.to_owned(), key(&item));
                if !holds(self.0.get(&row), input) {
                    return Err(CONDITION_FAILED);
                }
                self.0.insert(row, item);
                Ok(json!({}))
            }
            "GetItem" => {
                let row = (table.to_owned(), key(input.get("Key").unwrap_or(&Value::Null)));
                Ok(self.0.get(&row).map_or_else(|| json!({}), |item| json!({ "Item": item })))
            }
            "BatchGetItem" => {
                let mut responses = Map::new();
                for (table, wanted) in
                    input.get("RequestItems").and_then(Value::as_object).into_iter().flatten()
                {
                    let rows = list(wanted, "Keys")
                        .iter()
                        .filter_map(|wanted| self.0.get(&(table.clone(), key(wanted))));
                    responses.insert(table.clone(), rows.cloned().collect());
                }
                Ok(json!({ "Responses": responses, "UnprocessedKeys": {} }))
            }
            "UpdateItem" => {
                // Only `SET #name = :value`.
                let row = (table.to_owned(), key(input.get("Key").unwrap_or(&Value::Null)));
                let expression = text(input, "UpdateExpression").strip_prefix("SET ").unwrap_or_default();
                let (name, value) = expression.split_once(" = ").ok_or("ValidationException")?;
                let name =
                    text(input.get("ExpressionAttributeNames").unwrap_or(&Value::Null), name).to_owned();
                let value = input.get("ExpressionAttributeValues").and_then(|values| values.get(value));
                let item = self.0.get_mut(&row).and_then(Value::as_object_mut).ok_or(CONDITION_FAILED)?;
                item.insert(name, value.cloned().ok_or("ValidationException")?);
                Ok(json!({}))
            }
            "DeleteItem" => {
                self.0.remove(&(table.to_owned(), key(input.get("Key").unwrap_or(&Value::Null))));
                Ok(json!({}))
            }
            _ => Err("UnknownOperationException"),
        }
    }
}

fn key(item: &Value) -> String {
    text(item.get("pk").unwrap_or(&Value::Null), "S").to_owned()
}

/// Whether the condition of a put holds. Ours all read `attribute_not_exists(#pk)`, some with ` OR #name <= :value`.
fn holds(row: Option<&Value>, input: &Value) -> bool {
    let (Some(row), Some(condition)) = (row, input.get("ConditionExpression").and_then(Value::as_str)) else {
        return true;
    };
    let Some((_, comparison)) = condition.split_once(" OR ") else { return false };
    let Some((name, value)) = comparison.split_once(" <= ") else { return false };
    let name = text(input.get("ExpressionAttributeNames").unwrap_or(&Value::Null), name);
    let left = row.get(name).and_then(Value::as_object).and_then(|value| value.iter().next());
    let right = input
        .get("ExpressionAttributeValues")
        .and_then(|values| values.get(value)?.as_object()?.iter().next());
    match (left, right) {
        (Some((left_type, left)), Some((right_type, right))) if left_type == right_type => {
            let (left, right) = (left.as_str().unwrap_or_default(), right.as_str().unwrap_or_default());
            match (left_type.as_str(), left.parse::<i128>(), right.parse::<i128>()) {
                ("N", Ok(left), Ok(right)) => left <= right,
                _ => left <= right,
            }
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(tables: &mut Tables, version: &str, condition: Option<&str>) -> Result<Value, &'static str> {
        let mut input = json!({
            "TableName": "t",
            "Item": { "pk": { "S": "k" }, "version": { "S": version } },
            "ExpressionAttributeNames": { "#pk": "pk", "#version": "version" },
            "ExpressionAttributeValues": { ":version": { "S": version } },
        });
        if let Some(condition) = condition {
            input["ConditionExpression"] = condition.into();
        }
        tables.answer("PutItem", &input)
    }

    #[test]
    fn a_put_obeys_its_condition() {
        let mut tables = Tables::default();
        let newer = Some("attribute_not_exists(#pk) OR #version <= :version");
        assert!(put(&mut tables, "5", newer).is_ok());
        assert!(put(&mut tables, "5", newer).is_ok());
        assert_eq!(put(&mut tables, "4", newer), Err(CONDITION_FAILED));
        assert_eq!(put(&mut tables, "9", Some("attribute_not_exists(#pk)")), Err(CONDITION_FAILED));
        assert!(put(&mut tables, "1", None).is_ok());
    }

    #[test]
    fn what_was_put_is_read() {
        let mut tables = Tables::default();
        put(&mut tables, "5", None).unwrap();
        let wanted =
            json!({ "RequestItems": { "t": { "Keys": [{ "pk": { "S": "k" } }, { "pk": { "S": "x" } }] } } });
        let read = tables.answer("BatchGetItem", &wanted).unwrap();
        assert_eq!(read["Responses"]["t"].as_array().unwrap().len(), 1);
        let one =
            tables.answer("GetItem", &json!({ "TableName": "t", "Key": { "pk": { "S": "x" } } })).unwrap();
        assert_eq!(one, json!({}));
    }
}
