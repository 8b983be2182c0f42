//! Mode `log`.

use std::time::Duration;

use sync_domain::version::Version;
use sync_sources::postgres::log::{Log, Settings, sql};
use sync_sources::postgres::trigger::PageSize;
use sync_sources::postgres::{Access, Purpose, Wanted};
use sync_sources::{Kind, Reader, Row};
use sync_testkit::postgres::Server;

use crate::stand::{SERVER, Stand, lines, poll, source, wanted};

/// A database that is read by its log.
pub(crate) struct Logged {
    pub(crate) stand: Stand,
    pub(crate) tables: Vec<Wanted>,
    pub(crate) cursor: Option<String>,
}

impl Logged {
    pub(crate) async fn new(objects: &str, tables: Vec<Wanted>) -> Self {
        let stand = Stand::new(objects).await;
        let logged = Self { stand, tables, cursor: None };
        logged.install().await;
        logged
    }

    /// Runs what an administrator is given.
    async fn install(&self) {
        let name = &self.stand.database;
        self.stand.sql(&sql::install(&source(), name, name, &self.tables, &self.stand.role)).await;
    }

    fn settings(&self, server: &Server) -> Settings {
        let access = Access {
            url: server.url_as(&self.stand.role, &self.stand.database).into(),
            root_certificates: None,
            allow_loopback: true,
            application_name: "datasync shop".into(),
        };
        let name = self.stand.database.clone();
        Settings { access, slot: name.clone(), publication: name, tables: self.tables.clone() }
    }

    pub(crate) async fn reader(&self) -> Log {
        let settings = self.settings(&SERVER);
        let session = settings.access.open(Purpose::Read).await.unwrap();
        Log::new(settings, session)
    }

    /// A whole poll by a reader of its own.
    pub(crate) async fn poll(&mut self) -> Result<Vec<Row>, sync_sources::Error> {
        poll(&mut self.reader().await, &mut self.cursor).await
    }

    pub(crate) async fn lines(&mut self) -> Vec<String> {
        lines(&self.poll().await.unwrap())
    }
}

fn prices() -> Vec<Wanted> {
    vec![wanted("public.prices", &["id"], &["price", "note"])]
}

const PRICES: &str = "CREATE TABLE prices (id int PRIMARY KEY, price numeric(10,2), secret text, note text);";

/// Text that TOAST keeps out of line: it does not compress.
const LARGE: &str = "(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 400) i)";

#[tokio::test]
async fn every_kind_of_change_is_read_once_with_a_rising_version() {
    let mut logged = Logged::new(PRICES, prices()).await;
    logged.stand.sql("INSERT INTO prices VALUES (1, 9.90, 'x', 'a'), (2, 5, 'x', NULL)").await;
    logged.stand.sql("UPDATE prices SET price = 10.00, secret = 'y' WHERE id = 1").await;
    logged.stand.sql("UPDATE prices SET id = 3 WHERE id = 2").await;
    logged.stand.sql("DELETE FROM prices WHERE id = 1").await;
    logged.stand.sql("BEGIN; INSERT INTO prices VALUES (9, 9, 'x', 'never'); ROLLBACK").await;
    let rows = logged.poll().await.unwrap();
    assert_eq!(
        lines(&rows),
        [
            r#"create - {"id":1,"price":9.90,"note":"a"}"#,
            r#"create - {"id":2,"price":5.00,"note":null}"#,
            r#"update - {"id":1,"price":10.00,"note":"a"}"#,
            r#"delete {"id":2} -"#,
            r#"create - {"id":3,"price":5.00,"note":null}"#,
            r#"delete {"id":1} -"#,
        ]
    );
    assert!(rows.windows(2).all(|pair| pair[0].version < pair[1].version));
    assert!(rows.iter().all(|row| row.occurred_at.ends_with('Z') && row.set_aside.is_none()));
    assert!(logged.poll().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_full_identity_gives_the_whole_row_before() {
    let full = format!("{PRICES} ALTER TABLE prices REPLICA IDENTITY FULL;");
    let mut logged = Logged::new(&full, prices()).await;
    logged.stand.sql("INSERT INTO prices VALUES (1, 9.90, 'x', 'a')").await;
    logged.stand.sql("UPDATE prices SET price = 10.00 WHERE id = 1").await;
    logged.stand.sql("UPDATE prices SET id = 2 WHERE id = 1").await;
    logged.stand.sql("DELETE FROM prices").await;
    assert_eq!(
        logged.lines().await,
        [
            r#"create - {"id":1,"price":9.90,"note":"a"}"#,
            r#"update {"id":1,"price":9.90,"note":"a"} {"id":1,"price":10.00,"note":"a"}"#,
            r#"delete {"id":1,"price":10.00,"note":"a"} -"#,
            r#"create - {"id":2,"price":10.00,"note":"a"}"#,
            r#"delete {"id":2,"price":10.00,"note":"a"} -"#,
        ]
    );
}

#[tokio::test]
async fn a_large_value_that_an_update_left_alone_is_never_null() {
    for identity in ["DEFAULT", "FULL"] {
        let objects = format!("{PRICES} ALTER TABLE prices REPLICA IDENTITY {identity};");
        let mut logged = Logged::new(&objects, prices()).await;
        logged.stand.sql(&format!("INSERT INTO prices VALUES (1, 1, 'x', {LARGE}), (2, 1, 'x', {LARGE})")).await;
        logged.poll().await.unwrap();
        logged.stand.sql("UPDATE prices SET price = 2").await;
        logged.stand.sql("UPDATE prices SET id = 3 WHERE id = 2").await;
        let note = logged.stand.ask(&format!("to_json({LARGE})")).await;
        let rows = logged.poll().await.unwrap();
        // The second update has changed the key since: there is nothing to read under it, and its delete follows.
        let kept = |id: u32| format!(r#"{{"id":{id},"price":2.00,"note":{note}}}"#);
        let after: Vec<_> = rows.iter().filter_map(|row| row.after.clone()).collect();
        match identity {
            "FULL" => assert_eq!(after, [kept(1), kept(2), kept(3)]),
            _ => assert_eq!(after, [kept(1), kept(3)]),
        }
        let last = rows.iter().map(|row| row.operation.as_str()).collect::<Vec<_>>();
        assert_eq!(last[last.len() - 2..], ["delete", "create"]);
    }
}
