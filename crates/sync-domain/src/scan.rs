//! The one JSON scanner, the same in capture and transform.
//!
//! It validates text and hands out the spans of its values, so that what no rule touches is copied byte for byte
//! (numbers keep every digit). It builds no tree: limits are checked before anything is allocated for a value. It
//! refuses what JSON parsers disagree about: duplicate names (compared after unescaping), lone surrogates, depth.

use std::borrow::Cow;

/// The bounds of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole document.
    pub bytes: usize,
    /// Objects and arrays inside each other.
    pub depth: usize,
    /// Values in all arrays and objects together.
    pub items: usize,
    /// Bytes of one string as written, escapes counted as they stand.
    pub string: usize,
    /// Names in one object.
    pub names: usize,
}

impl Default for Limits {
    /// What fits a queue: 1 MiB, 32 levels, 50,000 values, 256 KiB a string, 1,000 names an object.
    fn default() -> Self {
        Self { bytes: 1 << 20, depth: 32, items: 50_000, string: 256 << 10, names: 1_000 }
    }
}

/// What is wrong with a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ErrorKind {
    /// The document ends inside a value.
    #[error("the document ends too early")]
    UnexpectedEnd,
    /// A character stands where JSON allows none like it.
    #[error("this character does not belong here")]
    UnexpectedCharacter,
    /// Something follows the document.
    #[error("something follows the end of the document")]
    TrailingCharacters,
    /// More bytes than the limit.
    #[error("the document is too long")]
    TooLong,
    /// More levels than the limit.
    #[error("objects and arrays are nested too deep")]
    TooDeep,
    /// More values than the limit.
    #[error("the document has too many values")]
    TooManyItems,
    /// More names in one object than the limit.
    #[error("the object has too many names")]
    TooManyNames,
    /// A longer string than the limit.
    #[error("the string is too long")]
    StringTooLong,
    /// Two members of an object have the same name.
    #[error("the object has this name twice")]
    DuplicateName,
    /// Half of a surrogate pair.
    #[error("the escape is half of a surrogate pair")]
    LoneSurrogate,
    /// A control character that must be escaped.
    #[error("a control character must be escaped")]
    ControlCharacter,
    /// An escape that JSON does not know.
    #[error("JSON knows no such escape")]
    BadEscape,
    /// A number that JSON does not allow.
    #[error("this is no JSON number")]
    BadNumber,
    /// Not UTF-8.
    #[error("the document is not UTF-8")]
    NotUtf8,
    /// A value of another type is needed.
    #[error("a value of another type is needed")]
    WrongType,
}

/// What is wrong, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{kind} (byte {offset})")]
pub struct Error {
    /// What.
    pub kind: ErrorKind,
    /// Bytes before the place.
    pub offset: usize,
}

/// The result of a scan.
pub type Result<T> = std::result::Result<T, Error>;

/// The type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true`, `false`
    Boolean,
    /// A number.
    Number,
    /// A string.
    String,
    /// An object.
    Object,
    /// An array.
    Array,
}

/// A value as it stands in the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value<'a> {
    /// Its text, quotes and brackets included.
    pub raw: &'a str,
    /// Its type.
    pub kind: Kind,
}

impl<'a> Value<'a> {
    /// `null`.
    pub const NULL: Value<'static> = Value { raw: "null", kind: Kind::Null };

    /// The text that a string stands for; none for other types.
    pub fn text(&self) -> Option<Cow<'a, str>> {
        (self.kind == Kind::String).then(|| unescape(self.raw))
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        self.kind == Kind::Null
    }
}

/// Checks a whole document.
pub fn validate(document: &[u8], limits: &Limits) -> Result<()> {
    let text = utf8(document)?;
    let mut scanner = Scanner::new(text, limits)?;
    scanner.value()?;
    scanner.end()
}

/// The document as text.
pub fn utf8(document: &[u8]) -> Result<&str> {
    std::str::from_utf8(document)
        .map_err(|error| Error { kind: ErrorKind::NotUtf8, offset: error.valid_up_to() })
}

/// A name that an open object has had already.
#[derive(Debug, Clone, Copy)]
struct SeenName {
    /// Length, first and last bytes: different for nearly all different names, so that few are compared in full.
    print: u64,
    start: usize,
    end: usize,
}

/// Walks through a document, value by value.
#[derive(Debug)]
pub struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    items: usize,
    limits: Limits,
    /// Names of the objects that are open, innermost last.
    seen: Vec<SeenName>,
}

impl<'a> Scanner<'a> {
    /// Starts before the first value of a document.
    pub fn new(text: &'a str, limits: &Limits) -> Result<Self> {
        if text.len() > limits.bytes {
            return Err(Error { kind: ErrorKind::TooLong, offset: limits.bytes });
        }
        Ok(Self {
            text,
            bytes: text.as_bytes(),
            at: 0,
            depth: 0,
            items: 0,
            limits: *limits,
            // A small document has few names; a large one would make the list grow again and again.
            seen: Vec::with_capacity((text.len() / 16).min(32)),
        })
    }

    /// Bytes read so far.
    pub fn offset(&self) -> usize {
        self.at
    }

    /// The type of the next value, which stays to be read.
    #[inline]
    pub fn peek(&mut self) -> Result<Kind> {
        self.space();
        match self.byte() {
            Some(b'"') => Ok(Kind::String),
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b't' | b'f') => Ok(Kind::Boolean),
            Some(b'n') => Ok(Kind::Null),
            Some(_) => self.fail(ErrorKind::UnexpectedCharacter),
            None => self.fail(ErrorKind::UnexpectedEnd),
        }
    }

    /// Reads the next value, whatever it is, and gives its span.
    #[inline]
    pub fn value(&mut self) -> Result<Value<'a>> {
        let kind = self.peek()?;
        let start = self.at;
        match kind {
            Kind::String => {
                self.string()?;
            }
            Kind::Number => self.number()?,
            Kind::Boolean if self.byte() == Some(b't') => self.literal(b"true")?,
            Kind::Boolean => self.literal(b"false")?,
            Kind::Null => self.literal(b"null")?,
            Kind::Object => self.members(|scanner, _, _| scanner.value().map(drop))?,
            Kind::Array => self.array(|scanner, _| scanner.value().map(drop))?,
        }
        Ok(Value { raw: self.slice(start, self.at), kind })
    }

    /// Reads an object: calls `member` behind each name, which reads exactly one value.
    #[inline]
    pub fn object<E: From<Error>>(
        &mut self,
        mut member: impl FnMut(&mut Self, Cow<'a, str>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        self.members(|scanner, name, _| member(scanner, name))
    }

    /// Reads an object; `member` gets the print of the name too (see [`name_print`]).
    #[inline]
    pub(crate) fn members<E: From<Error>>(
        &mut self,
        mut member: impl FnMut(&mut Self, Cow<'a, str>, u64) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        self.open(b'{')?;
        let outer = self.seen.len();
        // One bit per print: a name whose bit is not set has not been here.
        let mut bits = 0_u128;
        self.space();
        if self.byte() == Some(b'}') {
            self.at += 1;
        } else {
            loop {
                self.count()?;
                let (name, print) = self.name(outer, &mut bits)?;
                member(self, name, print)?;
                if self.next_or_close(b'}')? {
                    break;
                }
            }
        }
        self.seen.truncate(outer);
        self.depth -= 1;
        Ok(())
    }

    /// Reads an array: calls `element` with each index, which reads exactly one value.
    pub fn array<E: From<Error>>(
        &mut self,
        mut element: impl FnMut(&mut Self, usize) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        self.open(b'[')?;
        self.space();
        if self.byte() == Some(b']') {
            self.at += 1;
        } else {
            let mut index = 0;
            loop {
                self.count()?;
                element(self, index)?;
                index += 1;
                if self.next_or_close(b']')? {
                    break;
                }
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// Makes sure that nothing but white space is left.
    pub fn end(&mut self) -> Result<()> {
        self.space();
        if self.at == self.bytes.len() { Ok(()) } else { self.fail(ErrorKind::TrailingCharacters) }
    }

    /// What has been read since `start`.
    pub(crate) fn since(&self, start: usize) -> &'a str {
        self.slice(start, self.at)
    }

    /// An error at the place that the scanner has come to.
    pub fn fail<T>(&self, kind: ErrorKind) -> Result<T> {
        Err(Error { kind, offset: self.at })
    }

    #[inline]
    fn byte(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    fn slice(&self, start: usize, end: usize) -> &'a str {
        // Spans begin and end at ASCII characters, so the slice always stands.
        self.text.get(start..end).unwrap_or_default()
    }

    #[inline]
    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.byte() {
            self.at += 1;
        }
    }

    #[inline]
    fn open(&mut self, bracket: u8) -> Result<()> {
        self.space();
        match self.byte() {
            Some(byte) if byte == bracket => {}
            Some(_) => return self.fail(ErrorKind::WrongType),
            None => return self.fail(ErrorKind::UnexpectedEnd),
        }
        if self.depth == self.limits.depth {
            return self.fail(ErrorKind::TooDeep);
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    #[inline]
    fn count(&mut self) -> Result<()> {
        self.items += 1;
        if self.items > self.limits.items { self.fail(ErrorKind::TooManyItems) } else { Ok(()) }
    }

    /// Behind a value: true at the closing bracket, false at a comma.
    #[inline]
    fn next_or_close(&mut self, close: u8) -> Result<bool> {
        self.space();
        match self.byte() {
            Some(b',') => {
                self.at += 1;
                Ok(false)
            }
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(true)
            }
            Some(_) => self.fail(ErrorKind::UnexpectedCharacter),
            None => self.fail(ErrorKind::UnexpectedEnd),
        }
    }

    #[inline]
    fn name(&mut self, outer: usize, bits: &mut u128) -> Result<(Cow<'a, str>, u64)> {
        self.space();
        let start = self.at;
        match self.byte() {
            Some(b'"') => {}
            Some(_) => return self.fail(ErrorKind::UnexpectedCharacter),
            None => return self.fail(ErrorKind::UnexpectedEnd),
        }
        let escaped = self.string()?;
        let raw = self.slice(start, self.at);
        let name = if escaped { unescape(raw) } else { Cow::Borrowed(unquoted(raw)) };
        let print = name_print(name.as_bytes());
        self.first_time(&name, print, start, outer, bits)?;
        self.space();
        match self.byte() {
            Some(b':') => {
                self.at += 1;
                Ok((name, print))
            }
            Some(_) => self.fail(ErrorKind::UnexpectedCharacter),
            None => self.fail(ErrorKind::UnexpectedEnd),
        }
    }

    #[inline]
    fn first_time(
        &mut self,
        name: &str,
        print: u64,
        start: usize,
        outer: usize,
        bits: &mut u128,
    ) -> Result<()> {
        let bit = 1_u128 << (print >> 57);
        let maybe_seen = *bits & bit != 0;
        *bits |= bit;
        let duplicate =
            |seen: &SeenName| seen.print == print && unescape(self.slice(seen.start, seen.end)) == name;
        let seen_here = self.seen.get(outer..).unwrap_or_default();
        if maybe_seen && seen_here.iter().any(duplicate) {
            return Err(Error { kind: ErrorKind::DuplicateName, offset: start });
        }
        if seen_here.len() == self.limits.names {
            return Err(Error { kind: ErrorKind::TooManyNames, offset: start });
        }
        self.seen.push(SeenName { print, start, end: self.at });
        Ok(())
    }

    /// Reads a string; true if it has escapes.
    #[inline]
    fn string(&mut self) -> Result<bool> {
        let start = self.at;
        self.at += 1;
        let mut escaped = false;
        loop {
            self.plain_run();
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    if self.at - start > self.limits.string + 2 {
                        return Err(Error { kind: ErrorKind::StringTooLong, offset: start });
                    }
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(byte) if byte < 0x20 => return self.fail(ErrorKind::ControlCharacter),
                // The word at a time stops short of the end; the rest goes byte by byte.
                Some(_) => self.at += 1,
                None => return self.fail(ErrorKind::UnexpectedEnd),
            }
        }
    }

    /// Skips characters that need no look: eight at a time until a word holds a quote, a backslash or a control
    /// character (the word tricks are those of "Bit Twiddling Hacks", "Determine if a word has a byte less than n").
    #[inline]
    fn plain_run(&mut self) {
        while let Some(chunk) = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk::<8>) {
            let hit = special(u64::from_le_bytes(*chunk));
            if hit == 0 {
                self.at += 8;
            } else {
                // The lowest mark is exact; marks above it may be carries.
                self.at += (hit.trailing_zeros() / 8) as usize;
                return;
            }
        }
    }

    fn escape(&mut self) -> Result<()> {
        let start = self.at;
        self.at += 1;
        match self.byte() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => {
                self.at += 1;
                match self.four_hex()? {
                    0xD800..=0xDBFF => {
                        if self.bytes.get(self.at..self.at + 2) != Some(b"\\u") {
                            return Err(Error { kind: ErrorKind::LoneSurrogate, offset: start });
                        }
                        self.at += 2;
                        match self.four_hex()? {
                            0xDC00..=0xDFFF => Ok(()),
                            _ => Err(Error { kind: ErrorKind::LoneSurrogate, offset: start }),
                        }
                    }
                    0xDC00..=0xDFFF => Err(Error { kind: ErrorKind::LoneSurrogate, offset: start }),
                    _ => Ok(()),
                }
            }
            Some(_) => Err(Error { kind: ErrorKind::BadEscape, offset: start }),
            None => self.fail(ErrorKind::UnexpectedEnd),
        }
    }

    fn four_hex(&mut self) -> Result<u32> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = match self.byte() {
                Some(byte) => char::from(byte).to_digit(16),
                None => return self.fail(ErrorKind::UnexpectedEnd),
            };
            match digit {
                Some(digit) => code = code * 16 + digit,
                None => return self.fail(ErrorKind::BadEscape),
            }
            self.at += 1;
        }
        Ok(code)
    }

    #[inline]
    fn digits(&mut self) -> usize {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.byte() {
            self.at += 1;
        }
        self.at - start
    }

    #[inline]
    fn number(&mut self) -> Result<()> {
        let start = self.at;
        let bad = Err(Error { kind: ErrorKind::BadNumber, offset: start });
        if self.byte() == Some(b'-') {
            self.at += 1;
        }
        let leading_zero = self.byte() == Some(b'0');
        let whole = self.digits();
        if whole == 0 || (leading_zero && whole > 1) {
            return bad;
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            if self.digits() == 0 {
                return bad;
            }
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.byte() {
                self.at += 1;
            }
            if self.digits() == 0 {
                return bad;
            }
        }
        Ok(())
    }

    #[inline]
    fn literal(&mut self, word: &[u8]) -> Result<()> {
        if self.bytes.get(self.at..self.at + word.len()) == Some(word) {
            self.at += word.len();
            Ok(())
        } else {
            self.fail(ErrorKind::UnexpectedCharacter)
        }
    }
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Marks in a word of eight characters at quotes, backslashes and control characters; the lowest mark is exact.
#[inline]
fn special(word: u64) -> u64 {
    let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
    same(word, b'"') | same(word, b'\\') | control
}

/// Marks at one byte.
#[inline]
fn same(word: u64, byte: u8) -> u64 {
    let zero = word ^ (ONES * u64::from(byte));
    zero.wrapping_sub(ONES) & !zero & HIGHS
}

/// A number that is different for nearly all different names: of their length, first and last bytes.
#[inline]
pub(crate) fn name_print(name: &[u8]) -> u64 {
    let first = match name.first_chunk::<8>() {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => name.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    };
    let last = name.last_chunk::<8>().map_or(0, |chunk| u64::from_le_bytes(*chunk));
    (first ^ last.rotate_left(29) ^ name.len() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn unquoted(raw: &str) -> &str {
    raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default()
}

/// The text of a string that a [`Scanner`] has accepted, given with its quotes.
pub fn unescape(raw: &str) -> Cow<'_, str> {
    let inner = unquoted(raw);
    let Some(first) = memchr::memchr(b'\\', inner.as_bytes()) else {
        return Cow::Borrowed(inner);
    };
    let (head, tail) = inner.split_at_checked(first).unwrap_or((inner, ""));
    let mut text = String::with_capacity(inner.len());
    text.push_str(head);
    let mut chars = tail.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        match chars.next() {
            Some('b') => text.push('\u{8}'),
            Some('f') => text.push('\u{c}'),
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('t') => text.push('\t'),
            Some('u') => {
                let high = hex_of(&mut chars);
                let code = if (0xD800..0xDC00).contains(&high) {
                    chars.by_ref().take(2).for_each(drop);
                    0x10000 + ((high - 0xD800) << 10) + (hex_of(&mut chars).wrapping_sub(0xDC00) & 0x3FF)
                } else {
                    high
                };
                text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            Some(other) => text.push(other),
            None => {}
        }
    }
    Cow::Owned(text)
}

fn hex_of(chars: &mut std::str::Chars<'_>) -> u32 {
    chars.by_ref().take(4).fold(0, |code, c| code * 16 + c.to_digit(16).unwrap_or(0))
}

/// Appends a text as a JSON string.
pub fn write_string(out: &mut String, text: &str) {
    out.push('"');
    // EF begins U+FFFE and U+FFFF, and others that need no escape: those few texts take the slow way.
    let plain = |word: u64| special(word) | same(word, 0xEF) == 0;
    let (words, rest) = text.as_bytes().as_chunks::<8>();
    let mut last = [b' '; 8];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    if words.iter().all(|word| plain(u64::from_le_bytes(*word))) && plain(u64::from_le_bytes(last)) {
        out.push_str(text);
    } else {
        for c in text.chars() {
            if needs_escape(c) { write_escape(out, c) } else { out.push(c) }
        }
    }
    out.push('"');
}

fn needs_escape(c: char) -> bool {
    matches!(c, '"' | '\\' | '\0'..='\x1f' | '\u{FFFE}' | '\u{FFFF}')
}

fn write_escape(out: &mut String, c: char) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        other => {
            use std::fmt::Write;
            // Writing to a String cannot fail.
            let _ = write!(out, "\\u{:04x}", u32::from(other));
        }
    }
}

/// The document with U+FFFE and U+FFFF escaped: the only characters of valid JSON that SQS refuses.
/// Everything else stays as it is.
pub fn escape_for_queue(document: &str) -> Cow<'_, str> {
    let refused = |c: char| matches!(c, '\u{FFFE}' | '\u{FFFF}');
    // Both begin with the byte EF, which is rare: most documents are passed over at the speed of memory.
    if memchr::memchr(0xEF, document.as_bytes()).is_none() || !document.contains(refused) {
        return Cow::Borrowed(document);
    }
    let mut out = String::with_capacity(document.len() + 16);
    for c in document.chars() {
        if refused(c) { write_escape(&mut out, c) } else { out.push(c) }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests;
