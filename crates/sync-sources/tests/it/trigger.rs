//! Mode `trigger` on a real server.

use sync_domain::config::PullMode;
use sync_sources::PageSize;
use sync_sources::postgres::trigger::Trigger;
use sync_sources::postgres::{Access, Purpose, sql};
use sync_sources::{Kind, Reader};
use sync_testkit::postgres::{PASSWORD, Server};

use crate::stand::{Stand, lines, poll, source, wanted};

const PRICES: &str =
    "CREATE TABLE public.prices (sku int PRIMARY KEY, amount numeric(10,2), note text, secret text)";

#[tokio::test]
async fn every_kind_of_write_is_captured_and_nothing_that_is_not_chosen() {
    let tables = [wanted("public.prices", &["sku"], &["amount"])];
    let stand = Stand::new(PRICES).await;
    stand.install(PullMode::Trigger, &tables).await;
    let mut reader = stand.trigger(&tables).await;
    let mut cursor = None;
    assert_eq!(poll(&mut reader, &mut cursor).await.unwrap(), []);
    assert!(cursor.is_some(), "where it begins is saved");

    stand
        .sql(
            "INSERT INTO prices VALUES (1, 10, 'n', 'hidden'), (2, 20.5, 'n', 'hidden');
            INSERT INTO prices VALUES (1, 11) ON CONFLICT (sku) DO UPDATE SET amount = excluded.amount;
            UPDATE prices SET note = 'another', secret = 'other';
            UPDATE prices SET sku = 3 WHERE sku = 2;
            MERGE INTO prices p USING (VALUES (1)) v (sku) ON p.sku = v.sku WHEN MATCHED THEN DELETE;
            DELETE FROM prices WHERE false",
        )
        .await;
    let rows = poll(&mut reader, &mut cursor).await.unwrap();
    assert_eq!(
        lines(&rows),
        [
            r#"create - {"amount":10.00,"sku":1}"#,
            r#"create - {"amount":20.50,"sku":2}"#,
            r#"update {"amount":10.00,"sku":1} {"amount":11.00,"sku":1}"#,
            r#"delete {"amount":20.50,"sku":2} -"#,
            r#"create - {"amount":20.50,"sku":3}"#,
            r#"delete {"amount":11.00,"sku":1} -"#,
        ]
    );
    assert!(rows.is_sorted_by(|a, b| a.version < b.version));
    assert_eq!(
        stand
            .ask("SELECT count(*) FROM datasync.changes WHERE before::text || after::text LIKE '%hidden%'")
            .await,
        "0"
    );
    assert_eq!(poll(&mut reader, &mut cursor).await.unwrap(), []);
}

#[tokio::test]
async fn copy_cascades_and_partitions_are_captured() {
    let tables = [
        wanted("public.parents", &["id"], &[]),
        wanted("public.children", &["id"], &["parent"]),
        wanted("public.sales", &["id", "day"], &["amount"]),
    ];
    let stand = Stand::new(
        "CREATE TABLE parents (id int PRIMARY KEY);
        CREATE TABLE children (id int PRIMARY KEY, parent int REFERENCES parents ON DELETE CASCADE);
        CREATE TABLE sales (id int, day date, amount int, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
        CREATE TABLE sales_old PARTITION OF sales FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')",
    )
    .await;
    stand.install(PullMode::Trigger, &tables).await;
    let mut reader = stand.trigger(&tables).await;
    let mut cursor = None;
    poll(&mut reader, &mut cursor).await.unwrap();

    stand.sql("COPY parents FROM PROGRAM 'seq 2'; INSERT INTO children VALUES (7, 1); DELETE FROM parents WHERE id = 1").await;
    let rows = poll(&mut reader, &mut cursor).await.unwrap();
    assert_eq!(
        lines(&rows),
        [
            r#"create - {"id":1}"#,
            r#"create - {"id":2}"#,
            r#"create - {"id":7,"parent":1}"#,
            r#"delete {"id":1} -"#,
            r#"delete {"id":7,"parent":1} -"#,
        ]
    );

    // A partition that comes later has the row triggers of its own accord; that it lacks the other is noticed.
    stand
        .sql(
            "INSERT INTO sales VALUES (1, '2025-05-05', 10);
            UPDATE sales_old SET amount = 11",
        )
        .await;
    let rows = poll(&mut reader, &mut cursor).await.unwrap();
    assert_eq!(
        lines(&rows),
        [
            r#"create - {"amount":10,"day":"2025-05-05","id":1}"#,
            r#"update {"amount":10,"day":"2025-05-05","id":1} {"amount":11,"day":"2025-05-05","id":1}"#,
        ]
    );
    stand
        .sql("CREATE TABLE sales_new PARTITION OF sales FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')")
        .await;
    stand.sql("UPDATE sales SET day = '2026-05-05'").await;
    let error = poll(&mut reader, &mut cursor).await.unwrap_err();
    assert_eq!(
        (error.kind, error.code, error.place.as_str()),
        (Kind::Misconfigured, "partition", "table public.sales")
    );
    stand.install(PullMode::Trigger, &tables).await;
    let rows = poll(&mut reader, &mut cursor).await.unwrap();
    assert_eq!(
        lines(&rows),
        [
            r#"delete {"amount":11,"day":"2025-05-05","id":1} -"#,
            r#"create - {"amount":11,"day":"2026-05-05","id":1}"#,
        ]
    );
}

#[tokio::test]
async fn a_dropped_or_retyped_column_breaks_no_write() {
    let tables = [wanted("public.prices", &["sku"], &["amount", "note"])];
    let stand = Stand::new(PRICES).await;
    stand.install(PullMode::Trigger, &tables).await;
    let mut reader = stand.trigger(&tables).await;
    let mut cursor = None;
    poll(&mut reader, &mut cursor).await.unwrap();
    let writer = stand.writer().await;
    // The session has compiled the function by now.
    writer.batch_execute("INSERT INTO prices VALUES (1, 10, 'n')").await.unwrap();
    stand.sql("ALTER TABLE prices ALTER amount TYPE text").await;
    writer.batch_execute("UPDATE prices SET amount = 'ten'").await.unwrap();
    stand.sql("ALTER TABLE prices DROP note").await;
    writer.batch_execute("UPDATE prices SET amount = 'eleven'").await.unwrap();
    stand.settle().await;
    let rows = poll(&mut reader, &mut cursor).await.unwrap();
    assert_eq!(
        lines(&rows),
        [
            r#"create - {"amount":10.00,"note":"n","sku":1}"#,
            r#"update {"amount":"10.00","note":"n","sku":1} {"amount":"ten","note":"n","sku":1}"#,
            r#"update {"amount":"ten","sku":1} {"amount":"eleven","sku":1}"#,
        ]
    );
}

#[tokio::test]
async fn what_json_can_hold_breaks_no_write() {
    let tables = [wanted("public.t", &["id"], &["a"])];
    let stand = Stand::new("CREATE TABLE t (id int PRIMARY KEY, a json)").await;
    stand.install(PullMode::Trigger, &tables).await;
    let mut reader = stand.trigger(&tables).await;
    let mut cursor = None;
    poll(&mut reader, &mut cursor).await.unwrap();
    stand.sql(r#"INSERT INTO t VALUES (1, '{"nul": "\u0000", "large": 1e999999, "n": 1.10}')"#).await;
    let rows = poll(&mut reader, &mut cursor).await.unwrap();
    assert_eq!(lines(&rows), [r#"create - {"a":{"nul": "\u0000", "large": 1e999999, "n": 1.10},"id":1}"#]);
}

#[tokio::test]
async fn truncate_stops_the_source_after_what_came_before() {
    let tables = [wanted("public.sales", &["id"], &[])];
    let stand = Stand::new(
        "CREATE TABLE sales (id int PRIMARY KEY) PARTITION BY RANGE (id);
        CREATE TABLE sales_low PARTITION OF sales FOR VALUES FROM (0) TO (10)",
    )
    .await;
    stand.install(PullMode::Trigger, &tables).await;
    let mut reader = stand.trigger(&tables).await;
    let mut cursor = None;
    poll(&mut reader, &mut cursor).await.unwrap();
    stand.sql("INSERT INTO sales VALUES (1)").await;
    stand.sql("TRUNCATE sales_low").await;
    reader.begin(cursor.as_deref(), 0).await.unwrap();
    let page = reader.page().await.unwrap().unwrap();
    assert_eq!(lines(&page.rows), [r#"create - {"id":1}"#]);
    for begun_again in [false, true] {
        if begun_again {
            reader.begin(Some(&page.cursor), 0).await.unwrap();
        }
        let error = reader.page().await.unwrap_err();
        assert_eq!(
            (error.kind, error.code, error.place.as_str()),
            (Kind::Lost, "truncated", "table public.sales")
        );
    }
}

#[tokio::test]
async fn what_cannot_be_trusted_any_more_is_refused() {
    let tables = [wanted("public.prices", &["sku"], &["amount"])];
    let stand = Stand::new(PRICES).await;
    let mut reader = stand.trigger(&tables).await;
    let not_installed = poll(&mut reader, &mut None).await.unwrap_err();
    assert_eq!((not_installed.kind, not_installed.code), (Kind::Misconfigured, "not_installed"));

    stand.install(PullMode::Trigger, &tables).await;
    let mut cursor = None;
    poll(&mut reader, &mut cursor).await.unwrap();
    stand.sql("INSERT INTO prices VALUES (1)").await;
    poll(&mut reader, &mut cursor).await.unwrap();

    // A column that the model has gained and the trigger does not know.
    let more = [wanted("public.prices", &["sku"], &["amount", "note"])];
    let error = poll(&mut stand.trigger(&more).await, &mut cursor.clone()).await.unwrap_err();
    assert_eq!((error.kind, error.code), (Kind::Misconfigured, "column_not_captured"));

    let mut refused = async |statement: &str, code: &str, again: &str| {
        stand.sql(statement).await;
        let error = poll(&mut reader, &mut cursor.clone()).await.unwrap_err();
        assert_eq!((error.kind, error.code), (Kind::Lost, code), "{statement}");
        stand.sql(again).await;
    };
    refused(
        "ALTER TABLE prices DISABLE TRIGGER USER",
        "trigger_missing",
        "ALTER TABLE prices ENABLE TRIGGER USER",
    )
    .await;
    refused(
        "UPDATE datasync.sources SET pruned = '4000000000'",
        "changes_pruned",
        "UPDATE datasync.sources SET pruned = '0'; INSERT INTO prices VALUES (3)",
    )
    .await;
    refused(
        "ALTER TABLE datasync.changes ALTER sequence RESTART WITH 1",
        "went_back",
        "ALTER TABLE datasync.changes ALTER sequence RESTART WITH 1000",
    )
    .await;
    stand.sql("INSERT INTO prices VALUES (2)").await;
    assert_eq!(poll(&mut reader, &mut cursor.clone()).await.unwrap().len(), 2);

    stand.admin.batch_execute("TRUNCATE datasync.changes").await.unwrap_err();
    stand.sql("DROP TABLE datasync.changes CASCADE").await;
    let error = poll(&mut reader, &mut cursor.clone()).await.unwrap_err();
    assert_eq!((error.kind, error.code), (Kind::Lost, "shadow_missing"));
    stand.install(PullMode::Trigger, &tables).await;
    let error = poll(&mut reader, &mut cursor.clone()).await.unwrap_err();
    assert_eq!((error.kind, error.code), (Kind::Lost, "shadow_replaced"));
}

#[tokio::test]
async fn nothing_is_pruned_that_one_of_the_readers_has_not_confirmed() {
    let tables = [wanted("public.prices", &["sku"], &[])];
    let stand = Stand::new(PRICES).await;
    stand.install(PullMode::Trigger, &tables).await;
    let (mut fast, mut slow) =
        (stand.trigger_named("fast", &tables).await, stand.trigger_named("slow", &tables).await);
    let (mut fast_cursor, mut slow_cursor) = (None, None);
    poll(&mut fast, &mut fast_cursor).await.unwrap();
    poll(&mut slow, &mut slow_cursor).await.unwrap();
    stand.sql("INSERT INTO prices SELECT generate_series(1, 20)").await;

    // Handed off, but not confirmed: it may all come again.
    fast.begin(fast_cursor.as_deref(), 0).await.unwrap();
    assert_eq!(fast.page().await.unwrap().unwrap().rows.len(), 20);
    assert_eq!(stand.ask("SELECT count(*) FROM datasync.changes").await, "20");
    assert_eq!(poll(&mut fast, &mut fast_cursor).await.unwrap().len(), 20);
    assert_eq!(stand.ask("SELECT count(*) FROM datasync.changes").await, "20", "the slow one has not read");
    assert_eq!(poll(&mut slow, &mut slow_cursor).await.unwrap().len(), 20);
    assert_eq!(stand.ask("SELECT count(*) FROM datasync.changes").await, "0");

    // A reader whose registration was taken away comes back with a cursor that is still good.
    stand.sql("DELETE FROM datasync.readers WHERE reader = 'slow'; INSERT INTO prices VALUES (21)").await;
    assert_eq!(poll(&mut slow, &mut slow_cursor).await.unwrap().len(), 1);
    // And one whose cursor is not.
    stand.sql("INSERT INTO prices VALUES (22)").await;
    let mut old = fast_cursor.clone();
    poll(&mut fast, &mut fast_cursor).await.unwrap();
    poll(&mut slow, &mut slow_cursor).await.unwrap();
    assert_eq!(poll(&mut fast, &mut old).await.unwrap_err().code, "changes_pruned");
}

#[tokio::test]
async fn a_large_transaction_comes_in_pages_and_goes_on_where_it_stopped() {
    let tables = [wanted("public.prices", &["sku"], &["note"])];
    let stand = Stand::new(PRICES).await;
    stand.install(PullMode::Trigger, &tables).await;
    let by_rows = PageSize { rows: 7, bytes: 1 << 20 };
    let mut reader = stand.trigger(&tables).await.with_page_size(by_rows);
    let mut cursor = None;
    poll(&mut reader, &mut cursor).await.unwrap();
    stand.sql("INSERT INTO prices SELECT n, 0, repeat('x', 100) FROM generate_series(1, 50) n").await;

    let mut versions = Vec::new();
    let mut saved = cursor;
    loop {
        // Each page is read by a reader that knows only the saved cursor.
        let mut reader = stand.trigger(&tables).await.with_page_size(by_rows);
        reader.begin(saved.as_deref(), 0).await.unwrap();
        let Some(page) = reader.page().await.unwrap() else { break };
        assert!(page.rows.len() <= 7);
        versions.extend(page.rows.iter().map(|row| row.version));
        saved = Some(page.cursor);
        reader.confirm(saved.as_deref().unwrap()).await.unwrap();
    }
    assert_eq!(versions.len(), 50);
    assert!(versions.is_sorted_by(|a, b| a < b));
    assert_eq!(stand.ask("SELECT count(*) FROM datasync.changes").await, "0");

    stand.sql("UPDATE prices SET note = note || 'y'").await;
    let mut reader = stand.trigger(&tables).await.with_page_size(PageSize { rows: 100, bytes: 1_000 });
    reader.begin(saved.as_deref(), 0).await.unwrap();
    let mut pages = Vec::new();
    while let Some(page) = reader.page().await.unwrap() {
        pages.push(page.rows.len());
    }
    assert_eq!(pages.iter().sum::<usize>(), 50);
    assert!(pages.iter().all(|rows| (1..=5).contains(rows)), "{pages:?}");
}

#[tokio::test]
async fn the_script_runs_again_and_takes_all_of_itself_away() {
    let odd = r#""odd "" 'name\""#;
    let both = [
        wanted("public.prices", &["sku"], &[]),
        wanted(r#"public.odd " 'name\"#, &["it's"], &[r#""b" $datasync$"#]),
    ];
    let stand = Stand::new(&format!(
        r#"{PRICES}; CREATE TABLE {odd} ("it's" int PRIMARY KEY, """b"" $datasync$" int)"#
    ))
    .await;
    stand.install(PullMode::Trigger, &both).await;
    stand.install(PullMode::Trigger, &both).await;
    let mut reader = stand.trigger(&both).await;
    let mut cursor = None;
    poll(&mut reader, &mut cursor).await.unwrap();
    stand.sql(&format!("INSERT INTO {odd} VALUES (1, 2)")).await;
    assert_eq!(poll(&mut reader, &mut cursor).await.unwrap().len(), 1);

    // A table that is no longer read loses its triggers; the others keep theirs.
    stand.install(PullMode::Trigger, &both[..1]).await;
    let triggers = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE '0!_datasync%' ESCAPE '!'";
    assert_eq!(stand.ask(triggers).await, "2");
    stand.sql(&sql::remove(&source(), PullMode::Trigger, &both)).await;
    assert_eq!(stand.ask(triggers).await, "0");
    stand.sql("INSERT INTO prices VALUES (1)").await;
    assert_eq!(stand.ask("SELECT count(*) FROM datasync.changes").await, "0");
}

#[tokio::test]
async fn writers_need_no_grant_and_replication_is_captured_too() {
    let tables = [wanted("public.prices", &["sku"], &[])];
    let stand = Stand::new(PRICES).await;
    stand.install(PullMode::Trigger, &tables).await;
    let mut reader = stand.trigger(&tables).await;
    let mut cursor = None;
    poll(&mut reader, &mut cursor).await.unwrap();
    let app = format!("{}_app", stand.database);
    stand
        .sql(&format!(
            "CREATE ROLE {app}; GRANT INSERT ON prices TO {app};
            SET ROLE {app}; INSERT INTO prices VALUES (1); RESET ROLE;
            SET session_replication_role = replica; INSERT INTO prices VALUES (2); RESET session_replication_role"
        ))
        .await;
    let rows = poll(&mut reader, &mut cursor).await.unwrap();
    assert_eq!(lines(&rows), [r#"create - {"sku":1}"#, r#"create - {"sku":2}"#]);
}

#[tokio::test]
async fn what_a_crash_takes_back_was_never_handed_off() {
    let tables = [wanted("public.prices", &["sku"], &[])];
    // A cluster of its own, where commits that do not wait stay in memory for long.
    let server =
        Server::start_with("wal_writer_delay = 10s\nbgwriter_delay = 10s\nautovacuum = off").unwrap();
    let admin = server.database("shop").await.unwrap();
    admin.batch_execute(PRICES).await.unwrap();
    admin.batch_execute(&format!("CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'")).await.unwrap();
    admin.batch_execute(&sql::install(&source(), PullMode::Trigger, &tables, "reader")).await.unwrap();
    let open = async || {
        let access = Access {
            url: server.url_as("reader", "shop").into(),
            root_certificates: None,
            allow_loopback: true,
            application_name: "datasync shop".into(),
        };
        Trigger::new(access.open(Purpose::Write).await.unwrap(), source(), "main", tables.to_vec())
    };
    let mut cursor = None;
    poll(&mut open().await, &mut cursor).await.unwrap();

    let hurried = server.client("shop").await.unwrap();
    hurried.batch_execute("SET synchronous_commit = off; INSERT INTO prices VALUES (1)").await.unwrap();
    // Saved, but not confirmed: confirming writes, and with that flushes what came before.
    let mut reader = open().await;
    reader.begin(cursor.as_deref(), 0).await.unwrap();
    let page = reader.page().await.unwrap().unwrap();
    let mut handed_off = lines(&page.rows);
    cursor = Some(page.cursor);
    drop(reader);
    server.kill().unwrap();
    // If the first was taken back, its transaction id is given out again.
    let admin = server.client("shop").await.unwrap();
    admin.batch_execute("INSERT INTO prices VALUES (2)").await.unwrap();
    handed_off.extend(lines(&poll(&mut open().await, &mut cursor).await.unwrap()));
    let rows = admin
        .query("SELECT format('create - {\"sku\":%s}', sku) FROM prices ORDER BY sku", &[])
        .await
        .unwrap();
    assert_eq!(handed_off, rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>());
}
