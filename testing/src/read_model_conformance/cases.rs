//! The cases.

#![allow(missing_docs, reason = "the names say it")]

use std::time::Duration;

use composable_rust_core::{
    BlockedStream, Checkpoint, EventId, ProjectionRecord, ProjectionState, ReadModel, StreamId,
    Version,
};
use uuid::Uuid;

use super::ReadModelBackend;

const NAME: &str = "totals";
const LOG: Uuid = Uuid::from_u128(u128::MAX - 7);

fn at(partition: u16, offset: u64) -> Checkpoint {
    let event_id = Some(EventId(Uuid::from_u64_pair(u64::from(partition), offset)));
    Checkpoint { partition, offset, event_id }
}

fn stream(name: &str) -> StreamId {
    name.parse().expect("a stream name")
}

fn waiting(name: &str, version: u64, ticket: u128) -> BlockedStream {
    let (stream, version) = (stream(name), Version::new(version));
    BlockedStream { stream, version, blockage_id: Uuid::from_u128(ticket) }
}

async fn begin<M: ReadModel>(model: &M) -> M::Transaction {
    model.begin().await.expect("a transaction begins")
}

async fn commit<M: ReadModel>(model: &M, transaction: M::Transaction) {
    model.commit(transaction).await.expect("the transaction commits");
}

async fn lock<M: ReadModel>(model: &M, transaction: &mut M::Transaction) -> ProjectionRecord {
    model.lock(transaction, NAME, LOG).await.expect("the database is there")
}

/// Moves checkpoints from the offsets given first, as a process under `epoch` does. Gives whether it
/// could.
async fn advance<M: ReadModel>(
    model: &M,
    transaction: &mut M::Transaction,
    epoch: u64,
    moves: &[(u64, Checkpoint)],
) -> bool {
    let record = lock(model, transaction).await;
    let of = |partition| record.checkpoints.iter().find(|at| at.partition == partition);
    let at = |partition| of(partition).map_or(0, |at| at.offset);
    let is_late = moves.iter().any(|(from, to)| at(to.partition) != *from);
    if is_late || record.epoch > epoch {
        return false;
    }
    let to: Vec<_> = moves.iter().map(|(_, to)| *to).collect();
    model.advance(transaction, NAME, epoch, &to).await.expect("the database is there");
    true
}

/// Moves in a transaction of its own. Gives whether it could.
async fn advanced<M: ReadModel>(model: &M, epoch: u64, moves: &[(u64, Checkpoint)]) -> bool {
    let mut transaction = begin(model).await;
    let done = advance(model, &mut transaction, epoch, moves).await;
    if done {
        commit(model, transaction).await;
    }
    done
}

async fn load<M: ReadModel>(model: &M) -> (Vec<Checkpoint>, ProjectionState) {
    let record = model.load(NAME).await.expect("the database is there");
    record.map(|record| (record.checkpoints, record.state)).unwrap_or_default()
}

async fn checkpoints<M: ReadModel>(model: &M) -> Vec<Checkpoint> {
    load(model).await.0
}

async fn set<M: ReadModel>(model: &M, to: &ProjectionState) {
    let mut transaction = begin(model).await;
    lock(model, &mut transaction).await;
    model.set_state(&mut transaction, NAME, to).await.expect("the database is there");
    commit(model, transaction).await;
}

/// Takes the lock and forgets.
async fn forget<M: ReadModel>(model: &M, transaction: &mut M::Transaction) {
    lock(model, transaction).await;
    model.forget(transaction, NAME, LOG).await.expect("the database is there");
}

async fn keep_waiting<M: ReadModel>(
    model: &M,
    transaction: &mut M::Transaction,
    waiting: &BlockedStream,
) {
    lock(model, transaction).await;
    model.set_blocked(transaction, NAME, waiting).await.expect("the database is there");
}

pub async fn nothing_is_known_of_an_unknown_projection(on: impl ReadModelBackend) {
    let model = on.open().await;
    assert_eq!(model.load(NAME).await.unwrap(), None);
    assert_eq!(model.blocked_streams(NAME).await.unwrap(), []);
    let mut transaction = begin(&model).await;
    let (state, checkpoints) = (ProjectionState::Running, Vec::new());
    let (rebuilds, rebuilding) = (0, false);
    let new = ProjectionRecord { log: LOG, state, checkpoints, epoch: 0, rebuilds, rebuilding };
    assert_eq!(lock(&model, &mut transaction).await, new);
    let found = model.find_blocked(&mut transaction, NAME, &stream("thing-1")).await;
    assert_eq!(found.unwrap(), None);
    drop(transaction);
    assert_eq!(model.load(NAME).await.unwrap(), None, "nothing was committed");
}

pub async fn a_projection_belongs_to_the_log_that_it_was_first_locked_for(
    on: impl ReadModelBackend,
) {
    let (model, other) = (on.open().await, Uuid::from_u128(8));
    assert!(advanced(&model, 3, &[(0, at(0, 5))]).await);
    let (state, checkpoints) = (ProjectionState::Running, vec![at(0, 5)]);
    let (rebuilds, rebuilding) = (0, false);
    let kept = ProjectionRecord { log: LOG, state, checkpoints, epoch: 3, rebuilds, rebuilding };
    let mut transaction = begin(&model).await;
    assert_eq!(model.lock(&mut transaction, NAME, other).await.unwrap(), kept);
    commit(&model, transaction).await;
    assert_eq!(model.load(NAME).await.unwrap(), Some(kept));

    let mut transaction = begin(&model).await;
    lock(&model, &mut transaction).await;
    model.forget(&mut transaction, NAME, other).await.unwrap();
    commit(&model, transaction).await;
    let (state, checkpoints) = (ProjectionState::Rebuilding, Vec::new());
    let (rebuilds, rebuilding) = (1, true);
    let adopted =
        ProjectionRecord { log: other, state, checkpoints, epoch: 0, rebuilds, rebuilding };
    assert_eq!(model.load(NAME).await.unwrap(), Some(adopted));
}

pub async fn a_dropped_transaction_leaves_nothing_behind(on: impl ReadModelBackend) {
    let model = on.open().await;
    let mut transaction = begin(&model).await;
    assert!(advance(&model, &mut transaction, 1, &[(0, at(0, 5))]).await);
    on.add(&mut transaction, 7).await;
    drop(transaction);
    assert_eq!((checkpoints(&model).await, on.total().await), (vec![], 0));
    assert!(advanced(&model, 1, &[(0, at(0, 3))]).await, "it holds nobody up");
}

pub async fn writes_and_checkpoints_commit_together(on: impl ReadModelBackend) {
    let (model, other) = (on.open().await, on.open().await);
    let mut transaction = begin(&model).await;
    assert!(advance(&model, &mut transaction, 1, &[(0, at(0, 5))]).await);
    on.add(&mut transaction, 7).await;
    assert_eq!((checkpoints(&other).await, on.total().await), (vec![], 0));
    commit(&model, transaction).await;
    for model in [model, other] {
        assert_eq!((checkpoints(&model).await, on.total().await), (vec![at(0, 5)], 7));
    }
}

pub async fn checkpoints_come_back_as_they_went_in(on: impl ReadModelBackend) {
    let model = on.open().await;
    let largest = at(1_023, i64::MAX.unsigned_abs());
    let without = Checkpoint { event_id: None, ..at(3, 9) };
    assert!(advanced(&model, 1, &[(0, largest), (0, without), (0, at(0, 1))]).await);
    assert_eq!(checkpoints(&model).await, [at(0, 1), without, largest]);
    let moves = [(9, at(3, 10)), (largest.offset, largest)];
    assert!(advanced(&model, 1, &moves).await, "one may stay where it is");
    assert_eq!(checkpoints(&model).await, [at(0, 1), at(3, 10), largest]);
}

pub async fn checkpoints_move_only_from_where_they_are(on: impl ReadModelBackend) {
    let model = on.open().await;
    assert!(!advanced(&model, 1, &[(4, at(0, 5))]).await, "there is none");
    assert!(advanced(&model, 1, &[(0, at(0, 5))]).await);
    for from in [0, 4, 6] {
        assert!(!advanced(&model, 1, &[(from, at(0, 9))]).await, "{from}");
    }
    assert_eq!(checkpoints(&model).await, [at(0, 5)]);
    assert!(advanced(&model, 1, &[(5, at(0, 9))]).await);
}

pub async fn of_several_moves_one_late_one_is_enough(on: impl ReadModelBackend) {
    let model = on.open().await;
    assert!(advanced(&model, 1, &[(0, at(0, 5)), (0, at(1, 5))]).await);
    assert!(!advanced(&model, 1, &[(5, at(0, 6)), (4, at(1, 6))]).await);
    assert!(!advanced(&model, 1, &[(5, at(0, 6)), (1, at(2, 6))]).await);
    assert_eq!(checkpoints(&model).await, [at(0, 5), at(1, 5)]);
}

pub async fn a_lower_epoch_is_refused(on: impl ReadModelBackend) {
    let model = on.open().await;
    assert!(advanced(&model, 3, &[(0, at(0, 5))]).await);
    assert!(advanced(&model, 4, &[(0, at(1, 5))]).await);
    for moved in [(5, at(0, 6)), (5, at(1, 6)), (0, at(2, 6))] {
        assert!(!advanced(&model, 3, &[moved]).await, "{moved:?}");
    }
    for epoch in [4, 4, 9] {
        let from = checkpoints(&model).await[0].offset;
        assert!(advanced(&model, epoch, &[(from, at(0, from + 1))]).await, "{epoch}");
    }
}

pub async fn without_moves_the_epoch_is_looked_at(on: impl ReadModelBackend) {
    let model = on.open().await;
    assert!(advanced(&model, 1, &[]).await);
    assert!(advanced(&model, 3, &[(0, at(0, 5))]).await);
    assert!(!advanced(&model, 2, &[]).await);
    assert!(advanced(&model, 3, &[]).await);
    assert_eq!(checkpoints(&model).await, [at(0, 5)]);
}

pub async fn of_two_at_once_one_is_late<B: ReadModelBackend>(on: B) {
    let models = (on.open().await, on.open().await);
    for round in 0..20 {
        let projecting = async |model: &B::Model, epoch: u64| {
            let mut transaction = begin(model).await;
            let moves = [(round * 5, at(0, round * 5 + 5))];
            let done = advance(model, &mut transaction, epoch, &moves).await;
            if done {
                tokio::task::yield_now().await;
                on.add(&mut transaction, 1).await;
                commit(model, transaction).await;
            }
            done
        };
        let both = futures_util::future::join(projecting(&models.0, 1), projecting(&models.1, 1));
        let done = both.await;
        assert!(done.0 != done.1, "in round {round} {done:?} were on time");
    }
    assert_eq!(on.total().await, 20);
}

pub async fn whoever_forgets_waits_for_whoever_projects(on: impl ReadModelBackend) {
    let (model, other) = (on.open().await, on.open().await);
    let mut transaction = begin(&model).await;
    assert!(advance(&model, &mut transaction, 1, &[(0, at(0, 5))]).await);
    on.add(&mut transaction, 7).await;
    let projecting = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        commit(&model, transaction).await;
    };
    let forgetting = async {
        let mut transaction = begin(&other).await;
        forget(&other, &mut transaction).await;
        let total = on.total().await;
        on.add(&mut transaction, -total).await;
        commit(&other, transaction).await;
    };
    futures_util::future::join(projecting, forgetting).await;
    assert_eq!((checkpoints(&model).await, on.total().await), (vec![], 0));
}

pub async fn forgetting_begins_anew(on: impl ReadModelBackend) {
    let model = on.open().await;
    assert!(advanced(&model, 7, &[(0, at(0, 5)), (0, at(1, 5))]).await);
    let mut transaction = begin(&model).await;
    keep_waiting(&model, &mut transaction, &waiting("thing-1", 1, 1)).await;
    commit(&model, transaction).await;

    let mut transaction = begin(&model).await;
    forget(&model, &mut transaction).await;
    drop(transaction);
    assert_eq!(load(&model).await, (vec![at(0, 5), at(1, 5)], ProjectionState::Running));

    for _ in 0..2 {
        let mut transaction = begin(&model).await;
        forget(&model, &mut transaction).await;
        commit(&model, transaction).await;
        assert_eq!(load(&model).await, (Vec::new(), ProjectionState::Rebuilding));
        assert_eq!(model.blocked_streams(NAME).await.unwrap(), []);
    }
    assert!(!advanced(&model, 7, &[(5, at(0, 6))]).await, "whoever was there is late");
    assert!(advanced(&model, 1, &[(0, at(0, 1))]).await, "epochs are forgotten");
}

pub async fn projections_are_apart(on: impl ReadModelBackend) {
    let model = on.open().await;
    let names = ["Totals", "totals ", "to'tals", "tötals", "totals/2"];
    for (n, name) in (1..).zip(names) {
        let mut transaction = begin(&model).await;
        model.lock(&mut transaction, name, LOG).await.unwrap();
        model.advance(&mut transaction, name, n, &[at(0, n)]).await.unwrap();
        let thing = waiting("thing-1", n, u128::from(n));
        model.set_blocked(&mut transaction, name, &thing).await.unwrap();
        commit(&model, transaction).await;
    }
    let mut transaction = begin(&model).await;
    for name in &names[..3] {
        model.lock(&mut transaction, name, LOG).await.unwrap();
    }
    model.forget(&mut transaction, names[1], LOG).await.unwrap();
    model.clear_blocked(&mut transaction, names[2], &stream("thing-1")).await.unwrap();
    model.set_state(&mut transaction, names[0], &ProjectionState::Paused).await.unwrap();
    commit(&model, transaction).await;
    let mut found = Vec::new();
    for name in names {
        let ProjectionRecord { checkpoints, state, .. } = model.load(name).await.unwrap().unwrap();
        found.push((checkpoints.len(), state, model.blocked_streams(name).await.unwrap().len()));
    }
    let running = (1, ProjectionState::Running, 1);
    let changed = [
        (1, ProjectionState::Paused, 1),
        (0, ProjectionState::Rebuilding, 0),
        (1, ProjectionState::Running, 0),
    ];
    assert_eq!(found[..3], changed);
    assert_eq!(found[3..], [running.clone(), running]);
}

pub async fn states_come_back_as_they_went_in(on: impl ReadModelBackend) {
    let (model, other) = (on.open().await, on.open().await);
    let failed = |reason: &str| ProjectionState::Failed { reason: reason.to_owned() };
    let states = [
        ProjectionState::Paused,
        failed("event 'x' at 3:17 – cannot \"be\"\nprojected"),
        ProjectionState::Rebuilding,
        failed(""),
        ProjectionState::Running,
    ];
    for state in states {
        set(&model, &state).await;
        assert_eq!(load(&other).await, (Vec::new(), state));
    }
    assert!(advanced(&model, 1, &[(0, at(0, 5))]).await);
    set(&model, &ProjectionState::Paused).await;
    assert_eq!(load(&other).await, (vec![at(0, 5)], ProjectionState::Paused));
    assert!(advanced(&model, 1, &[(5, at(0, 6))]).await, "a state stops nobody");
    assert_eq!(load(&other).await, (vec![at(0, 6)], ProjectionState::Paused));
}

pub async fn one_is_being_rebuilt_until_it_runs(on: impl ReadModelBackend) {
    use ProjectionState::{Failed, Paused, Rebuilding, Running};
    let (model, other) = (on.open().await, on.open().await);
    let kept = async || {
        let record = other.load(NAME).await.unwrap().unwrap();
        (record.state, record.rebuilds, record.rebuilding)
    };
    set(&model, &Paused).await;
    assert_eq!(kept().await, (Paused, 0, false));
    for rebuilds in 1..=3 {
        let mut transaction = begin(&model).await;
        forget(&model, &mut transaction).await;
        commit(&model, transaction).await;
        for state in [Paused, Rebuilding, Failed { reason: "why".to_owned() }] {
            set(&model, &state).await;
            assert_eq!(kept().await, (state, rebuilds, true));
        }
        if rebuilds != 2 {
            set(&model, &Running).await;
            assert_eq!(kept().await, (Running, rebuilds, false));
            set(&model, &Paused).await;
            assert_eq!(kept().await, (Paused, rebuilds, false));
        }
    }
}

pub async fn of_two_that_change_the_state_one_is_late<B: ReadModelBackend>(on: B) {
    use ProjectionState::{Paused, Running};
    let models = (on.open().await, on.open().await);
    for round in 0..20 {
        let pausing = async |model: &B::Model| {
            let mut transaction = begin(model).await;
            if lock(model, &mut transaction).await.state != Running {
                return false;
            }
            tokio::task::yield_now().await;
            model.set_state(&mut transaction, NAME, &Paused).await.unwrap();
            commit(model, transaction).await;
            true
        };
        let done = futures_util::future::join(pausing(&models.0), pausing(&models.1)).await;
        assert!(done.0 != done.1, "in round {round} {done:?} found it running");
        set(&models.0, &Running).await;
    }
}

pub async fn loading_does_not_wait(on: impl ReadModelBackend) {
    let (model, other) = (on.open().await, on.open().await);
    let mut transaction = begin(&model).await;
    assert!(advance(&model, &mut transaction, 1, &[(0, at(0, 5))]).await);
    on.add(&mut transaction, 1).await;
    for model in [&model, &other] {
        let loaded = tokio::time::timeout(Duration::from_secs(5), load(model)).await;
        assert_eq!(loaded.expect("it does not wait"), (Vec::new(), ProjectionState::Running));
        let waiting =
            tokio::time::timeout(Duration::from_secs(5), model.blocked_streams(NAME)).await;
        assert_eq!(waiting.expect("nor does this").unwrap(), []);
    }
    commit(&model, transaction).await;
}

pub async fn waiting_streams_come_back_as_they_went_in(on: impl ReadModelBackend) {
    let (model, other) = (on.open().await, on.open().await);
    let streams = [
        waiting("thing-1", 0, 1),
        waiting("thing-2", 2, 2),
        waiting("thing-B", i64::MAX.unsigned_abs(), u128::MAX),
        waiting("thing-a", 3, 3),
    ];
    for waiting in streams.iter().rev() {
        let mut transaction = begin(&model).await;
        keep_waiting(&model, &mut transaction, waiting).await;
        commit(&model, transaction).await;
    }
    assert_eq!(other.blocked_streams(NAME).await.unwrap(), streams);

    let later = waiting("thing-1", 1, 3);
    let mut transaction = begin(&model).await;
    for kept in [&streams[0], &later] {
        keep_waiting(&model, &mut transaction, kept).await;
        let found = model.find_blocked(&mut transaction, NAME, &kept.stream).await.unwrap();
        assert_eq!(found.as_ref(), Some(kept));
    }
    for name in ["thing-2", "thing-3"] {
        model.clear_blocked(&mut transaction, NAME, &stream(name)).await.unwrap();
        assert_eq!(model.find_blocked(&mut transaction, NAME, &stream(name)).await.unwrap(), None);
    }
    commit(&model, transaction).await;
    let [_, _, upper, lower] = streams;
    assert_eq!(other.blocked_streams(NAME).await.unwrap(), [later, upper, lower]);
}

pub async fn waiting_streams_commit_with_the_rest<B: ReadModelBackend>(on: B) {
    let model = on.open().await;
    let thing = waiting("thing-1", 4, 1);
    for commits in [false, true] {
        let mut transaction = begin(&model).await;
        keep_waiting(&model, &mut transaction, &thing).await;
        on.add(&mut transaction, 1).await;
        if commits {
            commit(&model, transaction).await;
        } else {
            drop(transaction);
        }
        assert_eq!(model.blocked_streams(NAME).await.unwrap().len(), usize::from(commits));
        assert_eq!(on.total().await, i64::from(commits));
    }
    // Two that look at the same stream take turns.
    let other = on.open().await;
    let projecting = async |model: &B::Model| {
        let mut transaction = begin(model).await;
        lock(model, &mut transaction).await;
        let found = model.find_blocked(&mut transaction, NAME, &thing.stream).await.unwrap();
        if found.is_some_and(|found| found.version < Version::new(5)) {
            on.add(&mut transaction, 10).await;
            let version = Version::new(5);
            let done = BlockedStream { version, ..thing.clone() };
            model.set_blocked(&mut transaction, NAME, &done).await.unwrap();
            commit(model, transaction).await;
        }
    };
    futures_util::future::join(projecting(&model), projecting(&other)).await;
    assert_eq!(on.total().await, 11);
}
