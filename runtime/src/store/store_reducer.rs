//! The reducers that a store can run.

use composable_rust_core::Reducer;

/// A reducer that a [`Store`](super::Store) can run.
///
/// Implemented for every reducer that is `Send + Sync + 'static`, with state and actions that are
/// `Clone + Send + 'static` and an environment that is `Send + Sync + 'static`.
#[diagnostic::on_unimplemented(
    message = "a `Store` cannot run `{Self}`",
    note = "it runs any `Reducer` that is `Send + Sync + 'static` with state and actions that are \
            `Clone + Send + 'static` and an environment that is `Send + Sync + 'static`"
)]
pub trait StoreReducer:
    Reducer<
        State: Clone + Send + 'static,
        Action: Clone + Send + 'static,
        Environment: Send + Sync + 'static,
    > + Send
    + Sync
    + 'static
{
}

impl<R> StoreReducer for R
where
    R: Reducer + Send + Sync + 'static,
    R::State: Clone + Send + 'static,
    R::Action: Clone + Send + 'static,
    R::Environment: Send + Sync + 'static,
{
}
