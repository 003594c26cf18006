//! Tests that must fail, and their messages.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    /// The location of this thread's panic, while a failing test runs in it.
    static PLACE: RefCell<Option<Place>> = const { RefCell::new(None) };
}

#[derive(Debug, Clone, Default)]
struct Place {
    file: String,
    line: u32,
}

/// A failure as the test's author sees it.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) message: String,
    pub(crate) file: String,
    pub(crate) line: u32,
}

/// Runs a test that must fail, and returns its message.
pub(crate) fn failing<T>(test: impl FnOnce() -> T) -> String {
    without_lines(&said(test).message)
}

/// Runs a test that must fail, and returns its message and line.
pub(crate) fn said<T>(test: impl FnOnce() -> T) -> Said {
    // Another thread that set a hook at the same moment may have removed this one.
    while place_of(|| panic!("a probe of the hook")).1.line == 0 {
        note_places();
    }
    let (message, Place { file, line }) = place_of(|| drop(test()));
    Said { message: message.expect("the test should have failed"), file, line }
}

fn place_of(test: impl FnOnce()) -> (Option<String>, Place) {
    PLACE.set(Some(Place::default()));
    let panic = catch_unwind(AssertUnwindSafe(test)).err();
    (panic.map(|panic| message(&*panic)), PLACE.take().unwrap_or_default())
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
}

/// Records panics of failing tests without printing them; all others are printed as usual.
fn note_places() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let noted = PLACE.with_borrow_mut(|place| {
            let noted = place.as_mut().zip(panic.location());
            noted.map(|(place, location)| {
                location.file().clone_into(&mut place.file);
                place.line = location.line();
            })
        });
        if noted.is_none() {
            others(panic);
        }
    }));
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

/// Compares a message with the stored snapshot. Under `CI=true` nothing is written; elsewhere a
/// differing message is written beside the snapshot. The test fails either way.
macro_rules! assert_says {
    ($name:literal, $test:expr) => {
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!($name, crate::failing::failing($test));
        })
    };
}

pub(crate) use assert_says;
