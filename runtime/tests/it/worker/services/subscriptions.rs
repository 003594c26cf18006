//! Reports to operators about unreadable topics.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use composable_rust_core::bus::{
    BusError, BusMessage, EventBus, GroupOffset, PublishError, PublisherName, TopicState,
    TopicStatus,
};
use composable_rust_runtime::AppBuilder;
use composable_rust_runtime::operations::SubscriptionStatus;
use composable_rust_testing::InMemoryDeliveries;
use futures_util::Stream;

use super::super::world::{World, eventually, millis, started};
use super::{Back, Errand, Front, Line, LinePublisher, front_heard, send, world_of};
use crate::logged::Logged;

/// A bus whose subscriptions report errors before anything else, and may then end.
#[derive(Clone)]
struct Failing {
    line: Line,
    errors: Vec<&'static str>,
    ends: bool,
}

struct FailingDeliveries {
    deliveries: InMemoryDeliveries,
    errors: VecDeque<&'static str>,
    ends: bool,
}

impl Stream for FailingDeliveries {
    type Item = <InMemoryDeliveries as Stream>::Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(error) = self.errors.pop_front() {
            return Poll::Ready(Some(Err(BusError::new(error))));
        }
        if self.ends {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.deliveries).poll_next(context)
    }
}

impl EventBus for Failing {
    type Delivery = composable_rust_testing::InMemoryDelivery;
    type Deliveries = FailingDeliveries;
    type Publisher = LinePublisher;

    async fn publish(&self, message: BusMessage) -> Result<(), PublishError> {
        self.line.publish(message).await
    }

    async fn publish_to_existing(&self, message: BusMessage) -> Result<(), PublishError> {
        self.line.publish_to_existing(message).await
    }

    async fn subscribe(
        &self,
        group: &str,
        topics: &[String],
        known: &[GroupOffset],
    ) -> Result<FailingDeliveries, BusError> {
        let deliveries = self.line.subscribe(group, topics, known).await?;
        let errors = self.errors.iter().copied().collect();
        Ok(FailingDeliveries { deliveries, errors, ends: self.ends })
    }

    fn topic_status(&self, group: &str) -> Vec<TopicStatus> {
        let mut status = self.line.bus.topic_status(group);
        let reason = "position 3 is gone".to_owned();
        if let Some(first) = status.first_mut() {
            first.state = TopicState::LostPosition { reason };
        }
        status
    }

    async fn publisher(&self, name: &PublisherName) -> Result<LinePublisher, BusError> {
        self.line.publisher(name).await
    }

    fn max_payload_bytes(&self) -> Option<usize> {
        None
    }
}

fn back_to(world: &World, bus: &Failing) -> AppBuilder {
    let builder = world.bare_builder(world.memory.clone()).event_bus(bus.clone());
    builder.aggregate::<Back>(()).remote::<Front>().serve::<Back>()
}

/// A subscription that ends reports its reason to operators, but not at every attempt.
#[tokio::test(start_paused = true)]
async fn a_subscription_that_ends_is_logged_once_a_minute() {
    let logged = Logged::begin();
    let line = Failing { line: Line::new(), errors: vec!["position 3 is gone"], ends: true };
    let world = world_of(2);
    let back = started(back_to(&world, &line));
    tokio::time::sleep(millis(150_000)).await;
    let lines = logged.lines("resubscribing");
    assert!(lines.iter().all(|line| line.contains("WARN") && line.contains("position 3 is gone")));
    assert_eq!(lines.len(), 3, "{lines:#?}");
    let [subscription] = &back.subscriptions()[..] else { panic!("one group is read") };
    let (_, error) = subscription.last_error.as_ref().unwrap();
    assert!(error.contains("position 3 is gone"), "{error}");
    assert!(!subscription.is_reading(), "nothing is read meanwhile");
}

/// An error followed by deliveries does not stop them, and unread topics are visible.
#[tokio::test(start_paused = true)]
async fn errors_of_a_running_subscription_are_logged_and_in_status() {
    let logged = Logged::begin();
    let errors = vec!["position 3 is gone", "position 3 is gone", "another reason"];
    let line = Failing { line: Line::new(), errors, ends: false };
    let (at_front, at_back) = (world_of(1), world_of(2));
    let front = super::front(&at_front, at_front.memory.clone(), &line.line, false);
    let back = started(back_to(&at_back, &line));
    send(&front, "1", super::ask_back("1", 1, Errand::Note(5))).await;
    front_heard(&front, "1", "1: note 5").await;
    assert_eq!(logged.lines("position 3 is gone").len(), 1);
    assert_eq!(logged.lines("another reason").len(), 1);
    let subscriptions: Vec<SubscriptionStatus> = back.subscriptions();
    let [subscription] = &subscriptions[..] else { panic!("one group is read") };
    assert_eq!(subscription.group, super::redelivery::group_of_back());
    assert!(!subscription.is_reading());
    assert_eq!(subscription.topics.len(), 4, "{subscription:?}");
    assert!(matches!(subscription.topics[0].state, TopicState::LostPosition { .. }));
    assert!(front.subscriptions()[0].is_reading());
}

/// A sender that fills the dead letters does not fill the log.
#[tokio::test(start_paused = true)]
async fn rejected_messages_are_logged_once_a_minute_per_topic() {
    let logged = Logged::begin();
    let (world, line) = (world_of(2), Line::new());
    let _back = started(super::back(&world, &line));
    for n in 0..100 {
        let (topic, payload) = ("back-commands".to_owned(), Vec::new());
        let message = BusMessage { topic, key: n.to_string(), headers: Vec::new(), payload };
        line.bus.publish(message).await.unwrap();
    }
    eventually("all are parked", async || world.dead_letters().await.len() == 100).await;
    assert_eq!(logged.lines("rejected a message").len(), 1);
}

/// After an operator adds partitions to a topic, one warning says that keys have moved.
#[tokio::test(start_paused = true)]
async fn added_topic_partitions_are_noticed() {
    let logged = Logged::begin();
    let (at_front, at_back, line) = (world_of(1), world_of(2), Line::new());
    let front = super::front(&at_front, at_front.memory.clone(), &line, false);
    let back = started(super::back(&at_back, &line));
    send(&front, "1", super::ask_back("1", 1, Errand::Note(1))).await;
    front_heard(&front, "1", "1: note 1").await;
    assert!(back.shutdown(millis(60_000)).await);
    line.bus.raise_partitions("back-commands", 7);
    for n in 2..=3 {
        let back = started(super::back(&at_back, &line));
        send(&front, "1", super::ask_back("1", n, Errand::Note(n))).await;
        front_heard(&front, "1", &format!("{n}: note {n}")).await;
        assert!(back.shutdown(millis(60_000)).await);
    }
    let lines = logged.lines("a topic has more partitions");
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].contains("back-commands") && lines[0].contains("before=4 now=7"), "{lines:?}");
}
