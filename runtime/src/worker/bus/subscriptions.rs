//! The status of subscriptions to the bus.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use composable_rust_core::Timestamp;
use composable_rust_core::bus::{BusError, EventBus as _, SharedEventBus, TopicState, TopicStatus};

use crate::error::error_chain;
use crate::panic::lock;
use crate::worker::log_limit::LogLimit;

/// A subscription of an app: see [`App::subscriptions`](crate::App::subscriptions).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionStatus {
    /// The consumer group.
    pub group: String,
    /// `true` if this process is a member of the group; `false` while it subscribes or
    /// resubscribes.
    pub is_subscribed: bool,
    /// The topics and partitions that this process reads or fails to read, without the partitions
    /// that other processes of the group read.
    pub topics: Vec<TopicStatus>,
    /// The last error and its time, even if the subscription has recovered since.
    pub last_error: Option<(Timestamp, String)>,
}

impl SubscriptionStatus {
    /// Returns `true` if this process is a member of the group and can read each of its topics and
    /// partitions.
    pub fn is_reading(&self) -> bool {
        self.is_subscribed && self.topics.iter().all(|topic| topic.state == TopicState::Reading)
    }
}

/// The subscriptions of an app, by group.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions(Mutex<BTreeMap<String, SubscriptionErrors>>);

#[derive(Debug, Default)]
struct SubscriptionErrors {
    is_subscribed: bool,
    limit: LogLimit,
    last: Option<(Timestamp, String)>,
}

impl Subscriptions {
    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, SubscriptionErrors>> {
        lock(&self.0)
    }

    pub(crate) fn set_subscribed(&self, group: &str, is_subscribed: bool) {
        self.locked().entry(group.to_owned()).or_default().is_subscribed = is_subscribed;
    }

    /// Records that a subscription was left because the log is paused.
    pub(crate) fn left(&self, group: &str) {
        if let Some(errors) = self.locked().get_mut(group) {
            errors.is_subscribed = false;
        }
    }

    /// Records and logs an error of a subscription that continues.
    pub(crate) fn failed(&self, group: &str, time: Timestamp, now: Duration, error: &BusError) {
        let text = error_chain(error);
        let mut groups = self.locked();
        let errors = groups.entry(group.to_owned()).or_default();
        // The reason for the log limit has no details, which vary.
        let reason = error.source().map_or_else(|| text.clone(), ToString::to_string);
        if errors.limit.admits(now, &reason) {
            tracing::warn!(group, error = text, "error of a bus subscription; it continues");
        }
        errors.last = Some((time, text));
    }

    /// Records and logs that a subscription has ended.
    pub(crate) fn ended(&self, group: &str, time: Timestamp, now: Duration, reason: String) {
        let mut groups = self.locked();
        let errors = groups.entry(group.to_owned()).or_default();
        errors.is_subscribed = false;
        if errors.limit.admits(now, &reason) {
            tracing::warn!(group, error = reason, "bus subscription failed; resubscribing");
        }
        errors.last = Some((time, reason));
    }

    pub(crate) fn status(&self, bus: &SharedEventBus) -> Vec<SubscriptionStatus> {
        let groups = self.locked();
        let of_group = groups.iter().map(|(group, errors)| SubscriptionStatus {
            group: group.clone(),
            is_subscribed: errors.is_subscribed,
            topics: bus.topic_status(group),
            last_error: errors.last.clone(),
        });
        of_group.collect()
    }
}
