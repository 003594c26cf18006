//! What an app keeps of one aggregate type.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use composable_rust_core::{
    Aggregate, Clock, Codecs, Fingerprint, IdGenerator, LogInfo, ReplySource, Rng, SharedEventStore,
};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::Settings;
use crate::app::stuck_instances::StuckInstances;
use crate::app::unknown_messages::UnknownMessages;
use crate::instance::cache::Instances;
use crate::instance::group_commit::GroupCommit;
use crate::worker::bus::published_topic::PublishedTopic;

/// What all aggregate types of an app share.
pub(crate) struct AppContext {
    pub(crate) store: SharedEventStore,
    pub(crate) log: LogInfo,
    pub(crate) writer: GroupCommit,
    pub(crate) codecs: Codecs,
    /// Targets that live in another service.
    pub(crate) remote: BTreeSet<&'static str>,
    /// Targets and gateways of this service, in this process or another.
    pub(crate) known: BTreeSet<ReplySource>,
    /// What waits for newer code.
    pub(crate) unknowns: UnknownMessages,
    /// Instances that cannot be loaded.
    pub(crate) stuck: StuckInstances,
    /// The publications of this process.
    pub(crate) published: Vec<Arc<PublishedTopic>>,
    /// Messages that came again and changed nothing.
    pub(crate) duplicates_ignored: AtomicU64,
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdGenerator>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) tasks: TaskTracker,
    /// Turns for asking the store for a state: a burst of cold loads must not swamp it.
    pub(crate) loads: Semaphore,
}

pub(crate) struct AggregateRuntime<A: Aggregate> {
    pub(crate) shared: Arc<AppContext>,
    pub(crate) env: A::Environment,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) instances: Instances<A>,
}
