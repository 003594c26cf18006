//! The runtime of one aggregate type.

use std::sync::Arc;

use composable_rust_core::store::Fingerprint;
use composable_rust_core::{Aggregate, Id};

use crate::app::context::AppContext;
use crate::instance::cache::Instances;
use crate::instance::mailbox::Instance;
use crate::instance::measure::AggregateMetrics;

/// The runtime of one aggregate type in an app.
///
/// Its methods are spread by theme: [`submit`](crate::instance::submit) is the only way into a
/// mailbox, [`process`](crate::instance::process) drains it,
/// [`catch_up`](crate::instance::catch_up) keeps the states current.
pub(crate) struct AggregateRuntime<A: Aggregate> {
    pub(crate) shared: Arc<AppContext>,
    pub(crate) env: A::Environment,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) instances: Arc<Instances<A>>,
    pub(crate) metrics: AggregateMetrics,
}

impl<A: Aggregate> AggregateRuntime<A> {
    /// The live instance of `id`, created if there is none.
    pub(crate) fn instance(&self, id: &Id<A>) -> Arc<Instance<A>> {
        self.instances.get(id)
    }
}
