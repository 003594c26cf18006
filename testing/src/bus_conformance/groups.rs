//! Consumer groups: offsets, order and the sharing of partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use composable_rust_core::bus::{
    Delivery as _, EventBus as _, GroupOffset, GroupPartition, GroupTopic, TopicOffset, TopicState,
    TopicStatus,
};

use super::subject::{BusUnderTest, Member, acknowledge, by_key, numbers, places, text, texts};

/// Enough keys for every member to receive some.
pub(super) fn keys() -> Vec<String> {
    (0..40).map(|n| format!("thing-{n}")).collect()
}

/// Publishes rounds of messages of many keys until both members receive some of one round, which
/// shows that the group has settled. Acknowledges everything, and returns the keys of each member.
pub(super) async fn settle(
    on: &BusUnderTest,
    one: &mut Member,
    other: &mut Member,
) -> [Vec<String>; 2] {
    for round in 0..500 {
        let round = round.to_string();
        on.publish(on.of_each(&keys(), &round)).await;
        let mut whose = BTreeMap::new();
        while whose.len() < keys().len() {
            let (member, delivery) = tokio::select! {
                delivery = one.next() => (0, delivery),
                delivery = other.next() => (1, delivery),
            };
            // A message of an earlier round changed its owner meanwhile and is redelivered.
            if text(delivery.message()) == round {
                whose.insert(delivery.message().key.clone(), member);
            }
            let _ = delivery.acknowledge().await;
        }
        let of = |member| {
            let theirs = whose.iter().filter(|(_, who)| **who == member);
            theirs.map(|(key, _)| key.clone()).collect::<Vec<_>>()
        };
        let keys = [of(0), of(1)];
        if keys.iter().all(|keys| !keys.is_empty()) {
            return keys;
        }
    }
    panic!("the members share nothing");
}

pub(super) async fn a_new_group_starts_at_the_beginning(on: BusUnderTest) {
    on.publish(on.numbered("k", 0, 3)).await;
    let mut reader = on.join("readers").await;
    assert_eq!(texts(&reader.take(3).await), numbers(0, 3));
}

pub(super) async fn a_new_group_starts_after_the_known_offsets(on: BusUnderTest) {
    on.publish(on.numbered("k", 0, 6)).await;
    let seen = on.join("lookers").await.take(6).await;
    let (seen, time) = (places(&seen), seen[3].published_at());
    let topic = on.topic("things");
    let known = |place, published_at| GroupOffset { topic: topic.clone(), at: place, published_at };
    // Offsets of a missing partition and of another topic.
    let elsewhere = TopicOffset { partition: 10_000, offset: 0 };
    let other = GroupOffset { topic: on.topic("others"), ..known(seen[5], None) };
    for (n, time) in [None, time].into_iter().enumerate() {
        let known = [known(elsewhere, None), other.clone(), known(seen[3], time)];
        let (group, topics) = (format!("readers-{n}"), std::slice::from_ref(&topic));
        let mut reader = on.join_behind(&group, topics, &known).await;
        assert_eq!(texts(&reader.take(2).await), numbers(4, 6));
    }
}

pub(super) async fn known_offsets_of_a_recreated_topic_are_ignored(on: BusUnderTest) {
    on.publish(on.numbered("k", 0, 6)).await;
    let topic = on.topic("things");
    let (last, time) = {
        let seen = on.join("lookers").await.take(6).await;
        (seen[5].offset(), seen[5].published_at())
    };
    let beyond = TopicOffset { offset: last.offset + 100, ..last };
    let earlier = time.map(|time| time - Duration::from_secs(3_600));
    for (n, (place, published_at)) in [(beyond, time), (last, earlier)].into_iter().enumerate() {
        // A bus without publication times has nothing to compare.
        if n > 0 && published_at.is_none() {
            continue;
        }
        let known = [GroupOffset { topic: topic.clone(), at: place, published_at }];
        let (group, topics) = (format!("readers-{n}"), std::slice::from_ref(&topic));
        let mut reader = on.join_behind(&group, topics, &known).await;
        assert_eq!(texts(&reader.take(6).await), numbers(0, 6));
    }
}

pub(super) async fn a_group_keeps_its_offsets(on: BusUnderTest) {
    on.publish(on.numbered("k", 0, 6)).await;
    let mut reader = on.join("readers").await;
    let deliveries = reader.take(6).await;
    let (topic, place) = (on.topic("things"), deliveries[5].offset());
    let last = GroupOffset { topic, at: place, published_at: None };
    let mut deliveries = deliveries.into_iter();
    acknowledge(deliveries.by_ref().take(2).collect()).await;
    drop((deliveries, reader));
    // The offsets that the bus has of a group take precedence over known offsets.
    let topics = [on.topic("things")];
    let mut reader = on.another_process().await.join_behind("readers", &topics, &[last]).await;
    assert_eq!(texts(&reader.take(4).await), numbers(2, 6));
}

pub(super) async fn every_group_receives_everything(on: BusUnderTest) {
    let mut early = on.join("early").await;
    on.publish(on.numbered("k", 0, 10)).await;
    let mut late = on.join("late").await;
    for reader in [&mut early, &mut late] {
        let deliveries = reader.take(10).await;
        assert_eq!(texts(&deliveries), numbers(0, 10));
        acknowledge(deliveries).await;
    }
    let mut later = on.another_process().await.join("later").await;
    assert_eq!(texts(&later.take(10).await), numbers(0, 10));
}

pub(super) async fn a_group_receives_each_key_in_order(on: BusUnderTest) {
    let there = on.another_process().await;
    for n in 0..12 {
        // Several processes may publish messages of one key, one after the other.
        let from = if n % 2 == 0 { &on } else { &there };
        from.publish(on.of_each(&keys(), &n.to_string())).await;
    }
    let mut reader = on.join("readers").await;
    let mut seen = Vec::new();
    for _ in 0..12 * keys().len() {
        let delivery = reader.next().await;
        seen.push(delivery.message().clone());
        acknowledge(vec![delivery]).await;
    }
    let seen = by_key(&seen);
    assert_eq!(seen.len(), keys().len());
    for (key, texts) in seen {
        assert_eq!(texts, numbers(0, 12), "the messages of {key}");
    }
}

pub(super) async fn the_offsets_of_a_partition_rise(on: BusUnderTest) {
    on.publish(on.numbered("k", 0, 10)).await;
    let deliveries = on.join("readers").await.take(10).await;
    let places = places(&deliveries);
    assert!(places.windows(2).all(|pair| pair[0] < pair[1]), "{places:?}");
    let partitions: BTreeSet<_> = places.iter().map(|place| place.partition).collect();
    assert_eq!(partitions.len(), 1, "a key has one partition");
}

pub(super) async fn members_share_the_keys_of_a_topic(on: BusUnderTest) {
    let there = on.another_process().await;
    let mut one = on.join("readers").await;
    let mut other = there.join("readers").await;
    settle(&on, &mut one, &mut other).await;

    for n in ["a", "b", "c"] {
        on.publish(on.of_each(&keys(), n)).await;
    }
    let mut whose = BTreeMap::<String, BTreeSet<usize>>::new();
    let mut seen = Vec::new();
    while seen.len() < 3 * keys().len() {
        let (member, delivery) = tokio::select! {
            delivery = one.next() => (0, delivery),
            delivery = other.next() => (1, delivery),
        };
        whose.entry(delivery.message().key.clone()).or_default().insert(member);
        seen.push(delivery.message().clone());
        acknowledge(vec![delivery]).await;
    }
    for (key, texts) in by_key(&seen) {
        assert_eq!(texts, ["a", "b", "c"], "the messages of {key}");
    }
    assert!(whose.values().all(|members| members.len() == 1), "a key has one reader: {whose:?}");
    let members: BTreeSet<_> = whose.values().flatten().collect();
    assert_eq!(members.len(), 2, "both members get some: {whose:?}");
    one.silence().await;
    other.silence().await;
}

pub(super) async fn a_waiting_member_receives_new_messages(on: BusUnderTest) {
    let mut reader = on.join("readers").await;
    for n in 0..5 {
        let (delivery, ()) = tokio::join!(reader.next(), on.publish(on.numbered("k", n, 1)));
        assert_eq!(texts(&[delivery]), numbers(n, n + 1));
    }
}

pub(super) async fn a_group_reports_the_status_of_its_topics(on: BusUnderTest) {
    on.publish(on.numbered("k", 0, 1)).await;
    let mut reader = on.join("readers").await;
    let partition = reader.next().await.offset().partition;
    let (group, topic) = (on.group("readers"), on.topic("things"));
    let told = on.bus.topic_status(&group);
    // A bus may be unable to report a status.
    if !told.is_empty() {
        let (partition, state) = (Some(partition), TopicState::Reading);
        let read = TopicStatus { topic: topic.clone(), partition, state };
        assert!(told.contains(&read), "{read:?} is not told, only {told:?}");
        assert!(told.iter().all(|status| status.topic == topic), "{told:?}");
    }
    let count = on.bus.partition_count(&group, &topic);
    assert!(count.is_none_or(|count| partition < i32::from(count)), "{partition} of {count:?}");
    assert_eq!(on.bus.topic_status(&on.group("others")), []);
}

pub(super) async fn a_group_without_members_is_moved(on: BusUnderTest) {
    on.publish(on.numbered("k", 0, 6)).await;
    let mut reader = on.join("readers").await;
    let taken = reader.take(6).await;
    let at = taken[0].offset();
    acknowledge(taken).await;
    let of =
        GroupTopic { group: on.group("readers"), topic: on.topic("things"), is_external: false };
    let back = TopicOffset { offset: at.offset + 4, ..at };
    let other = on.another_process().await;
    other.bus.move_group(&of, &[back]).await.expect_err("the group has a member");
    drop(reader);
    let mut moved = other.bus.move_group(&of, &[back]).await;
    for _ in 0..300 {
        // A broker notices after a moment that the member has left.
        if moved.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        moved = other.bus.move_group(&of, &[back]).await;
    }
    moved.expect("the group has no members");
    let partitions = other.bus.group_partitions(&of, None).await.expect("the positions are read");
    let found = partitions.iter().find(|of| of.partition == at.partition);
    let GroupPartition { next, first, end, since, .. } = *found.expect("the partition is there");
    assert_eq!((next, first, since), (Some(back.offset), at.offset, None));
    assert!(end >= at.offset + 6, "{end}");
    assert_eq!(texts(&other.join("readers").await.take(2).await), numbers(4, 6));

    let missing = GroupTopic { topic: on.topic("missing"), ..of };
    assert_eq!(on.bus.group_partitions(&missing, None).await.expect("it is read"), []);
}
