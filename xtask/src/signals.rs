//! Handling of Ctrl-C and SIGTERM.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::reaper::Reaper;

/// The effect of Ctrl-C (SIGINT). SIGTERM always ends this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum InterruptAction {
    /// This process cleans up and exits with an error.
    Exit,
    /// Ignored here: the running command shares the terminal and receives the signal itself.
    LeaveToCommand,
    /// This process cleans up and exits with success.
    ExitWithSuccess,
}

/// A handle to the thread that waits for signals.
#[derive(Debug)]
pub(crate) struct SignalWatcher {
    action: Arc<AtomicU8>,
}

impl SignalWatcher {
    /// Starts the thread. On a signal, the reaper cleans up before this process exits.
    pub(crate) fn start(reaper: Reaper) -> Result<Self> {
        let mut signals =
            Signals::new([SIGINT, SIGTERM]).context("failed to install the signal handlers")?;
        let action = Arc::new(AtomicU8::new(InterruptAction::Exit as u8));
        let current = Arc::clone(&action);
        thread::spawn(move || {
            for signal in &mut signals {
                if let Some(code) = exit_code(signal, current.load(Ordering::SeqCst)) {
                    // The lock is held until the exit, so that other threads do not report the
                    // servers that end now.
                    let mut connection = reaper.lock();
                    connection.clean_up();
                    process::exit(code);
                }
            }
        });
        Ok(Self { action })
    }

    /// Sets the effect of Ctrl-C.
    pub(crate) fn set_interrupt_action(&self, action: InterruptAction) {
        self.action.store(action as u8, Ordering::SeqCst);
    }
}

/// Returns the exit code, or `None` if the signal is ignored.
fn exit_code(signal: i32, action: u8) -> Option<i32> {
    if signal == SIGINT && action == InterruptAction::LeaveToCommand as u8 {
        None
    } else if signal == SIGINT && action == InterruptAction::ExitWithSuccess as u8 {
        Some(0)
    } else {
        Some(128 + signal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ctrl_c_has_the_chosen_effect() {
        assert_eq!(exit_code(SIGINT, InterruptAction::Exit as u8), Some(130));
        assert_eq!(exit_code(SIGINT, InterruptAction::LeaveToCommand as u8), None);
        assert_eq!(exit_code(SIGINT, InterruptAction::ExitWithSuccess as u8), Some(0));
    }

    #[test]
    fn sigterm_always_exits() {
        for action in [
            InterruptAction::Exit,
            InterruptAction::LeaveToCommand,
            InterruptAction::ExitWithSuccess,
        ] {
            assert_eq!(exit_code(SIGTERM, action as u8), Some(143));
        }
    }
}
