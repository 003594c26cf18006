//! One live instance: its committed state and its mailbox.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use composable_rust_core::{Aggregate, Codecs, Id, Receipt, StoredContent, StoredEvent, StreamId};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use crate::error::{LoadError, SendError};
use crate::instance::decide::PendingCommand;
use crate::instance::load::LoadedState;
use crate::panic::lock;

pub(crate) type SendResult<A> = Result<Receipt, SendError<<A as Aggregate>::Rejection>>;

/// A message in the mailbox.
pub(crate) struct MailboxEntry<A: Aggregate> {
    pub(crate) question: PendingCommand<A::Command>,
    pub(crate) reply: oneshot::Sender<SendResult<A>>,
    /// How many letters and loads came before, see [`Mailbox::fresh`].
    pub(crate) arrival: u64,
    /// Its room in the mailbox.
    pub(crate) _room: OwnedSemaphorePermit,
}

/// A live instance. Idle, it is its state and about half a KiB.
pub(crate) struct Instance<A: Aggregate> {
    pub(crate) id: Id<A>,
    pub(crate) stream: StreamId,
    pub(crate) rooms: Arc<Semaphore>,
    pub(crate) moved: Notify,
    mailbox: Mutex<Mailbox<A>>,
}

/// What of an instance changes.
pub(crate) struct Mailbox<A: Aggregate> {
    /// The last committed state; `None` until it is loaded.
    pub(crate) committed: Option<LoadedState<A>>,
    pub(crate) waiting: VecDeque<MailboxEntry<A>>,
    /// Whether a task is draining it.
    pub(crate) draining: bool,
    /// Whether a task is saving a snapshot.
    pub(crate) saving: bool,
    /// How many snapshots were unfit to be saved since one was saved.
    pub(crate) unfit_snapshots: u32,
    /// Counts arrivals.
    pub(crate) clock: u64,
    /// Letters that arrived before this are younger than nothing that the state lacks: the state
    /// was read, or proved current by a commit, after they arrived.
    pub(crate) fresh: u64,
    /// Rises when the state is dropped, so that what was made of it before is not taken in.
    pub(crate) generation: u64,
}

impl<A: Aggregate> Mailbox<A> {
    pub(crate) fn forget(&mut self) {
        self.committed = None;
        self.fresh = 0;
        self.generation += 1;
    }
}

impl<A: Aggregate> Instance<A> {
    pub(crate) fn new(id: Id<A>, rooms: usize) -> Self {
        Self {
            stream: id.stream(),
            id,
            rooms: Arc::new(Semaphore::new(rooms)),
            moved: Notify::new(),
            mailbox: Mutex::new(Mailbox {
                committed: None,
                waiting: VecDeque::new(),
                draining: false,
                saving: false,
                unfit_snapshots: 0,
                clock: 0,
                fresh: 0,
                generation: 0,
            }),
        }
    }

    /// Users' code runs under this lock only to read a state, or guarded, so a poisoned one is
    /// still whole.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Mailbox<A>> {
        lock(&self.mailbox)
    }

    /// Drops the state, and whatever is being made of it: it is loaded anew.
    pub(crate) fn forget(&self) {
        self.lock().forget();
    }

    /// The last committed state, if it is in memory, and how fresh it is: see [`Mailbox::fresh`].
    pub(crate) fn committed(&self) -> Option<(LoadedState<A>, u64)> {
        let mailbox = self.lock();
        mailbox.committed.clone().map(|committed| (committed, mailbox.fresh))
    }

    /// Takes in a state that was loaded; one that is older than what is there is ignored.
    pub(crate) fn install(&self, loaded: LoadedState<A>, fresh: u64) {
        let mut mailbox = self.lock();
        if mailbox.generation != loaded.generation {
            return;
        }
        let newer = mailbox.committed.as_ref().is_none_or(|own| own.version < loaded.version);
        if newer {
            mailbox.committed = Some(loaded);
        }
        mailbox.fresh = mailbox.fresh.max(fresh);
        drop(mailbox);
        if newer {
            self.moved.notify_waiters();
        }
    }

    /// Applies the events that the committed state lacks, and says whether it has done so. If one
    /// cannot be applied, the state is dropped: it may be half-changed. So it is if one of them is
    /// erased, for the state may hold what was.
    pub(crate) fn catch_up(
        &self,
        codecs: &Codecs,
        events: &[StoredEvent],
        fresh: u64,
        generation: u64,
    ) -> Result<bool, LoadError> {
        let mut mailbox = self.lock();
        if mailbox.generation != generation {
            return Ok(true);
        }
        if events.iter().any(|event| event.content == StoredContent::Erased) {
            mailbox.forget();
            return Ok(false);
        }
        let mut moved = false;
        for event in events {
            let Some(own) = mailbox.committed.as_mut() else { break };
            // What is not above it, somebody else has read meanwhile.
            if event.version > own.version {
                if let Err(error) = own.fold(codecs, event) {
                    mailbox.forget();
                    return Err(error);
                }
                moved = true;
            }
        }
        mailbox.fresh = mailbox.fresh.max(fresh);
        drop(mailbox);
        if moved {
            self.moved.notify_waiters();
        }
        Ok(true)
    }

    /// Takes in the state that a drain has committed, unless a newer one was read meanwhile. A read may
    /// also have stopped between two of the drain's events.
    pub(crate) fn commit(&self, after: LoadedState<A>, fresh: u64) {
        let mut mailbox = self.lock();
        if mailbox.generation == after.generation {
            if mailbox.committed.as_ref().is_none_or(|own| own.version < after.version) {
                mailbox.committed = Some(after);
            }
            mailbox.fresh = mailbox.fresh.max(fresh);
        }
        drop(mailbox);
        self.moved.notify_waiters();
    }

    /// Puts letters that a drain has no room for back to where it took them from.
    pub(crate) fn put_back(&self, letters: Vec<MailboxEntry<A>>) {
        let mut mailbox = self.lock();
        for letter in letters.into_iter().rev() {
            mailbox.waiting.push_front(letter);
        }
    }

    /// Whether nothing waits, runs or is being saved.
    pub(crate) fn is_idle(&self) -> bool {
        let mailbox = self.lock();
        !mailbox.draining && !mailbox.saving && mailbox.waiting.is_empty()
    }
}
