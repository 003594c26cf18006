//! Publishers of batches. Opening one fences earlier holders.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use composable_rust_core::bus::{
    BusError, BusMessage, PublishError, Publisher, PublisherName, ResumePosition,
};
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer};
use tokio::sync::OwnedSemaphorePermit;

use crate::client::config::{BATCH_LINGER, idempotent_producer, transactional_producer};
use crate::client::drop_in_background::DropInBackground;
use crate::client::log::ClientLog;
use crate::context::BusContext;
use crate::error::{bus_error, join_error, publish_error};
use crate::group::publisher_position::{self, PublisherPositions, ResumePoint};
use crate::record::{check_size_and_headers, record};
use crate::topics::IfMissing;

/// The exclusive publisher of one log partition. Opening it again, in any process, fences this one.
pub struct RedpandaPublisher {
    bus: Arc<BusContext>,
    name: PublisherName,
    /// The position of the last batch that this holder or an earlier one published.
    position: Option<ResumePosition>,
    state: State,
}

enum State {
    Open(Box<DropInBackground<PublisherClients>>),
    /// A call is in progress or was dropped.
    Busy,
    Fenced,
    /// A batch failed.
    Broken,
}

/// The clients of a publisher. Their calls block.
struct PublisherClients {
    producer: BaseProducer<ClientLog>,
    log: ClientLog,
    resume_point: ResumePoint,
    commit_mode: CommitMode,
    timeout: Duration,
    /// Held until the clients are closed, so that the bus counts this publisher as open.
    _slot: OwnedSemaphorePermit,
}

/// The way in which positions are committed.
enum CommitMode {
    /// In the transaction of the messages, as offsets of this group.
    InTransaction(ConsumerGroupMetadata),
    /// After the messages, by a separate client.
    AfterMessages(PublisherPositions),
}

impl RedpandaPublisher {
    /// Opens the publisher with this name.
    pub(crate) async fn open(bus: Arc<BusContext>, name: PublisherName) -> Result<Self, BusError> {
        let topic = bus.wire_name(&publisher_position::topic(&name));
        let if_missing = match IfMissing::of(&bus.settings) {
            IfMissing::Create(_) => IfMissing::Create(name.partitions.max(1)),
            IfMissing::Reject => IfMissing::Reject,
        };
        bus.topics.ensure(&bus.settings, [&*topic], if_missing).await?;
        let slot = bus.publisher_slot().await?;
        let (clients, position) = {
            let (bus, name) = (Arc::clone(&bus), name.clone());
            let opening =
                tokio::task::spawn_blocking(move || PublisherClients::open(&bus, &name, slot));
            opening.await.map_err(join_error)??
        };
        Ok(Self {
            bus,
            name,
            position,
            state: State::Open(Box::new(DropInBackground::new(clients))),
        })
    }

    /// Calls `operation` with the clients on a thread that may block.
    async fn run_blocking<T: Send + 'static>(
        &mut self,
        operation: impl FnOnce(&PublisherClients) -> Result<T, PublishError> + Send + 'static,
    ) -> Result<T, PublishError> {
        let clients = match std::mem::replace(&mut self.state, State::Busy) {
            State::Open(clients) => clients,
            State::Fenced => {
                self.state = State::Fenced;
                return Err(PublishError::Fenced);
            }
            closed @ (State::Busy | State::Broken) => {
                self.state = closed;
                let text = "an earlier call failed or was dropped; open the publisher again";
                return Err(BusError::new(text).into());
            }
        };
        let work = tokio::task::spawn_blocking(move || {
            let outcome = operation(&clients);
            (outcome, clients)
        });
        let (outcome, clients) = work.await.map_err(join_error)?;
        self.state = match &outcome {
            Ok(_) => State::Open(clients),
            Err(PublishError::Fenced) => State::Fenced,
            Err(_) => State::Broken,
        };
        outcome
    }
}

impl Publisher for RedpandaPublisher {
    async fn resume_position(&mut self) -> Result<Option<ResumePosition>, PublishError> {
        let position = self.position;
        self.run_blocking(move |clients| match &clients.commit_mode {
            // Another holder cannot have published: opening it would have fenced this one.
            CommitMode::InTransaction(_) => Ok(position),
            CommitMode::AfterMessages(positions) => {
                positions.read().map_err(|error| clients.failed(error))
            }
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
        check_size_and_headers(self.bus.settings.max_payload_bytes, &messages)?;
        let messages: Vec<_> =
            messages.into_iter().map(|m| (self.bus.wire_name(&m.topic), m)).collect();
        let names = messages.iter().map(|(topic, _)| &**topic);
        let settings = &self.bus.settings;
        self.bus.topics.ensure(settings, names, IfMissing::of(settings)).await?;
        if messages.is_empty() && position.is_none() {
            return Ok(());
        }
        let bus = Arc::clone(&self.bus);
        self.run_blocking(move |clients| {
            let published = clients.publish(&messages, position);
            if published.as_ref().is_err_and(|error| !matches!(error, PublishError::Fenced)) {
                // A topic may have been deleted, so the next call checks that they exist.
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
    /// Opens the clients and reads the position. With transactions, the client that reads the
    /// position is closed afterwards, because only its group is needed later.
    fn open(
        bus: &BusContext,
        name: &PublisherName,
        slot: OwnedSemaphorePermit,
    ) -> Result<(Self, Option<ResumePosition>), BusError> {
        let settings = &bus.settings;
        let log = ClientLog::default();
        let config = if settings.transactions {
            let id =
                format!("{}-{}", publisher_position::broker_name(settings, name), name.partition);
            transactional_producer(settings, &id)
        } else {
            idempotent_producer(settings, BATCH_LINGER)
        };
        let producer: BaseProducer<ClientLog> =
            config.create_with_context(log.clone()).map_err(bus_error)?;
        if settings.transactions {
            // Completes the earlier holder's transaction if it was being committed, else aborts it.
            let limit = settings.transaction_timeout.max(settings.connect_timeout);
            producer.init_transactions(limit).map_err(bus_error)?;
        }
        let positions = PublisherPositions::open(settings, name).map_err(bus_error)?;
        let position = positions.read().map_err(bus_error)?;
        let (commit_mode, timeout) = if settings.transactions {
            let group = positions.group()?;
            drop(DropInBackground::new(positions));
            (CommitMode::InTransaction(group), settings.transaction_timeout)
        } else {
            (CommitMode::AfterMessages(positions), settings.publish_timeout)
        };
        let resume_point = ResumePoint::new(settings, name);
        let clients = Self { producer, log, resume_point, commit_mode, timeout, _slot: slot };
        Ok((clients, position))
    }

    fn publish(
        &self,
        messages: &[(String, BusMessage)],
        position: Option<ResumePosition>,
    ) -> Result<(), PublishError> {
        let offset = position.map(|position| self.resume_point.offset(position)).transpose()?;
        let deadline = Instant::now() + self.timeout;
        let group = match &self.commit_mode {
            CommitMode::InTransaction(group) => group,
            CommitMode::AfterMessages(positions) => {
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

    /// Sends the messages and waits until the brokers have acknowledged all of them.
    fn send(&self, messages: &[(String, BusMessage)], deadline: Instant) -> Result<(), KafkaError> {
        self.log.forget_undelivered();
        for (topic, message) in messages {
            let mut record = record(topic, message);
            loop {
                match self.producer.send(record) {
                    Ok(()) => break,
                    Err((error, unsent)) if is_full(&error) && Instant::now() < deadline => {
                        record = unsent;
                        self.serve();
                    }
                    // An earlier message may have failed the transaction; return that error.
                    Err((error, _)) => return Err(self.log.undelivered().unwrap_or(error)),
                }
            }
        }
        // Waits here rather than in `flush`, because rdkafka's `flush` waits in steps of 100 ms.
        while self.producer.in_flight_count() > 0 {
            if Instant::now() > deadline {
                let timed_out = RDKafkaErrorCode::OperationTimedOut;
                return Err(KafkaError::MessageProduction(timed_out));
            }
            self.serve();
        }
        self.log.undelivered().map_or(Ok(()), Err)
    }

    /// Handles delivery reports, then sleeps for a millisecond if messages are in flight. It does
    /// not use the timeout of rdkafka's `poll`, which busy-waits for the last millisecond.
    fn serve(&self) {
        self.producer.poll(Duration::ZERO);
        if self.producer.in_flight_count() > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Aborts the transaction, so that it does not block readers. If that fails, the next holder
    /// aborts it by opening the publisher.
    fn abort(&self) {
        if let Err(error) = self.producer.abort_transaction(Duration::from_secs(1)) {
            tracing::debug!(%error, "failed to abort a transaction; the next holder aborts it");
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

/// Returns `true` if a later holder opened the publisher, or the broker expired the transactional
/// id because its transaction was open for too long.
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
