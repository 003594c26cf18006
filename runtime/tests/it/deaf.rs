//! A store that never hears of news.

use std::time::Duration;

use composable_rust_core::Position;
use composable_rust_core::store::{EventStore, Presence, StoreError};
use composable_rust_testing::{Intercept, Intercepted};
use uuid::Uuid;

/// A layer that loses all notifications. A wait for work ends with the poll interval, without news.
pub(crate) struct Deaf;

impl Deaf {
    pub(crate) fn to<S>(store: S) -> Intercepted<S, Self> {
        Intercepted::layered(store, Self)
    }
}

impl<S: EventStore> Intercept<S> for Deaf {
    fn attend(&self, _: &S, _: Uuid) -> Option<Box<dyn Presence>> {
        None
    }

    async fn wait_for_events(&self, _: &S, _: &[Position]) -> Result<(), StoreError> {
        std::future::pending().await
    }

    async fn wait_for_work(&self, _: &S, seen: u64) -> Result<u64, StoreError> {
        tokio::time::sleep(Duration::from_millis(250)).await;
        Ok(seen)
    }
}
