//! What stands in the table is what stands in the message: every type of DynamoDB, digit for digit.

use proptest::prelude::*;

use crate::world::{World, n, record};

/// The text of `v` behind the change, as it stands in the message.
async fn captured(v: &str) -> String {
    let world = World::new();
    assert_eq!(world.work(&[record(1, &n(7), v)]).await, None, "{v}");
    assert!(world.parked().is_empty(), "{v}: {:?}", world.parked());
    let [body] = world.queued().try_into().unwrap();
    let (_, after) = body.split_once(r#""after":{"id":7,"v":"#).unwrap();
    after.strip_suffix("}}").unwrap().to_owned()
}

#[tokio::test]
async fn every_type_of_dynamodb_keeps_its_value() {
    let digits = "98765432109876543210987654321098765432";
    for (typed, json) in [
        (r#"{"S":""}"#.to_owned(), r#""""#.to_owned()),
        (
            r#"{"S":"Grüße, \"Ada\" \\ \u0000 \uD83D\uDE00 ﷽"}"#.to_owned(),
            r#""Grüße, \"Ada\" \\ \u0000 \uD83D\uDE00 ﷽""#.to_owned(),
        ),
        (n(digits), digits.to_owned()),
        (n(format!("-{digits}")), format!("-{digits}")),
        (n(format!("0.{digits}")), format!("0.{digits}")),
        (n("1E-130"), "1E-130".to_owned()),
        (
            n("9.9999999999999999999999999999999999999E+125"),
            "9.9999999999999999999999999999999999999E+125".to_owned(),
        ),
        (n("9007199254740993"), "9007199254740993".to_owned()),
        (n("1.10"), "1.10".to_owned()),
        (n("0"), "0".to_owned()),
        (r#"{"BOOL":true}"#.to_owned(), "true".to_owned()),
        (r#"{"BOOL":false}"#.to_owned(), "false".to_owned()),
        (r#"{"NULL":true}"#.to_owned(), "null".to_owned()),
        (r#"{"B":""}"#.to_owned(), r#""""#.to_owned()),
        (r#"{"B":"AAECAwQF+/8="}"#.to_owned(), r#""AAECAwQF+/8=""#.to_owned()),
        (format!(r#"{{"L":[{},{{"L":[]}},{{"M":{{}}}}]}}"#, n(digits)), format!("[{digits},[],{{}}]")),
        (format!(r#"{{"M":{{"b":{},"a":{{"S":"x"}}}}}}"#, n(digits)), format!(r#"{{"a":"x","b":{digits}}}"#)),
        (r#"{"SS":["b","a","ä"]}"#.to_owned(), r#"["a","b","ä"]"#.to_owned()),
        (r#"{"NS":["10","9","1E+2","-0.5"]}"#.to_owned(), "[-0.5,9,10,1E+2]".to_owned()),
        (r#"{"BS":["/w==","AA=="]}"#.to_owned(), r#"["/w==","AA=="]"#.to_owned()),
    ] {
        assert_eq!(captured(&typed).await, json, "{typed}");
    }
}

#[tokio::test]
async fn a_character_that_the_queue_refuses_is_escaped() {
    assert_eq!(captured("{\"S\":\"\u{FFFF}a\u{FFFE}\"}").await, r#""\uffffa\ufffe""#);
}

/// A value of any type, as DynamoDB writes it and as JSON has it.
fn value() -> impl Strategy<Value = (String, serde_json::Value)> {
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let leaf = prop_oneof![
        any::<String>().prop_map(move |s| (format!(r#"{{"S":{}}}"#, text(&s)), s.into())),
        any::<i64>().prop_map(|i| (n(i), i.into())),
        any::<bool>().prop_map(|b| (format!(r#"{{"BOOL":{b}}}"#), b.into())),
        Just((r#"{"NULL":true}"#.to_owned(), serde_json::Value::Null)),
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|items| {
                let (typed, json): (Vec<_>, Vec<_>) = items.into_iter().unzip();
                (format!(r#"{{"L":[{}]}}"#, typed.join(",")), json.into())
            }),
            prop::collection::btree_map(any::<String>(), inner, 0..5).prop_map(move |members| {
                let typed: Vec<_> =
                    members.iter().map(|(name, (typed, _))| format!("{}:{typed}", text(name))).collect();
                let json: serde_json::Map<_, _> =
                    members.into_iter().map(|(name, (_, json))| (name, json)).collect();
                (format!(r#"{{"M":{{{}}}}}"#, typed.join(",")), json.into())
            }),
        ]
    })
}

fn on_one_thread<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn nested_values_are_what_they_were((typed, json) in value()) {
        let captured = on_one_thread(captured(&typed));
        prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&captured).unwrap(), json);
    }

    #[test]
    fn a_number_of_any_length_and_size_keeps_its_text(
        number in r"-?(0|[1-9][0-9]{0,37})(\.[0-9]{1,37})?(E[+-]?[1-9][0-9]{0,2})?"
    ) {
        prop_assert_eq!(on_one_thread(captured(&n(&number))), number);
    }
}
