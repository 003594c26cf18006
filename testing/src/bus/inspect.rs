//! Inspection of the bus by tests, beyond the port.

use composable_rust_core::bus::{BusMessage, TopicOffset};

use super::InMemoryEventBus;
use super::group::Group;
use super::state::Topic;

impl InMemoryEventBus {
    /// The messages that `topic` has, in the order in which they were published.
    pub fn messages(&self, topic: &str) -> Vec<BusMessage> {
        self.placed_messages(topic).into_iter().map(|(_, message)| message).collect()
    }

    /// The messages that `topic` has and their offsets, in the order in which they were published.
    pub fn placed_messages(&self, topic: &str) -> Vec<(TopicOffset, BusMessage)> {
        let state = self.locked();
        let messages = state.topics.get(topic).into_iter().flat_map(Topic::messages);
        messages.map(|(place, published)| (*place, published.message.clone())).collect()
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
    /// left, and those behind a lost position.
    pub fn unfinished(&self, group: &str) -> usize {
        let state = self.locked();
        let Some(group) = state.groups.get(group) else { return 0 };
        let of_topic = |name: &String| {
            let messages = state.topics.get(name).into_iter().flat_map(Topic::messages);
            let unfinished = messages.filter(|(place, _)| {
                let partition = usize::try_from(place.partition).unwrap_or(usize::MAX);
                place.offset >= group.stored(name, partition)
            });
            unfinished.count()
        };
        group.topics().map(of_topic).sum()
    }
}
