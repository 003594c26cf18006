//! Operations on an event store: finding, explaining, repairing and verifying.
//!
//! [`Admin`] works on a store alone, for any service whose log it holds, or on an
//! [`App`](composable_rust_runtime::App), whose registry decodes messages and states. The command
//! line and the console are faces of this crate.
//!
//! - Every read is a page: it reads by an index or examines a bounded part of the log, and returns
//!   a cursor to continue with. Nothing counts a table.
//! - Every change is recorded in the stream of the operators, before it is made and with its result
//!   afterwards: who, what, why. See [`Admin::audit`].
//! - Long operations report their progress and can be dropped at any time: a repetition continues
//!   with what is left.
//!
//! # Example: what waits in a store
//!
//! ```
//! use composable_rust_admin::{Admin, Operator};
//! use composable_rust_testing::InMemoryEventStore;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let admin = Admin::of_store(InMemoryEventStore::new(), Operator::named("ann"))?;
//! assert_eq!(admin.queues().await?, []);
//! assert_eq!(admin.doctor().await?.faults(), 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod admin;
mod audit;
mod content;
mod dead_letters;
mod description;
mod diff;
mod doctor;
mod erasure;
mod error;
mod events;
mod followers;
mod gateways;
mod instance;
mod interrupt;
mod page;
mod patience;
mod pauses;
mod projections;
mod queues;
mod repair;
mod schema;
mod shell;
mod steps;
mod streams;
mod timers;
mod trace;
mod verify;
mod workers;

pub use admin::{Admin, Operator};
pub use audit::{AuditCursor, AuditEntry, Intent, InvalidAuditCursor};
pub use content::{Content, EventView, MessageView};
pub use dead_letters::{
    DeadLetterFilter, DeadLetterGroup, DeadLetterView, DryRun, Resolution, Resolved,
};
pub use description::{AggregateView, Description, MessageKindView};
pub use diff::Difference;
pub use doctor::Diagnosis;
pub use erasure::{Appearance, Appearances, Erased};
pub use error::AdminError;
pub use events::{EventCursor, EventQuery};
pub use followers::{ConsumerMove, ConsumerPartitionView, ConsumerView};
pub use gateways::{CircuitView, GatewayView};
pub use instance::{HandledView, InstanceView, StateView};
pub use interrupt::Interrupt;
pub use page::{Examined, Page};
pub use pauses::PauseView;
pub use projections::ProjectionView;
pub use queues::{QueueView, WaitingView};
pub use repair::{Replacement, SentCommand};
pub use schema::{SchemaEntry, SchemaScan};
pub use shell::shell_quoted;
pub use steps::{InstanceAt, StepView};
pub use streams::{StreamQuery, StreamView};
pub use timers::{Arming, InvalidArming, TimerQuery, TimerRef, TimerView};
pub use trace::{Trace, TraceNode, TraceRange, TraceWaiting, Via, WaitingKind};
pub use verify::{Progress, Verification};
pub use workers::{CheckpointView, ProcessView, WorkerView};
