//! Linear sagas: a row of steps, each with its undo, that the framework makes an aggregate.

mod command;
mod context;
mod event;
mod linear_saga;
mod names;
mod old_input;
mod partner;
mod reason;
mod reply;
mod request;
#[expect(clippy::module_inception, reason = "the file has the name of its type")]
mod saga;
mod status;
mod step;
mod task;

pub use command::SagaCommand;
pub use context::SagaContext;
pub use event::SagaEvent;
pub use linear_saga::LinearSaga;
pub use old_input::OldInput;
pub use partner::{Calls, HasPartner, Partner, PartnerIndex, Partners};
pub use reason::{FailedStep, Reason};
pub use reply::SagaReply;
pub use request::{JudgedRequest, SagaRequest};
pub use saga::Saga;
pub use status::Status;
pub use step::SagaStep;
pub use task::{Next, Task};
