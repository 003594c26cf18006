//! The gauges of a consumer's lag.

use std::collections::BTreeSet;

use composable_rust_core::bus::{Delivery as _, SharedDelivery};

use crate::metrics::CONSUMER_LAG_SECONDS;
use crate::worker::bus::consumer::{Consumer, DeliveryHandler};

impl<H: DeliveryHandler> Consumer<H> {
    /// Returns the name of the consumer: its group's, without the id of the log.
    fn name(&self) -> &str {
        let log = self.context.shared.log.id.to_string();
        let name = self.group.strip_prefix(&log).and_then(|name| name.strip_prefix('-'));
        name.unwrap_or(&self.group)
    }

    /// Sets the gauges to the ages of the first of these deliveries of each topic, which are not
    /// queued yet. Returns the topics.
    pub(super) fn report_lag<'d>(
        &self,
        deliveries: impl IntoIterator<Item = &'d SharedDelivery>,
    ) -> BTreeSet<&'d str> {
        let now = self.context.clock().now();
        let mut topics = BTreeSet::new();
        for delivery in deliveries {
            let topic = &*delivery.message().topic;
            if topics.insert(topic) {
                let age = delivery.published_at().map(|at| now.since(at)).unwrap_or_default();
                CONSUMER_LAG_SECONDS.set([self.name(), topic], age.as_secs_f64());
            }
        }
        topics
    }

    /// Sets the gauges of the topics of which nothing waits to 0.
    pub(super) fn report_no_lag(&self, topics: &[String], late: &BTreeSet<&str>) {
        for topic in topics.iter().filter(|topic| !late.contains(&***topic)) {
            CONSUMER_LAG_SECONDS.set([self.name(), topic], 0.0);
        }
    }
}
