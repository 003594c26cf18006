//! The bus of an app.

use std::collections::BTreeSet;

use composable_rust_core::bus::{EventBus as _, SharedEventBus};

use crate::worker::bus::publishers::Publishers;
use crate::worker::bus::subscriptions::Subscriptions;

/// The bus, with the publishers and subscriptions that this process has open.
pub(crate) struct BusConnection {
    pub(crate) bus: SharedEventBus,
    pub(crate) publishers: Publishers,
    pub(crate) subscriptions: Subscriptions,
    /// The aggregate types whose commands other services may send.
    pub(crate) served: BTreeSet<&'static str>,
}

impl BusConnection {
    pub(crate) fn new(bus: SharedEventBus, served: BTreeSet<&'static str>) -> Self {
        let publishers = Publishers::new(bus.max_publishers());
        Self { bus, publishers, subscriptions: Subscriptions::default(), served }
    }
}
