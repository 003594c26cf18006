//! Authorization of requests.

use std::fmt;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::sync::Arc;

use axum::http::header::WWW_AUTHENTICATE;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use composable_rust_core::{Aggregate, Id};

use crate::{Problem, User};

/// A request that needs authorization.
#[derive(Debug, Clone)]
pub struct Access<A: Aggregate> {
    /// The head of the request: headers, and extensions of middlewares.
    pub parts: Parts,
    /// The instance.
    pub id: Id<A>,
    /// The action on the instance.
    pub action: Action,
}

/// An action on an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Sending the command of this stored name, such as `order.ship`.
    Command(&'static str),
    /// Reading the state, now or at a version.
    State,
    /// Reading the history.
    History,
    /// Following the events.
    Events,
}

impl<A: Aggregate> Access<A> {
    /// Returns the user; `None` if the request is not authenticated.
    pub fn user(&self) -> Option<&User> {
        self.parts.extensions.get()
    }
}

/// Returns an authorization that admits every request with a [`User`]. The others are 401, with
/// `challenge` as `WWW-Authenticate`, such as `Bearer`.
///
/// ```
/// # use composable_rust_core::Aggregate;
/// # use composable_rust_runtime::App;
/// # fn f<Order: Aggregate>(app: &App) {
/// use composable_rust_axum::{aggregate, authenticated};
///
/// let orders = aggregate::<Order>(app).authorize(authenticated("Bearer")).all_commands();
/// # }
/// ```
pub fn authenticated<A: Aggregate>(
    challenge: &'static str,
) -> impl Fn(Access<A>) -> Ready<Result<(), Problem>> + Send + Sync + 'static {
    move |access| {
        if access.user().is_some() {
            return ready(Ok(()));
        }
        let mut problem = Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated");
        if let Ok(challenge) = HeaderValue::try_from(challenge) {
            problem = problem.with_header(WWW_AUTHENTICATE, challenge);
        }
        ready(Err(problem))
    }
}

type Checked = Pin<Box<dyn Future<Output = Result<(), Problem>> + Send>>;
type Check<A> = dyn Fn(Access<A>) -> Checked + Send + Sync;
type CommandCheck<A> = dyn Fn(Access<A>, <A as Aggregate>::Command) -> Checked + Send + Sync;

/// The authorization of a router.
pub(crate) struct Authorization<A: Aggregate> {
    request: Option<Arc<Check<A>>>,
    command: Option<Arc<CommandCheck<A>>>,
}

impl<A: Aggregate> fmt::Debug for Authorization<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.request.is_some() { "Authorization" } else { "Public" })
    }
}

impl<A: Aggregate> Authorization<A> {
    pub(crate) fn public() -> Self {
        Self { request: None, command: None }
    }

    pub(crate) fn of<F, O>(check: F) -> Self
    where
        F: Fn(Access<A>) -> O + Send + Sync + 'static,
        O: Future<Output = Result<(), Problem>> + Send + 'static,
    {
        Self { request: Some(Arc::new(move |access| Box::pin(check(access)))), command: None }
    }

    /// Adds a check of decoded commands.
    pub(crate) fn check_commands<F, O>(&mut self, check: F)
    where
        F: Fn(Access<A>, A::Command) -> O + Send + Sync + 'static,
        O: Future<Output = Result<(), Problem>> + Send + 'static,
    {
        self.command = Some(Arc::new(move |access, command| Box::pin(check(access, command))));
    }

    /// Checks a request, before anything else of it is read.
    pub(crate) async fn check(
        &self,
        parts: &Parts,
        id: &Id<A>,
        action: Action,
    ) -> Result<(), Problem> {
        let Some(check) = &self.request else { return Ok(()) };
        check(Access { parts: parts.clone(), id: id.clone(), action }).await
    }

    /// Checks the command of a request.
    pub(crate) async fn check_command(
        &self,
        parts: &Parts,
        id: &Id<A>,
        action: Action,
        command: &A::Command,
    ) -> Result<(), Problem> {
        let Some(check) = &self.command else { return Ok(()) };
        let access = Access { parts: parts.clone(), id: id.clone(), action };
        check(access, command.clone()).await
    }
}
