//! Makes JSON of the text that PostgreSQL writes for a value, byte for byte as its own `to_json` would.
//!
//! The other modes let the database do it; here the log holds only texts. A test holds both against each other over
//! every type. The session's settings (`connect.rs`) decide how texts look.
//!
//! Two kinds of types read as a plain string here, and as more by `to_json`: `int2vector` and `oidvector` (no type for a
//! column), and types of extensions that bring their own cast to json (`hstore`).

use sync_domain::scan::write_string;

use super::schema::Shape;

/// A text that is not of the type that it should be of. The value itself is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the text does not read as the column's type")]
pub struct Malformed;

/// Appends a value.
pub fn write(out: &mut String, text: &str, shape: &Shape) -> Result<(), Malformed> {
    match shape {
        Shape::Text => write_string(out, text),
        Shape::Number { .. } if is_number(text) => out.push_str(text),
        // NaN, Infinity, -Infinity.
        Shape::Number { .. } => write_string(out, text),
        Shape::Boolean => out.push_str(match text {
            "t" => "true",
            "f" => "false",
            _ => return Err(Malformed),
        }),
        Shape::Json => out.push_str(text),
        Shape::Timestamp => write_timestamp(out, text, false)?,
        Shape::TimestampTz => write_timestamp(out, text, true)?,
        Shape::Array { element, delimiter } => write_array(out, text, element, *delimiter)?,
        Shape::Composite(fields) => write_composite(out, text, fields)?,
    }
    Ok(())
}

/// Every number that PostgreSQL writes is one in JSON, or begins with a letter (behind the sign).
fn is_number(text: &str) -> bool {
    text.bytes().find(|byte| *byte != b'-').is_some_and(|byte| byte.is_ascii_digit())
}

/// `2026-11-24 20:19:23.5+00 BC` to `2026-11-24T20:19:23.5+00:00 BC`; `infinity` stays.
fn write_timestamp(out: &mut String, text: &str, zone: bool) -> Result<(), Malformed> {
    let Some((day, time)) = text.split_once(' ') else {
        write_string(out, text);
        return Ok(());
    };
    let (time, era) = match time.split_once(' ') {
        Some((time, _)) => (time, " BC"),
        None => (time, ""),
    };
    let minutes = match (zone, time.strip_suffix("+00")) {
        (true, None) => return Err(Malformed),
        (true, Some(_)) => ":00",
        (false, _) => "",
    };
    for part in ["\"", day, "T", time, minutes, era, "\""] {
        out.push_str(part);
    }
    Ok(())
}

/// `{1,NULL,"a \"b\"",{…}}`, perhaps with bounds before it: `[0:1]={…}`.
fn write_array(out: &mut String, text: &str, element: &Shape, delimiter: u8) -> Result<(), Malformed> {
    let body = match text.strip_prefix('[') {
        Some(bounds) => bounds.split_once('=').ok_or(Malformed)?.1,
        None => text,
    };
    let mut items = Items { text: body, at: 0 };
    let mut item = String::new();
    let mut depth = 0_usize;
    loop {
        match items.peek()? {
            b'{' => {
                items.at += 1;
                depth += 1;
                out.push('[');
                if items.peek()? != b'}' {
                    continue;
                }
            }
            _ if depth == 0 => return Err(Malformed),
            b'"' => {
                items.quoted(&mut item)?;
                write(out, &item, element)?;
            }
            _ => match items.plain(&[delimiter, b'}'])? {
                "NULL" => out.push_str("null"),
                plain => write(out, plain, element)?,
            },
        }
        // Behind a value: the next one, or the ends of one array or several.
        loop {
            match items.next()? {
                b'}' => {
                    out.push(']');
                    depth -= 1;
                    if depth == 0 {
                        return items.end();
                    }
                }
                byte if byte == delimiter => {
                    out.push(',');
                    break;
                }
                _ => return Err(Malformed),
            }
        }
    }
}

/// `(1,"a ""b""",)`: nothing between two commas is null.
fn write_composite(out: &mut String, text: &str, fields: &[(String, Shape)]) -> Result<(), Malformed> {
    let mut items = Items { text, at: 0 };
    let mut item = String::new();
    if items.next()? != b'(' {
        return Err(Malformed);
    }
    let mut before = '{';
    for (at, (name, shape)) in (1..).zip(fields) {
        out.push(before);
        before = ',';
        write_string(out, name);
        out.push(':');
        if items.peek()? == b'"' {
            items.quoted(&mut item)?;
            write(out, &item, shape)?;
        } else {
            match items.plain(b",)")? {
                "" => out.push_str("null"),
                plain => write(out, plain, shape)?,
            }
        }
        let last = at == fields.len();
        if items.next()? != if last { b')' } else { b',' } {
            return Err(Malformed);
        }
    }
    if fields.is_empty() {
        items.next()?;
        out.push('{');
    }
    out.push('}');
    items.end()
}

/// The text of an array or a composite, value by value.
struct Items<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Items<'a> {
    fn peek(&self) -> Result<u8, Malformed> {
        self.text.as_bytes().get(self.at).copied().ok_or(Malformed)
    }

    fn next(&mut self) -> Result<u8, Malformed> {
        let byte = self.peek()?;
        self.at += 1;
        Ok(byte)
    }

    fn end(&self) -> Result<(), Malformed> {
        if self.at == self.text.len() { Ok(()) } else { Err(Malformed) }
    }

    /// A value without quotes, up to one of `ends`.
    fn plain(&mut self, ends: &[u8]) -> Result<&'a str, Malformed> {
        let rest = self.text.get(self.at..).ok_or(Malformed)?;
        let length = rest.bytes().position(|byte| ends.contains(&byte)).ok_or(Malformed)?;
        self.at += length;
        rest.get(..length).ok_or(Malformed)
    }

    /// A value in quotes: an array escapes by a backslash, a composite doubles; both read what the other writes.
    fn quoted(&mut self, value: &mut String) -> Result<(), Malformed> {
        value.clear();
        self.at += 1;
        loop {
            let rest = self.text.get(self.at..).ok_or(Malformed)?;
            let length = rest.bytes().position(|byte| matches!(byte, b'"' | b'\\')).ok_or(Malformed)?;
            value.push_str(rest.get(..length).ok_or(Malformed)?);
            self.at += length;
            let mark = self.next()?;
            let follows = self.text.as_bytes().get(self.at).copied();
            match (mark, follows) {
                (b'"', Some(b'"')) => {
                    value.push('"');
                    self.at += 1;
                }
                (b'"', _) => return Ok(()),
                _ => {
                    let escaped =
                        self.text.get(self.at..).and_then(|rest| rest.chars().next()).ok_or(Malformed)?;
                    value.push(escaped);
                    self.at += escaped.len_utf8();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    fn json(text: &str, shape: &Shape) -> Result<String, Malformed> {
        let mut out = String::new();
        write(&mut out, text, shape).map(|()| out)
    }

    fn array(element: Shape) -> Shape {
        Shape::Array { element: Arc::new(element), delimiter: b',' }
    }

    fn composite() -> Shape {
        let number = Shape::Number { whole: true };
        Shape::Composite([("n".to_owned(), number), ("t".to_owned(), Shape::Text)].into())
    }

    // What is right is said by the database (`tests/it/values.rs`); here is what only a text can show.

    #[test]
    fn arrays_nest_and_their_quotes_go() {
        let text = array(Shape::Text);
        assert_eq!(
            json(r#"{a,"b \"c\" \\",NULL,"NULL",""}"#, &text).unwrap(),
            r#"["a","b \"c\" \\",null,"NULL",""]"#
        );
        assert_eq!(json("{}", &text).unwrap(), "[]");
        assert_eq!(
            json("[0:1][2:3]={{1,2},{3,NULL}}", &array(Shape::Number { whole: true })).unwrap(),
            "[[1,2],[3,null]]"
        );
        assert_eq!(json(r#"{"(1,\"a\"\"b\")"}"#, &array(composite())).unwrap(), r#"[{"n":1,"t":"a\"b"}]"#);
    }

    #[test]
    fn a_field_without_a_value_is_null_and_one_with_quotes_is_not() {
        assert_eq!(json("(,)", &composite()).unwrap(), r#"{"n":null,"t":null}"#);
        assert_eq!(json(r#"(7,"")"#, &composite()).unwrap(), r#"{"n":7,"t":""}"#);
    }

    #[test]
    fn what_is_no_value_is_refused_and_not_guessed() {
        for bad in ["", "{", "{1", "{1,", "1", "{1}x", "[0:1]", "{\"", "{\"\\", "}", "{1}}"] {
            assert_eq!(json(bad, &array(Shape::Text)), Err(Malformed), "{bad}");
        }
        for bad in ["", "(", "(1", "(1,", "(1,a", "(1)", "(1,a,b)", "(1,a)x", "1"] {
            assert_eq!(json(bad, &composite()), Err(Malformed), "{bad}");
        }
        assert_eq!(json("true", &Shape::Boolean), Err(Malformed));
        assert_eq!(json("2026-11-24 20:19:23+05:30", &Shape::TimestampTz), Err(Malformed));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[\\PC{}(),\"\\\\ ]{0,40}") {
            for shape in [array(Shape::Text), array(array(composite())), composite(), Shape::TimestampTz] {
                let _ = json(&text, &shape);
            }
        }
    }
}
