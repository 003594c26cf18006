//! Progress of a long command.

use std::io::{IsTerminal as _, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// A progress bar on stderr, or a line every few seconds if stderr is not a terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    label: &'static str,
    total: u64,
    started: Instant,
    last_line: Instant,
}

/// The interval between lines if stderr is not a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

impl Progress {
    /// Starts the progress of work that has `total` units.
    pub(crate) fn new(label: &'static str, total: u64) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let style = "{msg} {bar:40} {percent}% {elapsed} (eta {eta})";
            let style = ProgressStyle::with_template(style)
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(total).with_style(style).with_message(label)
        });
        let now = Instant::now();
        Self { bar, label, total, started: now, last_line: now }
    }

    /// Sets the number of units done.
    pub(crate) fn set(&mut self, done: u64) {
        match &self.bar {
            Some(bar) => bar.set_position(done),
            None if self.last_line.elapsed() >= LINE_INTERVAL => {
                self.last_line = Instant::now();
                eprintln!("{} {}%", self.label, done * 100 / self.total.max(1));
            }
            None => {}
        }
    }

    /// Prints a line above the bar.
    pub(crate) fn print_line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    /// Removes the bar, and prints the number of items, the duration and the rate.
    pub(crate) fn finish(self, count: u64, items: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let seconds = self.started.elapsed().as_secs_f64().max(0.001);
        #[expect(clippy::cast_precision_loss, reason = "a rounded rate")]
        let rate = count as f64 / seconds;
        eprintln!("{} {count} {items} in {seconds:.1} s, {rate:.0}/s", self.label);
    }
}
