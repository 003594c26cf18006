//! How far a long command is.

use std::io::{IsTerminal as _, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// A bar on stderr; a line now and then where that is no terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    what: &'static str,
    total: u64,
    began: Instant,
    told: Instant,
}

/// How often a line is printed where there is no terminal.
const INTERVAL: Duration = Duration::from_secs(5);

impl Progress {
    /// Begins `what`, of which there are `total`.
    pub(crate) fn new(what: &'static str, total: u64) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let style = "{msg} {bar:40} {percent}% {elapsed} (eta {eta})";
            let style = ProgressStyle::with_template(style)
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(total).with_style(style).with_message(what)
        });
        let now = Instant::now();
        Self { bar, what, total, began: now, told: now }
    }

    /// Says that `done` of the total are done.
    pub(crate) fn at(&mut self, done: u64) {
        match &self.bar {
            Some(bar) => bar.set_position(done),
            None if self.told.elapsed() >= INTERVAL => {
                self.told = Instant::now();
                eprintln!("{} {}%", self.what, done * 100 / self.total.max(1));
            }
            None => {}
        }
    }

    /// Prints a line above the bar.
    pub(crate) fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    /// Takes the bar away, and says how long it took to do `count` `things`.
    pub(crate) fn end(self, count: u64, things: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let seconds = self.began.elapsed().as_secs_f64().max(0.001);
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = count as f64 / seconds;
        eprintln!("{} {count} {things} in {seconds:.1} s, {rate:.0}/s", self.what);
    }
}
