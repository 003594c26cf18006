//! Folding a stream into a state.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use composable_rust_core::{
    Aggregate, Codecs, DecodeError, EventStore as _, Fingerprint, Loaded, RecordedEvent,
    SharedEventStore, Snapshot, StoreError, StoredContent, StreamId, Version,
};
use futures_util::TryStreamExt as _;

use crate::error::{LoadError, panic_text};

/// A state, and where its stream stood then.
#[derive(Debug, Clone)]
pub(crate) struct Folded<A> {
    pub(crate) state: A,
    pub(crate) version: Version,
    pub(crate) snapshot: Version,
    pub(crate) closed: bool,
    /// Which time the instance's state was loaded for; see [`crate::instance::Mailbox`].
    pub(crate) generation: u64,
}

impl<A: Aggregate> Folded<A> {
    pub(crate) fn empty() -> Self {
        let (version, snapshot) = (Version::ZERO, Version::ZERO);
        Self { state: A::default(), version, snapshot, closed: false, generation: 0 }
    }

    /// Applies the next event of the stream.
    pub(crate) fn fold(&mut self, codecs: &Codecs, event: &RecordedEvent) -> Result<(), LoadError> {
        debug_assert_eq!(event.version, self.version.next(), "events come in order");
        match &event.content {
            StoredContent::Erased => {}
            StoredContent::Closed => self.closed = true,
            StoredContent::Present(content) => {
                let state = &mut self.state;
                // Decoding runs code of users too: their upcasters and codecs.
                let applied = catch_unwind(AssertUnwindSafe(|| {
                    let decoded = codecs.decode::<A::Event>(&event.stream, content)?;
                    state.apply(decoded);
                    Ok(())
                }));
                match applied {
                    Ok(Ok(())) => {}
                    Ok(Err(source)) => return Err(undecodable(event, source)),
                    Err(panic) => {
                        let (stream, version) = (event.stream.clone(), event.version);
                        let panic = panic_text(&*panic);
                        return Err(LoadError::Unapplicable { stream, version, panic });
                    }
                }
            }
        }
        self.version = event.version;
        Ok(())
    }
}

pub(crate) fn undecodable(event: &RecordedEvent, source: DecodeError) -> LoadError {
    let (stream, version, position) = (event.stream.clone(), event.version, event.position);
    let newer = source.is_newer();
    let source = Arc::new(source);
    if newer {
        LoadError::NewerSchema { stream, version, position, source }
    } else {
        LoadError::Undecodable { stream, version, position, source }
    }
}

/// Loads the state of a stream: its snapshot and the events after it, in one round trip.
pub(crate) async fn load<A: Aggregate>(
    store: &SharedEventStore,
    codecs: &Codecs,
    stream: &StreamId,
    fingerprint: Fingerprint,
) -> Result<Folded<A>, LoadError> {
    let mut folded = Folded::empty();
    let mut rows = std::pin::pin!(store.load_with_snapshot(stream, fingerprint));
    while let Some(row) = rows.try_next().await.map_err(|source| unavailable(stream, source))? {
        match row {
            Loaded::Event(event) => folded.fold(codecs, &event)?,
            Loaded::Snapshot(snapshot) => match decode_snapshot(codecs, stream, &snapshot) {
                Some(state) => {
                    let Snapshot { version, .. } = snapshot;
                    folded = Folded { state, version, snapshot: version, ..Folded::empty() };
                }
                None => return load_events(store, codecs, stream, None).await,
            },
        }
    }
    Ok(folded)
}

/// Loads the state of a stream from its events alone; as it was at `until`, if given.
pub(crate) async fn load_events<A: Aggregate>(
    store: &SharedEventStore,
    codecs: &Codecs,
    stream: &StreamId,
    until: Option<Version>,
) -> Result<Folded<A>, LoadError> {
    let mut folded = Folded::empty();
    let mut events = std::pin::pin!(store.load_events(stream, Version::ZERO));
    while until.is_none_or(|until| folded.version < until) {
        match events.try_next().await.map_err(|source| unavailable(stream, source))? {
            Some(event) => folded.fold(codecs, &event)?,
            None => break,
        }
    }
    Ok(folded)
}

fn decode_snapshot<A: Aggregate>(
    codecs: &Codecs,
    stream: &StreamId,
    snapshot: &Snapshot,
) -> Option<A> {
    let decode = || codecs.decode_state(stream, &snapshot.codec, &snapshot.bytes);
    let decoded = catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|panic| Err(panic_text(&*panic).into()));
    match decoded {
        Ok(state) => Some(state),
        Err(error) => {
            let version = snapshot.version.get();
            tracing::warn!(%stream, version, error, "a snapshot cannot be decoded and is ignored");
            None
        }
    }
}

pub(crate) fn unavailable(stream: &StreamId, source: StoreError) -> LoadError {
    LoadError::Unavailable { stream: stream.clone(), source }
}
