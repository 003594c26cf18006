//! A diagnosis of a store and of what works on it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use composable_rust_core::queue::{OutboxKind, Pause};
use composable_rust_core::store::{EventStore as _, Finding, Inspection as _, Severity};
use composable_rust_core::{StreamId, Timestamp};
use composable_rust_runtime::RegistryError;
use composable_rust_runtime::operations::ConsumerError;
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde::{Serialize, Serializer, ser::SerializeSeq as _};

use crate::content::error_chain;
use crate::{Admin, AdminError, QueueView};

/// The difference between the clocks of this process and of the store from which on timers and
/// leases are noticeably wrong.
const CLOCK_SKEW: Duration = Duration::from_secs(2);
/// The age of a queue's first message from which on it is stuck rather than slow.
const OLD_MESSAGE_SECONDS: u64 = 300;

/// The age of a queue's first message from which on its recipients are loaded.
const STUCK_AFTER: Duration = Duration::from_secs(2);
/// The number of messages of each queue whose recipients are loaded.
const LOADED: usize = 20;

/// The findings of a diagnosis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis(pub Vec<Finding>);

impl Diagnosis {
    /// Returns the number of faults.
    pub fn faults(&self) -> usize {
        self.count(Severity::Fault)
    }

    /// Returns the number of warnings.
    pub fn warnings(&self) -> usize {
        self.count(Severity::Warning)
    }

    fn count(&self, severity: Severity) -> usize {
        self.0.iter().filter(|finding| finding.severity == severity).count()
    }
}

impl Serialize for Diagnosis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Of<'a> {
            check: &'a str,
            severity: &'a str,
            found: &'a str,
            #[serde(skip_serializing_if = "str::is_empty")]
            remedy: &'a str,
        }
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for Finding { check, severity, found, remedy } in &self.0 {
            list.serialize_element(&Of { check, severity: severity.as_str(), found, remedy })?;
        }
        list.end()
    }
}

impl Admin {
    /// Examines the store and what works on it: the server, its clock and its settings, queues
    /// without a worker, old messages, instances that cannot be loaded, lost positions at the bus,
    /// dead letters, pauses, failed projections, names that no process knows. The findings of each
    /// kind come with what to do, faults first.
    ///
    /// # Errors
    ///
    /// [`AdminError::Store`]: the store cannot be read.
    pub async fn doctor(&self) -> Result<Diagnosis, AdminError> {
        let mut found = self.store().examine().await?;
        found.push(self.clock_finding().await?);
        for queue in QueueView::merged(&self.queues().await?) {
            queue_findings(&queue, &mut found);
        }
        let pauses = self.pauses().await?;
        let is_paused = pauses.iter().any(|pause| pause.name == Pause::LOG);
        for pause in pauses {
            let by = pause.by.map(|by| format!(" by {by}")).unwrap_or_default();
            found.push(Finding::warning(
                "pause",
                format!("`{}` is paused since {}{by}", pause.name, pause.since),
                "resume it when the reason is gone",
            ));
        }
        if is_paused {
            let text = "not examined: while the log is paused, no process works or reads anything";
            let checks = ["missing-worker", "old-message", "subscription"];
            found.extend(checks.map(|check| Finding::fact(check, text)));
        } else {
            self.subscription_findings(&mut found);
        }
        self.app_findings(&mut found).await;
        for (stream, error) in self.stuck_instances().await? {
            found.push(Finding::fault(
                "stuck-instance",
                format!("{stream} cannot be loaded: {error}"),
                "deploy code that reads its events, or override the event",
            ));
        }
        self.consumer_findings(&mut found).await;
        found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        Ok(Diagnosis(found))
    }

    async fn clock_finding(&self) -> Result<Finding, AdminError> {
        let now = || {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
        };
        let before = now();
        let store = self.store().now().await?;
        let after = now();
        let skew = if store < before { before.since(store) } else { store.since(after) };
        let found = format!("{:.3} s", skew.as_secs_f64());
        Ok(if skew > CLOCK_SKEW && is_on_a_real_clock(store) {
            Finding::warning(
                "clock-skew",
                format!("the clocks of this machine and of the store differ by {found}"),
                "synchronise both with NTP",
            )
        } else {
            Finding::fact("clock-skew", found)
        })
    }

    /// Returns the instances that cannot be loaded, with their errors: those that this process has
    /// met, and the recipients of the first messages of each queue that has waited for a moment.
    async fn stuck_instances(&self) -> Result<BTreeMap<StreamId, String>, AdminError> {
        let known = self.app.stuck_instances().into_iter();
        let mut found: BTreeMap<_, _> = known.map(|of| (of.stream, of.last_error)).collect();
        for status in self.app.queues().all().await? {
            let is_command = matches!(status.queue.kind, OutboxKind::Dispatch | OutboxKind::Bulk);
            let waits = status.rows > 0 && status.oldest >= STUCK_AFTER;
            if !(is_command && waits && self.is_registered(&status.queue.target)) {
                continue;
            }
            let messages = self.app.queues().messages(&status.queue).take(LOADED);
            let messages: Vec<_> = messages.try_collect().await?;
            let recipients = messages.iter().map(|of| of.queued.row.recipient.parse());
            for stream in recipients.flatten().collect::<BTreeSet<StreamId>>() {
                match self.app.registry().instance(&stream, None).await {
                    Err(RegistryError::Load(error)) if !error.is_transient() => {
                        found.entry(stream).or_insert_with(|| error_chain(&error));
                    }
                    _ => {}
                }
            }
        }
        Ok(found)
    }

    /// Finds consumers whose next messages were removed at the bus, if the app has one.
    async fn consumer_findings(&self, found: &mut Vec<Finding>) {
        let consumers = match self.consumers().await {
            Ok(consumers) => consumers,
            Err(AdminError::Consumer(ConsumerError::NoBus)) => return,
            Err(error) => {
                let found_error = format!("the bus cannot be asked: {}", error_chain(&error));
                found.push(Finding::fault("bus", found_error, "restore the brokers"));
                return;
            }
        };
        for of in consumers {
            let lost: i64 = of.partitions.iter().map(|at| at.lost).sum();
            if lost > 0 {
                let (consumer, topic) = (&of.consumer, &of.topic);
                found.push(Finding::fault(
                    "lost-position",
                    format!(
                        "{lost} messages of `{topic}` were removed before `{consumer}` read them"
                    ),
                    "look at `consumers list`, then move the consumer with `consumers reset`",
                ));
            }
        }
    }

    async fn app_findings(&self, found: &mut Vec<Finding>) {
        for projection in self.projections().await {
            let failed = projection.state == "failed" || projection.error.is_some();
            if failed {
                let reason = projection.error.unwrap_or(projection.reason);
                found.push(Finding::fault(
                    "projection",
                    format!("the projection `{}` has failed: {reason}", projection.name),
                    "mend the cause, then resume or rebuild it",
                ));
            }
        }
        for unknown in self.app.unknown_messages() {
            found.push(Finding::warning(
                "unknown-name",
                format!("{} messages wait for code that knows {}", unknown.waiting, unknown.what),
                "deploy it",
            ));
        }
    }

    fn subscription_findings(&self, found: &mut Vec<Finding>) {
        for subscription in self.app.subscriptions() {
            if !subscription.is_reading() {
                found.push(Finding::fault(
                    "subscription",
                    format!("a topic is not read: {subscription:?}"),
                    "create the topic, or grant the right to read it",
                ));
            }
        }
    }
}

fn queue_findings(of: &QueueView, found: &mut Vec<Finding>) {
    let name = format!("{}/{}", of.kind, of.target);
    if of.depth > 0 && of.has_worker == Some(false) {
        found.push(Finding::fault(
            "missing-worker",
            format!("messages of `{name}` wait ({}) and no process works it", of.depth),
            "start a process that registers it, or park or discard the messages",
        ));
    } else if of.has_worker.is_some() && of.oldest_seconds > OLD_MESSAGE_SECONDS {
        let error = of.last_error.as_deref().unwrap_or("no error");
        found.push(Finding::warning(
            "old-message",
            format!(
                "the first message of `{name}` has waited for {} s: {error}",
                of.oldest_seconds
            ),
            "look at it with `queues show`, and at the log of its worker",
        ));
    }
    if of.dead_letters > 0 {
        found.push(Finding::warning(
            "dead-letters",
            format!("`{name}` has dead letters ({})", of.dead_letters),
            "look at them with `dead groups`, then redrive or discard them",
        ));
    }
}

/// `false` for the still clock of a store in memory.
fn is_on_a_real_clock(now: Timestamp) -> bool {
    const START: Timestamp = Timestamp::from_micros(1_735_689_600_000_000);
    now != START
}
