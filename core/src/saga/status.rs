//! The status of a saga.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{FailedStep, Task};
use crate::Timestamp;

/// The status of a saga, printed as `doing Charge since 2026-03-01T12:00:00Z` or `compensated after
/// Charge: CardDeclined`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Status<S> {
    /// Not started.
    #[default]
    New,
    /// Waiting until a step is done.
    Doing {
        /// The step.
        step: S,
        /// The time of the first request.
        since: Timestamp,
    },
    /// A step failed; waiting until a step is undone.
    Undoing {
        /// The step.
        step: S,
        /// The time of the first request.
        since: Timestamp,
        /// The step that failed.
        failed: FailedStep<S>,
    },
    /// Finished: all steps are done.
    Completed,
    /// Finished: a step failed, and all steps before it are undone.
    Compensated {
        /// The step that failed.
        failed: FailedStep<S>,
    },
    /// Finished: a step failed, and not everything could be undone. A person has to act.
    Stuck {
        /// The step that failed.
        failed: FailedStep<S>,
        /// The steps whose undoing was refused, in the order of the refusals.
        not_undone: Vec<FailedStep<S>>,
    },
}

impl<S: Copy> Status<S> {
    /// Returns the task that the saga waits for; `None` before the start and after the end.
    pub fn task(&self) -> Option<Task<S>> {
        match *self {
            Self::Doing { step, .. } => Some(Task::Do(step)),
            Self::Undoing { step, .. } => Some(Task::Undo(step)),
            Self::New | Self::Completed | Self::Compensated { .. } | Self::Stuck { .. } => None,
        }
    }
}

impl<S> Status<S> {
    /// Returns `true` if the saga has ended.
    pub fn is_finished(&self) -> bool {
        matches!(self, Self::Completed | Self::Compensated { .. } | Self::Stuck { .. })
    }

    /// Returns the step whose failure is why the saga undoes its steps, or has undone them.
    pub fn failed(&self) -> Option<&FailedStep<S>> {
        match self {
            Self::New | Self::Doing { .. } | Self::Completed => None,
            Self::Undoing { failed, .. }
            | Self::Compensated { failed }
            | Self::Stuck { failed, .. } => Some(failed),
        }
    }
}

impl<S: fmt::Debug> fmt::Display for Status<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New => f.write_str("new"),
            Self::Doing { step, since } => write!(f, "doing {step:?} since {since}"),
            Self::Undoing { step, since, failed } => {
                write!(f, "undoing {step:?} since {since} after {failed}")
            }
            Self::Completed => f.write_str("completed"),
            Self::Compensated { failed } => write!(f, "compensated after {failed}"),
            Self::Stuck { failed, not_undone } => {
                let steps: Vec<_> = not_undone.iter().map(ToString::to_string).collect();
                write!(f, "stuck after {failed}; not undone: {}", steps.join(", "))
            }
        }
    }
}
