//! Attacks by a writer to a service's topics, who achieves nothing but commands of its own.

use composable_rust_core::bus::{BusMessage, EventBus as _};
use composable_rust_core::prelude::*;
use composable_rust_core::queue::{DeadLetter, DeadLetterDecision};
use composable_rust_core::store::EventStore as _;
use composable_rust_core::{MessageId, Recorded, StreamId};
use composable_rust_runtime::App;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::node::{Mishap, NodeProcess};
use super::super::world::{PATIENCE, World, eventually, millis, started};
use super::{
    Back, BackCommand, Errand, Front, FrontCommand, FrontEvent, Line, Services, ask_back,
    ask_front, back, back_on, front, front_heard, send, services, world_of,
};

pub(super) fn with(message: &BusMessage, name: &str, value: &str) -> BusMessage {
    let mut message = message.clone();
    message.headers.retain(|(header, _)| header != name);
    message.headers.push((name.to_owned(), value.to_owned()));
    message
}

/// A copy under an unused id, with other metadata.
pub(super) fn forged(message: &BusMessage, n: u128, change: impl FnOnce(&mut Value)) -> BusMessage {
    let mut metadata = serde_json::from_str(message.header("ce_metadata").unwrap()).unwrap();
    change(&mut metadata);
    let message = with(message, "ce_metadata", &metadata.to_string());
    with(&message, "ce_id", &Uuid::from_u128(n).to_string())
}

pub(super) async fn publish(line: &Line, messages: impl IntoIterator<Item = BusMessage>) {
    for message in messages {
        line.bus.publish(message).await.unwrap();
    }
}

pub(super) async fn letters(world: &World, count: usize) -> Vec<DeadLetter> {
    eventually("they are parked", async || world.dead_letters().await.len() >= count).await;
    tokio::time::sleep(millis(60_000)).await;
    let letters = world.dead_letters().await;
    assert_eq!(letters.len(), count, "{letters:#?}");
    letters
}

pub(super) async fn front_state(app: &App, id: &str) -> Vec<String> {
    app.handle(&Front::id(id)).state(|own| own.0.clone()).await.unwrap()
}

pub(super) async fn back_state(app: &App, id: &str) -> Vec<String> {
    app.handle(&Back::id(id)).state(|own| own.0.clone()).await.unwrap()
}

/// Front 1 has sent back 1 a request for a note, and has its reply.
pub(super) async fn asked(serves_front: bool) -> Services {
    let services = services(Line::new(), serves_front);
    send(&services.front, "1", ask_back("1", 1, Errand::Note(5))).await;
    front_heard(&services.front, "1", "1: note 5").await;
    services
}

#[tokio::test(start_paused = true)]
async fn an_unsolicited_reply_is_not_delivered() {
    let Services { front, line, at_front, at_back, .. } = asked(false).await;
    let good = line.bus.messages("front-commands").remove(0);
    let forge = |n, change: fn(&mut Value)| forged(&good, n, change);
    let elsewhere = json!([{
        "stream": "front-9", "target": "front", "service": Uuid::from_u128(1),
        "tag": {"variant": "front.front", "version": 1, "fields": 1, "value": "9"},
    }]);
    let forgeries = [
        forge(1, |m| m["reply"]["tag"]["value"] = "7".into()),
        forge(2, |m| m["reply"]["tag"]["variant"] = "front.front".into()),
        forge(3, |m| m["reply"]["from"] = "front".into()),
        forge(4, |m| m["reply"]["outcome"] = "done".into()),
        forge(5, |m| m["reply"]["seal"]["code"] = "0".repeat(32).into()),
        forge(6, |m| m["reply"]["seal"]["message"] = Uuid::from_u128(6).to_string().into()),
        forge(7, |m| m["reply"]["seal"]["user"] = "root".into()),
        forge(8, |m| drop(m["reply"].as_object_mut().unwrap().remove("seal"))),
        forged(&good, 9, |m| m["return_addresses"] = elsewhere),
        // To another instance.
        with(&forge(10, |_| {}), "ce_subject", "front-2"),
        // A gateway's outcome, under its seal.
        forge(11, |m| m["reply"]["outcome"] = "exhausted".into()),
    ];
    let count = forgeries.len();
    publish(&line, forgeries).await;
    let letters = letters(&at_front, count).await;
    assert!(letters.iter().all(|letter| letter.error.is_some()));
    for id in ["2", "9"] {
        assert!(front_state(&front, id).await.is_empty());
    }
    assert_eq!(front_state(&front, "1").await, ["asks", "1: note 5"]);
    // The recipient of the request may reply again.
    publish(&line, [forge(12, |_| {})]).await;
    let twice = |own: &Front| (own.0.len() == 3).then(|| own.0.clone());
    let heard = front.handle(&Front::id("1")).wait(twice, PATIENCE).await.unwrap();
    assert_eq!(heard, ["asks", "1: note 5", "1: note 5"]);
    // Parked messages stay rejected.
    assert!(at_front.decide(&letters[0], DeadLetterDecision::Redrive).await);
    tokio::time::sleep(millis(10_000)).await;
    assert_eq!(at_front.dead_letters().await.len(), count);
    assert!(at_back.dead_letters().await.is_empty());
}

/// A command with a forged return address would make its recipient send something that the attacker
/// may not send.
#[tokio::test(start_paused = true)]
async fn an_instance_cannot_be_made_to_reply_to_a_third_party() {
    let Services { front, back, line, at_back, at_front } = asked(false).await;
    let good = line.bus.messages("back-commands").remove(0);
    let to = |stream: &str, service: Option<u128>| {
        json!([{
            "stream": stream, "target": "back", "service": service.map(Uuid::from_u128),
            "tag": {"variant": "front.back", "version": 1, "fields": 1, "value": "7"},
        }])
    };
    let address =
        |n, addresses: Value| forged(&good, n, |metadata| metadata["return_addresses"] = addresses);
    let deep = |m: &mut Value| {
        let addresses = m["return_addresses"].as_array_mut().unwrap();
        let top = addresses[0].clone();
        addresses.splice(0..0, std::iter::repeat_n(top, 16));
    };
    let forgeries = [
        // To instances of the recipient's service.
        address(1, to("back-9", None)),
        address(2, to("back-9", Some(2))),
        // To instances of a third service, in its own name and in another.
        address(3, to("front-9", Some(1))),
        with(
            &address(4, to("front-9", Some(1))),
            "ce_source",
            "urn:uuid:00000000-0000-0000-0000-000000000003",
        ),
        // Under the seal of a request seen on the topic.
        forged(&good, 5, |_| {}),
        with(&good, "ce_source", "urn:uuid:00000000-0000-0000-0000-000000000003"),
        with(&forged(&good, 6, deep), "ce_id", good.header("ce_id").unwrap()),
        with(&good, "ce_source", "urn:uuid:00000000-0000-0000-0000-000000000002"),
    ];
    let count = forgeries.len();
    publish(&line, forgeries).await;
    let letters = letters(&at_back, count).await;
    assert!(letters.iter().all(|letter| letter.error.is_some()));
    assert_eq!(back_state(&back, "1").await, ["note 5"]);
    assert!(back_state(&back, "9").await.is_empty());
    assert!(front_state(&front, "9").await.is_empty());
    assert!(at_front.dead_letters().await.is_empty());
}

/// An honest service does not reply for another, even if it does not check return addresses.
#[tokio::test(start_paused = true)]
async fn a_reply_to_a_forged_return_address_is_not_delivered() {
    let Services { front, line, at_front, .. } = asked(false).await;
    let good = line.bus.messages("front-commands").remove(0);
    let unsealed = forged(&good, 1, |m| {
        let reply = m["reply"].as_object_mut().unwrap();
        reply["tag"]["value"] = "9".into();
        reply.remove("seal");
    });
    publish(&line, [with(&unsealed, "ce_subject", "front-9")]).await;
    let letter = letters(&at_front, 1).await.remove(0);
    assert!(letter.error.unwrap().contains("has not asked for"));
    assert!(front_state(&front, "9").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn another_service_cannot_use_up_message_ids() {
    let Services { front, back, line, .. } = asked(false).await;
    let good = line.bus.messages("back-commands").remove(0);
    let told = |n| forged(&good, n, |m| m["return_addresses"] = json!([]));
    // The id of a key that will be used here, and one that another service has used.
    let key = told(MessageId::from_key("k").0.as_u128());
    let other = with(&told(1), "ce_id", good.header("ce_id").unwrap());
    let third = "urn:uuid:00000000-0000-0000-0000-000000000003";
    publish(&line, [key, with(&other, "ce_source", third)]).await;
    let three = |own: &Back| (own.0.len() == 3).then_some(());
    back.handle(&Back::id("1")).wait(three, PATIENCE).await.unwrap();
    let note = BackCommand::Do(Errand::Note(6));
    back.handle(&Back::id("1")).send(note).key("k").await.unwrap();
    assert_eq!(back_state(&back, "1").await, ["note 5", "note 5", "note 5", "note 6"]);
    // The ids of requests are unpredictable: no other service can derive them.
    send(&front, "2", ask_back("2", 2, Errand::Note(7))).await;
    front_heard(&front, "2", "2: note 7").await;
    let request =
        line.bus.messages("back-commands").into_iter().find(|m| m.key == "back-2").unwrap();
    let reply =
        line.bus.messages("front-commands").into_iter().find(|m| m.key == "front-2").unwrap();
    let metadata: Value = serde_json::from_str(reply.header("ce_metadata").unwrap()).unwrap();
    let sealed_for = metadata["reply"]["seal"]["message"].as_str().unwrap();
    assert_eq!(sealed_for, request.header("ce_id").unwrap());
}

/// A user is authenticated by this service, or marked as unverified.
#[tokio::test(start_paused = true)]
async fn users_named_by_another_service_are_marked() {
    let services = services(Line::new(), true);
    let asks = FrontCommand::Do(ask_back("1", 1, Errand::Note(5)));
    services.front.handle(&Front::id("1")).send(asks).by("alice").await.unwrap();
    front_heard(&services.front, "1", "1: note 5").await;
    let of = |world: &World, stream: StreamId| {
        let events = world.memory.events(&stream);
        let metadata = events.iter().map(|event| event.metadata().unwrap());
        metadata.map(|of| (of.user.unwrap(), of.user_from)).collect::<Vec<_>>()
    };
    let alice = |from: Option<u128>| ("alice".to_owned(), from.map(Uuid::from_u128));
    assert_eq!(of(&services.at_back, Back::id("1").stream()), [alice(Some(1))]);
    assert_eq!(of(&services.at_front, Front::id("1").stream()), [alice(None), alice(None)]);
    // Further on, the service in between vouches for the user.
    let asks = FrontCommand::Do(ask_back("2", 2, ask_front("leaf", 3, Errand::Note(6))));
    services.front.handle(&Front::id("2")).send(asks).by("alice").await.unwrap();
    front_heard(&services.front, "2", "2: 3: note 6").await;
    assert_eq!(of(&services.at_front, Front::id("leaf").stream()), [alice(Some(2))]);
}

/// The same holds for users in events that policies read.
#[tokio::test(start_paused = true)]
async fn users_in_events_of_another_service_are_marked() {
    let (line, at_front, at_back) = (Line::new(), world_of(1), world_of(2));
    let policy = |recorded: &Recorded<FrontEvent>| {
        assert_eq!(recorded.metadata.as_ref().unwrap().user_from, Some(Uuid::from_u128(1)));
        [(Back::id("1"), BackCommand::Do(Errand::Note(1)))]
    };
    let _back = started(back(&at_back, &line).on::<Front, Back, _>("copies", policy));
    let front = front(&at_front, at_front.memory.clone(), &line, false);
    let note = FrontCommand::Do(Errand::Note(5));
    front.handle(&Front::id("1")).send(note).by("alice").await.unwrap();
    let stream = Back::id("1").stream();
    eventually("it is noted", async || !at_back.memory.events(&stream).is_empty()).await;
    let metadata = at_back.memory.events(&stream)[0].metadata().unwrap();
    let from = (metadata.user.as_deref(), metadata.user_from);
    assert_eq!(from, (Some("alice"), Some(Uuid::from_u128(1))));
}

/// Lanes, parking and erasure keep this service's streams apart from those of other services.
#[tokio::test(start_paused = true)]
async fn senders_of_other_services_are_named_by_service() {
    let Services { front: _front, back: _back, line, at_back, .. } = asked(false).await;
    let good = line.bus.messages("back-commands").remove(0);
    let internal =
        with(&forged(&good, 1, |m| m["return_addresses"] = json!([])), "ce_type", "back.due");
    publish(&line, [internal]).await;
    let letter = letters(&at_back, 1).await.remove(0);
    let own = Front::id("1").stream();
    assert!(letter.error.as_ref().unwrap().contains("internal"));
    assert_ne!(letter.message.sender, own);
    assert_eq!(letter.message.sender.id(), own.as_str());
    at_back.memory.erase_stream(&own).await.unwrap();
    assert_eq!(at_back.dead_letters().await, [letter]);
}

/// An unacceptable message is stored verbatim, and accepted once it can be.
#[tokio::test(start_paused = true)]
async fn an_unacceptable_message_is_parked_verbatim() {
    let Services { front: first, back, line, at_front, .. } = asked(false).await;
    let good = line.bus.messages("back-commands").remove(0);
    let told = forged(&good, 1, |m| m["return_addresses"] = json!([]));
    let told = BusMessage { topic: "front-commands".into(), key: "front-3".into(), ..told };
    let told = with(&with(&told, "ce_subject", "front-3"), "ce_type", "front.do");
    publish(&line, [with(&told, "ce_source", "urn:uuid:00000000-0000-0000-0000-000000000003")])
        .await;
    let letter = letters(&at_front, 1).await.remove(0);
    assert!(letter.error.as_ref().unwrap().contains("front-commands, partition"));
    assert!(letter.error.as_ref().unwrap().contains("not served"));
    assert!(first.shutdown(PATIENCE).await);
    let second = front(&at_front, at_front.memory.clone(), &line, true);
    assert!(at_front.decide(&letter, DeadLetterDecision::Redrive).await);
    let note = |own: &Front| (!own.0.is_empty()).then(|| own.0.clone());
    let found = second.handle(&Front::id("3")).wait(note, PATIENCE).await.unwrap();
    assert_eq!(found, ["note 5"]);
    drop(back);
}

/// A message that the store rejects holds up no later one either.
#[tokio::test(start_paused = true)]
async fn a_message_that_the_store_rejects_is_parked_verbatim() {
    let (line, at_front, at_back) = (Line::new(), world_of(1), world_of(2));
    let front = front(&at_front, at_front.memory.clone(), &line, false);
    let node = NodeProcess::start(at_back.memory.clone());
    node.next("enqueue", [Mishap::Rejected; 2]);
    let _back = started(back_on(&at_back, node, &line));
    send(&front, "1", ask_back("1", 1, Errand::Note(5))).await;
    let letter = letters(&at_back, 1).await.remove(0);
    assert_eq!(letter.error.as_deref(), Some("the call is rejected"));
    send(&front, "1", ask_back("1", 2, Errand::Note(6))).await;
    front_heard(&front, "1", "2: note 6").await;
    assert!(at_back.decide(&letter, DeadLetterDecision::Redrive).await);
    front_heard(&front, "1", "1: note 5").await;
}

/// A forged message, whether unknown or poison, does not delay the replies of the service it names.
#[tokio::test(start_paused = true)]
async fn replies_do_not_wait_behind_forged_messages_of_their_sender() {
    let Services { front, back: _back, line, at_front, .. } = asked(true).await;
    // From back 1 to front 1, as any writer to the topic may forge it.
    let good = line.bus.messages("back-commands").remove(0);
    let told = |n| {
        let told = forged(&good, n, |m| m["return_addresses"] = json!([]));
        let told = BusMessage { topic: "front-commands".into(), key: "front-1".into(), ..told };
        let told = with(&with(&told, "ce_subject", "front-1"), "ce_sender", "back-1");
        with(&told, "ce_source", "urn:uuid:00000000-0000-0000-0000-000000000002")
    };
    publish(&line, [with(&told(1), "ce_envelope", "2")]).await;
    eventually("it waits", async || at_front.memory.outbox().len() == 1).await;
    tokio::time::sleep(millis(2_000)).await;
    send(&front, "1", ask_back("1", 2, Errand::Note(6))).await;
    front_heard(&front, "1", "2: note 6").await;
    // Only commands under the same name to the same recipient wait behind it.
    let other = with(&with(&told(2), "ce_type", "front.do"), "ce_subject", "front-3");
    publish(&line, [BusMessage { key: "front-3".into(), ..other }]).await;
    front_heard(&front, "3", "note 5").await;
    publish(&line, [with(&told(3), "ce_type", "front.do")]).await;

    send(&front, "2", ask_back("2", 3, Errand::Note(7))).await;
    front_heard(&front, "2", "3: note 7").await;
    let poison = |n, kind| {
        let told = with(&with(&told(n), "ce_type", kind), "ce_subject", "front-2");
        BusMessage { key: "front-2".into(), ..with(&told, "ce_sender", "back-2") }
    };
    publish(&line, [poison(4, "front.due")]).await;
    let letter = letters(&at_front, 1).await.remove(0);
    assert!(letter.error.unwrap().contains("internal"));
    send(&front, "2", ask_back("2", 4, Errand::Note(8))).await;
    front_heard(&front, "2", "4: note 8").await;
    send(&front, "4", ask_back("4", 5, Errand::Note(9))).await;
    publish(
        &line,
        [with(&with(&poison(5, "front.gone"), "ce_subject", "front-4"), "ce_sender", "back-4")],
    )
    .await;
    send(&front, "4", ask_back("4", 6, Errand::Note(9))).await;
    front_heard(&front, "4", "6: note 9").await;
    assert_eq!(at_front.dead_letters().await.len(), 1);
    let log = front_state(&front, "1").await;
    assert_eq!(
        log,
        ["asks", "1: note 5", "asks", "2: note 6"],
        "the messages behind it still wait"
    );
}

/// Metadata that grows on its way out is measured there, where its sender can be answered.
#[tokio::test(start_paused = true)]
async fn oversized_metadata_is_parked_before_it_is_published() {
    let Services { front, line, at_front, at_back, .. } = asked(false).await;
    let asks = FrontCommand::Do(ask_back("2", 2, Errand::Note(6)));
    let user = "x".repeat(60_000);
    front.handle(&Front::id("2")).send(asks).by(user).await.unwrap();
    let letter = letters(&at_front, 1).await.remove(0);
    assert!(letter.error.as_ref().unwrap().contains("on the bus"));
    assert!(at_front.decide(&letter, DeadLetterDecision::Discard).await);
    front_heard(&front, "2", "2: undelivered").await;
    assert!(at_back.dead_letters().await.is_empty());
    assert_eq!(line.bus.messages("back-commands").len(), 1);
}

#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
struct Posing;

impl Aggregate for Posing {
    const NAME: &'static str = "bus_topic";
    type Command = BackCommand;
    type Event = super::BackEvent;
    type Rejection = std::convert::Infallible;
    type Environment = ();

    fn decide(&self, _: BackCommand, _: &Context<Self>) -> Decision<Self> {
        unchanged()
    }

    fn apply(&mut self, _: super::BackEvent) {}
}

#[test]
fn sender_names_of_external_messages_are_reserved() {
    let app = App::builder(composable_rust_testing::InMemoryEventStore::new());
    let app = app.aggregate::<Posing>(()).elsewhere::<Front>().elsewhere::<Back>();
    let app = app.on::<Posing, Back, Vec<_>>("bus/received", |_| Vec::new());
    let error = app.build().unwrap_err().to_string();
    assert!(error.contains("`bus_topic` begins with `bus_`"), "{error}");
    assert!(error.contains("a policy cannot be called `bus/received`"), "{error}");
}
