//! What an app can be told, with the defaults.

use std::time::Duration;

use composable_rust_core::MAX_PAYLOAD_BYTES;

use crate::worker::retry::RetryPolicy;

/// Limits and habits of an app. Every queue has a bound; who meets it waits.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Settings {
    /// Callers that may wait for one instance at a time; more wait outside. Default 1,024.
    pub mailbox_capacity: usize,
    /// Commands that one drain of a mailbox decides at most. Default 256.
    pub max_commands_per_append: usize,
    /// Live instances per aggregate type; the longest unused go first. Instances in use are never
    /// dropped, so the cap may be passed for as long as they are. Default 100,000.
    pub max_live_instances: usize,
    /// Bytes that the states in memory take per aggregate type, as they are encoded; beyond, the longest
    /// unused go. They are weighed when they are loaded, and every ten seconds. Default 512 MiB.
    pub max_live_bytes: usize,
    /// Loads that ask the store at a time; more wait. Default 16.
    pub max_concurrent_loads: usize,
    /// An instance unused for this long leaves memory, within ten seconds. Default 10 minutes.
    pub idle_timeout: Duration,
    /// A snapshot is saved when a stream passes a multiple of this; 0 saves none. Default 100.
    pub snapshot_every: u64,
    /// Whether each message and snapshot is decoded again and compared before it is stored:
    /// bincode writes what it cannot read. Default true; the cost is in the book's chapter on schema evolution.
    pub verify_encoding: bool,
    /// How long a send waits for its outcome unless it says otherwise; a message that the runtime
    /// carries waits as long for its instance, and is then put off. Default 10 seconds.
    pub default_deadline: Duration,
    /// Appends that may wait for one partition's writer. Default 1,024.
    pub writer_queue_capacity: usize,
    /// Appends that one batch holds at most. Default 1,000.
    pub max_appends_per_batch: usize,
    /// Bytes of payloads and metadata after which a batch, or a drain of a mailbox, takes nothing more.
    /// Default 4 MiB.
    pub max_bytes_per_batch: usize,
    /// The largest payload, in bytes: of an event, a command, a timer. Default 4 MiB, which is also
    /// the most, or what the bus takes if that is less.
    pub max_payload_bytes: usize,
    /// How long a process that is gone keeps its share of the work from others. Whoever is frozen
    /// for longer finds it taken over. It is renewed three times as often. Default 15 seconds.
    ///
    /// Leases and timers go by the store's clock. Set back, it delays a takeover by at most one more
    /// lease; set forward, it lets leases lapse and timers fire early. Keep it synchronised.
    pub lease_ttl: Duration,
    /// Commands of the outbox that are on their way to instances of one type at a time, as many again of
    /// policies and other services, and messages on their way to one topic of another service. Default
    /// 256.
    pub max_concurrent_dispatches: usize,
    /// Rows that may wait in one queue of a log partition before policies, projections and consumers of
    /// the bus stop adding to it: their backlog stays in the log, or on its topic. The queue may pass the
    /// bound by a page or two of each, 1,000 rows. Rows that are all stuck must not stop them for ever, so
    /// each goes on by a page every 10 seconds. Default: 10,000.
    pub max_waiting_rows_per_queue: usize,
    /// How long the inbox knows a message at least: that of a `.key`, or one that was delivered. What
    /// may still be delivered is known for as long as that lasts. At least an hour. Default 30 days.
    pub inbox_retention: Duration,
    /// The time for which something unknown waits for newer code to be deployed. After it, no running
    /// code knows it: a warning says so, [`App::unknown`](crate::App::unknown) shows it as overdue,
    /// and a projection that has come upon it fails. Default: 10 minutes.
    pub unknown_message_grace: Duration,
    /// How often a dispatched command, a timer or a policy may fail before it is parked.
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
