//! A model's look-up, compiled from its YAML.

use std::collections::BTreeMap;
use std::time::Duration;

use sync_domain::config::{Absent, ApiKey, Enrich, parse_duration};
use sync_domain::outcome::Reason;
use sync_http::{Client, Guard};

use crate::answer::Answer;
use crate::question::{self, Question, Template};

/// How long one request may take where the model does not say.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How long an answer may be used again where the model does not say.
const AGE: Duration = Duration::from_secs(60);

/// A look-up that cannot serve. `datasync validate` finds the same before a deploy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Neither or both kinds.
    #[error("a look-up has either http or dynamodb")]
    Kind,
    /// The address does not serve.
    #[error("http.url: {0}")]
    Url(#[from] question::Error),
    /// Not a duration.
    #[error("{0} is not a duration")]
    Duration(&'static str),
    /// Not a network.
    #[error("http.allow_networks has an entry that is no network")]
    Network,
    /// The key of the table has no attribute.
    #[error("dynamodb.key is empty")]
    Key,
}

/// A look-up as it runs.
#[derive(Debug, Clone)]
pub struct Lookup {
    /// Where to ask.
    pub place: Place,
    /// How long an answer may be used again.
    pub age: Duration,
    /// From attribute to path in the answer.
    pub set: BTreeMap<String, String>,
    /// What a record that the other system does not know gets.
    pub absent: Absent,
}

/// Where to ask.
#[derive(Debug, Clone)]
pub enum Place {
    /// An HTTP service.
    Http(Box<Http>),
    /// A DynamoDB table.
    Table {
        /// Its name.
        name: String,
        /// From the table's key attribute to the record's.
        key: BTreeMap<String, String>,
    },
}

/// An HTTP service.
#[derive(Debug, Clone)]
pub struct Http {
    /// The address.
    pub template: Template,
    /// A secret to send as a header.
    pub api_key: Option<ApiKey>,
    /// For one request.
    pub timeout: Duration,
    /// Sends the requests; its guard knows the private networks that the model allows.
    pub client: Client,
}

impl Lookup {
    /// Compiles the `enrich` part of a model. `allow_loopback` lets HTTP look-ups go to this machine.
    pub fn compile(enrich: &Enrich, allow_loopback: bool) -> Result<Self, Error> {
        let (place, cache, set) = match (&enrich.http, &enrich.dynamodb) {
            (Some(http), None) => {
                let networks = http.allow_networks.iter().map(|network| network.parse());
                let allow_networks = networks.collect::<Result<_, _>>().map_err(|_| Error::Network)?;
                let place = Place::Http(Box::new(Http {
                    template: Template::parse(&http.url)?,
                    api_key: http.api_key.clone(),
                    timeout: duration(http.timeout.as_deref(), TIMEOUT, "http.timeout")?,
                    client: Client::new(Guard { allow_loopback, allow_networks, ..Guard::default() }),
                }));
                (place, duration(http.cache.as_deref(), AGE, "http.cache")?, &http.set)
            }
            (None, Some(table)) if table.key.is_empty() => return Err(Error::Key),
            (None, Some(table)) => {
                let place = Place::Table { name: table.table.clone(), key: table.key.clone() };
                (place, duration(table.cache.as_deref(), AGE, "dynamodb.cache")?, &table.set)
            }
            _ => return Err(Error::Kind),
        };
        Ok(Self { place, age: cache, set: set.clone(), absent: enrich.absent })
    }

    /// What to ask for a record (the protected one of the event; what is asked by is clear in it). None = nobody can know it.
    pub fn question(&self, record: &str) -> Result<Option<Question>, Reason> {
        match &self.place {
            Place::Http(http) => Question::http(&http.template, record),
            Place::Table { key, .. } => {
                Question::table(key.iter().map(|(name, path)| (name.as_str(), path.as_str())), record)
            }
        }
    }

    /// What the answer sets: pairs of attribute and JSON text. A record that is not known gets nulls, or is refused.
    pub fn additions(&self, answer: &Answer) -> Result<Vec<(String, String)>, Reason> {
        match (answer, self.absent) {
            (Answer::Found(values), _) => Ok(values.clone()),
            (Answer::Absent, Absent::Null) => {
                Ok(self.set.keys().map(|attribute| (attribute.clone(), "null".to_owned())).collect())
            }
            (Answer::Absent, Absent::Refuse) => Err(Reason::new("lookup_absent", "")),
        }
    }
}

fn duration(text: Option<&str>, default: Duration, name: &'static str) -> Result<Duration, Error> {
    text.map_or(Ok(default), |text| parse_duration(text).map_err(|_| Error::Duration(name)))
}

#[cfg(test)]
mod tests {
    use sync_domain::config::{HttpLookup, TableLookup};

    use super::*;

    fn http(url: &str) -> HttpLookup {
        HttpLookup {
            url: url.to_owned(),
            api_key: None,
            timeout: None,
            cache: None,
            set: BTreeMap::from([("segment".to_owned(), "segment".to_owned())]),
            allow_networks: Vec::new(),
        }
    }

    fn compile(http: Option<HttpLookup>, dynamodb: Option<TableLookup>) -> Result<Lookup, Error> {
        Lookup::compile(&Enrich { when: None, http, dynamodb, absent: Absent::Null }, false)
    }

    #[test]
    fn defaults_stand_in_for_what_the_model_does_not_say() {
        let lookup = compile(Some(http("https://host/{id}")), None).unwrap();
        let Place::Http(place) = &lookup.place else { panic!("http") };
        assert_eq!((place.timeout, lookup.age), (TIMEOUT, AGE));
        let said = HttpLookup {
            timeout: Some("500ms".to_owned()),
            cache: Some("0s".to_owned()),
            ..http("https://host/{id}")
        };
        let lookup = compile(Some(said), None).unwrap();
        let Place::Http(place) = &lookup.place else { panic!("http") };
        assert_eq!((place.timeout, lookup.age), (Duration::from_millis(500), Duration::ZERO));
    }

    #[test]
    fn what_cannot_serve_is_named() {
        let table = |key| TableLookup { table: "t".to_owned(), key, cache: None, set: BTreeMap::new() };
        let key = BTreeMap::from([("pk".to_owned(), "id".to_owned())]);
        assert_eq!(compile(None, None).unwrap_err(), Error::Kind);
        assert_eq!(
            compile(Some(http("https://host/{id}")), Some(table(key.clone()))).unwrap_err(),
            Error::Kind
        );
        assert_eq!(compile(None, Some(table(BTreeMap::new()))).unwrap_err(), Error::Key);
        assert!(compile(None, Some(table(key))).is_ok());
        assert_eq!(
            compile(Some(http("https://{id}/")), None).unwrap_err(),
            Error::Url(question::Error::Address)
        );
        let bad = HttpLookup { timeout: Some("fast".to_owned()), ..http("https://host/") };
        assert_eq!(compile(Some(bad), None).unwrap_err(), Error::Duration("http.timeout"));
        let bad = HttpLookup { allow_networks: vec!["10.0.0.0".to_owned()], ..http("https://host/") };
        assert_eq!(compile(Some(bad), None).unwrap_err(), Error::Network);
    }

    #[test]
    fn a_record_that_is_not_known_gets_nulls_or_is_refused_as_the_model_says() {
        let lookup = compile(Some(http("https://host/{id}")), None).unwrap();
        let null = vec![("segment".to_owned(), "null".to_owned())];
        assert_eq!(lookup.additions(&Answer::Absent), Ok(null));
        let strict = Lookup { absent: Absent::Refuse, ..lookup };
        assert_eq!(strict.additions(&Answer::Absent), Err(Reason::new("lookup_absent", "")));
        let found = vec![("segment".to_owned(), "\"a\"".to_owned())];
        assert_eq!(strict.additions(&Answer::Found(found.clone())), Ok(found));
    }
}
