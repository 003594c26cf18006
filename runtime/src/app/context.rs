//! The part of an app that all its aggregate types and workers share.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use composable_rust_core::codec::Codecs;
use composable_rust_core::environment::{Clock, IdGenerator, Rng};
use composable_rust_core::message::ReplySource;
use composable_rust_core::store::{LogInfo, SharedEventStore};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

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
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdGenerator>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) tasks: TaskTracker,
    /// Permits for loading a state: a burst of cold loads must not swamp the store.
    pub(crate) loads: Semaphore,
}

impl AppContext {
    /// The app's rules for encoding.
    pub(crate) fn storage(&self) -> Storage<'_> {
        let (codecs, settings) = (&self.codecs, &self.settings);
        let (verify_encoding, max_payload) = (settings.verify_encoding, settings.max_payload_bytes);
        Storage { codecs, verify_encoding, max_payload }
    }
}
