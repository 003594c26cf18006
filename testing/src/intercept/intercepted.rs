//! An event store behind a layer.

use std::ops::Deref;
use std::sync::Arc;

/// An event store whose calls pass an [`Intercept`](super::Intercept) layer.
///
/// Dereferences to the layer, so that a test controls the layer through the store. Clones share
/// the layer.
#[derive(Debug)]
pub struct Intercepted<S, I> {
    store: S,
    layer: Arc<I>,
}

impl<S, I> Intercepted<S, I> {
    /// Creates a store whose calls pass `layer`.
    pub fn layered(store: S, layer: impl Into<Arc<I>>) -> Self {
        Self { store, layer: layer.into() }
    }

    /// Returns the store behind the layer.
    pub fn inner(&self) -> &S {
        &self.store
    }

    /// Returns the layer.
    pub fn layer(&self) -> &Arc<I> {
        &self.layer
    }
}

impl<S: Clone, I> Clone for Intercepted<S, I> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), layer: Arc::clone(&self.layer) }
    }
}

impl<S, I> Deref for Intercepted<S, I> {
    type Target = I;

    fn deref(&self) -> &I {
        &self.layer
    }
}
