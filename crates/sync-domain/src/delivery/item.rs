//! The item that a record is in a target's DynamoDB table: its key, the record's attributes in the table's own types, and the
//! version that guards it.

use super::limits;
use super::mapping::{Mapping, members};
use crate::change::Operation;
use crate::config::{AttributeChoice, TableEndpoint, Target};
use crate::event::ReceivedEvent;
use crate::outcome::Reason;
use crate::scan::{self, Kind, Scanner, Value as Json, write_string};
use crate::version::Version;

/// The attribute that holds the version of what an item was written from.
pub const VERSION: &str = "datasync_version";
/// The attribute that holds when a tombstone ends, in seconds since 1970: the table's TTL attribute. No other item has it.
pub const EXPIRES_AT: &str = "datasync_expires_at";
/// The partition key of a table whose endpoint names no key.
pub const PK: &str = "pk";

/// What DynamoDB takes of an item, names and values, in bytes.
const MAX_SIZE: usize = 400 << 10;
/// Lists and maps inside each other; what stands in the innermost is on the 32nd level, which is the last.
const MAX_DEPTH: usize = 31;
/// Bytes of the name of an attribute.
const MAX_NAME: usize = 65_535;
/// Bytes of a partition key, and of a sort key.
const MAX_KEY: [usize; 2] = [2_048, 1_024];
/// Digits of a number, without zeros at either end.
const MAX_DIGITS: usize = 38;
/// The powers of ten that the first digit of a number may stand for.
const POWERS: std::ops::RangeInclusive<i64> = -130..=125;

/// An item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// All its attributes, those of the key and [`VERSION`] included; each name once.
    pub attributes: Vec<(String, Value)>,
    /// The version in [`VERSION`].
    pub version: Version,
}

/// A value in the types of DynamoDB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `S`
    Text(String),
    /// `N`, as the event writes it.
    Number(String),
    /// `BOOL`
    Boolean(bool),
    /// `NULL`
    Null,
    /// `L`
    List(Vec<Self>),
    /// `M`
    Map(Vec<(String, Self)>),
}

/// A key that no table can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No attribute, or more than two.
    #[error("name the table's partition key, and its sort key if it has one")]
    Count,
    /// A name that is not at the top of the item.
    #[error("{0}: an attribute of a table's key stands at the top; write a plain name")]
    Nested(String),
    /// Two attributes of one name.
    #[error("{0}: stands here twice")]
    Twice(String),
    /// A name that another attribute of the item has.
    #[error("{0}: this name is taken; give the attribute another one at the target")]
    Taken(String),
}

/// What makes the items of a target.
#[derive(Debug)]
pub struct Items {
    /// The attributes of the table's key by their names in the event's key; none = [`PK`] alone.
    key: Option<Vec<AttributeChoice>>,
}

impl Items {
    /// Checks what the endpoint and the target's mappings say of the item, and makes it ready.
    pub fn compile(endpoint: &TableEndpoint, target: &Target) -> Result<Self, Error> {
        let own = |name: &str| name == VERSION || name == EXPIRES_AT;
        if let Some(key) = &endpoint.key {
            if !(1..=MAX_KEY.len()).contains(&key.len()) {
                return Err(Error::Count);
            }
            for (at, choice) in key.iter().enumerate() {
                let name = choice.output();
                if name.is_empty() || name.contains(['.', '[', ']']) {
                    return Err(Error::Nested(name.to_owned()));
                }
                if own(name) {
                    return Err(Error::Taken(name.to_owned()));
                }
                if key.iter().take(at).any(|other| other.output() == name || other.name == choice.name) {
                    return Err(Error::Twice(name.to_owned()));
                }
            }
        }
        let key_of = |name: &str| match &endpoint.key {
            Some(key) => key.iter().find(|choice| choice.output() == name).map(|choice| choice.name.as_str()),
            None => (name == PK).then_some(""),
        };
        for choices in target.subscribe.iter().filter_map(|entry| target.attributes_of(entry)) {
            for choice in choices {
                let output = choice.output();
                let top = output.split(['.', '[']).next().unwrap_or_default();
                let other = key_of(top).is_some_and(|name| output != top || choice.name != name);
                if own(top) || other {
                    return Err(Error::Taken(output.to_owned()));
                }
            }
        }
        Ok(Self { key: endpoint.key.clone() })
    }

    /// The item of an event; of a delete its tombstone, which stays for `tombstone` seconds from `now` (seconds since 1970).
    /// A reason where no table can hold it: the record will never fit.
    pub fn item(
        &self,
        event: &ReceivedEvent<'_>,
        mapping: &Mapping,
        now: i64,
        tombstone: i64,
    ) -> Result<Item, Reason> {
        let record = event.after.filter(|_| event.envelope.operation != Operation::Delete);
        let mut attributes = match record {
            Some(record) => record_of(record, mapping)?,
            None => vec![(EXPIRES_AT.to_owned(), Value::Number(now.saturating_add(tombstone).to_string()))],
        };
        for (name, value) in self.key_of(event)? {
            match attributes.iter().find(|(other, _)| *other == name) {
                None => attributes.push((name, value)),
                Some((_, same)) if *same == value => {}
                Some(_) => return Err(Reason::new("attribute_name_taken", format!("data.after.{name}"))),
            }
        }
        let version = event.envelope.version;
        attributes.push((VERSION.to_owned(), Value::Text(version.as_str().to_owned())));
        let size = attributes.iter().map(|(name, value)| name.len() + value.size()).sum::<usize>();
        if size > MAX_SIZE {
            return Err(Reason::new("item_too_large", format!("{size} bytes")));
        }
        Ok(Item { attributes, version })
    }

    fn key_of(&self, event: &ReceivedEvent<'_>) -> Result<Vec<(String, Value)>, Reason> {
        let unreadable = |_| Reason::new("unreadable_key", "data.key");
        let key = Scanner::new(event.key, &limits()).and_then(|mut scanner| scanner.value());
        let parts = members(key.map_err(unreadable)?).map_err(unreadable)?;
        let Some(choices) = &self.key else {
            let text = Value::Text(pk(event.envelope.model.as_str(), &parts));
            return fits(&text, 0).then(|| vec![(PK.to_owned(), text)]).ok_or_else(|| not_a_key(PK));
        };
        // A part of the key that is left out would make one item of two records.
        if let Some((name, _)) = parts.iter().find(|(name, _)| choices.iter().all(|c| c.name != *name)) {
            return Err(Reason::new("key_attribute_unknown", format!("data.key.{name}")));
        }
        let part = |(at, choice): (usize, &AttributeChoice)| {
            let found = parts.iter().find(|(name, _)| *name == choice.name);
            let place = || format!("data.key.{}", choice.name);
            let (_, value) = found.ok_or_else(|| Reason::new("key_attribute_missing", place()))?;
            let value = scalar(*value).ok().filter(|value| fits(value, at));
            let value = value.ok_or_else(|| not_a_key(&choice.name))?;
            Ok((choice.output().to_owned(), value))
        };
        choices.iter().enumerate().map(part).collect()
    }
}

/// The key in one text: the model, `#`, and the key as JSON without spaces, in the order of the model.
fn pk(model: &str, parts: &[(std::borrow::Cow<'_, str>, Json<'_>)]) -> String {
    let mut text = format!("{model}#{{");
    for (at, (name, value)) in parts.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        write_string(&mut text, name);
        text.push(':');
        // One text may be written in several ways, and is one key.
        match value.text() {
            Some(own) => write_string(&mut text, &own),
            None => text.push_str(value.raw),
        }
    }
    text.push('}');
    text
}

/// Whether a value can be the part of a table's key at a place.
fn fits(value: &Value, at: usize) -> bool {
    match value {
        Value::Text(text) => !text.is_empty() && MAX_KEY.get(at).is_some_and(|most| text.len() <= *most),
        Value::Number(_) => true,
        Value::Boolean(_) | Value::Null | Value::List(_) | Value::Map(_) => false,
    }
}

fn not_a_key(name: &str) -> Reason {
    Reason::new("key_not_fit_for_table", format!("data.key.{name}"))
}

/// The attributes of a record as the target gets it.
fn record_of(record: &str, mapping: &Mapping) -> Result<Vec<(String, Value)>, Reason> {
    let unreadable = |error: scan::Error| Reason::new("unreadable_event", format!("byte {}", error.offset));
    let record = mapping.record(record).map_err(unreadable)?;
    let mut scanner = Scanner::new(&record, &limits()).map_err(unreadable)?;
    let mut attributes = Vec::new();
    scanner
        .object(|scanner, name| {
            let place = |code: &str| Unfit::There(Reason::new(code, format!("data.after.{name}")));
            if name == VERSION || name == EXPIRES_AT {
                return Err(place("attribute_name_taken"));
            }
            // Names further in may be data of the record: the place has the outermost one.
            let value = value(scanner, MAX_DEPTH).map_err(|unfit| match unfit {
                Unfit::Somewhere(code) => place(code),
                other => other,
            })?;
            attributes.push((named(&name)?, value));
            Ok(())
        })
        .map_err(|unfit| match unfit {
            Unfit::Unreadable(error) => unreadable(error),
            Unfit::Somewhere(code) => Reason::new(code, "data.after"),
            Unfit::There(reason) => reason,
        })?;
    Ok(attributes)
}

/// Why a value is in no table.
enum Unfit {
    Unreadable(scan::Error),
    /// By its code.
    Somewhere(&'static str),
    There(Reason),
}

impl From<scan::Error> for Unfit {
    fn from(error: scan::Error) -> Self {
        Self::Unreadable(error)
    }
}

/// Reads a value in the table's types.
fn value(scanner: &mut Scanner<'_>, depth: usize) -> Result<Value, Unfit> {
    let deeper = || depth.checked_sub(1).ok_or(Unfit::Somewhere("nested_too_deep_for_table"));
    match scanner.peek()? {
        Kind::Array => {
            let (depth, mut list) = (deeper()?, Vec::new());
            scanner.array(|scanner, _| {
                list.push(value(scanner, depth)?);
                Ok::<_, Unfit>(())
            })?;
            Ok(Value::List(list))
        }
        Kind::Object => {
            let (depth, mut map) = (deeper()?, Vec::new());
            scanner.object(|scanner, name| {
                let value = value(scanner, depth)?;
                map.push((named(&name)?, value));
                Ok::<_, Unfit>(())
            })?;
            Ok(Value::Map(map))
        }
        Kind::Null | Kind::Boolean | Kind::Number | Kind::String => scalar(scanner.value()?),
    }
}

fn scalar(value: Json<'_>) -> Result<Value, Unfit> {
    match value.kind {
        Kind::Boolean => Ok(Value::Boolean(value.raw == "true")),
        Kind::String => Ok(Value::Text(value.text().unwrap_or_default().into_owned())),
        Kind::Number if is_number(value.raw) => Ok(Value::Number(value.raw.to_owned())),
        Kind::Number => Err(Unfit::Somewhere("number_not_fit_for_table")),
        Kind::Null | Kind::Array | Kind::Object => Ok(Value::Null),
    }
}

fn named(name: &str) -> Result<String, Unfit> {
    let fits = (1..=MAX_NAME).contains(&name.len());
    fits.then(|| name.to_owned()).ok_or(Unfit::Somewhere("name_not_fit_for_table"))
}

/// Whether a number of JSON keeps its value in a table: 38 digits, and a size between 1E-130 and 1E+126.
fn is_number(raw: &str) -> bool {
    let unsigned = raw.strip_prefix('-').unwrap_or(raw);
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0');
    if significant.is_empty() {
        return true;
    }
    let power = || {
        let exponent: i64 = exponent.strip_prefix('+').unwrap_or(exponent).parse().ok()?;
        let before_point = i64::try_from(whole.len()).ok()?;
        let zeros = i64::try_from(digits.len() - significant.len()).ok()?;
        // The first digit stands for so many tens.
        exponent.checked_add(before_point - zeros - 1)
    };
    significant.trim_end_matches('0').len() <= MAX_DIGITS
        && power().is_some_and(|power| POWERS.contains(&power))
}

impl Value {
    /// The bytes that DynamoDB counts for it, as its documentation has them.
    fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Number(raw) => number_size(raw),
            Self::Boolean(_) | Self::Null => 1,
            Self::List(list) => 3 + list.iter().map(|value| 1 + value.size()).sum::<usize>(),
            Self::Map(map) => {
                3 + map.iter().map(|(name, value)| 1 + name.len() + value.size()).sum::<usize>()
            }
        }
    }
}

/// A byte for two digits, one for the power of ten and one for the sign; at most 21.
fn number_size(raw: &str) -> usize {
    let digits = raw.split(['e', 'E']).next().unwrap_or_default();
    let digits: String = digits.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_matches('0').len();
    (digits.div_ceil(2) + 1 + usize::from(raw.starts_with('-'))).min(21)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(name: &str, rename: Option<&str>) -> AttributeChoice {
        AttributeChoice { name: name.to_owned(), rename: rename.map(str::to_owned) }
    }

    fn target(attributes: Option<Vec<AttributeChoice>>) -> Target {
        let mut target = crate::delivery::test_target("https://a.example");
        target.subscribe = vec![crate::config::Subscription {
            model: "price".parse().unwrap(),
            operations: vec![Operation::Update],
            when_changed: Vec::new(),
            snapshot: true,
            attributes: None,
        }];
        target.attributes = attributes;
        target
    }

    fn items(
        key: Option<Vec<AttributeChoice>>,
        attributes: Option<Vec<AttributeChoice>>,
    ) -> Result<Items, Error> {
        Items::compile(
            &TableEndpoint { table: "t".to_owned(), key, rate: None, concurrency: None, quota: None },
            &target(attributes),
        )
    }

    fn body(kind: &str, key: &str, after: &str) -> String {
        format!(
            r#"{{"specversion":"1.0","id":"evt_1","source":"/datasync/shop","type":"price.{kind}","subject":"rid_1","time":"2026-11-24T20:19:23Z","datacontenttype":"application/json","dataschema":"urn:datasync:schema/price/1","sequence":"00000000-{:040}","partitionkey":"rid_1","policyversion":"p1","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","origin":"shop","data":{{"key":{key},"before":null,"after":{after},"changed":null}}}}"#,
            7
        )
    }

    /// The item of an update under a table's key, or the reason.
    fn made(key: Option<&[&str]>, record_key: &str, after: &str) -> Result<Vec<(String, Value)>, String> {
        let key = key.map(|names| names.iter().map(|name| choice(name, None)).collect());
        let items = items(key, None).unwrap();
        let body = body("updated", record_key, after);
        let event = ReceivedEvent::read(&body).unwrap();
        let item = items.item(&event, &Mapping::compile(None).unwrap(), 0, 0);
        item.map(|item| item.attributes).map_err(|reason| reason.to_string())
    }

    fn text(value: &str) -> Value {
        Value::Text(value.to_owned())
    }

    fn attribute(value: &str) -> Result<Value, String> {
        let item = made(Some(&["id"]), r#"{"id":1}"#, &format!(r#"{{"a":{value}}}"#))?;
        Ok(item.into_iter().find(|(name, _)| name == "a").unwrap().1)
    }

    #[test]
    fn every_value_is_of_the_tables_own_type() {
        let number = |raw: &str| Value::Number(raw.to_owned());
        for (json, value) in [
            ("null", Value::Null),
            ("true", Value::Boolean(true)),
            ("false", Value::Boolean(false)),
            (r#""""#, text("")),
            (r#""a\u00e4\n""#, text("aä\n")),
            ("-1.50", number("-1.50")),
            ("[]", Value::List(Vec::new())),
            ("{}", Value::Map(Vec::new())),
            (
                r#"[1, {"b": [null]}]"#,
                Value::List(vec![
                    number("1"),
                    Value::Map(vec![("b".to_owned(), Value::List(vec![Value::Null]))]),
                ]),
            ),
        ] {
            assert_eq!(attribute(json).unwrap(), value, "{json}");
        }
    }

    #[test]
    fn a_number_that_would_lose_a_digit_is_refused() {
        let digits = "12345678901234567890123456789012345678";
        for fits in [
            digits.to_owned(),
            format!("-{digits}"),
            format!("{digits}000"),
            format!("0.000{digits}"),
            digits.replacen("90", "9.0", 1),
            "0".to_owned(),
            "-0.000e999999999999999999999".to_owned(),
            "9.9999999999999999999999999999999999999e125".to_owned(),
            "1E-130".to_owned(),
            "100e123".to_owned(),
            "0.01e-128".to_owned(),
        ] {
            assert_eq!(attribute(&fits), Ok(Value::Number(fits.clone())));
        }
        for beyond in [
            format!("{digits}9"),
            format!("0.{digits}9"),
            "1e126".to_owned(),
            "100e124".to_owned(),
            "1e-131".to_owned(),
            "0.01e-129".to_owned(),
            "1e999999999999999999999".to_owned(),
            "1e-9223372036854775808".to_owned(),
        ] {
            assert_eq!(
                attribute(&beyond).unwrap_err(),
                "number_not_fit_for_table at data.after.a",
                "{beyond}"
            );
            assert_eq!(
                attribute(&format!("[{{\"secret@example.com\":{beyond}}}]")).unwrap_err(),
                "number_not_fit_for_table at data.after.a"
            );
        }
    }

    #[test]
    fn the_32nd_level_is_the_last() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert!(attribute(&nested(31)).is_ok());
        assert_eq!(attribute(&nested(32)).unwrap_err(), "nested_too_deep_for_table at data.after.a");
    }

    #[test]
    fn an_item_of_more_than_400_kb_is_refused_before_it_is_sent() {
        let record = |bytes: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes));
        // id (2) + 1 (2), a (1), the name of the version (16) and the version (49).
        let others = 2 + 2 + 1 + 16 + 49;
        let most = (400 << 10) - others;
        assert!(made(Some(&["id"]), r#"{"id":1}"#, &record(most)).is_ok());
        let refused = made(Some(&["id"]), r#"{"id":1}"#, &record(most + 1)).unwrap_err();
        assert_eq!(refused, "item_too_large at 409601 bytes");
    }

    #[test]
    fn an_attribute_needs_a_name() {
        for record in [r#"{"":1}"#, r#"{"a":{"":1}}"#] {
            let refused = made(Some(&["id"]), r#"{"id":1}"#, record).unwrap_err();
            assert!(refused.starts_with("name_not_fit_for_table"), "{refused}");
        }
    }

    #[test]
    fn the_key_stands_in_the_item_whatever_the_target_gets() {
        let item =
            made(Some(&["sku", "currency"]), r#"{"sku":"s-1","currency":"EUR"}"#, r#"{"amount":1}"#).unwrap();
        assert!(
            item.contains(&("sku".to_owned(), text("s-1")))
                && item.contains(&("currency".to_owned(), text("EUR")))
        );
        let item = made(Some(&["sku"]), r#"{"sku":42}"#, r#"{"sku":42}"#).unwrap();
        assert_eq!(item.iter().filter(|(name, _)| name == "sku").count(), 1, "once: {item:?}");
        assert_eq!(item[0].1, Value::Number("42".to_owned()));
    }

    #[test]
    fn a_key_of_its_own_is_one_text_for_any_number_of_attributes() {
        let pk = |key: &str| {
            let item = made(None, key, "{}").unwrap();
            item.into_iter().find(|(name, _)| name == PK).unwrap().1
        };
        assert_eq!(pk(r#"{"a":1,"b":"x","c":true}"#), text(r#"price#{"a":1,"b":"x","c":true}"#));
        assert_eq!(
            pk(r#"{"a": "\u0078\/"}"#),
            text(r#"price#{"a":"x/"}"#),
            "one text, one key, however it is written"
        );
        assert_ne!(pk(r#"{"a":1}"#), pk(r#"{"a":"1"}"#));
    }

    #[test]
    fn a_key_that_no_table_takes_is_about_the_record() {
        let long = |bytes: usize| format!(r#""{}""#, "x".repeat(bytes));
        let check = |first: &str, second: &str| {
            made(Some(&["a", "b"]), &format!(r#"{{"a":{first},"b":{second}}}"#), "{}").map(drop)
        };
        assert_eq!(check(&long(2_048), &long(1_024)), Ok(()));
        for (first, second, place) in [
            (long(2_049).as_str(), "1", "a"),
            ("1", long(1_025).as_str(), "b"),
            (r#""""#, "1", "a"),
            ("true", "1", "a"),
        ] {
            let refused = check(first, second).unwrap_err();
            assert_eq!(refused, format!("key_not_fit_for_table at data.key.{place}"));
        }
        assert_eq!(
            made(Some(&["a"]), r#"{"a":1,"b":2}"#, "{}").unwrap_err(),
            "key_attribute_unknown at data.key.b",
            "a part that is left out would make one item of two records"
        );
        assert_eq!(
            made(Some(&["a", "b"]), r#"{"a":1}"#, "{}").unwrap_err(),
            "key_attribute_missing at data.key.b"
        );
        assert!(made(None, &format!(r#"{{"a":{}}}"#, long(2_048)), "{}").is_err());
    }

    #[test]
    fn a_record_never_overwrites_what_the_item_has_for_itself() {
        for (key, name) in
            [(Some(&["id"][..]), VERSION), (Some(&["id"]), EXPIRES_AT), (Some(&["id"]), "id"), (None, PK)]
        {
            let refused = made(key, r#"{"id":1}"#, &format!(r#"{{"{name}":"2"}}"#)).unwrap_err();
            assert_eq!(refused, format!("attribute_name_taken at data.after.{name}"));
        }
    }

    #[test]
    fn a_delete_leaves_key_version_and_end_and_nothing_else() {
        let items = items(Some(vec![choice("id", Some("number"))]), None).unwrap();
        for after in ["null", r#"{"id":1,"email":"a@example.com"}"#] {
            let body = body("deleted", r#"{"id":1}"#, after);
            let event = ReceivedEvent::read(&body).unwrap();
            let item = items.item(&event, &Mapping::compile(None).unwrap(), 1_000, 500).unwrap();
            assert_eq!(
                item.attributes,
                [
                    (EXPIRES_AT.to_owned(), Value::Number("1500".to_owned())),
                    ("number".to_owned(), Value::Number("1".to_owned())),
                    (VERSION.to_owned(), text(event.envelope.version.as_str())),
                ]
            );
        }
    }

    #[test]
    fn a_key_that_makes_no_sense_stops_the_start() {
        let of = |key: Vec<AttributeChoice>| items(Some(key), None).unwrap_err();
        assert_eq!(of(Vec::new()), Error::Count);
        assert_eq!(of(["a", "b", "c"].map(|name| choice(name, None)).to_vec()), Error::Count);
        assert_eq!(of(vec![choice("a", Some("x.y"))]), Error::Nested("x.y".to_owned()));
        assert_eq!(of(vec![choice("a", None), choice("b", Some("a"))]), Error::Twice("a".to_owned()));
        assert_eq!(of(vec![choice("a", Some("x")), choice("a", Some("y"))]), Error::Twice("y".to_owned()));
        assert_eq!(of(vec![choice("a", Some(VERSION))]), Error::Taken(VERSION.to_owned()));
    }

    #[test]
    fn no_choice_of_attributes_meets_the_items_own() {
        let of = |key: Option<&str>, attribute: AttributeChoice| {
            items(key.map(|key| vec![choice(key, None)]), Some(vec![attribute])).map(drop)
        };
        assert_eq!(of(Some("id"), choice("id", None)), Ok(()));
        assert_eq!(of(Some("id"), choice("email", Some("id"))), Err(Error::Taken("id".to_owned())));
        assert_eq!(
            of(Some("id"), choice("email", Some("id.email"))),
            Err(Error::Taken("id.email".to_owned()))
        );
        assert_eq!(of(None, choice("email", Some("pk"))), Err(Error::Taken("pk".to_owned())));
        assert_eq!(of(Some("id"), choice("email", Some("pk"))), Ok(()));
        assert_eq!(of(None, choice("email", Some(VERSION))), Err(Error::Taken(VERSION.to_owned())));
    }
}
