//! Draining a mailbox: deciding everything that waits, appending it as one, answering.

use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::{
    Aggregate, Append, EventStore as _, Mark, Position, Receipt, Snapshot, StoreError, Verdict,
    Version,
};
use futures_util::TryStreamExt as _;

use crate::aggregate::AggregateRuntime;
use crate::backoff::Backoff;
use crate::error::{LoadError, SendError};
use crate::instance::{Answer, Instance, Letter};
use crate::load::{Folded, load, unavailable};
use crate::plan::{Plan, Rules, Ruling, plan, stored_answer, warn_once_of_follow_ups};

/// What became of one try at a drain.
enum Tried {
    /// Everybody is answered.
    Done,
    /// Nothing was written: read the tail, decide again.
    Behind,
    /// Nothing was written, and one of several is at fault: decide them one by one.
    Guilty(String),
    /// Nobody waits any more; what was sent may still commit.
    Abandoned,
}

impl<A: Aggregate> AggregateRuntime<A> {
    /// Puts a letter into the mailbox and makes sure that somebody drains it.
    pub(crate) fn deliver(self: &Arc<Self>, instance: &Arc<Instance<A>>, mut letter: Letter<A>) {
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
        // A panic outside the aggregate's code must not leave the mailbox without a drain.
        struct Leave<'a, A: Aggregate>(&'a Instance<A>);
        impl<A: Aggregate> Drop for Leave<'_, A> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    let mut mailbox = self.0.lock();
                    mailbox.draining = false;
                    mailbox.committed = None;
                    mailbox.waiting.clear();
                }
            }
        }
        let _leave = Leave(instance);
        loop {
            let letters: Vec<_> = {
                let mut mailbox = instance.lock();
                if mailbox.waiting.is_empty() {
                    mailbox.draining = false;
                    return;
                }
                let count = mailbox.waiting.len().min(self.shared.settings.drain);
                mailbox.waiting.drain(..count).collect()
            };
            self.settle(instance, letters).await;
        }
    }

    /// Decides and appends until every letter is answered or its caller has given up.
    async fn settle(&self, instance: &Arc<Instance<A>>, mut letters: Vec<Letter<A>>) {
        let mut backoff = Backoff::new(Duration::from_millis(2), Duration::from_millis(100));
        loop {
            letters.retain(|letter| !letter.reply.is_closed());
            if letters.is_empty() {
                return;
            }
            let base = match self.committed(instance).await {
                Ok(base) => base,
                Err(error) if error.is_transient() => {
                    tracing::warn!(stream = %instance.stream, %error, "loading is tried again");
                    backoff.wait(&*self.shared.clock, &*self.shared.rng).await;
                    continue;
                }
                Err(error) => return answer_all(letters, &error.into()),
            };
            if base.closed {
                return answer_all(letters, &SendError::Closed);
            }
            match self.attempt(instance, base, &mut letters).await {
                Tried::Done => return,
                Tried::Abandoned => instance.lock().committed = None,
                Tried::Guilty(_) if letters.len() > 1 => {
                    for letter in letters {
                        Box::pin(self.settle(instance, vec![letter])).await;
                    }
                    return;
                }
                Tried::Guilty(reason) => {
                    return answer_all(letters, &SendError::Unstorable(reason));
                }
                Tried::Behind => {
                    backoff.wait(&*self.shared.clock, &*self.shared.rng).await;
                    if let Err(error) = self.catch_up(instance).await {
                        tracing::debug!(stream = %instance.stream, %error, "the tail is loaded again");
                        instance.lock().committed = None;
                    }
                }
            }
        }
    }

    /// One try: everything that waits as one append.
    async fn attempt(
        &self,
        instance: &Arc<Instance<A>>,
        base: Folded<A>,
        letters: &mut Vec<Letter<A>>,
    ) -> Tried {
        let rules = Rules {
            log: self.shared.log.id,
            id: &instance.id,
            stream: &instance.stream,
            env: &self.env,
            codecs: &self.shared.codecs,
            verify_encoding: self.shared.settings.verify_encoding,
        };
        let plan = {
            let questions: Vec<_> = letters.iter().map(|letter| &letter.question).collect();
            plan(&rules, &base, &questions)
        };
        let (fresh, now) = {
            let mailbox = instance.lock();
            (mailbox.fresh, mailbox.clock)
        };
        // Nothing to store, and the state was read after every letter arrived: it is the truth.
        if plan.stores_nothing() && letters.iter().all(|letter| letter.arrival < fresh) {
            answer(std::mem::take(letters), &plan.rulings, base.version, None);
            return Tried::Done;
        }
        warn_once_of_follow_ups(&plan.append);
        let Plan { append, after, rulings } = plan;
        let verdict = match self.appended(append, letters).await {
            None => return Tried::Abandoned,
            Some(Ok(verdict)) => verdict,
            Some(Err(StoreError::Invalid(reason))) => return Tried::Guilty(reason),
            Some(Err(_)) => return Tried::Behind,
        };
        match verdict {
            Verdict::Committed { position, .. } => {
                let before = base.version;
                instance.commit(before, after, now);
                self.save_snapshot(instance);
                answer(std::mem::take(letters), &rulings, before, position);
                Tried::Done
            }
            Verdict::Duplicate(marks) => {
                self.answer_marked(instance, letters, &marks);
                if letters.is_empty() { Tried::Done } else { Tried::Behind }
            }
            Verdict::Conflict { actual } => {
                tracing::debug!(stream = %instance.stream, at = %base.version, %actual, "conflict");
                if actual < base.version {
                    tracing::error!(
                        stream = %instance.stream, had = %base.version, %actual,
                        "the log went back; the state is loaded anew"
                    );
                    instance.lock().committed = None;
                }
                Tried::Behind
            }
            Verdict::Closed => Tried::Behind,
        }
    }

    /// The verdict, or `None` once every caller has given up.
    async fn appended(
        &self,
        append: Append,
        letters: &mut [Letter<A>],
    ) -> Option<Result<Verdict, StoreError>> {
        let callers_left = async {
            for letter in letters.iter_mut() {
                letter.reply.closed().await;
            }
        };
        tokio::select! {
            biased;
            verdict = self.shared.writer.append(append) => Some(verdict),
            () = callers_left => None,
        }
    }

    fn answer_marked(&self, instance: &Instance<A>, letters: &mut Vec<Letter<A>>, marks: &[Mark]) {
        let mut left = Vec::with_capacity(letters.len());
        for letter in letters.drain(..) {
            let id = letter.question.incoming.message_id;
            let mark =
                marks.iter().find(|mark| letter.question.digest.is_some() && mark.message_id == id);
            let Some(mark) = mark else {
                left.push(letter);
                continue;
            };
            // Without a key the id is the message's own: nothing else can have made the mark.
            let is_same = letter.question.digest.is_none_or(|digest| digest == mark.digest);
            let answer = if is_same {
                stored_answer::<A>(&self.shared.codecs, &instance.stream, &mark.answer)
                    .map(|()| mark.receipt)
            } else {
                Err(SendError::KeyReused)
            };
            let _ = letter.reply.send(answer);
        }
        *letters = left;
    }

    /// The last committed state, loaded if it is not in memory.
    pub(crate) async fn committed(&self, instance: &Instance<A>) -> Result<Folded<A>, LoadError> {
        loop {
            let fresh = {
                let mailbox = instance.lock();
                if let Some(committed) = &mailbox.committed {
                    return Ok(committed.clone());
                }
                mailbox.clock
            };
            let shared = &self.shared;
            let _turn = shared.loads.acquire().await;
            let loaded =
                load(&shared.store, &shared.codecs, &instance.stream, self.fingerprint).await?;
            instance.install(loaded, fresh);
        }
    }

    /// Brings the committed state to where the stream stands.
    pub(crate) async fn catch_up(&self, instance: &Instance<A>) -> Result<(), LoadError> {
        let (after, fresh) = {
            let mailbox = instance.lock();
            (mailbox.committed.as_ref().map(|own| own.version), mailbox.clock)
        };
        let Some(after) = after else { return self.committed(instance).await.map(drop) };
        let _turn = self.shared.loads.acquire().await;
        let tail: Vec<_> = self
            .shared
            .store
            .load_events(&instance.stream, after)
            .try_collect()
            .await
            .map_err(|source| unavailable(&instance.stream, source))?;
        instance.catch_up(&self.shared.codecs, &tail, fresh)
    }

    /// Saves a snapshot in the background when the stream has passed a multiple of the interval.
    fn save_snapshot(&self, instance: &Arc<Instance<A>>) {
        let every = self.shared.settings.snapshot_every;
        let due = {
            let mut mailbox = instance.lock();
            let due = mailbox.committed.as_ref().is_some_and(|own| {
                every > 0 && own.version.get() / every > own.snapshot.get() / every
            });
            if !due || mailbox.saving {
                return;
            }
            mailbox.saving = true;
            mailbox.committed.as_mut().map(|own| {
                own.snapshot = own.version;
                (own.state.clone(), own.version)
            })
        };
        let Some((state, version)) = due else { return };
        let (shared, fingerprint) = (Arc::clone(&self.shared), self.fingerprint);
        let instance = Arc::clone(instance);
        self.shared.tasks.spawn(async move {
            let stream = &instance.stream;
            let saved = match shared.codecs.encode_state(stream, &state) {
                Ok((codec, bytes)) => {
                    let snapshot = Snapshot { version, fingerprint, codec, bytes };
                    shared.store.save_snapshot(stream, &snapshot).await.map_err(|e| e.to_string())
                }
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = saved {
                tracing::warn!(%stream, %version, error, "a snapshot was not saved");
            }
            instance.lock().saving = false;
        });
    }
}

/// Tells every letter what the rulings say, the append having been committed on `before`.
fn answer<A: Aggregate>(
    letters: Vec<Letter<A>>,
    rulings: &[Ruling<A>],
    before: Version,
    last: Option<Position>,
) {
    let total = rulings
        .iter()
        .map(|ruling| match ruling {
            Ruling::Accepted { first, count } => first + count,
            _ => 0,
        })
        .max()
        .unwrap_or(0);
    let told = |ruling: &Ruling<A>| -> Answer<A> {
        let mut ruling = ruling;
        while let Ruling::Same(index) = ruling {
            ruling = &rulings[*index];
        }
        match ruling {
            Ruling::Accepted { first, count } => Ok(Receipt {
                version: before.plus(u64::from(first + count)),
                position: last.filter(|_| *count > 0).map(|last| {
                    Position::new(last.partition, last.offset - u64::from(total - first - count))
                }),
            }),
            Ruling::Refused(error) => Err(error.clone()),
            Ruling::Same(_) => unreachable!("followed to its first"),
        }
    };
    for (letter, ruling) in letters.into_iter().zip(rulings) {
        let _ = letter.reply.send(told(ruling));
    }
}

fn answer_all<A: Aggregate>(letters: Vec<Letter<A>>, error: &SendError<A::Rejection>) {
    for letter in letters {
        let _ = letter.reply.send(Err(error.clone()));
    }
}
