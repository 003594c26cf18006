//! The HTTP API.

use composable_rust::testing::TestDatabase;
use serde_json::{Value, json};

use crate::support::{Client, Program};

fn order(units: u32) -> Value {
    json!({ "order": "1001", "customer": "7", "placed_on": "1997-01-12", "units": units, "amount_cents": 2550 })
}

#[test]
fn an_order_is_placed_and_shipped() {
    let program = Program::on_sqlite();
    let server = program.serve();
    let mut client = server.client();
    let placed = client.post("/orders", &[("X-User", "anna")], &order(3)).expect(201);
    assert_eq!((&placed["id"], &placed["version"]), (&json!("1001"), &json!(1)));
    let again = client.post("/orders", &[], &order(3)).expect(200);
    assert_eq!(again["position"], Value::Null);
    client.post("/orders/1001/ship", &[], &json!({ "tracking": "Z1", "units": 1 })).expect(200);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let ship = json!({ "tracking": "Z2" });
    client.post("/orders/1001/ship", &[("traceparent", trace)], &ship).expect(200);
    let shown = json!({
        "order": "1001", "version": 3, "status": "shipped", "customer": "7",
        "placed_on": "1997-01-12", "units": 3, "shipped": 3, "amount_cents": 2550,
    });
    assert_eq!(client.get("/orders/1001").expect(200), shown);
    assert_eq!(client.get("/orders/1001?version=2").expect(200)["shipped"], json!(1));
    let mut history = client.get("/orders/1001/history").expect(200);
    for event in history["events"].as_array_mut().unwrap() {
        assert!(event["recorded_at"].take().as_str().unwrap().ends_with('Z'));
        assert!(event["position"].take().as_str().unwrap().contains(':'));
    }
    let placed = json!({
        "customer": "7", "placed_on": "1997-01-12", "units": 3, "amount": 2550
    });
    let event = |version: u64, kind: &str, content: Value| {
        json!({
            "version": version, "type": kind, "content": content,
            "recorded_at": null, "position": null,
        })
    };
    let mut events = [
        event(1, "order.placed", placed),
        event(2, "order.shipped", json!({ "tracking": "Z1", "units": 1 })),
        event(3, "order.shipped", json!({ "tracking": "Z2", "units": 2 })),
    ];
    events[0]["user"] = json!("anna");
    assert_eq!(history, json!({ "events": events, "next": null }));
    let month = json!({ "month": "1997-01", "orders": 1, "units": 3, "revenue_cents": 2550 });
    let report = json!({
        "orders": 1, "units": 3, "revenue_cents": 2550, "customers": 1, "months": [month],
    });
    assert_eq!(client.get("/report").expect(200), report);
    assert_eq!(client.get("/health").expect(200), json!({ "status": "ok" }));
    let document = client.get("/openapi.json").expect(200);
    assert!(document["paths"]["/orders/{id}/ship"]["post"].is_object(), "{document}");
}

#[test]
fn each_error_has_a_code() {
    let program = Program::on_sqlite();
    let server = program.serve();
    let mut client = server.client();
    client.post("/orders", &[], &order(3)).expect(201);
    let ship = json!({ "tracking": "Z1" });
    let mut post =
        |path: &str, body: &Value, status: u16| client.post(path, &[], body).fails(status);
    assert_eq!(post("/orders", &order(4), 409), "order.already_placed");
    assert_eq!(post("/orders", &order(0), 422), "order.no_units");
    assert_eq!(post("/orders/1002/ship", &ship, 404), "order.not_placed");
    assert_eq!(post("/orders", &json!({ "customer": "7" }), 422), "invalid_body");
    assert_eq!(
        post("/orders/1001/ship", &json!({ "tracking": "Z", "unit": 1 }), 422),
        "invalid_body"
    );
    assert_eq!(post("/orders/1001/cancel", &json!("no"), 422), "invalid_body");
    let id = "9".repeat(2_000);
    assert_eq!(post(&format!("/orders/{id}/ship"), &ship, 400), "invalid_id");
    assert_eq!(post("/orders/%FF/ship", &ship, 400), "invalid_path");
    assert_eq!(post("/report", &ship, 405), "no_such_method");
    let mut get = |path: &str, status: u16| client.get(path).fails(status);
    assert_eq!(get("/orders/1002", 404), "not_found");
    assert_eq!(get("/orders/1001?version=2", 404), "no_such_version");
    assert_eq!(get("/orders/1001?version=x", 400), "invalid_query");
    assert_eq!(get("/orders/1002/history", 404), "not_found");
    assert_eq!(get("/", 404), "no_such_path");
    let body = "{";
    let request = Client::post_request("/orders", &[], body);
    assert_eq!(client.send_and_receive(&request).fails(400), "invalid_json");
}

#[test]
fn a_repeated_key_gets_the_same_order() {
    let program = Program::on_sqlite();
    let server = program.serve();
    let mut client = server.client();
    let body = json!({ "customer": "7", "units": 1, "amount_cents": 100 });
    let key = [("Idempotency-Key", "\"cart 17\"")];
    let first = client.post("/orders", &key, &body).expect(201);
    let second = client.post("/orders", &key, &body).expect(201);
    assert_eq!(first, second);
    let other = json!({ "customer": "7", "units": 2, "amount_cents": 100 });
    assert_eq!(client.post("/orders", &key, &other).fails(422), "key_reused");
    let without = client.post("/orders", &[], &body).expect(201);
    assert_ne!(without["id"], first["id"]);
    assert_eq!(client.get("/report").expect(200)["orders"], json!(2));
}

#[cfg(unix)]
#[test]
fn a_stopping_server_completes_requests() {
    for signal in ["-TERM", "-INT"] {
        let program = Program::on_sqlite();
        let server = program.serve();
        let mut client = server.client();
        client.get("/health").expect(200);
        let body = order(3).to_string();
        let request = Client::post_request("/orders", &[("Expect", "100-continue")], &body);
        client.send(request.strip_suffix(&body).expect("the body is last"));
        // The server asks for the body, so the request is in progress. When it accepts no new
        // connection, it is stopping.
        client.receive().expect(100);
        server.signal(signal);
        while server.accepts_connections() {
            std::thread::yield_now();
        }
        client.send(&body);
        client.receive().expect(201);
        assert_eq!(server.end(), (Some(0), "stopped".to_owned()));
        program.run(&["show", "1001"]).ok();
    }
}

#[test]
fn an_address_in_use_is_status_1() {
    let program = Program::on_sqlite();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let error = program.run(&["serve", "--addr", &addr]).fails(1);
    assert!(
        error.starts_with(&format!("error: cannot listen at {addr}; choose another address")),
        "{error}"
    );
}

#[test]
fn the_server_runs_on_a_store_in_memory() {
    let program = Program::on("memory:");
    let server = program.serve();
    let mut client = server.client();
    client.post("/orders", &[], &order(3)).expect(201);
    assert_eq!(client.get("/report").expect(200)["units"], json!(3));
}

/// Places, ships and cancels orders of two customers, and reads what each command has changed.
fn orders_of_customers(program: &Program) {
    let server = program.serve();
    let mut client = server.client();
    let mut send = |path: &str, body: &Value, status: u16| {
        let sent = client.post(path, &[], body).expect(status);
        sent["position"].as_str().unwrap().to_owned()
    };
    let order = |id: &str, customer: &str, day: &str| json!({ "order": id, "customer": customer, "placed_on": day, "units": 2, "amount_cents": 5 });
    let mut reader = server.client();
    let mut orders = |customer: &str, positions: &str| {
        let list = reader.get_with(
            &format!("/customers/{customer}/orders"),
            &[("Composable-Wait-For", positions)],
        );
        let list = list.expect(200);
        let shown = list.as_array().unwrap().iter().map(|order| {
            assert_eq!((&order["units"], &order["amount_cents"]), (&json!(2), &json!(5)));
            let text = |name: &str| order[name].as_str().unwrap().to_owned();
            [text("order"), text("placed_on"), text("status")].join(" ")
        });
        shown.collect::<Vec<_>>()
    };
    let first = send("/orders", &order("1", "anna b", "1997-01-12"), 201);
    let second = send("/orders", &order("2", "anna b", "1997-01-13"), 201);
    let other = send("/orders", &order("3", "7", "1997-01-14"), 201);
    let all = [first, second, other].join(",");
    assert_eq!(orders("anna%20b", &all), ["2 1997-01-13 placed", "1 1997-01-12 placed"]);
    assert_eq!(orders("7", &all), ["3 1997-01-14 placed"]);
    assert!(orders("nobody", &all).is_empty());
    let at = send("/orders/1/ship", &json!({ "tracking": "Z1", "units": 1 }), 200);
    assert_eq!(orders("anna%20b", &at)[1], "1 1997-01-12 placed");
    let at = send("/orders/1/ship", &json!({ "tracking": "Z2" }), 200);
    assert_eq!(orders("anna%20b", &at)[1], "1 1997-01-12 shipped");
    let at = send("/orders/2/cancel", &json!({ "reason": "too late" }), 200);
    assert_eq!(orders("anna%20b", &at)[0], "2 1997-01-13 cancelled");
}

#[test]
fn a_customer_reads_orders_as_they_were_just_written_on_sqlite() {
    orders_of_customers(&Program::on_sqlite());
}

#[tokio::test]
async fn a_customer_reads_orders_as_they_were_just_written_on_postgres() {
    let database = TestDatabase::create().await;
    orders_of_customers(&Program::on(&database.url()));
}

#[test]
fn a_store_in_memory_has_no_read_model() {
    let program = Program::on("memory:");
    let server = program.serve();
    let mut client = server.client();
    client.post("/orders", &[], &order(3)).expect(201);
    assert_eq!(client.get("/customers/7/orders").fails(404), "no_such_path");
}
