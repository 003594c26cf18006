//! The event bus of Composable Rust over Redpanda, Apache Kafka and whatever speaks their protocol.
//!
//! [`RedpandaEventBus`] keeps the contract of [`EventBus`](composable_rust_core::EventBus) by way of
//! librdkafka, which is built from its source with a C compiler, `make` and `perl`.
//!
//! # Example: a broker on this machine
//!
//! ```no_run
//! use composable_rust_redpanda::RedpandaEventBus;
//!
//! # async fn f() -> Result<(), composable_rust_redpanda::ConnectError> {
//! let bus = RedpandaEventBus::connect("localhost:9092").await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is on the wire
//!
//! A message is a record: its key is the message's key, its headers are the message's headers, its
//! value is the payload as it is. Topics are created when they are first used, unless
//! [`create_topics`](RedpandaEventBusBuilder::create_topics) says no. Keys are spread over a topic's
//! partitions as Java's clients spread them (`murmur2_random`), so that theirs and ours land together.
//!
//! # Publishing
//!
//! `publish` goes through an idempotent producer with `acks=all`: librdkafka's own retries neither
//! duplicate nor reorder, and an answer means that all in-sync replicas have the message. One producer
//! serves the whole process. What a broker refuses for its topic (missing, not authorized, against a
//! policy) is told apart from a broker that is away: see `PublishError`.
//!
//! A publisher is a transactional producer. Its `transactional.id` is `LOG-PURPOSE-PARTITION`, so
//! that opening it fences earlier holders at the broker, also one that was frozen and wakes up. Each
//! batch is one transaction, together with its position, which is the committed offset of partition
//! *p* of the topic `LOG-PURPOSE` (which holds no messages) in the group of the same name. A dead
//! publisher's open transaction holds back everybody's later messages in the same topic partitions
//! until somebody opens the publisher again, or for at most
//! [`transaction_timeout`](RedpandaEventBusBuilder::transaction_timeout).
//!
//! # Consuming
//!
//! A subscription is a member of a consumer group, on a thread of its own. It reads committed
//! messages only. Of each topic partition it knows which deliveries are unfinished, and commits the
//! lowest of them, never by itself what it has merely read. When too many deliveries of a partition
//! are unfinished, that partition is paused. When a partition is taken away, the subscription waits a
//! moment for what is in hand ([`drain_timeout`](RedpandaEventBusBuilder::drain_timeout)), commits,
//! and lets go; what is acknowledged later is refused and does no harm.
//!
//! A group that has no position at the broker begins behind the one that the subscriber knows, or
//! else at the beginning. If it has one and the broker no longer has
//! that message (retention has removed it, or the topic was made anew), events may be missing:
//! see [`LostPosition`]. What cannot be read is an error among the deliveries, and in
//! [`topic_status`](composable_rust_core::EventBus::topic_status); the rest is read on.
//!
//! # Managed services
//!
//! With the feature `tls`:
//!
//! ```no_run
//! # #[cfg(feature = "tls")]
//! # async fn f(password: &str, connection_string: &str) -> Result<(), composable_rust_redpanda::ConnectError> {
//! use composable_rust_redpanda::RedpandaEventBus;
//!
//! // Redpanda Cloud.
//! let bus = RedpandaEventBus::builder("seed-1a2b3c.cloud.redpanda.com:9092")
//!     .sasl_scram_256("app", password)
//!     .replication(3)
//!     .connect()
//!     .await?;
//!
//! // Amazon MSK with SASL/SCRAM (not IAM).
//! let bus = RedpandaEventBus::builder("b-1.shop.x1.kafka.eu-west-1.amazonaws.com:9096")
//!     .sasl_scram_512("app", password)
//!     .replication(3)
//!     .connect()
//!     .await?;
//!
//! // Azure Event Hubs: the user is literally `$ConnectionString`. Its tiers differ in what they
//! // have of transactions; where they are missing, say `.transactions(false)`.
//! let bus = RedpandaEventBus::builder("shop.servicebus.windows.net:9093")
//!     .sasl_plain("$ConnectionString", connection_string)
//!     .connect()
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is tested, and what is not
//!
//! The tests run against Apache Kafka 4, or a Redpanda container where an engine for containers is
//! there. On Redpanda:
//!
//! - Transactions and idempotent producers need `enable_transactions` and `enable_idempotence`, both
//!   on unless somebody turned them off.
//! - The largest message is a setting of the cluster (`kafka_batch_max_bytes`) and of the topic
//!   (`max.message.bytes`); [`max_payload_bytes`](RedpandaEventBusBuilder::max_payload_bytes) must
//!   leave room below it.
//! - A cluster of one node refuses a replication factor of 3.
//!
//! # Threads
//!
//! librdkafka has threads of its own: about three for each producer, each open publisher and each
//! subscription, and one more for each broker it talks to. At most
//! [`max_publishers`](RedpandaEventBusBuilder::max_publishers) publishers are open at a time. The client
//! that reads a publisher's position is closed as soon as it has read. Whatever blocks runs on these
//! threads, on the subscription's, or on tokio's threads for blocking work.

mod builder;
mod bus;
mod client;
mod connect;
mod delivery;
mod drop_in_background;
mod error;
mod position;
mod producer;
mod progress;
mod publisher;
mod reader;
mod record;
mod resume;
mod shared;
mod topics;

pub use builder::{Compression, DEFAULT_MAX_PAYLOAD_BYTES, LostPosition, RedpandaEventBusBuilder};
pub use bus::RedpandaEventBus;
pub use delivery::{RedpandaDeliveries, RedpandaDelivery};
pub use error::{Cause, ConnectError};
pub use publisher::RedpandaPublisher;
