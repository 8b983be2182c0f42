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
    let (first, last) = match text.is_ascii() && !text.contains('\r') {
        // Each character of such a text is one grapheme cluster of one byte.
        true => (Some(rule.keep_first), text.len().checked_sub(rule.keep_last)),
        false => (end_of_first(text, rule.keep_first), start_of_last(text, rule.keep_last)),
    };
    match (first, last) {
        (Some(first), Some(last)) if first < last => {
            let kept = [text.get(..first), text.get(last..)].map(Option::unwrap_or_default);
            kept.join(HIDDEN)
        }
        _ => HIDDEN.to_owned(),
    }
}

/// Where the first `count` characters end; none if there are not as many.
fn end_of_first(text: &str, count: usize) -> Option<usize> {
    text.grapheme_indices(true).map(|(start, _)| start).chain([text.len()]).nth(count)
}

/// Where the last `count` characters start; none if there are not as many.
fn start_of_last(text: &str, count: usize) -> Option<usize> {
    let starts = text.grapheme_indices(true).rev().map(|(start, _)| start);
    std::iter::once(text.len()).chain(starts).nth(count)
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
