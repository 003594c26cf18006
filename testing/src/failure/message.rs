use std::fmt::{self, Debug};

use super::diff::diff;

/// A test's failure under construction: paragraphs, diffs and code.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    /// Starts with a sentence that names the problem.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }

    /// Adds a paragraph.
    pub(crate) fn text(mut self, text: impl AsRef<str>) -> Self {
        self.0.push_str("\n\n");
        self.0.push_str(text.as_ref());
        self
    }

    /// Adds indented lines: code, or a value.
    pub(crate) fn block(self, text: impl AsRef<str>) -> Self {
        let lines = text.as_ref().lines().map(|line| match line {
            "" => String::new(),
            line => format!("    {line}"),
        });
        self.text(lines.collect::<Vec<_>>().join("\n"))
    }

    /// Adds a diff of the expected and the actual value.
    pub(crate) fn diff(self, expected: &str, actual: &str) -> Self {
        if expected == actual {
            return self.block(actual).text(
                "Both print like this, so they differ in something that `Debug` does not show, or \
                 in a value that is not equal to itself, such as a NaN.",
            );
        }
        self.text(format!("(- expected, + actual)\n\n{}", diff(expected, actual)))
    }

    /// Panics with the message, at the line of the test.
    #[track_caller]
    pub(crate) fn raise(self) -> ! {
        panic!("{self}")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value on several lines.
pub(crate) fn pretty(value: &impl Debug) -> String {
    format!("{value:#?}")
}

/// Values as the list that `then([…])` takes.
pub(crate) fn list(values: &[impl Debug]) -> String {
    let items: Vec<_> = values.iter().map(|value| format!("{value:?}")).collect();
    format!("[{}]", items.join(", "))
}
