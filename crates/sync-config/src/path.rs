//! Paths of attributes: `name`, `address.city`, `contacts[].email`.

/// One part of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Part<'a> {
    pub(super) name: &'a str,
    /// How often `[]` stands behind the name: the rest of the path is about each item.
    pub(super) arrays: usize,
}

/// Splits a path; none if it has an empty part, or brackets other than `[]` behind a name.
pub(super) fn split(path: &str) -> Option<Vec<Part<'_>>> {
    path.split('.')
        .map(|part| {
            let name = part.trim_end_matches("[]");
            let plain = !name.is_empty() && !name.contains(['[', ']', '{', '}']);
            plain.then_some(Part { name, arrays: (part.len() - name.len()) / 2 })
        })
        .collect()
}

/// Whether the path is one name: no dots, no `[]`.
pub(super) fn is_top_level(path: &str) -> bool {
    !path.contains('.') && !path.contains("[]")
}

/// Whether the path goes through or ends in an array's items.
pub(super) fn has_array(path: &str) -> bool {
    path.contains("[]")
}

/// The `{name}` placeholders of a template, or none if a brace has no partner.
pub(super) fn placeholders(template: &str) -> Option<Vec<&str>> {
    let mut names = Vec::new();
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once('{') {
        let (name, after) = behind.split_once('}')?;
        if before.contains('}') || name.is_empty() || name.contains('{') {
            return None;
        }
        names.push(name);
        rest = after;
    }
    (!rest.contains('}')).then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_splits_at_dots_and_marks_arrays() {
        let part = |name, arrays| Part { name, arrays };
        assert_eq!(split("a"), Some(vec![part("a", 0)]));
        assert_eq!(split("a[].b"), Some(vec![part("a", 1), part("b", 0)]));
        assert_eq!(split("m[][]"), Some(vec![part("m", 2)]));
        for bad in ["", ".", "a.", ".a", "a..b", "[]", "a[]b", "a[0]", "a{b}"] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }

    #[test]
    fn placeholders_stand_in_braces() {
        assert_eq!(placeholders("/a/{b}/{c.d}?e={f}"), Some(vec!["b", "c.d", "f"]));
        assert_eq!(placeholders("/a"), Some(vec![]));
        for bad in ["{", "}", "{a", "a}", "{}", "{a{b}}", "{a}}"] {
            assert_eq!(placeholders(bad), None, "{bad}");
        }
    }
}
