//! Runs the reducers and aggregates of Composable Rust. Use it through the facade crate
//! `composable-rust`, which has the guide.

mod aggregate;
mod app;
mod backoff;
mod builder;
mod cache;
mod dead_letters;
mod decide;
mod encode;
mod error;
mod group_commit;
mod handle;
mod inbox;
mod load;
mod mailbox;
mod process;
mod queues;
mod receive;
mod registry;
mod republish;
mod reset_policy;
mod send;
mod settings;
mod shutdown_signal;
mod snapshots;
mod store;
mod stuck_instances;
mod system;
mod unknown_messages;
mod work;

pub use app::App;
pub use builder::{AppBuilder, BuildError};
pub use dead_letters::{DeadLetterError, DeadLetters};
pub use error::{LoadError, SendError};
pub use group_commit::GroupCommit;
pub use handle::{Handle, WaitError};
pub use queues::{QueueStatus, Queues, WaitingMessage};
pub use registry::{Registry, RegistryError};
pub use republish::RepublishError;
pub use reset_policy::{PolicyPosition, ResetPolicyError};
pub use send::SendCommand;
pub use settings::Settings;
pub use shutdown_signal::shutdown_signal;
pub use store::{
    ActionError, EffectError, ExecutableEffect, Lagged, SendHandle, SendRejected, Store,
    StoreBuilder, StoreClosed, Subscription, UnsupportedEffect,
};
pub use stuck_instances::StuckInstance;
pub use system::{SystemClock, SystemIds, SystemRng};
pub use unknown_messages::UnknownMessage;
pub use work::{
    CircuitBreakerSettings, ExternalRecord, GatewaySettings, PoisonPolicy, ProjectionHandle,
    ProjectionSettings, ProjectionStatus, ProjectionWaitError, RetryPolicy, SubscriptionStatus,
};
