//! Saving snapshots, and deleting those that no longer match the log.

use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::store::{EventStore as _, Snapshot, StaleSnapshots, StoreError};
use composable_rust_core::{Aggregate, EventId, Version};

use crate::app::context::AppContext;
use crate::instance::load::{LoadedState, decode_state};
use crate::instance::mailbox::Instance;
use crate::instance::runtime::AggregateRuntime;
use crate::metrics::SNAPSHOT_FAILURES;

/// The retention of snapshots of other code versions, for a deploy that is rolled back.
const FOREIGN_SNAPSHOT_RETENTION: Duration = Duration::from_secs(7 * 24 * 3_600);

/// The maximum number of doublings of the pause between two attempts to save a snapshot.
const MAX_DOUBLINGS: u32 = 10;

/// The reason why a snapshot was not saved.
enum SnapshotError {
    /// The store is unavailable; the next snapshot may be saved.
    Unavailable(StoreError),
    /// The snapshot cannot be stored or read back; the next one most likely cannot either.
    Unfit(String),
}

impl<A: Aggregate> AggregateRuntime<A> {
    /// Saves a snapshot in the background if the stream has passed a multiple of the interval. Each
    /// unfit snapshot doubles the pause until the next attempt.
    pub(crate) fn save_snapshot(self: &Arc<Self>, instance: &Arc<Instance<A>>) {
        let Some((state, last)) = start_saving(instance, self.shared.settings.snapshot_every)
        else {
            return;
        };
        let (runtime, instance) = (Arc::clone(self), Arc::clone(instance));
        self.shared.tasks.spawn(async move {
            let _guard = SnapshotGuard(&instance);
            let saved = runtime.try_save(&instance, &state, last).await;
            runtime.report(&instance, state.version, saved).await;
        });
    }

    async fn try_save(
        &self,
        instance: &Instance<A>,
        state: &LoadedState<A>,
        last: EventId,
    ) -> Result<(), SnapshotError> {
        let encoded = encode_state(&self.shared, instance, state);
        let (codec, bytes) = encoded.map_err(SnapshotError::Unfit)?;
        if instance.lock().load_generation != state.generation {
            return Ok(());
        }
        let (version, fingerprint) = (state.version, self.fingerprint);
        let snapshot = Snapshot { version, fingerprint, codec, bytes };
        let saved = self.shared.store.save_snapshot(&instance.stream, &snapshot, last).await;
        saved.map_err(|error| match error {
            StoreError::Invalid(reason) => SnapshotError::Unfit(reason),
            error @ StoreError::Unavailable(_) => SnapshotError::Unavailable(error),
        })
    }

    /// Logs a failed attempt; after a successful one, deletes the snapshots of other code versions.
    async fn report(
        &self,
        instance: &Instance<A>,
        version: Version,
        saved: Result<(), SnapshotError>,
    ) {
        let stream = &instance.stream;
        match saved {
            Ok(()) => {
                instance.lock().unfit_snapshots = 0;
                let age = FOREIGN_SNAPSHOT_RETENTION;
                let others = StaleSnapshots::Others { than: self.fingerprint, age };
                if let Err(error) = self.shared.store.delete_snapshots(stream, others).await {
                    tracing::debug!(
                        ?stream, %error,
                        "failed to delete snapshots of other code versions; retrying with the next \
                         snapshot"
                    );
                }
            }
            Err(SnapshotError::Unavailable(error)) => {
                SNAPSHOT_FAILURES.increment([A::NAME, "unavailable"]);
                tracing::warn!(
                    ?stream, %version, %error,
                    "failed to save a snapshot; retrying after the interval"
                );
            }
            Err(SnapshotError::Unfit(reason)) => {
                SNAPSHOT_FAILURES.increment([A::NAME, "unfit"]);
                instance.lock().unfit_snapshots += 1;
                tracing::warn!(
                    ?stream, %version, reason,
                    "a snapshot cannot be stored or read back; loads read more events, and the next \
                     attempt is after twice the interval"
                );
            }
        }
    }

    /// Deletes the snapshots above version `above`, whose events the log has lost.
    pub(crate) async fn delete_snapshots(&self, instance: &Instance<A>, above: Version) {
        let stream = &instance.stream;
        if let Err(error) =
            self.shared.store.delete_snapshots(stream, StaleSnapshots::Above(above)).await
        {
            tracing::warn!(?stream, %above, %error, "failed to delete snapshots whose events the log has lost; retrying at the next conflict");
        }
    }
}

/// Returns the state to be saved, with its last event, and sets the `is_saving` flag; `None` if no
/// snapshot is due.
fn start_saving<A: Aggregate>(
    instance: &Instance<A>,
    every: u64,
) -> Option<(LoadedState<A>, EventId)> {
    let mut mailbox = instance.lock();
    if every == 0 || mailbox.is_saving {
        return None;
    }
    let pause = match mailbox.unfit_snapshots {
        0 => 0,
        unfit => every.saturating_mul(1 << unfit.min(MAX_DOUBLINGS)),
    };
    let committed = mailbox.committed.as_mut()?;
    let last = committed.last?;
    let (version, saved) = (committed.version.get(), committed.snapshot.get());
    if version / every <= saved / every || version - saved < pause {
        return None;
    }
    committed.snapshot = committed.version;
    let state = committed.clone();
    mailbox.is_saving = true;
    Some((state, last))
}

/// Encodes a state. The error is the reason why it cannot be stored or is not decoded to an equal
/// state.
fn encode_state<A: Aggregate>(
    shared: &AppContext,
    instance: &Instance<A>,
    loaded: &LoadedState<A>,
) -> Result<(String, Vec<u8>), String> {
    let (codecs, stream) = (&shared.codecs, &instance.stream);
    let (codec, bytes) =
        codecs.encode_state(stream, &loaded.state).map_err(|error| error.to_string())?;
    if shared.settings.verify_encoding {
        let decoded: A = decode_state(codecs, stream, &codec, &bytes)?;
        if decoded != loaded.state {
            return Err("the snapshot reads back as another state".to_owned());
        }
    }
    Ok((codec, bytes))
}

/// Clears the `is_saving` flag on drop.
struct SnapshotGuard<'a, A: Aggregate>(&'a Instance<A>);

impl<A: Aggregate> Drop for SnapshotGuard<'_, A> {
    fn drop(&mut self) {
        self.0.lock().is_saving = false;
    }
}
