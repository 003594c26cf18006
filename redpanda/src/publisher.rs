//! Publishers of batches, which fence each other.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use composable_rust_core::{
    BusError, BusMessage, PublishError, Publisher, PublisherName, ResumePosition,
};
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer};
use tokio::sync::OwnedSemaphorePermit;

use crate::bus::Inner;
use crate::client::{BATCH_LINGER, ClientLog, idempotent_producer, transactional_producer};
use crate::drop_in_background::DropInBackground;
use crate::error::{bus_error, join_error, publish_error};
use crate::position::{self, PublisherPositions, ResumePoint};
use crate::record::{admit, record};
use crate::topics::IfMissing;

/// The publisher of one log partition, until somebody else opens it.
pub struct RedpandaPublisher {
    bus: Arc<Inner>,
    name: PublisherName,
    /// The position of the last batch, by any holder before this one, or by this one.
    position: Option<ResumePosition>,
    state: State,
}

enum State {
    Open(Box<DropInBackground<PublisherClients>>),
    /// A call is under way or was dropped.
    Busy,
    Fenced,
    /// A batch failed.
    Broken,
}

/// The clients of a publisher. Their calls block.
struct PublisherClients {
    producer: BaseProducer<ClientLog>,
    voice: ClientLog,
    place: ResumePoint,
    commits: CommitMode,
    limit: Duration,
    /// One of those that the bus allows, until the clients have ended.
    _slot: OwnedSemaphorePermit,
}

/// The way in which positions are committed.
enum CommitMode {
    /// With the messages, in a transaction, as offsets of this group.
    InTransactions(ConsumerGroupMetadata),
    /// After the messages, by a client of their own.
    Apart(PublisherPositions),
}

impl RedpandaPublisher {
    /// Opens the publisher of this name.
    pub(crate) async fn open(bus: Arc<Inner>, name: PublisherName) -> Result<Self, BusError> {
        let topic = bus.wire_name(&position::topic(&name));
        let if_missing = match bus.settings.if_missing() {
            IfMissing::Create(_) => IfMissing::Create(name.partitions.max(1)),
            IfMissing::Refuse => IfMissing::Refuse,
        };
        bus.topics.ensure(&bus.settings, [&*topic], if_missing).await?;
        let slot = bus.publisher_slot().await?;
        let (lines, position) = {
            let (bus, name) = (Arc::clone(&bus), name.clone());
            let opening =
                tokio::task::spawn_blocking(move || PublisherClients::open(&bus, &name, slot));
            opening.await.map_err(join_error)??
        };
        Ok(Self { bus, name, position, state: State::Open(Box::new(DropInBackground::new(lines))) })
    }

    /// Does something with the clients on a thread that may block.
    async fn on_a_thread<T: Send + 'static>(
        &mut self,
        what: impl FnOnce(&PublisherClients) -> Result<T, PublishError> + Send + 'static,
    ) -> Result<T, PublishError> {
        let lines = match std::mem::replace(&mut self.state, State::Busy) {
            State::Open(lines) => lines,
            State::Fenced => {
                self.state = State::Fenced;
                return Err(PublishError::Fenced);
            }
            closed @ (State::Busy | State::Broken) => {
                self.state = closed;
                let what = "an earlier call failed or was dropped: open the publisher anew";
                return Err(BusError::new(what).into());
            }
        };
        let work = tokio::task::spawn_blocking(move || {
            let outcome = what(&lines);
            (outcome, lines)
        });
        let (outcome, lines) = work.await.map_err(join_error)?;
        self.state = match &outcome {
            Ok(_) => State::Open(lines),
            Err(PublishError::Fenced) => State::Fenced,
            Err(_) => State::Broken,
        };
        outcome
    }
}

impl Publisher for RedpandaPublisher {
    async fn resume_position(&mut self) -> Result<Option<ResumePosition>, PublishError> {
        let position = self.position;
        self.on_a_thread(move |lines| match &lines.commits {
            // Nobody else has published under this name, for that would have fenced this holder.
            CommitMode::InTransactions(_) => Ok(position),
            CommitMode::Apart(positions) => positions.read().map_err(|error| lines.failed(error)),
        })
        .await
    }

    async fn publish_batch(
        &mut self,
        messages: Vec<BusMessage>,
        position: Option<ResumePosition>,
    ) -> Result<(), PublishError> {
        if matches!(self.state, State::Fenced) {
            return Err(PublishError::Fenced);
        }
        admit(self.bus.settings.max_payload_bytes, &messages)?;
        let messages: Vec<_> =
            messages.into_iter().map(|m| (self.bus.wire_name(&m.topic), m)).collect();
        let names = messages.iter().map(|(topic, _)| &**topic);
        let settings = &self.bus.settings;
        self.bus.topics.ensure(settings, names, settings.if_missing()).await?;
        if messages.is_empty() && position.is_none() {
            return Ok(());
        }
        let bus = Arc::clone(&self.bus);
        self.on_a_thread(move |lines| {
            let published = lines.publish(&messages, position);
            if published.as_ref().is_err_and(|error| !matches!(error, PublishError::Fenced)) {
                // Should one of the topics be gone, it is made anew.
                for (topic, _) in &messages {
                    bus.topics.forget(topic);
                }
            }
            published
        })
        .await?;
        self.position = position.or(self.position);
        Ok(())
    }
}

impl PublisherClients {
    /// Opens the clients and reads the position. The client that reads it is closed again: with
    /// transactions, all that is needed of it later is its group.
    fn open(
        bus: &Inner,
        name: &PublisherName,
        slot: OwnedSemaphorePermit,
    ) -> Result<(Self, Option<ResumePosition>), BusError> {
        let settings = &bus.settings;
        let voice = ClientLog::default();
        let config = if settings.transactions {
            let id = format!("{}-{}", position::broker_name(settings, name), name.partition);
            transactional_producer(settings, &id)
        } else {
            idempotent_producer(settings, BATCH_LINGER)
        };
        let producer: BaseProducer<ClientLog> =
            config.create_with_context(voice.clone()).map_err(bus_error)?;
        if settings.transactions {
            // Waits for what an earlier holder had begun to commit, and aborts what it had not.
            let limit = settings.transaction_timeout.max(settings.connect_timeout);
            producer.init_transactions(limit).map_err(bus_error)?;
        }
        let positions = PublisherPositions::open(settings, name).map_err(bus_error)?;
        let position = positions.read().map_err(bus_error)?;
        let (commits, limit) = if settings.transactions {
            let group = positions.group()?;
            drop(DropInBackground::new(positions));
            (CommitMode::InTransactions(group), settings.transaction_timeout)
        } else {
            (CommitMode::Apart(positions), settings.publish_timeout)
        };
        let place = ResumePoint::new(settings, name);
        Ok((Self { producer, voice, place, commits, limit, _slot: slot }, position))
    }

    fn publish(
        &self,
        messages: &[(String, BusMessage)],
        position: Option<ResumePosition>,
    ) -> Result<(), PublishError> {
        let offset = position.map(|position| self.place.offset(position)).transpose()?;
        let deadline = Instant::now() + self.limit;
        let group = match &self.commits {
            CommitMode::InTransactions(group) => group,
            CommitMode::Apart(positions) => {
                self.send(messages, deadline).map_err(|error| self.failed(error))?;
                let commit = |offset| positions.commit(&offset);
                return offset.map_or(Ok(()), commit).map_err(|error| self.failed(error));
            }
        };
        let transaction = || {
            self.producer.begin_transaction()?;
            self.send(messages, deadline)?;
            if let Some(offset) = &offset {
                self.producer.send_offsets_to_transaction(offset, group, left(deadline))?;
            }
            self.producer.commit_transaction(left(deadline))
        };
        transaction().map_err(|error| {
            let failed = self.failed(error);
            if !matches!(failed, PublishError::Fenced) {
                self.abort();
            }
            failed
        })
    }

    /// Sends everything and waits until the brokers have it.
    fn send(&self, messages: &[(String, BusMessage)], deadline: Instant) -> Result<(), KafkaError> {
        self.voice.forget_undelivered();
        for (topic, message) in messages {
            let mut record = record(topic, message);
            loop {
                match self.producer.send(record) {
                    Ok(()) => break,
                    Err((error, refused)) if is_full(&error) && Instant::now() < deadline => {
                        record = refused;
                        self.serve();
                    }
                    // The transaction may have failed by an earlier message.
                    Err((error, _)) => return Err(self.voice.undelivered().unwrap_or(error)),
                }
            }
        }
        // Flushing is left with nothing to wait for, since rdkafka waits in steps of 100 ms.
        while self.producer.in_flight_count() > 0 {
            if Instant::now() > deadline {
                let timed_out = RDKafkaErrorCode::OperationTimedOut;
                return Err(KafkaError::MessageProduction(timed_out));
            }
            self.serve();
        }
        self.voice.undelivered().map_or(Ok(()), Err)
    }

    /// Takes what the brokers have said, and gives them a moment to say more. Not by rdkafka's waiting:
    /// what is left of it below a millisecond, it spends asking over and over.
    fn serve(&self) {
        self.producer.poll(Duration::ZERO);
        if self.producer.in_flight_count() > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Gives up what was begun, so that it holds nobody back. If that fails, the next holder does
    /// it by opening.
    fn abort(&self) {
        if let Err(error) = self.producer.abort_transaction(Duration::from_secs(1)) {
            tracing::debug!(%error, "a transaction could not be aborted");
        }
    }

    fn failed(&self, error: KafkaError) -> PublishError {
        let fatal = self.producer.client().fatal_error().map(|(code, _)| code);
        if is_fencing(fatal) || is_fencing(error.rdkafka_error_code()) {
            return PublishError::Fenced;
        }
        publish_error(error)
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

fn is_full(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull)
}

/// Whether the broker has a later holder, or took the transactional id away because its transaction
/// was open for too long.
fn is_fencing(code: Option<RDKafkaErrorCode>) -> bool {
    use RDKafkaErrorCode::{Fenced, InvalidProducerEpoch, ProducerFenced};
    matches!(code, Some(Fenced | ProducerFenced | InvalidProducerEpoch))
}

impl fmt::Debug for RedpandaPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedpandaPublisher").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_later_holder_fences() {
        use RDKafkaErrorCode::{InvalidProducerEpoch, OperationTimedOut, ProducerFenced};
        assert!(is_fencing(Some(ProducerFenced)) && is_fencing(Some(InvalidProducerEpoch)));
        assert!(!is_fencing(Some(OperationTimedOut)) && !is_fencing(None));
    }
}
