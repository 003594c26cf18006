//! Completing commands: each caller gets the result of its command.

use std::sync::atomic::Ordering;

use composable_rust_core::queue::{Inbox as _, InboxEntry};
use composable_rust_core::store::StoreError;
use composable_rust_core::{Aggregate, Position, Receipt, Version};

use crate::error::SendError;
use crate::instance::inbox::{is_same, stored_result};
use crate::instance::mailbox::Instance;
use crate::instance::message::{CommandOutcome, MailboxEntry, SubmitError, SubmitResult};
use crate::instance::runtime::AggregateRuntime;

/// The outcomes of a batch after its append.
pub(crate) struct Outcomes<A: Aggregate> {
    pub(crate) by_command: Vec<CommandOutcome<A>>,
    /// The version of the stream before the batch.
    pub(crate) before: Version,
    /// The position of the batch's last event.
    pub(crate) last: Option<Position>,
}

impl<A: Aggregate> Outcomes<A> {
    /// Completes the commands that `selects` picks; the others stay in `entries`.
    pub(crate) fn complete(
        &self,
        entries: &mut Vec<MailboxEntry<A>>,
        selects: impl Fn(&MailboxEntry<A>, &CommandOutcome<A>) -> bool,
    ) {
        for (entry, outcome) in std::mem::take(entries).into_iter().zip(&self.by_command) {
            if selects(&entry, outcome) {
                let result = self.result(outcome);
                match outcome {
                    CommandOutcome::DuplicateOf(_) => entry.complete_duplicate(result),
                    _ => entry.complete(result),
                }
            } else {
                entries.push(entry);
            }
        }
    }

    fn result<'a>(&'a self, mut outcome: &'a CommandOutcome<A>) -> SubmitResult<A> {
        while let CommandOutcome::DuplicateOf(index) = outcome {
            outcome = &self.by_command[*index];
        }
        match outcome {
            CommandOutcome::Accepted { first, count } => Ok(Receipt {
                version: self.before.plus(u64::from(first + count)),
                position: self.last.filter(|_| *count > 0).map(|last| {
                    let after = self.event_count() - first - count;
                    Position::new(last.partition, last.offset - u64::from(after))
                }),
            }),
            CommandOutcome::Failed(error) => Err(SubmitError::Send(error.clone())),
            CommandOutcome::StaleTimer => Err(SubmitError::StaleTimer),
            CommandOutcome::DuplicateOf(_) => unreachable!("followed to the first command"),
        }
    }

    /// The number of events of the batch.
    fn event_count(&self) -> u32 {
        let end = |outcome: &CommandOutcome<A>| match outcome {
            CommandOutcome::Accepted { first, count } => first + count,
            _ => 0,
        };
        self.by_command.iter().map(end).max().unwrap_or(0)
    }
}

/// Completes all commands with the same error.
pub(crate) fn fail_all<A: Aggregate>(
    entries: Vec<MailboxEntry<A>>,
    error: &SendError<A::Rejection>,
) {
    for entry in entries {
        entry.complete(Err(SubmitError::Send(error.clone())));
    }
}

/// Completes when no caller waits for any of the commands.
pub(crate) async fn callers_left<A: Aggregate>(entries: &mut [MailboxEntry<A>]) {
    for entry in entries {
        entry.result.closed().await;
    }
}

impl<A: Aggregate> AggregateRuntime<A> {
    /// Completes the commands that have one of these inbox entries; the others stay in `entries`.
    pub(crate) fn complete_duplicates(
        &self,
        instance: &Instance<A>,
        entries: &mut Vec<MailboxEntry<A>>,
        inbox: &[InboxEntry],
    ) {
        for entry in std::mem::take(entries) {
            let id = entry.pending.message_id();
            let Some(stored) = inbox.iter().find(|stored| stored.message_id == id) else {
                entries.push(entry);
                continue;
            };
            self.shared.duplicates_ignored.fetch_add(1, Ordering::Relaxed);
            self.metrics.duplicates.increment(1);
            // Without a digest the message id is unique: no other command can have made the entry.
            let digest = entry.pending.digest;
            let is_same = digest.is_none_or(|digest| is_same(digest, stored.digest));
            if is_same {
                let codecs = &self.shared.codecs;
                entry.complete_duplicate(stored_result::<A>(codecs, &instance.stream, stored));
            } else {
                entry.complete(Err(SendError::KeyReused.into()));
            }
        }
    }

    /// Completes the commands that `selects` picks (by index) and whose outcomes are in the inbox.
    ///
    /// # Errors
    ///
    /// The inbox cannot be read; no command was completed.
    pub(crate) async fn complete_recorded(
        &self,
        instance: &Instance<A>,
        entries: &mut Vec<MailboxEntry<A>>,
        selects: impl Fn(usize) -> bool,
    ) -> Result<(), StoreError> {
        let mut inbox = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            if entry.pending.digest.is_some() && selects(index) {
                let id = entry.pending.message_id();
                inbox.extend(self.shared.store.load_inbox_entry(&instance.stream, id).await?);
            }
        }
        self.complete_duplicates(instance, entries, &inbox);
        Ok(())
    }
}
