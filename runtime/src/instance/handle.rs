//! Handles of durable instances.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::store::EventStore as _;
use composable_rust_core::{Aggregate, Id, Position, Recorded, StreamId, Version};
use futures_util::{Stream, TryStreamExt as _, stream};

use crate::app::context::AppContext;
use crate::error::LoadError;
use crate::instance::load::{load_events, page, recorded, unavailable};
use crate::instance::mailbox::Instance;
use crate::instance::runtime::AggregateRuntime;
use crate::instance::send::SendCommand;

/// A handle of one durable instance: `app.handle(&Order::id("42"))`. Cheap to create and clone.
pub struct Handle<A: Aggregate> {
    pub(crate) id: Id<A>,
    pub(crate) runtime: Arc<AggregateRuntime<A>>,
}

impl<A: Aggregate> Clone for Handle<A> {
    fn clone(&self) -> Self {
        Self { id: self.id.clone(), runtime: Arc::clone(&self.runtime) }
    }
}

impl<A: Aggregate> fmt::Debug for Handle<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("aggregate", &A::NAME)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// The error of [`Handle::wait`].
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The state did not satisfy the condition within the deadline.
    #[error("the state did not satisfy the condition within the deadline")]
    DeadlinePassed,
    /// The state cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
}

impl<A: Aggregate> Handle<A> {
    /// Returns the instance's id.
    pub fn id(&self) -> &Id<A> {
        &self.id
    }

    /// Sends a command: set options on the returned builder, then await it.
    ///
    /// The command is decided on the current state of the stream. If another writer appends first,
    /// the command is decided again, with the same ids and the same time. The result is returned
    /// after the commit.
    ///
    /// # Errors
    ///
    /// [`SendError`](crate::SendError); each variant says what to do.
    ///
    /// # Cancel safety
    ///
    /// After the future is dropped, the command may still be recorded. Send it again with the same
    /// key to learn its outcome.
    pub fn send(&self, command: A::Command) -> SendCommand<'_, A> {
        SendCommand::new(&self.runtime, &self.id, command)
    }

    /// Reads the state, after catching up with the stream: it includes everything that was
    /// committed before the call, and nothing uncommitted.
    ///
    /// # Errors
    ///
    /// [`LoadError`]; each variant says what to do.
    pub async fn state<T>(&self, read: impl FnOnce(&A) -> T) -> Result<T, LoadError> {
        self.state_with_version(|state, _| read(state)).await
    }

    /// As [`Handle::state`], with the version of the stream.
    ///
    /// # Errors
    ///
    /// As [`Handle::state`].
    pub async fn state_with_version<T>(
        &self,
        read: impl FnOnce(&A, Version) -> T,
    ) -> Result<T, LoadError> {
        let instance = self.runtime.instance(&self.id);
        loop {
            self.runtime.catch_up(&instance).await?;
            let mailbox = instance.lock();
            if let Some(committed) = &mailbox.committed {
                return Ok(read(&committed.state, committed.version));
            }
        }
    }

    /// Reads the state in memory, without catching up with the stream; loads it if there is none.
    /// The state may lack events that other processes have committed.
    ///
    /// # Errors
    ///
    /// As [`Handle::state`].
    pub async fn cached<T>(&self, read: impl FnOnce(&A) -> T) -> Result<T, LoadError> {
        let instance = self.runtime.instance(&self.id);
        loop {
            if let Some(committed) = &instance.lock().committed {
                return Ok(read(&committed.state));
            }
            self.runtime.committed(&instance).await?;
        }
    }

    /// Returns the state after event `version`, folded from the events, with its version. If the
    /// stream is shorter, returns the latest state.
    ///
    /// # Errors
    ///
    /// As [`Handle::state`].
    pub async fn state_at(&self, version: Version) -> Result<(A, Version), LoadError> {
        let shared = &self.runtime.shared;
        let stream = self.id.stream();
        let loaded = load_events(&shared.store, &shared.codecs, &stream, Some(version)).await?;
        Ok((loaded.state, loaded.version))
    }

    /// Returns the events of the stream, in order; erased events and the end of a closed stream are
    /// `None`. The events are read on demand, in pages of at most 1,000 events and about 4 MiB.
    ///
    /// # Errors
    ///
    /// The stream of events ends with a [`LoadError`] at the first event that cannot be loaded.
    pub fn history(
        &self,
    ) -> impl Stream<Item = Result<Recorded<Option<A::Event>>, LoadError>> + Send + use<A> {
        self.history_after(Version::ZERO)
    }

    /// As [`Handle::history`], for the events after `version`.
    ///
    /// # Errors
    ///
    /// As [`Handle::history`].
    pub fn history_after(
        &self,
        version: Version,
    ) -> impl Stream<Item = Result<Recorded<Option<A::Event>>, LoadError>> + Send + use<A> {
        let shared = Arc::clone(&self.runtime.shared);
        let pages = stream::try_unfold(Some(version), {
            let (shared, stream) = (Arc::clone(&shared), self.id.stream());
            move |after| {
                let (shared, stream) = (Arc::clone(&shared), stream.clone());
                async move {
                    let Some(after) = after else { return Ok(None) };
                    let (events, are_all) = page(&shared.store, &stream, after).await?;
                    let last = events.last().map(|event| event.version);
                    let events = stream::iter(events.into_iter().map(Ok));
                    Ok(Some((events, last.filter(|_| !are_all))))
                }
            }
        });
        let decode = move |event| recorded::<A>(&shared.codecs, &event);
        pages.try_flatten().and_then(move |event| std::future::ready(decode(event)))
    }

    /// Returns the events after `version`, and then each event as it is committed, by whichever
    /// process. Only an error ends the stream of events: follow again from the last version seen.
    ///
    /// Nothing is read while no event is committed to the partition; while other streams of it
    /// grow, the stream is read four times a second. The follower keeps no state in memory and
    /// holds no connection while it waits.
    ///
    /// # Errors
    ///
    /// As [`Handle::history`].
    pub fn follow(
        &self,
        version: Version,
    ) -> impl Stream<Item = Result<Recorded<Option<A::Event>>, LoadError>> + Send + use<A> {
        let shared = Arc::clone(&self.runtime.shared);
        let state = (Arc::clone(&shared), self.id.stream(), version);
        let pages = stream::try_unfold(state, |(shared, stream, after)| async move {
            let mut was_woken = false;
            loop {
                let heads = partition_head(&shared, &stream).await?;
                let (events, _) = page(&shared.store, &stream, after).await?;
                if let Some(last) = events.last().map(|event| event.version) {
                    let events = stream::iter(events.into_iter().map(Ok));
                    return Ok(Some((events, (shared, stream, last))));
                }
                if was_woken {
                    // By an event of another stream of the partition; more may follow.
                    shared.clock.sleep(FOLLOW_INTERVAL).await;
                }
                let appended = shared.store.wait_for_events(&heads).await;
                appended.map_err(|source| unavailable(&stream, source))?;
                was_woken = true;
            }
        });
        let decode = move |event| recorded::<A>(&shared.codecs, &event);
        pages.try_flatten().and_then(move |event| std::future::ready(decode(event)))
    }

    /// Erases the content of the stream: permanently overwrites the payloads and metadata of all
    /// events so far, and deletes whatever else the store keeps of them. Versions and positions
    /// remain. Returns the number of erased events. The state is loaded again from the remaining
    /// stream.
    ///
    /// Unless there was nothing to erase, an event without content is appended. It notifies
    /// projections ([`Projection::erase`](composable_rust_core::Projection::erase)), and makes
    /// other processes load the instance again before its next command or read. Nothing can be
    /// appended to a closed stream: projections that have passed its events are not notified, and
    /// other processes keep the state until they evict the instance.
    ///
    /// # Errors
    ///
    /// [`LoadError::Unavailable`]: the stream may have been erased. Erase it again.
    pub async fn erase(&self) -> Result<u64, LoadError> {
        struct ForgetOnDrop<'a, A: Aggregate>(&'a Instance<A>);
        impl<A: Aggregate> Drop for ForgetOnDrop<'_, A> {
            fn drop(&mut self) {
                self.0.forget();
            }
        }
        let instance = self.runtime.instance(&self.id);
        // On drop too: another task may load the state during the erasure.
        let _forget_on_drop = ForgetOnDrop(&instance);
        instance.forget();
        let erased = self.runtime.shared.store.erase_stream(&instance.stream).await;
        erased.map_err(|source| unavailable(&instance.stream, source))
    }

    /// Waits until `condition` returns `Some` for the committed state, and returns the content. It
    /// does not matter which process appends the events.
    ///
    /// # Errors
    ///
    /// [`WaitError`]: `deadline` has passed, or the state cannot be loaded.
    ///
    /// # Cancel safety
    ///
    /// Safe: call it again.
    pub async fn wait<T>(
        &self,
        mut condition: impl FnMut(&A) -> Option<T>,
        deadline: Duration,
    ) -> Result<T, WaitError> {
        let shared = &self.runtime.shared;
        let timeout = shared.clock.sleep(deadline);
        let watch = async {
            let instance = self.runtime.instance(&self.id);
            loop {
                let mut changed = std::pin::pin!(instance.changed.notified());
                let heads = partition_head(shared, &instance.stream).await?;
                self.runtime.catch_up(&instance).await?;
                if let Some(found) = instance
                    .lock()
                    .committed
                    .as_ref()
                    .and_then(|committed| condition(&committed.state))
                {
                    return Ok(found);
                }
                tokio::select! {
                    biased;
                    () = &mut changed => continue,
                    appended = shared.store.wait_for_events(&heads) => {
                        appended.map_err(|source| unavailable(&instance.stream, source))?;
                    }
                }
                // The event may be of any stream of the partition, so do not load on each one.
                tokio::select! {
                    biased;
                    () = changed => {}
                    () = shared.clock.sleep(POLL_INTERVAL) => {}
                }
            }
        };
        tokio::select! {
            biased;
            found = watch => found,
            () = timeout => Err(WaitError::DeadlinePassed),
        }
    }
}

/// The shortest interval at which a waiter reads the events of other processes.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The shortest interval at which a follower reads the stream while others of its partition grow.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(250);

/// Returns the head of the stream's partition.
async fn partition_head(
    shared: &AppContext,
    stream: &StreamId,
) -> Result<Vec<Position>, LoadError> {
    let partition = shared.log.partition_of(stream);
    let heads = shared.store.heads().await.map_err(|source| unavailable(stream, source))?;
    Ok(heads.into_iter().filter(|head| head.partition == partition).collect())
}
