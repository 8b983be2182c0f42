//! Finds canary tokens where no clear value may stand: queue bodies, tables, logs, tickets.
//!
//! A token is looked for as it is, in base64 (at each of the three places in a group of three bytes that it can start
//! at, both alphabets), in hexadecimal, URL-encoded and JSON-escaped, also one inside the other; and the plain SHA-256
//! of the whole value in base64 and hexadecimal, because a hash of a guessable value is that value.
//!
//! The haystack is bytes, so that text, JSON and binary are searched alike. Escapes are undone in the haystack instead
//! of listed as needles: a writer may escape any characters it likes.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use sha2::{Digest, Sha256};

/// The shortest token: a shorter one would turn up by chance.
const SHORTEST: usize = 12;
/// How much of a hash is looked for, so that a hash that was cut short is found too.
const HASH_BYTES: usize = 15;
/// How often JSON can be written inside a JSON string in what is searched.
const JSON_LEVELS: usize = 4;
/// How often a URL can be encoded again.
const URL_LEVELS: usize = 2;

/// A unique token and the value that carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    /// What findings call it: the path of the attribute.
    pub name: String,
    /// The unique part.
    pub token: String,
    /// The whole value; its hash is looked for too.
    pub value: String,
}

impl Canary {
    /// A token that is the whole value.
    pub fn new(name: &str, token: &str) -> Self {
        Self { name: name.to_owned(), token: token.to_owned(), value: token.to_owned() }
    }

    /// The same token inside a longer value, such as an address around it.
    pub fn within(mut self, value: &str) -> Self {
        value.clone_into(&mut self.value);
        self
    }
}

/// A token that cannot serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It would turn up by chance.
    #[error("the token of {0} is shorter than {SHORTEST} bytes")]
    Short(String),
    /// Its value does not hold it, so that the hash would be of something else.
    #[error("the value of {0} does not hold its token")]
    Apart(String),
    /// Two attributes carry the same token, so that a finding would not say which leaked.
    #[error("{0} and {1} carry the same token, or one holds the other")]
    Shared(String, String),
}

/// Where a token stood, and in which form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The canary's name.
    pub name: String,
    /// The form: `plain`, `base64`, `hex`, `sha256 in hex`, …
    pub form: String,
    /// The escapes that had to be undone before: `as is`, `JSON-unescaped`, `URL-decoded`, …
    pub view: &'static str,
    /// The place in that view, in bytes.
    pub offset: usize,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} stands in {} at byte {} ({})", self.name, self.form, self.offset, self.view)
    }
}

/// The canaries in every form, ready to search with.
#[derive(Debug)]
pub struct Sieve {
    needles: Vec<Needle>,
    /// By their first bytes: a haystack is walked once, however many needles there are.
    by_start: HashMap<[u8; START], Vec<usize>>,
    /// Which first bytes occur at all; keeps most places of a haystack out of the map.
    first: [bool; 256],
}

/// Bytes of a needle that the index goes by.
const START: usize = 4;

#[derive(Debug)]
struct Needle {
    name: String,
    form: String,
    bytes: Vec<u8>,
}

impl Sieve {
    /// Compiles the canaries.
    pub fn new(canaries: &[Canary]) -> Result<Self, Error> {
        for (index, canary) in canaries.iter().enumerate() {
            if canary.token.len() < SHORTEST {
                return Err(Error::Short(canary.name.clone()));
            }
            if !canary.value.contains(&canary.token) {
                return Err(Error::Apart(canary.name.clone()));
            }
            let twin = canaries
                .iter()
                .take(index)
                .find(|other| other.token.contains(&canary.token) || canary.token.contains(&other.token));
            if let Some(twin) = twin {
                return Err(Error::Shared(twin.name.clone(), canary.name.clone()));
            }
        }
        let needles: Vec<Needle> = canaries.iter().flat_map(needles_of).collect();
        let mut by_start: HashMap<[u8; START], Vec<usize>> = HashMap::new();
        let mut first = [false; 256];
        for (index, needle) in needles.iter().enumerate() {
            if let Some(start) = needle.bytes.first_chunk::<START>() {
                by_start.entry(*start).or_default().push(index);
                mark(&mut first, start[0]);
            }
        }
        Ok(Self { needles, by_start, first })
    }

    /// Every canary that stands in the haystack in any form; the first place of each (name, form, view).
    pub fn find(&self, haystack: &[u8]) -> Vec<Finding> {
        let mut findings: Vec<Finding> = Vec::new();
        for (view, bytes) in views(haystack) {
            for (offset, window) in bytes.windows(START).enumerate() {
                let Some(start) = window.first_chunk::<START>() else { continue };
                if !self.first.get(usize::from(start[0])).copied().unwrap_or(false) {
                    continue;
                }
                let Some(candidates) = self.by_start.get(start) else { continue };
                let rest = bytes.get(offset..).unwrap_or_default();
                for needle in candidates.iter().filter_map(|index| self.needles.get(*index)) {
                    let known =
                        |f: &Finding| f.view == view && f.name == needle.name && f.form == needle.form;
                    if rest.starts_with(&needle.bytes) && !findings.iter().any(known) {
                        let (name, form) = (needle.name.clone(), needle.form.clone());
                        findings.push(Finding { name, form, view, offset });
                    }
                }
            }
        }
        findings
    }
}

fn mark(table: &mut [bool; 256], byte: u8) {
    if let Some(slot) = table.get_mut(usize::from(byte)) {
        *slot = true;
    }
}

/// All the forms that one canary is looked for in.
fn needles_of(canary: &Canary) -> Vec<Needle> {
    let mut needles = Vec::new();
    let mut add = |form: String, bytes: Vec<u8>| {
        needles.push(Needle { name: canary.name.clone(), form, bytes });
    };
    let token = canary.token.as_bytes();
    // Escaped first and encoded after: the haystack's own escapes are undone, these are hidden under the encoding.
    let texts = [
        ("", token.to_vec()),
        ("JSON-escaped in ", json_escaped(&canary.token, false).into_bytes()),
        ("JSON-escaped in ", json_escaped(&canary.token, true).into_bytes()),
        ("URL-encoded in ", url_encoded(token).into_bytes()),
    ];
    add("plain".to_owned(), token.to_vec());
    for (before, text) in &texts {
        for (encoding, bytes) in encoded(text) {
            add(format!("{before}{encoding}"), bytes);
        }
    }
    let quoted = format!("\"{}\"", canary.value);
    for value in [canary.value.as_str(), quoted.as_str()] {
        let hash = Sha256::digest(value.as_bytes());
        let hash = hash.get(..HASH_BYTES).unwrap_or_default();
        add("sha256 in bytes".to_owned(), hash.to_vec());
        for (encoding, bytes) in encoded(hash) {
            add(format!("sha256 in {encoding}"), bytes);
        }
    }
    needles
}

/// The bytes in every encoding that hides them: hexadecimal and base64, each in all its forms.
fn encoded(bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![("hex", hex.to_uppercase().into_bytes()), ("hex", hex.into_bytes())];
    for ahead in 0..3 {
        forms.push(("base64", base64_behind(ahead, bytes, &STANDARD)));
        forms.push(("base64url", base64_behind(ahead, bytes, &URL_SAFE)));
    }
    forms
}

/// The characters that stand in the base64 of any text which has `ahead` bytes (modulo three) before these bytes:
/// the characters at both ends that mix with a neighbour are left out.
fn base64_behind(ahead: usize, bytes: &[u8], alphabet: &impl Engine) -> Vec<u8> {
    let mut text = vec![0; ahead];
    text.extend_from_slice(bytes);
    let whole = text.len() * 8 / 6;
    let mixed = (ahead * 8).div_ceil(6);
    let encoded = alphabet.encode(&text).into_bytes();
    encoded.get(mixed..whole).unwrap_or_default().to_vec()
}

/// Every character as `\uXXXX`.
fn json_escaped(text: &str, upper: bool) -> String {
    let unit = |unit: u16| if upper { format!("\\u{unit:04X}") } else { format!("\\u{unit:04x}") };
    text.encode_utf16().map(unit).collect()
}

/// Every byte but the unreserved ones as `%XX`.
fn url_encoded(bytes: &[u8]) -> String {
    let one = |byte: &u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(*byte).to_string(),
        other => format!("%{other:02X}"),
    };
    bytes.iter().map(one).collect()
}

/// The haystack as it is and with its escapes undone, as often as they can stand inside each other.
fn views(haystack: &[u8]) -> Vec<(&'static str, Cow<'_, [u8]>)> {
    let mut plain: Vec<(&'static str, Cow<'_, [u8]>)> = vec![("as is", Cow::Borrowed(haystack))];
    let mut last = Cow::Borrowed(haystack);
    for _ in 0..JSON_LEVELS {
        let Some(next) = json_unescaped(&last) else { break };
        plain.push(("JSON-unescaped", Cow::Owned(next.clone())));
        last = Cow::Owned(next);
    }
    let mut views = Vec::new();
    for (name, bytes) in plain {
        let decoded_name = if name == "as is" { "URL-decoded" } else { "JSON-unescaped, URL-decoded" };
        let mut decoded = url_decoded(&bytes);
        views.push((name, bytes));
        for _ in 0..URL_LEVELS {
            let Some(bytes) = decoded else { break };
            decoded = url_decoded(&bytes);
            views.push((decoded_name, Cow::Owned(bytes)));
        }
    }
    views
}

/// The bytes with one level of JSON escapes undone; none when there are no escapes.
fn json_unescaped(bytes: &[u8]) -> Option<Vec<u8>> {
    bytes.contains(&b'\\').then(|| {
        let mut out = Vec::with_capacity(bytes.len());
        let mut rest = bytes;
        while let Some((byte, after)) = rest.split_first() {
            let (text, taken) = match (byte, after.first()) {
                (b'\\', Some(b'u')) => json_character(rest).unwrap_or((vec![*byte], 1)),
                (b'\\', Some(escape)) => match escape {
                    b'"' | b'\\' | b'/' => (vec![*escape], 2),
                    b'n' => (vec![b'\n'], 2),
                    b't' => (vec![b'\t'], 2),
                    b'r' => (vec![b'\r'], 2),
                    b'b' => (vec![8], 2),
                    b'f' => (vec![12], 2),
                    _ => (vec![*byte], 1),
                },
                _ => (vec![*byte], 1),
            };
            out.extend_from_slice(&text);
            rest = rest.get(taken..).unwrap_or_default();
        }
        out
    })
}

/// The character of `\uXXXX` or of a pair of them at the start, in UTF-8, and how many bytes it took.
fn json_character(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let unit = |at: usize| -> Option<u16> {
        let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let first = unit(0)?;
    let pair = [first, unit(6).unwrap_or(0)];
    let units = if (0xD800..0xDC00).contains(&first) { pair.as_slice() } else { &pair[..1] };
    let character = char::decode_utf16(units.iter().copied()).next()?.ok()?;
    Some((character.to_string().into_bytes(), units.len() * 6))
}

/// The bytes with one level of `%XX` undone; none when there is no `%`.
fn url_decoded(bytes: &[u8]) -> Option<Vec<u8>> {
    bytes.contains(&b'%').then(|| {
        let mut out = Vec::with_capacity(bytes.len());
        let mut rest = bytes;
        while let Some((byte, after)) = rest.split_first() {
            let decoded = (*byte == b'%').then(|| hex_byte(after)).flatten();
            out.push(decoded.unwrap_or(*byte));
            rest = if decoded.is_some() { after.get(2..).unwrap_or_default() } else { after };
        }
        out
    })
}

fn hex_byte(bytes: &[u8]) -> Option<u8> {
    let digits = bytes.get(..2)?;
    let all_hex = digits.iter().all(u8::is_ascii_hexdigit);
    all_hex.then(|| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "canary-Ü/7f3a?9c1d>e";
    const VALUE: &str = "canary-Ü/7f3a?9c1d>e@example.com";

    fn sieve() -> Sieve {
        let other = Canary::new("phone", "canary-phone-00001");
        Sieve::new(&[Canary::new("email", TOKEN).within(VALUE), other]).unwrap()
    }

    /// Found exactly with the form and view named, and not once the text is another value in the same form.
    fn check(form: &str, view: &str, write: impl Fn(&str) -> Vec<u8>) {
        let sieve = sieve();
        let findings = sieve.find(&write(TOKEN));
        let hit = findings.iter().any(|f| f.name == "email" && f.form == form && f.view == view);
        assert!(hit, "{form} ({view}) not found; got {findings:?}");
        let other = TOKEN.replace("7f3a", "0000");
        assert_eq!(sieve.find(&write(&other)), [], "{form} of another value");
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_plain_token_is_found() {
        check("plain", "as is", |token| format!("level=info email={token}x").into_bytes());
    }

    #[test]
    fn base64_is_found_wherever_the_token_starts_and_ends() {
        for before in 0..7 {
            for after in 0..4 {
                let text = |token: &str| format!("{}{token}{}", "a".repeat(before), "b".repeat(after));
                check("base64", "as is", |token| {
                    format!("\"{}\"", STANDARD.encode(text(token))).into_bytes()
                });
                check("base64url", "as is", |token| {
                    format!("\"{}\"", URL_SAFE.encode(text(token))).into_bytes()
                });
            }
        }
        // The token has characters on which the two alphabets differ, or one of them would not be tested.
        let differs = (0..3).any(|n| {
            STANDARD
                .encode(vec![b'a'; n].into_iter().chain(TOKEN.bytes()).collect::<Vec<_>>())
                .contains(['+', '/'])
        });
        assert!(differs);
    }

    #[test]
    fn hexadecimal_is_found_in_both_cases() {
        check("hex", "as is", |token| format!("0x{}00", hex(token.as_bytes())).into_bytes());
        check("hex", "as is", |token| format!("0x{}00", hex(token.as_bytes()).to_uppercase()).into_bytes());
    }

    #[test]
    fn url_encoding_is_found_however_much_is_encoded() {
        check("plain", "URL-decoded", |token| {
            format!("/v1?q={}&x=1", url_encoded(token.as_bytes())).into_bytes()
        });
        check("plain", "URL-decoded", |token| {
            format!("q={}", url_encoded(token.as_bytes()).to_lowercase()).into_bytes()
        });
        let all = |token: &str| token.bytes().map(|b| format!("%{b:02X}")).collect::<String>();
        check("plain", "URL-decoded", |token| all(token).into_bytes());
        check("plain", "URL-decoded", |token| url_encoded(all(token).as_bytes()).into_bytes());
    }

    #[test]
    fn json_escapes_are_found_in_every_mix_and_depth() {
        for upper in [false, true] {
            check("plain", "JSON-unescaped", |token| {
                format!("{{\"a\":\"{}\"}}", json_escaped(token, upper)).into_bytes()
            });
        }
        check("plain", "JSON-unescaped", |token| token.replace('/', "\\/").into_bytes());
        check("plain", "JSON-unescaped", |token| {
            token.replace('Ü', "\\u00DC").replace('c', "\\u0063").into_bytes()
        });
        // A body in the JSON of a queue's message in the JSON of a log line.
        check("plain", "JSON-unescaped", |token| {
            json_escaped(token, false).replace('\\', "\\\\\\\\").into_bytes()
        });
        check("plain", "JSON-unescaped, URL-decoded", |token| {
            url_encoded(token.as_bytes()).replace('%', "\\u0025").into_bytes()
        });
    }

    #[test]
    fn a_surrogate_pair_is_one_character() {
        let sieve = Sieve::new(&[Canary::new("name", "canary-😀-0001")]).unwrap();
        assert_eq!(sieve.find("canary-\\uD83D\\ude00-0001".as_bytes())[0].view, "JSON-unescaped");
        assert_eq!(sieve.find("canary-\\uD83D\\ude01-0001".as_bytes()), []);
    }

    #[test]
    fn an_escaped_token_is_found_under_base64_and_hexadecimal() {
        check("JSON-escaped in base64", "as is", |token| {
            STANDARD.encode(json_escaped(token, false)).into_bytes()
        });
        check("JSON-escaped in base64url", "as is", |token| {
            URL_SAFE.encode(json_escaped(token, true)).into_bytes()
        });
        check("URL-encoded in hex", "as is", |token| {
            hex(url_encoded(token.as_bytes()).as_bytes()).into_bytes()
        });
    }

    #[test]
    fn the_hash_of_the_whole_value_is_found_in_every_encoding() {
        let hash = |token: &str| Sha256::digest(format!("{token}@example.com").as_bytes()).to_vec();
        check("sha256 in hex", "as is", |token| hex(&hash(token)).into_bytes());
        check("sha256 in hex", "as is", |token| hex(&hash(token)).to_uppercase().into_bytes());
        check("sha256 in base64", "as is", |token| STANDARD.encode(hash(token)).into_bytes());
        check("sha256 in base64url", "as is", |token| URL_SAFE.encode(hash(token)).into_bytes());
        check("sha256 in bytes", "as is", hash);
        let quoted = |token: &str| Sha256::digest(format!("\"{token}@example.com\"").as_bytes()).to_vec();
        check("sha256 in hex", "as is", |token| hex(&quoted(token)).into_bytes());
        // Cut short, as ids often are.
        check("sha256 in hex", "as is", |token| hex(&hash(token)).as_bytes()[..32].to_vec());
    }

    #[test]
    fn what_is_not_a_leak_is_left_alone() {
        let keyed = Sha256::digest(b"another key and canary-phone-00001").to_vec();
        for haystack in
            [&b"canary-phone-0000"[..], b"", b"abc", b"%", b"\\u12", b"\\", b"%4", hex(&keyed).as_bytes()]
        {
            assert_eq!(sieve().find(haystack), [], "{haystack:?}");
        }
    }

    #[test]
    fn each_canary_is_named() {
        let findings = sieve().find(b"tel:canary-phone-00001, canary-phone-00001");
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].to_string(), "phone stands in plain at byte 4 (as is)");
    }

    #[test]
    fn a_token_that_cannot_serve_is_refused() {
        let check = |canaries: &[Canary]| Sieve::new(canaries).unwrap_err();
        assert_eq!(check(&[Canary::new("a", "short")]), Error::Short("a".to_owned()));
        assert_eq!(check(&[Canary::new("a", "canary-000001").within("x")]), Error::Apart("a".to_owned()));
        let (a, b) = (Canary::new("a", "canary-000001"), Canary::new("b", "canary-0000012"));
        assert_eq!(check(&[a, b]), Error::Shared("a".to_owned(), "b".to_owned()));
    }
}
