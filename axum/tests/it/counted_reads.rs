//! A read model that counts how often its checkpoints are read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use composable_rust_core::StreamId;
use composable_rust_core::projection::{
    BlockedStream, ProjectionRecord, ProjectionState, ReadModel,
};
use composable_rust_core::queue::Checkpoint;
use composable_rust_core::store::StoreError;
use uuid::Uuid;

/// A read model that counts the reads of its checkpoints outside of transactions.
#[derive(Debug, Clone)]
pub(crate) struct CountedReads<M> {
    pub(crate) model: M,
    reads: Arc<AtomicUsize>,
    hangs: Arc<AtomicBool>,
}

impl<M> CountedReads<M> {
    pub(crate) fn new(model: M) -> Self {
        Self { model, reads: Arc::default(), hangs: Arc::default() }
    }

    /// Answers no read of a checkpoint any more.
    pub(crate) fn hang(&self) {
        self.hangs.store(true, Ordering::SeqCst);
    }

    pub(crate) fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }
}

impl<M: ReadModel> ReadModel for CountedReads<M> {
    type Connection = M::Connection;
    type Transaction = M::Transaction;

    async fn begin(&self) -> Result<M::Transaction, StoreError> {
        self.model.begin().await
    }

    async fn commit(&self, transaction: M::Transaction) -> Result<(), StoreError> {
        self.model.commit(transaction).await
    }

    async fn load(&self, name: &str) -> Result<Option<ProjectionRecord>, StoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.model.load(name).await
    }

    async fn lock(
        &self,
        transaction: &mut M::Transaction,
        name: &str,
        log: Uuid,
    ) -> Result<ProjectionRecord, StoreError> {
        self.model.lock(transaction, name, log).await
    }

    async fn advance(
        &self,
        transaction: &mut M::Transaction,
        name: &str,
        epoch: u64,
        to: &[Checkpoint],
    ) -> Result<(), StoreError> {
        self.model.advance(transaction, name, epoch, to).await
    }

    async fn set_state(
        &self,
        transaction: &mut M::Transaction,
        name: &str,
        to: &ProjectionState,
    ) -> Result<(), StoreError> {
        self.model.set_state(transaction, name, to).await
    }

    async fn forget(
        &self,
        transaction: &mut M::Transaction,
        name: &str,
        log: Uuid,
    ) -> Result<(), StoreError> {
        self.model.forget(transaction, name, log).await
    }

    async fn blocked_streams(&self, name: &str) -> Result<Vec<BlockedStream>, StoreError> {
        self.model.blocked_streams(name).await
    }

    async fn find_blocked(
        &self,
        transaction: &mut M::Transaction,
        name: &str,
        stream: &StreamId,
    ) -> Result<Option<BlockedStream>, StoreError> {
        self.model.find_blocked(transaction, name, stream).await
    }

    async fn set_blocked(
        &self,
        transaction: &mut M::Transaction,
        name: &str,
        waiting: &BlockedStream,
    ) -> Result<(), StoreError> {
        self.model.set_blocked(transaction, name, waiting).await
    }

    async fn clear_blocked(
        &self,
        transaction: &mut M::Transaction,
        name: &str,
        stream: &StreamId,
    ) -> Result<(), StoreError> {
        self.model.clear_blocked(transaction, name, stream).await
    }
}
