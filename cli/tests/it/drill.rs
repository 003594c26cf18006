//! Thousands of dead letters of one bug, after its fix.

use std::time::{Duration, Instant};

use composable_rust::prelude::*;
use composable_rust_admin::DeadLetterFilter;
use composable_rust_cli::{Admin, Operator};

use crate::shop::{Build, Order, OrderCommand, Parcel, quiet_panics, shop};
use crate::support::{Fixture, run_for};

const LETTERS: usize = 5_000;
/// The orders whose ids end with 250 or 750.
const STILL_FAIL: usize = 10;

async fn dead_letters(admin: &Admin) -> usize {
    admin.dead_letters(&DeadLetterFilter::default(), usize::MAX).await.unwrap().entries.len()
}

async fn until(deadline: Duration, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < deadline, "it takes longer than {deadline:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_dead_letters_of_one_bug_are_rehearsed_and_redriven() {
    quiet_panics();
    let fixture = Fixture::empty();
    let app = shop(fixture.store().await, Build::Buggy).build().unwrap();
    app.start();
    let place = |id: usize| {
        let (app, email) = (app.clone(), format!("buyer-{id}@example.com"));
        let order = OrderCommand::Place { cents: 1_000, email, kilos: 0 };
        async move { app.handle(&Order::id(id.to_string())).send(order).await.unwrap() }
    };
    for chunk in (1..=LETTERS).collect::<Vec<_>>().chunks(500) {
        futures_util::future::join_all(chunk.iter().map(|id| place(*id))).await;
    }
    let admin = Admin::new(&app, Operator::named("test"));
    until(Duration::from_secs(300), async || dead_letters(&admin).await == LETTERS).await;
    assert!(app.shutdown(Duration::from_secs(30)).await);

    // The new build, beside which the command line works.
    let app = shop(fixture.store().await, Build::Mended).build().unwrap();
    app.start();
    let admin = fixture.decoding(Build::Mended).await;
    let timed = async |args: &[&str]| {
        let began = Instant::now();
        let (output, code) = run_for(&admin, args).await;
        println!("$ shop {}  ({:.1?})\n{output}", args.join(" "), began.elapsed());
        (output, code)
    };
    let (groups, _) = timed(&["dead", "groups", "--json"]).await;
    let groups: serde_json::Value = serde_json::from_str(&groups).unwrap();
    assert_eq!((groups.as_array().unwrap().len(), &groups[0]["count"]), (1, &LETTERS.into()));
    let group = groups[0]["key"].as_str().unwrap();

    let (rehearsed, code) = timed(&["dead", "redrive", "--group", group, "--dry-run"]).await;
    assert_eq!(code, 1);
    assert!(rehearsed.contains("4,990 would pass with this build"), "{rehearsed}");
    assert!(rehearsed.contains("10 would fail"), "{rehearsed}");
    assert_eq!(dead_letters(&admin).await, LETTERS);

    let args = ["dead", "redrive", "--group", group, "--yes", "--reason", "the fix is deployed"];
    let (redriven, code) = timed(&args).await;
    assert_eq!(
        (&*redriven, code),
        ("redriven: 5,000; resolved meanwhile: 0; behind others: 0\n", 0)
    );
    let began = Instant::now();
    let is_settled = async || {
        let waiting: u64 = admin
            .queues()
            .await
            .unwrap()
            .iter()
            .filter(|of| of.kind == "dispatch")
            .map(|of| of.depth)
            .sum();
        waiting == 0 && dead_letters(&admin).await == STILL_FAIL
    };
    until(Duration::from_secs(300), is_settled).await;
    println!("all are handled after another {:.1?}", began.elapsed());
    timed(&["dead", "groups"]).await;
    let prepared = app.handle(&Parcel::id("17")).state(|parcel| parcel.kilos).await.unwrap();
    assert_eq!(prepared, Some(1));
    let (audit, _) = timed(&["audit", "--json"]).await;
    assert!(audit.contains("5000 decided, 0 behind others"), "{audit}");
    assert!(app.shutdown(Duration::from_secs(30)).await);
}
