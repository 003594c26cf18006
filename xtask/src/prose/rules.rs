//! Applies the rules to one file.

use super::files::{Language, Source};
use super::markdown::{self, Part};
use super::phrases;
use super::report::{Offence, Report};
use super::scanner::{self, Block, Line};
use super::summary::Summary;

/// The maximum width of a line that has a comment, in characters, including indentation.
const MAX_COLUMNS: usize = 100;

/// Adds the offences of a file with this text to the report.
pub(super) fn check(source: &Source, text: &str, report: &mut Report) {
    match source.language {
        Language::Rust => check_rust(source, text, report),
        Language::Markdown => {
            let number =
                |(index, text): (usize, &str)| Line { number: index + 1, text: text.into() };
            let lines: Vec<Line> = text.lines().enumerate().map(number).collect();
            check_phrases(source, &lines, report);
        }
    }
}

fn check_rust(source: &Source, text: &str, report: &mut Report) {
    let lines: Vec<&str> = text.lines().collect();
    for block in scanner::scan(text) {
        check_summary(source, &block, report);
        check_columns(source, &block, &lines, report);
        check_phrases(source, &block.lines, report);
    }
}

fn check_summary(source: &Source, block: &Block, report: &mut Report) {
    let Some(summary) = Summary::of(block) else { return };
    let question = summary.is_question().then(|| Offence {
        file: source.path.clone(),
        line: summary.line,
        rule: "summary",
        text: summary.text,
    });
    report.add_summary(&source.package, question);
}

fn check_columns(source: &Source, block: &Block, lines: &[&str], report: &mut Report) {
    for line in &block.lines {
        let Some(columns) = lines.get(line.number - 1).map(|line| line.chars().count()) else {
            continue;
        };
        // A link cannot be divided.
        let is_link = line.text.contains("://") && line.text.split_whitespace().count() <= 2;
        if columns > MAX_COLUMNS && !is_link {
            report.add(Offence {
                file: source.path.clone(),
                line: line.number,
                rule: "columns",
                text: format!("{columns} columns, at most {MAX_COLUMNS}: {}", line.text.trim()),
            });
        }
    }
}

fn check_phrases(source: &Source, lines: &[Line], report: &mut Report) {
    for part in markdown::parts(lines) {
        match part {
            Part::Paragraph(lines) => check_paragraph(source, lines, report),
            Part::Rust(lines) => check_comments(source, lines, report),
        }
    }
}

fn check_paragraph(source: &Source, lines: &[Line], report: &mut Report) {
    for found in phrases::find(&markdown::without_code_spans(lines)) {
        let line = &lines[found.line];
        report.add(Offence {
            file: source.path.clone(),
            line: line.number,
            rule: "phrase",
            text: format!("\"{}\" ({}): {}", found.phrase, found.reason, line.text.trim()),
        });
    }
}

/// Checks the comments in a code example, without looking for code blocks in them.
fn check_comments(source: &Source, lines: &[Line], report: &mut Report) {
    let Some(first) = lines.first() else { return };
    let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
    for mut block in scanner::scan(&texts.join("\n")) {
        for line in &mut block.lines {
            line.number += first.number - 1;
        }
        check_paragraph(source, &block.lines, report);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(language: Language, text: &str) -> String {
        let source = Source { package: "core".into(), path: "core/src/a".into(), language };
        let mut report = Report::default();
        check(&source, text, &mut report);
        report.to_string()
    }

    #[test]
    fn a_planted_question_fails() {
        let text = "//! Aggregates.\n\n/// What it is asked.\ntype Command;\n";
        assert_eq!(
            report(Language::Rust, text),
            "core/src/a:3: summary: What it is asked.\n\
             core: 50.0 % of 2 doc summaries begin with a question word, at most 3 %\n\
             prose: 1 offence\n"
        );
    }

    #[test]
    fn wide_comments_fail_and_wide_code_does_not() {
        let wide = "é".repeat(90);
        let text = format!("    // {wide}abc\n    // {wide}abcd\nlet x = \"{wide}{wide}\";\n");
        let expected = format!(
            "core/src/a:2: columns: 101 columns, at most 100: {wide}abcd\nprose: 1 offence\n"
        );
        assert_eq!(report(Language::Rust, &text), expected);
        let link = format!("//! [here]: https://{wide}");
        assert!(report(Language::Rust, &link).ends_with("prose: no offence\n"));
    }

    #[test]
    fn phrases_fail_in_prose_and_in_comments_of_examples() {
        let text = "/// A b.\n///\n/// ```\n/// let nobody = 1; // nobody\n/// ```\n/// `nobody`\n";
        assert_eq!(
            report(Language::Rust, text),
            "core/src/a:4: phrase: \"nobody\" (hides the actor: name who does not): nobody\n\
             core: 0.0 % of 1 doc summaries begin with a question word\n\
             prose: 1 offence\n"
        );
        let text = "# A\n\n```sql\n-- anew\n```\nRead\nanew, `anew`\n";
        assert_eq!(
            report(Language::Markdown, text),
            "core/src/a:7: phrase: \"anew\" (no technical term: write again, recreate or \
             restart): anew, `anew`\nprose: 1 offence\n"
        );
    }

    #[test]
    fn strings_are_not_checked() {
        let text = "const A: &str = \"nobody // anew\"; // b\n";
        assert_eq!(report(Language::Rust, text), "prose: no offence\n");
    }
}
