//! Values: what the log's text becomes is what the database's own `to_json` makes of the row.

use std::fmt::Write as _;

use sync_sources::Row;
use sync_sources::postgres::{Access, Purpose};

use crate::log::Logged;
use crate::stand::{SERVER, wanted};

const OBJECTS: &str = r#"
CREATE TYPE mood AS ENUM ('sad', 'so "so"', 'happy, very');
CREATE DOMAIN cents AS numeric(12,2) CHECK (VALUE >= 0);
CREATE DOMAIN fine_cents AS cents;
CREATE DOMAIN tags AS text[];
CREATE TYPE point3 AS (x int, "the y" float8, name text, at timestamptz);
CREATE TYPE nested AS (p point3, list int[], more point3[], plain money);
CREATE TYPE lonely AS (one bool);
CREATE TYPE span AS RANGE (subtype = float8);
"#;

/// A type and values of it, each as SQL writes it.
const VALUES: &[(&str, &[&str])] = &[
    ("boolean", &["true", "false"]),
    ("smallint", &["-32768", "32767"]),
    ("integer", &["0", "-2147483648"]),
    ("bigint", &["9007199254740993", "-9223372036854775808"]),
    (
        "numeric",
        &[
            "0",
            "-0.00",
            "123456789012345678901234567890.123456789",
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "1e-30",
        ],
    ),
    ("numeric(10,2)", &["1.5", "'NaN'"]),
    ("real", &["0.1", "'NaN'", "'-Infinity'", "1e-40", "3.4e38", "16777216"]),
    ("double precision", &["0.1", "'NaN'", "'Infinity'", "1e300", "'-0'", "1e20", "123456789.123456789"]),
    ("money", &["1234.5", "-1"]),
    ("text", &["''", "'plain'", "E'a\"b\\\\c\\n\\t\\r/<>&'", "'ÄÖÜ 日本 👍🏽'", "'NULL'"]),
    ("varchar(8)", &["'a b '"]),
    ("char(5)", &["'ab'", "''"]),
    ("\"char\"", &["'x'"]),
    ("name", &["'a name'"]),
    ("bytea", &[r"'\x'", r"'\x00ff10'"]),
    ("date", &["'2026-11-24'", "'0044-03-15 BC'", "'infinity'", "'-infinity'", "'20001-01-01'"]),
    ("time", &["'23:59:59.999999'", "'24:00'", "'00:00'"]),
    ("timetz", &["'12:00:00.5+05:30'", "'12:00-08'"]),
    (
        "timestamp",
        &["'2026-11-24 20:19:23.1'", "'0044-03-15 12:00 BC'", "'infinity'", "'-infinity'", "'20001-01-01'"],
    ),
    (
        "timestamptz",
        &[
            "'2026-11-24 20:19:23.123456+05:30'",
            "'0044-03-15 12:00 BC'",
            "'infinity'",
            "'-infinity'",
            "'20001-01-01'",
        ],
    ),
    ("timestamptz(0)", &["'2026-11-24 20:19:23.6Z'"]),
    ("interval", &["'1 year 2 mons -3 days 04:05:06.789'", "'0'", "'-1 day'", "'infinity'"]),
    ("uuid", &["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"]),
    ("json", &[r#"'{"b" : 1,  "a":[1.10, "x\u00e4"], "b":null}'"#, "'null'", "'\"s\"'"]),
    ("jsonb", &[r#"'{"b":1.10,"a":[true,null]}'"#, "'null'", "'1e3'"]),
    ("inet", &["'192.168.0.1/24'", "'::1'"]),
    ("cidr", &["'10.0.0.0/8'"]),
    ("macaddr", &["'08:00:2b:01:02:03'"]),
    ("macaddr8", &["'08:00:2b:01:02:03:04:05'"]),
    ("bit(5)", &["B'10110'"]),
    ("bit varying", &["B'1'"]),
    ("oid", &["4294967295"]),
    ("regclass", &["'pg_class'"]),
    ("pg_lsn", &["'16/B374D848'"]),
    ("xid8", &["'18446744073709551615'"]),
    ("tsvector", &["'a fat \"cat\"'::tsvector"]),
    ("tsquery", &["'fat & cat'"]),
    ("point", &["'(1,2.5)'"]),
    ("box", &["'(1,2),(3,4)'"]),
    ("path", &["'[(1,2),(3,4)]'"]),
    ("int4range", &["'[1,5)'", "'empty'", "'(,3)'"]),
    ("numrange", &["'[1.10,)'"]),
    ("daterange", &["'[2026-01-01,2026-02-01)'"]),
    ("tstzrange", &["'[2026-01-01 00:00+02,)'"]),
    ("int4multirange", &["'{[1,3),[5,9)}'"]),
    ("span", &["'[0.5,1.5]'"]),
    ("mood", &["'sad'", "'so \"so\"'", "'happy, very'"]),
    ("cents", &["12.30"]),
    ("fine_cents", &["0.1"]),
    ("tags", &["'{a,\"b c\"}'"]),
    ("integer[]", &["'{}'", "'{1,NULL,3}'", "'{{1,2},{3,4}}'", "'[0:1]={7,8}'", "'{{{1}}}'"]),
    ("text[]", &["ARRAY['a', NULL, 'NULL', '', 'b \"c\" \\', 'd,e', '{f}', ' g ']", "'{}'"]),
    ("boolean[]", &["'{t,f,NULL}'"]),
    ("numeric[]", &["'{1.10,NaN}'"]),
    ("timestamptz[]", &["'{2026-11-24 20:19:23+00,infinity}'"]),
    ("jsonb[]", &[r#"ARRAY['{"a": "b\"c"}', '[1]']::jsonb[]"#]),
    ("bytea[]", &[r"ARRAY['\x00ff']::bytea[]"]),
    ("box[]", &["ARRAY['(1,2),(3,4)', '(5,6),(7,8)']::box[]"]),
    ("mood[]", &["ARRAY['sad', 'happy, very']::mood[]"]),
    ("tags[]", &["ARRAY['{a,\"b c\"}', '{}']::tags[]"]),
    ("point3", &["(1, 'NaN', 'a \"quoted\", \\ name', '2026-11-24 20:19:23+00')", "(NULL, NULL, '', NULL)"]),
    ("point3[]", &["ARRAY[(1, 2, 'x', NULL), NULL, (NULL, NULL, 'y \"z\"', 'infinity')]::point3[]"]),
    (
        "nested",
        &["((1, 2.5, 'a', NULL), '{1,2}', ARRAY[(3, 4, '\"', NULL)::point3], 7)", "(NULL, NULL, NULL, NULL)"],
    ),
    ("lonely", &["ROW(true)", "ROW(NULL)"]),
    ("int2vector", &["'1 2'"]),
];

#[tokio::test]
async fn every_type_reads_as_the_database_itself_writes_it_in_json() {
    let names: Vec<String> = (0..VALUES.len()).map(|at| format!("c{at}")).collect();
    let mut objects = format!("{OBJECTS} CREATE TABLE everything (id int PRIMARY KEY");
    let mut inserts = String::new();
    for (name, (kind, _)) in names.iter().zip(VALUES) {
        write!(objects, ", {name} {kind}").unwrap();
    }
    objects.push_str(");");
    let most = VALUES.iter().map(|(_, values)| values.len()).max().unwrap();
    for at in 0..=most {
        // Where a type has no more values it gives its null.
        let values: Vec<_> = VALUES.iter().map(|(_, values)| *values.get(at).unwrap_or(&"NULL")).collect();
        write!(inserts, "INSERT INTO everything VALUES ({at}, {});", values.join(", ")).unwrap();
    }
    let columns: Vec<_> = names.iter().map(String::as_str).collect();
    let mut logged = Logged::new(&objects, vec![wanted("public.everything", &["id"], &columns)]).await;
    logged.stand.sql(&inserts).await;
    let rows = logged.poll().await.unwrap();
    assert_eq!(rows.len(), most + 1);

    let access = Access {
        url: SERVER.url(&logged.stand.database).into(),
        root_certificates: None,
        allow_loopback: true,
        application_name: "oracle".into(),
    };
    let oracle = access.open(Purpose::Read).await.unwrap();
    let mut wrong = Vec::new();
    for (name, (kind, _)) in names.iter().zip(VALUES) {
        let sql =
            format!("SELECT id, coalesce(to_json({name})::text, 'null') FROM public.everything ORDER BY id");
        for row in oracle.client().query(&sql, &[]).await.unwrap() {
            let (id, expected): (i32, String) = (row.get(0), row.get(1));
            let is = member(&rows[usize::try_from(id).unwrap()], name);
            if is != expected {
                wrong.push(format!("{kind}: {is} is not {expected}"));
            }
        }
    }
    // No column has this type; it is left as text (see `value.rs`).
    assert_eq!(wrong, [r#"int2vector: "1 2" is not [1,2]"#]);
}

/// A member of a record as it is written there.
fn member(row: &Row, name: &str) -> String {
    let record: std::collections::BTreeMap<String, Box<serde_json::value::RawValue>> =
        serde_json::from_str(row.after.as_ref().unwrap()).unwrap();
    record[name].get().to_owned()
}

#[tokio::test]
async fn every_character_survives() {
    let objects = "CREATE TABLE texts (id int PRIMARY KEY, body text);";
    let mut logged = Logged::new(objects, vec![wanted("public.texts", &["id"], &["body"])]).await;
    let fill = "INSERT INTO texts SELECT i, 'a' || chr(i) || 'b' || chr(i) FROM generate_series(1, 65535) i
        WHERE i NOT BETWEEN 55296 AND 57343";
    logged.stand.sql(fill).await;
    let rows = logged.poll().await.unwrap();
    assert_eq!(rows.len(), 63_487);
    for row in rows {
        let record: serde_json::Value = serde_json::from_str(row.after.as_ref().unwrap()).unwrap();
        let c = char::from_u32(u32::try_from(record["id"].as_u64().unwrap()).unwrap()).unwrap();
        assert_eq!(record["body"], format!("a{c}b{c}"));
    }
}
