//! The outcomes of a unit of work: handling a message, a row, a timer or an event.

use std::fmt;

use composable_rust_core::codec::DecodeError;
use composable_rust_core::store::StoreError;

use crate::app::unknown_messages::NewerCode;
use crate::error::error_chain;

/// A failure to complete a unit of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The handler failed. Counts as an attempt.
    Failed(String),
    /// A dependency is unavailable: the store, the bus, a gateway. Does not count as an attempt.
    Unavailable(String),
    /// The recipient's stream cannot be loaded. The work waits until it can; does not count as an
    /// attempt.
    Stuck(String),
    /// No retry can succeed.
    Poison(String),
    /// The process crashed during every attempt, and no attempts are left.
    Crashed {
        /// The number of attempts.
        attempts: u32,
    },
    /// Only newer code can handle it.
    NeedsNewerCode(NewerCode),
    /// Another process has taken over: it holds the lease, or has moved the checkpoint.
    Fenced,
    /// The checkpoint was written under a higher epoch than that of this process's lease.
    StaleEpoch(String),
    /// The log does not hold the event of a checkpoint: it was restored, or a failover lost
    /// commits.
    LogRewound(String),
}

impl Failure {
    /// Returns the name of the kind of failure, as metrics and spans hold it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Failed(_) => "failed",
            Self::Unavailable(_) => "unavailable",
            Self::Stuck(_) => "stuck",
            Self::Poison(_) => "poison",
            Self::Crashed { .. } => "crashed",
            Self::NeedsNewerCode(_) => "unknown",
            Self::Fenced | Self::StaleEpoch(_) | Self::LogRewound(_) => "fenced",
        }
    }

    /// Returns [`NeedsNewerCode`](Self::NeedsNewerCode) for what is not registered in this process.
    pub(crate) fn unregistered(kind: &str, name: &str) -> Self {
        Self::NeedsNewerCode(NewerCode::unregistered(kind, name))
    }

    /// Returns the failure to decode a message: `otherwise`, unless newer code can decode it.
    pub(crate) fn of_decode(error: &DecodeError, otherwise: fn(String) -> Self) -> Self {
        let otherwise = || otherwise(error_chain(error));
        NewerCode::of(error).map_or_else(otherwise, Self::NeedsNewerCode)
    }

    /// Returns the failure of a handler that panicked with `message`.
    pub(crate) fn panicked(message: &str) -> Self {
        Self::Failed(format!("the handler panicked: {message}"))
    }

    /// Returns the failure of a store call: only an unavailable store is worth a retry.
    pub(crate) fn of_store(error: &StoreError) -> Self {
        if error.is_transient() {
            Self::Unavailable(error_chain(error))
        } else {
            Self::Poison(error_chain(error))
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(reason)
            | Self::Unavailable(reason)
            | Self::Stuck(reason)
            | Self::Poison(reason)
            | Self::NeedsNewerCode(NewerCode { reason, .. })
            | Self::StaleEpoch(reason)
            | Self::LogRewound(reason) => f.write_str(reason),
            Self::Crashed { attempts } => {
                write!(f, "the process crashed during each of {attempts} attempts")
            }
            Self::Fenced => f.write_str("another process has taken over"),
        }
    }
}

/// A worker retries after any store error, from its checkpoint.
impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error_chain(&error))
    }
}

/// The result of delivering a message to an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivered {
    /// The instance has handled it, now or before; a rejection by the domain included.
    Handled,
    /// The instance's stream is closed: no instance will ever handle it.
    StreamClosed,
    /// Its timer was cancelled or armed again.
    StaleTimer,
}

/// Returns an error as all stores can keep it: without NUL, and at most 4,096 bytes.
pub(crate) fn truncate_error(mut error: String) -> String {
    const MAX_BYTES: usize = 4_096;
    if error.len() > MAX_BYTES {
        let end = (0..=MAX_BYTES).rev().find(|end| error.is_char_boundary(*end)).unwrap_or(0);
        error.truncate(end);
    }
    if error.contains('\0') { error.replace('\0', " ") } else { error }
}
