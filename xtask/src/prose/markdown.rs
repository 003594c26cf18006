//! Separates the prose of Markdown from its code.

use super::scanner::Line;

/// The parts of a Markdown text in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// Consecutive lines of prose.
    Paragraph(&'a [Line]),
    /// The lines of a fenced code block in Rust. Blocks in other languages are omitted.
    Rust(&'a [Line]),
}

/// Splits a text into paragraphs and Rust code.
pub(super) fn parts(lines: &[Line]) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = lines;
    while let Some(first) = rest.first() {
        let text = first.text.trim();
        if let Some(fence) = fence(text) {
            let body = &rest[1..];
            let end = body.iter().position(|line| closes(&line.text, fence));
            let length = end.unwrap_or(body.len());
            if is_rust(&text[fence.len()..]) {
                parts.push(Part::Rust(&body[..length]));
            }
            rest = body.get(length + 1..).unwrap_or_default();
        } else {
            let ends = |line: &Line| line.text.trim().is_empty() || fence(&line.text).is_some();
            let length = rest.iter().position(ends).unwrap_or(rest.len());
            if length > 0 {
                parts.push(Part::Paragraph(&rest[..length]));
            }
            rest = &rest[length.max(1)..];
        }
    }
    parts
}

/// Returns the opening fence at the beginning of a line.
fn fence(line: &str) -> Option<&str> {
    let line = line.trim_start();
    ['`', '~'].into_iter().find_map(|mark| {
        let length = line.len() - line.trim_start_matches(mark).len();
        // Backticks after the fence make it a code span.
        let is_span = mark == '`' && line[length..].contains('`');
        (length >= 3 && !is_span).then(|| &line[..length])
    })
}

fn closes(line: &str, fence: &str) -> bool {
    let line = line.trim();
    line.starts_with(fence) && line.trim_start_matches(&fence[..1]).is_empty()
}

/// Returns `true` if rustdoc compiles a code block with this info string.
fn is_rust(info: &str) -> bool {
    const ATTRIBUTES: [&str; 6] =
        ["rust", "no_run", "should_panic", "compile_fail", "ignore", "standalone_crate"];
    info.split([',', ' ']).map(str::trim).filter(|word| !word.is_empty()).all(|word| {
        ATTRIBUTES.contains(&word) || word.starts_with("edition") || word.starts_with("ignore")
    })
}

/// Joins the lines of a paragraph with line breaks and replaces code spans by a bullet.
pub(super) fn without_code_spans(lines: &[Line]) -> String {
    let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
    let joined = texts.join("\n");
    let mut prose = String::with_capacity(joined.len());
    let mut rest = joined.as_str();
    while let Some(at) = rest.find('`') {
        prose.push_str(&rest[..at]);
        rest = &rest[at..];
        let marks = rest.len() - rest.trim_start_matches('`').len();
        let body = &rest[marks..];
        if let Some(length) = span_length(body, marks) {
            prose.push('•');
            prose.extend(body[..length].chars().filter(|&c| c == '\n'));
            rest = &body[length + marks..];
        } else {
            prose.push_str(&rest[..marks]);
            rest = body;
        }
    }
    prose.push_str(rest);
    prose
}

/// Returns the length of a code span's body, up to a run of exactly `marks` backticks.
fn span_length(body: &str, marks: usize) -> Option<usize> {
    let mut at = 0;
    while let Some(found) = body[at..].find('`') {
        at += found;
        let run = body[at..].len() - body[at..].trim_start_matches('`').len();
        if run == marks {
            return Some(at);
        }
        at += run;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<Line> {
        let line = |(index, text): (usize, &str)| Line { number: index + 1, text: text.to_owned() };
        text.split('\n').enumerate().map(line).collect()
    }

    #[test]
    fn paragraphs_and_rust_code_are_kept() {
        let lines = lines("a\nb\n\n```no_run\ncode\n```\nc\n```sql\nno\n```\n~~~\n```\n~~~");
        let parts = parts(&lines);
        assert_eq!(
            parts,
            [
                Part::Paragraph(&lines[0..2]),
                Part::Rust(&lines[4..5]),
                Part::Paragraph(&lines[6..7]),
                Part::Rust(&lines[11..12]),
            ]
        );
    }

    #[test]
    fn an_open_fence_ends_with_the_text() {
        let lines = lines("a\n```");
        assert_eq!(parts(&lines), [Part::Paragraph(&lines[0..1]), Part::Rust(&lines[2..])]);
    }

    #[test]
    fn code_spans_are_replaced() {
        let prose = |text: &str| without_code_spans(&lines(text));
        assert_eq!(prose("a `b` c"), "a • c");
        assert_eq!(prose("a ``b ` c`` d"), "a • d");
        assert_eq!(prose("a `b\nc` d"), "a •\n d");
        assert_eq!(prose("a ` b"), "a ` b");
    }
}
