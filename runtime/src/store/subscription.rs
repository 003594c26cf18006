//! Subscriptions to the actions and events of a store.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::stream::{Stream, StreamExt as _};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

/// The subscriber was too slow and lost the oldest items; `.0` is their number. The stream
/// continues with the next item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the subscriber lags: {0} items were lost")]
pub struct Lagged(pub u64);

/// A stream of the actions or events of a store since the subscription, in order. It ends when the
/// store is shut down or dropped.
pub struct Subscription<T>(BroadcastStream<T>);

impl<T: Clone + Send + 'static> Stream for Subscription<T> {
    type Item = Result<T, Lagged>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(ready!(self.0.poll_next_unpin(cx)).map(|item| match item {
            Ok(item) => Ok(item),
            Err(BroadcastStreamRecvError::Lagged(lost)) => Err(Lagged(lost)),
        }))
    }
}

impl<T> fmt::Debug for Subscription<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}

/// The subscribers of a store; costs nothing while there are none.
#[derive(Debug)]
pub(super) struct Listeners<T>(Option<broadcast::Sender<T>>);

impl<T: Clone + Send + 'static> Listeners<T> {
    pub(super) fn none() -> Self {
        Self(None)
    }

    pub(super) fn has_any(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn subscribe(&mut self, buffer: usize) -> Subscription<T> {
        let sender = self.0.get_or_insert_with(|| broadcast::channel(buffer).0);
        Subscription(BroadcastStream::new(sender.subscribe()))
    }

    pub(super) fn publish(&mut self, item: T) {
        if self.0.as_ref().is_some_and(|sender| sender.send(item).is_err()) {
            self.0 = None;
        }
    }

    /// Ends every subscription after the items published so far.
    pub(super) fn end(&mut self) {
        self.0 = None;
    }
}
