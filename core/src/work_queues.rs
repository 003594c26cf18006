//! The port to what follows from commits: leases, queues, checkpoints, dead letters.

use std::future::Future;
use std::time::Duration;

use uuid::Uuid;

use crate::{
    EncodedMessage, EventId, MessageId, NewOutboxRow, OutboxKind, StoreError, StreamId,
    TimerArming, Timestamp,
};

/// The right to work on one partition of what a worker does. Its epoch rises with every change of
/// hands, and what a worker writes requires it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lease {
    /// What is done, such as `dispatch/order`.
    pub worker: String,
    /// The log partition.
    pub partition: u16,
    /// Which holding this is.
    pub epoch: u64,
}

/// A lease as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseStatus {
    /// The lease; its epoch is that of its last holder.
    pub lease: Lease,
    /// Who holds it.
    pub holder: Option<Uuid>,
    /// Whether it has lapsed, by the store's clock.
    pub lapsed: bool,
}

/// Who works, and on what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaseSnapshot {
    /// The leases that were ever held, in order of workers and partitions.
    pub leases: Vec<LeaseStatus>,
    /// Who has announced a worker and not lapsed, in order.
    pub members: Vec<(String, Uuid)>,
    /// `true` while the log is paused: leases are not to be claimed.
    pub paused: bool,
    /// The number of [overrides](crate::EventStore::override_event) so far: when it rises, what could
    /// not be loaded may be by now.
    pub overrides: u64,
}

/// What happens to a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseAction {
    /// Takes one that nobody holds or that has lapsed, under a higher epoch.
    Claim,
    /// Takes one whoever holds it, under a higher epoch: what its holder writes from then on is
    /// refused. For operators, who act on a queue that another works or nobody does.
    Seize,
    /// Keeps it from lapsing.
    Renew,
    /// Gives it up.
    Release,
}

/// One process's turn at the leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRequest {
    /// The process.
    pub holder: Uuid,
    /// What it can work on; it counts for the sharing until `ttl` has passed. What it announced
    /// before and does not now, it has withdrawn.
    pub workers: Vec<String>,
    /// The time to live of what is claimed or renewed, by the store's clock.
    pub ttl: Duration,
    /// A claimed lease's epoch is at least this, and higher than its last. Processes give their
    /// clock's microseconds: of two claims of which a failover lost one, or that stand before and
    /// after a restore, no two then have the same epoch.
    pub min_epoch: u64,
    /// Leases with the epochs that were read (0 for one that was never held), and what to do.
    pub changes: Vec<(Lease, LeaseAction)>,
}

/// How far a follower has come in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// The partition.
    pub partition: u16,
    /// The last offset that is done.
    pub offset: u64,
    /// The event there: if the log has another, it went back.
    pub event_id: Option<EventId>,
}

/// An effect for the queues, and the stream that it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxMessage {
    /// The sender: what one sender sends to one recipient is executed in order.
    pub sender: StreamId,
    /// The effect.
    pub row: NewOutboxRow,
}

/// Effects that a follower queues, with the checkpoint that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointAdvance {
    /// The follower's name.
    pub name: String,
    /// The right to move its checkpoint.
    pub lease: Lease,
    /// Where it is now; of the lease's partition.
    pub to: Checkpoint,
}

/// What one worker reads of the outbox.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Queue {
    /// The partition.
    pub partition: u16,
    /// What executes its rows.
    pub kind: OutboxKind,
    /// The target's, gateway's or policy's name.
    pub target: String,
}

/// The state of a queue that is not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSummary {
    /// The queue. Of timers, kind [`OutboxKind::Timer`] and the category.
    pub queue: Queue,
    /// The number of its rows, or of timers that are due.
    pub rows: u64,
    /// The age of its first row, by the store's clock; of timers, the time since the first was due.
    pub oldest: Duration,
    /// The last error of the first row that has one.
    pub last_error: Option<String>,
    /// The number of its dead letters.
    pub dead_letters: u64,
}

/// The place of a row in its queue. Places rise in commit order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueuePosition {
    /// Drawn under the partition's lock.
    pub sequence: u64,
    /// Among the rows of one sequence number.
    pub index: u32,
}

/// An effect that waits to be executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// Its queue.
    pub queue: Queue,
    /// Its place there.
    pub position: QueuePosition,
    /// The effect and its sender.
    pub message: OutboxMessage,
    /// How often it was tried in vain.
    pub attempts: u32,
    /// `true` if the last of the attempts is on record as [begun](QueueChange::Begun), but not how
    /// it ended: it goes on, or its process has died.
    pub begun: bool,
    /// How long until it may be tried again, by the store's clock; zero: now.
    pub wait: Duration,
    /// Whether something of the same sender for the same recipient is parked before it: this must be
    /// parked behind it.
    pub behind_parked: bool,
}

/// What became of a row of the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The right to say so; of the row's partition.
    pub lease: Lease,
    /// The row's queue; of the same partition.
    pub queue: Queue,
    /// The row's place.
    pub position: QueuePosition,
    /// What became of it.
    pub change: QueueChange,
}

/// What becomes of a row of the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueChange {
    /// It is executed and goes; these come instead, at the end of their queues.
    Done(Vec<OutboxMessage>),
    /// An attempt begins. It counts until another change says how it ended, so it is on record even
    /// if it kills the process.
    Begun {
        /// The attempts, this one included.
        attempts: u32,
    },
    /// It failed and is tried again.
    Failed {
        /// How often it has failed by now.
        attempts: u32,
        /// How long to wait.
        retry_after: Duration,
        /// Why.
        error: String,
    },
    /// It goes to the dead letters.
    Parked {
        /// How often it has failed.
        attempts: u32,
        /// Why; `None`: it stands behind another that is parked.
        error: Option<String>,
    },
}

/// What one worker reads of the timers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerQueue {
    /// The partition.
    pub partition: u16,
    /// The category of the streams.
    pub category: String,
}

/// One arming of a timer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArmedTimer {
    /// The timer, scoped to its stream.
    pub id: String,
    /// The arming.
    pub arming: TimerArming,
}

impl ArmedTimer {
    /// Returns the id of the message that the timer delivers, which is the id of the effect that
    /// armed it. It identifies a dead letter of the timer.
    pub fn message_id(&self, log: Uuid, stream: &StreamId) -> MessageId {
        let TimerArming { armed_by, effect_index } = self.arming;
        MessageId(crate::context::effect_id(log, stream, armed_by, effect_index))
    }
}

/// A timer that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueTimer {
    /// Its partition.
    pub partition: u16,
    /// Its stream.
    pub stream: StreamId,
    /// Which it is.
    pub timer: ArmedTimer,
    /// Its deadline, by the store's clock; after an attempt, that of the next.
    pub due: Timestamp,
    /// The command it delivers.
    pub content: EncodedMessage,
    /// [`Metadata`](crate::Metadata) as JSON text.
    pub metadata: String,
    /// How often it was tried in vain.
    pub attempts: u32,
    /// `true` if the last of the attempts is on record as [begun](QueueChange::Begun), but not how
    /// it ended.
    pub begun: bool,
}

/// What is due, and when there will be more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DueTimers {
    /// In order of deadlines within each queue.
    pub timers: Vec<DueTimer>,
    /// Until the next deadline after those, by the store's clock; zero when more are due already,
    /// `None` when nothing is armed.
    pub next: Option<Duration>,
}

/// What becomes of a timer that is not fired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimerSettlement {
    /// The right to say so.
    pub lease: Lease,
    /// The stream; of the lease's partition.
    pub stream: StreamId,
    /// The timer. Other armings of it stay as they are.
    pub timer: ArmedTimer,
    /// What became of it; `Done` of nothing deletes it.
    pub change: QueueChange,
}

/// What an operator decides about a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadLetterDecision {
    /// It is tried again, before what is parked behind it.
    Redrive,
    /// It goes for good; the sender is answered `Undelivered`.
    Discard,
}

/// A message that could not be handled, or stands behind one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// What it waited in. Of a timer, kind [`OutboxKind::Timer`] and the category.
    pub queue: Queue,
    /// Its place there, which it keeps; of a timer, drawn when it was parked.
    pub position: QueuePosition,
    /// The effect and its sender. Of a timer, the message that would be delivered and its stream;
    /// its recipient is the timer's id.
    pub message: OutboxMessage,
    /// The arming, if the message is a timer's.
    pub arming: Option<TimerArming>,
    /// How often it failed.
    pub attempts: u32,
    /// Why; `None`: it stands behind another.
    pub error: Option<String>,
    /// `true` if nothing of its pair is parked before it: it can be decided about.
    pub is_head: bool,
    /// When it was parked, by the store's clock.
    pub parked_at: Timestamp,
    /// What was decided and is not yet done.
    pub decision: Option<DeadLetterDecision>,
}

/// What follows from commits: queues of effects and timers, who works on them, and how far
/// followers of the log have come.
///
/// Queues are the rows that appends store ([`Append::outbox`](crate::Append::outbox),
/// [`Append::timers`](crate::Append::timers)) and those that workers add. A row of one sender
/// (its stream) for one recipient stands in a *pair* with the others of its queue.
///
/// # Cancel safety
///
/// A dropped call that writes may still commit. Treat it as [`StoreError::Unavailable`].
pub trait WorkQueues: Send + Sync + 'static {
    /// The leases and members of these workers.
    fn load_leases(
        &self,
        workers: &[String],
    ) -> impl Future<Output = Result<LeaseSnapshot, StoreError>> + Send;

    /// Announces the holder's workers and makes the changes that are still possible: each is tried
    /// alone and succeeds if the lease has the given epoch, and its holder is the round's (for
    /// `Renew` and `Release`), or it has none or has lapsed (for `Claim`), or whoever it is (for
    /// `Seize`). Says which succeeded, in order.
    ///
    /// An expiry that lies further ahead than its time to live, as one does after the store's clock
    /// was set back, is shortened to one time to live from now; so it holds for one more at most
    /// once any process of the same workers has made its round.
    fn change_leases(
        &self,
        round: &LeaseRequest,
    ) -> impl Future<Output = Result<Vec<bool>, StoreError>> + Send;

    /// Pauses the log, or ends its pause, for all processes; they learn of it with their next
    /// [`load_leases`](Self::load_leases), whatever workers that is about.
    fn set_paused(&self, paused: bool) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The checkpoints of a follower, in order of partitions; a partition that it never began has
    /// none.
    fn load_checkpoints(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<Vec<Checkpoint>, StoreError>> + Send;

    /// Keeps how far something has come that no lease guards, such as a consumer of a bus; the
    /// partitions are those of what it reads. Each checkpoint only moves forwards.
    fn save_checkpoints(
        &self,
        name: &str,
        to: &[Checkpoint],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Sets the checkpoint of the follower `worker` in one partition, also backwards, and ends the lease
    /// of that name, whose epoch rises: whoever worked under it moves the checkpoint no more. One of
    /// offset 0 is kept too, also where there was none.
    fn rewind(
        &self,
        worker: &str,
        to: Checkpoint,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Queues `rows` in `partition`, in order, under the partition's lock, and moves a follower's
    /// checkpoint in the same transaction. False, and nothing is written, if the lease is not at
    /// its epoch any more.
    ///
    /// A row may be queued twice when the same call is sent again without a checkpoint; the
    /// recipient's inbox absorbs it. With a checkpoint, one that is already at or past `to` gives
    /// true and writes nothing.
    fn enqueue(
        &self,
        partition: u16,
        rows: &[OutboxMessage],
        advance: Option<&CheckpointAdvance>,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Puts `rows` among the dead letters of `partition` without an attempt, in order, at the ends of
    /// their queues. One whose id is there already, or waits in its queue, is the same message once
    /// more, and adds nothing.
    fn park(
        &self,
        partition: u16,
        rows: &[OutboxMessage],
        error: &str,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Of each queue, up to `limit` rows after the given place, in order of places. One short
    /// statement for all of them.
    fn read_outbox(
        &self,
        after: &[(Queue, QueuePosition)],
        limit: usize,
    ) -> impl Future<Output = Result<Vec<OutboxRow>, StoreError>> + Send;

    /// The place of the last row of each of these queues; that of an empty one is before all others.
    fn last_positions(
        &self,
        queues: &[Queue],
    ) -> impl Future<Output = Result<Vec<QueuePosition>, StoreError>> + Send;

    /// All queues that have rows, timers that are due, or dead letters, in order; whoever works
    /// them, or nobody. Counting, and looking for an error, ends at `limit` for each number.
    fn summarize_queues(
        &self,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<QueueSummary>, StoreError>> + Send;

    /// The numbers of rows that wait in these queues, in their order, each at most `limit`. One short
    /// statement for all of them, which reads no more rows of each than that.
    fn count_waiting(
        &self,
        queues: &[Queue],
        limit: usize,
    ) -> impl Future<Output = Result<Vec<usize>, StoreError>> + Send;

    /// The streams that have rows in a queue or among its dead letters, each once, in order.
    fn queued_streams(
        &self,
        queue: &Queue,
    ) -> impl Future<Output = Result<Vec<StreamId>, StoreError>> + Send;

    /// Says what became of rows of one partition, in one transaction. Says which were still the
    /// lease's to settle: a row whose lease is not at its epoch any more is left alone. A row that
    /// is gone already counts as settled, and adds nothing.
    fn settle(
        &self,
        partition: u16,
        settlements: &[Settlement],
    ) -> impl Future<Output = Result<Vec<bool>, StoreError>> + Send;

    /// Of all these queues, up to `limit` timers that are due by the store's clock, the earliest
    /// first.
    fn due_timers(
        &self,
        queues: &[TimerQueue],
        limit: usize,
    ) -> impl Future<Output = Result<DueTimers, StoreError>> + Send;

    /// Says what became of timers of one partition that were not fired, in one transaction: a
    /// failed one is due again after its wait, a begun one is due now, a parked one is a dead letter. One whose lease is
    /// not at its epoch any more, or that is armed otherwise by now, is left alone.
    fn settle_timers(
        &self,
        partition: u16,
        settlements: &[TimerSettlement],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The dead letters of the whole log after a queue and a place in it, up to `limit`, in order of
    /// partitions, then queues and places.
    fn dead_letters(
        &self,
        after: Option<(Queue, QueuePosition)>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<DeadLetter>, StoreError>> + Send;

    /// Keeps an operator's decision about a dead letter until the queue's worker carries it out; a
    /// later one replaces it. False if there is none of this id in the partition, or if it stands behind another of its
    /// pair.
    fn decide_dead_letter(
        &self,
        partition: u16,
        id: Uuid,
        decision: DeadLetterDecision,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Up to `limit` dead letters of these queues that a decision was made about.
    fn decided_dead_letters(
        &self,
        queues: &[Queue],
        limit: usize,
    ) -> impl Future<Output = Result<Vec<DeadLetter>, StoreError>> + Send;

    /// Carries a decision out, in one transaction. Re-driven, the dead letter and all that are parked
    /// behind it, up to the next that has an error of its own, go back to their places in the queue
    /// without attempts (a timer is due at once); refused, it goes, and `answers` are queued. False if
    /// the lease is not at its epoch any more, or if there is no such decision.
    fn resolve_dead_letter(
        &self,
        lease: &Lease,
        letter: &DeadLetter,
        answers: &[OutboxMessage],
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Deletes up to `limit` marks of a partition that are older than `age`, and whose message does
    /// not wait in an outbox, among timers or dead letters any more. Says how many went.
    fn prune_inbox(
        &self,
        partition: u16,
        age: Duration,
        limit: usize,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Completes when rows may have been queued, timers armed or decisions made since the call that
    /// gave `seen` (0 at first): soon after it happened in this process, within the store's polling
    /// interval when it did elsewhere. It may complete early. Gives what to ask with next.
    fn wait_for_work(&self, seen: u64) -> impl Future<Output = Result<u64, StoreError>> + Send;
}
