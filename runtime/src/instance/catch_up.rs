//! Keeping the states in memory current: loading them, and reading what other processes append.

use composable_rust_core::Aggregate;
use composable_rust_core::store::EventStore as _;
use tracing::Instrument as _;

use crate::error::LoadError;
use crate::instance::load::{LoadedState, load, page};
use crate::instance::mailbox::Instance;
use crate::instance::runtime::AggregateRuntime;
use crate::spans;

impl<A: Aggregate> AggregateRuntime<A> {
    /// Returns the last committed state, loaded if it is not in memory, with
    /// [`Mailbox::fresh_until_arrival`](crate::instance::mailbox::Mailbox).
    pub(crate) async fn committed(
        &self,
        instance: &Instance<A>,
    ) -> Result<(LoadedState<A>, u64), LoadError> {
        loop {
            if let Some(committed) = instance.committed() {
                return Ok(committed);
            }
            let shared = &self.shared;
            let _permit = shared.loads.acquire().await;
            let (fresh_until, generation) = {
                let mailbox = instance.lock();
                // Another call may have loaded the state while this one waited for its permit.
                if mailbox.committed.is_some() {
                    continue;
                }
                (mailbox.next_arrival, mailbox.load_generation)
            };
            let stream = &instance.stream;
            let span = spans::load(shared.store.system(), stream);
            let loading = load(&shared.store, &shared.codecs, stream, self.fingerprint);
            let loaded = loading.instrument(span.clone()).await;
            if let Err(error) = &loaded {
                spans::failed(&span, if error.is_transient() { "unavailable" } else { "stuck" });
            }
            match &loaded {
                Err(error) if error.is_transient() => {}
                Err(error) => {
                    shared.stuck.failed(stream, error, (&*shared.clock, &*shared.rng));
                }
                Ok(_) => shared.stuck.recovered(stream),
            }
            instance.install(LoadedState { generation, ..loaded? }, fresh_until);
            self.instances.weigh(instance);
        }
    }

    /// Brings the committed state to the end of the stream, as it is at some moment after this call
    /// began.
    pub(crate) async fn catch_up(&self, instance: &Instance<A>) -> Result<(), LoadError> {
        let arrival = {
            let mut mailbox = instance.lock();
            mailbox.next_arrival += 1;
            mailbox.next_arrival - 1
        };
        loop {
            let (committed, fresh_until, generation) = {
                let mailbox = instance.lock();
                if mailbox.committed.is_some() && mailbox.fresh_until_arrival > arrival {
                    return Ok(());
                }
                let committed = mailbox.committed.as_ref().map(|committed| committed.version);
                (committed, mailbox.next_arrival, mailbox.load_generation)
            };
            let Some(after) = committed else {
                // The load may be another call's that began before this one, so check again.
                self.committed(instance).await?;
                continue;
            };
            let _permit = self.shared.loads.acquire().await;
            let store = &self.shared.store;
            let span = spans::load(store.system(), &instance.stream);
            let (tail, is_all) = page(store, &instance.stream, after).instrument(span).await?;
            // A partial page confirms nothing: the stream may have grown since its first page.
            let fresh_until = if is_all { fresh_until } else { 0 };
            if instance.catch_up(&self.shared.codecs, &tail, fresh_until, generation)? && is_all {
                return Ok(());
            }
        }
    }
}
