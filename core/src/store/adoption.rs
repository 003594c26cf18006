//! The identity of a copied log.

/// An operator's decision about a log that was found in a copy of its database.
///
/// A log knows the database in which it was created. If it turns up in another (a restored backup,
/// a clone, a moved file), two services might act for one log: call the same gateways, fire the
/// same timers, fence each other's publishers. A store therefore refuses to open such a log until
/// an operator decides which of the two it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adoption {
    /// The log continues here: the other database no longer exists or is no longer used. Only the
    /// log's home database changes.
    Successor,
    /// The log continues elsewhere, and this copy becomes a log of its own, with a new id and a new
    /// secret. It is paused ([`Pause::LOG`](crate::queue::Pause::LOG)): no worker processes its
    /// queues until [`resume`](crate::queue::Leases::resume). Replies to requests that the log sent
    /// to other services before go to the original.
    Copy,
    /// The same as [`Copy`](Self::Copy), also where the store takes the database for the log's own:
    /// a physical copy of a PostgreSQL server has the identity of the original. Each adoption makes
    /// another log of it, so it is meant for one start.
    UndetectedCopy,
}

impl Adoption {
    /// Returns `true` if the log becomes one of its own.
    pub fn is_copy(self) -> bool {
        self != Self::Successor
    }
}
