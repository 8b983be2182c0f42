//! Reads what `pgoutput` writes, protocol version 1: "Logical Replication Message Formats" in PostgreSQL's manual.
//!
//! Nothing is copied; texts and tuples are parts of the message. No input makes it panic.

/// A message of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// A transaction begins; only committed ones come, in the order of their commits.
    Begin {
        /// Where its commit stands in the log.
        commit: u64,
        /// When it was committed, in microseconds since 2000-01-01 UTC.
        committed_at: i64,
        /// The lower half of its id.
        xid: u32,
    },
    /// A transaction ends.
    Commit {
        /// Where its commit stands in the log.
        commit: u64,
        /// Where the log goes on behind it.
        end: u64,
    },
    /// The transaction came from another server by replication.
    Origin,
    /// What a table is like, before its first change and after each change of it.
    Relation(Relation<'a>),
    /// The name of a type that is not built in.
    Type,
    /// A row is new.
    Insert {
        /// The table.
        relation: u32,
        /// The row.
        new: Tuple<'a>,
    },
    /// A row is another.
    Update {
        /// The table.
        relation: u32,
        /// The row before: the key where it changed, the whole row where the table's identity is full.
        old: Option<Old<'a>>,
        /// The row now.
        new: Tuple<'a>,
    },
    /// A row is gone.
    Delete {
        /// The table.
        relation: u32,
        /// The row before.
        old: Old<'a>,
    },
    /// All rows of some tables are gone.
    Truncate {
        /// The tables, four bytes each.
        relations: Relations<'a>,
    },
    /// Something that an application wrote into the log.
    Logical,
}

/// The row before a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Old<'a> {
    /// Only the columns of the identity; the others read as null.
    Key(Tuple<'a>),
    /// The whole row.
    Row(Tuple<'a>),
}

impl<'a> Old<'a> {
    /// The values, as far as there are any.
    pub fn tuple(self) -> Tuple<'a> {
        match self {
            Self::Key(tuple) | Self::Row(tuple) => tuple,
        }
    }
}

/// A table as it was when the changes that follow were made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation<'a> {
    /// `pg_class.oid`.
    pub oid: u32,
    /// Its schema; empty for `pg_catalog`.
    pub schema: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its columns, in the order of its tuples.
    pub columns: Vec<RelationColumn<'a>>,
}

/// A column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelationColumn<'a> {
    /// Whether it belongs to the identity.
    pub in_identity: bool,
    /// Its name.
    pub name: &'a str,
    /// `pg_type.oid`.
    pub type_oid: u32,
}

/// The values of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple<'a> {
    count: u16,
    bytes: &'a [u8],
}

impl<'a> Tuple<'a> {
    /// Its values, in the order of the relation's columns.
    pub fn fields(&self) -> impl Iterator<Item = Field<'a>> + use<'a> {
        let mut reader = Reader(self.bytes);
        // The tuple was walked through when it was decoded.
        (0..self.count).map_while(move |_| reader.field().ok())
    }
}

/// A value of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field<'a> {
    /// Null.
    Null,
    /// A large value that the update left as it was; the log does not hold it.
    Unchanged,
    /// The value's text, in the encoding of the session.
    Text(&'a [u8]),
}

/// The tables of a truncation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relations<'a>(&'a [[u8; 4]]);

impl<'a> Relations<'a> {
    /// Their oids.
    pub fn iter(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.0.iter().map(|oid| u32::from_be_bytes(*oid))
    }
}

/// A message that is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It ends too early.
    #[error("the message ends too early")]
    Truncated,
    /// Something follows its end.
    #[error("something follows the end of the message")]
    Trailing,
    /// Its first byte, or one that names a part, is none that version 1 has.
    #[error("version 1 of the protocol has no `{}`", char::from(*.0))]
    Unknown(u8),
    /// A name is not UTF-8.
    #[error("a name is not UTF-8")]
    Name,
}

/// Reads one message.
pub fn decode(message: &[u8]) -> Result<Message<'_>, Error> {
    let mut reader = Reader(message);
    let decoded = match reader.byte()? {
        b'B' => Message::Begin {
            commit: reader.u64()?,
            committed_at: reader.u64()?.cast_signed(),
            xid: reader.u32()?,
        },
        b'C' => {
            reader.byte()?;
            let (commit, end) = (reader.u64()?, reader.u64()?);
            reader.u64()?;
            Message::Commit { commit, end }
        }
        b'O' => {
            reader.u64()?;
            reader.text()?;
            Message::Origin
        }
        b'R' => Message::Relation(reader.relation()?),
        b'Y' => {
            reader.u32()?;
            reader.text()?;
            reader.text()?;
            Message::Type
        }
        b'I' => {
            let relation = reader.u32()?;
            reader.expect(b'N')?;
            Message::Insert { relation, new: reader.tuple()? }
        }
        b'U' => {
            let relation = reader.u32()?;
            let (old, next) = match reader.byte()? {
                b'N' => (None, b'N'),
                kind => (Some(reader.old(kind)?), reader.byte()?),
            };
            if next != b'N' {
                return Err(Error::Unknown(next));
            }
            Message::Update { relation, old, new: reader.tuple()? }
        }
        b'D' => {
            let relation = reader.u32()?;
            let kind = reader.byte()?;
            Message::Delete { relation, old: reader.old(kind)? }
        }
        b'T' => {
            let count = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
            reader.byte()?;
            let bytes = reader.take(count.checked_mul(4).ok_or(Error::Truncated)?)?;
            Message::Truncate { relations: Relations(bytes.as_chunks().0) }
        }
        b'M' => {
            reader.byte()?;
            reader.u64()?;
            reader.text()?;
            let length = reader.u32()?;
            reader.take(usize::try_from(length).unwrap_or(usize::MAX))?;
            Message::Logical
        }
        other => return Err(Error::Unknown(other)),
    };
    if reader.0.is_empty() { Ok(decoded) } else { Err(Error::Trailing) }
}

/// The part of a message that is not read yet.
#[derive(Clone)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (head, tail) = self.0.split_at_checked(length).ok_or(Error::Truncated)?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (head, tail) = self.0.split_first_chunk().ok_or(Error::Truncated)?;
        self.0 = tail;
        Ok(*head)
    }

    fn byte(&mut self) -> Result<u8, Error> {
        self.array().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_be_bytes)
    }

    fn expect(&mut self, kind: u8) -> Result<(), Error> {
        match self.byte()? {
            byte if byte == kind => Ok(()),
            other => Err(Error::Unknown(other)),
        }
    }

    /// A text that ends with a zero byte.
    fn text(&mut self) -> Result<&'a str, Error> {
        let length = self.0.iter().position(|byte| *byte == 0).ok_or(Error::Truncated)?;
        let text = self.take(length)?;
        self.byte()?;
        str::from_utf8(text).map_err(|_| Error::Name)
    }

    fn relation(&mut self) -> Result<Relation<'a>, Error> {
        let (oid, schema, name) = (self.u32()?, self.text()?, self.text()?);
        self.byte()?;
        let count = self.u16()?;
        // What the message says of its length is not believed before it is there.
        let mut columns = Vec::with_capacity(usize::from(count).min(self.0.len() / 10));
        for _ in 0..count {
            let in_identity = self.byte()? & 1 == 1;
            let (name, type_oid) = (self.text()?, self.u32()?);
            self.u32()?;
            columns.push(RelationColumn { in_identity, name, type_oid });
        }
        Ok(Relation { oid, schema, name, columns })
    }

    fn old(&mut self, kind: u8) -> Result<Old<'a>, Error> {
        match kind {
            b'K' => self.tuple().map(Old::Key),
            b'O' => self.tuple().map(Old::Row),
            other => Err(Error::Unknown(other)),
        }
    }

    fn tuple(&mut self) -> Result<Tuple<'a>, Error> {
        let count = self.u16()?;
        let all = self.0;
        for _ in 0..count {
            self.field()?;
        }
        let (bytes, _) = all.split_at_checked(all.len() - self.0.len()).ok_or(Error::Truncated)?;
        Ok(Tuple { count, bytes })
    }

    fn field(&mut self) -> Result<Field<'a>, Error> {
        match self.byte()? {
            b'n' => Ok(Field::Null),
            b'u' => Ok(Field::Unchanged),
            b't' => {
                let length = self.u32()?;
                self.take(usize::try_from(length).unwrap_or(usize::MAX)).map(Field::Text)
            }
            other => Err(Error::Unknown(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tuple(fields: &[Field<'_>]) -> Vec<u8> {
        let mut bytes = u16::try_from(fields.len()).unwrap().to_be_bytes().to_vec();
        for field in fields {
            match field {
                Field::Null => bytes.push(b'n'),
                Field::Unchanged => bytes.push(b'u'),
                Field::Text(text) => {
                    bytes.push(b't');
                    bytes.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
                    bytes.extend(*text);
                }
            }
        }
        bytes
    }

    fn message(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
        [&[kind][..], &parts.concat()].concat()
    }

    /// One of each kind.
    fn examples() -> Vec<Vec<u8>> {
        let row = tuple(&[Field::Text(b"42"), Field::Null, Field::Unchanged]);
        let oid = 7_u32.to_be_bytes();
        let (lsn, lsn2, time) = (16_u64.to_be_bytes(), 17_u64.to_be_bytes(), 5_i64.to_be_bytes());
        let columns = [
            &[0, 2, 1][..],
            b"id\0",
            &23_u32.to_be_bytes(),
            &(-1_i32).to_be_bytes(),
            &[0],
            b"name\0",
            &25_u32.to_be_bytes(),
            &(-1_i32).to_be_bytes(),
        ]
        .concat();
        vec![
            message(b'B', &[&lsn, &time, &9_u32.to_be_bytes()]),
            message(b'C', &[&[0], &lsn, &lsn2, &time]),
            message(b'O', &[&lsn, b"elsewhere\0"]),
            message(b'R', &[&oid, b"public\0", b"customers\0", b"d", &columns]),
            message(b'Y', &[&oid, b"public\0", b"mood\0"]),
            message(b'I', &[&oid, b"N", &row]),
            message(b'U', &[&oid, b"N", &row]),
            message(b'U', &[&oid, b"K", &row, b"N", &row]),
            message(b'U', &[&oid, b"O", &row, b"N", &row]),
            message(b'D', &[&oid, b"K", &row]),
            message(b'D', &[&oid, b"O", &row]),
            message(b'T', &[&2_u32.to_be_bytes(), &[3], &oid, &8_u32.to_be_bytes()]),
            message(b'M', &[&[1], &lsn, b"prefix\0", &3_u32.to_be_bytes(), b"abc"]),
        ]
    }

    #[test]
    fn every_kind_of_message_is_read() {
        let examples = examples();
        let read: Vec<_> = examples.iter().map(|bytes| decode(bytes).unwrap()).collect();
        let fields = [Field::Text(b"42"), Field::Null, Field::Unchanged];
        let bytes = tuple(&fields);
        let row = Tuple { count: 3, bytes: &bytes[2..] };
        assert_eq!(row.fields().collect::<Vec<_>>(), fields);
        assert_eq!(read[0], Message::Begin { commit: 16, committed_at: 5, xid: 9 });
        assert_eq!(read[1], Message::Commit { commit: 16, end: 17 });
        assert_eq!(read[2], Message::Origin);
        let Message::Relation(relation) = &read[3] else { panic!("{:?}", read[3]) };
        assert_eq!((relation.oid, relation.schema, relation.name), (7, "public", "customers"));
        assert_eq!(relation.columns[0], RelationColumn { in_identity: true, name: "id", type_oid: 23 });
        assert_eq!(relation.columns[1], RelationColumn { in_identity: false, name: "name", type_oid: 25 });
        assert_eq!(read[4], Message::Type);
        assert_eq!(read[5], Message::Insert { relation: 7, new: row });
        assert_eq!(read[6], Message::Update { relation: 7, old: None, new: row });
        assert_eq!(read[7], Message::Update { relation: 7, old: Some(Old::Key(row)), new: row });
        assert_eq!(read[8], Message::Update { relation: 7, old: Some(Old::Row(row)), new: row });
        assert_eq!(read[9], Message::Delete { relation: 7, old: Old::Key(row) });
        assert_eq!(read[10], Message::Delete { relation: 7, old: Old::Row(row) });
        let Message::Truncate { relations } = &read[11] else { panic!("{:?}", read[11]) };
        assert_eq!(relations.iter().collect::<Vec<_>>(), [7, 8]);
        assert_eq!(read[12], Message::Logical);
    }

    #[test]
    fn no_part_of_a_message_is_a_message() {
        for example in examples() {
            for length in 0..example.len() {
                assert_eq!(decode(&example[..length]), Err(Error::Truncated), "{example:?} cut at {length}");
            }
            assert_eq!(decode(&[&example[..], b"!"].concat()), Err(Error::Trailing));
        }
    }

    #[test]
    fn messages_of_later_versions_are_refused() {
        for kind in b"SEcAbPKrpz" {
            assert_eq!(decode(&[*kind, 0, 0, 0, 0, 0, 0, 0, 0]), Err(Error::Unknown(*kind)));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn a_damaged_message_is_an_error_or_another_message(
            which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in any::<u8>()
        ) {
            let examples = examples();
            let mut bytes = examples[which.index(examples.len())].clone();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(Message::Insert { new, .. }) = decode(&bytes) {
                let _ = new.fields().count();
            }
        }
    }
}
