//! The names of workers, as leases, checkpoints and metrics hold them.

use std::fmt;
use std::str::FromStr;

use composable_rust_core::queue::{OutboxKind, Queue};

/// A worker: a unit of background work whose leases the processes of a service share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum WorkerId {
    /// Executes the rows of a queue, or fires the timers of an aggregate type. The commands of a
    /// type have two queues and one worker.
    Queue {
        /// Never [`OutboxKind::Bulk`], whose rows the worker of `Dispatch` executes.
        kind: OutboxKind,
        /// The aggregate type, gateway, policy, projection or topic.
        target: String,
    },
    /// Applies a policy to the log.
    Policy(String),
    /// Runs a projection.
    Projection(String),
    /// Publishes the events of an aggregate type to a topic, and the streams that are parked on it.
    Relay {
        /// The topic.
        topic: String,
        /// The aggregate type.
        category: String,
    },
    /// Handles commands of other services for an aggregate type. It is announced and holds no
    /// lease.
    Service(String),
    /// Prunes the inbox.
    InboxPruner,
}

const POLICY: &str = "follow";
const PROJECTION: &str = "project";
const RELAY: &str = "relay";
const SERVICE: &str = "serve";
const INBOX_PRUNER: &str = "prune";

impl WorkerId {
    /// Returns the worker that executes the rows of a queue of this kind and target.
    pub(crate) fn of_queue(kind: OutboxKind, target: &str) -> Self {
        match (kind, target.parse()) {
            // A queue of parked streams has the name of their relay.
            (OutboxKind::Policy, Ok(relay @ Self::Relay { .. })) => relay,
            (OutboxKind::Bulk, _) => Self::of_queue(OutboxKind::Dispatch, target),
            (kind, _) => Self::Queue { kind, target: target.to_owned() },
        }
    }
}

/// Returns `true` if the rows of a queue are parked streams.
pub(crate) fn is_of_relay(queue: &Queue) -> bool {
    matches!(WorkerId::of_queue(queue.kind, &queue.target), WorkerId::Relay { .. })
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue { kind, target } => write!(f, "{}/{target}", kind.as_str()),
            Self::Policy(name) => write!(f, "{POLICY}/{name}"),
            Self::Projection(name) => write!(f, "{PROJECTION}/{name}"),
            Self::Relay { topic, category } => write!(f, "{RELAY}/{topic}/{category}"),
            Self::Service(target) => write!(f, "{SERVICE}/{target}"),
            Self::InboxPruner => f.write_str(INBOX_PRUNER),
        }
    }
}

/// A text is not the name of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ParseWorkerIdError;

impl FromStr for WorkerId {
    type Err = ParseWorkerIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == INBOX_PRUNER {
            return Ok(Self::InboxPruner);
        }
        let (prefix, name) = text.split_once('/').ok_or(ParseWorkerIdError)?;
        let name_of = name.to_owned();
        match prefix {
            POLICY => Ok(Self::Policy(name_of)),
            PROJECTION => Ok(Self::Projection(name_of)),
            SERVICE => Ok(Self::Service(name_of)),
            RELAY => {
                let (topic, category) = name.rsplit_once('/').ok_or(ParseWorkerIdError)?;
                Ok(Self::Relay { topic: topic.to_owned(), category: category.to_owned() })
            }
            kind => {
                let kind = OutboxKind::from_name(kind).ok_or(ParseWorkerIdError)?;
                Ok(Self::of_queue(kind, name))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_is_parsed_from_its_name() {
        let name = "orders".to_owned();
        let queue = |kind| WorkerId::of_queue(kind, "orders");
        let relay = WorkerId::Relay { topic: "orders-events".into(), category: "order".into() };
        for worker in [
            queue(OutboxKind::Dispatch),
            queue(OutboxKind::Call),
            queue(OutboxKind::Policy),
            queue(OutboxKind::Send),
            queue(OutboxKind::Timer),
            WorkerId::Policy(name.clone()),
            WorkerId::Projection(name.clone()),
            WorkerId::Service(name),
            WorkerId::InboxPruner,
            relay,
        ] {
            assert_eq!(worker.to_string().parse(), Ok(worker));
        }
        for invalid in ["", "orders", "relay/orders", "unknown/orders"] {
            assert_eq!(invalid.parse::<WorkerId>(), Err(ParseWorkerIdError), "{invalid}");
        }
    }

    #[test]
    fn queues_that_share_a_worker() {
        let relay = "relay/orders-events/order";
        assert_eq!(WorkerId::of_queue(OutboxKind::Policy, relay).to_string(), relay);
        assert_eq!(WorkerId::of_queue(OutboxKind::Bulk, "order").to_string(), "dispatch/order");
        // A policy or an aggregate type may have any other name.
        assert_eq!(
            WorkerId::of_queue(OutboxKind::Call, relay).to_string(),
            format!("call/{relay}")
        );
    }
}
