//! The suite's access to a read model beyond the port.

use std::future::Future;
use std::time::Duration;

use composable_rust_core::projection::ReadModel;

/// A database that is empty except for a number, initially 0: the read model of the cases.
pub trait ReadModelBackend: Send + Sync + 'static {
    /// The read model under test.
    type Model: ReadModel;

    /// Opens the read model as another process does, sharing nothing but the data.
    fn open(&self) -> impl Future<Output = Self::Model> + Send;

    /// Adds to the number, as a projection does.
    fn add(
        &self,
        connection: &mut <Self::Model as ReadModel>::Connection,
        amount: i64,
    ) -> impl Future<Output = ()> + Send;

    /// The committed number.
    fn total(&self) -> impl Future<Output = i64> + Send;

    /// Waits until a transaction waits for a lock that another transaction holds. Default: 100
    /// milliseconds, for a database that does not tell which transactions wait.
    fn wait_for_blocked_transaction(&self) -> impl Future<Output = ()> + Send {
        tokio::time::sleep(Duration::from_millis(100))
    }
}
