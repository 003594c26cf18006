//! Pauses of a log, or of a part of its work.

use crate::Timestamp;

/// A pause of a log, or of a part of its work, for all processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// The paused part: [`Pause::LOG`], or the name of a part, such as `gateway/bank`.
    pub name: String,
    /// The time of the pause, by the store's clock.
    pub since: Timestamp,
    /// The person or program that paused it, if it gave a name.
    pub by: Option<String>,
}

impl Pause {
    /// The name of the pause of the whole log.
    pub const LOG: &'static str = "log";

    /// Returns the name of the pause of a gateway.
    pub fn of_gateway(gateway: &str) -> String {
        format!("gateway/{gateway}")
    }
}
