//! The offences found, and the share of questions per crate.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// The maximum share of a crate's doc summaries that begin with a question word, in percent.
const MAX_QUESTIONS_PERCENT: usize = 3;

/// A line that breaks a rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Offence {
    pub(super) file: PathBuf,
    pub(super) line: usize,
    pub(super) rule: &'static str,
    pub(super) text: String,
}

/// The result of a check.
#[derive(Debug, Default)]
pub(super) struct Report {
    offences: Vec<Offence>,
    summaries: BTreeMap<String, Summaries>,
}

/// The doc summaries of a crate.
#[derive(Debug, Default)]
struct Summaries {
    count: usize,
    questions: Vec<Offence>,
}

impl Report {
    /// Adds an offence that fails the check.
    pub(super) fn add(&mut self, offence: Offence) {
        self.offences.push(offence);
    }

    /// Counts a doc summary of a crate, and its offence if it is a question.
    pub(super) fn add_summary(&mut self, package: &str, question: Option<Offence>) {
        let summaries = self.summaries.entry(package.to_owned()).or_default();
        summaries.count += 1;
        summaries.questions.extend(question);
    }

    /// Returns `true` if the check passes.
    pub(super) fn passes(&self) -> bool {
        self.failures() == 0
    }

    /// Returns the number of offences, not counting questions in crates within the limit.
    fn failures(&self) -> usize {
        let too_many = self.summaries.values().filter(|summaries| !summaries.pass());
        self.offences.len() + too_many.map(|summaries| summaries.questions.len()).sum::<usize>()
    }
}

impl Summaries {
    fn pass(&self) -> bool {
        self.questions.len() * 100 <= self.count * MAX_QUESTIONS_PERCENT
    }

    /// Returns the share of questions in tenths of a percent, rounded.
    fn permille(&self) -> usize {
        (self.questions.len() * 1000 + self.count / 2) / self.count.max(1)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let questions = self.summaries.values().flat_map(|summaries| &summaries.questions);
        let mut lines: Vec<&Offence> = self.offences.iter().chain(questions).collect();
        lines.sort();
        for Offence { file, line, rule, text } in lines {
            writeln!(f, "{}:{line}: {rule}: {text}", file.display())?;
        }
        for (package, summaries) in &self.summaries {
            let (permille, count) = (summaries.permille(), summaries.count);
            write!(f, "{package}: {}.{} % of {count} ", permille / 10, permille % 10)?;
            f.write_str("doc summaries begin with a question word")?;
            if !summaries.pass() {
                write!(f, ", at most {MAX_QUESTIONS_PERCENT} %")?;
            }
            writeln!(f)?;
        }
        match self.failures() {
            0 => writeln!(f, "prose: no offence"),
            1 => writeln!(f, "prose: 1 offence"),
            count => writeln!(f, "prose: {count} offences"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offence(line: usize) -> Offence {
        Offence { file: "a.rs".into(), line, rule: "summary", text: "How.".into() }
    }

    fn with_questions(count: usize, questions: usize) -> Report {
        let mut report = Report::default();
        for index in 0..count {
            report.add_summary("core", (index < questions).then(|| offence(index)));
        }
        report
    }

    #[test]
    fn three_percent_pass_and_more_do_not() {
        assert!(with_questions(100, 3).passes());
        assert!(!with_questions(99, 3).passes());
        assert!(with_questions(0, 0).passes());
    }

    #[test]
    fn questions_within_the_limit_are_printed_and_not_counted() {
        let text = with_questions(100, 1).to_string();
        assert_eq!(
            text,
            "a.rs:0: summary: How.\n\
             core: 1.0 % of 100 doc summaries begin with a question word\n\
             prose: no offence\n"
        );
    }

    #[test]
    fn lines_are_sorted() {
        let mut report = Report::default();
        report.add(offence(10));
        report.add(offence(9));
        report.add(Offence { file: "A.rs".into(), ..offence(11) });
        let text = report.to_string();
        let starts: Vec<_> = text.lines().map(|line| &line[..7]).collect();
        assert_eq!(starts, ["A.rs:11", "a.rs:9:", "a.rs:10", "prose: "]);
    }
}
