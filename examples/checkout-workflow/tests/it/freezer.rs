//! The warehouse in processes that a test freezes at a chosen point.
//!
//! The child process pauses one of its relays at that point, until the test has stopped the
//! process.

use std::env::{current_exe, var};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use checkout_workflow::{Service, Shop, Stores};
use composable_rust::StoreUrl;
use composable_rust::bus::{
    BusError, BusMessage, EventBus, GroupOffset, PublishError, Publisher, PublisherName,
    ResumePosition, SharedEventBus,
};
use composable_rust::redpanda::{
    RedpandaDeliveries, RedpandaDelivery, RedpandaEventBus, RedpandaPublisher,
};
use composable_rust::shutdown_signal;
use composable_rust::testing::eventually;
use tempfile::TempDir;

use crate::frozen::TIME_LIMIT;
use crate::program::Process;
use crate::services::brokers;
use crate::shop;

/// The minimum session timeout that a broker allows for a group.
const LEASE: Duration = Duration::from_secs(6);
/// The poll interval of a paused relay.
const PAUSE: Duration = Duration::from_millis(1);

/// The environment variables of the child process: store, topic prefix, and folder of marker files.
const STORE: &str = "WAREHOUSE_STORE";
const PREFIX: &str = "WAREHOUSE_PREFIX";
const MARKERS: &str = "WAREHOUSE_MARKERS";

/// A point at which a relay can be frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FreezePoint {
    /// The relay has read events and checked its lease.
    BeforePublishing,
    /// The events are committed on the bus, the checkpoint is not written.
    AfterPublishing,
    /// The events are being published.
    InATransaction,
}

impl FreezePoint {
    /// Returns the marker file that requests a pause.
    fn marker(self, folder: &Path) -> PathBuf {
        folder.join(format!("{self:?}"))
    }
}

/// Returns the marker file that exists while a relay is paused.
fn paused_marker(folder: &Path) -> PathBuf {
    folder.join("paused")
}

/// A process that runs the warehouse.
pub(crate) struct Warehouse {
    process: Process,
    folder: TempDir,
}

impl Warehouse {
    pub(crate) fn start(store: &str, prefix: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(current_exe().expect("the test binary has a path"));
        command
            .args(["--ignored", "--exact", "freezer::warehouse", "--nocapture"])
            .stdin(Stdio::null());
        command.env(STORE, store).env(PREFIX, prefix).env(MARKERS, folder.path());
        let process = Process::start(command, folder.path().join("log"));
        Self { process, folder }
    }

    /// Freezes the process when one of its relays reaches `point`. For
    /// [`InATransaction`](FreezePoint::InATransaction) it freezes at once; the caller checks that a
    /// transaction is open.
    pub(crate) async fn freeze(&self, point: FreezePoint) {
        if point == FreezePoint::InATransaction {
            return self.process.signal("-STOP");
        }
        let paused = paused_marker(self.folder.path());
        fs::write(point.marker(self.folder.path()), []).unwrap();
        eventually("a relay at the point", TIME_LIMIT, async || paused.exists()).await;
        self.process.signal("-STOP");
        fs::remove_file(paused).unwrap();
    }

    /// Wakes the process.
    pub(crate) fn wake(&self) {
        self.process.signal("-CONT");
    }

    /// Stops the process with SIGTERM, and waits for it.
    pub(crate) fn stop(&mut self) {
        self.process.stop();
    }
}

/// The child process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "child process of the tests in frozen.rs"]
async fn warehouse() {
    let [store, prefix, folder] = [STORE, PREFIX, MARKERS].map(|name| var(name).expect(name));
    shop::show_logs();
    let bus = RedpandaEventBus::builder(&brokers()).topic_prefix(&prefix);
    let bus = bus.transaction_timeout(LEASE).session_timeout(LEASE).connect().await.unwrap();
    let bus = SharedEventBus::new(PausingBus { bus, folder: Arc::new(folder.into()) });
    let service = Service::Warehouse;
    let stores = Stores::PerService([(service, store.parse::<StoreUrl>().unwrap())].into());
    let shop = Shop { lease_ttl: LEASE, ..shop::shop() };
    let apps = shop.open(&[service], &stores, Some(&bus)).await.unwrap();
    apps.start();
    shutdown_signal().await;
    assert!(apps.shutdown(Duration::from_secs(60)).await, "the shutdown completes in time");
}

/// A bus whose relays pause where the test freezes them.
struct PausingBus {
    bus: RedpandaEventBus,
    folder: Arc<PathBuf>,
}

impl EventBus for PausingBus {
    type Delivery = RedpandaDelivery;
    type Deliveries = RedpandaDeliveries;
    type Publisher = PausingPublisher;

    async fn publish(&self, message: BusMessage) -> Result<(), PublishError> {
        self.bus.publish(message).await
    }

    async fn publish_to_existing(&self, message: BusMessage) -> Result<(), PublishError> {
        self.bus.publish_to_existing(message).await
    }

    async fn subscribe(
        &self,
        group: &str,
        topics: &[String],
        known: &[GroupOffset],
    ) -> Result<RedpandaDeliveries, BusError> {
        self.bus.subscribe(group, topics, known).await
    }

    async fn publisher(&self, name: &PublisherName) -> Result<PausingPublisher, BusError> {
        let publisher = self.bus.publisher(name).await?;
        let folder = name.purpose.starts_with("relay/").then(|| Arc::clone(&self.folder));
        Ok(PausingPublisher { publisher, folder })
    }

    fn max_payload_bytes(&self) -> Option<usize> {
        self.bus.max_payload_bytes()
    }
}

/// A publisher that pauses before and after a batch if a marker file requests it.
struct PausingPublisher {
    publisher: RedpandaPublisher,
    /// The folder of the marker files; `None` if the publisher is not a relay.
    folder: Option<Arc<PathBuf>>,
}

impl PausingPublisher {
    /// Pauses if a marker file requests it at this point. Only one of several relays pauses.
    async fn pause(&self, point: FreezePoint) {
        let Some(folder) = &self.folder else { return };
        let paused = paused_marker(folder);
        if fs::rename(point.marker(folder), &paused).is_ok() {
            while paused.exists() {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

impl Publisher for PausingPublisher {
    async fn resume_position(&mut self) -> Result<Option<ResumePosition>, PublishError> {
        self.publisher.resume_position().await
    }

    async fn publish_batch(
        &mut self,
        messages: Vec<BusMessage>,
        position: Option<ResumePosition>,
    ) -> Result<(), PublishError> {
        self.pause(FreezePoint::BeforePublishing).await;
        self.publisher.publish_batch(messages, position).await?;
        self.pause(FreezePoint::AfterPublishing).await;
        Ok(())
    }
}
