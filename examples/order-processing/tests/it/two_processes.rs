//! Two processes that compete for the same orders.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;

use composable_rust::testing::TestDatabase;
use serde_json::{Value, json};

use crate::support::{Program, Server, assert_no_gaps, events};

/// The orders for which the processes compete.
const ORDERS: usize = 10;
/// The connections to each process for each order.
const CALLERS: usize = 3;
/// The parcels that each caller ships.
const PARCELS: usize = 20;

fn two_servers(url: &str) -> [Server; 2] {
    [Program::on(url).serve(), Program::on(url).serve()]
}

fn order(id: &str, units: usize) -> Value {
    json!({ "order": id, "customer": "7", "units": units, "amount_cents": 100 })
}

/// Ships parcels of one unit. Returns the accepted ones with their versions.
fn ship_parcels(server: &Server, process: &str, order: &str, caller: usize) -> Vec<(String, u64)> {
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

/// Returns the parcels in the log by order: tracking number, version and user of each.
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
        let history = client.get(&format!("/orders/{id}/history?limit=1000")).expect(200);
        let events = history["events"].as_array().expect("events").iter();
        (id, events.filter_map(parcel).collect())
    };
    orders.into_iter().map(history).collect()
}

/// Both processes ship parcels of the same orders. Every accepted parcel is in the log once, at the
/// version of its receipt, and none is rejected while there are units left.
async fn compete(units: usize) {
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
                    let ship = move || (id(n), ship_parcels(server, process, &id(n), caller));
                    callers.push(scope.spawn(ship));
                }
            }
        }
        callers
            .into_iter()
            .map(|caller| caller.join().expect("the caller does not panic"))
            .collect()
    });
    let logged = shipped(&url).await;
    let mut alternations = 0;
    for n in 0..ORDERS {
        let of_order = accepted.iter().filter(|(order, _)| *order == id(n));
        let mut answered: Vec<_> = of_order.flat_map(|(_, parcels)| parcels.clone()).collect();
        answered.sort_by_key(|(_, version)| *version);
        let parcels = &logged[&id(n)];
        let recorded: Vec<_> =
            parcels.iter().map(|(tracking, version, _)| (tracking.clone(), *version)).collect();
        assert_eq!(answered, recorded, "order {n}");
        let all = 2 * CALLERS * PARCELS;
        assert_eq!(recorded.len(), units.min(all), "order {n}");
        alternations += parcels.windows(2).filter(|pair| pair[0].2 != pair[1].2).count();
    }
    println!("the processes alternated {alternations} times");
    // Each alternation is an append on a version that its process had not seen.
    assert!(alternations > ORDERS, "the processes compete");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_accepted_parcel_is_in_the_log_once() {
    compete(1_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_units_are_shipped_than_ordered() {
    compete(50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_state_rejects_nothing() {
    let database = TestDatabase::create().await;
    let url = database.url();
    let [a, b] = two_servers(&url);
    let (mut a, mut b) = (a.client(), b.client());
    for n in 0..50 {
        let path = format!("/orders/{n}");
        let ship = |tracking: &str| json!({ "tracking": tracking, "units": 1 });
        // From now on the other process has the state of the order before it is placed.
        assert_eq!(
            b.post(&format!("{path}/ship"), &[], &ship("Z0")).fails(404),
            "order.not_placed"
        );
        a.post("/orders", &[], &order(&n.to_string(), 2)).expect(201);
        b.post(&format!("{path}/ship"), &[], &ship("Z1")).expect(200);
        assert_eq!(a.get(&path).expect(200)["shipped"], json!(1));
        a.post(&format!("{path}/ship"), &[], &ship("Z2")).expect(200);
        assert_eq!(b.get(&path).expect(200)["status"], json!("shipped"));
        let rejected = b.post(&format!("{path}/ship"), &[], &ship("Z3"));
        assert_eq!(rejected.fails(409), "order.already_shipped");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_gets_its_first_response_from_either_process() {
    let database = TestDatabase::create().await;
    let url = database.url();
    let [a, b] = two_servers(&url);
    let ship = json!({ "tracking": "Z1", "units": 1 });
    let path = "/orders/1/ship";
    let key = [("Idempotency-Key", "\"early\"")];

    // The key repeats the rejection, also after the order is placed.
    assert_eq!(a.client().post(path, &key, &ship).fails(404), "order.not_placed");
    a.client().post("/orders", &[], &order("1", 100)).expect(201);
    assert_eq!(b.client().post(path, &key, &ship).fails(404), "order.not_placed");

    for n in 0..20 {
        let key = format!("\"key {n}\"");
        let key = [("Idempotency-Key", &*key)];
        // The client does not read the response, which may come after that of the retry.
        a.client().post_without_reading(path, &key, &ship);
        let first = b.client().post(path, &key, &ship).expect(200);
        assert_eq!(first["version"], json!(n + 2), "recorded once");
        let mut repeated = a.client().post(path, &key, &ship);
        while repeated.status == 409 {
            assert_eq!(repeated.fails(409), "in_progress");
            repeated = a.client().post(path, &key, &ship);
        }
        assert_eq!(repeated.expect(200), first);
        let other = json!({ "tracking": "Z2", "units": 1 });
        assert_eq!(b.client().post(path, &key, &other).fails(422), "key_reused");
    }
    assert_eq!(a.client().get("/orders/1").expect(200)["shipped"], json!(20));
}
