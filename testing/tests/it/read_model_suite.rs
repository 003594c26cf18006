//! The suite of read models: the one in memory passes it, wrong ones do not.

use composable_rust_core::{
    Checkpoint, ProjectionState, ReadModel, StoreError, StreamId, WaitingStream,
};
use composable_rust_testing::conformance::Failure;
use composable_rust_testing::read_model_conformance::{ReadModelBackend, cases, run};
use composable_rust_testing::{InMemoryReadModel, InMemoryTransaction};

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
}

async fn memory() -> Memory {
    Memory(InMemoryReadModel::default())
}

composable_rust_testing::read_model_conformance!(memory);

/// What is wrong with a read model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    MovesNothing,
    ComparesNoOffsets,
    FencesNobody,
    FencesOnlyWhatMoves,
    ForgetsNothing,
    LosesReasons,
    ChangesAnyState,
    LosesWaiting,
}

use Defect::{
    ChangesAnyState, ComparesNoOffsets, FencesNobody, FencesOnlyWhatMoves, ForgetsNothing,
    LosesReasons, LosesWaiting, MovesNothing,
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

    async fn load(&self, name: &str) -> Result<(Vec<Checkpoint>, ProjectionState), StoreError> {
        self.model.load(name).await
    }

    async fn advance(
        &self,
        transaction: &mut Transaction,
        name: &str,
        epoch: u64,
        moves: &[(u64, Checkpoint)],
    ) -> Result<bool, StoreError> {
        let model = &self.model;
        match self.defect {
            MovesNothing => Ok(true),
            ComparesNoOffsets => {
                let known = model.load(name).await?.0;
                let at = |p| known.iter().find(|c| c.partition == p).map_or(0, |c| c.offset);
                let moves: Vec<_> = moves.iter().map(|(_, to)| (at(to.partition), *to)).collect();
                model.advance(transaction, name, epoch, &moves).await
            }
            FencesNobody => model.advance(transaction, name, u64::MAX, moves).await,
            FencesOnlyWhatMoves if moves.is_empty() => Ok(true),
            _ => model.advance(transaction, name, epoch, moves).await,
        }
    }

    async fn forget(&self, transaction: &mut Transaction, name: &str) -> Result<(), StoreError> {
        match self.defect {
            ForgetsNothing => Ok(()),
            _ => self.model.forget(transaction, name).await,
        }
    }

    async fn set_state(
        &self,
        name: &str,
        from: Option<&ProjectionState>,
        to: &ProjectionState,
    ) -> Result<bool, StoreError> {
        let from = from.filter(|_| self.defect != ChangesAnyState);
        match to {
            ProjectionState::Failed { .. } if self.defect == LosesReasons => {
                let to = ProjectionState::Failed { reason: String::new() };
                self.model.set_state(name, from, &to).await
            }
            to => self.model.set_state(name, from, to).await,
        }
    }

    async fn waiting(&self, name: &str) -> Result<Vec<WaitingStream>, StoreError> {
        self.model.waiting(name).await
    }

    async fn find_waiting(
        &self,
        transaction: &mut Transaction,
        name: &str,
        stream: &StreamId,
    ) -> Result<Option<WaitingStream>, StoreError> {
        self.model.find_waiting(transaction, name, stream).await
    }

    async fn set_waiting(
        &self,
        transaction: &mut Transaction,
        name: &str,
        waiting: &WaitingStream,
    ) -> Result<(), StoreError> {
        match self.defect {
            LosesWaiting => Ok(()),
            _ => self.model.set_waiting(transaction, name, waiting).await,
        }
    }

    async fn end_waiting(
        &self,
        transaction: &mut Transaction,
        name: &str,
        stream: &StreamId,
    ) -> Result<(), StoreError> {
        self.model.end_waiting(transaction, name, stream).await
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
                let outcome = run(stringify!($case), wrong, cases::$case).await;
                assert!(matches!(outcome, Err(Failure(_))), "{:?} passes all the same", $defect);
            }
        )*
    };
}

finds! {
    the_suite_finds_checkpoints_that_stay: MovesNothing, writes_and_checkpoints_commit_together;
    the_suite_finds_offsets_that_are_not_compared:
        ComparesNoOffsets, checkpoints_move_only_from_where_they_are;
    the_suite_finds_two_at_work: ComparesNoOffsets, of_two_at_once_one_is_late;
    the_suite_finds_missing_fences: FencesNobody, a_lower_epoch_is_refused;
    the_suite_finds_fences_of_single_partitions:
        FencesOnlyWhatMoves, without_moves_the_epoch_is_looked_at;
    the_suite_finds_what_is_not_forgotten: ForgetsNothing, forgetting_begins_anew;
    the_suite_finds_lost_reasons: LosesReasons, states_come_back_as_they_went_in;
    the_suite_finds_lost_updates: ChangesAnyState, a_state_changes_only_from_what_it_is;
    the_suite_finds_lost_streams: LosesWaiting, waiting_streams_come_back_as_they_went_in;
}
