//! Progress of a long command.

use std::io::{IsTerminal as _, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// A progress bar on stderr, or a line every few seconds if stderr is not a terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    label: &'static str,
    total: usize,
    initial: Option<usize>,
    done: usize,
    started: Instant,
    last_line: Instant,
}

/// The interval between lines if stderr is not a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

impl Progress {
    /// Creates the progress of a command on `total` items.
    pub(crate) fn new(label: &'static str, total: usize) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let style = "{msg} {bar:40} {pos}/{len} {elapsed} (eta {eta})";
            let style = ProgressStyle::with_template(style)
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(total as u64).with_style(style).with_message(label)
        });
        let now = Instant::now();
        Self { bar, label, total, initial: None, done: 0, started: now, last_line: now }
    }

    /// Sets the number of items done. The first call gives the number done by an earlier run.
    pub(crate) fn set(&mut self, done: usize) {
        self.initial.get_or_insert(done);
        self.done = done;
        match &self.bar {
            Some(bar) => bar.set_position(done as u64),
            None if self.last_line.elapsed() >= LINE_INTERVAL => {
                self.last_line = Instant::now();
                eprintln!("{} {done} of {}", self.label, self.total);
            }
            None => {}
        }
    }

    /// Removes the bar, and prints the number of items, the duration and the rate.
    pub(crate) fn finish(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let count = self.done - self.initial.unwrap_or_default();
        let seconds = self.started.elapsed().as_secs_f64().max(0.001);
        #[expect(clippy::cast_precision_loss, reason = "a rounded rate")]
        let rate = count as f64 / seconds;
        eprintln!("{} {count} in {seconds:.1} s, {rate:.0}/s", self.label);
    }
}
