//! The context of a step's definition.

use std::fmt;

use super::{LinearSaga, Saga};
use crate::{Context, Id};

/// The inputs of [`LinearSaga::step`] besides step and input: the same at every call, so a repeated
/// request is the same request.
pub struct SagaContext<'a, S: LinearSaga> {
    id: &'a Id<Saga<S>>,
    env: &'a S::Environment,
}

impl<'a, S: LinearSaga> SagaContext<'a, S> {
    pub(super) fn of(ctx: &'a Context<'_, Saga<S>>) -> Self {
        Self { id: ctx.id(), env: ctx.env() }
    }

    /// Returns the id of the saga. Targets that belong to one saga can have the same id:
    /// `Payment::id(saga.id().as_str())`.
    pub fn id(&self) -> &'a Id<Saga<S>> {
        self.id
    }

    /// Returns the environment that the saga was registered with.
    pub fn env(&self) -> &'a S::Environment {
        self.env
    }
}

impl<S: LinearSaga> fmt::Debug for SagaContext<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SagaContext").field("id", self.id).finish_non_exhaustive()
    }
}
