//! Attribute paths: dotted names, `[]` behind the name of an array.

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// Into the member of an object.
    Member(String),
    /// Into each element of an array.
    Each,
}

/// Reads a path; the error says what is wrong with it.
pub(crate) fn parse(path: &str) -> Result<Vec<Step>, &'static str> {
    let mut steps = Vec::new();
    for part in path.split('.') {
        let name = part.trim_end_matches("[]");
        if name.is_empty() || name.contains(['[', ']']) {
            return Err(
                "a path is dotted names, each with `[]` behind it if it is an array: `contacts[].email`",
            );
        }
        steps.push(Step::Member(name.to_owned()));
        steps.extend(std::iter::repeat_n(Step::Each, (part.len() - name.len()) / 2));
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_dotted_names_and_arrays() {
        let member = |name: &str| Step::Member(name.to_owned());
        assert_eq!(parse("email"), Ok(vec![member("email")]));
        assert_eq!(parse("address.city"), Ok(vec![member("address"), member("city")]));
        assert_eq!(parse("a[].b"), Ok(vec![member("a"), Step::Each, member("b")]));
        assert_eq!(parse("m[][]"), Ok(vec![member("m"), Step::Each, Step::Each]));
        for bad in ["", ".a", "a.", "a..b", "[]", "a[", "a[0]", "a[]b", "]a"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
