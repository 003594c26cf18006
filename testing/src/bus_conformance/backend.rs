//! What the suite needs of a bus besides the port.

use std::future::Future;
use std::time::Duration;

use composable_rust_core::{EventBus, SharedEventBus};
use futures_util::future::BoxFuture;

/// One broker, and what a test has to know of it. It may hold other tests' topics and groups: the
/// cases choose names that nobody else has.
pub trait BusBackend: Send + Sync + 'static {
    /// The bus under test.
    type Bus: EventBus;

    /// The bus as a process of its own sees it: opened anew, sharing nothing but the broker.
    fn open(&self) -> impl Future<Output = Self::Bus> + Send;

    /// The most deliveries of one topic partition that may be in somebody's hands: at least 12, and
    /// few, for this many messages are published several times over.
    fn max_outstanding(&self) -> usize;

    /// How long nothing has to come before a case believes that nothing will.
    fn silence(&self) -> Duration {
        Duration::from_millis(50)
    }
}

/// [`BusBackend`] with its type erased, so that the cases are compiled once.
pub(super) trait DynBackend: Send + Sync {
    fn open(&self) -> BoxFuture<'_, SharedEventBus>;
    fn max_outstanding(&self) -> usize;
    fn silence(&self) -> Duration;
}

impl<B: BusBackend> DynBackend for B {
    fn open(&self) -> BoxFuture<'_, SharedEventBus> {
        Box::pin(async { SharedEventBus::new(BusBackend::open(self).await) })
    }

    fn max_outstanding(&self) -> usize {
        BusBackend::max_outstanding(self)
    }

    fn silence(&self) -> Duration {
        BusBackend::silence(self)
    }
}
