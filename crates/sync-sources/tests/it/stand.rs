//! A database of its own for each test, in a cluster that they share, and a reader with exactly the documented grants.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use sync_domain::config::{PullMode, TableReading};
use sync_domain::id::SourceId;
use sync_sources::postgres::sql::install;
use sync_sources::postgres::trigger::Trigger;
use sync_sources::postgres::{Access, Purpose, Session, Wanted};
use sync_sources::{Error, Reader, Row};
use sync_testkit::postgres::{PASSWORD, Server};
use tokio_postgres::Client;

/// The cluster of all tests that hold no transaction open for long: the horizon is the cluster's.
pub(crate) static SERVER: LazyLock<Server> = LazyLock::new(|| Server::start().unwrap());

/// The cluster of those that do.
pub(crate) static BUSY_SERVER: LazyLock<Server> = LazyLock::new(|| Server::start().unwrap());

/// A database, its owner and the name of the role that reads it.
pub(crate) struct Stand {
    pub(crate) server: &'static Server,
    pub(crate) database: String,
    pub(crate) role: String,
    pub(crate) admin: Client,
}

/// What a test reads of a table.
pub(crate) fn wanted(table: &str, key: &[&str], columns: &[&str]) -> Wanted {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let columns: BTreeMap<_, _> =
        key.iter().chain(columns).map(|column| ((*column).to_owned(), None)).collect();
    Wanted {
        table: table.to_owned(),
        model: "price".parse().unwrap(),
        key: names(key),
        columns,
        reading: None,
    }
}

/// The same table, read by timestamp.
pub(crate) fn stamped(wanted: Wanted, reading: &str) -> Wanted {
    let reading: TableReading = serde_json::from_str(reading).unwrap();
    Wanted { reading: Some(reading), ..wanted }
}

pub(crate) fn source() -> SourceId {
    "shop".parse().unwrap()
}

impl Stand {
    /// A database with these objects in it.
    pub(crate) async fn new(objects: &str) -> Self {
        Self::on(&SERVER, objects).await
    }

    /// The same in one of the clusters.
    pub(crate) async fn on(server: &'static Server, objects: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let database = format!("stand_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let role = format!("{database}_reader");
        let admin = server.database(&database).await.unwrap();
        admin.batch_execute(&format!("CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")).await.unwrap();
        admin.batch_execute(objects).await.unwrap();
        Self { server, database, role, admin }
    }

    /// Runs what an administrator is given.
    pub(crate) async fn install(&self, mode: PullMode, tables: &[Wanted]) {
        self.sql(&install(&source(), mode, tables, &self.role)).await;
    }

    /// Runs statements as the superuser and waits until a poll can see them.
    pub(crate) async fn sql(&self, statements: &str) {
        if let Err(error) = self.admin.batch_execute(statements).await {
            panic!("{error:?}\n{statements}");
        }
        self.settle().await;
    }

    /// Waits until every transaction that has written by now is over: tests share a cluster, and with it the horizon.
    pub(crate) async fn settle(&self) {
        let now = self.ask("pg_snapshot_xmax(pg_current_snapshot())").await;
        while self.ask(&format!("pg_snapshot_xmin(pg_current_snapshot()) < '{now}'::xid8")).await == "true" {
            tokio::task::yield_now().await;
        }
    }

    /// A session of another writer.
    pub(crate) async fn writer(&self) -> Client {
        self.server.client(&self.database).await.unwrap()
    }

    /// A session of the role that reads.
    pub(crate) async fn session(&self, purpose: Purpose) -> Session {
        let url = self.server.url_as(&self.role, &self.database).into();
        let access = Access {
            url,
            root_certificates: None,
            allow_loopback: true,
            application_name: "datasync shop".into(),
        };
        access.open(purpose).await.unwrap()
    }

    pub(crate) async fn trigger(&self, tables: &[Wanted]) -> Trigger {
        self.trigger_named("main", tables).await
    }

    pub(crate) async fn trigger_named(&self, reader: &str, tables: &[Wanted]) -> Trigger {
        Trigger::new(self.session(Purpose::Write).await, source(), reader, tables.to_vec())
    }

    /// One value of one row, as text.
    pub(crate) async fn ask(&self, sql: &str) -> String {
        self.admin.query_one(&format!("SELECT ({sql})::text"), &[]).await.unwrap().get(0)
    }
}

/// A whole poll: its rows; the cursor is saved after each page and confirmed at the end.
pub(crate) async fn poll(reader: &mut dyn Reader, cursor: &mut Option<String>) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    reader.begin(cursor.as_deref(), 0).await?;
    let mut moved = false;
    while let Some(page) = reader.page().await? {
        rows.extend(page.rows);
        *cursor = Some(page.cursor);
        moved = true;
    }
    if let (true, Some(cursor)) = (moved, cursor) {
        reader.confirm(cursor).await?;
    }
    Ok(rows)
}

/// Rows as lines: operation, before, after.
pub(crate) fn lines(rows: &[Row]) -> Vec<String> {
    let record = |record: &Option<String>| record.clone().unwrap_or_else(|| "-".into());
    rows.iter()
        .map(|row| format!("{} {} {}", row.operation.as_str(), record(&row.before), record(&row.after)))
        .collect()
}
