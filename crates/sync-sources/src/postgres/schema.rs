//! The tables of a source as the database has them now, held against what their models take.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use sync_domain::config::{self, Drift, Model, TableReading, Type};
use sync_domain::id::ModelId;
use tokio_postgres::Row;

use super::connect::{Session, column, failure};
use crate::{Error, Kind, Result};

/// A table that a source reads, and what its model takes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// `schema.table`.
    pub table: String,
    /// The model of its rows.
    pub model: ModelId,
    /// The columns of the model's key.
    pub key: Vec<String>,
    /// The columns that the model reads, those of the key among them, and the type that the model demands, if any.
    pub columns: BTreeMap<String, Option<Type>>,
    /// What else the source's file says of the table.
    pub reading: Option<TableReading>,
}

impl Wanted {
    /// What a model takes of a table. Only names at the top level are columns; computed attributes read others.
    pub fn new(table: &str, entry: &config::Table, model: &Model) -> Self {
        let mut columns: BTreeMap<String, Option<Type>> =
            model.key.iter().map(|column| (column.clone(), None)).collect();
        for (path, attribute) in &model.attributes {
            if attribute.compute.is_some() {
                continue;
            }
            let column = path.split(['.', '[']).next().unwrap_or(path);
            let demanded = if column == path { attribute.kind } else { Some(Type::Json) };
            columns.insert(column.to_owned(), demanded);
        }
        Self {
            table: table.to_owned(),
            model: model.model.clone(),
            key: model.key.clone(),
            columns,
            reading: entry.reading().cloned(),
        }
    }

    /// What happens when the table does not fit (see [`Table::check_drift`]).
    pub fn drift(&self) -> Drift {
        self.reading.as_ref().map(|reading| reading.drift).unwrap_or_default()
    }
}

/// A table in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// `pg_class.oid`.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What its model takes.
    pub wanted: Wanted,
    /// Whether it has partitions.
    pub partitioned: bool,
    /// Whether the log holds its rows: not those of unlogged and temporary tables.
    pub logged: bool,
    /// Its partitions with rows of their own, oid by oid.
    pub leaves: Vec<u32>,
    /// Whether the log holds the whole old row with an update and a delete (`REPLICA IDENTITY FULL`), of every partition.
    pub whole_old_rows: bool,
    /// All its columns, in its order.
    pub columns: Vec<Column>,
    /// The sets of columns that no two rows have alike, by an index that holds at every moment and for all rows.
    pub unique: Vec<Vec<String>>,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// `pg_type.oid`.
    pub type_oid: u32,
    /// Its type as SQL writes it, e.g. `numeric(10,2)`.
    pub type_name: String,
    /// Whether it takes no null.
    pub not_null: bool,
    /// `s` stored, `v` virtual; none for a column that is written.
    pub generated: Option<char>,
    /// Whether the log holds its old value with an update of the key and with a delete.
    pub in_identity: bool,
}

/// What a table lacks for its model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Misfit {
    /// The model reads a column that the table does not have (dropped, renamed, not yet there).
    Missing(String),
    /// The column is of a type whose values the model would refuse.
    Retyped(String),
}

impl Misfit {
    /// The column.
    pub fn column(&self) -> &str {
        match self {
            Self::Missing(column) | Self::Retyped(column) => column,
        }
    }
}

impl Table {
    /// Its name for SQL: quoted, with its schema.
    pub fn sql_name(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }

    /// The columns that the model reads and the table has, in the table's order.
    pub fn read(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| self.wanted.columns.contains_key(&column.name))
    }

    /// A column by name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Makes sure that the model's key names one row: its columns are there, take no null, and no two rows have them alike.
    pub fn check_key(&self) -> Result<()> {
        let key = &self.wanted.key;
        let filled = key.iter().all(|name| self.column(name).is_some_and(|column| column.not_null));
        if filled && self.unique.iter().any(|set| set.iter().all(|column| key.contains(column))) {
            return Ok(());
        }
        Err(Error {
            kind: Kind::Misconfigured,
            code: "key",
            place: format!("table {}, columns {}", self.wanted.table, key.join(", ")),
            remedy: "the model's key must be NOT NULL and unique: a primary key, or a unique index that is neither \
                     partial nor deferrable"
                .into(),
        })
    }

    /// Where the table does not fit its model. Columns that no model reads never matter.
    pub fn misfits(&self, types: &Types) -> Vec<Misfit> {
        let misfit = |(name, demanded): (&String, &Option<Type>)| match (self.column(name), demanded) {
            (None, _) => Some(Misfit::Missing(name.clone())),
            (Some(column), Some(demanded)) if !types.shape(column.type_oid).fits(*demanded) => {
                Some(Misfit::Retyped(name.clone()))
            }
            (Some(_), _) => None,
        };
        self.wanted.columns.iter().filter_map(misfit).collect()
    }

    /// The place that is named when the table's rows are set aside; an error when the source stops. What [`Drift`] means
    /// to a reader:
    ///
    /// - A column of the **key** that is missing always stops the source: without it no row has a name.
    /// - `ignore`: rows go on with the columns that are there; the model says what a missing one becomes.
    /// - `quarantine`: rows are read and marked ([`crate::Row::set_aside`]); they are kept where dead letters are, the
    ///   source and its other tables go on.
    /// - `fail`: the source stops before it hands anything off, and nothing is lost: the cursor stays where it is.
    pub fn check_drift(&self, types: &Types) -> Result<Option<String>> {
        let misfits = self.misfits(types);
        let in_key = misfits.iter().any(|misfit| self.wanted.key.iter().any(|key| key == misfit.column()));
        let (Some(misfit), drift) = (misfits.first(), self.wanted.drift()) else { return Ok(None) };
        let place = format!("table {}, column {}", self.wanted.table, misfit.column());
        match drift {
            Drift::Ignore if !in_key => Ok(None),
            Drift::Quarantine if !in_key => Ok(Some(place)),
            _ => Err(Error {
                kind: Kind::Misconfigured,
                code: "schema_drift",
                place,
                remedy: "the column is gone or has another type: correct the model, or the table".into(),
            }),
        }
    }
}

/// Reads the tables, in the order in which they are wanted.
///
/// # Errors
/// `Misconfigured` when one is not there or is no table.
pub async fn tables(session: &Session, wanted: &[Wanted]) -> Result<Vec<Table>> {
    // The old row is in the log as far as the identity of the partition says, whatever the root's says.
    const SQL: &str = "
        SELECT w.at::int, c.oid, c.relkind::text, c.relpersistence::text, a.attname::text, a.atttypid,
            format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated::text,
            c.relreplident = 'f' OR coalesce(a.attnum = ANY (i.indkey), false),
            (SELECT coalesce(bool_and(l.relreplident = 'f'), c.relreplident = 'f')
                FROM pg_partition_tree(c.oid) p JOIN pg_class l ON l.oid = p.relid WHERE p.isleaf),
            ARRAY(SELECT relid::oid FROM pg_partition_tree(c.oid) WHERE isleaf)
        FROM unnest($1::text[], $2::text[]) WITH ORDINALITY w (schema, name, at)
        JOIN pg_namespace n ON n.nspname = w.schema
        JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_index i ON i.indrelid = c.oid
            AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END
        ORDER BY w.at, a.attnum";
    let names: Vec<_> = wanted.iter().map(|wanted| split(&wanted.table)).collect();
    let (schemas, tables): (Vec<_>, Vec<_>) = names.into_iter().unzip();
    let rows = session.client().query(SQL, &[&schemas, &tables]).await;
    let mut found: BTreeMap<i32, Table> = BTreeMap::new();
    for row in rows.map_err(|error| failure("the tables of the source", &error))? {
        let at = column::<i32>(&row, 0)?;
        let place = usize::try_from(at - 1).unwrap_or_default();
        let Some(((wanted, schema), name)) = wanted.get(place).zip(schemas.get(place)).zip(tables.get(place))
        else {
            continue;
        };
        let table = match found.entry(at) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(Table {
                oid: column(&row, 1)?,
                schema: (*schema).to_owned(),
                name: (*name).to_owned(),
                wanted: wanted.clone(),
                partitioned: kind_of(&row, &wanted.table)?,
                logged: column::<&str>(&row, 3)? == "p",
                whole_old_rows: column(&row, 10)?,
                leaves: column(&row, 11)?,
                columns: Vec::new(),
                unique: Vec::new(),
            }),
        };
        table.columns.push(Column {
            name: column(&row, 4)?,
            type_oid: column(&row, 5)?,
            type_name: column(&row, 6)?,
            not_null: column(&row, 7)?,
            generated: column::<&str>(&row, 8)?.chars().next(),
            in_identity: column(&row, 9)?,
        });
    }
    let missing = (1..).zip(wanted).find(|(at, _)| !found.contains_key(at));
    if let Some((_, wanted)) = missing {
        return Err(Error {
            kind: Kind::Misconfigured,
            code: "no_table",
            place: format!("table {}", wanted.table),
            remedy: "it is not there, or has no columns: correct the source's file (`schema.table`)".into(),
        });
    }
    let mut tables: Vec<_> = found.into_values().collect();
    read_unique(session, &mut tables).await?;
    Ok(tables)
}

async fn read_unique(session: &Session, tables: &mut [Table]) -> Result<()> {
    const SQL: &str = "
        SELECT i.indrelid, (SELECT array_agg(a.attname::text) FROM pg_attribute a
            WHERE a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]))
        FROM pg_index i
        WHERE i.indrelid = ANY ($1) AND i.indisunique AND i.indisvalid AND i.indimmediate
            AND i.indpred IS NULL AND i.indexprs IS NULL";
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    let rows = session.client().query(SQL, &[&oids]).await;
    for row in rows.map_err(|error| failure("the indexes of the tables", &error))? {
        let oid: u32 = column(&row, 0)?;
        if let Some(table) = tables.iter_mut().find(|table| table.oid == oid) {
            table.unique.push(column(&row, 1)?);
        }
    }
    Ok(())
}

fn kind_of(row: &Row, table: &str) -> Result<bool> {
    match column::<&str>(row, 2)? {
        "r" => Ok(false),
        "p" => Ok(true),
        _ => Err(Error {
            kind: Kind::Misconfigured,
            code: "no_table",
            place: format!("table {table}"),
            remedy: "it is a view or a foreign table; only tables are read".into(),
        }),
    }
}

/// `schema.table`, in `public` without a schema.
pub(super) fn split(table: &str) -> (&str, &str) {
    table.split_once('.').unwrap_or(("public", table))
}

/// A name for SQL.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// How a type's text becomes JSON, as `to_json` makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// As a string.
    Text,
    /// As a number; what is none (`NaN`, `Infinity`) as a string.
    Number {
        /// Whether values may have a fraction or be no finite number.
        whole: bool,
    },
    /// `true` or `false`.
    Boolean,
    /// As it stands.
    Json,
    /// With a `T` between day and time.
    Timestamp,
    /// The same, with the zone in hours and minutes.
    TimestampTz,
    /// An array.
    Array {
        /// Of what.
        element: Arc<Shape>,
        /// What stands between two elements.
        delimiter: u8,
    },
    /// An object.
    Composite(Arc<[(String, Shape)]>),
}

impl Shape {
    /// Whether the model's type takes such values.
    fn fits(&self, demanded: Type) -> bool {
        match demanded {
            Type::Json => true,
            Type::String => matches!(self, Self::Text | Self::Timestamp | Self::TimestampTz | Self::Json),
            Type::Time => matches!(self, Self::TimestampTz | Self::Text | Self::Json),
            // A numeric may be whole all the same; the model looks at each value.
            Type::Integer | Type::Decimal => matches!(self, Self::Number { .. } | Self::Json),
            Type::Boolean => matches!(self, Self::Boolean | Self::Json),
        }
    }
}

/// Types by their oid.
#[derive(Debug, Default)]
pub struct Types {
    known: HashMap<u32, Shape>,
}

/// A row of `pg_type`.
struct Entry {
    kind: char,
    base: u32,
    element: u32,
    delimiter: u8,
    fields: Vec<(String, u32)>,
}

impl Types {
    /// How a type's text becomes JSON; as a string where the type is not known (it was dropped since).
    pub fn shape(&self, oid: u32) -> &Shape {
        builtin(oid).or_else(|| self.known.get(&oid)).unwrap_or(&Shape::Text)
    }

    /// Whether the type needs no look.
    pub fn knows(&self, oid: u32) -> bool {
        builtin(oid).is_some() || self.known.contains_key(&oid)
    }

    /// Looks up the types that are not known yet, and what they are made of.
    pub async fn load(&mut self, session: &Session, oids: impl IntoIterator<Item = u32>) -> Result<()> {
        const SQL: &str = "
            SELECT t.oid, t.typtype::text, t.typbasetype, t.typdelim::text,
                CASE WHEN t.typsubscript = 'array_subscript_handler'::regproc AND t.typlen = -1 AND t.typoutput = 'array_out'::regproc
                    THEN t.typelem ELSE 0::oid END,
                coalesce(f.names, '{}'), coalesce(f.types, '{}')
            FROM pg_type t LEFT JOIN LATERAL (
                SELECT array_agg(a.attname::text ORDER BY a.attnum) AS names,
                    array_agg(a.atttypid ORDER BY a.attnum) AS types
                FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
            ) f ON t.typtype = 'c'
            WHERE t.oid = ANY ($1)";
        let unknown = |oid: &u32| builtin(*oid).is_none() && !self.known.contains_key(oid);
        let asked: Vec<u32> = oids.into_iter().filter(unknown).collect::<HashSet<_>>().into_iter().collect();
        let mut entries: HashMap<u32, Entry> = HashMap::new();
        let mut missing = asked.clone();
        while !missing.is_empty() {
            let rows = session.client().query(SQL, &[&missing]).await;
            let mut parts = HashSet::new();
            for row in rows.map_err(|error| failure("the types of the columns", &error))? {
                let (names, types): (Vec<String>, Vec<u32>) = (column(&row, 5)?, column(&row, 6)?);
                let entry = Entry {
                    kind: column::<&str>(&row, 1)?.chars().next().unwrap_or('b'),
                    base: column(&row, 2)?,
                    delimiter: column::<&str>(&row, 3)?.bytes().next().unwrap_or(b','),
                    element: column(&row, 4)?,
                    fields: names.into_iter().zip(types).collect(),
                };
                parts.extend([entry.base, entry.element]);
                parts.extend(entry.fields.iter().map(|(_, oid)| *oid));
                entries.insert(column(&row, 0)?, entry);
            }
            let unknown = |oid: &u32| *oid != 0 && builtin(*oid).is_none() && !entries.contains_key(oid);
            // What the catalog has no row for would be asked for again and again.
            missing = parts.into_iter().filter(unknown).collect();
            if !missing.is_empty() && entries.len() > 10_000 {
                break;
            }
        }
        for oid in asked {
            let shape = shape_of(oid, &entries, 0);
            self.known.insert(oid, shape);
        }
        Ok(())
    }
}

/// Types inside each other, at most.
const DEPTH: usize = 16;

fn shape_of(oid: u32, entries: &HashMap<u32, Entry>, depth: usize) -> Shape {
    if let Some(shape) = builtin(oid) {
        return shape.clone();
    }
    match entries.get(&oid) {
        Some(_) if depth > DEPTH => Shape::Text,
        Some(entry) if entry.kind == 'd' => shape_of(entry.base, entries, depth + 1),
        Some(entry) if entry.kind == 'c' => {
            let field = |(name, oid): &(String, u32)| (name.clone(), shape_of(*oid, entries, depth + 1));
            Shape::Composite(entry.fields.iter().map(field).collect())
        }
        Some(entry) if entry.element != 0 => Shape::Array {
            element: Arc::new(shape_of(entry.element, entries, depth + 1)),
            delimiter: entry.delimiter,
        },
        _ => Shape::Text,
    }
}

/// The types that are more than a string and that every server knows by the same number.
fn builtin(oid: u32) -> Option<&'static Shape> {
    match oid {
        16 => Some(&Shape::Boolean),
        20 | 21 | 23 => Some(&Shape::Number { whole: true }),
        700 | 701 | 1700 => Some(&Shape::Number { whole: false }),
        114 | 3802 => Some(&Shape::Json),
        1114 => Some(&Shape::Timestamp),
        1184 => Some(&Shape::TimestampTz),
        // text, varchar, char(n), uuid, date, time, bytea: the most frequent of the rest need no look either.
        25 | 1043 | 1042 | 2950 | 1082 | 1083 | 17 => Some(&Shape::Text),
        _ => None,
    }
}
