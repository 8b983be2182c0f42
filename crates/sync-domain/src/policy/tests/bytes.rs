//! Bytes that no rule touches arrive as they were written.

use super::*;
use crate::scan::write_string;

#[test]
fn numbers_keep_every_digit_and_strings_their_spelling() {
    let mut rig = Rig::of_model(&format!(
        "{BEFORE}{HEAD}  x: {{ class: internal }}\n  d: {{ class: internal, type: decimal }}\n  j: {{ class: internal, type: json }}\n  \"l[].y\": {{ class: internal, as: \"l[].z\" }}\n"
    ));
    for raw in [
        "9223372036854775807",
        "-9223372036854775808",
        "18446744073709551616",
        "12345678901234567890123456789012345678",
        "-0.12345678901234567890123456789012345678",
        "1.10",
        "1.0",
        "0.0",
        "-0",
        "-0.0",
        "1e400",
        "1E+400",
        "1e-400",
        "1.7976931348623157e309",
        "0.1",
        r#""""#,
        r#""\u0041""#,
        r#""\/""#,
        r#""a\u0000b""#,
        r#""\ud83d\ude00""#,
        "\"\u{7f}\u{85}\u{2028}\u{FEFF}\"",
        "true",
        "null",
    ] {
        let number = raw.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        let decimal = if number { raw } else { "0" };
        let members = format!(r#""x":{raw},"d":{decimal},"j":{{ "deep" : [ {raw} ] }},"l":[{{"y":{raw}}}]"#);
        let expected =
            format!(r#"{{"d":{decimal},"j":{{ "deep" : [ {raw} ] }},"x":{raw},"l":[{{"z":{raw}}}]}}"#);
        assert_eq!(rig.after(&members), expected);
        // And through the whole body of the event, in the record before too.
        let record = record(&members);
        let change =
            Change { operation: Operation::Update, before: Some(&record), after: Some(&record), ..sample() };
        let event = rig.event_of(&change);
        let received = ReceivedEvent::read(event.body()).unwrap();
        assert_eq!(received.after.map(without_key).unwrap(), expected);
        assert_eq!(received.before, received.after);
    }
}

#[test]
fn empty_null_and_missing_stay_three_things() {
    let mut rig = Rig::of_model(&format!(
        "missing: keep\n{HEAD}  x: {{ class: internal }}\n  j: {{ class: internal, type: json }}\n"
    ));
    for members in [
        r#""x":"""#,
        r#""x":null"#,
        "",
        r#""j":{}"#,
        r#""j":[]"#,
        r#""j":"""#,
        r#""j":null"#,
        r#""j":[null,{},"",[]]"#,
    ] {
        assert_eq!(rig.after(members), format!("{{{members}}}"));
    }
}

#[test]
fn every_unicode_scalar_arrives() {
    let mut rig = Rig::new("  x: { class: internal }\n  j: { class: internal, type: json }\n");
    let all: Vec<char> = (0..=0x10_FFFF).filter_map(char::from_u32).collect();
    for chunk in all.chunks(0x4000) {
        let text: String = chunk.iter().collect();
        let mut quoted = String::new();
        write_string(&mut quoted, &text);
        // Characters that need no escape stand as they are, the two that SQS refuses included.
        let written = quoted.replace("\\ufffe", "\u{FFFE}").replace("\\uffff", "\u{FFFF}");
        let record = record(&format!("\"x\":{written},\"j\":[{written}]"));
        let change = Change { after: Some(&record), ..sample() };
        let event = rig.event_of(&change);
        let body: serde_json::Value = serde_json::from_str(event.body()).unwrap();
        assert_eq!(body["data"]["after"]["x"], text.as_str());
        assert_eq!(body["data"]["after"]["j"][0], text.as_str());
        assert!(event.body().contains(&quoted), "only U+FFFE and U+FFFF are spelled anew");
        let fit = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..);
        assert!(event.body().chars().all(fit), "SQS takes it");
    }
}
