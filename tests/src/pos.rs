//! The point-of-sale system: a real PostgreSQL with three tables, each captured in another way, and a day's work in them.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use serde_json::{Value, json};
use sync_cli::Arguments;
use sync_testkit::postgres::{PASSWORD, Server};
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use crate::change::RecordName;
use crate::ink::Ink;
use crate::rig::{Progress, Rig, stage};
use crate::{judge, place};

/// The role that reads.
pub const ROLE: &str = "datasync_reader";

/// A table, the source that captures it, its model, and its key as SQL writes it.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// The source.
    pub source: &'static str,
    /// The model.
    pub model: &'static str,
    /// The logical id of the function that reads it.
    pub function: &'static str,
    /// Its name in the database.
    pub table: &'static str,
    /// The columns of its key.
    pub key: &'static str,
    /// The rows that count: those that are deleted in name only do not.
    pub live: &'static str,
}

/// One table per way of capture.
pub const TABLES: [Table; 3] = [
    Table {
        source: "pos-customers",
        model: "pos_customer",
        function: "CapturePullPosCustomers",
        table: "customers",
        key: "customer_id",
        live: "true",
    },
    Table {
        source: "pos-prices",
        model: "pos_price",
        function: "CapturePullPosPrices",
        table: "prices",
        key: "sku, currency",
        live: "true",
    },
    Table {
        source: "pos-stores",
        model: "pos_store",
        function: "CapturePullPosStores",
        table: "stores",
        key: "store_id",
        live: "closed_at IS NULL",
    },
];

/// How many rows of each table stand before capture begins; what is done later touches some of them and some new ones.
const STANDING: i64 = 40;

/// The database with its rows.
pub struct PointOfSale {
    server: Server,
    client: Client,
}

impl PointOfSale {
    /// Starts it, with the rows that stand before anybody captures anything.
    pub async fn start(ink: &Ink) -> Result<Self> {
        let server =
            tokio::task::spawn_blocking(Server::start).await?.context("PostgreSQL does not start")?;
        let client = server.database("pos").await?;
        client.batch_execute(include_str!("pos.sql")).await?;
        client.batch_execute(&format!("CREATE ROLE {ROLE} LOGIN REPLICATION PASSWORD '{PASSWORD}'")).await?;
        let pos = Self { server, client };
        for number in 1..=STANDING {
            pos.customer(number, ink).await?;
            pos.price(number, ink).await?;
            pos.store(number, ink).await?;
        }
        Ok(pos)
    }

    /// What the sources' secret holds.
    pub fn url(&self) -> String {
        self.server.url_as(ROLE, "pos")
    }

    /// A session of the superuser, for those who write more.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Another one, for those who write at the same time.
    pub async fn session(&self) -> Result<Client> {
        Ok(self.server.session(&self.server.url("pos")).await?)
    }

    /// What an administrator does once: runs what `datasync sql` prints for each source.
    pub async fn prepare(&self) -> Result<()> {
        for table in TABLES {
            let script = self.server.socket().join(format!("{}.sql", table.source));
            std::fs::write(&script, administrators_sql(table.source)?)?;
            let script = script.display().to_string();
            let url = self.server.url("pos");
            self.server
                .run("psql", ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--file", &script, &url])
                .with_context(|| format!("what `datasync sql {}` prints does not run", table.source))?;
        }
        Ok(())
    }

    /// A day's work: new rows, changed ones, removed ones, a key that changes, transactions of many rows, one that is
    /// rolled back, values that are easily damaged. Gives the number of rows that were written.
    pub async fn work(&self, ink: &Ink) -> Result<u64> {
        let mut written = 0;
        for number in STANDING + 1..=STANDING + 20 {
            written += self.customer(number, ink).await?;
            written += self.price(number, ink).await?;
            written += self.store(number, ink).await?;
        }
        for statement in [
            "UPDATE customers SET balance = balance + 0.01, updated_at = now() WHERE customer_id % 3 = 0",
            "UPDATE customers SET tags = tags || ARRAY['seen'], active = NOT active WHERE customer_id % 5 = 0",
            "DELETE FROM customers WHERE customer_id % 7 = 0",
            // The key itself changes.
            "UPDATE customers SET customer_id = customer_id + 1000 WHERE customer_id % 11 = 0",
            "UPDATE prices SET amount = amount * 1.1 WHERE sku LIKE '%1'",
            "DELETE FROM prices WHERE sku LIKE '%5'",
            "INSERT INTO prices (sku, currency, amount) VALUES ('SKU-0001', 'SEK', 12) \
             ON CONFLICT (sku, currency) DO UPDATE SET amount = excluded.amount",
            "INSERT INTO prices (sku, currency, amount) VALUES ('SKU-0001', 'SEK', 13.5) \
             ON CONFLICT (sku, currency) DO UPDATE SET amount = excluded.amount",
            "UPDATE stores SET opening = jsonb_set(opening, '{sat}', '\"10-14\"') WHERE store_id % 4 = 0",
            "UPDATE stores SET closed_at = now() WHERE store_id % 9 = 0",
        ] {
            written += self.client.execute(statement, &[]).await?;
        }
        self.client
            .batch_execute("BEGIN; UPDATE customers SET balance = -1; DELETE FROM prices; ROLLBACK")
            .await?;
        // One column as large as PostgreSQL moves out of the row, and an update that does not touch it.
        let large = format!("{{\"notes\":\"{}\"}}", "x".repeat(20_000));
        written += self
            .client
            .execute("UPDATE customers SET profile = $1::text::jsonb WHERE customer_id = 1", &[&large])
            .await?;
        written += self.client.execute("UPDATE customers SET balance = 5 WHERE customer_id = 1", &[]).await?;
        Ok(written)
    }

    /// Every row that a target must hold in the end: its name, and the row as the database itself writes it as JSON.
    pub async fn rows(&self) -> Result<BTreeMap<RecordName, String>> {
        let mut rows = BTreeMap::new();
        let session = self.session().await?;
        session
            .batch_execute(
                "SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET bytea_output = 'hex'; SET extra_float_digits = 1",
            )
            .await?;
        for table in TABLES {
            let sql = format!(
                "SELECT (SELECT to_json(k) FROM (SELECT {key}) AS k)::text, to_json(t)::text FROM {name} AS t WHERE {live}",
                key = table.key,
                name = table.table,
                live = table.live,
            );
            for row in session.query(&sql, &[]).await? {
                let name = RecordName { model: table.model.to_owned(), key: row.get(0) };
                rows.insert(name, row.get(1));
            }
        }
        Ok(rows)
    }

    async fn customer(&self, number: i64, ink: &Ink) -> Result<u64> {
        let email = ink.write("pos_customer.email", "", || format!("till-{number}@example.com"));
        let phone = ink.write("pos_customer.phone", "789", || format!("+49 30 5550{number:03}"));
        let note = ink.write("pos_customer.internal_note", "", || "pays cash".to_owned());
        let words = ink.write("pos_customer.profile", "", || "none".to_owned());
        let profile = format!(r#"{{"allergies": "{words}", "points": 90071992547409931234, "rate": 1.10}}"#);
        let statement = "INSERT INTO customers (customer_id, email, phone, born, balance, tags, profile, internal_note) \
             VALUES ($1, $2, $3, date '1970-01-01' + $1::bigint::int, 1.10 * $1::bigint, ARRAY['new', 'a\"b', NULL], $4::text::jsonb, $5)";
        let values: [&(dyn ToSql + Sync); 5] = [&number, &email, &phone, &profile, &note];
        Ok(self.client.execute(statement, &values).await?)
    }

    async fn price(&self, number: i64, ink: &Ink) -> Result<u64> {
        let note = ink.write("pos_price.internal_note", "", || "negotiated".to_owned());
        let sku = format!("SKU-{number:04}");
        let statement = "INSERT INTO prices (sku, currency, amount, valid_on, purchase_amount, internal_note) \
             VALUES ($1, 'EUR', $2::bigint + 0.1000, daterange('2026-01-01', NULL), 0.5, $3)";
        Ok(self.client.execute(statement, &[&sku, &number, &note]).await?)
    }

    async fn store(&self, number: i64, ink: &Ink) -> Result<u64> {
        let email = ink.write("pos_store.manager_email", "", || format!("store-{number}@example.com"));
        let note = ink.write("pos_store.internal_note", "", || "alarm code on file".to_owned());
        let store = i32::try_from(number)?;
        let statement = "INSERT INTO stores (store_id, name, city, opening, floor_area, manager_email, internal_note) \
             VALUES ($1, 'Store ' || $1::int, 'Köln', '{\"mon\": \"8-20\"}', 0.1 + $1::int, $2, $3)";
        Ok(self.client.execute(statement, &[&store, &email, &note]).await?)
    }
}

/// Captures a day's work: the first poll of each table marks where capture begins; then the work, further polls and
/// the load of what stood there before go on side by side, until the warehouse holds what the database does.
pub async fn day(rig: &Rig, ink: &Ink, progress: &dyn Progress) -> Result<()> {
    stage(progress, "point of sale: begin to read three tables", async {
        for table in TABLES {
            poll(rig, table).await?;
        }
        Ok(((), "by transaction log, by trigger, by timestamp".to_owned()))
    })
    .await?;
    stage(progress, "point of sale: work while the old rows are loaded", async {
        let (written, loaded) = tokio::try_join!(rig.pos.work(ink), load(rig))?;
        Ok(((), format!("{written} rows written, {loaded} loaded")))
    })
    .await?;
    stage(progress, "wait until the warehouse has them", async {
        let start = Instant::now();
        loop {
            for table in TABLES {
                poll(rig, table).await?;
            }
            let missing = judge::at_rest(rig, &rig.pos).await?;
            if missing.is_empty() {
                return Ok(((), format!("{} rows", rig.pos.rows().await?.len())));
            }
            if start.elapsed() > PATIENCE {
                // What is wrong is told by the judge in the end.
                return Ok(((), format!("{} differences", missing.len())));
            }
        }
    })
    .await
}

/// How long the warehouse may take to have everything.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lets a table's function read once what there is.
async fn poll(rig: &Rig, table: Table) -> Result<()> {
    let answer = invoke(rig, table, &json!({ "source": table.source, "run_for": "0s" })).await?;
    match answer["ended"].as_str() {
        Some("done" | "busy") => Ok(()),
        _ => bail!("{} does not read: {answer}", table.function),
    }
}

/// Loads all rows of all tables, as `datasync backfill` does.
async fn load(rig: &Rig) -> Result<u64> {
    let mut rows = 0;
    for table in TABLES {
        let backfill = json!({ "model": table.model, "run": format!("demo-{}", std::process::id()) });
        let payload = json!({ "source": table.source, "work": { "backfill": backfill } });
        rows += loop {
            let answer = invoke(rig, table, &payload).await?;
            match answer["state"].as_str() {
                Some("done") => break answer["rows"].as_u64().unwrap_or_default(),
                Some("running" | "waiting" | "busy") => poll(rig, table).await?,
                _ => bail!("the load of {} does not go on: {answer}", table.model),
            }
        };
    }
    Ok(rows)
}

async fn invoke(rig: &Rig, table: Table, payload: &Value) -> Result<Value> {
    let function = rig.stack.resource(table.function)?;
    rig.aws().lambda("POST", &format!("/2015-03-31/functions/{function}/invocations"), payload).await
}

/// What `datasync sql` prints.
fn administrators_sql(source: &str) -> Result<String> {
    let config = place::root().join("infra/layer/sync").display().to_string();
    let words = ["datasync", "sql", source, "--role", ROLE, "--config", &config];
    let arguments = Arguments::try_parse_from(words).context("datasync has no such command")?;
    let mut printed = Vec::new();
    sync_cli::run(&arguments, &mut io::empty(), &mut printed)
        .with_context(|| format!("`datasync sql {source}` fails"))?;
    Ok(String::from_utf8(printed)?)
}
