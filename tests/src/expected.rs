//! What governance must make of a record, stated a second time: the sample policy as a table, and a comparison of what
//! a target got with what it says. It reads none of the product's code and none of its configuration.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::opener::Opener;
use crate::raw;

/// What happens to an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// Arrives byte for byte.
    Clear,
    /// Becomes a token.
    Token,
    /// Is sealed.
    Sealed,
    /// Becomes null.
    Redacted,
    /// So many leading and trailing characters stay.
    Masked(usize, usize),
    /// `name.first`, a space and `name.last`, with one leading character staying.
    FullName,
    /// A word for the code in `format_code`.
    FormatWord,
    /// What the lookup service knows, for gold and platinum customers.
    Segment,
}

/// An attribute of the sample policy: its path, the path that it has in the event, what happens to it.
#[derive(Debug, Clone, Copy)]
pub struct Attribute {
    /// The path in the source's record; `[]` marks an array of objects.
    pub path: &'static str,
    /// The path in the event.
    pub output: &'static str,
    /// What happens to it.
    pub treatment: Treatment,
}

const fn same(path: &'static str, treatment: Treatment) -> Attribute {
    Attribute { path, output: path, treatment }
}

const fn moved(path: &'static str, output: &'static str, treatment: Treatment) -> Attribute {
    Attribute { path, output, treatment }
}

const CUSTOMER: &[Attribute] = &[
    same("customer_id", Treatment::Clear),
    same("email", Treatment::Token),
    same("phone", Treatment::Masked(0, 4)),
    same("national_id", Treatment::Sealed),
    same("birth_date", Treatment::Redacted),
    same("name.first", Treatment::Clear),
    same("name.last", Treatment::Clear),
    same("full_name", Treatment::FullName),
    moved("address.city", "city", Treatment::Clear),
    same("address.country", Treatment::Clear),
    same("tier", Treatment::Clear),
    same("contacts[].kind", Treatment::Clear),
    same("contacts[].value", Treatment::Masked(0, 2)),
    same("preferences", Treatment::Clear),
    same("segment", Treatment::Segment),
];

const PRICE: &[Attribute] = &[
    same("sku", Treatment::Clear),
    same("currency", Treatment::Clear),
    same("amount", Treatment::Clear),
    same("valid_from", Treatment::Clear),
];

const STORE: &[Attribute] = &[
    same("store_id", Treatment::Clear),
    same("name", Treatment::Clear),
    moved("address.city", "city", Treatment::Clear),
    moved("address.country", "country", Treatment::Clear),
    same("opening", Treatment::Clear),
    same("format", Treatment::FormatWord),
    same("format_code", Treatment::Clear),
];

const SETTING: &[Attribute] = &[same("name", Treatment::Clear), same("value", Treatment::Clear)];

const POS_CUSTOMER: &[Attribute] = &[
    same("customer_id", Treatment::Clear),
    same("email", Treatment::Token),
    same("phone", Treatment::Masked(0, 3)),
    same("born", Treatment::Sealed),
    same("balance", Treatment::Clear),
    same("tags", Treatment::Clear),
    same("profile", Treatment::Sealed),
    same("active", Treatment::Clear),
    same("updated_at", Treatment::Clear),
];

const POS_PRICE: &[Attribute] = &[
    same("sku", Treatment::Clear),
    same("currency", Treatment::Clear),
    same("amount", Treatment::Clear),
    same("valid_on", Treatment::Clear),
    same("purchase_amount", Treatment::Sealed),
];

const POS_STORE: &[Attribute] = &[
    same("store_id", Treatment::Clear),
    same("name", Treatment::Clear),
    same("city", Treatment::Clear),
    same("opening", Treatment::Clear),
    same("floor_area", Treatment::Clear),
    same("manager_email", Treatment::Token),
];

const PREFERENCE: &[Attribute] = &[
    same("customer_id", Treatment::Clear),
    same("topic", Treatment::Clear),
    same("allowed", Treatment::Clear),
    same("channels", Treatment::Clear),
    same("quiet_hours.from", Treatment::Clear),
    same("quiet_hours.to", Treatment::Clear),
    same("affinity", Treatment::Clear),
    same("note", Treatment::Sealed),
    same("signature", Treatment::Sealed),
    same("changed_at", Treatment::Clear),
];

/// The attributes of the sample's models.
pub fn attributes(model: &str) -> &'static [Attribute] {
    match model {
        "customer" => CUSTOMER,
        "price" => PRICE,
        "store" => STORE,
        "setting" => SETTING,
        "preference" => PREFERENCE,
        "pos_customer" => POS_CUSTOMER,
        "pos_price" => POS_PRICE,
        "pos_store" => POS_STORE,
        _ => &[],
    }
}

/// What the loyalty programme gets of a customer: the path in the event and its own name for it.
pub const LOYALTY_ATTRIBUTES: &[(&str, &str)] = &[
    ("customer_id", "customer_id"),
    ("email", "email"),
    ("phone", "phone"),
    ("full_name", "display_name"),
    ("tier", "tier"),
    ("segment", "segment"),
];

/// What must arrive in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Want {
    /// These bytes.
    Raw(String),
    /// A string that stands for this text.
    Text(String),
    /// The token of this text.
    Token(String),
    /// A sealed value that opens to these bytes.
    Sealed(String),
    /// Members, no more and no less.
    Object(BTreeMap<String, Want>),
    /// Elements in this order.
    List(Vec<Want>),
}

impl Want {
    fn null() -> Self {
        Self::Raw("null".to_owned())
    }

    fn insert(&mut self, path: &str, want: Self) {
        let Self::Object(members) = self else { return };
        match path.split_once('.') {
            None => drop(members.insert(path.to_owned(), want)),
            Some((first, rest)) => {
                members
                    .entry(first.to_owned())
                    .or_insert_with(|| Self::Object(BTreeMap::new()))
                    .insert(rest, want);
            }
        }
    }

    fn at(&self, path: &str) -> Option<&Self> {
        path.split('.').try_fold(self, |want, name| match want {
            Self::Object(members) => members.get(name),
            _ => None,
        })
    }
}

/// What the warehouse must hold of a record, given as the source's JSON text.
pub fn governed(model: &str, record: &str) -> Result<Want> {
    build(attributes(model), record, record)
}

/// The loyalty programme's part of a governed customer.
pub fn loyalty(governed: &Want) -> Want {
    let mut part = Want::Object(BTreeMap::new());
    for (path, name) in LOYALTY_ATTRIBUTES {
        if let Some(want) = governed.at(path) {
            part.insert(name, want.clone());
        }
    }
    part
}

/// `scope` is the record, or the array element that the paths start in.
fn build(attributes: &[Attribute], scope: &str, record: &str) -> Result<Want> {
    let mut object = Want::Object(BTreeMap::new());
    let mut arrays: Vec<&str> = Vec::new();
    for attribute in attributes {
        if let Some((array, _)) = attribute.path.split_once("[].") {
            if !arrays.contains(&array) {
                arrays.push(array);
            }
            continue;
        }
        object.insert(attribute.output, leaf(attribute, scope, record)?);
    }
    for array in arrays {
        let inner: Vec<Attribute> = attributes
            .iter()
            .filter_map(|attribute| {
                let (outer, path) = attribute.path.split_once("[].")?;
                let (_, output) = attribute.output.split_once("[].")?;
                (outer == array).then_some(Attribute { path, output, treatment: attribute.treatment })
            })
            .collect();
        let want = match raw::at(scope, array)? {
            None | Some("null") => Want::null(),
            Some(list) => {
                let elements = raw::elements(list)?;
                Want::List(
                    elements
                        .iter()
                        .map(|element| build(&inner, element.get(), record))
                        .collect::<Result<_>>()?,
                )
            }
        };
        object.insert(array, want);
    }
    Ok(object)
}

fn leaf(attribute: &Attribute, scope: &str, record: &str) -> Result<Want> {
    match attribute.treatment {
        Treatment::FullName => return full_name(record),
        Treatment::FormatWord => return format_word(record),
        Treatment::Segment => return segment(record),
        Treatment::Redacted => return Ok(Want::null()),
        _ => {}
    }
    let Some(value) = raw::at(scope, attribute.path)?.filter(|value| *value != "null") else {
        return Ok(Want::null());
    };
    Ok(match attribute.treatment {
        Treatment::Token => Want::Token(raw::text(value)?),
        Treatment::Sealed => Want::Sealed(value.to_owned()),
        Treatment::Masked(first, last) => Want::Text(masked(&raw::text(value)?, first, last)),
        _ => Want::Raw(value.to_owned()),
    })
}

/// So many characters at both ends, four stars between; only stars where the ends would be all.
pub fn masked(text: &str, first: usize, last: usize) -> String {
    let characters: Vec<char> = text.chars().collect();
    if first + last >= characters.len() {
        return "****".to_owned();
    }
    let head: String = characters.iter().take(first).collect();
    let tail: String = characters.iter().skip(characters.len() - last).collect();
    format!("{head}****{tail}")
}

fn text_at(record: &str, path: &str) -> Result<String> {
    raw::text(raw::at(record, path)?.with_context(|| format!("the record has no {path}"))?)
}

fn full_name(record: &str) -> Result<Want> {
    let name = format!("{} {}", text_at(record, "name.first")?, text_at(record, "name.last")?);
    Ok(Want::Text(masked(&name, 1, 0)))
}

fn format_word(record: &str) -> Result<Want> {
    let word = match text_at(record, "format_code")?.as_str() {
        "S" => "express",
        "M" => "city",
        "L" => "flagship",
        _ => "other",
    };
    Ok(Want::Text(word.to_owned()))
}

fn segment(record: &str) -> Result<Want> {
    let tier = raw::at(record, "tier")?.unwrap_or("null");
    let id: u64 = raw::at(record, "customer_id")?.context("a customer has a number")?.parse()?;
    let looked_up = matches!(tier, "\"gold\"" | "\"platinum\"") && id != crate::lookup::UNKNOWN_CUSTOMER;
    Ok(if looked_up { Want::Text(crate::lookup::segment(id)) } else { Want::null() })
}

/// Where values are compared: for which model and record, with which keys.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The keys.
    pub opener: &'a Opener,
    /// The model.
    pub model: &'a str,
    /// The record id that sealed values are bound to.
    pub record_id: &'a str,
    /// From the target's names to the policy's attributes, where they differ.
    pub renamed: &'a [(&'a str, &'a str)],
}

/// What differs between what arrived (JSON text) and what must; paths and kinds only, so that it can be printed.
pub fn differences(want: &Want, got: &str, place: &Place<'_>) -> Vec<String> {
    let mut differences = Vec::new();
    compare(want, got, "", place, &mut differences);
    differences
}

fn compare(want: &Want, got: &str, path: &str, place: &Place<'_>, out: &mut Vec<String>) {
    let attribute = || {
        let own = place.renamed.iter().find(|(_, name)| *name == path).map_or(path, |(own, _)| own);
        let listed = attributes(place.model).iter().find(|listed| listed.output == own);
        listed.map_or(own.to_owned(), |listed| listed.path.to_owned())
    };
    let mut differ = |what: String| out.push(format!("{path}: {what}"));
    match want {
        Want::Raw(bytes) => {
            if got != bytes {
                differ("other bytes than the source wrote".to_owned());
            }
        }
        Want::Text(text) => {
            if raw::text(got).ok().as_deref() != Some(text) {
                differ("another text".to_owned());
            }
        }
        Want::Token(text) => match place.opener.token(place.model, &attribute(), text) {
            Ok(token) if raw::string(&token) == got => {}
            Ok(_) => differ("not the token of the value".to_owned()),
            Err(error) => differ(format!("no token: {error}")),
        },
        Want::Sealed(value) => {
            let opened = raw::text(got)
                .and_then(|sealed| place.opener.open(&sealed, place.model, &attribute(), place.record_id));
            match opened {
                Ok(opened) if opened == *value => {}
                Ok(_) => differ("opens to another value".to_owned()),
                Err(error) => differ(format!("does not open: {error}")),
            }
        }
        Want::List(wants) => match raw::elements(got) {
            Ok(elements) if elements.len() == wants.len() => {
                for (want, element) in wants.iter().zip(elements) {
                    compare(want, element.get(), &format!("{path}[]"), place, out);
                }
            }
            _ => differ(format!("not an array of {}", wants.len())),
        },
        Want::Object(wants) => match raw::members(got) {
            Ok(members) => {
                let below =
                    |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                for (name, want) in wants {
                    match members.get(name) {
                        Some(member) => compare(want, member.get(), &below(name), place, out),
                        None => out.push(format!("{}: missing", below(name))),
                    }
                }
                for name in members.keys().filter(|name| !wants.contains_key(*name)) {
                    out.push(format!("{}: must not be there", below(name)));
                }
            }
            Err(_) => differ("not an object".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(opener: &Opener) -> Place<'_> {
        Place { opener, model: "customer", record_id: "rid", renamed: &[] }
    }

    const RECORD: &str = r#"{"customer_id":42,"email":"a@example.com","phone":"+49 170 1234567","birth_date":"1970-01-01",
        "name":{"first":"Erika","last":"Ö"},"address":{"city":"K\u00f6ln","street":"x"},"tier":"gold",
        "contacts":[{"kind":"fax","value":"12345","label":"x"}],"preferences":{"b":1.10},"notes":"x"}"#;

    fn arrived(opener: &Opener) -> String {
        let token = opener.token("customer", "email", "a@example.com").unwrap();
        let segment = crate::lookup::segment(42);
        format!(
            r#"{{"customer_id":42,"email":"{token}","phone":"****4567","national_id":null,"birth_date":null,
            "name":{{"first":"Erika","last":"Ö"}},"full_name":"E****","city":"K\u00f6ln","address":{{"country":null}},
            "tier":"gold","contacts":[{{"kind":"fax","value":"****45"}}],"preferences":{{"b":1.10}},"segment":"{segment}"}}"#
        )
    }

    #[test]
    fn what_is_governed_right_has_no_differences() {
        let opener = Opener::for_test();
        let want = governed("customer", RECORD).unwrap();
        assert_eq!(differences(&want, &arrived(&opener), &place(&opener)), Vec::<String>::new());
    }

    #[test]
    fn every_slip_of_governance_is_a_difference() {
        let opener = Opener::for_test();
        let want = governed("customer", RECORD).unwrap();
        let right = arrived(&opener);
        let other_token = opener.token("customer", "phone", "a@example.com").unwrap();
        let token = opener.token("customer", "email", "a@example.com").unwrap();
        for (from, to) in [
            (token.as_str(), "a@example.com"),
            (token.as_str(), other_token.as_str()),
            ("****4567", "****1234567"),
            (r#""birth_date":null"#, r#""birth_date":"1970-01-01""#),
            ("E****", "Erika Ö"),
            (r#"{"kind":"fax","value":"****45"}"#, r#"{"kind":"fax","value":"12345"}"#),
            (r#""value":"****45""#, r#""value":"****45","label":"x""#),
            (r#""tier":"gold""#, r#""tier":"gold","notes":"x""#),
            (r#""tier":"gold","#, ""),
            ("1.10", "1.1"),
            (r"K\u00f6ln", "Köln"),
            ("42,", "42.0,"),
            ("segment-0", "segment-1"),
            (r#""national_id":null"#, r#""national_id":"dse1.AAAAAAAAAAAAAAAAAAAAAA.AAAA""#),
        ] {
            assert!(right.contains(from), "{from}");
            let wrong = right.replacen(from, to, 1);
            assert!(!differences(&want, &wrong, &place(&opener)).is_empty(), "{from} became {to}");
        }
    }

    #[test]
    fn masks_keep_their_ends_only() {
        for (text, first, last, masked_text) in [
            ("+49 170 1234567", 0, 4, "****4567"),
            ("Erika", 1, 0, "E****"),
            ("abcd", 0, 4, "****"),
            ("", 0, 2, "****"),
        ] {
            assert_eq!(masked(text, first, last), masked_text);
        }
    }
}
