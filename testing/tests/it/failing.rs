//! Tests that must fail, and what they say.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    /// What this thread's panic said and where, while a failing test runs in it.
    static SAID: RefCell<Option<Said>> = const { RefCell::new(None) };
}

/// A failure as the test's author sees it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Said {
    pub(crate) message: String,
    pub(crate) file: String,
    pub(crate) line: u32,
}

/// Runs a test that must fail, and returns its message.
pub(crate) fn failing(test: impl FnOnce()) -> String {
    let said = said(test);
    assert!(!said.message.is_empty(), "the test was meant to fail");
    without_lines(&said.message)
}

/// Runs a test that must fail, and returns its message and line.
pub(crate) fn said(test: impl FnOnce()) -> Said {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let ours = SAID.with_borrow_mut(|said| {
                let Some(said) = said else { return false };
                let payload = panic.payload();
                let message = payload.downcast_ref::<String>().map(String::as_str);
                let message = message.or(payload.downcast_ref::<&str>().copied());
                message.unwrap_or_default().clone_into(&mut said.message);
                if let Some(location) = panic.location() {
                    location.file().clone_into(&mut said.file);
                    said.line = location.line();
                }
                true
            });
            if !ours {
                others(panic);
            }
        }));
    });
    SAID.set(Some(Said::default()));
    let outcome = catch_unwind(AssertUnwindSafe(test));
    let said = SAID.take().unwrap_or_default();
    assert!(outcome.is_err(), "the test was meant to fail");
    said
}

/// The lines of these tests change with every edit.
fn without_lines(message: &str) -> String {
    let digits = |text: &str| text.trim_start_matches(|c: char| c.is_ascii_digit()).to_owned();
    let mut text = message.to_owned();
    for mark in [".rs:", "after line "] {
        let mut parts = text.split(mark);
        let first = parts.next().unwrap_or_default().to_owned();
        text = parts.fold(first, |text, part| {
            let rest = digits(part);
            let rest =
                rest.strip_prefix(':').filter(|_| mark == ".rs:").map_or(rest.clone(), digits);
            format!("{text}{mark}LINE{rest}")
        });
    }
    text
}

/// Compares a message with the one that is kept beside the tests. Under `CI=true` nothing is
/// written; elsewhere a message that differs is written beside the kept one, and the test fails
/// either way.
macro_rules! assert_says {
    ($name:literal, $test:expr) => {
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!($name, crate::failing::failing($test));
        })
    };
}

pub(crate) use assert_says;
