//! The list of what runs, and under which ids.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use composable_rust_core::{EffectId, Timestamp};
use futures_util::future::{AbortHandle, AbortRegistration};

/// One life of an effect id: from when something starts under it until that is over, cancelled or
/// replaced.
#[derive(Debug)]
pub(super) struct Scope {
    id: EffectId,
    parent: Option<Arc<Scope>>,
    cancelled: AtomicBool,
}

impl Scope {
    /// From `scope` outwards.
    fn chain(scope: Option<&Arc<Self>>) -> impl Iterator<Item = &Arc<Self>> {
        std::iter::successors(scope, |scope| scope.parent.as_ref())
    }

    /// Whether it or one around it is cancelled. Changes only under the store's lock.
    pub(super) fn is_cancelled(scope: Option<&Arc<Self>>) -> bool {
        Self::chain(scope).any(|scope| scope.cancelled.load(Ordering::Relaxed))
    }
}

/// What is kept of one running effect.
#[derive(Debug)]
struct EffectSlot {
    abort: AbortHandle,
    /// When a delay ends.
    due: Option<Timestamp>,
    /// Whether the shutdown cancelled it.
    stopped: bool,
}

#[derive(Debug)]
struct Named {
    scope: Arc<Scope>,
    members: BTreeSet<usize>,
}

/// What runs.
#[derive(Debug, Default)]
pub(super) struct Running {
    /// By number; those of `free` are empty.
    seats: Vec<Option<EffectSlot>>,
    free: Vec<usize>,
    /// Each has members, except while one is being planned.
    ids: BTreeMap<EffectId, Named>,
    /// Set once the store shuts down.
    deadline: Option<Timestamp>,
    stopped: usize,
}

impl Running {
    pub(super) fn len(&self) -> usize {
        self.seats.len() - self.free.len()
    }

    /// How many effects the shutdown cancelled.
    pub(super) fn stopped(&self) -> usize {
        self.stopped
    }

    /// An effect starts in `scope`; `due` says when a delay ends.
    pub(super) fn enter(
        &mut self,
        scope: Option<&Arc<Scope>>,
        due: Option<Timestamp>,
    ) -> (usize, AbortHandle, AbortRegistration) {
        let number = self.free.pop().unwrap_or_else(|| {
            self.seats.push(None);
            self.seats.len() - 1
        });
        let (abort, registration) = AbortHandle::new_pair();
        for scope in Scope::chain(scope) {
            if let Some(named) = self.ids.get_mut(&scope.id) {
                named.members.insert(number);
            }
        }
        if Scope::is_cancelled(scope) {
            abort.abort();
        }
        let mut seat = EffectSlot { abort: abort.clone(), due, stopped: false };
        if self.deadline.is_some_and(|deadline| seat.outlasts(deadline)) {
            self.stopped += seat.stop();
        }
        self.seats[number] = Some(seat);
        (number, abort, registration)
    }

    /// An effect is over.
    pub(super) fn leave(&mut self, number: usize, scope: Option<&Arc<Scope>>) {
        self.seats[number] = None;
        self.free.push(number);
        for scope in Scope::chain(scope) {
            if let Entry::Occupied(mut named) = self.ids.entry(scope.id.clone()) {
                // Not a member of what replaced its scope.
                named.get_mut().members.remove(&number);
                if named.get().members.is_empty() {
                    named.remove();
                }
            }
        }
    }

    /// Whether the shutdown cancelled it.
    pub(super) fn is_stopped(&self, number: usize) -> bool {
        self.seats[number].as_ref().is_some_and(|seat| seat.stopped)
    }

    /// Something starts under `id`, inside `parent`; what runs under it is cancelled. `None` inside
    /// the same id: `parent` is within its scope already.
    pub(super) fn open(&mut self, id: EffectId, parent: Option<&Arc<Scope>>) -> Option<Arc<Scope>> {
        if Scope::chain(parent).any(|scope| scope.id == id) {
            return None;
        }
        self.cancel(&id);
        let cancelled = AtomicBool::new(false);
        let scope = Arc::new(Scope { id: id.clone(), parent: parent.cloned(), cancelled });
        self.ids.insert(id, Named { scope: Arc::clone(&scope), members: BTreeSet::new() });
        Some(scope)
    }

    /// Forgets the id if nothing started under it.
    pub(super) fn close_if_empty(&mut self, scope: &Arc<Scope>) {
        if self.ids.get(&scope.id).is_some_and(|named| named.members.is_empty()) {
            self.ids.remove(&scope.id);
        }
    }

    /// Cancels what runs under `id`.
    pub(super) fn cancel(&mut self, id: &EffectId) {
        let Some(named) = self.ids.remove(id) else { return };
        named.scope.cancelled.store(true, Ordering::Relaxed);
        for number in named.members {
            if let Some(seat) = &self.seats[number] {
                seat.abort.abort();
            }
        }
    }

    /// Cancels the delays that end after `deadline`, now and from now on.
    pub(super) fn stop_after(&mut self, deadline: Timestamp) {
        self.deadline = Some(deadline);
        for seat in self.seats.iter_mut().flatten().filter(|seat| seat.outlasts(deadline)) {
            self.stopped += seat.stop();
        }
    }

    /// Cancels everything.
    pub(super) fn stop(&mut self) {
        for seat in self.seats.iter_mut().flatten() {
            self.stopped += seat.stop();
        }
    }
}

impl EffectSlot {
    fn outlasts(&self, deadline: Timestamp) -> bool {
        self.due.is_some_and(|due| due > deadline)
    }

    fn stop(&mut self) -> usize {
        let first = !std::mem::replace(&mut self.stopped, true);
        self.abort.abort();
        usize::from(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_of_what_is_over() {
        let mut running = Running::default();
        for _ in 0..3 {
            let outer = running.open("outer".into(), None).expect("a scope");
            let inner = running.open("inner".into(), Some(&outer)).expect("a scope");
            let (first, ..) = running.enter(Some(&inner), None);
            let (second, ..) = running.enter(Some(&outer), None);
            running.leave(first, Some(&inner));
            assert_eq!(running.ids.keys().map(EffectId::as_str).collect::<Vec<_>>(), ["outer"]);
            running.leave(second, Some(&outer));
            assert!(running.ids.is_empty());
            assert_eq!((running.len(), running.seats.len()), (0, 2), "seats are taken again");
        }
    }

    #[test]
    fn what_is_replaced_leaves_its_successor_alone() {
        let mut running = Running::default();
        let old = running.open("x".into(), None).expect("a scope");
        let (first, old_abort, _) = running.enter(Some(&old), None);
        let new = running.open("x".into(), None).expect("a scope");
        let (_, new_abort, _) = running.enter(Some(&new), None);
        assert!(old_abort.is_aborted() && !new_abort.is_aborted());
        running.leave(first, Some(&old));
        running.cancel(&"x".into());
        assert!(new_abort.is_aborted());
    }
}
