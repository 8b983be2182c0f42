//! Tables of targets: one item per record, guarded by its version.

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use sync_domain::delivery::item::{Item, VERSION, Value};
use sync_domain::ports::{Put, Result, VersionedTable};

use super::item::text;
use super::put_if;

const PUT: &str = "dynamodb:PutItem";
/// The codes by which a table says that it is there and takes no more for now.
const BUSY: [&str; 6] = [
    "ProvisionedThroughputExceededException",
    "ReplicatedWriteConflictException",
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingException",
    "TransactionConflictException",
];

/// Tables to put items into.
#[derive(Debug, Clone)]
pub struct DynamoTables {
    client: Client,
}

impl DynamoTables {
    /// All tables that the function's role may write.
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

#[async_trait]
impl VersionedTable for DynamoTables {
    async fn put(&self, table: &str, item: Item) -> Result<Put> {
        let version = text(item.version.as_str());
        let attributes = item.attributes.into_iter().map(|(name, value)| (name, attribute(value)));
        let call = self
            .client
            .put_item()
            .table_name(table)
            .set_item(Some(attributes.collect()))
            // An item without a version was not written from here: it is taken over, or the record would never come.
            .condition_expression("attribute_not_exists(#version) OR #version <= :version")
            .expression_attribute_names("#version", VERSION)
            .expression_attribute_values(":version", version);
        match put_if(call, PUT).await {
            Ok(true) => Ok(Put::Written),
            Ok(false) => Ok(Put::Newer),
            Err(error) if BUSY.contains(&error.code.as_str()) => Ok(Put::Busy(error.code)),
            Err(error) => Err(error),
        }
    }
}

fn attribute(value: Value) -> AttributeValue {
    match value {
        Value::Text(text) => AttributeValue::S(text),
        Value::Number(digits) => AttributeValue::N(digits),
        Value::Boolean(value) => AttributeValue::Bool(value),
        Value::Null => AttributeValue::Null(true),
        Value::List(list) => AttributeValue::L(list.into_iter().map(attribute).collect()),
        Value::Map(map) => {
            AttributeValue::M(map.into_iter().map(|(name, value)| (name, attribute(value))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::operation::put_item::{PutItemError, PutItemOutput};
    use aws_sdk_dynamodb::types::error::ConditionalCheckFailedException;
    use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};
    use sync_domain::ports::Kind;
    use sync_domain::version::Version;

    use super::super::item::{Item as Written, number};
    use super::*;

    fn tables(rule: &Rule) -> DynamoTables {
        let client = mock_client!(aws_sdk_dynamodb, RuleMode::MatchAny, [rule], |conf| {
            conf.retry_config(crate::error::quick())
        });
        DynamoTables::new(client)
    }

    fn item() -> Item {
        let version = Version::from_decimal(0, "7").unwrap();
        let all = vec![Value::Null, Value::Boolean(true), Value::Number("1.10".to_owned())];
        Item {
            attributes: vec![
                ("id".to_owned(), Value::Text("a".to_owned())),
                ("all".to_owned(), Value::Map(vec![("list".to_owned(), Value::List(all))])),
                (VERSION.to_owned(), Value::Text(version.as_str().to_owned())),
            ],
            version,
        }
    }

    fn failing(code: &'static str) -> Rule {
        mock!(Client::put_item).then_error(move || {
            let meta = aws_sdk_dynamodb::error::ErrorMetadata::builder().code(code).build();
            if code == "ConditionalCheckFailedException" {
                let failed = ConditionalCheckFailedException::builder().meta(meta).build();
                return PutItemError::ConditionalCheckFailedException(failed);
            }
            PutItemError::generic(meta)
        })
    }

    #[tokio::test]
    async fn an_item_is_put_whole_and_only_where_nothing_newer_stands() {
        let rule = mock!(Client::put_item)
            .match_requests(|input| {
                let version = text("00000000-0000000000000000000000000000000000000007");
                let list = vec![
                    AttributeValue::Null(true),
                    AttributeValue::Bool(true),
                    AttributeValue::N("1.10".to_owned()),
                ];
                let map = Written::from([("list".to_owned(), AttributeValue::L(list))]);
                let item = Written::from([
                    ("id".to_owned(), text("a")),
                    ("all".to_owned(), AttributeValue::M(map)),
                    ("datasync_version".to_owned(), version.clone()),
                ]);
                input.table_name() == Some("profiles")
                    && input.item() == Some(&item)
                    && input.condition_expression()
                        == Some("attribute_not_exists(#version) OR #version <= :version")
                    && input.expression_attribute_names().unwrap()["#version"] == "datasync_version"
                    && input.expression_attribute_values().unwrap()[":version"] == version
            })
            .then_output(|| PutItemOutput::builder().build());
        assert_eq!(tables(&rule).put("profiles", item()).await.unwrap(), Put::Written);
    }

    #[tokio::test]
    async fn a_condition_that_does_not_hold_says_that_something_newer_stands_there() {
        let rule = failing("ConditionalCheckFailedException");
        assert_eq!(tables(&rule).put("t", item()).await.unwrap(), Put::Newer);
    }

    #[tokio::test]
    async fn a_table_that_takes_no_more_now_is_not_away() {
        for code in ["ThrottlingException", "ProvisionedThroughputExceededException", "RequestLimitExceeded"]
        {
            let rule = failing(code);
            assert_eq!(tables(&rule).put("t", item()).await.unwrap(), Put::Busy(code.to_owned()));
        }
    }

    #[tokio::test]
    async fn what_a_table_refuses_is_told_from_its_being_away() {
        for (code, kind) in [
            ("ResourceNotFoundException", Kind::Refused),
            ("AccessDeniedException", Kind::Refused),
            ("ValidationException", Kind::Refused),
            ("InternalServerError", Kind::Unavailable),
        ] {
            let rule = failing(code);
            let failed = tables(&rule).put("t", item()).await.unwrap_err();
            assert_eq!(
                (failed.kind, failed.code.as_str(), failed.operation),
                (kind, code, "dynamodb:PutItem")
            );
        }
    }

    #[test]
    fn a_number_is_written_as_the_event_has_it() {
        assert_eq!(attribute(Value::Number("-0.50E+2".to_owned())), AttributeValue::N("-0.50E+2".to_owned()));
        assert_eq!(attribute(Value::Number("5".to_owned())), number(5));
    }
}
