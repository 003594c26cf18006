//! Loading a stream: its snapshot and events, folded into a state.

use std::sync::Arc;

use composable_rust_core::codec::{Codecs, DecodeError};
use composable_rust_core::event::{StoredContent, StoredEvent};
use composable_rust_core::store::{
    EventStore as _, Fingerprint, SharedEventStore, Snapshot, StoreError, StreamRow,
};
use composable_rust_core::{Aggregate, EventId, EventSet, Recorded, StreamId, Version};
use futures_util::{Stream, TryStreamExt as _};

use crate::error::LoadError;
use crate::panic::guarded;

/// A state at one version of its stream.
#[derive(Debug, Clone)]
pub(crate) struct LoadedState<A> {
    pub(crate) state: A,
    pub(crate) version: Version,
    /// The id of the event at `version`; `None` if the state comes from a snapshot alone.
    pub(crate) last: Option<EventId>,
    /// The version of the latest snapshot.
    pub(crate) snapshot: Version,
    pub(crate) closed: bool,
    /// `true` if the state holds content that an erasure of the stream would remove.
    pub(crate) has_content: bool,
    /// The mailbox's load generation when the load began.
    pub(crate) generation: u64,
}

impl<A: Aggregate> LoadedState<A> {
    pub(crate) fn empty() -> Self {
        let (version, snapshot) = (Version::ZERO, Version::ZERO);
        Self {
            state: A::default(),
            version,
            last: None,
            snapshot,
            closed: false,
            has_content: false,
            generation: 0,
        }
    }

    /// Applies the next event of the stream.
    pub(crate) fn fold(&mut self, codecs: &Codecs, event: &StoredEvent) -> Result<(), LoadError> {
        if event.version != self.version.next() {
            let (stream, version) = (event.stream.clone(), self.version.next());
            return Err(LoadError::Missing { stream, version });
        }
        match &event.content {
            StoredContent::Erased => {}
            StoredContent::Closed => self.closed = true,
            StoredContent::Present(content) => {
                self.has_content = true;
                let state = &mut self.state;
                // Decoding runs code of users too: upcasters and codecs.
                let applied = guarded(|| {
                    let decoded = codecs.decode::<A::Event>(&event.stream, content)?;
                    state.apply(decoded);
                    Ok(())
                });
                match applied {
                    Ok(Ok(())) => {}
                    Ok(Err(source)) => return Err(undecodable(event, source)),
                    Err(panic) => {
                        let (stream, version) = (event.stream.clone(), event.version);
                        return Err(LoadError::Unapplicable { stream, version, panic });
                    }
                }
            }
        }
        self.version = event.version;
        self.last = Some(event.id);
        Ok(())
    }
}

pub(crate) fn undecodable(event: &StoredEvent, source: DecodeError) -> LoadError {
    let (stream, version, position) = (event.stream.clone(), event.version, event.position);
    let newer = source.is_newer();
    let source = Arc::new(source);
    if newer {
        LoadError::NewerSchema { stream, version, position, source }
    } else {
        LoadError::Undecodable { stream, version, position, source }
    }
}

/// The maximum number of times that a load starts again because the stream was erased meanwhile.
const MAX_ERASURES: usize = 8;

/// The result of one attempt to load a stream.
enum LoadAttempt<A> {
    Done(LoadedState<A>),
    /// The snapshot cannot be decoded.
    UndecodableSnapshot,
    /// The stream was erased while it was read: an erased event followed one with content. An
    /// erasure overwrites all events and deletes the snapshots, so no single moment looks like
    /// this.
    Erased,
}

/// Loads the state of a stream from its snapshot and the events after it, in one round trip.
pub(crate) async fn load<A: Aggregate>(
    store: &SharedEventStore,
    codecs: &Codecs,
    stream: &StreamId,
    fingerprint: Fingerprint,
) -> Result<LoadedState<A>, LoadError> {
    for _ in 0..MAX_ERASURES {
        let rows = store.load_with_snapshot(stream, fingerprint);
        match read(codecs, stream, rows, None).await? {
            LoadAttempt::Done(loaded) => return Ok(loaded),
            LoadAttempt::UndecodableSnapshot => {
                return load_events(store, codecs, stream, None).await;
            }
            LoadAttempt::Erased => {}
        }
    }
    Err(erased(stream))
}

/// Loads the state of a stream from its events alone; at version `until`, if given.
pub(crate) async fn load_events<A: Aggregate>(
    store: &SharedEventStore,
    codecs: &Codecs,
    stream: &StreamId,
    until: Option<Version>,
) -> Result<LoadedState<A>, LoadError> {
    for _ in 0..MAX_ERASURES {
        let rows = store.load_events(stream, Version::ZERO).map_ok(StreamRow::Event);
        if let LoadAttempt::Done(loaded) = read(codecs, stream, rows, until).await? {
            return Ok(loaded);
        }
    }
    Err(erased(stream))
}

/// Folds the rows of a load. The stream of rows, which holds a connection, is dropped on return.
async fn read<A: Aggregate>(
    codecs: &Codecs,
    stream: &StreamId,
    rows: impl Stream<Item = Result<StreamRow, StoreError>>,
    until: Option<Version>,
) -> Result<LoadAttempt<A>, LoadError> {
    let mut loaded = LoadedState::empty();
    let mut rows = std::pin::pin!(rows);
    while until.is_none_or(|until| loaded.version < until) {
        let row = rows.try_next().await.map_err(|source| unavailable(stream, source))?;
        match row {
            None => break,
            Some(StreamRow::Event(event)) => {
                if loaded.has_content && event.content == StoredContent::Erased {
                    return Ok(LoadAttempt::Erased);
                }
                loaded.fold(codecs, &event)?;
            }
            Some(StreamRow::Snapshot(Snapshot { version, codec, bytes, .. })) => {
                let state = match decode_state(codecs, stream, &codec, &bytes) {
                    Ok(state) => state,
                    Err(error) => {
                        let version = version.get();
                        tracing::warn!(
                            ?stream,
                            version,
                            error,
                            "failed to decode a snapshot; loading the instance from its events"
                        );
                        return Ok(LoadAttempt::UndecodableSnapshot);
                    }
                };
                let snapshot = version;
                loaded = LoadedState {
                    state,
                    version,
                    snapshot,
                    has_content: true,
                    ..LoadedState::empty()
                };
            }
        }
    }
    Ok(LoadAttempt::Done(loaded))
}

/// The maximum number of events of a page.
const PAGE_EVENTS: usize = 1_000;
/// The size in bytes from which on a page takes no further event.
const PAGE_BYTES: usize = 4 << 20;

/// Reads a page of the events of a stream after a version. Returns `true` with it if it is the
/// last.
///
/// A caller that waits between events reads pages, because it must hold neither a connection nor
/// the whole stream meanwhile.
pub(crate) async fn page(
    store: &SharedEventStore,
    stream: &StreamId,
    after: Version,
) -> Result<(Vec<StoredEvent>, bool), LoadError> {
    let (mut page, mut bytes) = (Vec::new(), 0);
    let mut events = std::pin::pin!(store.load_events(stream, after));
    while let Some(event) = events.try_next().await.map_err(|source| unavailable(stream, source))? {
        bytes += size(&event);
        page.push(event);
        if page.len() == PAGE_EVENTS || bytes >= PAGE_BYTES {
            return Ok((page, false));
        }
    }
    Ok((page, true))
}

/// Returns the approximate size of an event in bytes.
pub(crate) fn size(event: &StoredEvent) -> usize {
    let content = event.content.present().map_or(0, |content| content.bytes.len());
    size_of::<StoredEvent>() + event.stream.as_str().len() + event.metadata.len() + content
}

/// Decodes a stored event; its content is `None` if it was erased, or if it closes the stream.
pub(crate) fn recorded<S: EventSet>(
    codecs: &Codecs,
    event: &StoredEvent,
) -> Result<Recorded<Option<S::Event>>, LoadError> {
    let decode = |content| codecs.decode_event::<S>(&event.stream, content);
    let decoded = event.content.present().map(decode).transpose();
    Ok(event.decoded(decoded.map_err(|source| undecodable(event, source))?))
}

/// Decodes the state of a snapshot.
pub(crate) fn decode_state<A: Aggregate>(
    codecs: &Codecs,
    stream: &StreamId,
    codec: &str,
    bytes: &[u8],
) -> Result<A, String> {
    let decode = || codecs.decode_state(stream, codec, bytes);
    guarded(decode)?.map_err(|error| error.to_string())
}

fn erased(stream: &StreamId) -> LoadError {
    unavailable(stream, StoreError::unavailable("the stream was erased while it was read"))
}

pub(crate) fn unavailable(stream: &StreamId, source: StoreError) -> LoadError {
    LoadError::Unavailable { stream: stream.clone(), source }
}
