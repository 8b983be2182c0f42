use proptest::prelude::*;

use super::*;

fn check(document: &str) -> Result<()> {
    validate(document.as_bytes(), &Limits::default())
}

fn kind_of(document: &str) -> ErrorKind {
    check(document).unwrap_err().kind
}

#[test]
fn what_json_allows_is_accepted() {
    for good in [
        "null",
        "true",
        "false",
        "0",
        "-0",
        "12",
        "-1.5e+10",
        "1E400",
        "1.10",
        "\"\"",
        "[]",
        "{}",
        " { } ",
        "[1,2,[3]]",
        r#"{"a":{"b":[{"c":null}]}}"#,
        r#""😀 \" \\ \/ \b\f\n\r\t""#,
        "\"\u{FFFF}\u{7f}é漢\"",
        "\t\r\n 1 \n",
    ] {
        assert_eq!(check(good), Ok(()), "{good}");
    }
}

#[test]
fn what_json_forbids_is_refused() {
    for (bad, kind) in [
        ("", ErrorKind::UnexpectedEnd),
        ("tru", ErrorKind::UnexpectedCharacter),
        ("NaN", ErrorKind::UnexpectedCharacter),
        ("01", ErrorKind::BadNumber),
        ("-", ErrorKind::BadNumber),
        ("1.", ErrorKind::BadNumber),
        (".5", ErrorKind::UnexpectedCharacter),
        ("1e", ErrorKind::BadNumber),
        ("+1", ErrorKind::UnexpectedCharacter),
        ("1 2", ErrorKind::TrailingCharacters),
        ("[1,]", ErrorKind::UnexpectedCharacter),
        ("[1 2]", ErrorKind::UnexpectedCharacter),
        ("{\"a\"}", ErrorKind::UnexpectedCharacter),
        ("{\"a\":1,}", ErrorKind::UnexpectedCharacter),
        ("{a:1}", ErrorKind::UnexpectedCharacter),
        ("[", ErrorKind::UnexpectedEnd),
        ("\"abc", ErrorKind::UnexpectedEnd),
        ("\"a\nb\"", ErrorKind::ControlCharacter),
        ("\"12345678\u{1}\"", ErrorKind::ControlCharacter),
        (r#""\x""#, ErrorKind::BadEscape),
        (r#""\u12G4""#, ErrorKind::BadEscape),
        (r#""\ud800""#, ErrorKind::LoneSurrogate),
        (r#""\udc00""#, ErrorKind::LoneSurrogate),
        (r#""\ud800A""#, ErrorKind::LoneSurrogate),
        ("\u{feff}1", ErrorKind::UnexpectedCharacter),
        ("'a'", ErrorKind::UnexpectedCharacter),
    ] {
        assert_eq!(kind_of(bad), kind, "{bad}");
    }
    assert_eq!(
        validate(b"\"\xff\"", &Limits::default()).unwrap_err(),
        Error { kind: ErrorKind::NotUtf8, offset: 1 }
    );
}

#[test]
fn a_name_stands_once_in_an_object_however_it_is_written() {
    let duplicate = Err(Error { kind: ErrorKind::DuplicateName, offset: 7 });
    assert_eq!(check(r#"{"a":1,"a":2}"#), duplicate);
    assert_eq!(check(r#"{"a":1,"\u0061":2}"#), duplicate);
    assert_eq!(kind_of(r#"{"x":[{"long name":1,"other":2,"long name":3}]}"#), ErrorKind::DuplicateName);
    assert_eq!(check(r#"{"a":{"a":1},"b":{"a":1}}"#), Ok(()));
    assert_eq!(check(r#"{"aaaaaaaa":1,"aaaaaaaaa":2,"aaaaaaab":3}"#), Ok(()));
}

#[test]
fn limits_hold_before_a_value_is_built() {
    let limits = Limits { bytes: 40, depth: 2, items: 4, string: 5, names: 2 };
    let kind = |document: &str| validate(document.as_bytes(), &limits).map_err(|error| error.kind);
    assert_eq!(kind("[[1]]"), Ok(()));
    assert_eq!(kind("[[[1]]]"), Err(ErrorKind::TooDeep));
    assert_eq!(kind("[1,2,3,4]"), Ok(()));
    assert_eq!(kind("[1,2,3,4,5]"), Err(ErrorKind::TooManyItems));
    assert_eq!(kind("\"12345\""), Ok(()));
    assert_eq!(kind("\"123456\""), Err(ErrorKind::StringTooLong));
    assert_eq!(kind(r#"{"a":1,"b":2}"#), Ok(()));
    assert_eq!(kind(r#"{"a":1,"b":2,"c":3}"#), Err(ErrorKind::TooManyNames));
    assert_eq!(kind(&" ".repeat(41)), Err(ErrorKind::TooLong));
}

#[test]
fn values_keep_their_text() {
    let mut scanner = Scanner::new(r#" {"n": 1.10 , "s":"é"} "#, &Limits::default()).unwrap();
    let mut found = Vec::new();
    scanner
        .object(|scanner, name| -> Result<()> {
            found.push((name.into_owned(), scanner.value()?));
            Ok(())
        })
        .unwrap();
    scanner.end().unwrap();
    assert_eq!(found[0], ("n".to_owned(), Value { raw: "1.10", kind: Kind::Number }));
    assert_eq!(found[1].1.raw, r#""é""#);
    assert_eq!(found[1].1.text().unwrap(), "é");
}

#[test]
fn every_scalar_value_survives_quoting_and_only_two_are_escaped_for_the_queue() {
    for c in (0..=0x10_FFFF).filter_map(char::from_u32) {
        let mut quoted = String::new();
        write_string(&mut quoted, &c.to_string());
        assert_eq!(check(&quoted), Ok(()), "{c:?}");
        assert_eq!(unescape(&quoted), c.to_string());
        let on_the_wire = escape_for_queue(&quoted);
        assert!(on_the_wire.chars().all(|c| !matches!(c, '\u{FFFE}' | '\u{FFFF}')));
        assert_eq!(unescape(&on_the_wire), c.to_string());
    }
    assert!(matches!(escape_for_queue("\"\u{FFFD}é\""), Cow::Borrowed(_)));
    assert_eq!(escape_for_queue("\"\u{FFFF}a\u{FFFE}\""), r#""\uffffa\ufffe""#);
}

proptest! {
    /// serde_json is the second opinion: whatever it refuses is refused, and the other way round (but for
    /// duplicate names, which it lets pass in a `Value`).
    #[test]
    fn agrees_with_serde_json(document in r#"[\[\]{},:"\\a-c0-2eE.+\-u dnulltrue]{0,24}"#) {
        let theirs = serde_json::from_str::<serde_json::Value>(&document);
        match check(&document) {
            Ok(()) => prop_assert!(theirs.is_ok() || theirs.unwrap_err().to_string().contains("out of range")),
            Err(error) => prop_assert!(theirs.is_err() || error.kind == ErrorKind::DuplicateName),
        }
    }

    #[test]
    fn strings_round_trip(text in any::<String>()) {
        let mut quoted = String::new();
        write_string(&mut quoted, &text);
        prop_assert_eq!(check(&quoted), Ok(()));
        prop_assert_eq!(unescape(&quoted).into_owned(), text);
    }
}
