//! Execution of effects.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use composable_rust_core::effect::{DatabaseEffect, EffectId};
use composable_rust_core::environment::Clock as _;
use composable_rust_core::store::Due;
use composable_rust_core::{Effect, Effects, Timestamp};

use crate::MockClock;
use crate::failure::{code, duration_code};

/// The number of times that futures that wake themselves are polled again in one step.
const ROUNDS: usize = 1_000;

/// The running effects as a forest: the node of a group stays until its last child ends.
pub(super) struct Running<A> {
    clock: MockClock,
    nodes: BTreeMap<u64, Node<A>>,
    started: u64,
    /// Groups with a cancelled child. They continue once the effects of the cancelling action have
    /// started.
    cancelled: VecDeque<u64>,
}

struct Node<A> {
    parent: Option<u64>,
    cancelled_by: Option<EffectId>,
    work: Work<A>,
}

enum Work<A> {
    Delay {
        due: Timestamp,
        action: Box<A>,
    },
    Future(Pin<Box<dyn Future<Output = Option<A>>>>),
    Database(Box<DatabaseEffect<A>>),
    /// The number of unfinished children; starting them counts as one.
    Parallel(usize),
    Sequential(VecDeque<Effect<A>>),
    Cancellable,
}

/// A finished effect.
pub(super) struct FinishedEffects<A> {
    pub(super) action: Option<A>,
    pub(super) parent: Option<u64>,
}

impl<A: 'static> Running<A> {
    pub(super) fn new(clock: MockClock) -> Self {
        Self { clock, nodes: BTreeMap::new(), started: 0, cancelled: VecDeque::new() }
    }

    pub(super) fn set_clock(&mut self, clock: MockClock) {
        self.clock = clock;
    }

    pub(super) fn clock(&self) -> &MockClock {
        &self.clock
    }

    pub(super) fn start_all(&mut self, effects: Effects<A>) {
        for effect in effects {
            self.start(effect, None);
        }
    }

    fn start(&mut self, effect: Effect<A>, parent: Option<u64>) {
        match effect {
            Effect::Delay(delay) => {
                let due = match delay.due {
                    Due::After(duration) => self.clock.now() + duration,
                    Due::At(moment) => moment,
                };
                let work = Work::Delay { due, action: Box::new(delay.action) };
                self.add(parent, delay.id, work);
            }
            Effect::Future(work) => {
                // All futures are polled within the test's one task. If they shared its budget,
                // tokio would make them wait for a turn that never comes.
                self.add(parent, None, Work::Future(Box::pin(tokio::task::unconstrained(work))));
            }
            Effect::Database(database) => {
                self.add(parent, None, Work::Database(database));
            }
            Effect::Cancel(id) => {
                self.cancel(&id);
                self.ended(parent);
            }
            Effect::Cancellable(id, effect) => {
                let node = self.add(parent, Some(id), Work::Cancellable);
                self.start(*effect, Some(node));
            }
            Effect::Parallel(effects) => {
                let node = self.add(parent, None, Work::Parallel(effects.len() + 1));
                for effect in effects {
                    if self.nodes.contains_key(&node) {
                        self.start(effect, Some(node));
                    }
                }
                self.ended(Some(node));
            }
            Effect::Sequential(effects) => {
                let node = self.add(parent, None, Work::Sequential(effects.into()));
                self.ended(Some(node));
            }
            // Effects that leave the store are finished once they are asserted.
            _ => self.ended(parent),
        }
    }

    /// Replaces the running effect of the same id; an id nested in itself is one scope.
    fn add(&mut self, parent: Option<u64>, id: Option<EffectId>, work: Work<A>) -> u64 {
        let id = id.filter(|id| !self.is_inside(parent, id));
        if let Some(id) = &id {
            self.cancel(id);
        }
        self.started += 1;
        self.nodes.insert(self.started, Node { parent, cancelled_by: id, work });
        self.started
    }

    fn is_inside(&self, parent: Option<u64>, id: &EffectId) -> bool {
        let above = |node: &&Node<A>| node.parent.and_then(|key| self.nodes.get(&key));
        let first = parent.and_then(|key| self.nodes.get(&key));
        std::iter::successors(first, above).any(|node| node.cancelled_by.as_ref() == Some(id))
    }

    /// Handles the end of a child of `node`, or of an effect without a parent.
    fn ended(&mut self, node: Option<u64>) {
        let Some(key) = node else { return };
        let Some(node) = self.nodes.get_mut(&key) else { return };
        match &mut node.work {
            Work::Parallel(children) if *children > 1 => *children -= 1,
            Work::Sequential(rest) => match rest.pop_front() {
                Some(next) => self.start(next, Some(key)),
                None => self.remove(key),
            },
            _ => self.remove(key),
        }
    }

    fn remove(&mut self, key: u64) {
        if let Some(node) = self.nodes.remove(&key) {
            self.ended(node.parent);
        }
    }

    /// Ends the effect `id` and all nested effects; effects that wait for it continue later.
    fn cancel(&mut self, id: &EffectId) {
        let mut nodes = self.nodes.iter();
        let Some(key) =
            nodes.find(|(_, node)| node.cancelled_by.as_ref() == Some(id)).map(|(key, _)| *key)
        else {
            return;
        };
        let parent = self.take(key).and_then(|(parent, _)| parent);
        self.remove_orphans();
        self.cancelled.extend(parent);
    }

    fn remove_orphans(&mut self) {
        // A child's key is higher than its parent's, so one pass visits parents first.
        let keys: Vec<_> = self.nodes.keys().copied().collect();
        for key in keys {
            let parent = self.nodes.get(&key).and_then(|node| node.parent);
            if parent.is_some_and(|parent| !self.nodes.contains_key(&parent)) {
                self.nodes.remove(&key);
            }
        }
    }

    /// Ends all effects.
    pub(super) fn cancel_all(&mut self) {
        self.nodes.clear();
    }

    /// Returns the next finished effect: delays by their time, then futures in the order in which
    /// they started.
    pub(super) fn next_done(&mut self) -> Option<FinishedEffects<A>> {
        while let Some(parent) = self.cancelled.pop_front() {
            self.ended(Some(parent));
        }
        let now = self.clock.now();
        let due = self.delays().min().filter(|(due, _)| *due <= now);
        if let Some((_, key)) = due {
            return self.take(key).map(|(parent, work)| match work {
                Work::Delay { action, .. } => FinishedEffects { action: Some(*action), parent },
                _ => FinishedEffects { action: None, parent },
            });
        }
        let woken = Arc::new(WakeFlag(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&woken));
        for _ in 0..ROUNDS {
            if !woken.0.swap(false, Ordering::Relaxed) {
                return None;
            }
            if let Poll::Ready(done) = self.poll(&mut Context::from_waker(&waker)) {
                return Some(done);
            }
        }
        None
    }

    /// Polls the futures up to the first that completes.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<FinishedEffects<A>> {
        let done = self.nodes.iter_mut().find_map(|(key, node)| match &mut node.work {
            Work::Future(work) => match work.as_mut().poll(cx) {
                Poll::Ready(action) => Some((*key, action)),
                Poll::Pending => None,
            },
            _ => None,
        });
        let Some((key, action)) = done else { return Poll::Pending };
        let parent = self.take(key).and_then(|(parent, _)| parent);
        Poll::Ready(FinishedEffects { action, parent })
    }

    fn take(&mut self, key: u64) -> Option<(Option<u64>, Work<A>)> {
        self.nodes.remove(&key).map(|node| (node.parent, node.work))
    }

    /// Continues effects that waited for this one, once its action is handled.
    pub(super) fn go_on_after(&mut self, parent: Option<u64>) {
        self.ended(parent);
    }

    /// The oldest database effect that waits for its result.
    pub(super) fn take_database(&mut self) -> Option<(DatabaseEffect<A>, Option<u64>)> {
        let mut nodes = self.nodes.iter();
        let key =
            nodes.find(|(_, node)| matches!(node.work, Work::Database(_))).map(|(k, _)| *k)?;
        match self.take(key)? {
            (parent, Work::Database(database)) => Some((*database, parent)),
            _ => None,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        let delay = self.delays().min().map(|(due, _)| due);
        delay.into_iter().chain(self.clock.next_deadline()).min()
    }

    fn delays(&self) -> impl Iterator<Item = (Timestamp, u64)> + '_ {
        self.nodes.iter().filter_map(|(key, node)| match node.work {
            Work::Delay { due, .. } => Some((due, *key)),
            _ => None,
        })
    }

    pub(super) fn has_futures(&self) -> bool {
        self.nodes.values().any(|node| matches!(node.work, Work::Future(_)))
    }
}

impl<A: Debug + 'static> Running<A> {
    /// The running effects as the test would write them; groups are named by their contents.
    pub(super) fn describe(&self) -> Vec<String> {
        let now = self.clock.now();
        self.nodes
            .values()
            .filter_map(|node| match &node.work {
                Work::Delay { due, action } => {
                    let wait = duration_code(due.since(now));
                    Some(format!(
                        "a delay that brings back `{}`: store.advance({wait})",
                        code(action, false)
                    ))
                }
                Work::Future(_) => Some(
                    "a future that is not done: complete what it waits for, advance the clock if \
                     it sleeps by it, or let tokio run with store.settle(limit).await"
                        .to_owned(),
                ),
                Work::Database(database) => Some(format!(
                    "a database effect that waits for its answer, `{}`: store.respond(Ok(…))",
                    code(&database.operation, false)
                )),
                Work::Parallel(_) | Work::Sequential(_) | Work::Cancellable => None,
            })
            .collect()
    }
}

struct WakeFlag(AtomicBool);

impl Wake for WakeFlag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}
