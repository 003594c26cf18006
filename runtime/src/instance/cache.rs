//! The live instances of one aggregate type.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use composable_rust_core::__private::encode_value;
use composable_rust_core::{Aggregate, Format, Id, Timestamp, Version};

use crate::Settings;
use crate::instance::mailbox::Instance;
use crate::instance::runtime::AggregateRuntime;
use crate::panic::{guarded, lock};

/// Live instances, the longest unused of which leave when there are too many, when their states take
/// too many bytes, or when they have been idle for long. An instance that anybody holds stays, so
/// there is never a second one.
pub(crate) struct Instances<A: Aggregate> {
    most: usize,
    max_bytes: usize,
    idle: Duration,
    rooms: usize,
    live: Mutex<LiveInstances<A>>,
}

/// What an instance takes besides its state.
const INSTANCE_BYTES: usize = 1_024;
/// States that a sweep encodes before it gives way.
const MAX_WEIGHED_PER_TURN: usize = 64;
/// Longest pause between two sweeps.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

struct LiveInstances<A: Aggregate> {
    by_id: BTreeMap<Id<A>, Entry<A>>,
    /// By the number of its last use.
    by_use: BTreeMap<u64, Id<A>>,
    uses: u64,
    /// The number of the next instance that is to leave first; it falls.
    retired: u64,
    /// What all of them take, as far as they were weighed.
    bytes: usize,
    /// The last use of which what it led to was weighed.
    weighed: u64,
    /// `true` while a task sweeps.
    is_swept: bool,
}

/// Uses are counted from here; what is numbered lower has nothing more to do.
const FIRST_USE: u64 = 1 << 62;

struct Entry<A: Aggregate> {
    instance: Arc<Instance<A>>,
    last_use: u64,
    used_at: Timestamp,
    bytes: usize,
}

impl<A: Aggregate> LiveInstances<A> {
    fn remove(&mut self, id: &Id<A>) {
        if let Some(entry) = self.by_id.remove(id) {
            self.bytes -= entry.bytes;
        }
    }

    fn weigh(&mut self, id: &Id<A>, bytes: usize) {
        if let Some(entry) = self.by_id.get_mut(id) {
            self.bytes = self.bytes - entry.bytes + bytes;
            entry.bytes = bytes;
        }
    }
}

impl<A: Aggregate> Instances<A> {
    pub(crate) fn new(settings: &Settings) -> Self {
        let live = LiveInstances {
            by_id: BTreeMap::new(),
            by_use: BTreeMap::new(),
            uses: FIRST_USE,
            retired: FIRST_USE,
            bytes: 0,
            weighed: FIRST_USE,
            is_swept: false,
        };
        Self {
            most: settings.max_live_instances.max(1),
            max_bytes: settings.max_live_bytes,
            idle: settings.idle_timeout,
            rooms: settings.mailbox_capacity,
            live: Mutex::new(live),
        }
    }

    fn lock(&self) -> MutexGuard<'_, LiveInstances<A>> {
        lock(&self.live)
    }

    /// The live instance of `id`, made if there is none.
    pub(crate) fn get(&self, id: &Id<A>, now: Timestamp) -> Arc<Instance<A>> {
        let mut live = self.lock();
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
        let bytes = INSTANCE_BYTES;
        let entry =
            Entry { instance: Arc::clone(&instance), last_use: number, used_at: now, bytes };
        live.bytes += bytes;
        live.by_id.insert(id.clone(), entry);
        live.by_use.insert(number, id.clone());
        self.evict(live, now);
        instance
    }

    /// Looks at no more than a few per call, so that a call stays short.
    fn evict(&self, live: &mut LiveInstances<A>, now: Timestamp) {
        const MAX_PROBES: usize = 8;
        self.evict_some(live, now, MAX_PROBES);
    }

    fn evict_some(&self, live: &mut LiveInstances<A>, now: Timestamp, looks: usize) {
        for _ in 0..looks {
            let Some((number, id)) = live.by_use.first_key_value() else { return };
            let (number, id) = (*number, id.clone());
            let Some(entry) = live.by_id.get(&id) else { return };
            let surplus =
                live.by_id.len() > self.most || live.bytes > self.max_bytes || number < FIRST_USE;
            if !surplus && now.since(entry.used_at) < self.idle {
                return;
            }
            live.by_use.remove(&number);
            // Others are made only under this lock, so a count of one is final.
            if Arc::strong_count(&entry.instance) == 1 && entry.instance.is_idle() {
                live.remove(&id);
            } else if let Some(entry) = live.by_id.get_mut(&id) {
                live.uses += 1;
                entry.last_use = live.uses;
                live.by_use.insert(live.uses, id);
            }
        }
    }

    /// Lets an instance that has finished leave memory before all others.
    pub(crate) fn retire(&self, id: &Id<A>) {
        let mut live = self.lock();
        let live = &mut *live;
        let Some(entry) = live.by_id.get_mut(id) else { return };
        if let Some(id) = live.by_use.remove(&entry.last_use) {
            live.retired -= 1;
            entry.last_use = live.retired;
            live.by_use.insert(live.retired, id);
        }
    }

    /// Takes in how large the state of an instance is that was loaded.
    pub(crate) fn weigh(&self, instance: &Instance<A>) {
        let bytes = weight(instance);
        self.lock().weigh(&instance.id, bytes);
    }

    /// Weighs what was used since the last sweep, and lets go of what has been idle for long or is too
    /// much. Returns `false` if none is left, and so nothing to be swept.
    async fn sweep(&self, now: Timestamp) -> bool {
        let used: Vec<_> = {
            let mut live = self.lock();
            let live = &mut *live;
            let after = std::mem::replace(&mut live.weighed, live.uses);
            let used = live.by_use.range(after + 1..).map(|(_, id)| &live.by_id[id].instance);
            used.map(Arc::clone).collect()
        };
        for (n, instance) in used.into_iter().enumerate() {
            self.weigh(&instance);
            // Encoding many states takes long, and others share the thread.
            if n % MAX_WEIGHED_PER_TURN == MAX_WEIGHED_PER_TURN - 1 {
                tokio::task::yield_now().await;
            }
        }
        let mut live = self.lock();
        let looks = live.by_id.len();
        self.evict_some(&mut live, now, looks);
        live.is_swept = !live.by_id.is_empty();
        live.is_swept
    }

    /// The states in memory.
    pub(crate) fn states(&self) -> Vec<(Id<A>, A, Version)> {
        let instances: Vec<_> = {
            let live = self.lock();
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
        self.lock().by_id.len()
    }
}

/// About what an instance takes: its state as it is encoded.
fn weight<A: Aggregate>(instance: &Instance<A>) -> usize {
    let mailbox = instance.lock();
    let Some(own) = &mailbox.committed else { return INSTANCE_BYTES };
    let encoded = guarded(|| encode_value(Format::Binary, &own.state));
    INSTANCE_BYTES
        + size_of::<A>()
        + encoded.ok().and_then(Result::ok).map_or(0, |bytes| bytes.len())
}

impl<A: Aggregate> AggregateRuntime<A> {
    /// The live instance of `id`, made if there is none.
    pub(crate) fn instance(self: &Arc<Self>, id: &Id<A>) -> Arc<Instance<A>> {
        let instance = self.instances.get(id, self.shared.clock.now());
        self.sweep_from_now_on();
        instance
    }

    /// Sweeps for as long as instances are in memory, also when none is used.
    fn sweep_from_now_on(self: &Arc<Self>) {
        let Ok(tokio) = tokio::runtime::Handle::try_current() else { return };
        if std::mem::replace(&mut self.instances.lock().is_swept, true) {
            return;
        }
        let clock = Arc::clone(&self.shared.clock);
        let pause = (self.instances.idle / 4).clamp(Duration::from_millis(100), SWEEP_INTERVAL);
        // Without a hold on the runtime, which ends with its app.
        let mut sweep = Sweep(Some(Arc::downgrade(self)));
        tokio.spawn(async move {
            loop {
                clock.sleep(pause).await;
                let Some(runtime) = sweep.runtime() else { return };
                if !runtime.instances.sweep(clock.now()).await {
                    return sweep.ends();
                }
            }
        });
    }
}

/// A task that sweeps. If its tokio runtime stops, another may begin.
struct Sweep<A: Aggregate>(Option<Weak<AggregateRuntime<A>>>);

impl<A: Aggregate> Sweep<A> {
    fn runtime(&self) -> Option<Arc<AggregateRuntime<A>>> {
        self.0.as_ref().and_then(Weak::upgrade)
    }

    /// Nothing is left to be swept, and another may have begun already.
    fn ends(&mut self) {
        self.0 = None;
    }
}

impl<A: Aggregate> Drop for Sweep<A> {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime() {
            runtime.instances.lock().is_swept = false;
        }
    }
}
