//! The terminal, file or pipe that a command writes to.

use std::fmt;
use std::io::{self, ErrorKind, IsTerminal as _, Write};

use composable_rust_admin::Progress;
use console::Color;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::table::Table;
use crate::{CliError, printable};

/// The terminal, file or pipe that a command writes to.
pub struct Terminal {
    out: Box<dyn Write + Send>,
    /// The columns; `None` for a file or pipe, in which lines are as long as they are.
    width: Option<usize>,
    /// `true` if questions can be asked.
    is_interactive: bool,
    has_colours: bool,
}

impl fmt::Debug for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terminal")
            .field("width", &self.width)
            .field("is_interactive", &self.is_interactive)
            .finish_non_exhaustive()
    }
}

impl Terminal {
    /// Creates the terminal of this process's standard output.
    pub fn standard() -> Self {
        let term = console::Term::stdout();
        Self {
            width: term.size_checked().map(|(_, columns)| usize::from(columns)),
            is_interactive: io::stdin().is_terminal() && io::stderr().is_terminal(),
            has_colours: term.is_term() && console::colors_enabled(),
            out: Box::new(io::stdout()),
        }
    }

    /// Creates a terminal that writes to `out`, in lines of at most `width` columns, asks nothing
    /// and has no colours.
    pub fn plain(out: impl Write + Send + 'static, width: Option<usize>) -> Self {
        Self { out: Box::new(out), width, is_interactive: false, has_colours: false }
    }

    pub(crate) fn is_interactive(&self) -> bool {
        self.is_interactive
    }

    pub(crate) fn is_screen(&self) -> bool {
        self.width.is_some()
    }

    /// Writes a line, which is cut where it is too long for the screen.
    pub(crate) fn line(&mut self, text: impl AsRef<str>) -> Result<(), CliError> {
        self.put_cut(&printable::line(text.as_ref()))
    }

    /// Writes a line whose end has a colour, if there are colours; it is cut as others are.
    pub(crate) fn line_ending_in(
        &mut self,
        colour: Color,
        start: &str,
        end: &str,
    ) -> Result<(), CliError> {
        let end = self.coloured(&printable::line(end), colour);
        self.put_cut(&format!("{}{end}", printable::line(start)))
    }

    /// Writes a line that is not cut.
    pub(crate) fn write(&mut self, text: &str) -> Result<(), CliError> {
        self.put(&printable::line(text))
    }

    /// Writes a line that is not cut, whose first word has a colour, if there are colours.
    pub(crate) fn write_after(
        &mut self,
        colour: Color,
        word: &str,
        rest: &str,
    ) -> Result<(), CliError> {
        let word = self.coloured(&printable::line(word), colour);
        self.put(&format!("{word}{}", printable::line(rest)))
    }

    /// Writes a text of several lines, which are not cut.
    #[cfg(feature = "web-console")]
    pub(crate) fn block(&mut self, text: &str) -> Result<(), CliError> {
        self.put(&printable::block(text))
    }

    /// Writes a value as one JSON document.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
        self.put(&printable::json(&text))
    }

    /// Writes a value as one line of JSON.
    pub(crate) fn json_line(&mut self, value: &impl Serialize) -> Result<(), CliError> {
        let text = serde_json::to_string(value).map_err(io::Error::other)?;
        self.put(&printable::json(&text))
    }

    fn put_cut(&mut self, text: &str) -> Result<(), CliError> {
        match self.width {
            Some(width) if console::measure_text_width(text) > width => {
                self.put(&console::truncate_str(text, width, "…"))
            }
            _ => self.put(text),
        }
    }

    /// Writes a line as it is, which the terminal obeys. A closed pipe, as behind `| head`, ends
    /// the program without an error.
    fn put(&mut self, text: &str) -> Result<(), CliError> {
        match writeln!(self.out, "{text}").and_then(|()| self.out.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
            written => Ok(written?),
        }
    }

    /// Writes a table, or a line that says that there is nothing.
    pub(crate) fn table(&mut self, table: &Table, empty: &str) -> Result<(), CliError> {
        if table.is_empty() {
            return self.line(empty);
        }
        for line in table.lines(self.width) {
            self.line(line)?;
        }
        Ok(())
    }

    /// Writes the entries of a list as JSON, or as a table.
    pub(crate) fn list<T: Serialize>(
        &mut self,
        json: bool,
        entries: &[T],
        table: impl FnOnce(&[T]) -> Table,
        empty: &str,
    ) -> Result<(), CliError> {
        if json { self.json(&entries) } else { self.table(&table(entries), empty) }
    }

    /// Clears the screen; between two lists in a file it leaves a blank line.
    pub(crate) fn clear(&mut self) -> Result<(), CliError> {
        self.put(if self.is_screen() { "\x1b[2J\x1b[1;1H" } else { "" })
    }

    /// Returns a text in a colour, if there are colours.
    fn coloured(&self, text: &str, colour: Color) -> String {
        if self.has_colours {
            console::style(text).fg(colour).force_styling(true).to_string()
        } else {
            text.to_owned()
        }
    }

    /// Asks a question on stderr, and returns `true` if the answer begins with `y`.
    #[expect(clippy::unused_self, reason = "only a terminal can be asked")]
    pub(crate) fn ask(&self, question: &str) -> Result<bool, CliError> {
        eprint!("{} [y/N] ", printable::line(question));
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        Ok(answer.trim().to_lowercase().starts_with('y'))
    }
}

/// Returns a progress bar on stderr, which is hidden where stderr is no terminal.
pub(crate) fn progress_bar(what: &'static str) -> (ProgressBar, impl Fn(Progress)) {
    let bar = ProgressBar::no_length().with_message(what);
    let open = ProgressStyle::with_template("{spinner} {human_pos} {msg} ({per_sec}, {elapsed})");
    let known = ProgressStyle::with_template(
        "{wide_bar} {human_pos} of {human_len} {msg} ({per_sec}, {eta} left)",
    );
    bar.set_style(open.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    let of = bar.clone();
    let known = known.unwrap_or_else(|_| ProgressStyle::default_bar());
    let report = move |progress: Progress| {
        if let (Some(length), None) = (progress.of, of.length()) {
            of.set_style(known.clone());
            of.set_length(length);
        }
        of.set_position(progress.done);
    };
    (bar, report)
}
