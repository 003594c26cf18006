//! The warehouse in processes of its own that are frozen where a test wants it: one of their relays
//! waits there for the signal.

use std::env::{current_exe, var};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use checkout_workflow::{Service, Shop, Stores};
use composable_rust::StoreUrl;
use composable_rust::{
    BusError, BusMessage, EventBus, GroupOffset, PublishError, Publisher, PublisherName,
    ResumePosition, SharedEventBus, shutdown_signal,
};
use composable_rust_redpanda::{
    RedpandaDeliveries, RedpandaDelivery, RedpandaEventBus, RedpandaPublisher,
};
use tempfile::TempDir;

use crate::frozen::until;
use crate::program::Process;
use crate::services::brokers;
use crate::shop;

/// The shortest that a broker allows for a group's sessions.
const LEASE: Duration = Duration::from_secs(6);
const PAUSE: Duration = Duration::from_millis(1);

/// How a process is told where its store is, what its topics begin with, and where to look for marks.
const STORE: &str = "WAREHOUSE_STORE";
const PREFIX: &str = "WAREHOUSE_PREFIX";
const MARKS: &str = "WAREHOUSE_MARKS";

/// Where a relay can be met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// It has events in hand and its lease was good.
    BeforePublishing,
    /// What it published is committed, its checkpoint is not.
    AfterPublishing,
    /// What it publishes is on its way.
    InATransaction,
}

impl Moment {
    fn mark(self, folder: &Path) -> PathBuf {
        folder.join(format!("{self:?}"))
    }
}

/// While it is there, a relay stands still.
fn standing(folder: &Path) -> PathBuf {
    folder.join("standing")
}

/// A running warehouse.
pub(crate) struct Warehouse {
    process: Process,
    folder: TempDir,
}

impl Warehouse {
    pub(crate) fn start(store: &str, prefix: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(current_exe().expect("it is known"));
        command.args(["--exact", "freezer::warehouse", "--nocapture"]).stdin(Stdio::null());
        command.env(STORE, store).env(PREFIX, prefix).env(MARKS, folder.path());
        let process = Process::start(command, folder.path().join("log"));
        Self { process, folder }
    }

    /// Freezes it when one of its relays comes to `moment`; whether it has a transaction open, who
    /// asks must see.
    pub(crate) async fn freeze(&self, moment: Moment) {
        if moment == Moment::InATransaction {
            return self.process.signal("-STOP");
        }
        let standing = standing(self.folder.path());
        fs::write(moment.mark(self.folder.path()), []).unwrap();
        until("a relay comes there", async || standing.exists().then_some(())).await;
        self.process.signal("-STOP");
        fs::remove_file(standing).unwrap();
    }

    /// Wakes it.
    pub(crate) fn wake(&self) {
        self.process.signal("-CONT");
    }

    /// Has it stop as Ctrl-C does, and waits for it.
    pub(crate) fn stop(&mut self) {
        self.process.stop();
    }
}

/// The process. As a test of its own, it does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn warehouse() {
    let (Ok(store), Ok(prefix), Ok(folder)) = (var(STORE), var(PREFIX), var(MARKS)) else { return };
    shop::show_logs();
    let bus = RedpandaEventBus::builder(&brokers()).topic_prefix(&prefix);
    let bus = bus.transaction_timeout(LEASE).session_timeout(LEASE).connect().await.unwrap();
    let bus = SharedEventBus::new(Standing { bus, folder: Arc::new(folder.into()) });
    let service = Service::Warehouse;
    let stores = Stores::PerService([(service, store.parse::<StoreUrl>().unwrap())].into());
    let shop = Shop { lease: LEASE, ..shop::shop() };
    let apps = shop.open(&[service], &stores, Some(&bus)).await.unwrap();
    apps.start();
    shutdown_signal().await;
    assert!(apps.shutdown(Duration::from_secs(60)).await, "everything finishes");
}

/// A bus whose relays stand still where they are to be frozen.
struct Standing {
    bus: RedpandaEventBus,
    folder: Arc<PathBuf>,
}

impl EventBus for Standing {
    type Delivery = RedpandaDelivery;
    type Deliveries = RedpandaDeliveries;
    type Publisher = StandingPublisher;

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

    async fn publisher(&self, name: &PublisherName) -> Result<StandingPublisher, BusError> {
        let publisher = self.bus.publisher(name).await?;
        let folder = name.purpose.starts_with("relay/").then(|| Arc::clone(&self.folder));
        Ok(StandingPublisher { publisher, folder })
    }

    fn max_payload_bytes(&self) -> Option<usize> {
        self.bus.max_payload_bytes()
    }
}

struct StandingPublisher {
    publisher: RedpandaPublisher,
    /// Where its marks are, if it is a relay's.
    folder: Option<Arc<PathBuf>>,
}

impl StandingPublisher {
    /// Waits to be frozen if that is to be at this moment. Of several, one does.
    async fn stand(&self, moment: Moment) {
        let Some(folder) = &self.folder else { return };
        let standing = standing(folder);
        if fs::rename(moment.mark(folder), &standing).is_ok() {
            while standing.exists() {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

impl Publisher for StandingPublisher {
    async fn resume_position(&mut self) -> Result<Option<ResumePosition>, PublishError> {
        self.publisher.resume_position().await
    }

    async fn publish_batch(
        &mut self,
        messages: Vec<BusMessage>,
        position: Option<ResumePosition>,
    ) -> Result<(), PublishError> {
        self.stand(Moment::BeforePublishing).await;
        self.publisher.publish_batch(messages, position).await?;
        self.stand(Moment::AfterPublishing).await;
        Ok(())
    }
}
