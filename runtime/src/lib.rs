//! Runs the reducers and aggregates of Composable Rust. Use it through the facade crate
//! `composable-rust`, which has the guide.

mod aggregate;
mod answer;
mod app;
mod backoff;
mod builder;
mod dead_letters;
mod deliver;
mod drain;
mod encode;
mod error;
mod group_commit;
mod handle;
mod instance;
mod instances;
mod load;
mod plan;
mod queues;
mod registry;
mod republish;
mod reset_policy;
mod send;
mod settings;
mod signal;
mod snapshots;
mod store;
mod stuck;
mod system;
mod unknowns;
mod work;

pub use app::App;
pub use builder::{AppBuilder, BuildError};
pub use dead_letters::{DeadLetters, DecideError};
pub use error::{LoadError, SendError};
pub use group_commit::GroupCommit;
pub use handle::{Handle, WaitError};
pub use queues::{QueueStatus, Queues, WaitingMessage};
pub use registry::{Registry, RegistryError};
pub use republish::RepublishError;
pub use reset_policy::{PolicyPosition, ResetPolicyError};
pub use send::SendCommand;
pub use settings::Settings;
pub use signal::asked_to_stop;
pub use store::{
    ActionError, EffectError, Lagged, Runnable, SendRejected, Sent, Store, StoreBuilder,
    StoreClosed, Subscription, UnsupportedEffect,
};
pub use stuck::StuckInstance;
pub use system::{SystemClock, SystemIds, SystemRng};
pub use unknowns::Unknown;
pub use work::{
    Attempts, BreakerSettings, ForeignRecord, GatewaySettings, Poison, ProjectionHandle,
    ProjectionSettings, ProjectionStatus, ProjectionWaitError, SubscriptionStatus,
};
