//! The reads of operators' tools.

use composable_rust_core::event::{CLOSED, ERASED, StoredContent, StoredEvent};
use composable_rust_core::queue::{Checkpoint, Checkpoints as _, Leases as _, Process, TimerQueue};
use composable_rust_core::store::{
    Due, EventFilter, EventStore as _, Inspection as _, LogRange, NamedCheckpoint, Severity,
    StreamSummary, TimerEntry,
};
use composable_rust_core::{EventId, StreamId, Version};

use super::builders::{append, content, event, fresh_id, inbox_entry, stream};
use super::firing::{arming, at_once, timer};
use super::subject::StoreUnderTest;
use super::workers::HOUR;

async fn listed(on: &StoreUnderTest, prefix: &str, limit: usize) -> Vec<StreamSummary> {
    on.store.list_streams(0, prefix, None, limit).await.expect("the streams are listed")
}

fn names(streams: &[StreamSummary]) -> Vec<&StreamId> {
    streams.iter().map(|of| &of.stream).collect()
}

async fn found(on: &StoreUnderTest, filter: &EventFilter) -> Vec<(StreamId, u64)> {
    let range = LogRange { partition: 0, after: 0, until: u64::MAX };
    let events = on.store.search_log(range, filter, 99).await.expect("the log is searched");
    events.into_iter().map(|event| (event.stream, event.version.get())).collect()
}

pub(super) async fn streams_are_listed_in_order_and_in_pages(on: StoreUnderTest) {
    assert_eq!(listed(&on, "", 9).await, []);
    let mut streams = on.streams_of(0, "thing", 5);
    streams.extend(on.streams_of(0, "thing_2", 2));
    streams.extend(on.streams_of(0, "a", 1));
    for stream in &streams {
        on.commit(&append(stream, 0, 2)).await;
    }
    on.commit(&append(&streams[0], 2, 1)).await;
    streams.sort();

    let all = listed(&on, "", 99).await;
    assert_eq!(names(&all), streams.iter().collect::<Vec<_>>());
    let mut paged = Vec::new();
    loop {
        let after = paged.last().map(|of: &StreamSummary| of.stream.clone());
        let page = on.store.list_streams(0, "", after.as_ref(), 3).await.expect("a page");
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 3);
        paged.extend(page);
    }
    assert_eq!(paged, all);
    let of_category = listed(&on, "thing-", 99).await;
    assert_eq!(of_category.len(), 5, "another category with the same beginning is left out");
    assert_eq!(listed(&on, of_category[2].stream.as_str(), 1).await, of_category[2..3]);
    assert_eq!(listed(&on, "it's \"nothing\" %", 9).await, []);
    assert_eq!(listed(&on, "", 0).await, []);
    assert!(on.store.list_streams(on.partitions(), "", None, 1).await.is_err());
}

pub(super) async fn a_listed_stream_shows_its_first_and_last_event(on: StoreUnderTest) {
    let of = &on.streams_of(0, "thing", 1)[0];
    on.commit(&append(of, 0, 2)).await;
    on.commit(&append(of, 2, 1)).await;
    let events = on.events(of).await;
    let shown = StreamSummary {
        stream: of.clone(),
        version: Version::new(3),
        created_at: events[0].recorded_at,
        changed_at: events[2].recorded_at,
        last_event: "thing.happened".to_owned(),
    };
    assert_eq!(listed(&on, "", 9).await, [shown]);
    on.store.erase_stream(of).await.expect("the stream is erased");
    assert_eq!(listed(&on, "", 9).await[0].last_event, ERASED);
    let closed = on.store.close_stream(of, Version::new(4), EventId(fresh_id())).await;
    closed.expect("the stream is closed");
    let last = &listed(&on, "", 9).await[0];
    assert_eq!((last.version.get(), &*last.last_event), (5, CLOSED));
}

pub(super) async fn a_search_of_the_log_filters_a_range_newest_first(on: StoreUnderTest) {
    let [a, b] = &on.streams_of(0, "thing", 2)[..] else { unreachable!() };
    let other = &on.streams_of(0, "thing_2", 1)[0];
    on.commit(&append(a, 0, 2)).await;
    on.commit(&append(other, 0, 1)).await;
    let mut other_event = event();
    other_event.content.name = "thing.renamed".into();
    on.commit(&append(b, 0, 0).with_events(vec![other_event])).await;

    let all = EventFilter::default();
    let at = |stream: &StreamId, version| (stream.clone(), version);
    assert_eq!(found(&on, &all).await, [at(b, 1), at(other, 1), at(a, 2), at(a, 1)]);
    let range = LogRange { partition: 0, after: 1, until: 3 };
    let part = on.store.search_log(range, &all, 99).await.expect("the log is searched");
    assert_eq!(part.iter().map(|e| e.position.offset).collect::<Vec<_>>(), [3, 2]);
    let loaded = on.events(a).await;
    assert_eq!(part[1], loaded[1], "found events are complete");
    let first = on.store.search_log(range, &all, 1).await.expect("the log is searched");
    assert_eq!(first, part[..1]);

    let category = EventFilter { category: Some("thing".to_owned()), ..all.clone() };
    assert_eq!(found(&on, &category).await, [at(b, 1), at(a, 2), at(a, 1)]);
    let part = Some("_2-".to_owned());
    assert_eq!(
        found(&on, &EventFilter { stream_contains: part, ..all.clone() }).await,
        [at(other, 1)]
    );
    let names = vec!["thing.renamed".to_owned(), "thing.other".to_owned()];
    assert_eq!(found(&on, &EventFilter { names, ..all.clone() }).await, [at(b, 1)]);
    let names = vec!["thing".to_owned()];
    assert_eq!(found(&on, &EventFilter { names, ..all.clone() }).await, []);
    let correlation = loaded[0].metadata().map(|of| of.correlation_id);
    let filter = EventFilter { correlation, ..all.clone() };
    assert_eq!(found(&on, &filter).await, [at(a, 1)]);
    assert!(filter.matches(&loaded[0]) && !filter.matches(&loaded[1]));

    on.store.erase_stream(a).await.expect("the stream is erased");
    assert_eq!(found(&on, &filter).await, [], "erased events have no metadata");
    on.store.override_event(b, Version::new(1), &content(*b"new")).await.expect("an override");
    let names = vec!["thing.renamed".to_owned()];
    let range = LogRange { partition: 0, after: 0, until: 9 };
    let filter = EventFilter { names, ..all };
    let overridden = on.store.search_log(range, &filter, 9).await.expect("the log is searched");
    assert_eq!(overridden[0].content, StoredContent::Present(content(*b"new")));
}

pub(super) async fn overridden_events_are_listed_as_they_were_appended(on: StoreUnderTest) {
    let [a, b] = &on.streams_of(0, "thing", 2)[..] else { unreachable!() };
    let list = async |after: Option<&StoredEvent>, limit| {
        on.store.list_overridden(0, after, limit).await.expect("the overridden events are listed")
    };
    for of in [b, a] {
        on.commit(&append(of, 0, 3)).await;
    }
    assert_eq!(list(None, 9).await, []);
    let originals = [on.events(a).await, on.events(b).await];
    for (of, version) in [(a, 3), (b, 1), (a, 1)] {
        let version = Version::new(version);
        on.store.override_event(of, version, &content(*b"new")).await.expect("an override");
    }
    let mut expected =
        vec![originals[0][0].clone(), originals[0][2].clone(), originals[1][0].clone()];
    expected.sort_by_key(|event| (event.stream.clone(), event.version));
    let all = list(None, 9).await;
    assert_eq!(all, expected);
    assert_eq!(list(None, 2).await, all[..2]);
    assert_eq!(list(Some(&all[0]), 9).await, all[1..]);
    assert_eq!(list(Some(&all[2]), 9).await, []);
    on.store.erase_stream(a).await.expect("the stream is erased");
    let left: Vec<_> = all.into_iter().filter(|event| event.stream == *b).collect();
    assert_eq!(list(None, 9).await, left);
    assert!(on.store.list_overridden(on.partitions(), None, 1).await.is_err());
}

pub(super) async fn armed_timers_are_listed_due_or_not(on: StoreUnderTest) {
    assert_eq!(on.store.timer_queues().await.expect("the queues of timers"), []);
    let [a, b] = &on.streams_of(0, "thing", 2)[..] else { unreachable!() };
    let other = &on.streams_of(0, "a", 1)[0];
    let (now, later, latest) =
        (at_once("now"), timer("later", Due::After(HOUR)), timer("late", Due::After(2 * HOUR)));
    on.commit(&arming(a, 0, &[&latest, &now])).await;
    on.commit(&arming(b, 0, &[&later])).await;
    on.commit(&arming(other, 0, &[&now])).await;
    let queue = |category: &str| TimerQueue { partition: 0, category: category.to_owned() };
    let queues = on.store.timer_queues().await.expect("the queues of timers");
    assert_eq!(queues, [queue("a"), queue("thing")]);

    let list = async |after: Option<&TimerEntry>, limit| {
        on.store.list_timers(&queue("thing"), after, limit).await.expect("the timers are listed")
    };
    let all = list(None, 9).await;
    let ids: Vec<_> = all.iter().map(|of| (&of.timer.stream, &*of.timer.timer.id)).collect();
    assert_eq!(ids, [(a, "now"), (b, "later"), (a, "late")]);
    assert_eq!(list(None, 2).await, all[..2]);
    assert_eq!(list(Some(&all[1]), 9).await, all[2..]);
    assert_eq!(list(Some(&all[2]), 9).await, []);
    let of_stream = on.store.timers_of(a).await.expect("the timers of a stream");
    assert_eq!(of_stream, [all[2].clone(), all[0].clone()]);
    let due = on.due(&[queue("thing")], 9).await.timers;
    assert_eq!(due, [all[0].timer.clone()]);
    assert_eq!(all[0].last_error, None);
}

pub(super) async fn the_inbox_of_a_stream_is_listed_newest_first(on: StoreUnderTest) {
    let of = stream("thing-1");
    let (first, second) = (inbox_entry(0, 1), inbox_entry(0, 1));
    on.commit(&append(&of, 0, 1).with_inbox(vec![first.clone()])).await;
    on.commit(&append(&of, 1, 1).with_inbox(vec![second.clone()])).await;
    let listed = on.store.inbox_of(&of, 9).await.expect("the inbox is listed");
    let ids: Vec<_> = listed.iter().map(|entry| entry.message_id).collect();
    assert_eq!(ids, [second.message_id, first.message_id]);
    assert_eq!(listed[1].receipt.version, Version::new(1));
    assert_eq!(on.store.inbox_of(&of, 1).await.expect("one entry"), listed[..1]);
    let none = on.store.inbox_of(&stream("thing-2"), 9).await;
    assert_eq!(none.expect("an empty inbox"), []);
}

pub(super) async fn all_leases_and_checkpoints_are_listed(on: StoreUnderTest) {
    let last = on.partitions() - 1;
    let one = on.worker("one", last).await;
    let two = on.worker("two", 0).await;
    on.store.pause("log", Some("ann")).await.expect("the log is paused");
    let all = on.store.all_leases().await.expect("the leases are listed");
    assert_eq!(all, on.leases(&["one", "two"]).await);
    let held: Vec<_> = all.leases.iter().map(|of| (of.lease.clone(), of.holder)).collect();
    assert_eq!(held, [(one.lease, Some(one.holder)), (two.lease, Some(two.holder))]);
    assert_eq!(all.pauses[0].by.as_deref(), Some("ann"));

    let at = |partition, offset| Checkpoint { partition, offset, event_id: None };
    on.store.save_checkpoints("c", &[at(last, 7)]).await.expect("saved");
    on.store.save_checkpoints("a", &[at(0, 1)]).await.expect("saved");
    let named = |name: &str, checkpoint| NamedCheckpoint { name: name.to_owned(), checkpoint };
    let expected = [named("a", at(0, 1)), named("c", at(last, 7))];
    assert_eq!(on.store.all_checkpoints().await.expect("the checkpoints are listed"), expected);
}

pub(super) async fn processes_are_introduced(on: StoreUnderTest) {
    assert_eq!(on.store.all_processes().await.expect("the processes"), []);
    let process = |holder, version: &str| Process {
        holder,
        program: "it's \"orders\"".to_owned(),
        version: version.to_owned(),
        host: "pod-1".to_owned(),
        pid: u32::MAX,
    };
    let (one, two) = (process(fresh_id(), "1.0"), process(fresh_id(), "1.1"));
    for process in [&one, &two] {
        on.store.introduce(process).await.expect("the process is introduced");
    }
    let elsewhere = on.another_process().await;
    let known = elsewhere.store.all_processes().await.expect("the processes");
    let mut known: Vec<_> = known.into_iter().map(|(process, _)| process).collect();
    known.sort_by_key(|process| process.holder);
    assert_eq!(known, [one.clone(), two.clone()]);
    let again = process(one.holder, "1.2");
    on.store.introduce(&again).await.expect("the process is introduced again");
    let known = on.store.all_processes().await.expect("the processes");
    assert_eq!(known.len(), 2);
    assert!(known.iter().any(|(process, _)| *process == again));
}

pub(super) async fn an_examination_of_a_healthy_store_finds_no_fault(on: StoreUnderTest) {
    on.commit(&append(&stream("thing-1"), 0, 1)).await;
    let found = on.store.examine().await.expect("the store is examined");
    assert!(!found.is_empty());
    for finding in &found {
        assert!(!finding.found.is_empty(), "{finding:?}");
        let needs_action = finding.severity > Severity::Fact;
        assert_eq!(needs_action, !finding.remedy.is_empty(), "{finding:?}");
        // Test servers are fast rather than durable.
        let is_fault = finding.severity == Severity::Fault && finding.check != "durability";
        assert!(!is_fault, "{finding:?}");
    }
}
