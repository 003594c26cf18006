//! Saving snapshots, and deleting those that the log does not bear out.

use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::{
    Aggregate, EventStore as _, Snapshot, StaleSnapshots, StoreError, Version,
};

use crate::instance::load::{LoadedState, decode_state};
use crate::instance::mailbox::Instance;
use crate::instance::runtime::{AggregateRuntime, AppContext};
use crate::metrics::UNFIT_SNAPSHOTS;

/// How long snapshots of other code are kept, for a deploy that is rolled back.
const FOREIGN_SNAPSHOT_RETENTION: Duration = Duration::from_secs(7 * 24 * 3_600);

/// After so many doublings the pause between two tries at a snapshot grows no more.
const MAX_DOUBLINGS: u32 = 10;

/// Why a snapshot was not saved.
enum SnapshotError {
    /// The store could not be asked; the next one may be saved.
    Unavailable(StoreError),
    /// It cannot be stored, or cannot be read again; the next one is likely to be as this one.
    Unfit(String),
}

impl<A: Aggregate> AggregateRuntime<A> {
    /// Saves a snapshot in the background when the stream has passed a multiple of the interval. The
    /// pause doubles with each snapshot that is unfit to be saved.
    pub(crate) fn save_snapshot(&self, instance: &Arc<Instance<A>>) {
        let every = self.shared.settings.snapshot_every;
        let due = {
            let mut mailbox = instance.lock();
            let pause = match mailbox.unfit_snapshots {
                0 => 0,
                unfit => every.saturating_mul(1 << unfit.min(MAX_DOUBLINGS)),
            };
            let due = mailbox.committed.as_ref().is_some_and(|own| {
                let (version, saved) = (own.version.get(), own.snapshot.get());
                let is_due =
                    every > 0 && version / every > saved / every && version - saved >= pause;
                is_due && own.last.is_some()
            });
            if !due || mailbox.saving {
                return;
            }
            mailbox.saving = true;
            mailbox.committed.as_mut().and_then(|own| {
                own.snapshot = own.version;
                Some((own.clone(), own.last?))
            })
        };
        let Some((folded, last)) = due else { return };
        let (shared, fingerprint) = (Arc::clone(&self.shared), self.fingerprint);
        let instance = Arc::clone(instance);
        self.shared.tasks.spawn(async move {
            let _saved = SnapshotGuard(&instance);
            let (stream, version) = (&instance.stream, folded.version);
            let saved = match snapshot(&shared, &instance, &folded) {
                Ok(_) if instance.lock().generation != folded.generation => Ok(()),
                Ok((codec, bytes)) => {
                    let snapshot = Snapshot { version, fingerprint, codec, bytes };
                    let saved = shared.store.save_snapshot(stream, &snapshot, last).await;
                    saved.map_err(|error| match error {
                        StoreError::Invalid(reason) => SnapshotError::Unfit(reason),
                        error @ StoreError::Unavailable(_) => SnapshotError::Unavailable(error),
                    })
                }
                Err(reason) => Err(SnapshotError::Unfit(reason)),
            };
            match saved {
                Ok(()) => {
                    instance.lock().unfit_snapshots = 0;
                    let others = StaleSnapshots::Others { than: fingerprint, age: FOREIGN_SNAPSHOT_RETENTION };
                    if let Err(error) = shared.store.delete_snapshots(stream, others).await {
                        tracing::debug!(?stream, %error, "failed to delete snapshots of other code; it is tried with the next snapshot");
                    }
                }
                Err(SnapshotError::Unavailable(error)) => {
                    tracing::warn!(?stream, %version, %error, "failed to save a snapshot; the next one is saved after the interval");
                }
                Err(SnapshotError::Unfit(reason)) => {
                    UNFIT_SNAPSHOTS.increment([A::NAME]);
                    instance.lock().unfit_snapshots += 1;
                    tracing::warn!(?stream, %version, reason, "a snapshot is unfit to be saved; loads fold more events, and it is tried again after twice the interval");
                }
            }
        });
    }

    /// Deletes the snapshots of states that the log has lost.
    pub(crate) async fn delete_snapshots(&self, instance: &Instance<A>, above: Version) {
        let stream = &instance.stream;
        if let Err(error) =
            self.shared.store.delete_snapshots(stream, StaleSnapshots::Above(above)).await
        {
            tracing::warn!(?stream, %above, %error, "failed to delete snapshots that the log has lost; it is tried at the next conflict");
        }
    }
}

/// The state as it is stored; a reason if it cannot be stored, or is not read back as it was.
fn snapshot<A: Aggregate>(
    shared: &AppContext,
    instance: &Instance<A>,
    folded: &LoadedState<A>,
) -> Result<(String, Vec<u8>), String> {
    let (codecs, stream) = (&shared.codecs, &instance.stream);
    let (codec, bytes) =
        codecs.encode_state(stream, &folded.state).map_err(|error| error.to_string())?;
    if shared.settings.verify_encoding {
        let again: A = decode_state(codecs, stream, &codec, &bytes)?;
        if again != folded.state {
            return Err("it reads back as another state".to_owned());
        }
    }
    Ok((codec, bytes))
}

/// Says, however it ends, that no snapshot is being saved.
struct SnapshotGuard<'a, A: Aggregate>(&'a Instance<A>);

impl<A: Aggregate> Drop for SnapshotGuard<'_, A> {
    fn drop(&mut self) {
        self.0.lock().saving = false;
    }
}
