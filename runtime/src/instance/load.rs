//! Folding a stream into a state.

use std::sync::Arc;

use composable_rust_core::{
    Aggregate, Codecs, DecodeError, EventId, EventStore as _, Fingerprint, SharedEventStore,
    Snapshot, StoreError, StoredContent, StoredEvent, StreamId, StreamRow, Version,
};
use futures_util::{Stream, TryStreamExt as _};

use crate::error::LoadError;
use crate::panic::guarded;

/// A state, and where its stream stood then.
#[derive(Debug, Clone)]
pub(crate) struct LoadedState<A> {
    pub(crate) state: A,
    pub(crate) version: Version,
    /// The event at `version`, unless it is inside a snapshot.
    pub(crate) last: Option<EventId>,
    pub(crate) snapshot: Version,
    pub(crate) closed: bool,
    /// Whether the state holds what an erasure would take out of it.
    pub(crate) has_content: bool,
    /// Which time the instance's state was loaded for; see [`crate::instance::Mailbox`].
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
                // Decoding runs code of users too: their upcasters and codecs.
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

/// Times that a load begins again because the stream was erased under it.
const MAX_ERASURES: usize = 8;

/// What reading a stream gave.
enum LoadStep<A> {
    Done(LoadedState<A>),
    /// Its snapshot cannot be decoded.
    Undecodable,
    /// It was erased while it was read: what was read first had content, what was read then had not.
    /// An erasure takes all events so far and the snapshots, so it does not look so from any one
    /// moment.
    Erased,
}

/// Loads the state of a stream: its snapshot and the events after it, in one round trip.
pub(crate) async fn load<A: Aggregate>(
    store: &SharedEventStore,
    codecs: &Codecs,
    stream: &StreamId,
    fingerprint: Fingerprint,
) -> Result<LoadedState<A>, LoadError> {
    for _ in 0..MAX_ERASURES {
        let rows = store.load_with_snapshot(stream, fingerprint);
        match read(codecs, stream, rows, None).await? {
            LoadStep::Done(folded) => return Ok(folded),
            LoadStep::Undecodable => return load_events(store, codecs, stream, None).await,
            LoadStep::Erased => {}
        }
    }
    Err(erased(stream))
}

/// Loads the state of a stream from its events alone; as it was at `until`, if given.
pub(crate) async fn load_events<A: Aggregate>(
    store: &SharedEventStore,
    codecs: &Codecs,
    stream: &StreamId,
    until: Option<Version>,
) -> Result<LoadedState<A>, LoadError> {
    for _ in 0..MAX_ERASURES {
        let rows = store.load_events(stream, Version::ZERO).map_ok(StreamRow::Event);
        if let LoadStep::Done(folded) = read(codecs, stream, rows, until).await? {
            return Ok(folded);
        }
    }
    Err(erased(stream))
}

/// Folds what a load gives. The rows, which hold a connection, are given back before it returns.
async fn read<A: Aggregate>(
    codecs: &Codecs,
    stream: &StreamId,
    rows: impl Stream<Item = Result<StreamRow, StoreError>>,
    until: Option<Version>,
) -> Result<LoadStep<A>, LoadError> {
    let mut folded = LoadedState::empty();
    let mut rows = std::pin::pin!(rows);
    while until.is_none_or(|until| folded.version < until) {
        let row = rows.try_next().await.map_err(|source| unavailable(stream, source))?;
        match row {
            None => break,
            Some(StreamRow::Event(event)) => {
                if folded.has_content && event.content == StoredContent::Erased {
                    return Ok(LoadStep::Erased);
                }
                folded.fold(codecs, &event)?;
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
                            "a snapshot cannot be decoded and is ignored"
                        );
                        return Ok(LoadStep::Undecodable);
                    }
                };
                let snapshot = version;
                folded = LoadedState {
                    state,
                    version,
                    snapshot,
                    has_content: true,
                    ..LoadedState::empty()
                };
            }
        }
    }
    Ok(LoadStep::Done(folded))
}

/// Events after which a page of a stream takes no more, and their bytes.
const PAGE_EVENTS: usize = 1_000;
const PAGE_BYTES: usize = 4 << 20;

/// Some events of a stream after a version, and whether they are all: who waits between events must
/// hold no connection meanwhile, and not the whole stream.
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

/// About how many bytes an event takes.
pub(crate) fn size(event: &StoredEvent) -> usize {
    let content = match &event.content {
        StoredContent::Present(content) => content.bytes.len(),
        StoredContent::Erased | StoredContent::Closed => 0,
    };
    size_of::<StoredEvent>() + event.stream.as_str().len() + event.metadata.len() + content
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
