//! Policies over the log of this service.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::StreamId;
use composable_rust_core::event::StoredEvent;
use composable_rust_core::queue::{Checkpoint, OutboxMessage, Queue};

use crate::worker::context::WorkerContext;
use crate::worker::follower::LogHandler;
use crate::worker::leases::HeldLease;
use crate::worker::outcome::Failure;
use crate::worker::policy::registered::{RegisteredPolicy, queued};
use crate::worker::queued_input::{Input, WaitingStreams, waiting_streams};
use crate::worker::worker_id::WorkerId;

/// Rows that are queued with one checkpoint, above which no further event is added.
const MAX_ROWS: usize = 1_000;

/// Queues the commands of a policy together with its checkpoint, so that each event is turned into
/// commands exactly once. An event on which the policy fails waits in the policy's queue, and later
/// events of its stream wait behind it.
pub(crate) struct PolicyFollower {
    context: Arc<WorkerContext>,
    policy: RegisteredPolicy,
    categories: &'static [&'static str],
    name: String,
    waiting: BTreeMap<u16, CachedWaiting>,
    /// The offsets up to which events may have been handled when a process crashed; 0 until the
    /// first page tells where they begin.
    suspect: BTreeMap<u16, u64>,
}

/// The streams that have an event in the policy's queue, as of a monotonic time.
#[derive(Default)]
struct CachedWaiting {
    at: Duration,
    waiting: WaitingStreams,
}

/// The time for which cached streams are used. A stream that no longer waits is handled correctly
/// all the same, only slower.
const WAITING_REFRESH_INTERVAL: Duration = Duration::from_secs(1);

impl PolicyFollower {
    pub(crate) fn new(
        context: Arc<WorkerContext>,
        policy: RegisteredPolicy,
        categories: &'static [&'static str],
    ) -> Self {
        let name = WorkerId::Policy(policy.name.clone()).to_string();
        let (waiting, suspect) = (BTreeMap::new(), BTreeMap::new());
        Self { context, policy, categories, name, waiting, suspect }
    }

    async fn look_up(&mut self, partition: u16) -> Result<(), Failure> {
        let at = self.context.now();
        let waiting = waiting_streams(self.context.store(), &self.policy.name, partition).await?;
        self.waiting.insert(partition, CachedWaiting { at, waiting });
        Ok(())
    }
}

/// Returns the rows for an input: its commands, or the input itself if it must wait.
pub(crate) fn rows_for(
    context: &WorkerContext,
    policy: &RegisteredPolicy,
    waiting: &mut WaitingStreams,
    sender: &StreamId,
    input: &Input,
) -> Result<Vec<OutboxMessage>, Failure> {
    let wait = || vec![queued(&context.shared, &policy.name, input)];
    if waiting.contains(sender) {
        return Ok(wait());
    }
    match policy.policy.apply(&context.shared, input) {
        Ok(rows) => Ok(rows),
        // The partition has one follower. A process with newer code may take it over.
        Err(failure @ Failure::NeedsNewerCode(_)) if matches!(input, Input::Event(_)) => {
            Err(failure)
        }
        Err(Failure::NeedsNewerCode(newer)) => {
            let reason = newer.reason;
            tracing::debug!(policy = policy.name, %sender, reason, "a record waits for newer code");
            waiting.insert(sender.clone());
            Ok(wait())
        }
        Err(failure) => {
            if context.logs(&format!("policy {}", policy.name)) {
                tracing::warn!(
                    policy = policy.name, %sender, error = %failure,
                    "a policy failed on an event; retrying it later, and others within a minute \
                     without a log line of their own"
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

    fn starts_at_beginning(&self) -> bool {
        self.policy.settings.from_start
    }

    fn queues(&self, partition: u16) -> Vec<Queue> {
        self.policy.queues(&self.context.shared, partition)
    }

    async fn take_over(
        &mut self,
        held: &Arc<HeldLease>,
        _: Option<Checkpoint>,
    ) -> Result<(), Failure> {
        let partition = held.lease.partition;
        if held.is_from_dead() {
            self.suspect.insert(partition, 0);
        }
        self.look_up(partition).await
    }

    fn release(&mut self, partition: u16) {
        self.waiting.remove(&partition);
        self.suspect.remove(&partition);
    }

    async fn handle(
        &mut self,
        held: &Arc<HeldLease>,
        events: &[StoredEvent],
    ) -> Result<(Vec<OutboxMessage>, usize), Failure> {
        let partition = held.lease.partition;
        // Waiting events may have been handled since.
        let now = self.context.now();
        let is_old = |known: &CachedWaiting| {
            !known.waiting.is_empty() && now.saturating_sub(known.at) >= WAITING_REFRESH_INTERVAL
        };
        if self.waiting.get(&partition).is_some_and(is_old) {
            self.look_up(partition).await?;
        }
        // The process that crashed had read at most a page.
        let page = u64::try_from(self.max_page()).unwrap_or(u64::MAX);
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
            if rows.len() >= MAX_ROWS {
                return Ok((rows, index));
            }
            if !self.categories.contains(&event.stream.category()) {
                continue;
            }
            let input = Input::Event(Box::new(event.clone()));
            if event.position.offset < suspect {
                // The queue counts the attempts, also those that crash the process.
                waiting.insert(event.stream.clone());
            }
            match rows_for(&self.context, &self.policy, waiting, &event.stream, &input) {
                Ok(more) => rows.extend(more),
                Err(failure) if index == 0 => return Err(failure),
                Err(_) => return Ok((rows, index)),
            }
        }
        Ok((rows, events.len()))
    }
}
