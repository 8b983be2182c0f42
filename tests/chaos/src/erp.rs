//! A database that others read and write: two tables, writers, and how it differs from what was captured.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sync_testkit::postgres::{PASSWORD, Server};
use sync_tests::raw;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use sync_testkit::Dice;

/// The rows that writers write; those below are left to the test.
const WRITTEN: std::ops::RangeInclusive<u64> = 101..=260;

/// The role of Debezium, the tables, their first rows.
const TABLES: &str = include_str!("erp.sql");

/// What only the messages have or only the tables, compared in types of the database.
const DIFFERENCES: &str = "
WITH held AS (
    SELECT model, key, raw::json AS x FROM unnest($1::text[], $2::text[], $3::text[]) AS m (model, key, raw)
), people_held AS (
    SELECT key, (x->>'id')::bigint, x->>'email', x->>'tier', x->>'balance', x->>'biography', (x->>'details')::jsonb,
        (x->>'seen')::timestamptz, decode(x->>'photo', 'base64'), NULLIF((x->'tags')::jsonb, 'null'),
        (x->>'score')::double precision, (x->>'span')::interval
    FROM held WHERE model = 'person'
), people_there AS (
    SELECT format('{\"id\":%s}', id), id, email, tier, balance::text, biography, details, seen, photo, to_jsonb(tags),
        score, span
    FROM people
), orders_held AS (
    SELECT key, x->>'region', (x->>'id')::integer, x->>'total', (x->>'ordered')::timestamp
    FROM held WHERE model = 'order'
), orders_there AS (
    SELECT format('{\"region\":%s,\"id\":%s}', to_json(region), id), region, id, total::text, ordered FROM orders
), wrong_people AS (
    (TABLE people_held EXCEPT ALL TABLE people_there) UNION ALL (TABLE people_there EXCEPT ALL TABLE people_held)
), wrong_orders AS (
    (TABLE orders_held EXCEPT ALL TABLE orders_there) UNION ALL (TABLE orders_there EXCEPT ALL TABLE orders_held)
)
SELECT left(p::text, 200) FROM wrong_people AS p UNION ALL SELECT left(o::text, 200) FROM wrong_orders AS o ORDER BY 1
";

/// The running database.
pub struct Erp {
    /// The cluster; the database is `erp`.
    pub server: Server,
    client: Client,
}

impl Erp {
    /// Starts it with its first rows.
    pub async fn start() -> Result<Self> {
        let server = Server::start()?;
        let client = server.database("erp").await?;
        client.batch_execute(&TABLES.replace("{PASSWORD}", PASSWORD)).await?;
        Ok(Self { server, client })
    }

    /// The session of whoever changes something by itself.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// A session more.
    pub async fn session(&self) -> Result<Client> {
        Ok(self.server.client("erp").await?)
    }

    /// Begins a transaction in a session and runs the statements in it; answers with its id.
    pub async fn begin(session: &Client, statements: &str) -> Result<String> {
        session.batch_execute(&format!("BEGIN; {statements}")).await?;
        Ok(session.query_one("SELECT pg_current_xact_id()::xid::text", &[]).await?.get(0))
    }

    /// Waits until somebody waits for a lock: `transactionid` of this id, or `advisory` of this number.
    pub async fn wait_for_waiter(&self, kind: &str, id: &str) -> Result<()> {
        let sql = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = $1 AND $2 IN (transactionid::text, objid::text)";
        let until = Instant::now() + Duration::from_secs(120);
        while self.client.query_one(sql, &[&kind, &id]).await?.get::<_, i64>(0) == 0 {
            if Instant::now() > until {
                bail!("nobody waits for {kind} {id}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Starts a session that writes so many transactions.
    pub async fn writer(&self, transactions: u64, dice: Dice) -> Result<JoinHandle<Result<u64>>> {
        Ok(tokio::spawn(write(self.session().await?, transactions, dice)))
    }

    /// What differs between the tables and the newest version of each record in the messages: the rows, and versions that
    /// stand for two contents.
    pub async fn differences(&self, changes: &[String]) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        let mut newest: BTreeMap<(String, String), (String, String)> = BTreeMap::new();
        for change in changes {
            let at = |path: &str| raw::at(change, path)?.with_context(|| format!("a change has no {path}"));
            let record = (raw::text(at("model")?)?, at("key")?.to_owned());
            let (version, after) =
                (raw::text(at("version")?)?, raw::at(change, "after")?.unwrap_or("null").to_owned());
            match newest.get(&record) {
                Some((known, _)) if *known > version => {}
                Some((known, content)) if *known == version => {
                    if *content != after {
                        wrong.push(format!("{record:?}: {version} has two contents"));
                    }
                }
                _ => drop(newest.insert(record, (version, after))),
            }
        }
        newest.retain(|_, (_, after)| after != "null");
        let (mut models, mut keys, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for ((model, key), (_, after)) in newest {
            models.push(model);
            keys.push(key);
            rows.push(after);
        }
        let found = self.client.query(DIFFERENCES, &[&models, &keys, &rows]).await?;
        wrong.extend(found.iter().map(|row| row.get::<_, String>(0)));
        Ok(wrong)
    }
}

/// Writes transactions; answers with how many of them were committed.
async fn write(client: Client, transactions: u64, mut dice: Dice) -> Result<u64> {
    client.batch_execute("SET deadlock_timeout = '20ms'").await?;
    let mut committed = 0;
    for _ in 0..transactions {
        let mut sql = "BEGIN;".to_owned();
        for _ in 0..=dice.below(3) {
            sql += &statement(&mut dice);
            sql += "; SELECT pg_sleep(0.01);";
        }
        let rolled_back = dice.below(10) == 0;
        sql += if rolled_back { "ROLLBACK" } else { "COMMIT" };
        match client.batch_execute(&sql).await {
            Ok(()) => committed += u64::from(!rolled_back),
            // Two that wait for each other, or that want one key.
            Err(error) if error.as_db_error().is_some() => client.batch_execute("ROLLBACK").await?,
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(Duration::from_millis(20 + dice.below(60))).await;
    }
    Ok(committed)
}

/// One change, or none if its row is not there.
fn statement(dice: &mut Dice) -> String {
    let (first, last) = (WRITTEN.start(), WRITTEN.end());
    let id = first + dice.below(last - first + 1);
    let (region, other) = if dice.below(2) == 0 { ("north", "south") } else { ("south", "north") };
    let order = 1 + dice.below(60);
    match dice.below(11) {
        0 | 1 => {
            format!("UPDATE people SET balance = balance + 0.01, seen = clock_timestamp() WHERE id = {id}")
        }
        2 => format!(
            "UPDATE people SET biography = CASE WHEN biography IS NULL THEN large() END WHERE id = {id}"
        ),
        3 => format!("DELETE FROM people WHERE id = {id}"),
        4 => format!(
            "INSERT INTO people (id, email, biography) VALUES ({id}, 'again', large()) \
             ON CONFLICT (id) DO UPDATE SET email = excluded.email, tier = NULL"
        ),
        5 => format!("UPDATE people SET id = id + 1000 WHERE id = {id}"),
        6 => format!("UPDATE people SET id = id - 1000 WHERE id = {id} + 1000"),
        7 => format!(
            "UPDATE people SET tags = NULL, score = random(), span = interval '1 day 2 hours', photo = NULL, details = '{{\"a\": 1.10}}' WHERE id = {id}"
        ),
        8 => format!(
            "INSERT INTO orders VALUES ('{region}', {order}, 0.1, clock_timestamp(), large()) \
             ON CONFLICT (region, id) DO UPDATE SET total = orders.total * 1.5"
        ),
        9 => format!("UPDATE orders SET region = '{other}' WHERE region = '{region}' AND id = {order}"),
        _ => format!("DELETE FROM orders WHERE region = '{region}' AND id = {order}"),
    }
}
