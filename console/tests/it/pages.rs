//! Every page.

use composable_rust_admin::{Admin, EventQuery, Operator};
use composable_rust_console::Console;
use composable_rust_core::Metadata;
use composable_rust_core::event::NewEvent;
use composable_rust_core::store::{Append, EventStore as _, ExpectedVersion};
use composable_rust_testing::InMemoryEventStore;
use composable_rust_testing::fixtures::{metadata, new_event};

use crate::world::{SCRIPT, TOKEN, admin, console, encoded, get, group, log_in, nested, open};

/// All pages, with a text that each shows.
async fn pages(admin: &Admin) -> Vec<(String, &'static str)> {
    let query =
        EventQuery { category: Some("order".to_owned()), limit: 10, ..EventQuery::default() };
    let events = admin.events(&query).await.unwrap().entries;
    let event = events.iter().find(|event| event.stream.as_str() == "order-17").unwrap();
    let workflow = event.correlation_id.unwrap();
    let group = group(admin).await;
    let script = encoded(SCRIPT);
    let (at, order) = (event.recorded_at, "order-17");
    [
        ("/".to_owned(), "dead letters"),
        ("/streams".to_owned(), order),
        ("/streams?prefix=order-&contains=1".to_owned(), order),
        ("/streams/order-17".to_owned(), "reminder"),
        (format!("/streams/order-{script}"), "stock.reserve"),
        ("/streams/order-17?at=1".to_owned(), "State at version 1"),
        ("/streams/order-17?after=0".to_owned(), "order.placed"),
        ("/streams/order-17/replace?version=1".to_owned(), "Content as JSON"),
        (format!("/streams/order-{script}/replace?version=1"), "Content as JSON"),
        ("/events".to_owned(), "order.placed"),
        (format!("/events?stream={script}&since=2020-01-01T00:00"), "order.placed"),
        (format!("/traces/{workflow}"), "dead letter"),
        (format!("/traces/{workflow}?around={}", encoded(&at.to_string())), "reminder"),
        ("/sagas".to_owned(), order),
        ("/queues".to_owned(), "dispatch/stock"),
        ("/queues/messages?kind=dispatch&target=stock".to_owned(), "stock-shelf"),
        ("/dead-letters".to_owned(), "parked by carl"),
        (format!("/dead-letters?error={script}"), "parked by carl"),
        (format!("/dead-letters/list?group={group}"), order),
        (format!("/dead-letters/rehearsal?group={group}"), "would be handled"),
        ("/timers".to_owned(), "reminder"),
        ("/projections".to_owned(), "registers none"),
        ("/bus".to_owned(), "Relays"),
        ("/gateways".to_owned(), "Not paused"),
        ("/processes".to_owned(), "No process"),
        ("/schema".to_owned(), "reads it"),
        ("/audit".to_owned(), "carl"),
        ("/doctor".to_owned(), "dead-letters"),
    ]
    .into_iter()
    .map(|(path, text)| (format!("/ops{}", path.trim_end_matches('/')), text))
    .collect()
}

#[tokio::test]
async fn every_page_shows_its_subject_and_runs_no_script() {
    let (router, admin) = open().await;
    let cookie = log_in(&router).await;
    for (path, text) in pages(&admin).await {
        let reply = get(&path).cookie(&cookie).of(&router).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        assert!(reply.text.contains(text), "{path}: {}", reply.text);
        assert!(!reply.text.contains("<script>"), "{path}: {}", reply.text);
        assert!(!reply.text.contains("style="), "the policy forbids it: {path}");
        assert!(!reply.text.contains("onclick"), "the policy forbids it: {path}");
    }
    let order = get(&format!("/ops/streams/order-{}", encoded(SCRIPT))).cookie(&cookie);
    assert!(order.of(&router).await.text.contains("&lt;script&gt;alert(1)"));
}

#[tokio::test]
async fn pages_name_their_command() {
    let (router, _) = open().await;
    for (path, command) in [
        ("/ops/streams?prefix=order-", "composable streams list order-"),
        ("/ops/streams?prefix=it's+$(rm)", r"composable streams list 'it'\''s $(rm)'"),
        ("/ops/streams?prefix=--store", "composable streams list -- --store"),
        ("/ops/dead-letters", "composable dead groups"),
        ("/ops/streams/order-17?at=1", "composable streams diff order-17 0 1"),
    ] {
        let text = get(path).token(TOKEN).of(&router).await.text;
        assert!(text.contains(command), "{text}");
    }
}

#[tokio::test]
async fn contents_are_masked_unless_they_are_allowed() {
    let admin = admin().await;
    let masked = nested(console(&admin));
    let (shown, shown_admin) = open().await;
    let mut seen = 0;
    for (path, _) in pages(&admin).await {
        let text = get(&path).token(TOKEN).of(&masked).await.text;
        assert!(!text.contains("Zoe"), "{path}: {text}");
    }
    for (path, _) in pages(&shown_admin).await {
        seen += usize::from(get(&path).token(TOKEN).of(&shown).await.text.contains("Zoe"));
    }
    assert!(seen >= 8, "{seen}");
}

#[tokio::test]
async fn an_empty_store_has_pages_too() {
    let admin = Admin::of_store(InMemoryEventStore::new(), Operator::named("console")).unwrap();
    let router = nested(Console::new(admin).token("ann", TOKEN));
    for path in [
        "",
        "/streams",
        "/events",
        "/sagas",
        "/queues",
        "/dead-letters",
        "/timers",
        "/projections",
        "/bus",
        "/bus/consumers",
        "/gateways",
        "/processes",
        "/schema",
        "/audit",
        "/doctor",
    ] {
        let reply = get(&format!("/ops{path}")).token(TOKEN).of(&router).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
    }
}

#[tokio::test]
async fn wrong_addresses_are_errors_of_the_client() {
    let (router, _) = open().await;
    for (path, status) in [
        ("/ops/streams/order-18", 404),
        ("/ops/streams/nonsense", 400),
        ("/ops/streams/order-17?at=x", 400),
        ("/ops/streams?after=!", 400),
        ("/ops/events?since=yesterday", 400),
        ("/ops/events?after=1", 400),
        ("/ops/traces/1", 400),
        ("/ops/traces/00000000-0000-0000-0000-000000000000", 404),
        ("/ops/queues/messages?kind=x", 400),
        ("/ops/dead-letters/list", 400),
        ("/ops/sagas?category=ordr", 404),
        ("/ops/audit?before=x", 400),
        ("/ops/nothing", 404),
    ] {
        let reply = get(path).token(TOKEN).of(&router).await;
        assert_eq!(reply.status, status, "{path}: {}", reply.text);
    }
}

#[tokio::test]
async fn assets_are_kept_and_need_no_login() {
    let (router, _) = open().await;
    let page = get("/ops/login").of(&router).await.text;
    let links = page.split('"').filter(|part| part.starts_with("/ops/assets/"));
    let links: Vec<_> = links.map(str::to_owned).collect();
    assert_eq!(links.len(), 3, "{page}");
    for link in links {
        let reply = get(&link).of(&router).await;
        assert_eq!(reply.status, 200, "{link}");
        assert!(reply.header("cache-control").contains("immutable"));
        assert_eq!(reply.header("x-content-type-options"), "nosniff");
    }
}

#[tokio::test]
async fn a_workflow_is_sought_in_other_services_too() {
    let admin = admin().await;
    let query = EventQuery { limit: 10, ..EventQuery::default() };
    let events = admin.events(&query).await.unwrap().entries;
    let workflow = events.iter().find_map(|event| event.correlation_id).unwrap();
    let store = InMemoryEventStore::new().with_log_id(uuid::Uuid::from_u128(7));
    let parcel = composable_rust_core::StreamId::new("parcel", "7").unwrap();
    let metadata = Metadata { correlation_id: workflow, ..metadata() };
    let event = NewEvent {
        metadata: serde_json::to_string(&metadata).unwrap(),
        ..new_event("parcel.sent", b"").build()
    };
    let partition = store.log().partition_of(&parcel);
    let append = Append::new(parcel, ExpectedVersion::EMPTY).with_events(vec![event]);
    store.append_events(partition, &[append]).await.unwrap();
    let other = Admin::of_store(store, Operator::named("console")).unwrap();

    let path = format!("/ops/traces/{workflow}");
    let alone = get(&path).token(TOKEN).of(&nested(console(&admin))).await;
    assert!(alone.status == 200 && !alone.text.contains("parcel.sent"), "{}", alone.text);
    let both = get(&path).token(TOKEN).of(&nested(console(&admin).also(other))).await;
    assert!(both.text.contains("parcel.sent") && both.text.contains("another service"));
    assert!(!both.text.contains("/streams/parcel-7"), "a link to another store");
}

#[tokio::test]
async fn long_lists_are_in_pages() {
    let (router, admin) = open().await;
    for n in 0..60 {
        let place = crate::app::OrderCommand::Place { note: String::new() };
        let order = <crate::app::Order as composable_rust_core::TargetExt>::id(format!("n{n}"));
        admin.app().handle(&order).send(place).await.unwrap();
    }
    for path in ["/ops/streams?prefix=order-n", "/ops/events?category=order&stream=order-n"] {
        let (mut path, mut seen, mut count) = (path.to_owned(), 0, 0);
        loop {
            let text = get(&path).token(TOKEN).of(&router).await.text;
            seen += text.matches(">order-n").count();
            count += 1;
            let Some((_, rest)) = text.split_once("rel=\"next\" href=\"") else { break };
            path = rest.split('"').next().unwrap().replace("&amp;", "&");
        }
        assert_eq!((seen, count), (60, 2), "{path}");
    }
}
