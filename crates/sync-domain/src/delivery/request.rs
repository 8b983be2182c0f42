//! The request that an event becomes at its target: method, address and what it carries.

use std::collections::BTreeMap;

use url::Url;

use super::ledger::Effect;
use super::limits;
use super::mapping::members;
use crate::change::Operation;
use crate::config::{Body, HttpEndpoint, Method, RequestMapping};
use crate::outcome::Reason;
use crate::scan::{Kind, Scanner};

/// A path template that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Does not begin with a slash.
    #[error("{0}: a path begins with /")]
    NoSlash(String),
    /// A brace without its other half, or nothing between them.
    #[error("{0}: write {{name}} for a key attribute")]
    Braces(String),
    /// A query, a fragment or a dot segment.
    #[error("{0}: a path has no ?, #, \\ and no segment . or ..")]
    NotPath(String),
    /// An address that cannot take a path.
    #[error("the url cannot take a path")]
    Url,
}

/// The requests of a target, by operation.
#[derive(Debug)]
pub struct Requests {
    url: Url,
    by_operation: BTreeMap<Operation, Request>,
    default: Request,
}

/// The request that an operation becomes.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    method: Method,
    path: Option<Vec<Part>>,
    body: Body,
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Key(String),
}

impl Requests {
    /// Makes the requests ready.
    pub fn compile(endpoint: &HttpEndpoint) -> Result<Self, Error> {
        if endpoint.url.cannot_be_a_base() {
            return Err(Error::Url);
        }
        let by_operation = endpoint
            .operations
            .iter()
            .map(|(operation, mapping)| Ok((*operation, Request::compile(mapping)?)))
            .collect::<Result<_, Error>>()?;
        let default = Request { method: Method::Post, path: None, body: Body::Event };
        Ok(Self { url: endpoint.url.clone(), by_operation, default })
    }

    /// The request for an effect. A snapshot goes as what it is to the target unless the target maps snapshots.
    pub fn request(&self, operation: Operation, effect: Effect) -> &Request {
        let of_effect = match effect {
            Effect::Create => Operation::Create,
            Effect::Update => Operation::Update,
            Effect::Delete => Operation::Delete,
        };
        let snapshot = Some(Operation::Snapshot).filter(|_| operation == Operation::Snapshot);
        let mapped = snapshot.and_then(|snapshot| self.by_operation.get(&snapshot));
        mapped.or_else(|| self.by_operation.get(&of_effect)).unwrap_or(&self.default)
    }

    /// The address of a request for a record with this key (JSON text).
    pub fn address(&self, request: &Request, key: &str) -> Result<Url, Reason> {
        let Some(parts) = &request.path else { return Ok(self.url.clone()) };
        let mut path = self.url.path().trim_end_matches('/').to_owned();
        let unreadable = |_| Reason::new("unreadable_key", "data.key");
        let key = Scanner::new(key, &limits()).and_then(|mut scanner| scanner.value()).map_err(unreadable)?;
        let members = members(key).map_err(unreadable)?;
        for part in parts {
            match part {
                Part::Text(text) => path.push_str(text),
                Part::Key(name) => {
                    let refused = |code| Reason::new(code, format!("data.key.{name}"));
                    let member = members.iter().find(|(member, _)| member == name);
                    let (_, value) = member.ok_or_else(|| refused("key_attribute_missing"))?;
                    match value.kind {
                        Kind::String => encode(&value.text().unwrap_or_default(), &mut path),
                        Kind::Number | Kind::Boolean => encode(value.raw, &mut path),
                        Kind::Null | Kind::Object | Kind::Array => {
                            return Err(refused("key_attribute_not_scalar"));
                        }
                    }
                }
            }
        }
        // A value must not lead to another resource: `..` climbs, and an empty segment names the whole collection.
        let own = path.get(self.url.path().trim_end_matches('/').len()..).unwrap_or_default();
        let ends_in_slash = matches!(parts.last(), Some(Part::Text(text)) if text.ends_with('/'));
        let own = own.strip_suffix('/').filter(|_| ends_in_slash).unwrap_or(own);
        if own.split('/').skip(1).any(climbs_or_vanishes) {
            return Err(Reason::new("key_not_fit_for_path", "data.key"));
        }
        let mut url = self.url.clone();
        url.set_path(&path);
        Ok(url)
    }
}

impl Request {
    fn compile(mapping: &RequestMapping) -> Result<Self, Error> {
        let path = mapping.path.as_deref().map(parts).transpose()?;
        Ok(Self { method: mapping.method, path, body: mapping.body })
    }

    /// The method.
    pub fn method(&self) -> Method {
        self.method
    }

    /// What it carries.
    pub fn body(&self) -> Body {
        self.body
    }

    /// Whether what several of it carry can stand in one array: no key in the address, and something of each in the body that
    /// says of which record it is.
    pub fn joins(&self) -> bool {
        let of_a_record = |part: &Part| matches!(part, Part::Key(_));
        matches!(self.body, Body::Event | Body::Attributes) && !self.path.iter().flatten().any(of_a_record)
    }
}

fn parts(path: &str) -> Result<Vec<Part>, Error> {
    if !path.starts_with('/') {
        return Err(Error::NoSlash(path.to_owned()));
    }
    let encoded_dots = path.to_ascii_lowercase().replace("%2e", ".");
    if path.contains(['?', '#', '\\']) || encoded_dots.split('/').any(|segment| matches!(segment, "." | ".."))
    {
        return Err(Error::NotPath(path.to_owned()));
    }
    let braces = || Error::Braces(path.to_owned());
    let mut parts = Vec::new();
    for (index, piece) in path.split('{').enumerate() {
        let text = if index == 0 {
            piece
        } else {
            let (name, text) =
                piece.split_once('}').filter(|(name, _)| !name.is_empty()).ok_or_else(braces)?;
            parts.push(Part::Key(name.to_owned()));
            text
        };
        if text.contains('}') {
            return Err(braces());
        }
        if !text.is_empty() {
            parts.push(Part::Text(text.to_owned()));
        }
    }
    Ok(parts)
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
fn encode(text: &str, out: &mut String) {
    use std::fmt::Write;
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

fn climbs_or_vanishes(segment: &str) -> bool {
    matches!(segment, "" | "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(url: &str, path: &str) -> Result<Requests, Error> {
        let mut endpoint = crate::delivery::test_endpoint(url);
        let mapping =
            RequestMapping { method: Method::Put, path: Some(path.to_owned()), body: Body::Attributes };
        endpoint.operations = BTreeMap::from([(Operation::Update, mapping)]);
        Requests::compile(&endpoint)
    }

    fn address(url: &str, path: &str, key: &str) -> Result<String, String> {
        let requests = requests(url, path).unwrap();
        let request = requests.request(Operation::Update, Effect::Update);
        requests.address(request, key).map(String::from).map_err(|reason| reason.code)
    }

    #[test]
    fn the_key_stands_in_the_path() {
        let check = |url, path, key, expect: &str| assert_eq!(address(url, path, key).unwrap(), expect);
        check("https://a.example/v2", "/customers/{id}", r#"{"id":42}"#, "https://a.example/v2/customers/42");
        check("https://a.example/v2/?t=1", "/c/{id}", r#"{"id":true}"#, "https://a.example/v2/c/true?t=1");
        check(
            "https://a.example",
            "/p/{sku}-{currency}/x",
            r#"{"sku":"s","currency":"EUR"}"#,
            "https://a.example/p/s-EUR/x",
        );
        check("https://a.example", "/all", "{}", "https://a.example/all");
        check("https://a.example", "/c/{id}/", r#"{"id":42}"#, "https://a.example/c/42/");
    }

    #[test]
    fn no_value_leads_to_another_resource() {
        let encoded = [
            ("a/b", "a%2Fb"),
            ("../x", "..%2Fx"),
            ("%2e%2e", "%252e%252e"),
            ("a?b#c", "a%3Fb%23c"),
            ("ä ", "%C3%A4%20"),
            ("\\", "%5C"),
            ("a.b", "a.b"),
            ("{x}", "%7Bx%7D"),
            ("\n", "%0A"),
        ];
        for (value, expect) in encoded {
            let key = format!(r#"{{"id":{}}}"#, serde_json::to_string(value).unwrap());
            assert_eq!(
                address("https://a.example", "/c/{id}", &key).unwrap(),
                format!("https://a.example/c/{expect}")
            );
        }
        for value in ["", ".", ".."] {
            let key = format!(r#"{{"id":"{value}"}}"#);
            assert_eq!(address("https://a.example", "/c/{id}", &key).unwrap_err(), "key_not_fit_for_path");
            assert_eq!(address("https://a.example", "/c/{id}/d", &key).unwrap_err(), "key_not_fit_for_path");
            assert_eq!(address("https://a.example", "/c/{id}/", &key).unwrap_err(), "key_not_fit_for_path");
        }
        assert_eq!(address("https://a.example", "/c/{id}", "{}").unwrap_err(), "key_attribute_missing");
        assert_eq!(
            address("https://a.example", "/c/{id}", r#"{"id":null}"#).unwrap_err(),
            "key_attribute_not_scalar"
        );
    }

    #[test]
    fn templates_that_cannot_be_used_are_refused() {
        for (path, expect) in [
            ("c/{id}", Error::NoSlash("c/{id}".into())),
            ("", Error::NoSlash(String::new())),
            ("/c/{id", Error::Braces("/c/{id".into())),
            ("/c/id}", Error::Braces("/c/id}".into())),
            ("/c/{}", Error::Braces("/c/{}".into())),
            ("/c?x={id}", Error::NotPath("/c?x={id}".into())),
            ("/../{id}", Error::NotPath("/../{id}".into())),
            ("/%2E%2e/{id}", Error::NotPath("/%2E%2e/{id}".into())),
        ] {
            assert_eq!(requests("https://a.example", path).unwrap_err(), expect);
        }
    }

    #[test]
    fn what_names_one_record_joins_no_array() {
        let joins = |path: Option<&str>, body| {
            let path = path.map(str::to_owned);
            Request::compile(&RequestMapping { method: Method::Post, path, body }).unwrap().joins()
        };
        for path in [None, Some("/bulk")] {
            assert!(joins(path, Body::Event) && joins(path, Body::Attributes));
            assert!(!joins(path, Body::Key) && !joins(path, Body::None));
        }
        assert!(!joins(Some("/c/{id}"), Body::Event) && !joins(Some("/c/{id}"), Body::Attributes));
    }

    #[test]
    fn what_is_not_mapped_is_posted_as_an_event() {
        let requests = requests("https://a.example/in", "/c/{id}").unwrap();
        for (operation, effect) in [(Operation::Update, Effect::Create), (Operation::Delete, Effect::Delete)]
        {
            let request = requests.request(operation, effect);
            assert_eq!((request.method(), request.body()), (Method::Post, Body::Event));
            assert_eq!(requests.address(request, "{}").unwrap().as_str(), "https://a.example/in");
        }
        let update = requests.request(Operation::Create, Effect::Update);
        assert_eq!(update.method(), Method::Put, "the effect decides, not the event's operation");
        assert_eq!(requests.request(Operation::Snapshot, Effect::Update), update);
    }
}
