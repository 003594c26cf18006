//! The outcome of a command, in words and as code.

use composable_rust_core::{Aggregate, Decision};

use crate::failure::{Failure, list, pretty};

/// The outcome of a command.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum GivenOutcome<A: Aggregate> {
    Recorded(Vec<A::Event>),
    Repeated(Vec<A::Event>),
    Unchanged,
    Rejected(A::Rejection),
}

impl<A: Aggregate> GivenOutcome<A> {
    pub(super) fn of(decision: &Decision<A>) -> Self {
        match decision {
            Ok(outcome) if outcome.events.is_empty() => Self::Unchanged,
            Ok(outcome) if outcome.repeated => Self::Repeated(outcome.events.to_vec()),
            Ok(outcome) => Self::Recorded(outcome.events.to_vec()),
            Err(rejection) => Self::Rejected(rejection.clone()),
        }
    }

    /// The events of an expected outcome.
    pub(super) fn recorded(events: impl IntoIterator<Item = A::Event>) -> Self {
        let events: Vec<_> = events.into_iter().collect();
        if events.is_empty() { Self::Unchanged } else { Self::Recorded(events) }
    }

    /// A clause that follows "it".
    pub(super) fn did(&self) -> String {
        match self {
            Self::Recorded(events) => format!("recorded `{}`", list(events)),
            Self::Repeated(events) => {
                format!("recorded nothing and was answered with `{}`, as a repeat", list(events))
            }
            Self::Unchanged => "changed nothing".to_owned(),
            Self::Rejected(rejection) => format!("was rejected with `{rejection:?}`"),
        }
    }

    /// A clause that follows "the test expects that it".
    fn does(&self) -> String {
        match self {
            Self::Recorded(events) => format!("records `{}`", list(events)),
            Self::Repeated(events) => {
                format!("records nothing and is answered with `{}`, as a repeat", list(events))
            }
            Self::Unchanged => "changes nothing".to_owned(),
            Self::Rejected(rejection) => format!("is rejected with `{rejection:?}`"),
        }
    }

    /// The call that asserts the outcome.
    pub(super) fn code(&self) -> String {
        match self {
            Self::Recorded(events) => format!(".then({})", list(events)),
            Self::Repeated(events) => match &events[..] {
                [event] => format!(".then_repeated({event:?})"),
                events => format!(".then_repeated({})", list(events)),
            },
            Self::Unchanged => ".then_unchanged()".to_owned(),
            Self::Rejected(rejection) => format!(".then_rejected({rejection:?})"),
        }
    }
}

/// The reason for which `answer` to `command`, decided in `state`, differs from the expected one.
pub(super) fn wrong<A: Aggregate>(
    command: &str,
    state: &A,
    expected: &GivenOutcome<A>,
    answer: &GivenOutcome<A>,
) -> Failure {
    let failure = match (expected, answer) {
        (GivenOutcome::Recorded(expected), GivenOutcome::Recorded(events)) => {
            Failure::new(format!("`{command}` recorded other events than the test expects."))
                .diff(&pretty(expected), &pretty(events))
        }
        (GivenOutcome::Repeated(expected), GivenOutcome::Repeated(events)) => Failure::new(
            format!("`{command}` was answered with another event than the test expects."),
        )
        .diff(&pretty(expected), &pretty(events)),
        (GivenOutcome::Rejected(expected), GivenOutcome::Rejected(rejection)) => Failure::new(
            format!("`{command}` was rejected for another reason than the test expects."),
        )
        .diff(&pretty(expected), &pretty(rejection)),
        _ => Failure::new(format!(
            "The test expects that `{command}` {}.\nIt {}.",
            expected.does(),
            answer.did()
        )),
    };
    failure
        .text("It was decided in this state:")
        .block(pretty(state))
        .text("If the aggregate is right, write:")
        .block(answer.code())
}
