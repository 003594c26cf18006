//! The part of an app that all its aggregate types and workers share.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use composable_rust_core::Position;
use composable_rust_core::codec::Codecs;
use composable_rust_core::environment::{Clock, IdGenerator, Rng};
use composable_rust_core::message::ReplySource;
use composable_rust_core::store::{EventStore as _, LogInfo, SharedEventStore, StoreError};
use tokio::sync::{OnceCell, Semaphore};
use tokio_util::task::TaskTracker;

use crate::app::program::Program;
use crate::app::stuck_instances::StuckInstances;
use crate::app::unknown_messages::UnknownMessages;
use crate::instance::encode::Storage;
use crate::instance::group_commit::GroupCommit;
use crate::instance::in_progress::SendsInProgress;
use crate::settings::Settings;
use crate::worker::bus::published_topic::PublishedTopic;

/// The part of an app that all its aggregate types and workers share.
pub(crate) struct AppContext {
    pub(crate) store: SharedEventStore,
    pub(crate) log: LogInfo,
    pub(crate) writer: GroupCommit,
    pub(crate) codecs: Codecs,
    /// The targets that live in another service.
    pub(crate) remote: BTreeSet<&'static str>,
    /// The targets and gateways of this service, in this process or another.
    pub(crate) known: BTreeSet<ReplySource>,
    /// The messages that wait for newer code.
    pub(crate) unknowns: UnknownMessages,
    /// The instances that cannot be loaded.
    pub(crate) stuck: StuckInstances,
    /// The publications of this process.
    pub(crate) published: Vec<Arc<PublishedTopic>>,
    /// The number of duplicate messages that changed nothing.
    pub(crate) duplicates_ignored: AtomicU64,
    /// The keyed sends in progress in this process.
    pub(crate) in_progress: SendsInProgress,
    pub(crate) settings: Settings,
    pub(crate) program: Program,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdGenerator>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) tasks: TaskTracker,
    /// Permits for loading a state: a burst of cold loads must not swamp the store.
    pub(crate) loads: Semaphore,
    /// The ends that the log had before the first append of this process.
    pub(crate) first_ends: OnceCell<Vec<Position>>,
    /// `true` if a policy begins at the end of the log when it has no checkpoint.
    pub(crate) has_policy_from_end: bool,
}

impl AppContext {
    /// Returns the ends that the log had before the first append of this process: where its new
    /// policies begin, so that they miss no event of its own.
    pub(crate) async fn first_ends(&self) -> Result<&[Position], StoreError> {
        self.first_ends.get_or_try_init(|| self.store.heads()).await.map(Vec::as_slice)
    }

    /// Reads the ends of the log before the first append, if a policy may need them.
    pub(crate) async fn before_append(&self) -> Result<(), StoreError> {
        if self.has_policy_from_end && !self.first_ends.initialized() {
            self.first_ends().await?;
        }
        Ok(())
    }

    /// The app's rules for encoding.
    pub(crate) fn storage(&self) -> Storage<'_> {
        let (codecs, settings) = (&self.codecs, &self.settings);
        let (verify_encoding, max_payload) = (settings.verify_encoding, settings.max_payload_bytes);
        Storage { codecs, verify_encoding, max_payload }
    }
}
