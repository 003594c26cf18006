//! Problems from the errors of a command.

use axum::http::StatusCode;
use composable_rust_core::Message;
use composable_rust_core::codec::Format;
use composable_rust_core::message::MessageKind;
use composable_rust_runtime::SendError;
use serde_json::{Map, Value};

use super::errors::{internal, load_problem};
use super::problem::{Problem, RESERVED};

/// The status of a rejection without `#[message(status = …)]`.
///
/// An aggregate decides on its state, so a rejection is "a conflict with the current state of the
/// target resource" (RFC 9110, 15.5.10): the same command may be accepted later. `422` says that
/// the content itself is at fault; only the author of a rejection knows that it is.
const REJECTED: StatusCode = StatusCode::CONFLICT;

/// Returns the status of a response with a rejection of this kind.
pub(crate) fn rejection_status(kind: &MessageKind) -> StatusCode {
    kind.status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(REJECTED)
}

/// The problem of a command. A rejection has the status of its `#[message(status = …)]`, or `409
/// Conflict`, its fields as members, and its `Display` text or the first paragraph of its
/// documentation as detail.
///
/// | Error | Status |
/// |---|---|
/// | `UnexpectedVersion` | 409; 412 if the version came from `If-Match` |
/// | `KeyReused`, `Unstorable` | 422 |
/// | `InProgress` | 409, `Retry-After` |
/// | `DeadlinePassed`, `OutcomeUnknown` | 504 |
/// | `ShuttingDown`, an unavailable store, events of newer code | 503, `Retry-After` |
/// | `Closed`, `Erased` | 410 |
/// | `Internal` | 403 |
/// | the others | 500, without their text, which is logged |
impl<R: Message> From<SendError<R>> for Problem {
    fn from(error: SendError<R>) -> Self {
        let code = error.code();
        let problem = |status| Self::new(status, code).with_detail(error.to_string());
        match &error {
            SendError::Rejected(rejection) => rejected(rejection),
            SendError::UnexpectedVersion { expected, actual } => problem(StatusCode::CONFLICT)
                .with_member("expected_version", expected.get())
                .with_member("actual_version", actual.get()),
            SendError::InProgress => problem(StatusCode::CONFLICT).retry_after(1),
            SendError::KeyReused | SendError::Unstorable(_) => {
                problem(StatusCode::UNPROCESSABLE_ENTITY)
            }
            SendError::Closed | SendError::Erased => problem(StatusCode::GONE),
            SendError::Internal(_) => problem(StatusCode::FORBIDDEN),
            SendError::DeadlinePassed | SendError::OutcomeUnknown => {
                problem(StatusCode::GATEWAY_TIMEOUT)
            }
            SendError::ShuttingDown | SendError::UnreadableOutcome { newer: true, .. } => {
                problem(StatusCode::SERVICE_UNAVAILABLE).retry_after(1)
            }
            SendError::Load(error) => load_problem(error),
            _ => internal(code, &error),
        }
    }
}

fn rejected<R: Message>(rejection: &R) -> Problem {
    let kind = rejection.kind();
    let mut problem = Problem::new(rejection_status(kind), kind.name).with_summary(kind.summary);
    let detail = rejection.display().unwrap_or_else(|| kind.summary.to_owned());
    if !detail.is_empty() {
        problem = problem.with_detail(detail);
    }
    for (name, value) in members(rejection) {
        problem = problem.with_member(name, value);
    }
    problem
}

/// Returns the fields of a rejection as members; all of its content as the member `rejection` if it
/// has no named fields, or one with a reserved name.
fn members<R: Message>(rejection: &R) -> Map<String, Value> {
    let content = rejection.encode(Format::Json).ok();
    let content = content.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    match content {
        Some(Value::Object(fields)) if !has_reserved(&fields) => fields,
        Some(content) => Map::from_iter([("rejection".to_owned(), content)]),
        None => Map::new(),
    }
}

/// `true` if a field has the name of a member that every problem has.
pub(crate) fn has_reserved(fields: &Map<String, Value>) -> bool {
    RESERVED.iter().any(|name| fields.contains_key(*name))
}
