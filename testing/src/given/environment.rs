use std::fmt;
use std::sync::Arc;

use composable_rust_core::Aggregate;

/// The source of the environment of a [`Given`](crate::Given).
#[diagnostic::on_unimplemented(
    message = "the environment of `{A}` has no default",
    label = "needs an environment",
    note = "call `.env(…)` before `.when(…)`"
)]
pub trait EnvironmentSource<A: Aggregate> {
    /// The environment.
    fn environment(self) -> Arc<A::Environment>;
}

/// The environment's default, until [`env`](crate::Given::env) sets another.
#[derive(Debug, Clone, Copy)]
pub struct DefaultEnvironment(pub(super) ());

// Otherwise the compiler recommends a default for the environment and does not mention `.env(…)`.
#[diagnostic::do_not_recommend]
impl<A: Aggregate<Environment: Default>> EnvironmentSource<A> for DefaultEnvironment {
    fn environment(self) -> Arc<A::Environment> {
        Arc::default()
    }
}

/// The environment set by the test.
pub struct ProvidedEnvironment<A: Aggregate>(pub(super) Arc<A::Environment>);

impl<A: Aggregate> EnvironmentSource<A> for ProvidedEnvironment<A> {
    fn environment(self) -> Arc<A::Environment> {
        self.0
    }
}

impl<A: Aggregate> fmt::Debug for ProvidedEnvironment<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Provided").finish_non_exhaustive()
    }
}
