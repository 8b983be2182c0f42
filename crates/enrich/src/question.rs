//! What is asked of the other system for one record: the model's look-up filled in with the record's clear attributes.

use aws_lc_rs::digest::{SHA256, digest};
use sync_domain::id::{ModelId, push_part};
use sync_domain::outcome::Reason;
use sync_domain::scan::{Kind, Value};
use url::Url;

use crate::answer::of_record;
use crate::cache::Key;

/// An address with places to fill in: `https://host/customers/{customer_id}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    /// What every address made of it must have: its origin and how many segments of its path say something.
    origin: url::Origin,
    segments: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Path(String),
}

/// A template that cannot serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A brace without its other half, or nothing between two.
    #[error("braces stand in pairs around the path of an attribute: {{customer_id}}")]
    Braces,
    /// Not an address, or a place in the host.
    #[error("the address is https://host/…, with attributes in its path and query only")]
    Address,
}

impl Template {
    /// Reads the address of a look-up.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            let (path, after) = behind.split_once('}').ok_or(Error::Braces)?;
            if path.is_empty() || path.contains('{') || before.contains('}') {
                return Err(Error::Braces);
            }
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Path(path.to_owned()));
            rest = after;
        }
        if rest.contains('}') {
            return Err(Error::Braces);
        }
        parts.push(Part::Text(rest.to_owned()));

        let with = |value: &str| Url::parse(&fill(&parts, |_| value.to_owned())).map_err(|_| Error::Address);
        let (one, other) = (with("1")?, with("2")?);
        if !one.has_host() || one.origin() != other.origin() || one.username() != other.username() {
            return Err(Error::Address);
        }
        let segments = segments(&one);
        Ok(Self { parts, origin: one.origin(), segments })
    }

    /// The paths of the attributes that it reads.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Path(path) => Some(path.as_str()),
            Part::Text(_) => None,
        })
    }

    /// The address for these values. None if a value would lead elsewhere: `.` and `..` name another place whichever way
    /// they are encoded, and an empty value asks for the whole collection.
    fn address(&self, value: impl Fn(&str) -> String) -> Option<Url> {
        let url = Url::parse(&fill(&self.parts, value)).ok()?;
        (url.origin() == self.origin && segments(&url) == self.segments).then_some(url)
    }
}

fn fill(parts: &[Part], value: impl Fn(&str) -> String) -> String {
    let text = |part: &Part| match part {
        Part::Text(text) => text.clone(),
        Part::Path(path) => value(path),
    };
    parts.iter().map(text).collect()
}

fn segments(url: &Url) -> usize {
    url.path_segments().into_iter().flatten().filter(|segment| !segment.is_empty()).count()
}

/// What is asked, filled in.
#[derive(Clone, PartialEq, Eq)]
pub enum Question {
    /// `GET` of this address.
    Http(Url),
    /// The item with this key: names and JSON scalars.
    Table(Vec<(String, String)>),
}

impl Question {
    /// The address for a record. None = a value that the look-up needs is missing or null: nobody can know the record.
    pub fn http(template: &Template, record: &str) -> Result<Option<Self>, Reason> {
        let mut values = Vec::new();
        for path in template.paths() {
            let Some(value) = input(record, path)? else { return Ok(None) };
            let text = value.text().unwrap_or(value.raw.into());
            if text.is_empty() {
                return Err(unfit(path));
            }
            values.push((path, percent_encoded(&text)));
        }
        let value_of =
            |path: &str| values.iter().find(|(known, _)| *known == path).map(|(_, value)| value.clone());
        let Some(url) = template.address(|path| value_of(path).unwrap_or_default()) else {
            let dots = values.iter().find(|(_, value)| value.bytes().all(|byte| byte == b'.'));
            return Err(unfit(dots.map_or("", |(path, _)| path)));
        };
        Ok(Some(Self::Http(url)))
    }

    /// The key for a record; none as for [`Question::http`]. `key` gives the table's name for each attribute's path.
    pub fn table<'k>(
        key: impl Iterator<Item = (&'k str, &'k str)>,
        record: &str,
    ) -> Result<Option<Self>, Reason> {
        let mut values = Vec::new();
        for (name, path) in key {
            let Some(value) = input(record, path)? else { return Ok(None) };
            values.push((name.to_owned(), value.raw.to_owned()));
        }
        Ok(Some(Self::Table(values)))
    }

    /// What the question is known by; questions of different models are different ones.
    pub fn key(&self, model: &ModelId) -> Key {
        let mut input = Vec::new();
        push_part(&mut input, model.as_str().as_bytes());
        match self {
            Self::Http(url) => push_part(&mut input, url.as_str().as_bytes()),
            Self::Table(key) => {
                for (name, value) in key {
                    push_part(&mut input, name.as_bytes());
                    push_part(&mut input, value.as_bytes());
                }
            }
        }
        let mut key = Key::default();
        for (to, from) in key.iter_mut().zip(digest(&SHA256, &input).as_ref()) {
            *to = *from;
        }
        key
    }
}

/// Says which kind it is, and nothing of what is asked for.
impl std::fmt::Debug for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Http(_) => "Http",
            Self::Table(_) => "Table",
        })
    }
}

/// The scalar at a path of the record; none if it is missing or null.
fn input<'a>(record: &'a str, path: &str) -> Result<Option<Value<'a>>, Reason> {
    let value = of_record(record, path)
        .map_err(|error| Reason::new("not_an_event", format!("byte {}", error.offset)))?;
    match value {
        None => Ok(None),
        Some(value) => match value.kind {
            Kind::Null => Ok(None),
            Kind::Object | Kind::Array => Err(unfit(path)),
            Kind::Boolean | Kind::Number | Kind::String => Ok(Some(value)),
        },
    }
}

fn unfit(path: &str) -> Reason {
    Reason::new("lookup_input_unfit", path)
}

/// Everything but the unreserved characters of RFC 3986 as `%XX`: a value stays inside the place that it fills.
fn percent_encoded(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(template: &str, record: &str) -> Result<Option<String>, Reason> {
        let template = Template::parse(template).unwrap();
        Ok(Question::http(&template, record)?.map(|question| match question {
            Question::Http(url) => url.to_string(),
            Question::Table(_) => unreachable!(),
        }))
    }

    #[test]
    fn values_are_filled_in_and_stay_in_their_place() {
        let template = "https://host/customers/{id}/x?q={name.first}";
        for (record, expected) in [
            (r#"{"id":42,"name":{"first":"Ada"}}"#, "https://host/customers/42/x?q=Ada"),
            (
                r#"{"id":"a/b?c#d&e=%2e","name":{"first":"ü"}}"#,
                "https://host/customers/a%2Fb%3Fc%23d%26e%3D%252e/x?q=%C3%BC",
            ),
            (r#"{"id":true,"name":{"first":"\u0041 b"}}"#, "https://host/customers/true/x?q=A%20b"),
            (
                r#"{"id":12345678901234567890123,"name":{"first":"."}}"#,
                "https://host/customers/12345678901234567890123/x?q=.",
            ),
        ] {
            assert_eq!(address(template, record).unwrap().as_deref(), Some(expected));
        }
    }

    #[test]
    fn a_value_that_leads_elsewhere_is_refused_by_its_path() {
        for value in ["\"\"", "\".\"", "\"..\"", "{}", "[1]"] {
            let reason = address("https://host/customers/{id}", &format!("{{\"id\":{value}}}")).unwrap_err();
            assert_eq!(
                (reason.code.as_str(), reason.place.as_str()),
                ("lookup_input_unfit", "id"),
                "{value}"
            );
        }
        let both = address("https://host/a/{id}{id}", r#"{"id":"."}"#);
        assert!(both.is_err(), "two dots out of two values");
        assert!(address("https://host/a/{id}.json", r#"{"id":".."}"#).unwrap().is_some());
    }

    #[test]
    fn a_record_without_the_value_asks_nothing() {
        for record in ["{}", r#"{"id":null}"#, r#"{"id":1,"name":{}}"#, r#"{"id":1,"name":"x"}"#] {
            assert_eq!(address("https://host/{id}/{name.first}", record), Ok(None), "{record}");
        }
    }

    #[test]
    fn a_template_has_whole_braces_and_a_fixed_host() {
        for (text, expected) in [
            ("https://host/{", Error::Braces),
            ("https://host/{}", Error::Braces),
            ("https://host/}", Error::Braces),
            ("https://host/}{a}", Error::Braces),
            ("https://host/{a{b}}", Error::Braces),
            ("https://{a}/x", Error::Address),
            ("https://host{a}/x", Error::Address),
            ("https://host:1{a}/x", Error::Address),
            ("https://{a}@host/x", Error::Address),
            ("{a}", Error::Address),
            ("mailto:{a}", Error::Address),
        ] {
            assert_eq!(Template::parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn a_table_is_asked_by_values_as_they_are_written() {
        let question = |record| Question::table([("pk", "id"), ("sk", "a.b")].into_iter(), record);
        let key = vec![("pk".to_owned(), "\"x\"".to_owned()), ("sk".to_owned(), "1.10".to_owned())];
        assert_eq!(question(r#"{"id":"x","a":{"b":1.10}}"#), Ok(Some(Question::Table(key))));
        assert_eq!(question(r#"{"id":"x"}"#), Ok(None));
        assert_eq!(question(r#"{"id":[],"a":{"b":1}}"#), Err(unfit("id")));
    }

    #[test]
    fn only_the_same_question_of_the_same_model_has_the_same_key() {
        let (customer, price): (ModelId, ModelId) = ("customer".parse().unwrap(), "price".parse().unwrap());
        let table = |a: &str, b: &str| {
            Question::Table(vec![("a".to_owned(), a.to_owned()), ("b".to_owned(), b.to_owned())])
        };
        assert_eq!(table("1", "2").key(&customer), table("1", "2").key(&customer));
        assert_ne!(table("1", "2").key(&customer), table("1", "2").key(&price));
        assert_ne!(table("12", "").key(&customer), table("1", "2").key(&customer));
    }

    #[test]
    fn a_debug_print_shows_no_value() {
        let question = Question::Table(vec![("pk".to_owned(), "\"secret\"".to_owned())]);
        assert_eq!(format!("{question:?}"), "Table");
    }
}
