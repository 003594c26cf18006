//! Drills of operators: what is broken is found and repaired with the command line alone.

use std::path::Path;
use std::time::Instant;

use serde_json::Value;
use sqlx::Connection as _;

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
