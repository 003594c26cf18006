use std::fmt::Write as _;

use similar::{ChangeTag, TextDiff};

/// The number of lines up to which texts are shown whole.
const MAX_WHOLE_LINES: usize = 30;
/// The lines of context around each difference in longer texts.
const CONTEXT_LINES: usize = 4;

/// The lines of both texts, marked `-` where only `expected` has them and `+` where only `actual`
/// has them.
pub(super) fn diff(expected: &str, actual: &str) -> String {
    let diff = TextDiff::from_lines(expected, actual);
    let whole = expected.lines().count().max(actual.lines().count()) <= MAX_WHOLE_LINES;
    let groups = diff.grouped_ops(if whole { MAX_WHOLE_LINES } else { CONTEXT_LINES });
    let mut text = String::new();
    for (n, group) in groups.iter().enumerate() {
        let first = group.first().map_or(0, |op| op.old_range().start);
        if n > 0 || first > 0 {
            text.push_str("  …\n");
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let mark = match change.tag() {
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
                ChangeTag::Equal => ' ',
            };
            let line = change.value().trim_end_matches('\n');
            let _ = writeln!(text, "{}", format!("{mark} {line}").trim_end());
        }
    }
    let last = groups.last().and_then(|group| group.last());
    if last.is_some_and(|op| op.old_range().end < expected.lines().count()) {
        text.push_str("  …\n");
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::diff;

    #[test]
    fn a_diff_marks_different_lines() {
        assert_eq!(diff("a\nb\nc", "a\nx\nc"), "  a\n- b\n+ x\n  c");
    }

    #[test]
    fn a_diff_omits_lines_far_from_differences() {
        let lines = |changed: &str| {
            let line = |n: usize| if n == 50 { changed.to_owned() } else { n.to_string() };
            (0..100).map(line).collect::<Vec<_>>().join("\n")
        };
        let text = diff(&lines("old"), &lines("new"));
        assert_eq!(text.lines().count(), 12, "{text}");
        assert!(text.starts_with("  …\n  46\n"), "{text}");
        assert!(text.ends_with("  54\n  …"), "{text}");
    }
}
