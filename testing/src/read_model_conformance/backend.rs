//! What the suite needs of a read model besides the port.

use std::future::Future;

use composable_rust_core::ReadModel;

/// One database, empty but for a number that starts at 0: the read model of the cases.
pub trait ReadModelBackend: Send + Sync + 'static {
    /// The read model under test.
    type Model: ReadModel;

    /// The read model as a process of its own sees it: opened anew, sharing nothing but the data.
    fn open(&self) -> impl Future<Output = Self::Model> + Send;

    /// Adds to the number, as a projection does.
    fn add(
        &self,
        connection: &mut <Self::Model as ReadModel>::Connection,
        amount: i64,
    ) -> impl Future<Output = ()> + Send;

    /// The number as it is committed.
    fn total(&self) -> impl Future<Output = i64> + Send;
}
