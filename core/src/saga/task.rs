//! Tasks: steps to do or to undo.

use serde::{Deserialize, Serialize};

/// The work that a saga waits for: one step, done or undone.
///
/// Every request and every timeout carries its task as a tag, so the saga recognises a late reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Task<S> {
    /// Do the step.
    Do(S),
    /// Undo the step.
    Undo(S),
}

/// The continuation of a saga after an event.
///
/// Events record it, so a saga in progress keeps to what it began when the steps change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Next<S> {
    /// Does the step.
    Do(S),
    /// Undoes the step.
    Undo(S),
    /// Ends: all steps are done.
    Completed,
    /// Ends: a step failed, and all steps before it are undone.
    Compensated,
    /// Ends: a step failed, and the undoing of a step was refused.
    Stuck,
}

impl<S: Copy> Task<S> {
    /// Returns the step.
    pub fn step(self) -> S {
        match self {
            Self::Do(step) | Self::Undo(step) => step,
        }
    }
}

impl<S> Task<S> {
    pub(super) fn map<T>(self, f: impl FnOnce(S) -> T) -> Task<T> {
        match self {
            Self::Do(step) => Task::Do(f(step)),
            Self::Undo(step) => Task::Undo(f(step)),
        }
    }

    pub(super) fn try_map<T, E>(self, f: impl FnOnce(S) -> Result<T, E>) -> Result<Task<T>, E> {
        Ok(match self {
            Self::Do(step) => Task::Do(f(step)?),
            Self::Undo(step) => Task::Undo(f(step)?),
        })
    }
}

impl<S> Next<S> {
    /// Returns the task; `None` at the end of the saga.
    pub fn task(self) -> Option<Task<S>> {
        match self {
            Self::Do(step) => Some(Task::Do(step)),
            Self::Undo(step) => Some(Task::Undo(step)),
            Self::Completed | Self::Compensated | Self::Stuck => None,
        }
    }

    pub(super) fn map<T>(self, f: impl FnOnce(S) -> T) -> Next<T> {
        match self {
            Self::Do(step) => Next::Do(f(step)),
            Self::Undo(step) => Next::Undo(f(step)),
            Self::Completed => Next::Completed,
            Self::Compensated => Next::Compensated,
            Self::Stuck => Next::Stuck,
        }
    }

    pub(super) fn try_map<T, E>(self, f: impl FnOnce(S) -> Result<T, E>) -> Result<Next<T>, E> {
        Ok(match self {
            Self::Do(step) => Next::Do(f(step)?),
            Self::Undo(step) => Next::Undo(f(step)?),
            Self::Completed => Next::Completed,
            Self::Compensated => Next::Compensated,
            Self::Stuck => Next::Stuck,
        })
    }
}

impl<S> From<Task<S>> for Next<S> {
    fn from(task: Task<S>) -> Self {
        match task {
            Task::Do(step) => Self::Do(step),
            Task::Undo(step) => Self::Undo(step),
        }
    }
}
