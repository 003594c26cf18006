//! The suite of read models: the in-memory one passes it, broken ones do not.

use composable_rust_core::StreamId;
use composable_rust_core::projection::{
    BlockedStream, ProjectionRecord, ProjectionState, ReadModel,
};
use composable_rust_core::queue::Checkpoint;
use composable_rust_core::store::StoreError;
use composable_rust_testing::read_model_conformance::{Failure, ReadModelBackend, cases, run};
use composable_rust_testing::{InMemoryReadModel, InMemoryTransaction};
use uuid::Uuid;

struct Memory(InMemoryReadModel<i64>);

impl ReadModelBackend for Memory {
    type Model = InMemoryReadModel<i64>;

    async fn open(&self) -> InMemoryReadModel<i64> {
        self.0.clone()
    }

    async fn add(&self, connection: &mut i64, amount: i64) {
        *connection += amount;
    }

    async fn total(&self) -> i64 {
        self.0.get()
    }

    /// The case polls both transactions in turn, and beginning takes the lock at the first poll.
    async fn wait_for_blocked_transaction(&self) {
        tokio::task::yield_now().await;
    }
}

async fn memory() -> Memory {
    Memory(InMemoryReadModel::default())
}

composable_rust_testing::read_model_conformance!(memory);

/// The defect of a read model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    MovesNothing,
    ReadsOldCheckpoints,
    ReadsOldStates,
    LosesEpochs,
    BelongsToAnyLog,
    ForgetsNothing,
    LosesReasons,
    LosesRebuilds,
    LosesWaiting,
}

use Defect::{
    BelongsToAnyLog, ForgetsNothing, LosesEpochs, LosesReasons, LosesRebuilds, LosesWaiting,
    MovesNothing, ReadsOldCheckpoints, ReadsOldStates,
};

type Transaction = InMemoryTransaction<i64>;

#[derive(Clone)]
struct Wrong {
    model: InMemoryReadModel<i64>,
    defect: Defect,
}

impl ReadModel for Wrong {
    type Connection = i64;
    type Transaction = Transaction;

    async fn begin(&self) -> Result<Transaction, StoreError> {
        self.model.begin().await
    }

    async fn commit(&self, transaction: Transaction) -> Result<(), StoreError> {
        self.model.commit(transaction).await
    }

    async fn load(&self, name: &str) -> Result<Option<ProjectionRecord>, StoreError> {
        self.model.load(name).await
    }

    async fn lock(
        &self,
        transaction: &mut Transaction,
        name: &str,
        log: Uuid,
    ) -> Result<ProjectionRecord, StoreError> {
        let mut record = self.model.lock(transaction, name, log).await?;
        match self.defect {
            ReadsOldCheckpoints => record.checkpoints.clear(),
            ReadsOldStates => record.state = ProjectionState::Running,
            LosesEpochs => record.epoch = 0,
            BelongsToAnyLog => record.log = log,
            _ => {}
        }
        Ok(record)
    }

    async fn advance(
        &self,
        transaction: &mut Transaction,
        name: &str,
        epoch: u64,
        to: &[Checkpoint],
    ) -> Result<(), StoreError> {
        match self.defect {
            MovesNothing => Ok(()),
            _ => self.model.advance(transaction, name, epoch, to).await,
        }
    }

    async fn set_state(
        &self,
        transaction: &mut Transaction,
        name: &str,
        to: &ProjectionState,
    ) -> Result<(), StoreError> {
        match to {
            ProjectionState::Failed { .. } if self.defect == LosesReasons => {
                let to = ProjectionState::Failed { reason: String::new() };
                self.model.set_state(transaction, name, &to).await
            }
            ProjectionState::Paused if self.defect == LosesRebuilds => {
                self.model.set_state(transaction, name, &ProjectionState::Running).await?;
                self.model.set_state(transaction, name, to).await
            }
            to => self.model.set_state(transaction, name, to).await,
        }
    }

    async fn forget(
        &self,
        transaction: &mut Transaction,
        name: &str,
        log: Uuid,
    ) -> Result<(), StoreError> {
        match self.defect {
            ForgetsNothing => Ok(()),
            _ => self.model.forget(transaction, name, log).await,
        }
    }

    async fn blocked_streams(&self, name: &str) -> Result<Vec<BlockedStream>, StoreError> {
        self.model.blocked_streams(name).await
    }

    async fn find_blocked(
        &self,
        transaction: &mut Transaction,
        name: &str,
        stream: &StreamId,
    ) -> Result<Option<BlockedStream>, StoreError> {
        self.model.find_blocked(transaction, name, stream).await
    }

    async fn set_blocked(
        &self,
        transaction: &mut Transaction,
        name: &str,
        waiting: &BlockedStream,
    ) -> Result<(), StoreError> {
        match self.defect {
            LosesWaiting => Ok(()),
            _ => self.model.set_blocked(transaction, name, waiting).await,
        }
    }

    async fn clear_blocked(
        &self,
        transaction: &mut Transaction,
        name: &str,
        stream: &StreamId,
    ) -> Result<(), StoreError> {
        self.model.clear_blocked(transaction, name, stream).await
    }
}

impl ReadModelBackend for Wrong {
    type Model = Self;

    async fn open(&self) -> Self {
        self.clone()
    }

    async fn add(&self, connection: &mut i64, amount: i64) {
        *connection += amount;
    }

    async fn total(&self) -> i64 {
        self.model.get()
    }
}

/// A test that cannot fail proves nothing.
macro_rules! finds {
    ($($test:ident: $defect:expr, $case:ident;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let wrong = Wrong { model: InMemoryReadModel::default(), defect: $defect };
                let case = cases().into_iter().find(|case| case.name == stringify!($case));
                let outcome = run(case.expect("a case of the suite"), wrong).await;
                assert!(matches!(outcome, Err(Failure(_))), "{:?} passes all the same", $defect);
            }
        )*
    };
}

finds! {
    the_suite_finds_rebuilds_that_end_with_a_pause:
        LosesRebuilds, a_projection_is_rebuilding_until_it_runs;
    the_suite_finds_checkpoints_that_stay: MovesNothing, writes_and_checkpoints_commit_together;
    the_suite_finds_offsets_that_are_not_compared:
        ReadsOldCheckpoints, checkpoints_advance_only_from_their_current_offset;
    the_suite_finds_two_at_work: ReadsOldCheckpoints, one_of_two_concurrent_advances_is_late;
    the_suite_finds_missing_fences: LosesEpochs, a_lower_epoch_is_rejected;
    the_suite_finds_missing_fences_without_moves: LosesEpochs, the_epoch_is_checked_without_advances;
    the_suite_finds_projections_without_a_log:
        BelongsToAnyLog, a_projection_belongs_to_the_log_it_was_first_locked_for;
    the_suite_finds_what_is_not_forgotten: ForgetsNothing, forgetting_starts_a_rebuild;
    the_suite_finds_lost_reasons: LosesReasons, states_round_trip;
    the_suite_finds_lost_updates: ReadsOldStates, one_of_two_concurrent_state_changes_is_late;
    the_suite_finds_lost_streams: LosesWaiting, blocked_streams_round_trip;
}
