//! Runs the reducers and aggregates of Composable Rust. Use it through the facade crate
//! `composable-rust`, which has the guide.

mod app;
mod backoff;
mod error;
mod instance;
mod metrics;
mod panic;
mod store;
mod worker;

pub use app::app::App;
pub use app::builder::{AppBuilder, BuildError};
pub use app::dead_letters::{DeadLetterError, DeadLetters};
pub use app::queues::{QueueStatus, Queues, WaitingMessage};
pub use app::registry::{Registry, RegistryError};
pub use app::republish::RepublishError;
pub use app::reset_policy::{PolicyPosition, ResetPolicyError};
pub use app::settings::Settings;
pub use app::shutdown_signal::shutdown_signal;
pub use app::stuck_instances::StuckInstance;
pub use app::system::{SystemClock, SystemIds, SystemRng};
pub use app::unknown_messages::UnknownMessage;
pub use error::{LoadError, SendError};
pub use instance::group_commit::GroupCommit;
pub use instance::handle::{Handle, WaitError};
pub use instance::send::SendCommand;
pub use store::{
    ActionError, EffectError, Lagged, SendHandle, SendRejected, Store, StoreBuilder, StoreClosed,
    StoreReducer, Subscription, UnsupportedEffect,
};
pub use worker::bus::subscriptions::SubscriptionStatus;
pub use worker::outbox::circuit_breaker::CircuitBreakerSettings;
pub use worker::outbox::gateway::GatewaySettings;
pub use worker::policy::policy::{ExternalRecord, PolicySettings};
pub use worker::projection::handle::{ProjectionHandle, ProjectionStatus, ProjectionWaitError};
pub use worker::projection::registered::{PoisonPolicy, ProjectionSettings};
pub use worker::retry::RetryPolicy;
