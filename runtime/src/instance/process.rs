//! Draining a mailbox: deciding everything that waits, appending it as one, answering.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use composable_rust_core::{
    Aggregate, Append, AppendOutcome, EventStore as _, InboxEntry, Position, Receipt, StoreError,
    Version,
};

use crate::backoff::Backoff;
use crate::error::{LoadError, SendError};
use crate::instance::decide::{CommandOutcome, DecideContext, Plan, plan};
use crate::instance::inbox::{is_same, stored_answer};
use crate::instance::load::{LoadedState, load, page};
use crate::instance::mailbox::{Instance, MailboxEntry, SendResult};
use crate::instance::runtime::AggregateRuntime;
use crate::metrics::DUPLICATES_IGNORED;

/// What became of one try at a drain.
enum AttemptOutcome {
    /// Everybody is answered.
    Done,
    /// Nothing was written: read the tail, decide again.
    Behind,
    /// Nothing was written, and those at fault are answered: decide the others again.
    Again,
    /// Nothing was written, and one of several is at fault: decide them one by one.
    Guilty(String),
    /// Nobody waits any more; what was sent may still commit.
    Abandoned,
    /// The writer ended; what was sent may have been committed.
    Lost,
}

impl<A: Aggregate> AggregateRuntime<A> {
    /// Puts a letter into the mailbox and makes sure that somebody drains it.
    pub(crate) fn deliver(
        self: &Arc<Self>,
        instance: &Arc<Instance<A>>,
        mut letter: MailboxEntry<A>,
    ) {
        let mut mailbox = instance.lock();
        letter.arrival = mailbox.clock;
        mailbox.clock += 1;
        mailbox.waiting.push_back(letter);
        if mailbox.draining {
            return;
        }
        mailbox.draining = true;
        drop(mailbox);
        let (runtime, instance) = (Arc::clone(self), Arc::clone(instance));
        self.shared.tasks.spawn(async move { runtime.drain(&instance).await });
    }

    async fn drain(&self, instance: &Arc<Instance<A>>) {
        // A panic outside what is guarded, or the end of the tokio runtime, must not leave the
        // mailbox without a drain.
        struct DrainGuard<'a, A: Aggregate>(&'a Instance<A>, bool);
        impl<A: Aggregate> Drop for DrainGuard<'_, A> {
            fn drop(&mut self) {
                if !self.1 {
                    let mut mailbox = self.0.lock();
                    mailbox.draining = false;
                    mailbox.forget();
                    mailbox.waiting.clear();
                }
            }
        }
        let mut leave = DrainGuard(instance, false);
        loop {
            let letters: Vec<_> = {
                let mut mailbox = instance.lock();
                if mailbox.waiting.is_empty() {
                    mailbox.draining = false;
                    leave.1 = true;
                    return;
                }
                let count = mailbox.waiting.len().min(self.shared.settings.max_commands_per_append);
                mailbox.waiting.drain(..count).collect()
            };
            self.settle(instance, letters).await;
        }
    }

    /// Decides and appends until every letter is answered or its caller has given up.
    async fn settle(&self, instance: &Arc<Instance<A>>, mut letters: Vec<MailboxEntry<A>>) {
        let mut backoff = Backoff::new(Duration::from_millis(2), Duration::from_millis(100));
        loop {
            letters.retain(|letter| !letter.reply.is_closed());
            if letters.is_empty() {
                return;
            }
            let base = tokio::select! {
                biased;
                base = self.committed(instance) => base,
                () = callers_left(&mut letters) => return,
            };
            let (base, fresh) = match base {
                Ok(base) => base,
                Err(error) if error.is_transient() => {
                    tracing::warn!(stream = ?instance.stream, %error, "loading is tried again");
                    backoff.wait(&*self.shared.clock, &*self.shared.rng).await;
                    continue;
                }
                Err(error) => return answer_all(letters, &error.into()),
            };
            if base.closed {
                // Nothing can be committing any more, so what the inbox knows now is final.
                if self.answer_known(instance, &mut letters, |_| true).await {
                    return answer_all(letters, &SendError::Closed);
                }
                backoff.wait(&*self.shared.clock, &*self.shared.rng).await;
                continue;
            }
            match self.attempt(instance, (base, fresh), &mut letters).await {
                AttemptOutcome::Done => return,
                AttemptOutcome::Again => {}
                AttemptOutcome::Abandoned => instance.forget(),
                AttemptOutcome::Guilty(_) if letters.len() > 1 => {
                    for letter in letters {
                        Box::pin(self.settle(instance, vec![letter])).await;
                    }
                    return;
                }
                AttemptOutcome::Guilty(reason) => {
                    return answer_all(letters, &SendError::Unstorable(reason));
                }
                AttemptOutcome::Lost => return answer_all(letters, &SendError::OutcomeUnknown),
                AttemptOutcome::Behind => {
                    backoff.wait(&*self.shared.clock, &*self.shared.rng).await;
                    let caught_up = tokio::select! {
                        biased;
                        caught_up = self.catch_up(instance) => caught_up,
                        () = callers_left(&mut letters) => return,
                    };
                    if let Err(error) = caught_up {
                        tracing::debug!(stream = ?instance.stream, %error, "the state is loaded anew");
                        instance.forget();
                    }
                }
            }
        }
    }

    /// One try: everything that waits as one append.
    async fn attempt(
        &self,
        instance: &Arc<Instance<A>>,
        (base, fresh): (LoadedState<A>, u64),
        letters: &mut Vec<MailboxEntry<A>>,
    ) -> AttemptOutcome {
        let rules = DecideContext {
            log: self.shared.log.id,
            id: &instance.id,
            stream: &instance.stream,
            env: &self.env,
            storage: self.shared.storage(),
            max_bytes: self.shared.settings.max_bytes_per_batch,
            remote: &self.shared.remote,
            known: &self.shared.known,
            published: &self.shared.published,
        };
        let plan = {
            let questions: Vec<_> = letters.iter().map(|letter| &letter.question).collect();
            plan(&rules, &base, &questions)
        };
        instance.put_back(letters.split_off(plan.rulings.len()));
        // What fails now may have been recorded when it was sent first.
        let asked: Vec<_> = plan.rulings.iter().map(CommandOutcome::is_failure).collect();
        if asked.contains(&true) {
            let before = letters.len();
            let known = self.answer_known(instance, letters, |index| asked[index]).await;
            if !known || letters.len() < before {
                return if letters.is_empty() {
                    AttemptOutcome::Done
                } else {
                    AttemptOutcome::Behind
                };
            }
        }
        // Nothing to store, and the state it was decided on was read after every letter arrived: it
        // is the truth.
        if plan.stores_nothing() && letters.iter().all(|letter| letter.arrival < fresh) {
            answer(letters, &plan.rulings, base.version, None, |_, _| true);
            return AttemptOutcome::Done;
        }
        let now = instance.lock().clock;
        let Plan { append, after, rulings } = plan;
        let fired = append.fired_timers.clone();
        let marked: Vec<_> = append.inbox.iter().map(|mark| mark.message_id).collect();
        let finished = after.state.is_finished() && !append.events.is_empty();
        let verdict = match self.appended(append, letters).await {
            None => return AttemptOutcome::Abandoned,
            Some(Ok(verdict)) => verdict,
            Some(Err(StoreError::Invalid(reason))) => return AttemptOutcome::Guilty(reason),
            Some(Err(_)) => return AttemptOutcome::Lost,
        };
        match verdict {
            AppendOutcome::Committed { version, position, actual } if actual > version => {
                // An earlier call committed it, maybe before these letters arrived, and the stream has
                // moved on: answer those alone whose outcome is stored, and believe no state.
                tracing::debug!(stream = ?instance.stream, %version, %actual, "the append was committed before, and the stream has moved on; deciding again what is not stored");
                answer(letters, &rulings, base.version, position, |letter, ruling| {
                    ruling.has_events() || marked.contains(&letter.question.incoming.message_id)
                });
                if letters.is_empty() { AttemptOutcome::Done } else { AttemptOutcome::Behind }
            }
            AppendOutcome::Committed { position, .. } => {
                instance.commit(after, now);
                self.save_snapshot(instance);
                if finished {
                    self.instances.retire(&instance.id);
                }
                answer(letters, &rulings, base.version, position, |_, _| true);
                AttemptOutcome::Done
            }
            AppendOutcome::Duplicate(marks) => {
                self.answer_marked(instance, letters, &marks);
                if letters.is_empty() { AttemptOutcome::Done } else { AttemptOutcome::Behind }
            }
            AppendOutcome::Conflict { actual } => {
                tracing::debug!(stream = ?instance.stream, at = %base.version, %actual, "conflict");
                if actual < base.version {
                    tracing::error!(
                        stream = ?instance.stream, had = %base.version, %actual,
                        "the log went back; the state is loaded anew"
                    );
                    self.delete_snapshots(instance, actual).await;
                    instance.forget();
                }
                AttemptOutcome::Behind
            }
            AppendOutcome::Closed => AttemptOutcome::Behind,
            AppendOutcome::StaleTimers(indexes) => {
                let void: Vec<_> = indexes.iter().filter_map(|at| fired.get(*at)).collect();
                for letter in std::mem::take(letters) {
                    match &letter.question.fires {
                        Some(firing) if void.contains(&firing) => {
                            let _ = letter.reply.send(Err(SendError::Void));
                        }
                        _ => letters.push(letter),
                    }
                }
                if letters.is_empty() { AttemptOutcome::Done } else { AttemptOutcome::Again }
            }
        }
    }

    /// The verdict, or `None` once every caller has given up.
    async fn appended(
        &self,
        append: Append,
        letters: &mut [MailboxEntry<A>],
    ) -> Option<Result<AppendOutcome, StoreError>> {
        tokio::select! {
            biased;
            verdict = self.shared.writer.append(append) => Some(verdict),
            () = callers_left(letters) => None,
        }
    }

    fn answer_marked(
        &self,
        instance: &Instance<A>,
        letters: &mut Vec<MailboxEntry<A>>,
        marks: &[InboxEntry],
    ) {
        let mut left = Vec::with_capacity(letters.len());
        for letter in letters.drain(..) {
            let id = letter.question.incoming.message_id;
            let Some(mark) = marks.iter().find(|mark| mark.message_id == id) else {
                left.push(letter);
                continue;
            };
            // Without a key the id is the message's own: nothing else can have made the mark.
            self.shared.duplicates_ignored.fetch_add(1, Ordering::Relaxed);
            DUPLICATES_IGNORED.increment([A::NAME]);
            let is_same = letter.question.digest.is_none_or(|digest| is_same(digest, mark.digest));
            let answer = if is_same {
                stored_answer::<A>(&self.shared.codecs, &instance.stream, mark)
            } else {
                Err(SendError::KeyReused)
            };
            let _ = letter.reply.send(answer);
        }
        *letters = left;
    }

    /// Answers those keyed letters, of the ones that are `asked` for, that the inbox knows. False if
    /// it could not be asked.
    async fn answer_known(
        &self,
        instance: &Instance<A>,
        letters: &mut Vec<MailboxEntry<A>>,
        asked: impl Fn(usize) -> bool,
    ) -> bool {
        let mut marks = Vec::new();
        for (index, letter) in letters.iter().enumerate() {
            if letter.question.digest.is_none() || !asked(index) {
                continue;
            }
            let id = letter.question.incoming.message_id;
            match self.shared.store.load_inbox_entry(&instance.stream, id).await {
                Ok(mark) => marks.extend(mark),
                Err(_) => return false,
            }
        }
        self.answer_marked(instance, letters, &marks);
        true
    }

    /// The last committed state, loaded if it is not in memory, and how fresh it is: see
    /// [`Mailbox::fresh`](crate::instance::Mailbox::fresh).
    pub(crate) async fn committed(
        &self,
        instance: &Instance<A>,
    ) -> Result<(LoadedState<A>, u64), LoadError> {
        loop {
            if let Some(committed) = instance.committed() {
                return Ok(committed);
            }
            let shared = &self.shared;
            let _turn = shared.loads.acquire().await;
            let (fresh, generation) = {
                let mailbox = instance.lock();
                // Another call may have loaded it before this one had its turn.
                if mailbox.committed.is_some() {
                    continue;
                }
                (mailbox.clock, mailbox.generation)
            };
            let stream = &instance.stream;
            let loaded = load(&shared.store, &shared.codecs, stream, self.fingerprint).await;
            match &loaded {
                Err(error) if error.is_transient() => {}
                Err(error) => {
                    shared.stuck.failed(stream, error, (&*shared.clock, &*shared.rng));
                }
                Ok(_) => shared.stuck.recovered(stream),
            }
            let loaded = loaded?;
            instance.install(LoadedState { generation, ..loaded }, fresh);
            self.instances.weigh(instance);
        }
    }

    /// Brings the committed state to where the stream stands, or stood after this call began.
    pub(crate) async fn catch_up(&self, instance: &Instance<A>) -> Result<(), LoadError> {
        let arrival = {
            let mut mailbox = instance.lock();
            mailbox.clock += 1;
            mailbox.clock - 1
        };
        loop {
            let (own, fresh, generation) = {
                let mailbox = instance.lock();
                if mailbox.committed.is_some() && mailbox.fresh > arrival {
                    return Ok(());
                }
                let own = mailbox.committed.as_ref().map(|own| own.version);
                (own, mailbox.clock, mailbox.generation)
            };
            let Some(after) = own else {
                // Somebody else's load may have begun before this call: look again.
                self.committed(instance).await?;
                continue;
            };
            let _turn = self.shared.loads.acquire().await;
            let (tail, is_all) = page(&self.shared.store, &instance.stream, after).await?;
            // Part of the tail is not as the stream was when it was begun to be read.
            let fresh = if is_all { fresh } else { 0 };
            if instance.catch_up(&self.shared.codecs, &tail, fresh, generation)? && is_all {
                return Ok(());
            }
        }
    }
}

/// Completes when nobody waits for any of the letters.
async fn callers_left<A: Aggregate>(letters: &mut [MailboxEntry<A>]) {
    for letter in letters {
        letter.reply.closed().await;
    }
}

/// Tells those letters that are `asked` for what the rulings say, the append having been committed on
/// `before`; the others are left.
fn answer<A: Aggregate>(
    letters: &mut Vec<MailboxEntry<A>>,
    rulings: &[CommandOutcome<A>],
    before: Version,
    last: Option<Position>,
    asked: impl Fn(&MailboxEntry<A>, &CommandOutcome<A>) -> bool,
) {
    let total = rulings
        .iter()
        .map(|ruling| match ruling {
            CommandOutcome::Accepted { first, count } => first + count,
            _ => 0,
        })
        .max()
        .unwrap_or(0);
    let told = |ruling: &CommandOutcome<A>| -> SendResult<A> {
        let mut ruling = ruling;
        while let CommandOutcome::Same(index) = ruling {
            ruling = &rulings[*index];
        }
        match ruling {
            CommandOutcome::Accepted { first, count } => Ok(Receipt {
                version: before.plus(u64::from(first + count)),
                position: last.filter(|_| *count > 0).map(|last| {
                    Position::new(last.partition, last.offset - u64::from(total - first - count))
                }),
            }),
            CommandOutcome::Refused(error) => Err(error.clone()),
            CommandOutcome::Void => Err(SendError::Void),
            CommandOutcome::Same(_) => unreachable!("followed to its first"),
        }
    };
    for (letter, ruling) in std::mem::take(letters).into_iter().zip(rulings) {
        if asked(&letter, ruling) {
            let _ = letter.reply.send(told(ruling));
        } else {
            letters.push(letter);
        }
    }
}

fn answer_all<A: Aggregate>(letters: Vec<MailboxEntry<A>>, error: &SendError<A::Rejection>) {
    for letter in letters {
        let _ = letter.reply.send(Err(error.clone()));
    }
}
