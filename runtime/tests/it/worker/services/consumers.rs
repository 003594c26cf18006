//! Consumers that operators look at and move.

use composable_rust_core::bus::TopicOffset;
use composable_rust_core::environment::Clock as _;
use composable_rust_runtime::operations::{ConsumerError, ConsumerStart};

use super::super::world::{eventually, millis};
use super::{Errand, Line, Services, ask_back, front_heard, send, services};

#[tokio::test(start_paused = true)]
async fn a_consumer_is_moved_while_the_log_is_paused() {
    let Services { front, back, at_back, .. } = services(Line::new(), false);
    for n in 0..5 {
        send(&front, "1", ask_back("2", n, Errand::Note(n))).await;
    }
    front_heard(&front, "1", "4: note 4").await;
    tokio::time::sleep(millis(60_000)).await;
    let second = at_back.clock.now();
    for n in 5..8 {
        send(&front, "1", ask_back("2", n, Errand::Note(n))).await;
    }
    front_heard(&front, "1", "7: note 7").await;

    let all = back.consumers().await.unwrap();
    let [commands] = &*all else { panic!("{all:?}") };
    assert_eq!((&*commands.consumer, &*commands.of.topic), ("commands", "back-commands"));
    let at = commands.partitions.iter().find(|of| of.end > 0).unwrap();
    assert_eq!((at.first, at.next, at.end), (0, Some(8), 8));

    let beginning = ConsumerStart::Beginning;
    let busy = back.move_consumer("commands", "back-commands", &beginning).await;
    assert!(matches!(busy, Err(ConsumerError::Bus(_))), "{busy:?}");
    let unknown = back.move_consumer("commands", "front-commands", &beginning).await;
    assert!(matches!(unknown, Err(ConsumerError::Unknown { .. })), "{unknown:?}");
    let beyond = vec![TopicOffset { partition: at.partition, offset: 9 }];
    let beyond = back.offsets_of("commands", "back-commands", &ConsumerStart::At(beyond)).await;
    assert!(matches!(beyond, Err(ConsumerError::NoPosition { .. })), "{beyond:?}");

    back.pause().await.unwrap();
    let since = ConsumerStart::Since(second);
    eventually("the consumer leaves", async || {
        back.move_consumer("commands", "back-commands", &since).await.is_ok()
    })
    .await;
    let offsets = back.offsets_of("commands", "back-commands", &since).await.unwrap();
    assert!(offsets.contains(&TopicOffset { partition: at.partition, offset: 5 }), "{offsets:?}");
    assert_eq!(back.duplicates_ignored(), 0);
    back.resume().await.unwrap();
    eventually("three come again", async || back.duplicates_ignored() == 3).await;
    tokio::time::sleep(millis(60_000)).await;
    assert_eq!(back.duplicates_ignored(), 3);
}
