//! The event bus of Composable Rust over Redpanda, Apache Kafka, and other brokers that speak their
//! protocol.
//!
//! [`RedpandaEventBus`] implements [`EventBus`](composable_rust_core::bus::EventBus) with
//! librdkafka, which is built from source with a C compiler, `make` and `perl`.
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
//! # Wire format
//!
//! A message becomes a record with the same key and headers; the value is the unchanged payload.
//! Topics are created on first use, unless
//! [`create_topics`](RedpandaEventBusBuilder::create_topics) is `false`. Keys map to partitions as
//! in the Java clients (`murmur2_random`), so that messages of both with the same key share a
//! partition.
//!
//! # Publishing
//!
//! `publish` uses an idempotent producer with `acks=all`: librdkafka's retries neither duplicate
//! nor reorder messages, and `Ok` means that all in-sync replicas have the message. One producer
//! serves the whole process. A second producer, opened when it is first needed, sends a message
//! that was rejected for its size once more, alone, because the broker checks the size of a whole
//! batch. `PublishError` distinguishes a rejection by the broker (a missing topic, a missing right,
//! a policy) from an unreachable broker.
//!
//! A publisher is a transactional producer. Its `transactional.id` is `LOG-PURPOSE-PARTITION`, so
//! opening it makes the broker fence earlier holders, including a frozen process that resumes
//! later. Each batch is one transaction together with its position. The position is the committed
//! offset of partition *p* of the topic `LOG-PURPOSE`, which holds no messages, in the group of the
//! same name. The open transaction of a crashed publisher blocks later messages in the same topic
//! partitions for all readers. The block ends when the publisher is opened again, or after
//! [`transaction_timeout`](RedpandaEventBusBuilder::transaction_timeout).
//!
//! # Consuming
//!
//! A subscription is a member of a consumer group and runs on its own thread. It reads committed
//! messages only. For each topic partition it tracks the unfinished deliveries and commits the
//! lowest unfinished offset. It pauses a partition that has too many outstanding deliveries. When a
//! rebalance revokes a partition, the subscription waits for its outstanding deliveries
//! ([`drain_timeout`](RedpandaEventBusBuilder::drain_timeout)), commits, and gives the partition
//! up; later acknowledgements fail and have no effect.
//!
//! A group without a committed offset at the broker starts after the offset that the subscriber
//! passes, or else at the beginning. If it has a committed offset but the broker no longer has that
//! message (retention removed it, or the topic was recreated), events may be missing: see
//! [`LostPosition`]. A topic or partition that cannot be read appears as an error among the
//! deliveries and in [`topic_status`](composable_rust_core::bus::EventBus::topic_status); the
//! subscription continues with the others.
//!
//! # Managed services
//!
//! With the feature `tls`:
//!
//! ```no_run
//! # #[cfg(feature = "tls")]
//! # async fn f(
//! #     password: &str,
//! #     connection_string: &str,
//! # ) -> Result<(), composable_rust_redpanda::ConnectError> {
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
//! // Azure Event Hubs: the user is literally `$ConnectionString`. Some of its tiers lack
//! // transactions; on those, add `.transactions(false)`.
//! let bus = RedpandaEventBus::builder("shop.servicebus.windows.net:9093")
//!     .sasl_plain("$ConnectionString", connection_string)
//!     .connect()
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Tested brokers
//!
//! The tests run against Apache Kafka 4, and against a Redpanda container where a container engine
//! is available. On Redpanda:
//!
//! - Transactions and idempotent producers need `enable_transactions` and `enable_idempotence`,
//!   which are on by default.
//! - The maximum message size is set for the cluster (`kafka_batch_max_bytes`) and for the topic
//!   (`max.message.bytes`). Both must exceed
//!   [`max_payload_bytes`](RedpandaEventBusBuilder::max_payload_bytes) by 48 KiB.
//! - A cluster of one node rejects a replication factor of 3.
//!
//! # Threads
//!
//! librdkafka starts about three threads for each producer, each open publisher and each
//! subscription, and one more for each broker that the client is connected to. At most
//! [`max_publishers`](RedpandaEventBusBuilder::max_publishers) publishers are open at a time. The
//! client that reads a publisher's position is closed after reading. Blocking calls run on these
//! threads, on the subscription's thread, or on tokio's blocking threads.

mod builder;
mod bus;
mod client;
mod connect;
mod context;
mod error;
mod group;
mod producer;
mod publisher;
mod record;
mod topics;

pub use builder::RedpandaEventBusBuilder;
pub use bus::RedpandaEventBus;
pub use client::settings::{Compression, DEFAULT_MAX_PAYLOAD_BYTES, LostPosition};
pub use error::{Cause, ConnectError};
pub use group::deliveries::{RedpandaDeliveries, RedpandaDelivery};
pub use publisher::RedpandaPublisher;
