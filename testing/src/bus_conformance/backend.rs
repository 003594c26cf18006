//! The suite's access to a bus beyond the port.

use std::future::Future;
use std::time::Duration;

use composable_rust_core::bus::{EventBus, SharedEventBus};
use futures_util::future::BoxFuture;

/// A broker, with what a test must know of it. It may hold the topics and groups of other tests:
/// the cases choose unique names.
pub trait BusBackend: Send + Sync + 'static {
    /// The bus under test.
    type Bus: EventBus;

    /// Opens the bus as another process does, sharing nothing but the broker.
    fn open(&self) -> impl Future<Output = Self::Bus> + Send;

    /// The largest number of outstanding deliveries of a topic partition. At least 12, and small:
    /// cases publish several times as many messages.
    fn max_outstanding(&self) -> usize;

    /// The time without a delivery after which a case concludes that none will come. Default: 50
    /// milliseconds.
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
