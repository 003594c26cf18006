//! Following the log.

use futures_util::stream::{self, Stream, TryStreamExt as _};

use crate::Position;
use crate::event::StoredEvent;
use crate::store::{EventStore as _, SharedEventStore, StoreError};

/// Returns the events of the log after the given positions: first the stored events, then events as
/// they are committed.
///
/// The events of a partition come in order of offsets; events of different partitions come in any
/// order. The stream ends only with an error. Subscribe again from the last position seen.
pub fn subscribe(
    store: &SharedEventStore,
    after: Vec<Position>,
    page: usize,
) -> impl Stream<Item = Result<StoredEvent, StoreError>> + Send + use<> {
    let pages = stream::try_unfold((store.clone(), after), move |(store, mut after)| async move {
        loop {
            let events = store.read_log(&after, page).await?;
            if events.is_empty() {
                store.wait_for_events(&after).await?;
                continue;
            }
            for event in &events {
                if let Some(seen) =
                    after.iter_mut().find(|p| p.partition == event.position.partition)
                {
                    seen.offset = seen.offset.max(event.position.offset);
                }
            }
            return Ok(Some((stream::iter(events.into_iter().map(Ok)), (store, after))));
        }
    });
    pages.try_flatten()
}
