//! The live instances of one aggregate type, and their eviction.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use composable_rust_core::codec::Format;
use composable_rust_core::codec::encode_value;
use composable_rust_core::environment::Clock;
use composable_rust_core::{Aggregate, Id, Timestamp, Version};
use tokio::sync::Notify;

use crate::instance::mailbox::Instance;
use crate::instance::measure::InstanceGauges;
use crate::panic::{guarded, lock};
use crate::settings::Settings;

/// The live instances of one aggregate type.
///
/// The least recently used instances are evicted when there are too many, when their states take
/// too many bytes, or when they have been idle for long. An instance that is in use stays in
/// memory, so that there is never a second one of the same id.
pub(crate) struct Instances<A: Aggregate> {
    max_live: usize,
    max_bytes: usize,
    idle_timeout: Duration,
    mailbox_capacity: usize,
    clock: Arc<dyn Clock>,
    live: Mutex<LiveInstances<A>>,
    /// Ends the rest of the task that sweeps.
    used: Arc<Notify>,
    gauges: InstanceGauges,
}

/// The size of an instance besides its state, in bytes.
const INSTANCE_BYTES: usize = 1_024;
/// The number of states that a sweep encodes before it yields to other tasks.
const MAX_WEIGHED_PER_TURN: usize = 64;
/// The longest pause between two sweeps.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

struct LiveInstances<A: Aggregate> {
    by_id: BTreeMap<Id<A>, Entry<A>>,
    /// The ids by the number of the last use: the first is evicted first.
    by_use: BTreeMap<u64, Id<A>>,
    /// The number of the latest use.
    uses: u64,
    /// The number of the instance that retired last; it counts down from [`FIRST_USE`].
    retired: u64,
    /// The size of all instances, each as of its last weighing.
    bytes: usize,
    /// The latest use at the last sweep; instances used later are weighed by the next one.
    weighed: u64,
    /// `true` while a task sweeps.
    is_swept: bool,
    /// `true` while that task waits for the first instance to be idle for long, or to be used.
    is_resting: bool,
}

/// The number of the first use; lower numbers mark retired instances.
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
    pub(crate) fn new(settings: &Settings, clock: Arc<dyn Clock>) -> Self {
        let live = LiveInstances {
            by_id: BTreeMap::new(),
            by_use: BTreeMap::new(),
            uses: FIRST_USE,
            retired: FIRST_USE,
            bytes: 0,
            weighed: FIRST_USE,
            is_swept: false,
            is_resting: false,
        };
        Self {
            max_live: settings.max_live_instances.max(1),
            max_bytes: settings.max_live_bytes,
            idle_timeout: settings.idle_timeout,
            mailbox_capacity: settings.mailbox_capacity,
            clock,
            live: Mutex::new(live),
            used: Arc::new(Notify::new()),
            gauges: InstanceGauges::new(A::NAME),
        }
    }

    fn lock(&self) -> MutexGuard<'_, LiveInstances<A>> {
        lock(&self.live)
    }

    /// Returns the live instance of `id`, created if there is none.
    pub(crate) fn get(self: &Arc<Self>, id: &Id<A>) -> Arc<Instance<A>> {
        let instance = self.touch(id);
        self.start_sweeping();
        instance
    }

    fn touch(&self, id: &Id<A>) -> Arc<Instance<A>> {
        let now = self.clock.now();
        let mut live = self.lock();
        let live = &mut *live;
        live.uses += 1;
        let number = live.uses;
        if std::mem::take(&mut live.is_resting) {
            self.used.notify_one();
        }
        if let Some(entry) = live.by_id.get_mut(id) {
            let key = live.by_use.remove(&entry.last_use).unwrap_or_else(|| id.clone());
            live.by_use.insert(number, key);
            entry.last_use = number;
            entry.used_at = now;
            let instance = Arc::clone(&entry.instance);
            self.evict_few(live, now);
            self.gauges.set(live.by_id.len(), live.bytes);
            return instance;
        }
        let instance = Arc::new(Instance::new(id.clone(), self.mailbox_capacity));
        let bytes = INSTANCE_BYTES;
        let entry =
            Entry { instance: Arc::clone(&instance), last_use: number, used_at: now, bytes };
        live.bytes += bytes;
        live.by_id.insert(id.clone(), entry);
        live.by_use.insert(number, id.clone());
        self.evict_few(live, now);
        self.gauges.set(live.by_id.len(), live.bytes);
        instance
    }

    /// Probes only a few instances, so that a call is short.
    fn evict_few(&self, live: &mut LiveInstances<A>, now: Timestamp) {
        const MAX_PROBES: usize = 8;
        self.evict(live, now, MAX_PROBES);
    }

    fn evict(&self, live: &mut LiveInstances<A>, now: Timestamp, max_probes: usize) {
        for _ in 0..max_probes {
            let Some((number, id)) = live.by_use.first_key_value() else { return };
            let (number, id) = (*number, id.clone());
            let Some(entry) = live.by_id.get(&id) else { return };
            let is_surplus = live.by_id.len() > self.max_live
                || live.bytes > self.max_bytes
                || number < FIRST_USE;
            if !is_surplus && now.since(entry.used_at) < self.idle_timeout {
                return;
            }
            live.by_use.remove(&number);
            // New references are made only under this lock, so a count of one is reliable.
            if Arc::strong_count(&entry.instance) == 1 && entry.instance.is_idle() {
                live.remove(&id);
            } else if let Some(entry) = live.by_id.get_mut(&id) {
                live.uses += 1;
                entry.last_use = live.uses;
                live.by_use.insert(live.uses, id);
            }
        }
    }

    /// Marks an instance that has finished, so that it is evicted before all others.
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

    /// Updates the size of an instance whose state was loaded.
    pub(crate) fn weigh(&self, instance: &Instance<A>) {
        let bytes = weight(instance);
        let mut live = self.lock();
        live.weigh(&instance.id, bytes);
        self.gauges.set(live.by_id.len(), live.bytes);
    }

    /// Weighs the instances used since the last sweep, and evicts those that are idle or too many.
    /// Returns the time until the first of the others may be idle for long, if none was used; and
    /// `None` if no instance is left.
    async fn sweep(&self) -> Option<Duration> {
        let now = self.clock.now();
        let used: Vec<_> = {
            let mut live = self.lock();
            let live = &mut *live;
            let after = std::mem::replace(&mut live.weighed, live.uses);
            let used = live.by_use.range(after + 1..).map(|(_, id)| &live.by_id[id].instance);
            used.map(Arc::clone).collect()
        };
        let was_used = !used.is_empty();
        for (n, instance) in used.into_iter().enumerate() {
            self.weigh(&instance);
            // Encoding many states takes long, and other tasks share the thread.
            if n % MAX_WEIGHED_PER_TURN == MAX_WEIGHED_PER_TURN - 1 {
                tokio::task::yield_now().await;
            }
        }
        let mut live = self.lock();
        let all = live.by_id.len();
        self.evict(&mut live, now, all);
        let live = &mut *live;
        self.gauges.set(live.by_id.len(), live.bytes);
        live.is_swept = !live.by_id.is_empty();
        live.is_resting = live.is_swept && !was_used && live.weighed == live.uses;
        let first = live.by_use.first_key_value().and_then(|(_, id)| live.by_id.get(id))?;
        let idle = now.since(first.used_at);
        let wait = self.idle_timeout.saturating_sub(idle);
        Some(if live.is_resting { wait } else { Duration::ZERO })
    }

    /// Starts the task that sweeps, unless it runs. It ends when no instance is left.
    fn start_sweeping(self: &Arc<Self>) {
        let Ok(tokio) = tokio::runtime::Handle::try_current() else { return };
        if std::mem::replace(&mut self.lock().is_swept, true) {
            return;
        }
        let clock = Arc::clone(&self.clock);
        let pause = (self.idle_timeout / 4).clamp(Duration::from_millis(100), SWEEP_INTERVAL);
        // The task holds no strong reference, so that it ends with the app.
        let mut guard = SweepGuard(Some(Arc::downgrade(self)));
        tokio.spawn(async move {
            loop {
                clock.sleep(pause).await;
                let Some(instances) = guard.instances() else { return };
                let Some(rest) = instances.sweep().await else { return guard.disarm() };
                let used = Arc::clone(&instances.used);
                drop(instances);
                tokio::select! {
                    biased;
                    () = used.notified() => {}
                    () = clock.sleep(rest.saturating_sub(pause)) => {}
                }
            }
        });
    }

    /// Returns the states in memory.
    pub(crate) fn states(&self) -> Vec<(Id<A>, A, Version)> {
        let instances: Vec<_> = {
            let live = self.lock();
            live.by_id.values().map(|entry| Arc::clone(&entry.instance)).collect()
        };
        let state = |instance: Arc<Instance<A>>| {
            let mailbox = instance.lock();
            let committed = mailbox.committed.as_ref()?;
            Some((instance.id.clone(), committed.state.clone(), committed.version))
        };
        instances.into_iter().filter_map(state).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().by_id.len()
    }
}

impl<A: Aggregate> Drop for Instances<A> {
    fn drop(&mut self) {
        self.used.notify_one();
        self.gauges.set(0, 0);
    }
}

/// Returns the approximate size of an instance: its state is measured by its encoding.
fn weight<A: Aggregate>(instance: &Instance<A>) -> usize {
    let mailbox = instance.lock();
    let Some(committed) = &mailbox.committed else { return INSTANCE_BYTES };
    let encoded = guarded(|| encode_value(Format::Binary, &committed.state));
    INSTANCE_BYTES
        + size_of::<A>()
        + encoded.ok().and_then(Result::ok).map_or(0, |bytes| bytes.len())
}

/// Clears the `is_swept` flag on drop: if the tokio runtime stops, another may sweep.
struct SweepGuard<A: Aggregate>(Option<Weak<Instances<A>>>);

impl<A: Aggregate> SweepGuard<A> {
    fn instances(&self) -> Option<Arc<Instances<A>>> {
        self.0.as_ref().and_then(Weak::upgrade)
    }

    /// Leaves the flag to the sweep, which has cleared it: another task may sweep already.
    fn disarm(&mut self) {
        self.0 = None;
    }
}

impl<A: Aggregate> Drop for SweepGuard<A> {
    fn drop(&mut self) {
        if let Some(instances) = self.instances() {
            instances.lock().is_swept = false;
        }
    }
}
