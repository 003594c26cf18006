//! How far a long command is.

use std::io::{IsTerminal as _, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// A bar on stderr; a line now and then where that is no terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    what: &'static str,
    total: usize,
    before: Option<usize>,
    done: usize,
    began: Instant,
    told: Instant,
}

/// How often a line is printed where there is no terminal.
const INTERVAL: Duration = Duration::from_secs(5);

impl Progress {
    /// Begins `what`, of which there are `total`.
    pub(crate) fn new(what: &'static str, total: usize) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let style = "{msg} {bar:40} {pos}/{len} {elapsed} (eta {eta})";
            let style = ProgressStyle::with_template(style)
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(total as u64).with_style(style).with_message(what)
        });
        let now = Instant::now();
        Self { bar, what, total, before: None, done: 0, began: now, told: now }
    }

    /// Says that `done` of the total are done. What is done the first time was done before.
    pub(crate) fn at(&mut self, done: usize) {
        self.before.get_or_insert(done);
        self.done = done;
        match &self.bar {
            Some(bar) => bar.set_position(done as u64),
            None if self.told.elapsed() >= INTERVAL => {
                self.told = Instant::now();
                eprintln!("{} {done} of {}", self.what, self.total);
            }
            None => {}
        }
    }

    /// Takes the bar away, and says how long it took to do what was done.
    pub(crate) fn end(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let count = self.done - self.before.unwrap_or_default();
        let seconds = self.began.elapsed().as_secs_f64().max(0.001);
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = count as f64 / seconds;
        eprintln!("{} {count} in {seconds:.1} s, {rate:.0}/s", self.what);
    }
}
