//! Two processes that compete for the same orders.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;

use composable_rust::testing::TestDatabase;
use serde_json::{Value, json};

use crate::support::{Program, Server, assert_no_gaps, events};

const ORDERS: usize = 10;
/// Connections from which each process is asked about each order.
const CALLERS: usize = 3;
/// Parcels that each caller sends.
const PARCELS: usize = 20;

fn two_servers(url: &str) -> [Server; 2] {
    [Program::on(url).serve(), Program::on(url).serve()]
}

fn order(id: &str, units: usize) -> Value {
    json!({ "order": id, "customer": "7", "units": units, "amount_cents": 100 })
}

/// Sends parcels of one unit; which of them were accepted, with their versions.
fn send_parcels(server: &Server, process: &str, order: &str, caller: usize) -> Vec<(String, u64)> {
    let mut client = server.client();
    let mut accepted = Vec::new();
    for n in 0..PARCELS {
        let tracking = format!("{process}-{caller}-{n}");
        let body = json!({ "tracking": tracking, "units": 1 });
        let path = format!("/orders/{order}/ship");
        let response = client.post(&path, &[("X-User", process)], &body);
        match response.status {
            200 => {
                let version = response.body["version"].as_u64().expect("a version");
                accepted.push((tracking, version));
            }
            _ => assert_eq!(response.fails(409), "order.already_shipped"),
        }
    }
    accepted
}

/// The parcels in the log by order: tracking, version and user of each.
async fn shipped(url: &str) -> BTreeMap<String, Vec<(String, u64, String)>> {
    let events = events(url).await;
    assert_no_gaps(&events);
    let server = Program::on(url).serve();
    let mut client = server.client();
    let orders: BTreeSet<_> = events.iter().map(|event| event.stream.id().to_owned()).collect();
    let parcel = |event: &Value| {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let version = event["version"].as_u64()?;
        Some((text(&event["content"]["tracking"])?, version, text(&event["user"])?))
    };
    let history = |id: String| {
        let history = client.get(&format!("/orders/{id}/history")).expect(200);
        let events = history["events"].as_array().expect("events").iter();
        (id, events.filter_map(parcel).collect())
    };
    orders.into_iter().map(history).collect()
}

/// Both processes send parcels of the same orders. Every one that was accepted is in the log once,
/// where its receipt says; none is refused while there are units left.
async fn hammer(units: usize) {
    let database = TestDatabase::create().await;
    let url = database.url();
    let servers = two_servers(&url);
    let id = |n: usize| format!("contended-{n}");
    for n in 0..ORDERS {
        servers[n % 2].client().post("/orders", &[], &order(&id(n), units)).expect(201);
    }
    let accepted: Vec<_> = thread::scope(|scope| {
        let mut callers = Vec::new();
        for n in 0..ORDERS {
            for (server, process) in servers.iter().zip(["a", "b"]) {
                for caller in 0..CALLERS {
                    let ask = move || (id(n), send_parcels(server, process, &id(n), caller));
                    callers.push(scope.spawn(ask));
                }
            }
        }
        callers.into_iter().map(|caller| caller.join().expect("it is answered")).collect()
    });
    let logged = shipped(&url).await;
    let mut turns = 0;
    for n in 0..ORDERS {
        let own = accepted.iter().filter(|(order, _)| *order == id(n));
        let mut answered: Vec<_> = own.flat_map(|(_, parcels)| parcels.clone()).collect();
        answered.sort_by_key(|(_, version)| *version);
        let parcels = &logged[&id(n)];
        let recorded: Vec<_> =
            parcels.iter().map(|(tracking, version, _)| (tracking.clone(), *version)).collect();
        assert_eq!(answered, recorded, "order {n}");
        let all = 2 * CALLERS * PARCELS;
        assert_eq!(recorded.len(), units.min(all), "order {n}");
        turns += parcels.windows(2).filter(|pair| pair[0].2 != pair[1].2).count();
    }
    println!("the processes took turns {turns} times");
    // Each turn is an append that met a version which its process had not seen.
    assert!(turns > ORDERS, "they competed");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_accepted_command_is_in_the_log_once() {
    hammer(1_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_accepted_than_the_rules_allow() {
    hammer(50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_refused_on_an_old_state() {
    let database = TestDatabase::create().await;
    let url = database.url();
    let [a, b] = two_servers(&url);
    let (mut a, mut b) = (a.client(), b.client());
    for n in 0..50 {
        let path = format!("/orders/{n}");
        let ship = |tracking: &str| json!({ "tracking": tracking, "units": 1 });
        // The other process now holds the order as it was before it was placed.
        assert_eq!(
            b.post(&format!("{path}/ship"), &[], &ship("Z0")).fails(404),
            "order.not_placed"
        );
        a.post("/orders", &[], &order(&n.to_string(), 2)).expect(201);
        b.post(&format!("{path}/ship"), &[], &ship("Z1")).expect(200);
        assert_eq!(a.get(&path).expect(200)["shipped"], json!(1));
        a.post(&format!("{path}/ship"), &[], &ship("Z2")).expect(200);
        assert_eq!(b.get(&path).expect(200)["status"], json!("shipped"));
        let refused = b.post(&format!("{path}/ship"), &[], &ship("Z3"));
        assert_eq!(refused.fails(409), "order.already_shipped");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_gets_its_first_answer_from_either_process() {
    let database = TestDatabase::create().await;
    let url = database.url();
    let [a, b] = two_servers(&url);
    let ship = json!({ "tracking": "Z1", "units": 1 });
    let path = "/orders/1/ship";
    let key = |text: &'static str| [("Idempotency-Key", text)];

    // A refusal stays one, also once the order is there.
    assert_eq!(a.client().post(path, &key("early"), &ship).fails(404), "order.not_placed");
    a.client().post("/orders", &[], &order("1", 100)).expect(201);
    assert_eq!(b.client().post(path, &key("early"), &ship).fails(404), "order.not_placed");

    for n in 0..20 {
        let key = format!("key {n}");
        let key = [("Idempotency-Key", &*key)];
        // The answer is lost: nobody reads it, and it may come after the retry's.
        a.client().post_and_leave(path, &key, &ship);
        let first = b.client().post(path, &key, &ship).expect(200);
        assert_eq!(first["version"], json!(n + 2), "it is recorded once");
        assert_eq!(a.client().post(path, &key, &ship).expect(200), first);
        let other = json!({ "tracking": "Z2", "units": 1 });
        assert_eq!(b.client().post(path, &key, &other).fails(422), "key_reused");
    }
    assert_eq!(a.client().get("/orders/1").expect(200)["shipped"], json!(20));
}
