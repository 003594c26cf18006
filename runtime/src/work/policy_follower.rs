//! Policies over the log of this service.

use std::collections::BTreeMap;
use std::sync::Arc;

use composable_rust_core::{OutboxKind, Queue, QueuedRow, RecordedEvent, WorkQueues as _};

use super::context::Work;
use super::follower::{Follow, Stop};
use super::leases::Held;
use super::policies::{Input, PolicyError, RegisteredPolicy, Waiting, queued};

/// Effects that are queued with one checkpoint at most.
const ROWS: usize = 1_000;

/// Queues the commands of a policy with its checkpoint, so that each event is turned into commands
/// exactly once. An event that the policy fails on waits in a queue of its own, and what follows of
/// its stream waits behind it.
pub(crate) struct PolicyFollower {
    work: Arc<Work>,
    policy: RegisteredPolicy,
    category: &'static str,
    name: String,
    waiting: BTreeMap<u16, Waiting>,
}

impl PolicyFollower {
    pub(crate) fn new(work: Arc<Work>, policy: RegisteredPolicy, category: &'static str) -> Self {
        let name = policy_worker(&policy.name);
        Self { work, policy, category, name, waiting: BTreeMap::new() }
    }
}

/// The worker of a policy that follows, as leases and checkpoints name it.
pub(crate) fn policy_worker(policy: &str) -> String {
    format!("follow/{policy}")
}

/// The streams of which something waits in the policy's queue.
pub(crate) async fn waiting(work: &Work, policy: &str, partition: u16) -> Result<Waiting, Stop> {
    let queue = Queue { partition, kind: OutboxKind::Policy, target: policy.to_owned() };
    Ok(work.store().queued_streams(&queue).await?.into_iter().collect())
}

/// The effects for one input: its commands, or the input itself if it must wait.
pub(crate) fn rows_for(
    work: &Work,
    policy: &RegisteredPolicy,
    waiting: &mut Waiting,
    sender: &composable_rust_core::StreamId,
    input: &Input,
) -> Result<Vec<QueuedRow>, Stop> {
    let wait = || vec![queued(&work.shared, &policy.name, input)];
    if waiting.contains(sender) {
        return Ok(wait());
    }
    match policy.policy.apply(&work.shared, input) {
        Ok(rows) => Ok(rows),
        Err(PolicyError::Newer(reason)) => Err(Stop::Newer(reason)),
        Err(PolicyError::Failed(error)) => {
            tracing::warn!(policy = policy.name, %sender, error, "a policy fails; the event waits");
            waiting.insert(sender.clone());
            Ok(wait())
        }
    }
}

impl Follow for PolicyFollower {
    fn name(&self) -> &str {
        &self.name
    }

    fn begins_at_start(&self) -> bool {
        self.policy.from_start
    }

    async fn take_over(&mut self, held: &Arc<Held>) -> Result<(), Stop> {
        let partition = held.lease.partition;
        let waiting = waiting(&self.work, &self.policy.name, partition).await?;
        self.waiting.insert(partition, waiting);
        Ok(())
    }

    fn give_up(&mut self, partition: u16) {
        self.waiting.remove(&partition);
    }

    async fn handle(
        &mut self,
        held: &Arc<Held>,
        events: &[RecordedEvent],
    ) -> Result<(Vec<QueuedRow>, usize), Stop> {
        let partition = held.lease.partition;
        // What waited may have been done since.
        if self.waiting.get(&partition).is_some_and(|waiting| !waiting.is_empty()) {
            let now = waiting(&self.work, &self.policy.name, partition).await?;
            self.waiting.insert(partition, now);
        }
        let waiting = self.waiting.entry(partition).or_default();
        let mut rows = Vec::new();
        for (index, event) in events.iter().enumerate() {
            if rows.len() >= ROWS {
                return Ok((rows, index));
            }
            if event.stream.category() != self.category {
                continue;
            }
            let input = Input::Event(Box::new(event.clone()));
            match rows_for(&self.work, &self.policy, waiting, &event.stream, &input) {
                Ok(more) => rows.extend(more),
                Err(stop) if index == 0 => return Err(stop),
                Err(_) => return Ok((rows, index)),
            }
        }
        Ok((rows, events.len()))
    }
}
