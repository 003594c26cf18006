//! Virtual time, apps, and waiting for events.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::environment::IdGenerator;
use composable_rust_core::message::{ReturnAddress, Tag};
use composable_rust_core::prelude::*;
use composable_rust_core::queue::{
    DeadLetter, DeadLetterDecision, DeadLetters as _, OutboxKind, OutboxMessage,
};
use composable_rust_core::store::{EventStore, NewOutboxRow};
use composable_rust_core::{CorrelationId, Metadata};
use composable_rust_runtime::settings::PolicySettings;
use composable_rust_runtime::{App, AppBuilder};
use composable_rust_testing::{
    InMemoryEventStore, SeededRng, SequentialIds, TokioClock, assert_states_match_log,
};

use super::actor::{Act, Actor, ActorCommand, Around, Broken, Outside};
use super::node::{Node, NodeProcess};

/// Starts a policy at the first event of the log.
pub(crate) fn from_start(policy: &mut PolicySettings) {
    policy.from_start = true;
}

/// The state shared by the processes of a test.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) clock: TokioClock,
    pub(crate) memory: InMemoryEventStore,
    pub(crate) broken: Broken,
    pub(crate) outside: Outside,
    pub(crate) ids: Ids,
    pub(crate) processes: Arc<AtomicU32>,
}

/// Ids shared by all processes of a test.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ids(Arc<SequentialIds>);

impl IdGenerator for Ids {
    fn new_id(&self) -> uuid::Uuid {
        self.0.new_id()
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let clock = TokioClock::new();
        let memory = InMemoryEventStore::new().with_clock(clock);
        Self {
            clock,
            memory,
            broken: Broken::default(),
            outside: Outside::default(),
            ids: Ids::default(),
            processes: Arc::default(),
        }
    }

    /// The environment of the actors of one more process.
    pub(crate) fn around(&self) -> Around {
        let process = self.processes.fetch_add(1, Ordering::Relaxed);
        Around { broken: self.broken.clone(), process }
    }

    /// An app on `store` with the actor and the gateway.
    pub(crate) fn builder(&self, store: impl EventStore) -> AppBuilder {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        self.bare_builder(store).aggregate::<Actor>(self.around()).gateway(self.outside.clone())
    }

    /// An app on `store` with only the world's time and ids.
    pub(crate) fn bare_builder(&self, store: impl EventStore) -> AppBuilder {
        App::builder(store).clock(self.clock).ids(self.ids.clone()).rng(SeededRng::new(1))
    }

    /// The same, with running workers.
    pub(crate) fn start(&self, store: impl EventStore) -> App {
        started(self.builder(store))
    }

    /// The same on the world's memory store.
    pub(crate) fn app(&self) -> App {
        self.start(self.memory.clone())
    }

    /// The same on a [`Node`], whose calls the test controls.
    pub(crate) fn node(&self) -> (Node<InMemoryEventStore>, App) {
        let node = NodeProcess::start(self.memory.clone());
        let app = self.start(node.clone());
        (node, app)
    }

    /// A message from one actor to another.
    pub(crate) fn row(&self, from: &str, to: &str, content: EncodedMessage) -> OutboxMessage {
        let id = self.ids.new_id();
        let metadata = Metadata {
            correlation_id: CorrelationId(id),
            causation_id: id,
            user: None,
            user_from: None,
            traceparent: None,
            return_addresses: vec![ReturnAddress {
                stream: Actor::id(from).stream(),
                target: "actor".to_owned(),
                tag: Tag {
                    variant: "actor.heard".to_owned(),
                    version: 1,
                    fields: 1,
                    value: "0".to_owned(),
                },
                service: None,
                seal: None,
            }],
            reply: None,
            follower: None,
        };
        OutboxMessage {
            sender: Actor::id(from).stream(),
            row: NewOutboxRow {
                id,
                kind: OutboxKind::Dispatch,
                target: "actor".to_owned(),
                recipient: Actor::id(to).stream().to_string(),
                content,
                metadata: serde_json::to_string(&metadata).unwrap(),
            },
        }
    }

    pub(crate) async fn dead_letters(&self) -> Vec<DeadLetter> {
        self.memory.dead_letters(None, 1_000).await.unwrap()
    }

    /// Waits for the first dead letter.
    pub(crate) async fn dead_letter(&self) -> DeadLetter {
        eventually("a dead letter", async || !self.dead_letters().await.is_empty()).await;
        self.dead_letters().await.remove(0)
    }

    pub(crate) async fn decide(&self, letter: &DeadLetter, decision: DeadLetterDecision) -> bool {
        let (partition, id) = (letter.queue.partition, letter.message.row.id);
        self.memory.decide_dead_letter(partition, id, decision).await.unwrap()
    }

    /// Asserts that the states of the apps match the log.
    pub(crate) async fn assert_states_match_log(&self, apps: &[&App]) {
        for app in apps {
            assert_states_match_log::<Actor>(app, &self.memory).await;
        }
    }

    /// Waits until no effects and no timers remain.
    pub(crate) async fn quiet(&self) {
        eventually("quiet", async || self.memory.is_idle()).await;
    }
}

pub(crate) fn started(builder: AppBuilder) -> App {
    let app = builder.build().unwrap();
    app.start();
    app
}

/// Sends an actor an act.
pub(crate) async fn tell_to(app: &App, id: &str, act: Act) {
    let sent = app.handle(&Actor::id(id)).send(ActorCommand::Do(act)).await;
    sent.unwrap_or_else(|error| panic!("{id}: {error}"));
}

/// The history of an actor, in words.
pub(crate) async fn log(app: &App, id: &str) -> Vec<String> {
    app.handle(&Actor::id(id)).state(|actor| actor.log.clone()).await.unwrap()
}

/// Waits until an actor's log holds `text`.
pub(crate) async fn heard(app: &App, id: &str, text: &str) {
    let found = |actor: &Actor| actor.log.iter().any(|line| line == text).then_some(());
    let waited = app.handle(&Actor::id(id)).wait(found, PATIENCE).await;
    let now = log(app, id).await;
    assert!(waited.is_ok(), "{id} never heard `{text}`, only {now:?}");
}

/// Longer than any test takes, in virtual time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);

/// Waits until a condition holds.
pub(crate) async fn eventually(what: &str, condition: impl AsyncFnMut() -> bool) {
    composable_rust_testing::eventually(what, PATIENCE, condition).await;
}

pub(crate) const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}
