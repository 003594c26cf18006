//! The settings of an app and their defaults.

use std::time::Duration;

use composable_rust_core::store::MAX_PAYLOAD_BYTES;

use crate::worker::retry::RetryPolicy;

/// Settings of an [`App`](crate::App). Every queue is bounded: producers wait while it is full.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Settings {
    /// The maximum number of commands in the mailbox of one instance; further callers wait outside.
    /// Default: 1,024.
    pub mailbox_capacity: usize,
    /// The maximum number of commands of one instance that are decided together and stored by one
    /// append. Default: 256.
    pub max_commands_per_append: usize,
    /// The maximum number of instances in memory per aggregate type; the least recently used are
    /// evicted. Instances in use are never evicted, so there may be more for a while. Default:
    /// 100,000.
    pub max_live_instances: usize,
    /// The maximum size in bytes of the encoded states in memory per aggregate type; the least
    /// recently used instances are evicted. States are measured when they are loaded, and every ten
    /// seconds. Default: 512 MiB.
    pub max_live_bytes: usize,
    /// The maximum number of concurrent loads of instances from the store; further ones wait.
    /// Default: 16.
    pub max_concurrent_loads: usize,
    /// The time after which an unused instance is evicted, within another ten seconds. Default: 10
    /// minutes.
    pub idle_timeout: Duration,
    /// The number of events between two snapshots of a stream; 0 for no snapshots. Default: 100.
    pub snapshot_every: u64,
    /// `true` if each message and snapshot is decoded again and compared before it is stored,
    /// because bincode can write values that it cannot read. Default: `true`. The book's chapter on
    /// schema evolution states the cost.
    pub verify_encoding: bool,
    /// The time that a send waits for its outcome, unless [`within`](crate::SendCommand::within)
    /// sets another; also the time that a dispatched message or a timer waits for its instance
    /// before it is retried. Default: 10 seconds.
    pub default_deadline: Duration,
    /// The maximum number of appends that wait for the writer of one log partition. Default: 1,024.
    pub writer_queue_capacity: usize,
    /// The maximum number of appends in one transaction of a log partition. Default: 1,000.
    pub max_appends_per_batch: usize,
    /// The size of payloads and metadata, in bytes, from which on a transaction takes no further
    /// append, and an append no further command. Default: 4 MiB.
    pub max_bytes_per_batch: usize,
    /// The maximum payload of an event, a command or a timer, in bytes. Default: 4 MiB, which is
    /// also the maximum, or the limit of the bus if that is lower.
    pub max_payload_bytes: usize,
    /// The lease time-to-live: the time for which a crashed process blocks its share of the work. A
    /// process that is frozen for longer loses its leases. Leases are renewed three times as often.
    /// Default: 15 seconds. Between 100 milliseconds and an hour.
    ///
    /// Leases and timers go by the store's clock. Setting that clock back delays a takeover by at
    /// most one more time-to-live; setting it forward makes leases expire and timers fire early.
    /// Keep it synchronised.
    pub lease_ttl: Duration,
    /// The maximum number of concurrent deliveries: per aggregate type for dispatched commands,
    /// again as many for commands of policies and other services, and per topic for messages to
    /// other services. Default: 256.
    pub max_concurrent_dispatches: usize,
    /// The number of waiting rows of one queue and log partition at which policies, projections and
    /// consumers of the bus stop adding rows: their backlog stays in the log or on the topic. A
    /// queue may exceed the limit by one or two pages of 1,000 rows for each of them. Each still
    /// adds a page every 10 seconds, so that rows that are all stuck do not stop them. Default:
    /// 10,000.
    pub max_waiting_rows_per_queue: usize,
    /// The minimum time for which the inbox remembers a keyed command or a delivered message. A
    /// message that may still be redelivered is remembered for longer. Default: 30 days. At least
    /// an hour.
    pub inbox_retention: Duration,
    /// The time that unknown messages wait for newer code to be deployed before they are overdue: a
    /// warning is logged, [`App::unknown_messages`](crate::App::unknown_messages) shows them as
    /// overdue, and a projection that has met one fails. Default: 10 minutes.
    pub unknown_message_grace: Duration,
    /// The retry policy of dispatched commands, timers and policies: a message that fails too often
    /// is parked. Default: [`RetryPolicy::default`].
    pub retry: RetryPolicy,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mailbox_capacity: 1_024,
            max_commands_per_append: 256,
            max_live_instances: 100_000,
            max_live_bytes: 512 * 1_024 * 1_024,
            max_concurrent_loads: 16,
            idle_timeout: Duration::from_secs(600),
            snapshot_every: 100,
            verify_encoding: true,
            default_deadline: Duration::from_secs(10),
            writer_queue_capacity: 1_024,
            max_appends_per_batch: 1_000,
            max_bytes_per_batch: 4 * 1_024 * 1_024,
            max_payload_bytes: MAX_PAYLOAD_BYTES,
            lease_ttl: Duration::from_secs(15),
            max_concurrent_dispatches: 256,
            max_waiting_rows_per_queue: 10_000,
            inbox_retention: Duration::from_secs(30 * 24 * 3_600),
            unknown_message_grace: Duration::from_secs(600),
            retry: RetryPolicy::default(),
        }
    }
}
