//! A working day of three source systems: customers of a CRM, prices and stores of a shop, settings of a back office.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

use crate::change::{Change, Counter, Fate, RecordName, Request, time};
use crate::ink::Ink;
use crate::{lookup, raw};

const FIRST_NAMES: &[&str] = &[
    "Anna", "Björn", "Chloé", "Dmitri", "Élodie", "Fatma", "Giulia", "浩", "İpek", "Jürgen", "Käthe",
    "Łukasz", "Mónica", "Nguyễn", "Oisín", "Þóra", "Quirin", "Renée", "Søren", "O'Neil",
];
const LAST_NAMES: &[&str] =
    &["Schmidt", "Ångström", "de la Cruz", "佐藤", "Müller-Lüdenscheidt", "Öz", "Ivanov", "Quote\"d"];
const CITIES: &[(&str, &str)] =
    &[("Köln", "DE"), ("Malmö", "SE"), ("Łódź", "PL"), ("Izmir", "TR"), ("Saint-Étienne", "FR")];
const TIERS: &[&str] = &["bronze", "silver", "gold", "platinum"];

/// Numbers that a parser into floats would change.
const AMOUNTS: &[&str] = &[
    "19.90",
    "1.10",
    "0.1000",
    "9007199254740993.00",
    "99999999999999999999999999999999999.99",
    "-0.01",
    "5e-7",
    "120",
];

/// What a customer is asked for and what nobody may see of it.
pub const PREFERENCES: &str = r#"{"newsletter":true,"score":1.10,"points":90071992547409931234567890123456789012,"huge":1e400,"tags":["a","\u00fc \/ ü"],"none":null}"#;

/// The name of the setting that the warehouse refuses.
pub const REFUSED_SETTING: &str = "refused-by-warehouse";

/// The day's parts, in the order in which they are sent.
#[derive(Debug)]
pub struct Workload {
    /// Everything is new.
    pub opening: Vec<Request>,
    /// Changes of all kinds; the loyalty programme is down meanwhile.
    pub outage: Vec<Request>,
    /// Good changes among bad ones.
    pub refusals: Vec<Request>,
    /// Records that cannot go on, and the good ones behind them.
    pub failures: Vec<Request>,
    /// Deletions, late versions, moved keys, copies.
    pub closing: Vec<Request>,
}

impl Workload {
    /// All requests in order.
    pub fn requests(&self) -> impl Iterator<Item = &Request> {
        [&self.opening, &self.outage, &self.refusals, &self.failures, &self.closing].into_iter().flatten()
    }
}

/// How many records of each kind.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Customers.
    pub customers: u64,
    /// Articles; each has two prices.
    pub articles: u64,
}

impl Default for Size {
    fn default() -> Self {
        Self { customers: 60, articles: 12 }
    }
}

/// Makes the day.
pub fn workload(size: Size, ink: &Ink) -> Result<Workload> {
    if size.customers < 40 || size.articles < 4 {
        bail!("the day needs 40 customers and 4 articles");
    }
    let mut day = Day::new(ink);
    Ok(Workload {
        opening: day.opening(size)?,
        outage: day.outage()?,
        refusals: day.refusals()?,
        failures: day.failures()?,
        closing: day.closing(size)?,
    })
}

/// The records as the sources know them.
struct Day<'a> {
    ink: &'a Ink,
    records: BTreeMap<RecordName, Known>,
    clock: u64,
}

#[derive(Clone)]
struct Known {
    counter: u64,
    record: String,
}

/// Which operation, and with which `before`.
#[derive(Clone, Copy, PartialEq)]
enum How {
    Create,
    Update,
    UpdateBlind,
    Delete,
    Snapshot,
}

impl<'a> Day<'a> {
    fn new(ink: &'a Ink) -> Self {
        let hour_ago = jiff::Timestamp::now().as_microsecond() - 3_600_000_000;
        Self { ink, records: BTreeMap::new(), clock: u64::try_from(hour_ago).unwrap_or_default() }
    }

    /// The next time, a little later than the last.
    fn tick(&mut self) -> u64 {
        self.clock += 1_017_001;
        self.clock
    }

    /// The next change of a record: the version grows, `before` is what the source had.
    fn change(
        &mut self,
        source: &'static str,
        model: &'static str,
        key: &str,
        how: How,
        after: Option<String>,
    ) -> Result<Change> {
        let now = self.tick();
        let name = RecordName { model: model.to_owned(), key: key.to_owned() };
        let known = self.records.get(&name).cloned();
        let counter = if source == "crm" { now } else { known.as_ref().map_or(1, |known| known.counter + 1) };
        let record = after.clone().or_else(|| known.as_ref().map(|known| known.record.clone()));
        self.records.insert(name, Known { counter, record: record.context("the record was never created")? });
        Ok(Change {
            source,
            model,
            operation: match how {
                How::Create => "create",
                How::Update | How::UpdateBlind => "update",
                How::Delete => "delete",
                How::Snapshot => "snapshot",
            },
            key: key.to_owned(),
            counter: match source {
                // Both spellings that the contract allows.
                "crm" if counter % 2 == 0 => Counter::Time(counter),
                "shop" if counter % 2 == 0 => Counter::Quoted(counter),
                "backoffice" => Counter::Arrival,
                _ => Counter::Number(counter),
            },
            occurred_at: time(now)?,
            before: known.map(|known| known.record).filter(|_| matches!(how, How::Update | How::Delete)),
            after,
            fate: Fate::Flows,
        })
    }

    fn known(&self, model: &str, key: &str) -> Result<String> {
        let name = RecordName { model: model.to_owned(), key: key.to_owned() };
        Ok(self.records.get(&name).with_context(|| format!("no {model} {key}"))?.record.clone())
    }

    fn customer(&mut self, number: u64, how: How, after: Option<String>) -> Result<Change> {
        self.change("crm", "customer", &customer_key(number), how, after)
    }

    /// A customer with some attributes changed.
    fn edit(&mut self, number: u64, how: How, edits: &[(&str, String)]) -> Result<Change> {
        let mut record = self.known("customer", &customer_key(number))?;
        for (name, value) in edits {
            record = raw::with(&record, name, value)?;
        }
        self.customer(number, how, Some(record))
    }

    fn email(&self, number: u64, word: &str) -> String {
        raw::string(&self.ink.write("email", "@example.com", || format!("{word}.{number}@example.com")))
    }

    fn new_customer(&self, number: u64) -> String {
        let pick = |list: &[&str], step: u64| {
            list[usize::try_from(number / step).unwrap_or_default() % list.len()].to_owned()
        };
        let (first, last) = (pick(FIRST_NAMES, 1), pick(LAST_NAMES, 3));
        let (city, country) = CITIES[usize::try_from(number).unwrap_or_default() % CITIES.len()];
        let ink = |attribute: &str, tail: &str, life: String| {
            raw::string(&self.ink.write(attribute, tail, || life))
        };
        let contact = |kind: &str, value: String| {
            let value = ink("contacts[].value", "07", value);
            let label = ink("contacts[].label", "", "call after five".to_owned());
            format!(r#"{{"kind":"{kind}","value":{value},"label":{label}}}"#)
        };
        let contacts = match number % 3 {
            0 => String::new(),
            1 => contact("fax", format!("+49 221 55{number:04}")),
            _ => format!(
                "{},{}",
                contact("work", format!("+46 40 12{number:04}")),
                contact("messenger", format!("@user{number}"))
            ),
        };
        let birth_date =
            ink("birth_date", "", format!("19{:02}-0{}-1{}", 50 + number % 50, 1 + number % 9, number % 9));
        format!(
            r#"{{"customer_id":{number},"email":{},"phone":{},"national_id":{},"birth_date":{birth_date},"name":{{"first":{},"last":{},"maiden":{}}},"address":{{"street":{},"city":{},"country":"{country}"}},"tier":"{}","contacts":[{contacts}],"preferences":{PREFERENCES},"notes":{},"password_hint":{}}}"#,
            self.email(number, "first"),
            ink("phone", "4711", format!("+49 170 {:07}", 1_234_567 + number * 7)),
            ink("national_id", "", format!("ID-{:09}", 900_000_001 - number * 13)),
            raw::string(&first),
            raw::string(&last),
            ink("name.maiden", "", "Unlisted".to_owned()),
            ink("address.street", "", format!("Ringstraße {number}")),
            raw::string(city),
            pick(TIERS, 1),
            ink("notes", "", "likes to be called back".to_owned()),
            ink("password_hint", "", "the dog".to_owned()),
        )
    }

    fn price(&mut self, sku: &str, currency: &str, how: How, amount: &str) -> Result<Change> {
        let key = format!(r#"{{"sku":"{sku}","currency":"{currency}"}}"#);
        let margin = raw::string(&self.ink.write("margin", "", || "0.31".to_owned()));
        let after = format!(
            r#"{{"sku":"{sku}","currency":"{currency}","amount":{amount},"valid_from":"2026-11-24T00:00:00+01:00","margin":{margin}}}"#
        );
        self.change("shop", "price", &key, how, Some(after))
    }

    fn store(&mut self, number: u64, how: How, code: &str) -> Result<Change> {
        let id = format!("S-{number:03}");
        let (city, country) = CITIES[usize::try_from(number).unwrap_or_default() % CITIES.len()];
        let rent = raw::string(&self.ink.write("rent", "", || "4200".to_owned()));
        let after = format!(
            r#"{{"store_id":"{id}","name":"Store {number} \u2013 {city}","address":{{"city":"{city}","country":"{country}"}},"opening":{{"mon-sat":["08:00","20:00"],"sun":null,"factor":1.50}},"format_code":"{code}","rent":{rent}}}"#
        );
        self.change("shop", "store", &format!(r#"{{"store_id":"{id}"}}"#), how, Some(after))
    }

    fn setting(&mut self, name: &str, how: How, value: &str) -> Result<Change> {
        let by = raw::string(&self.ink.write("changed_by", "", || "sysop".to_owned()));
        let after = format!(r#"{{"name":"{name}","value":{value},"changed_by":{by}}}"#);
        self.change("backoffice", "setting", &format!(r#"{{"name":"{name}"}}"#), how, Some(after))
    }

    fn opening(&mut self, size: Size) -> Result<Vec<Request>> {
        let mut shop = Vec::new();
        for (number, code) in ["S", "M", "L", "XL", "S", "M"].into_iter().enumerate() {
            shop.push(self.store(number as u64 + 1, How::Create, code)?);
        }
        for article in 0..size.articles {
            for currency in ["EUR", "SEK"] {
                let amount = AMOUNTS[usize::try_from(article)? % AMOUNTS.len()];
                shop.push(self.price(&format!("SKU-{article:04}"), currency, How::Create, amount)?);
            }
        }
        let settings = vec![
            self.setting("free-shipping-from", How::Create, "49.00")?,
            self.setting("banner", How::Create, r#""Weihnachten \ud83c\udf84 \u2013 jetzt""#)?,
            self.setting("carriers", How::Create, r#"["dhl",{"name":"postnord","cut-off":"16:30"}]"#)?,
            self.setting("returns-enabled", How::Create, "true")?,
            self.setting(REFUSED_SETTING, How::Create, r#""fine""#)?,
        ];
        let mut customers = Vec::new();
        for number in 1..=size.customers {
            let record = self.new_customer(number);
            customers.push(self.customer(number, How::Create, Some(record))?);
        }
        let record = self.new_customer(lookup::UNKNOWN_CUSTOMER);
        let record = raw::with(&record, "tier", "\"gold\"")?;
        customers.push(self.customer(lookup::UNKNOWN_CUSTOMER, How::Create, Some(record))?);
        let mut requests = in_requests("crm", customers, 20);
        requests.extend(in_requests("shop", shop, 25));
        requests.extend(in_requests("backoffice", settings, 10));
        Ok(requests)
    }

    fn outage(&mut self) -> Result<Vec<Request>> {
        let mut customers = Vec::new();
        // Something that the loyalty programme shows.
        for number in 1..=8 {
            let email = self.email(number, "second");
            customers.push(self.edit(number, How::Update, &[("email", email)])?);
        }
        // Again, so that the order counts.
        for number in 1..=4 {
            let email = self.email(number, "third");
            customers.push(self.edit(
                number,
                How::Update,
                &[("email", email), ("tier", "\"silver\"".to_owned())],
            )?);
        }
        // Only the city: the loyalty programme did not ask for that.
        for number in 9..=14 {
            let address = format!(r#"{{"street":"-","city":"Neustadt {number}","country":"AT"}}"#);
            customers.push(self.edit(number, How::Update, &[("address", address)])?);
        }
        // The same without saying what was before: to the loyalty programme there is nothing new.
        for number in 15..=18 {
            let address = format!(r#"{{"street":"-","city":"Altstadt {number}","country":"CH"}}"#);
            customers.push(self.edit(number, How::UpdateBlind, &[("address", address)])?);
        }
        // Nothing at all changed, said and unsaid.
        for (number, how) in [(19, How::Update), (20, How::UpdateBlind)] {
            customers.push(self.edit(number, how, &[])?);
        }
        // Only what is not listed.
        let notes = raw::string(&self.ink.write("notes", "", || "moved".to_owned()));
        customers.push(self.edit(21, How::UpdateBlind, &[("notes", notes)])?);
        // Now looked up, and not any more.
        customers.push(self.edit(24, How::Update, &[("tier", "\"platinum\"".to_owned())])?);
        customers.push(self.edit(22, How::Update, &[("tier", "\"bronze\"".to_owned())])?);
        // What a customer may lack.
        let null = || "null".to_owned();
        customers.push(self.edit(
            25,
            How::Update,
            &[("phone", null()), ("national_id", null()), ("contacts", null())],
        )?);

        let mut requests = in_requests("crm", customers, 10);
        for round in 0..4 {
            let mut prices = Vec::new();
            // One record that everybody writes.
            for step in 0..5 {
                prices.push(self.price(
                    "SKU-0001",
                    "EUR",
                    How::Update,
                    &format!("{}.{:02}", 20 + round, step * 10),
                )?);
            }
            prices.push(self.price(
                &format!("SKU-{round:04}"),
                "SEK",
                How::Update,
                &format!("2{round}5.00"),
            )?);
            requests.push(Request { source: "shop", changes: prices });
            let value = format!("{}.00", 50 + round);
            let setting = self.setting("free-shipping-from", How::Update, &value)?;
            requests.push(Request { source: "backoffice", changes: vec![setting] });
        }
        Ok(requests)
    }

    fn refusals(&mut self) -> Result<Vec<Request>> {
        let refused = |change: &Change, code: &'static str, edit: &dyn Fn(&mut Change)| {
            let mut change = Change { fate: Fate::Refused(code), ..change.clone() };
            edit(&mut change);
            change
        };
        let good = self.edit(26, How::Update, &[("tier", "\"diamond\"".to_owned())])?;
        let other = self.edit(27, How::Update, &[("tier", "\"gold\"".to_owned())])?;
        let ahead = u64::try_from(jiff::Timestamp::now().as_microsecond())? + 3_600_000_000;
        let crm = vec![
            refused(&good, "unknown_model", &|change| change.model = "client"),
            good.clone(),
            refused(&good, "forbidden_model", &|change| change.model = "price"),
            refused(&good, "invalid_version", &|change| change.counter = Counter::Broken("\"yesterday\"")),
            refused(&good, "version_ahead", &|change| change.counter = Counter::Time(ahead)),
            refused(&good, "missing_version", &|change| change.counter = Counter::Arrival),
            refused(&good, "key_mismatch", &|change| change.key = customer_key(28)),
            refused(&good, "key_value", &|change| change.key = r#"{"customer_id":null}"#.to_owned()),
            refused(&good, "missing_after", &|change| change.after = None),
            refused(&good, "key_changed", &|change| change.before = Some(r#"{"customer_id":1}"#.to_owned())),
            refused(&good, "unknown_operation", &|change| change.operation = "upsert"),
            other,
        ];
        let price = self.price("SKU-0002", "EUR", How::Update, "7.77")?;
        let shop = vec![
            refused(&price, "invalid_version", &|change| change.counter = Counter::Broken("1.5")),
            price,
        ];
        Ok(vec![Request { source: "crm", changes: crm }, Request { source: "shop", changes: shop }])
    }

    fn failures(&mut self) -> Result<Vec<Request>> {
        let mut requests = Vec::new();
        let mut customers = Vec::new();
        // A type that the policy does not know for this attribute: it cannot be protected, so it cannot go on.
        for number in [29, 30] {
            let before = self.known("customer", &customer_key(number))?;
            let mut change = self.edit(
                number,
                How::UpdateBlind,
                &[("email", format!("{{\"address\":{}}}", self.email(number, "odd")))],
            )?;
            change.fate = Fate::Fails("transform", "type_mismatch");
            customers.push(change);
            // What comes behind it is not held up.
            let email = self.email(number, "behind");
            let good = raw::with(&before, "email", &email)?;
            customers.push(self.customer(number, How::UpdateBlind, Some(good))?);
        }
        requests.push(Request { source: "crm", changes: customers });

        let mut shop = Vec::new();
        let mut price = self.price("SKU-0003", "EUR", How::UpdateBlind, r#""cheap""#)?;
        price.fate = Fate::Fails("transform", "type_mismatch");
        shop.push(price);
        shop.push(self.price("SKU-0003", "EUR", How::UpdateBlind, "3.33")?);
        // Two systems count the same record: one version, two contents.
        let first = self.store(5, How::Update, "M")?;
        let mut second = Change { operation: "create", before: None, ..first.clone() };
        second.after = Some(raw::with(first.after.as_deref().unwrap_or("{}"), "format_code", "\"L\"")?);
        shop.extend([first, second]);
        requests.push(Request { source: "shop", changes: shop });

        let mut refused = self.setting(REFUSED_SETTING, How::UpdateBlind, r#""poison""#)?;
        refused.fate = Fate::Fails("deliver", "refused_by_target");
        let behind = self.setting(REFUSED_SETTING, How::UpdateBlind, r#""fine again""#)?;
        requests.push(Request { source: "backoffice", changes: vec![refused, behind] });
        Ok(requests)
    }

    fn closing(&mut self, size: Size) -> Result<Vec<Request>> {
        let mut customers = Vec::new();
        // A version that was held up somewhere and comes late.
        for number in [1, 2] {
            let late = self.edit(number, How::UpdateBlind, &[("email", self.email(number, "late"))])?;
            let email = self.email(number, "newest");
            customers.push(self.edit(number, How::Update, &[("email", email)])?);
            customers.push(late);
        }
        for number in 31..=36 {
            customers.push(self.customer(number, How::Delete, None)?);
        }
        // Deleted and back again.
        let record = self.new_customer(31);
        customers.push(self.customer(31, How::Create, Some(record))?);
        // A changed key is a deletion and a creation.
        let moved = self.known("customer", &customer_key(37))?;
        customers.push(self.customer(37, How::Delete, None)?);
        let number = size.customers + 1_000;
        let moved = raw::with(&moved, "customer_id", &number.to_string())?;
        customers.push(self.customer(number, How::Create, Some(moved))?);
        // Read again by a backfill: one as it was, one that differs.
        customers.push(self.edit(38, How::Snapshot, &[])?);
        customers.push(self.edit(39, How::Snapshot, &[("tier", "\"diamond\"".to_owned())])?);

        let mut shop = vec![self.store(1, How::Snapshot, "S")?, self.store(2, How::Snapshot, "L")?];
        let key = r#"{"sku":"SKU-0000","currency":"SEK"}"#;
        shop.push(self.change("shop", "price", key, How::Delete, None)?);
        let mut requests = in_requests("crm", customers, 8);
        requests.push(Request { source: "shop", changes: shop });
        let key = r#"{"name":"banner"}"#;
        let gone = self.change("backoffice", "setting", key, How::Delete, None)?;
        requests.push(Request { source: "backoffice", changes: vec![gone] });
        Ok(requests)
    }
}

fn customer_key(number: u64) -> String {
    format!(r#"{{"customer_id":{number}}}"#)
}

fn in_requests(source: &'static str, changes: Vec<Change>, most: usize) -> Vec<Request> {
    let mut requests = Vec::new();
    let mut changes = changes.into_iter().peekable();
    while changes.peek().is_some() {
        requests.push(Request { source, changes: changes.by_ref().take(most).collect() });
    }
    requests
}
