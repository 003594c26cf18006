//! The live instances of one aggregate type.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use composable_rust_core::{Aggregate, Id, Timestamp, Version};

use crate::instance::Instance;

/// Live instances, the longest unused of which leave when there are too many, or when they have
/// been idle for long. An instance that anybody holds stays, so there is never a second one.
pub(crate) struct Instances<A: Aggregate> {
    most: usize,
    idle: Duration,
    rooms: usize,
    live: Mutex<Live<A>>,
}

struct Live<A: Aggregate> {
    by_id: BTreeMap<Id<A>, Entry<A>>,
    /// By the number of its last use.
    by_use: BTreeMap<u64, Id<A>>,
    uses: u64,
    /// The number of the next instance that is to leave first; it falls.
    retired: u64,
}

/// Uses are counted from here; what is numbered lower has nothing more to do.
const FIRST_USE: u64 = 1 << 62;

struct Entry<A: Aggregate> {
    instance: Arc<Instance<A>>,
    last_use: u64,
    used_at: Timestamp,
}

impl<A: Aggregate> Instances<A> {
    pub(crate) fn new(most: usize, idle: Duration, rooms: usize) -> Self {
        let live = Live {
            by_id: BTreeMap::new(),
            by_use: BTreeMap::new(),
            uses: FIRST_USE,
            retired: FIRST_USE,
        };
        Self { most: most.max(1), idle, rooms, live: Mutex::new(live) }
    }

    /// The live instance of `id`, made if there is none.
    pub(crate) fn get(&self, id: &Id<A>, now: Timestamp) -> Arc<Instance<A>> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let live = &mut *live;
        live.uses += 1;
        let number = live.uses;
        if let Some(entry) = live.by_id.get_mut(id) {
            let key = live.by_use.remove(&entry.last_use).unwrap_or_else(|| id.clone());
            live.by_use.insert(number, key);
            entry.last_use = number;
            entry.used_at = now;
            let instance = Arc::clone(&entry.instance);
            self.evict(live, now);
            return instance;
        }
        let instance = Arc::new(Instance::new(id.clone(), self.rooms));
        let entry = Entry { instance: Arc::clone(&instance), last_use: number, used_at: now };
        live.by_id.insert(id.clone(), entry);
        live.by_use.insert(number, id.clone());
        self.evict(live, now);
        instance
    }

    /// Looks at no more than a few per call, so that a call stays short.
    fn evict(&self, live: &mut Live<A>, now: Timestamp) {
        const LOOKS: usize = 8;
        for _ in 0..LOOKS {
            let Some((number, id)) = live.by_use.first_key_value() else { return };
            let (number, id) = (*number, id.clone());
            let Some(entry) = live.by_id.get(&id) else { return };
            let surplus = live.by_id.len() > self.most || number < FIRST_USE;
            if !surplus && now.since(entry.used_at) < self.idle {
                return;
            }
            live.by_use.remove(&number);
            // Others are made only under this lock, so a count of one is final.
            if Arc::strong_count(&entry.instance) == 1 && entry.instance.is_idle() {
                live.by_id.remove(&id);
            } else if let Some(entry) = live.by_id.get_mut(&id) {
                live.uses += 1;
                entry.last_use = live.uses;
                live.by_use.insert(live.uses, id);
            }
        }
    }

    /// Lets an instance that has finished leave memory when another of its type is next used.
    pub(crate) fn retire(&self, id: &Id<A>) {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let live = &mut *live;
        let Some(entry) = live.by_id.get_mut(id) else { return };
        if let Some(id) = live.by_use.remove(&entry.last_use) {
            live.retired -= 1;
            entry.last_use = live.retired;
            live.by_use.insert(live.retired, id);
        }
    }

    /// The states in memory.
    pub(crate) fn states(&self) -> Vec<(Id<A>, A, Version)> {
        let instances: Vec<_> = {
            let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
            live.by_id.values().map(|entry| Arc::clone(&entry.instance)).collect()
        };
        let state = |instance: Arc<Instance<A>>| {
            let mailbox = instance.lock();
            let own = mailbox.committed.as_ref()?;
            Some((instance.id.clone(), own.state.clone(), own.version))
        };
        instances.into_iter().filter_map(state).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).by_id.len()
    }
}
