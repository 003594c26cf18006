//! Drills of operators: what is broken is found and repaired with the command line alone.

use std::path::Path;
use std::time::Instant;

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::Value;
use sqlx::Connection as _;

use crate::services::Services;
use crate::support::{ShopProcess, request, until};

/// Runs statements on a file, as a bug might have.
fn sql(database: &Path, text: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let url = format!("sqlite:{}", database.display());
        let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(text).execute(&mut connection).await.unwrap();
    });
}

fn shop(database: &Path) -> ShopProcess {
    ShopProcess::new(&[("SHOP_STORE", &format!("sqlite:{}", database.display()))])
}

fn status(shop: &ShopProcess, order: &str) -> String {
    shop.get(&format!("/orders/{order}"))["status"].as_str().unwrap_or_default().to_owned()
}

/// Runs a command that finds something, prints its output and returns it.
fn find(shop: &ShopProcess, args: &[&str]) -> String {
    shop.show(args).0
}

/// Reports the time since the beginning of a drill.
fn took(drill: &str, began: Instant) {
    println!("drill {drill}: found and repaired in {:.1?}", began.elapsed());
}

#[test]
fn a_saga_stuck_by_an_event_is_found_and_its_event_overridden() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("shop.db");
    let mut shop = shop(&database);
    shop.start(&[("SHOP_SERVICES", "orders,shipping")]);
    shop.place(0..3);
    let charging = || {
        let steps = shop.json(&["sagas", "fulfilment"]);
        steps["entries"][0]["step"] == "Doing Charge" && steps["entries"][0]["count"] == 3
    };
    until("the sagas wait for the payments", charging);
    shop.stop();
    // A bug has written what no code can read.
    sql(
        &database,
        "update events set event_data = x'ff' where stream_id = 'fulfilment-1' and version = \
         (select max(version) from events where stream_id = 'fulfilment-1'); \
         delete from snapshots",
    );
    shop.start(&[]);
    until("the others end", || {
        status(&shop, "0") == "fulfilled" && status(&shop, "2") == "fulfilled"
    });

    let began = Instant::now();
    let steps = find(&shop, &["sagas", "fulfilment"]);
    assert!(steps.contains("(cannot be loaded)") && steps.contains("fulfilment-1"), "{steps}");
    let (error, code) = shop.show(&["streams", "state", "fulfilment-1"]);
    assert_eq!(code, 1, "{error}");
    // The reply that waits for it is two seconds old.
    until("the doctor knows", || shop.run(&["doctor"]).0.contains("fulfilment-1"));
    assert_eq!(shop.show(&["doctor"]).1, 1, "a fault");
    // Another saga that has come as far shows what the event should be.
    let stuck = shop.json(&["streams", "events", "fulfilment-1"]);
    let last = stuck["entries"].as_array().unwrap().last().unwrap().clone();
    let version = last["version"].to_string();
    let healthy = shop.json(&["streams", "events", "fulfilment-0"]);
    let same =
        healthy["entries"].as_array().unwrap().iter().find(|of| of["version"] == last["version"]);
    let same = same.unwrap();
    assert_eq!(same["name"], last["name"]);
    let content = same["content"]["decoded"].to_string();
    find(&shop, &["override", "fulfilment-1", &version, &content, "--dry-run"]);
    shop.operate(&["override", "fulfilment-1", &version, &content, "--yes", "--reason", "INC-1"]);
    until("the saga ends", || status(&shop, "1") == "fulfilled");
    took("a saga stuck by an event that cannot be applied", began);
    let state = shop.operate(&["streams", "state", "fulfilment-1"]);
    assert!(state.contains("Completed"), "{state}");
    assert!(shop.operate(&["sagas", "fulfilment"]).contains("All are finished"));
    assert!(shop.operate(&["verify"]).contains("no problems"));
    assert!(shop.operate(&["audit"]).contains("INC-1"));
}

#[test]
fn operators_create_no_store_by_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("mistyped.db");
    let (text, code) = shop(&missing).run(&["queues", "list"]);
    assert!(code != 0 && text.contains("there is no event log"), "{text}");
    assert!(!missing.exists());
}

#[test]
fn a_poisoned_projection_is_found_and_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("shop.db");
    let mut shop = shop(&database);
    shop.start(&[]);
    shop.place(0..1);
    until("the projection runs", || shop.get("/customers/orders?customer=ann")[0]["id"] == "0");
    sql(&database, "alter table order_overview rename to mislaid");
    shop.place(1..4);
    let failed = || shop.json(&["projections", "list"])[0]["state"] == "failed";
    until("the projection fails", failed);

    let began = Instant::now();
    let (doctor, code) = shop.show(&["doctor"]);
    assert!(code == 1 && doctor.contains("order_overview"), "{doctor}");
    let list = find(&shop, &["projections", "list"]);
    assert!(list.contains("no such table"), "{list}");
    sql(&database, "alter table mislaid rename to order_overview");
    shop.operate(&["projections", "resume", "order_overview", "--reason", "INC-2"]);
    let orders = || shop.get("/customers/orders?customer=ann").as_array().map(Vec::len);
    until("the read model has all orders", || orders() == Some(4));
    took("a poisoned projection", began);
    assert!(!find(&shop, &["doctor"]).contains("order_overview"));
}

#[test]
fn a_gateway_that_is_down_is_paused_and_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let mut shop = shop(&folder.path().join("shop.db"));
    shop.start(&[("SHOP_PROVIDER_FAILURES", "100")]);
    shop.place(0..20);
    let provider = |shop: &ShopProcess| shop.json(&["gateways", "list"])[0].clone();
    until("calls fail", || provider(&shop)["last_error"].to_string().contains("503"));

    let began = Instant::now();
    find(&shop, &["gateways", "list"]);
    find(&shop, &["queues", "list"]);
    shop.operate(&["gateways", "pause", "provider", "--reason", "INC-3: the provider is down"]);
    // What is placed meanwhile waits, and spends no attempts: those of before may be exhausted.
    until("the pause is noticed", || {
        let metrics = request(shop.addr, "GET /metrics", "").unwrap_or_default();
        let mut lines =
            metrics.lines().filter(|line| line.starts_with("composable_rust_gateway_paused"));
        lines.any(|line| line.ends_with(" 1"))
    });
    shop.place(20..40);
    until("the calls wait", || provider(&shop)["waiting"].as_u64() >= Some(20));
    find(&shop, &["gateways", "list"]);
    assert!(find(&shop, &["doctor"]).contains("gateway/provider"));
    let new = |call: &Value| call["attempts"] == 0;
    let calls = shop.json(&["queues", "show", "call/provider", "--limit", "1000"]);
    let fresh = calls.as_array().unwrap().iter().filter(|call| new(call)).count();
    assert!(fresh >= 20, "{fresh} calls have not been tried");

    // The provider is back.
    shop.stop();
    shop.start(&[]);
    let waiting = provider(&shop)["waiting"].as_u64();
    assert!(waiting >= Some(20), "paused across the restart: {waiting:?}");
    shop.operate(&["gateways", "resume", "provider", "--reason", "INC-3 is over"]);
    until("the calls are made", || provider(&shop)["waiting"] == 0);
    until("all sagas end", || {
        shop.json(&["sagas", "fulfilment"])["entries"].as_array().is_some_and(Vec::is_empty)
    });
    took("a gateway that is down", began);
    for order in 20..40 {
        assert_eq!(status(&shop, &order.to_string()), "fulfilled", "{order}");
    }
    find(&shop, &["audit"]);
    assert_eq!(find(&shop, &["dead", "list"]), "No dead letters.\n");
}

/// Deletes all messages of a topic, as retention does. `consumers` are those of a reader of it.
async fn delete_all(services: &Services, topic: &str, consumers: &Value) {
    let of_topic = consumers.as_array().unwrap().iter().find(|of| of["topic"] == topic).unwrap();
    let mut list = TopicPartitionList::new();
    for of in of_topic["partitions"].as_array().unwrap() {
        let partition = i32::try_from(of["partition"].as_i64().unwrap()).unwrap();
        let topic = format!("{}{topic}", services.prefix);
        let end = Offset::Offset(of["end"].as_i64().unwrap());
        list.add_partition_offset(&topic, partition, end).unwrap();
    }
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &services.brokers).create().unwrap();
    admin.delete_records(&list, &AdminOptions::new()).await.unwrap();
}

/// Returns the number of messages of a topic that a shop's consumers have not read, and of those
/// that were removed before.
fn unread(shop: &ShopProcess, topic: &str) -> (i64, i64) {
    let consumers = shop.json(&["consumers", "list"]);
    let of_topic = consumers.as_array().unwrap().iter().filter(|of| of["topic"] == topic);
    let partitions = of_topic.flat_map(|of| of["partitions"].as_array().unwrap());
    let partitions: Vec<_> = partitions.collect();
    let sum = |name: &str| partitions.iter().map(|of| of[name].as_i64().unwrap()).sum();
    (sum("lag"), sum("lost"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_lost_its_position_is_found_and_moved() {
    const TOPIC: &str = "payment-commands";
    let mut services = Services::new(&[("SHOP_STEP_SECONDS", "30".to_owned())]).await;
    let [orders, payments, shipping] = &mut services.processes;
    orders.start(&[]);
    payments.start(&[]);
    shipping.start(&[]);
    orders.place(0..20);
    until("the first are fulfilled", || {
        (0..20).all(|n| status(orders, &n.to_string()) == "fulfilled")
    });
    until("all is committed, also where there was nothing to read", || {
        let consumers = payments.json(&["consumers", "list"]).to_string();
        unread(payments, TOPIC) == (0, 0) && !consumers.contains("\"next\":null")
    });
    payments.stop();
    orders.place(20..40);
    until("they wait at the broker", || unread(payments, TOPIC).0 >= 20);
    let consumers = payments.json(&["consumers", "list"]);
    delete_all(&services, TOPIC, &consumers).await;
    let [orders, payments, _shipping] = &mut services.processes;
    payments.start(&[]);
    orders.place(40..60);
    until("it reads none of what was removed", || unread(payments, TOPIC).1 >= 20);

    let began = Instant::now();
    until("the process says so", || {
        request(payments.addr, "GET /ready", "").is_some_and(|body| body.contains("cannot read"))
    });
    println!("GET /ready: {}", request(payments.addr, "GET /ready", "").unwrap());
    let doctor = find(payments, &["doctor"]);
    assert!(doctor.contains("lost-position") && doctor.contains(TOPIC), "{doctor}");
    find(payments, &["consumers", "list"]);
    let reset = ["consumers", "reset", "commands", TOPIC, "--to", "beginning"];
    payments.operate(&[&reset[..], &["--dry-run"]].concat());
    payments.operate(&["log", "pause", "--reason", "INC-4"]);
    let moved = [&reset[..], &["--yes", "--reason", "INC-4"]].concat();
    until("the consumer has left its group", || payments.show(&moved).1 == 0);
    payments.operate(&["log", "resume", "--reason", "INC-4"]);
    until("it reads", || unread(payments, TOPIC) == (0, 0));
    until("all sagas end", || {
        orders.json(&["sagas", "fulfilment"])["entries"].as_array().is_some_and(Vec::is_empty)
    });
    took("a consumer that lost its position", began);
    find(payments, &["audit"]);
    // The orders' relay and policy can be moved in the same way.
    orders.operate(&["relays", "list"]);
    let republish = ["relays", "republish", "order-events", "--from", "beginning"];
    let planned = orders.operate(&[&republish[..], &["--dry-run"]].concat());
    assert!(planned.starts_with("would publish those of"), "{planned}");
    assert_eq!(orders.run(&republish).1, 5, "it asks");
    let published = orders.json(&[&republish[..], &["--yes", "--reason", "INC-4"]].concat());
    assert!(published["events"].as_u64() >= Some(120), "{published}");
    let reset = orders.json(&["policies", "reset", "fulfil", "--to", "end", "--yes"]);
    assert_eq!(reset["events"], 0);
    assert_eq!(orders.run(&["policies", "reset", "nothing", "--to", "1h", "--yes"]).1, 4);
    assert_eq!(orders.run(&["relays", "republish", "nothing", "--from", "1h", "--yes"]).1, 4);
    for n in 0..60 {
        assert!(["fulfilled", "cancelled"].contains(&&*status(orders, &n.to_string())), "{n}");
    }
}
