//! Policies over the log of this service.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::{
    Checkpoint, Outbox as _, OutboxKind, OutboxMessage, Queue, StoredEvent,
};

use crate::worker::context::WorkerContext;
use crate::worker::follower::{LogHandler, Stop};
use crate::worker::leases::HeldLease;
use crate::worker::policy::policy::{
    PolicyError, PolicyInput, RegisteredPolicy, WaitingStreams, queued,
};

/// Effects that are queued with one checkpoint at most.
const ROWS: usize = 1_000;

/// Queues the commands of a policy with its checkpoint, so that each event is turned into commands
/// exactly once. An event that the policy fails on waits in a queue of its own, and what follows of
/// its stream waits behind it.
pub(crate) struct PolicyFollower {
    work: Arc<WorkerContext>,
    policy: RegisteredPolicy,
    category: &'static str,
    name: String,
    waiting: BTreeMap<u16, CachedWaiting>,
    /// Offsets up to which events may have been in hand when a process died; where it is not known
    /// yet where they begin, 0.
    suspect: BTreeMap<u16, u64>,
}

/// The streams of which something waits, and when they were looked up.
#[derive(Default)]
struct CachedWaiting {
    at: Duration,
    waiting: WaitingStreams,
}

/// How long what was looked up is used. A stream that is taken to wait when it no longer does is only
/// slower.
const WAITING_REFRESH_INTERVAL: Duration = Duration::from_secs(1);

impl PolicyFollower {
    pub(crate) fn new(
        work: Arc<WorkerContext>,
        policy: RegisteredPolicy,
        category: &'static str,
    ) -> Self {
        let name = policy_worker(&policy.name);
        let (waiting, suspect) = (BTreeMap::new(), BTreeMap::new());
        Self { work, policy, category, name, waiting, suspect }
    }
}

impl PolicyFollower {
    async fn look_up(&mut self, partition: u16) -> Result<(), Stop> {
        let at = self.work.now();
        let waiting = waiting(&self.work, &self.policy.name, partition).await?;
        self.waiting.insert(partition, CachedWaiting { at, waiting });
        Ok(())
    }
}

/// The worker of a policy that follows, as leases and checkpoints name it.
pub(crate) fn policy_worker(policy: &str) -> String {
    format!("follow/{policy}")
}

/// The streams of which something waits in the policy's queue.
pub(crate) async fn waiting(
    work: &WorkerContext,
    policy: &str,
    partition: u16,
) -> Result<WaitingStreams, Stop> {
    let queue = Queue { partition, kind: OutboxKind::Policy, target: policy.to_owned() };
    Ok(work.store().queued_streams(&queue).await?.into_iter().collect())
}

/// The effects for one input: its commands, or the input itself if it must wait.
pub(crate) fn rows_for(
    work: &WorkerContext,
    policy: &RegisteredPolicy,
    waiting: &mut WaitingStreams,
    sender: &composable_rust_core::StreamId,
    input: &PolicyInput,
) -> Result<Vec<OutboxMessage>, Stop> {
    let wait = || vec![queued(&work.shared, &policy.name, input)];
    if waiting.contains(sender) {
        return Ok(wait());
    }
    match policy.policy.apply(&work.shared, input) {
        Ok(rows) => Ok(rows),
        Err(PolicyError::Newer(newer)) => match input {
            // A log partition has one follower, whose successor may know the event.
            PolicyInput::Event(_) => Err(Stop::Newer(newer)),
            PolicyInput::Message(_) => {
                let reason = newer.reason;
                tracing::debug!(policy = policy.name, %sender, reason, "a message waits for newer code");
                waiting.insert(sender.clone());
                Ok(wait())
            }
        },
        Err(PolicyError::Failed(error)) => {
            if work.logs(&format!("policy {}", policy.name)) {
                tracing::warn!(
                    policy = policy.name, %sender, error,
                    "a policy failed on an event; retrying it later, and others within a minute \
                     without a line of their own"
                );
            }
            waiting.insert(sender.clone());
            Ok(wait())
        }
    }
}

impl LogHandler for PolicyFollower {
    fn name(&self) -> &str {
        &self.name
    }

    fn begins_at_start(&self) -> bool {
        self.policy.settings.from_start
    }

    fn fills(&self, partition: u16) -> Vec<Queue> {
        self.policy.fills(&self.work.shared, partition)
    }

    async fn take_over(
        &mut self,
        held: &Arc<HeldLease>,
        _: Option<Checkpoint>,
    ) -> Result<(), Stop> {
        let partition = held.lease.partition;
        if held.is_from_dead() {
            self.suspect.insert(partition, 0);
        }
        self.look_up(partition).await
    }

    fn give_up(&mut self, partition: u16) {
        self.waiting.remove(&partition);
        self.suspect.remove(&partition);
    }

    async fn handle(
        &mut self,
        held: &Arc<HeldLease>,
        events: &[StoredEvent],
    ) -> Result<(Vec<OutboxMessage>, usize), Stop> {
        let partition = held.lease.partition;
        // What waited may have been done since.
        let now = self.work.now();
        let is_old = |known: &CachedWaiting| {
            !known.waiting.is_empty() && now.saturating_sub(known.at) >= WAITING_REFRESH_INTERVAL
        };
        if self.waiting.get(&partition).is_some_and(is_old) {
            self.look_up(partition).await?;
        }
        // The holder that died read no further than a page.
        let page = u64::try_from(self.page()).unwrap_or(u64::MAX);
        let first = events.first().map_or(0, |event| event.position.offset);
        let waiting = &mut self.waiting.entry(partition).or_default().waiting;
        let suspect = self.suspect.get_mut(&partition).map_or(0, |suspect| {
            if *suspect == 0 {
                *suspect = first + page;
            }
            *suspect
        });
        let mut rows = Vec::new();
        for (index, event) in events.iter().enumerate() {
            if rows.len() >= ROWS {
                return Ok((rows, index));
            }
            if event.stream.category() != self.category {
                continue;
            }
            let input = PolicyInput::Event(Box::new(event.clone()));
            if event.position.offset < suspect {
                // Its queue counts the attempts, also those that kill.
                waiting.insert(event.stream.clone());
            }
            match rows_for(&self.work, &self.policy, waiting, &event.stream, &input) {
                Ok(more) => rows.extend(more),
                Err(stop) if index == 0 => return Err(stop),
                Err(_) => return Ok((rows, index)),
            }
        }
        Ok((rows, events.len()))
    }
}
