//! The callbacks of a subscription's consumer: rebalances, errors and the log.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{
    BaseConsumer, CommitMode, Consumer as _, ConsumerContext, RebalanceProtocol,
};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList, TopicPartitionListElem};
use rdkafka::types::RDKafkaRespErr;

use crate::client::log::ClientLog;
use crate::client::settings::{LostPosition, Settings};
use crate::error::{Failure, bus_error};
use crate::group::resume::StoredGroupOffsets;
use crate::group::subscription::Subscription;

/// The consumer's callbacks, which librdkafka calls while the subscription's thread polls.
pub(crate) struct GroupContext {
    log: ClientLog,
    /// librdkafka's detail of the error that is polled next.
    detail: Mutex<Option<String>>,
    subscription: Arc<Subscription>,
    stored: StoredGroupOffsets,
    lost_position: LostPosition,
    /// `true` if partitions were assigned although the committed offsets could not be read.
    /// librdkafka then reads these itself, and delivers nothing from a partition that has none.
    unknown_start: AtomicBool,
    timeout: Duration,
    drain_timeout: Duration,
}

impl GroupContext {
    pub(crate) fn new(
        subscription: Arc<Subscription>,
        stored: StoredGroupOffsets,
        settings: &Settings,
    ) -> Self {
        Self {
            log: ClientLog::default(),
            detail: Mutex::default(),
            subscription,
            stored,
            lost_position: settings.lost_position,
            unknown_start: AtomicBool::new(false),
            timeout: settings.connect_timeout,
            drain_timeout: settings.drain_timeout,
        }
    }

    /// Returns `true` if partitions were assigned without start offsets since the last call.
    pub(crate) fn take_unknown_start(&self) -> bool {
        self.unknown_start.swap(false, Ordering::SeqCst)
    }

    pub(crate) fn take_detail(&self) -> Option<String> {
        self.detail.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Sets the start offsets of partitions without a committed offset: after the offset that the
    /// subscriber passed, or else the beginning.
    ///
    /// # Errors
    ///
    /// The group's coordinator does not return the committed offsets.
    fn set_start_offsets(
        &self,
        consumer: &BaseConsumer<Self>,
        list: &mut TopicPartitionList,
    ) -> Result<(), KafkaError> {
        if self.lost_position == LostPosition::Beginning && self.stored.processed.is_empty() {
            return Ok(());
        }
        let committed = consumer.committed_offsets(list.clone(), self.timeout)?;
        for element in committed.elements() {
            let (topic, partition) = (element.topic(), element.partition());
            element.error()?;
            let offset = match element.offset() {
                Offset::Invalid => self.stored.start_offset(topic, partition),
                committed => committed,
            };
            let _ = list.set_partition_offset(topic, partition, offset);
        }
        Ok(())
    }

    /// Reads the partition counts of the topics of these partitions.
    fn read_partition_counts(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        let elements = list.elements();
        let topics: BTreeSet<_> = elements.iter().map(TopicPartitionListElem::topic).collect();
        for topic in topics {
            let Ok(metadata) = consumer.fetch_metadata(Some(topic), self.timeout) else { return };
            for found in metadata.topics() {
                let count = u16::try_from(found.partitions().len()).unwrap_or(u16::MAX);
                self.subscription.set_partition_count(topic, count);
            }
        }
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, list: &mut TopicPartitionList) {
        match self.set_start_offsets(consumer, list) {
            Ok(()) => {
                self.read_partition_counts(consumer, list);
                self.subscription.assign(list);
            }
            // librdkafka would ignore the stored offsets and read from the beginning.
            Err(error) if self.lost_position == LostPosition::Beginning => {
                let failure = Failure::new("failed to read the group's committed offsets");
                self.subscription.fail(failure.with_detail(Some(error.to_string())).into(), true);
            }
            Err(error) => {
                tracing::warn!(%error, "failed to read the group's committed offsets; retrying");
                self.unknown_start.store(true, Ordering::SeqCst);
                self.read_partition_counts(consumer, list);
                self.subscription.assign(list);
            }
        }
        let assigned = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
            _ => consumer.assign(list),
        };
        if let Err(error) = assigned {
            return self.subscription.fail(bus_error(error), false);
        }
        // librdkafka keeps a partition paused when it is revoked and assigned again.
        if let Err(error) = consumer.resume(list) {
            tracing::warn!(%error, ?list, "failed to resume assigned partitions; retrying");
            self.subscription.set_paused(list, true);
        }
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        // A lost assignment may belong to another member by now, so its offsets must not be
        // committed.
        if !consumer.assignment_lost() {
            let offsets = self.subscription.drain(list, self.drain_timeout);
            // Asynchronous, because a synchronous commit would block while the broker is
            // unreachable. The request precedes the one that gives up the partitions on the same
            // connection.
            if offsets.count() > 0 {
                if let Err(error) = consumer.commit(&offsets, CommitMode::Async) {
                    tracing::warn!(%error, "failed to commit offsets; expect redeliveries");
                }
            }
        }
        self.subscription.revoke(list);
        let revoked = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
            _ => consumer.unassign(),
        };
        if let Err(error) = revoked {
            self.subscription.fail(bus_error(error), false);
        }
    }
}

impl ClientContext for GroupContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.log.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, "{reason}");
        *self.detail.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
    }
}

impl ConsumerContext for GroupContext {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        event: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assign(consumer, list),
            _ => self.revoke(consumer, list),
        }
        tracing::debug!(?event, ?list, "topic partitions were reassigned");
    }
}
