//! The parts of a request that concern its command.

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use composable_rust_core::environment::IdGenerator as _;
use composable_rust_core::{Aggregate, CorrelationId, Id, MessageId, TargetExt as _, Version};
use composable_rust_runtime::environment::SystemIds;
use composable_rust_runtime::{App, SendError};

use crate::headers::entity_tag::Precondition;
use crate::headers::idempotency_key::IdempotencyKey;
use crate::headers::traceparent;
use crate::{Problem, Sent, User};

/// The parts of a request that concern the command it sends: the headers `Idempotency-Key`,
/// `traceparent`, `If-Match` and `If-None-Match`, and the [`User`] that authentication has found.
///
/// - `Idempotency-Key`: a repeated request gets the outcome of the first. The key of another
///   command is 422, a key whose request is in progress in this process 409. A request in progress
///   in another process is waited for. Each user has keys of its own.
/// - `If-Match: "3"`: the command is decided only if the stream is at version 3, else 412. `*`
///   requires any event, and `If-None-Match: *` none.
/// - `traceparent`: goes into the metadata; an invalid one is ignored.
///
/// # Example: a handler
///
/// ```
/// # use composable_rust_core::prelude::*;
/// # #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
/// # struct Order;
/// # #[derive(Debug, Clone, PartialEq, Message)]
/// # enum OrderCommand { Ship { tracking: String } }
/// # #[derive(Debug, Clone, PartialEq, Message)]
/// # enum OrderEvent { Shipped { tracking: String } }
/// # impl Aggregate for Order {
/// #     const NAME: &'static str = "order";
/// #     type Command = OrderCommand;
/// #     type Event = OrderEvent;
/// #     type Rejection = std::convert::Infallible;
/// #     type Environment = ();
/// #     fn decide(&self, command: OrderCommand, _: &Context<Self>) -> Decision<Self> {
/// #         let OrderCommand::Ship { tracking } = command;
/// #         record(OrderEvent::Shipped { tracking })
/// #     }
/// #     fn apply(&mut self, _: OrderEvent) {}
/// # }
/// use axum::extract::State;
/// use composable_rust_axum::{Json, Path, Problem, RequestContext, Sent};
/// use composable_rust_runtime::App;
///
/// #[derive(serde::Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct Ship {
///     tracking: String,
/// }
///
/// async fn ship(
///     State(app): State<App>,
///     Path(id): Path<Id<Order>>,
///     ctx: RequestContext,
///     Json(Ship { tracking }): Json<Ship>,
/// ) -> Result<Sent, Problem> {
///     ctx.send(&app, &id, OrderCommand::Ship { tracking }).await
/// }
/// # let _: axum::Router<App> = axum::Router::new().route("/{id}/ship", axum::routing::post(ship));
/// ```
#[derive(Debug, Clone, Default)]
pub struct RequestContext {
    key: Option<IdempotencyKey>,
    user: Option<User>,
    traceparent: Option<String>,
    precondition: Precondition,
    within: Option<Duration>,
    correlation: Option<CorrelationId>,
}

impl<S: Send + Sync> FromRequestParts<S> for RequestContext {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self {
            key: IdempotencyKey::read(&parts.headers)?,
            user: parts.extensions.get::<User>().cloned(),
            traceparent: traceparent::read(&parts.headers),
            precondition: Precondition::read(&parts.headers)?,
            within: None,
            correlation: None,
        })
    }
}

impl RequestContext {
    /// Returns the user; `None` if the request is not authenticated.
    pub fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }

    /// Returns the idempotency key; `None` if the request has none.
    pub fn key(&self) -> Option<&IdempotencyKey> {
        self.key.as_ref()
    }

    /// Returns an error if the request has no idempotency key.
    ///
    /// # Errors
    ///
    /// A problem of status 400.
    pub fn require_key(self) -> Result<Self, Problem> {
        if self.key.is_some() { Ok(self) } else { Err(IdempotencyKey::missing()) }
    }

    /// Sets the deadline of the commands. Default: the [`default_deadline`] of the app.
    ///
    /// [`default_deadline`]: composable_rust_runtime::settings::Settings::default_deadline
    #[must_use]
    pub fn within(self, deadline: Duration) -> Self {
        Self { within: Some(deadline), ..self }
    }

    /// Returns the id of an instance that the request creates: derived from the user and the
    /// idempotency key, so that a repeated request addresses the same instance, or random without a
    /// key.
    pub fn new_id<A: Aggregate>(&self) -> Id<A> {
        match &self.key {
            Some(key) => A::id_from(&key.scoped(self.user())),
            None => A::id(SystemIds.new_id()),
        }
    }

    /// Returns the correlation id of a workflow that the request starts: derived from the user and
    /// the idempotency key, so that a repeated request finds the workflow of the first, or random
    /// without a key. See [`correlated`](Self::correlated).
    pub fn new_correlation_id(&self) -> CorrelationId {
        CorrelationId(match &self.key {
            Some(key) => MessageId::from_key(&format!("workflow {}", key.scoped(self.user()))).0,
            None => SystemIds.new_id(),
        })
    }

    /// Makes the commands part of a workflow, for [`App::settled`]. Default: each command starts a
    /// workflow of its own.
    #[must_use]
    pub fn correlated(self, workflow: CorrelationId) -> Self {
        Self { correlation: Some(workflow), ..self }
    }

    /// Sends a command to an instance, with all that this context holds.
    ///
    /// # Errors
    ///
    /// The problem of the [`SendError`], or of a precondition that does not hold (412).
    ///
    /// # Cancel safety
    ///
    /// As [`Handle::send`](composable_rust_runtime::Handle::send).
    ///
    /// # Panics
    ///
    /// As [`App::handle`]: if the aggregate is not registered.
    pub async fn send<A: Aggregate>(
        &self,
        app: &App,
        id: &Id<A>,
        command: A::Command,
    ) -> Result<Sent, Problem> {
        let handle = app.handle(id);
        let expected = match self.precondition {
            Precondition::None => None,
            Precondition::At(version) => Some(version),
            Precondition::Absent => Some(Version::ZERO),
            Precondition::Never => return Err(Precondition::failed()),
            Precondition::Exists => {
                // A stream that exists never ceases to.
                let version = handle.state_with_version(|_, version| version).await?;
                if version == Version::ZERO {
                    return Err(Precondition::failed());
                }
                None
            }
        };
        let mut send = handle.send(command);
        if let Some(version) = expected {
            send = send.expecting(version);
        }
        if let Some(key) = &self.key {
            send = send.key(key.scoped(self.user())).unless_in_progress();
        }
        if let Some(User(user)) = &self.user {
            send = send.by(user);
        }
        if let Some(traceparent) = &self.traceparent {
            send = send.traceparent(traceparent);
        }
        if let Some(workflow) = self.correlation {
            send = send.correlated(workflow);
        }
        if let Some(deadline) = self.within {
            send = send.within(deadline);
        }
        match send.await {
            Ok(receipt) => Ok(Sent::new(id.as_str(), receipt)),
            Err(SendError::UnexpectedVersion { actual, .. }) if expected.is_some() => {
                Err(Precondition::failed().with_member("actual_version", actual.get()))
            }
            Err(error) => Err(error.into()),
        }
    }
}
