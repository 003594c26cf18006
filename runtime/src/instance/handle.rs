//! One durable instance.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::{Aggregate, EventStore as _, Id, Position, Recorded, Version};
use futures_util::{Stream, TryStreamExt as _, stream};

use crate::error::LoadError;
use crate::instance::load::{load_events, page, unavailable};
use crate::instance::mailbox::Instance;
use crate::instance::runtime::AggregateRuntime;
use crate::instance::send::SendCommand;

/// One durable instance of an aggregate: `app.handle(&Order::id("42"))`. Cheap to make and clone.
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

/// [`Handle::wait`] gave up.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The state did not come in time.
    #[error("the state did not come within the deadline")]
    DeadlinePassed,
    /// The state cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
}

impl<A: Aggregate> Handle<A> {
    /// The instance's id.
    pub fn id(&self) -> &Id<A> {
        &self.id
    }

    /// Sends a command; await what this returns, or first say more about it.
    ///
    /// The command is decided on the state that the stream has, never on an older one; if another
    /// writer was faster it is decided again, with the same ids and the same clock. The answer comes
    /// after the commit.
    ///
    /// # Errors
    ///
    /// [`SendError`](crate::SendError); each variant says what to do.
    ///
    /// # Cancel safety
    ///
    /// A dropped send may still be recorded. Send it again with the same key to learn its outcome.
    pub fn send(&self, command: A::Command) -> SendCommand<'_, A> {
        SendCommand::new(self, command)
    }

    /// Looks at the state, after catching up with the stream: nothing that was committed before the
    /// call is missing. Uncommitted state is never seen.
    ///
    /// # Errors
    ///
    /// [`LoadError`]; each variant says what to do.
    pub async fn state<T>(&self, look: impl FnOnce(&A) -> T) -> Result<T, LoadError> {
        self.state_with_version(|state, _| look(state)).await
    }

    /// As [`Handle::state`], with the version of the stream.
    ///
    /// # Errors
    ///
    /// As [`Handle::state`].
    pub async fn state_with_version<T>(
        &self,
        look: impl FnOnce(&A, Version) -> T,
    ) -> Result<T, LoadError> {
        let instance = self.runtime.instance(&self.id);
        loop {
            self.runtime.catch_up(&instance).await?;
            let mailbox = instance.lock();
            if let Some(own) = &mailbox.committed {
                return Ok(look(&own.state, own.version));
            }
        }
    }

    /// Looks at the state that is in memory, without asking the store; loads it if there is none.
    /// It may be older than what other processes have committed.
    ///
    /// # Errors
    ///
    /// As [`Handle::state`].
    pub async fn cached<T>(&self, look: impl FnOnce(&A) -> T) -> Result<T, LoadError> {
        let instance = self.runtime.instance(&self.id);
        loop {
            if let Some(own) = &instance.lock().committed {
                return Ok(look(&own.state));
            }
            self.runtime.committed(&instance).await?;
        }
    }

    /// The state as it was after event `version`, folded from the events; the newest if the stream
    /// is shorter, and then with its version.
    ///
    /// # Errors
    ///
    /// As [`Handle::state`].
    pub async fn state_at(&self, version: Version) -> Result<(A, Version), LoadError> {
        let shared = &self.runtime.shared;
        let stream = self.id.stream();
        let folded = load_events(&shared.store, &shared.codecs, &stream, Some(version)).await?;
        Ok((folded.state, folded.version))
    }

    /// The events of the stream, in order; erased ones and the end of a closed stream are `None`. They
    /// are read as they are taken, in pages of at most 1,000 events and some 4 MiB.
    ///
    /// # Errors
    ///
    /// The stream of events ends with a [`LoadError`] at the first that cannot be had.
    pub fn history(
        &self,
    ) -> impl Stream<Item = Result<Recorded<Option<A::Event>>, LoadError>> + Send + use<A> {
        let shared = Arc::clone(&self.runtime.shared);
        let pages = stream::try_unfold(Some(Version::ZERO), {
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
        let decode = move |event| crate::app::app::recorded::<A>(&shared.codecs, &event);
        pages.try_flatten().and_then(move |event| std::future::ready(decode(event)))
    }

    /// Overwrites the payloads and metadata of all events so far, and what else is kept of them, for
    /// good; versions and positions stay. Returns how many events were erased. The state is folded
    /// anew from what is left.
    ///
    /// An event without content is appended, unless there was nothing to erase: so projections are
    /// told ([`Projection::erase`](composable_rust_core::Projection::erase)), and another process that
    /// has the instance in memory folds it anew before its next command or look. A closed stream ends
    /// as it did: projections that were past its events are not told, and another process keeps the
    /// state until the instance leaves memory there.
    ///
    /// # Errors
    ///
    /// [`LoadError::Unavailable`]: it may have been erased; erase again.
    pub async fn erase(&self) -> Result<u64, LoadError> {
        struct ForgetOnDrop<'a, A: Aggregate>(&'a Instance<A>);
        impl<A: Aggregate> Drop for ForgetOnDrop<'_, A> {
            fn drop(&mut self) {
                self.0.forget();
            }
        }
        let instance = self.runtime.instance(&self.id);
        // Afterwards too, also when this call is dropped: somebody may have loaded in between.
        let _afterwards = ForgetOnDrop(&instance);
        instance.forget();
        let erased = self.runtime.shared.store.erase_stream(&instance.stream).await;
        erased.map_err(|source| unavailable(&instance.stream, source))
    }

    /// Waits until the state satisfies `condition`, whoever brings it there; an `Option`'s content
    /// is what it resolves to. Only committed state is looked at.
    ///
    /// # Errors
    ///
    /// [`WaitError::DeadlinePassed`] after `deadline`, or the state cannot be loaded.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing but waiting is lost.
    pub async fn wait<T>(
        &self,
        mut condition: impl FnMut(&A) -> Option<T>,
        deadline: Duration,
    ) -> Result<T, WaitError> {
        let shared = &self.runtime.shared;
        let late = shared.clock.sleep(deadline);
        let watch = async {
            let instance = self.runtime.instance(&self.id);
            loop {
                let mut moved = std::pin::pin!(instance.moved.notified());
                let heads = partition_head(shared, &self.id).await?;
                self.runtime.catch_up(&instance).await?;
                if let Some(found) =
                    instance.lock().committed.as_ref().and_then(|own| condition(&own.state))
                {
                    return Ok(found);
                }
                tokio::select! {
                    biased;
                    () = &mut moved => continue,
                    elsewhere = shared.store.wait_for_events(&heads) => {
                        elsewhere.map_err(|source| unavailable(&instance.stream, source))?;
                    }
                }
                // It was any stream of the partition.
                tokio::select! {
                    biased;
                    () = moved => {}
                    () = shared.clock.sleep(POLL_INTERVAL) => {}
                }
            }
        };
        tokio::select! {
            biased;
            found = watch => found,
            () = late => Err(WaitError::DeadlinePassed),
        }
    }
}

/// The pause of a waiter between two looks at what other processes have committed.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Where the instance's partition stands.
async fn partition_head<A: Aggregate>(
    shared: &crate::instance::runtime::AppContext,
    id: &Id<A>,
) -> Result<Vec<Position>, LoadError> {
    let stream = id.stream();
    let own = shared.log.partition_of(&stream);
    let heads = shared.store.heads().await.map_err(|source| unavailable(&stream, source))?;
    Ok(heads.into_iter().filter(|head| head.partition == own).collect())
}
