//! Which log a copied database is.

/// What the log of a database becomes that was found to be a copy of another.
///
/// A log knows the database that it was made in. Where it turns up in another one (a restored backup,
/// a clone, a moved file), two services might act for one log: call the same gateways, fire the same
/// timers, take each other's place at the broker. So a store refuses to open such a log until an
/// operator says which of the two it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adoption {
    /// The log goes on here: the other database is gone, or nothing runs on it any more. Nothing but
    /// the log's home changes.
    Successor,
    /// The log goes on elsewhere, and this is another one from now on. It gets an id and a secret of
    /// its own, and is paused: nothing of what waits in it is worked until
    /// [`set_paused(false)`](crate::queue::Leases::set_paused). Replies to what the log had asked other
    /// services before go to the original.
    Copy,
}
