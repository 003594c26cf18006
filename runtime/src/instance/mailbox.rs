//! One live instance: its committed state and its mailbox.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use composable_rust_core::codec::Codecs;
use composable_rust_core::event::{StoredContent, StoredEvent};
use composable_rust_core::{Aggregate, Id, StreamId};
use tokio::sync::{Notify, Semaphore};

use crate::error::LoadError;
use crate::instance::load::LoadedState;
use crate::instance::message::MailboxEntry;
use crate::panic::lock;

/// A live instance. An idle one takes about half a KiB besides its state.
pub(crate) struct Instance<A: Aggregate> {
    pub(crate) id: Id<A>,
    pub(crate) stream: StreamId,
    /// The free places of the mailbox.
    pub(crate) capacity: Arc<Semaphore>,
    /// Notified when the committed state changes.
    pub(crate) changed: Notify,
    mailbox: Mutex<Mailbox<A>>,
}

/// The mutable part of an instance.
pub(crate) struct Mailbox<A: Aggregate> {
    /// The last committed state; `None` until it is loaded.
    pub(crate) committed: Option<LoadedState<A>>,
    waiting: VecDeque<MailboxEntry<A>>,
    /// `true` while a task drains the mailbox.
    is_draining: bool,
    /// `true` while a task saves a snapshot.
    pub(crate) is_saving: bool,
    /// The number of snapshots in a row that were unfit to be saved.
    pub(crate) unfit_snapshots: u32,
    /// The arrival number of the next command or read; it orders both.
    pub(crate) next_arrival: u64,
    /// Commands and reads with a lower arrival number need no catch-up: the state was read, or
    /// confirmed by a commit, after they arrived.
    pub(crate) fresh_until_arrival: u64,
    /// The number of times that the state was dropped. A load or a commit that began before the
    /// last time is ignored.
    pub(crate) load_generation: u64,
}

impl<A: Aggregate> Mailbox<A> {
    fn forget(&mut self) {
        self.committed = None;
        self.fresh_until_arrival = 0;
        self.load_generation += 1;
    }

    fn confirm(&mut self, fresh_until: u64) {
        self.fresh_until_arrival = self.fresh_until_arrival.max(fresh_until);
    }
}

impl<A: Aggregate> Instance<A> {
    pub(crate) fn new(id: Id<A>, capacity: usize) -> Self {
        Self {
            stream: id.stream(),
            id,
            capacity: Arc::new(Semaphore::new(capacity)),
            changed: Notify::new(),
            mailbox: Mutex::new(Mailbox {
                committed: None,
                waiting: VecDeque::new(),
                is_draining: false,
                is_saving: false,
                unfit_snapshots: 0,
                next_arrival: 0,
                fresh_until_arrival: 0,
                load_generation: 0,
            }),
        }
    }

    /// Locks the mailbox. Users' code runs under this lock only to read a state, or guarded, so the
    /// data of a poisoned lock is whole.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Mailbox<A>> {
        lock(&self.mailbox)
    }

    /// Adds an entry to the mailbox. Returns `true` if the caller must start a drain.
    pub(crate) fn push(&self, mut entry: MailboxEntry<A>) -> bool {
        let mut mailbox = self.lock();
        entry.arrival = mailbox.next_arrival;
        mailbox.next_arrival += 1;
        mailbox.waiting.push_back(entry);
        !std::mem::replace(&mut mailbox.is_draining, true)
    }

    /// Takes the first `max` entries for the drain; `None` if the mailbox is empty, which ends the
    /// drain.
    pub(crate) fn take(&self, max: usize) -> Option<Vec<MailboxEntry<A>>> {
        let mut mailbox = self.lock();
        if mailbox.waiting.is_empty() {
            mailbox.is_draining = false;
            return None;
        }
        let count = mailbox.waiting.len().min(max);
        Some(mailbox.waiting.drain(..count).collect())
    }

    /// Returns entries that the drain has not handled to the front of the mailbox.
    pub(crate) fn put_back(&self, entries: Vec<MailboxEntry<A>>) {
        let mut mailbox = self.lock();
        for entry in entries.into_iter().rev() {
            mailbox.waiting.push_front(entry);
        }
    }

    /// Ends a drain that failed: drops the state and the waiting entries.
    pub(crate) fn abort_drain(&self) {
        let mut mailbox = self.lock();
        mailbox.is_draining = false;
        mailbox.forget();
        mailbox.waiting.clear();
    }

    /// Drops the state and ignores loads under way, so that the next command or read loads it
    /// again.
    pub(crate) fn forget(&self) {
        self.lock().forget();
    }

    /// The last committed state, if it is in memory, with [`Mailbox::fresh_until_arrival`].
    pub(crate) fn committed(&self) -> Option<(LoadedState<A>, u64)> {
        let mailbox = self.lock();
        mailbox.committed.clone().map(|committed| (committed, mailbox.fresh_until_arrival))
    }

    /// Installs a loaded state, unless the one in memory is as new.
    pub(crate) fn install(&self, loaded: LoadedState<A>, fresh_until: u64) {
        let mut mailbox = self.lock();
        if mailbox.load_generation != loaded.generation {
            return;
        }
        let is_newer =
            mailbox.committed.as_ref().is_none_or(|committed| committed.version < loaded.version);
        if is_newer {
            mailbox.committed = Some(loaded);
        }
        mailbox.confirm(fresh_until);
        drop(mailbox);
        if is_newer {
            self.changed.notify_waiters();
        }
    }

    /// Applies the events that the committed state lacks. Returns `false` if one of them is erased:
    /// the state may hold its content, so it is dropped.
    ///
    /// If an event cannot be applied, the state is dropped too, as it may be half changed.
    pub(crate) fn catch_up(
        &self,
        codecs: &Codecs,
        events: &[StoredEvent],
        fresh_until: u64,
        generation: u64,
    ) -> Result<bool, LoadError> {
        let mut mailbox = self.lock();
        if mailbox.load_generation != generation {
            return Ok(true);
        }
        if events.iter().any(|event| event.content == StoredContent::Erased) {
            mailbox.forget();
            return Ok(false);
        }
        let mut has_changed = false;
        for event in events {
            let Some(committed) = mailbox.committed.as_mut() else { break };
            // Another call may have applied the event in the meantime.
            if event.version > committed.version {
                if let Err(error) = committed.fold(codecs, event) {
                    mailbox.forget();
                    return Err(error);
                }
                has_changed = true;
            }
        }
        mailbox.confirm(fresh_until);
        drop(mailbox);
        if has_changed {
            self.changed.notify_waiters();
        }
        Ok(true)
    }

    /// Installs the state that a drain has committed, unless a newer one was read in the meantime.
    /// A read may also have stopped between two of the drain's events.
    pub(crate) fn commit(&self, after: LoadedState<A>, fresh_until: u64) {
        let mut mailbox = self.lock();
        if mailbox.load_generation == after.generation {
            if mailbox.committed.as_ref().is_none_or(|committed| committed.version < after.version)
            {
                mailbox.committed = Some(after);
            }
            mailbox.confirm(fresh_until);
        }
        drop(mailbox);
        self.changed.notify_waiters();
    }

    /// `true` if no command waits, and neither a drain nor a snapshot is under way.
    pub(crate) fn is_idle(&self) -> bool {
        let mailbox = self.lock();
        !mailbox.is_draining && !mailbox.is_saving && mailbox.waiting.is_empty()
    }
}
