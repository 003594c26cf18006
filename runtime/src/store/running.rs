//! The running effects and their ids.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use composable_rust_core::Timestamp;
use composable_rust_core::effect::EffectId;
use futures_util::future::{AbortHandle, AbortRegistration};

/// One use of an effect id: from the start of its effects until they have ended, are cancelled or
/// replaced.
#[derive(Debug)]
pub(super) struct Scope {
    id: EffectId,
    parent: Option<Arc<Scope>>,
    cancelled: AtomicBool,
}

impl Scope {
    /// Returns `scope` and the scopes around it, from the inside out.
    fn chain(scope: Option<&Arc<Self>>) -> impl Iterator<Item = &Arc<Self>> {
        std::iter::successors(scope, |scope| scope.parent.as_ref())
    }

    /// Returns `true` if `scope` or a scope around it is cancelled. Changes only under the store's
    /// lock.
    pub(super) fn is_cancelled(scope: Option<&Arc<Self>>) -> bool {
        Self::chain(scope).any(|scope| scope.cancelled.load(Ordering::Relaxed))
    }
}

/// A running effect.
#[derive(Debug)]
struct EffectSlot {
    abort: AbortHandle,
    /// The end of a delay.
    due: Option<Timestamp>,
    /// `true` if the shutdown cancelled the effect.
    stopped: bool,
}

#[derive(Debug)]
struct Named {
    scope: Arc<Scope>,
    members: BTreeSet<usize>,
}

/// The running effects.
#[derive(Debug, Default)]
pub(super) struct Running {
    /// The effects by number; the slots in `free` are empty.
    slots: Vec<Option<EffectSlot>>,
    free: Vec<usize>,
    /// The ids in use. Each has members, except while its effects are planned.
    ids: BTreeMap<EffectId, Named>,
    /// The deadline of the shutdown, once it has begun.
    deadline: Option<Timestamp>,
    stopped: usize,
}

impl Running {
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Returns the number of effects that the shutdown cancelled.
    pub(super) fn stopped(&self) -> usize {
        self.stopped
    }

    /// Adds an effect in `scope`; `due` is the end of a delay.
    pub(super) fn enter(
        &mut self,
        scope: Option<&Arc<Scope>>,
        due: Option<Timestamp>,
    ) -> (usize, AbortHandle, AbortRegistration) {
        let number = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
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
        let mut slot = EffectSlot { abort: abort.clone(), due, stopped: false };
        if self.deadline.is_some_and(|deadline| slot.outlasts(deadline)) {
            self.stopped += slot.stop();
        }
        self.slots[number] = Some(slot);
        (number, abort, registration)
    }

    /// Removes an effect that has ended.
    pub(super) fn leave(&mut self, number: usize, scope: Option<&Arc<Scope>>) {
        self.slots[number] = None;
        self.free.push(number);
        for scope in Scope::chain(scope) {
            if let Entry::Occupied(mut named) = self.ids.entry(scope.id.clone()) {
                // If the scope was replaced, the effect is not a member of the new one.
                named.get_mut().members.remove(&number);
                if named.get().members.is_empty() {
                    named.remove();
                }
            }
        }
    }

    /// Returns `true` if the shutdown cancelled the effect.
    pub(super) fn is_stopped(&self, number: usize) -> bool {
        self.slots[number].as_ref().is_some_and(|slot| slot.stopped)
    }

    /// Opens a scope for `id` inside `parent`, and cancels the effects that run under the id.
    /// `None` if `parent` is itself inside a scope of the id.
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

    /// Removes the id if no effect has started under it.
    pub(super) fn close_if_empty(&mut self, scope: &Arc<Scope>) {
        if self.ids.get(&scope.id).is_some_and(|named| named.members.is_empty()) {
            self.ids.remove(&scope.id);
        }
    }

    /// Cancels the effects that run under `id`.
    pub(super) fn cancel(&mut self, id: &EffectId) {
        let Some(named) = self.ids.remove(id) else { return };
        named.scope.cancelled.store(true, Ordering::Relaxed);
        for number in named.members {
            if let Some(slot) = &self.slots[number] {
                slot.abort.abort();
            }
        }
    }

    /// Cancels the delays that end after `deadline`, also those that start from now on.
    pub(super) fn stop_after(&mut self, deadline: Timestamp) {
        self.deadline = Some(deadline);
        for slot in self.slots.iter_mut().flatten().filter(|slot| slot.outlasts(deadline)) {
            self.stopped += slot.stop();
        }
    }

    /// Cancels everything.
    pub(super) fn stop(&mut self) {
        for slot in self.slots.iter_mut().flatten() {
            self.stopped += slot.stop();
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
    fn ids_and_slots_of_ended_effects_are_freed() {
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
            assert_eq!((running.len(), running.slots.len()), (0, 2), "slots are reused");
        }
    }

    #[test]
    fn the_end_of_a_replaced_effect_does_not_affect_its_successor() {
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
