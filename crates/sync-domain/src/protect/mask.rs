//! Masking: part of a text stays to be read.

use unicode_segmentation::UnicodeSegmentation;

use crate::config::Mask;

/// What stands for the hidden part, whatever its length, so that the length does not leak.
const HIDDEN: &str = "****";

/// Masks a text. Characters are those that people see (grapheme clusters, Unicode Annex 29). Where the kept ends would
/// cover the whole text, all of it is hidden.
pub fn mask(text: &str, rule: &Mask) -> String {
    if let Some(fixed) = &rule.text {
        return fixed.clone();
    }
    let length = text.graphemes(true).count();
    if rule.keep_first + rule.keep_last >= length {
        return HIDDEN.to_owned();
    }
    let first: String = text.graphemes(true).take(rule.keep_first).collect();
    let last: String = text.graphemes(true).skip(length - rule.keep_last).collect();
    format!("{first}{HIDDEN}{last}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keep(keep_first: usize, keep_last: usize) -> Mask {
        Mask { keep_first, keep_last, text: None }
    }

    #[test]
    fn the_kept_ends_stay_and_the_rest_is_hidden() {
        for (text, rule, expected) in [
            ("+49 170 1234567", keep(0, 4), "****4567"),
            ("Erika", keep(1, 0), "E****"),
            ("DE89370400440532013000", keep(2, 4), "DE****3000"),
            ("4567", keep(0, 4), "****"),
            ("", keep(0, 0), "****"),
            ("", keep(1, 1), "****"),
            ("ab", keep(1, 1), "****"),
            ("abc", keep(1, 1), "a****c"),
            ("👩‍👩‍👧x👨‍👩‍👧", keep(1, 0), "👩‍👩‍👧****"),
            ("e\u{301}tude", keep(1, 0), "e\u{301}****"),
        ] {
            assert_eq!(mask(text, &rule), expected, "{text}");
        }
        assert_eq!(mask("secret", &Mask { text: Some("hidden".to_owned()), ..Mask::default() }), "hidden");
    }

    proptest! {
        #[test]
        fn nothing_beyond_the_kept_ends_is_shown(text in "[a-z]{0,20}", first in 0..6_usize, last in 0..6_usize) {
            let masked = mask(&text, &keep(first, last));
            let shown = masked.chars().filter(|c| *c != '*').count();
            prop_assert!(shown == 0 || (shown == first + last && shown < text.len()));
        }
    }
}
