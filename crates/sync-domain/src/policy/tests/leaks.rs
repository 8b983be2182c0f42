//! Nothing that is protected or unlisted survives in an event, in whatever form, and the event reads back as it was made.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use proptest::prelude::*;

use super::*;

const MODEL: &str = "
subject: red
attributes:
  _k: { class: personal, protect: tokenize }
  clear: { class: internal }
  red: { class: sensitive, protect: redact }
  deep.tok: { class: personal, protect: tokenize }
  deep.enc: { class: sensitive, protect: encrypt, as: out.enc }
  \"l[].enc\": { class: sensitive, protect: encrypt }
  \"l[].m[].tok\": { class: personal, protect: tokenize, as: \"l[].n[].tok\" }
  \"t[]\": { class: personal, protect: { mask: { text: hidden } } }
  mask: { class: personal, protect: { mask: { keep_last: 3 } } }
  sealed_json: { class: sensitive, type: json, protect: encrypt }
  all: { class: sensitive, protect: encrypt, compute: { concat: [{ attribute: red }, { attribute: deep.tok }, { attribute: clear }] } }
  some: { class: sensitive, protect: tokenize, compute: { coalesce: [mask, deep.enc] } }
";

fn rig(before: bool) -> Rig {
    let head = if before { BEFORE } else { "" };
    Rig::of_model(&format!("model: m\nkey: [_k]\n{head}{MODEL}"))
}

/// Builds records in which every protected or unlisted text is a token that stands nowhere else.
struct Tokens {
    seed: u32,
    made: Vec<String>,
}

impl Tokens {
    fn next(&mut self) -> String {
        let token = format!("Tk+{:08x}/{:03}ü?", self.seed, self.made.len());
        self.made.push(token.clone());
        format!("\"{token}\"")
    }

    fn object(&mut self, depth: u32, shape: u32) -> String {
        let inner = if depth == 0 { self.next() } else { self.object(depth - 1, shape / 3) };
        let name = self.next();
        match shape % 3 {
            0 => format!("{{\"tok\":{inner},{name}:{}}}", self.next()),
            1 => format!("[{inner},{},[{}]]", self.next(), self.next()),
            _ => format!("{{{name}:[{{\"enc\":{inner}}}]}}"),
        }
    }

    fn record(&mut self, key: &str, shape: u32, elements: usize) -> String {
        let list: Vec<String> = (0..elements)
            .map(|_| {
                let [enc, tok, other, more] = std::array::from_fn(|_| self.next());
                let inside = self.object(2, shape);
                format!("{{\"enc\":{enc},\"m\":[{{\"tok\":{tok},\"x\":{other}}},{{}}],{more}:{inside}}}")
            })
            .collect();
        let texts: Vec<String> = (0..elements).map(|_| self.next()).collect();
        let [red, tok, enc, mask, top, sealed, unlisted] = std::array::from_fn(|_| self.next());
        let (objects, json) = (self.object(3, shape), self.object(2, shape / 2));
        format!(
            "{{\"_k\":{key},\"clear\":\"stays\",\"red\":{red},\"deep\":{{\"tok\":{tok},\"enc\":{enc},{top}:{unlisted},\"deep\":{objects}}},\
             \"l\":[{}],\"t\":[{}],\"mask\":{mask},\"sealed_json\":[{sealed},{json}],{}:{}}}",
            list.join(","),
            texts.join(","),
            self.next(),
            self.next()
        )
    }
}

/// Every spelling of a token that must not be found.
fn spellings(token: &str) -> Vec<String> {
    let bytes = token.as_bytes();
    let mut spellings = vec![
        token.to_owned(),
        token.replace('/', "\\/"),
        token
            .chars()
            .map(|c| if c.is_ascii() { c.to_string() } else { format!("\\u{:04x}", u32::from(c)) })
            .collect(),
        bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        bytes.iter().map(|byte| format!("{byte:02X}")).collect(),
        bytes
            .iter()
            .map(|byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(*byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            })
            .collect(),
    ];
    // Base64 at each of its three alignments, without the characters that the neighbours decide.
    for offset in 0..3 {
        let mut shifted = vec![0; offset];
        shifted.extend_from_slice(bytes);
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            let text = engine.encode(&shifted);
            spellings.push(text.get((offset * 8).div_ceil(6)..shifted.len() * 8 / 6).unwrap().to_owned());
        }
    }
    spellings
}

#[test]
fn the_search_finds_each_spelling() {
    let token = "Tk+0000002a/007ü?";
    for hidden in [
        format!("x{}y", STANDARD_NO_PAD.encode(format!("12{token}34"))),
        format!("x{}y", URL_SAFE_NO_PAD.encode(format!("\"{token}\""))),
        STANDARD_NO_PAD.encode(token),
        "546b2b30303030303032612f303037c3bc3f".to_owned(),
        "Tk%2B0000002a%2F007%C3%BC%3F".to_owned(),
        "Tk+0000002a/007\\u00fc?".to_owned(),
    ] {
        assert!(spellings(token).iter().any(|spelling| hidden.contains(spelling)), "{hidden}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_protected_or_unlisted_value_survives_in_an_event(
        seed in any::<u32>(), shape in 0..81_u32, elements in 0..4_usize, before in any::<bool>(), operation in 0..4_usize,
    ) {
        let mut tokens = Tokens { seed, made: Vec::new() };
        let key = tokens.next();
        let old = tokens.record(&key, shape, elements);
        let new = tokens.record(&key, shape / 2, elements);
        let key = format!("{{\"_k\":{key}}}");
        let operation = Operation::ALL[operation];
        let after = (operation != Operation::Delete).then_some(new.as_str());
        let mut rig = rig(before);
        let change = Change { operation, key: &key, before: Some(&old), after, ..sample() };
        let event = rig.event_of(&change);
        let seen = format!("{} {:?} {} {}", event.body(), event.attributes(), event.id(), event.rid());
        prop_assert!(seen.contains("stays") || (operation == Operation::Delete && !before));
        for token in &tokens.made {
            for spelling in spellings(token) {
                prop_assert!(!seen.contains(&spelling), "{token} as {spelling} in {seen}");
            }
        }
    }

    /// Whatever is wrong with a record, what is said of it names places only.
    #[test]
    fn no_value_stands_in_the_reason_of_a_refusal(seed in any::<u32>(), shape in 0..81_u32, at in 0..8_usize) {
        let mut tokens = Tokens { seed, made: Vec::new() };
        let key = tokens.next();
        let good = tokens.record(&key, shape, 2);
        let wrong = tokens.object(1, shape);
        let (from, to) = [
            ("\"deep\":{", "\"deep\":[1],\"x\":{"), ("\"t\":[", "\"t\":{},\"x\":["),
            ("\"l\":[{", "\"l\":[[],{"), ("\"m\":[{", "\"m\":7,\"y\":[{"), ("\"enc\":\"", "\"enc\":{},\"z\":\""),
            ("\"mask\":", "\"mask\":{},\"u\":"), ("\"tok\":\"", "\"tok\":[],\"w\":\""), ("\"t\":[\"", "\"t\":[{},\""),
        ][at];
        let bad = good.replacen(from, to, 1).replacen("\"x\":[1]", &format!("\"x\":{wrong}"), 1);
        let key = format!("{{\"_k\":{key}}}");
        let mut rig = rig(true);
        let failure = rig.apply_to(&Change { key: &key, after: Some(&bad), ..sample() }).unwrap_err();
        let said = format!("{failure} {failure:?} {:?}", rig.policy.pick(&bad).and_then(|picked| picked.project()));
        for token in &tokens.made {
            prop_assert!(!failure.to_string().contains(token.as_str()) && !format!("{failure:?}").contains(token.as_str()), "{said}");
        }
    }

    #[test]
    fn tokens_are_the_same_for_equal_values_and_different_for_others(text in "\\PC{0,20}", other in "\\PC{0,20}") {
        let quoted = |text: &str| {
            let mut quoted = String::new();
            crate::scan::write_string(&mut quoted, text);
            quoted
        };
        let escaped: String = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
        let token = |raw: &str| {
            let mut rig = Rig::new("  x: { class: personal, protect: tokenize }\n");
            rig.after(&format!("\"x\":{raw}"))
        };
        let first = token(&quoted(&text));
        prop_assert_eq!(&first, &token(&quoted(&text)));
        prop_assert_eq!(&first, &token(&format!("\"{escaped}\"")), "however it is spelled");
        prop_assert_eq!(first == token(&quoted(&other)), text == other);
    }

    #[test]
    fn an_event_reads_back_as_it_was_made(
        seed in any::<u32>(), shape in 0..81_u32, elements in 0..3_usize, before in any::<bool>(),
        old in any::<bool>(), operation in 0..4_usize, extras in any::<bool>(), origin in "\\PC{0,12}",
    ) {
        let mut tokens = Tokens { seed, made: Vec::new() };
        let key = tokens.next();
        let (first, second) = (tokens.record(&key, shape, elements), tokens.record(&key, shape, elements));
        let key = format!("{{\"_k\":{key}}}");
        let operation = Operation::ALL[operation];
        let mut rig = rig(before);
        let change = Change {
            operation, key: &key, before: old.then_some(first.as_str()), origin: origin.into(),
            after: (operation != Operation::Delete).then_some(second.as_str()),
            subject_key_id: extras.then(|| "subject".into()), run: extras.then(|| "run-1".into()), only: extras.then(|| "loyalty".into()),
            ..sample()
        };
        let applied = rig.apply_to(&change).unwrap();
        let data = applied.protected.data().to_owned();
        let changed = applied.protected.changed().map(<[String]>::to_vec);
        let envelope = envelope(&change, &rig.rid);
        let event = Event::new(&envelope, applied.protected, "m1");
        let received = ReceivedEvent::read(event.body()).unwrap();
        prop_assert_eq!(&received.envelope, &envelope);
        prop_assert_eq!(&received.id, event.id());
        prop_assert_eq!(received.key, member(&data, "key").unwrap());
        prop_assert_eq!(received.after.unwrap_or("null"), member(&data, "after").unwrap());
        prop_assert_eq!(received.before.unwrap_or("null"), member(&data, "before").unwrap_or("null".to_owned()));
        prop_assert_eq!(received.changed.as_ref().map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>()), changed);
        prop_assert_eq!(received.policy_version.as_ref(), "v1");
        prop_assert_eq!(received.schema.as_ref(), "1");
        let again = received.unchanged("m2");
        prop_assert_eq!(again.body(), event.body());
        prop_assert_eq!(again.attributes(), event.attributes());
        prop_assert_eq!((again.id(), again.rid(), again.size()), (event.id(), event.rid(), event.size()));
    }
}
