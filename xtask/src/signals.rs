//! Ctrl-C and SIGTERM.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::guard::Guard;

/// What Ctrl-C means at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Interrupt {
    /// It ends this process.
    Ends,
    /// A command at the same terminal got it too; what it does decides.
    LeftToTheCommand,
    /// It is how the user finishes.
    Finishes,
}

/// The thread that waits for signals.
#[derive(Debug)]
pub(crate) struct Watch {
    interrupt: Arc<AtomicU8>,
}

impl Watch {
    /// From now on a signal has the guard take everything down before this process exits.
    pub(crate) fn start(guard: Guard) -> Result<Self> {
        let mut signals = Signals::new([SIGINT, SIGTERM]).context("watching for signals")?;
        let interrupt = Arc::new(AtomicU8::new(Interrupt::Ends as u8));
        let meaning = Arc::clone(&interrupt);
        thread::spawn(move || {
            for signal in &mut signals {
                if let Some(code) = exit_code(signal, meaning.load(Ordering::SeqCst)) {
                    // Held until the end, so that no other thread gets to report the wreckage.
                    let mut link = guard.lock();
                    link.end();
                    process::exit(code);
                }
            }
        });
        Ok(Self { interrupt })
    }

    /// Says what Ctrl-C means from now on.
    pub(crate) fn interrupt_means(&self, meaning: Interrupt) {
        self.interrupt.store(meaning as u8, Ordering::SeqCst);
    }
}

/// The code to exit with, if the signal ends this process.
fn exit_code(signal: i32, meaning: u8) -> Option<i32> {
    if signal == SIGINT && meaning == Interrupt::LeftToTheCommand as u8 {
        None
    } else if signal == SIGINT && meaning == Interrupt::Finishes as u8 {
        Some(0)
    } else {
        Some(128 + signal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ctrl_c_means_what_was_said() {
        assert_eq!(exit_code(SIGINT, Interrupt::Ends as u8), Some(130));
        assert_eq!(exit_code(SIGINT, Interrupt::LeftToTheCommand as u8), None);
        assert_eq!(exit_code(SIGINT, Interrupt::Finishes as u8), Some(0));
    }

    #[test]
    fn sigterm_always_ends() {
        for meaning in [Interrupt::Ends, Interrupt::LeftToTheCommand, Interrupt::Finishes] {
            assert_eq!(exit_code(SIGTERM, meaning as u8), Some(143));
        }
    }
}
