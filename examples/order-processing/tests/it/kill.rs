//! An import whose process is killed.

use std::time::Duration;

use composable_rust::testing::TestDatabase;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;

use crate::support::{Program, PurchaseFile, assert_no_gaps, event_count, events, seed};

/// The number of kills.
const KILLS: u32 = 20;

/// Kills an import with SIGKILL at random times and restarts it each time. No order is lost or
/// placed twice.
async fn import_survives_kills(program: &Program) {
    let mut rng = StdRng::seed_from_u64(seed());
    let file = PurchaseFile::generated(rng.random(), 6_000);
    let totals = file.totals();
    program.file("cdnow.txt", file.text());
    let app = program.app().await;
    let mut placed_at_kill = Vec::new();
    while placed_at_kill.len() < KILLS as usize {
        // Few concurrent sends, so that there are many commits to interrupt.
        let in_flight = format!("--in-flight={}", rng.random_range(4..64));
        let mut import = program.start(&["import", "cdnow.txt", &in_flight]);
        let target = event_count(&app).await + rng.random_range(0..120);
        while event_count(&app).await < target {
            let ended = import.try_wait().unwrap();
            assert_eq!(ended, None, "the import ended before {KILLS} kills: {placed_at_kill:?}");
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        tokio::time::sleep(Duration::from_micros(rng.random_range(0..3_000))).await;
        import.kill().unwrap();
        let status = import.wait().unwrap();
        assert!(status.code().is_none(), "the import ended instead of being killed: {status}");
        placed_at_kill.push(event_count(&app).await);
    }
    println!("orders placed at each kill: {placed_at_kill:?}");
    let printed = program.run(&["import", "cdnow.txt"]).ok();
    let (placed, existing) = placed_and_existing(&printed);
    assert_eq!(placed + existing, totals.orders as u64, "{printed}");
    assert!(placed > 0, "the last import placed nothing");
    // More orders may exist than were counted: the server completes the commit of a killed client.
    assert!(existing >= placed_at_kill[placed_at_kill.len() - 1], "orders are lost: {printed}");
    let report: Value = serde_json::from_str(&program.run(&["report", "--json"]).ok()).unwrap();
    assert_eq!(report, totals.json);
    let events = events(program.store()).await;
    assert_no_gaps(&events);
    // Each order has one event, so every stream ends at version 1.
    assert_eq!(events.len(), totals.orders);
    assert!(events.iter().all(|event| event.version.get() == 1));
}

/// Returns the two numbers of `placed 4458 orders, 1544 existed`.
fn placed_and_existing(printed: &str) -> (u64, u64) {
    let numbers: Vec<u64> =
        printed.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect();
    let [placed, existing] = numbers[..] else { panic!("not the output of an import: {printed}") };
    (placed, existing)
}

#[tokio::test]
async fn an_import_on_sqlite_survives_kills() {
    import_survives_kills(&Program::on_sqlite()).await;
}

#[tokio::test]
async fn an_import_on_postgres_survives_kills() {
    let database = TestDatabase::create().await;
    import_survives_kills(&Program::on(&database.url())).await;
}
