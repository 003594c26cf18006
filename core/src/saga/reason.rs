//! The reasons for which steps fail.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Message;

/// The maximum length of a message's text in a reason.
const MAX_TEXT_BYTES: usize = 500;

/// The reason for which a step was not done or not undone, printed as `CardDeclined` or
/// `timed out`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// The target or gateway refused the request.
    Refused {
        /// The stored name of the rejection, failure, event or response: `payment.card_declined`.
        name: String,
        /// Its `Debug` text, of at most 500 bytes.
        text: String,
    },
    /// The target is closed, or an operator discarded the request.
    Undelivered,
    /// There was no reply within the time limit.
    TimedOut,
    /// All attempts of a call failed, so its outcome is unknown.
    Exhausted,
    /// The outcome of a call cannot be stored; the text of the error.
    Unstorable(String),
}

impl Reason {
    /// Returns the reason of a step that was refused with `message`: a rejection, a failure, or an
    /// event or response that means a refusal.
    pub fn refused<M: Message>(message: &M) -> Self {
        Self::refused_as(message.kind().name, message)
    }

    pub(super) fn refused_as(name: &str, message: &dyn fmt::Debug) -> Self {
        Self::Refused { name: name.to_owned(), text: shortened(format!("{message:?}")) }
    }

    pub(super) fn unstorable(error: &str) -> Self {
        Self::Unstorable(shortened(error.to_owned()))
    }
}

fn shortened(mut text: String) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() > MAX_TEXT_BYTES {
        let most = MAX_TEXT_BYTES - ELLIPSIS.len();
        let end = (0..=most).rev().find(|index| text.is_char_boundary(*index));
        text.truncate(end.unwrap_or(0));
        text.push_str(ELLIPSIS);
    }
    text
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { text, .. } => f.write_str(text),
            Self::Undelivered => f.write_str("undelivered"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Exhausted => f.write_str("all attempts failed"),
            Self::Unstorable(error) => write!(f, "the outcome cannot be stored: {error}"),
        }
    }
}

/// A step that was not done or not undone, and the reason, printed as `Charge: CardDeclined`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedStep<S> {
    /// The step.
    pub step: S,
    /// The reason.
    pub reason: Reason,
}

impl<S: fmt::Debug> fmt::Display for FailedStep<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.step, self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_shortened_between_characters() {
        assert_eq!(shortened("ü".repeat(250)), "ü".repeat(250));
        let long = shortened("ü".repeat(251));
        assert_eq!((long.len(), long), (499, format!("{}…", "ü".repeat(248))));
    }
}
