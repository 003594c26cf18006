//! Inspection of the bus by tests, beyond the port.

use composable_rust_core::bus::{BusMessage, TopicOffset};

use super::InMemoryEventBus;
use super::group::Group;
use super::state::Topic;

impl InMemoryEventBus {
    /// The messages of `topic`, in the order in which they were published.
    pub fn messages(&self, topic: &str) -> Vec<BusMessage> {
        self.placed_messages(topic).into_iter().map(|(_, message)| message).collect()
    }

    /// The messages of `topic` and their offsets, in the order in which they were published.
    pub fn placed_messages(&self, topic: &str) -> Vec<(TopicOffset, BusMessage)> {
        let state = self.locked();
        let messages = state.topics.get(topic).map(Topic::messages).unwrap_or_default();
        messages.iter().map(|(place, published)| (*place, published.message.clone())).collect()
    }

    /// The names of all topics, in order.
    pub fn topics(&self) -> Vec<String> {
        self.locked().topics.keys().cloned().collect()
    }

    /// The number of members of `group`.
    pub fn members(&self, group: &str) -> usize {
        self.locked().groups.get(group).map_or(0, Group::members)
    }

    /// The number of messages that a new member would receive if all current members of `group`
    /// left.
    pub fn unfinished(&self, group: &str) -> usize {
        let state = self.locked();
        let Some(group) = state.groups.get(group) else { return 0 };
        let of_topic = |name: &String| {
            let topic = state.topics.get(name);
            let messages = topic.map(Topic::messages).unwrap_or_default();
            let unfinished = messages.iter().filter(|(place, _)| {
                let partition = usize::try_from(place.partition).unwrap_or(usize::MAX);
                place.offset >= group.stored(name, partition)
            });
            unfinished.count()
        };
        group.topics().map(of_topic).sum()
    }
}
