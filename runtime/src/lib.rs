//! Runs the reducers and aggregates of Composable Rust. Use it through the facade crate
//! `composable-rust`, which has the guide.

mod app;
mod backoff;
mod error;
mod instance;
mod metrics;
mod panic;
mod spans;
mod store;
mod worker;

pub use app::app::App;
pub use app::builder::{AppBuilder, BuildError};
pub use app::settled::SettleError;
pub use app::shutdown_signal::shutdown_signal;
pub use error::{LoadError, SendError};
pub use instance::handle::{Handle, WaitError};
pub use instance::send::SendCommand;
pub use store::Store;
pub use worker::external_record::ExternalRecord;

pub use app::registry::{LoadedInstance, NamedCommand, Registry, RegistryError};
pub use instance::group_commit::GroupCommit;

/// Settings of an app and of what is registered with it.
pub mod settings {
    pub use crate::app::settings::Settings;
    pub use crate::worker::outbox::circuit_breaker::CircuitBreakerSettings;
    pub use crate::worker::outbox::gateway_settings::GatewaySettings;
    pub use crate::worker::policy::registered::PolicySettings;
    pub use crate::worker::projection::registered::{PoisonPolicy, ProjectionSettings};
    pub use crate::worker::retry::RetryPolicy;
}

/// Watching and repairing a running app: dead letters, queues, projections, unknown messages.
pub mod operations {
    pub use crate::app::consumers::{ConsumerError, ConsumerStart, ConsumerTopic};
    pub use crate::app::dead_letters::{DeadLetterError, DeadLetters};
    pub use crate::app::gateway_handle::{Circuit, CircuitState, GatewayHandle, GatewayStatus};
    pub use crate::app::log_start::LogStart;
    pub use crate::app::queues::{QueueStatus, Queues, WaitingMessage};
    pub use crate::app::rehearsal::Rehearsal;
    pub use crate::app::republish::RepublishError;
    pub use crate::app::reset_policy::ResetPolicyError;
    pub use crate::app::stuck_instances::StuckInstance;
    pub use crate::app::unknown_messages::UnknownMessage;
    pub use crate::app::validate::OPERATORS;
    pub use crate::metrics::{MetricDescription, MetricKind, descriptions as metrics};
    pub use crate::worker::bus::subscriptions::SubscriptionStatus;
    pub use crate::worker::projection::handle::{
        ProjectionHandle, ProjectionStatus, ProjectionWaitError,
    };
}

/// The builder, handles and errors of a [`Store`], which runs a reducer in memory.
pub mod reducer_store {
    pub use crate::store::{
        ActionError, EffectError, Lagged, SendHandle, SendRejected, StoreBuilder, StoreClosed,
        StoreReducer, Subscription, UnsupportedEffect,
    };
}

/// The system's clock and sources of ids and randomness.
pub mod environment {
    pub use crate::app::system::{SystemClock, SystemIds, SystemRng};
}
