//! The definition of a linear saga.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{OldInput, Partners, SagaContext, SagaStep};

/// A saga that does its steps in order, and undoes them in reverse order if one fails. `Self` is
/// the step: an enum of variants without fields. [`Saga<Self>`](super::Saga) is the aggregate.
///
/// - A step whose request is *refused* did not happen, so undoing starts with the step before it.
/// - A step that *timed out* may have happened, or may still happen, so undoing starts with the
///   step itself.
/// - Undoing does not give up: if it times out, it is requested again, with twice the time. If it
///   is refused, the saga undoes the other steps, and ends [`Stuck`](super::Status::Stuck).
/// - The [`Status`](super::Status) and the events keep the reason of each failure.
///
/// # Changes
///
/// Events hold the names of steps and the saga's decisions. So steps may be added anywhere in
/// [`STEPS`](Self::STEPS) and reordered: a saga in progress goes on with the task that it waits
/// for, and then with the steps after it. A step that may be stored is renamed with
/// `#[serde(rename = "…")]`, and left out with [`SagaStep::skipped`], not removed. Code that does
/// not know a step leaves its messages to code that does.
///
/// # Example: an order that is charged
///
/// ```
/// use composable_rust_core::prelude::*;
/// use serde::{Deserialize, Serialize};
/// use std::time::Duration;
/// # #[derive(Debug, Clone, PartialEq, Message)]
/// # enum OrderCommand { Place, Cancel }
/// # #[derive(Debug, Clone, PartialEq, Message)]
/// # enum OrderEvent { Placed, Cancelled }
/// # struct Order;
/// # impl Target for Order {
/// #     const NAME: &'static str = "order";
/// #     type Command = OrderCommand;
/// #     type Event = OrderEvent;
/// #     type Rejection = std::convert::Infallible;
/// # }
/// # #[derive(Debug, Clone, PartialEq, Message)]
/// # enum PaymentCommand { Charge { cents: u64 }, Refund }
/// # #[derive(Debug, Clone, PartialEq, Message)]
/// # enum PaymentEvent { Requested, Charged, Declined, Refunded }
/// # struct Payment;
/// # impl Target for Payment {
/// #     const NAME: &'static str = "payment";
/// #     type Command = PaymentCommand;
/// #     type Event = PaymentEvent;
/// #     type Rejection = std::convert::Infallible;
/// # }
///
/// #[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
/// enum Step { Place, Charge }
///
/// impl LinearSaga for Step {
///     const NAME: &'static str = "checkout";
///     const STEPS: &'static [Self] = &[Step::Place, Step::Charge];
///     type Input = u64;
///     type Partners = (Order, Payment);
///     type Environment = ();
///
///     fn step(self, cents: &u64, saga: &SagaContext<'_, Self>) -> SagaStep<Self> {
///         let (order, payment) = (Order::id(saga.id().as_str()), Payment::id(saga.id().as_str()));
///         match self {
///             Step::Place => dispatch(&order, OrderCommand::Place)
///                 .undo(dispatch(&order, OrderCommand::Cancel)),
///             Step::Charge => dispatch(&payment, PaymentCommand::Charge { cents: *cents })
///                 .done_if(|event| matches!(event, PaymentEvent::Charged))
///                 .refused_if(|event| matches!(event, PaymentEvent::Declined))
///                 .undo(dispatch(&payment, PaymentCommand::Refund)),
///         }
///         .within(Duration::from_secs(30))
///     }
/// }
///
/// type Checkout = Saga<Step>;
/// assert_eq!(Checkout::default().status().to_string(), "new");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a linear saga",
    label = "not a `LinearSaga`",
    note = "implement `LinearSaga` for the enum of the saga's steps"
)]
pub trait LinearSaga:
    Copy + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// The stream category, `[a-z][a-z0-9_]*`, at most 64 bytes. The names of events and commands
    /// start with it. It is stored and must not change.
    const NAME: &'static str;

    /// All steps, in the order in which they are done.
    const STEPS: &'static [Self];

    /// The data of the saga, the content of [`SagaCommand::Start`](super::SagaCommand::Start).
    type Input: Serialize + DeserializeOwned + Debug + Clone + PartialEq + Send + Sync + 'static;

    /// The targets and gateways that the steps ask, as a tuple: `(Order, Payment, Calls<Bank>)`.
    type Partners: Partners;

    /// The data that the steps may use besides the input, such as time limits; `()` if none.
    type Environment: Send + Sync + 'static;

    /// The older shapes of the input, from version 1 on, as `&[OldInput::of::<CartV1>()]`. The
    /// input's version is one higher than their number. Default: none.
    const OLD_INPUTS: &'static [OldInput<Self::Input>] = &[];

    /// Returns the definition of the step. It must be pure: the saga asks for it again with each
    /// reply and each timeout.
    fn step(self, input: &Self::Input, saga: &SagaContext<'_, Self>) -> SagaStep<Self>;
}
