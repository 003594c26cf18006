//! Comparison of states in memory and in snapshots with the log.

use std::collections::{BTreeMap, BTreeSet};

use composable_rust_core::codec::Codecs;
use composable_rust_core::event::StoredContent;
use composable_rust_core::store::{EventStore, Snapshot};
use composable_rust_core::{Aggregate, Id, Position, StreamId, Version, schema};
use composable_rust_runtime::App;
use futures_util::TryStreamExt as _;

use crate::failure::{Failure, pretty};

/// The number of events per partition of one page of the log.
const PAGE: usize = 1_000;

/// Asserts that the states of `A` in the memory of `app`, and the snapshots it would start from,
/// equal a fold of their streams at their versions, according to `log`.
///
/// Run it after a test with several processes, lost responses or crashes: a process with a wrong
/// state would go on to decide on it. `log` is the app's store, or a store of the same log that
/// does not fail. An instance that has yet to notice the erasure of its stream is left out.
///
/// # Panics
///
/// Panics if a state differs, the log cannot be read, or `A` is not registered.
///
/// ```
/// # use composable_rust_core::prelude::*;
/// # use composable_rust_runtime::App;
/// # use composable_rust_testing::{InMemoryEventStore, assert_states_match_log};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
/// # struct Counter(u32);
/// # #[derive(Debug, Clone, PartialEq, Message)]
/// # enum Count { Up }
/// # #[derive(Debug, Clone, PartialEq, Message)]
/// # enum Never {}
/// # impl Aggregate for Counter {
/// #     const NAME: &'static str = "counter";
/// #     type Command = Count;
/// #     type Event = Count;
/// #     type Rejection = Never;
/// #     type Environment = ();
/// #     fn decide(&self, command: Count, _: &Context<Self>) -> Decision<Self> { record(command) }
/// #     fn apply(&mut self, _: Count) { self.0 += 1 }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let store = InMemoryEventStore::new();
/// let app = App::builder(store.clone()).aggregate::<Counter>(()).build().unwrap();
/// app.handle(&Counter::id("1")).send(Count::Up).await.unwrap();
///
/// assert_states_match_log::<Counter>(&app, &store).await;
/// # }
/// ```
pub async fn assert_states_match_log<A: Aggregate>(app: &App, log: &impl EventStore) {
    let mut cached: BTreeMap<Id<A>, (A, Version)> =
        app.cached_states::<A>().into_iter().map(|(id, state, at)| (id, (state, at))).collect();
    let mut ids: BTreeSet<Id<A>> = cached.keys().cloned().collect();
    ids.extend(ids_with_events::<A>(log).await);
    let mut failures = Vec::new();
    for id in ids {
        let claims = claims(app.codecs(), log, &id.stream(), cached.remove(&id)).await;
        failures.extend(check(app.codecs(), log, &id.stream(), claims).await);
    }
    if let Some(first) = failures.into_iter().next() {
        first.raise();
    }
}

/// A claimed state of a stream at a version.
struct Claim<A> {
    whose: &'static str,
    version: Version,
    state: A,
}

async fn claims<A: Aggregate>(
    codecs: &Codecs,
    log: &impl EventStore,
    stream: &StreamId,
    cached: Option<(A, Version)>,
) -> Vec<Claim<A>> {
    let whose = "The state in memory";
    let cached = cached.map(|(state, version)| Claim { whose, version, state });
    let (fingerprint, _) = schema::fingerprint::<A>();
    let saved = log.load_snapshot(stream, fingerprint).await.expect("the snapshot is read");
    let saved = saved.map(|Snapshot { version, codec, bytes, .. }| {
        let state = codecs.decode_state(stream, &codec, &bytes);
        let state =
            state.unwrap_or_else(|error| panic!("{stream}: the snapshot is no state: {error}"));
        Claim { whose: "The snapshot", version, state }
    });
    cached.into_iter().chain(saved).collect()
}

/// Folds the stream and compares the claims with each state.
async fn check<A: Aggregate>(
    codecs: &Codecs,
    log: &impl EventStore,
    stream: &StreamId,
    claims: Vec<Claim<A>>,
) -> Vec<Failure> {
    let events: Vec<_> =
        log.load_events(stream, Version::ZERO).try_collect().await.expect("the stream is read");
    let erased = events.iter().rev().find(|event| event.content == StoredContent::Erased);
    let erased_at = erased.map_or(Version::ZERO, |event| event.version);
    let ended = events.last().is_some_and(|event| event.content == StoredContent::Closed);
    let learns_later = |claim: &Claim<A>| {
        erased.is_some() && (claim.version < erased_at || ended) && claim.whose != "The snapshot"
    };
    let mut folded = vec![A::default()];
    for event in &events {
        let mut state = folded[folded.len() - 1].clone();
        if let StoredContent::Present(content) = &event.content {
            let event = codecs.decode::<A::Event>(stream, content);
            state.apply(event.unwrap_or_else(|error| panic!("{stream}: {error}")));
        }
        folded.push(state);
    }
    let wrong = claims.into_iter().filter(|claim| !learns_later(claim)).filter_map(|claim| {
        let index = usize::try_from(claim.version.get()).unwrap_or(usize::MAX);
        let what = format!("{} of {stream} at version {}", claim.whose, claim.version);
        match folded.get(index) {
            None => Some(Failure::new(format!(
                "{what} is ahead of the stream, which ends at {}.",
                folded.len() - 1
            ))),
            Some(state) if *state != claim.state => Some(
                Failure::new(format!("{what} is not what the log says."))
                    .diff(&pretty(state), &pretty(&claim.state))
                    .text("What is marked - is the fold of the events; + is what is believed."),
            ),
            Some(_) => None,
        }
    });
    wrong.collect()
}

/// The ids of all instances of `A` with events.
async fn ids_with_events<A: Aggregate>(log: &impl EventStore) -> BTreeSet<Id<A>> {
    let mut after: Vec<Position> = log.log().start_positions();
    let mut ids = BTreeSet::new();
    loop {
        let page = log.read_log(&after, PAGE).await.expect("the log is read");
        if page.is_empty() {
            return ids;
        }
        for event in page {
            let at = &mut after[usize::from(event.position.partition)];
            at.offset = at.offset.max(event.position.offset);
            ids.extend(Id::of_stream(&event.stream));
        }
    }
}
